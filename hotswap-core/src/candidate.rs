//! What somebody asks to load.

use std::path::{Path, PathBuf};

use hotswap_sdk::Config;

use crate::{error::Result, given::GivenPath};

/// A file to load, and the configuration that its plugin gets.
///
/// Every path is a candidate without a configuration of its own.
///
/// ```no_run
/// # use hotswap_core::{Candidate, Hotswap};
/// # use hotswap_types::Plugin;
/// # fn example(plugin: &Hotswap<dyn Plugin>) -> Result<(), hotswap_core::Error> {
/// plugin.swap(Candidate::new("./libplugin.so").with_config("limit = 3"))?;
/// // With the configuration of the live generation:
/// plugin.swap("./libplugin.so")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Candidate {
    pub(crate) path: PathBuf,
    pub(crate) config: Option<Config>,
}

impl Candidate {
    /// The file at `path`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            config: None,
        }
    }

    /// Sets the configuration that the plugin's constructor gets ([`Config`]). Without it, a swap uses that of the live
    /// generation, and a load an empty one.
    #[must_use]
    pub fn with_config(mut self, config: impl Into<Config>) -> Self {
        self.config = Some(config.into());
        self
    }
}

/// A candidate, whose path was made absolute when it was given.
pub(crate) struct GivenCandidate {
    pub(crate) path: PathBuf,
    pub(crate) given: Result<GivenPath>,
    pub(crate) config: Option<Config>,
}

impl GivenCandidate {
    pub(crate) fn new(candidate: Candidate) -> Self {
        let Candidate { path, config } = candidate;
        let given = GivenPath::new(&path);
        Self {
            path,
            given,
            config,
        }
    }
}

impl<P: AsRef<Path>> From<P> for Candidate {
    fn from(path: P) -> Self {
        Self::new(path)
    }
}
