//! Why a loop cannot start, and why there is no plugin.

use std::{
    error,
    fmt::{self, Display},
    io,
    path::PathBuf,
};

/// Why a [`DevLoop`](crate::DevLoop) cannot start, or why [`build`](crate::build) has no plugin.
#[non_exhaustive]
pub enum DevError {
    /// `cargo metadata` has failed.
    #[non_exhaustive]
    Metadata {
        /// What it said.
        said: String,
    },
    /// No package of the workspace has a library of the type `cdylib`.
    #[non_exhaustive]
    NoPlugin {
        /// The folder of the workspace.
        workspace: PathBuf,
    },
    /// Several packages have one, and [`DevSettings::package`](crate::DevSettings::package) does not say which is
    /// meant.
    #[non_exhaustive]
    SeveralPlugins {
        /// Their names.
        plugins: Vec<String>,
    },
    /// The package that was named has none, or there is no such package.
    #[non_exhaustive]
    NotAPlugin {
        /// The name that was given.
        package: String,
        /// The names of the packages that have one.
        plugins: Vec<String>,
    },
    /// Cargo does not run.
    #[non_exhaustive]
    NoCargo {
        /// What the system said.
        error: io::Error,
    },
    /// The plugin does not build. Only [`build`](crate::build) fails for it.
    #[non_exhaustive]
    NotBuilt {
        /// The package of the plugin.
        package: String,
        /// The errors of the compiler and of cargo, as cargo shows them.
        rendered: String,
    },
    /// Nothing is built on this system: it is not Unix.
    #[non_exhaustive]
    NotSupported {
        /// Why not.
        why: &'static str,
    },
    /// The system starts no thread.
    #[non_exhaustive]
    NoThread {
        /// What it said.
        error: io::Error,
    },
}

impl Display for DevError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata { said } => write!(f, "cargo cannot read the workspace: {said}"),
            Self::NoPlugin { workspace } => write!(
                f,
                "no package in {} is a plugin: a plugin has `[lib]` with `crate-type = [\"cdylib\"]`",
                workspace.display()
            ),
            Self::SeveralPlugins { plugins } => {
                write!(
                    f,
                    "expected one plugin, found {}; name one",
                    plugins.join(", ")
                )
            }
            Self::NotAPlugin { package, plugins } => match &plugins[..] {
                [] => write!(
                    f,
                    "package {package} is no plugin: a plugin has `[lib]` with `crate-type = [\"cdylib\"]`"
                ),
                plugins => write!(
                    f,
                    "no plugin is called {package}; expected {}",
                    plugins.join(" or ")
                ),
            },
            Self::NoCargo { .. } => f.write_str("cargo does not run"),
            Self::NotBuilt { package, rendered } => {
                write!(f, "{package} does not build:\n{}", rendered.trim_end())
            }
            Self::NotSupported { why } => f.write_str(why),
            Self::NoThread { .. } => f.write_str("no thread can be started"),
        }
    }
}

/// As `main` shows an error: the text and its cause.
impl fmt::Debug for DevError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)?;
        match error::Error::source(self) {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl error::Error for DevError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::NoCargo { error } | Self::NoThread { error } => Some(error),
            _ => None,
        }
    }
}
