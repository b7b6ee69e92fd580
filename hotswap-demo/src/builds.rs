//! What `--dev` builds: the options, and what is said of a build, as text for people and in a form for programs.

use std::{
    env,
    ffi::OsString,
    fmt::{self, Display},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Result, anyhow};
use clap::Args;
use hotswap_core::{ErrorKind, Event, EventKind};
use hotswap_dev::{Build, DevError, DevLoop, DevSettings};
use serde::{Serialize, Serializer};

#[derive(Args)]
pub(crate) struct DevOptions {
    /// Build the plugin of the workspace in the current folder, and swap it in again whenever its sources change;
    /// PACKAGE says which if there are several
    #[arg(long, value_name = "PACKAGE", num_args = 0..=1, conflicts_with = "watch")]
    dev: Option<Option<String>>,

    /// Build it with optimisations
    #[arg(long, requires = "dev", conflicts_with = "plugin")]
    release: bool,

    /// More arguments for `cargo build`
    #[arg(
        last = true,
        value_name = "CARGO_ARGS",
        requires = "dev",
        conflicts_with = "plugin"
    )]
    cargo_args: Vec<OsString>,
}

impl DevOptions {
    /// Begins to build, if that was asked for.
    pub(crate) fn start(&self) -> Result<Option<DevLoop>> {
        let Some(package) = &self.dev else {
            return Ok(None);
        };
        let release = self.release.then(|| "--release".into());
        let settings = DevSettings {
            package: package.clone(),
            host: Some(env!("CARGO_PKG_NAME").to_owned()),
            cargo_args: release.into_iter().chain(self.cargo_args.clone()).collect(),
            ..DevSettings::default()
        };
        DevLoop::start(settings).map(Some).map_err(how_to_choose)
    }
}

/// Names the option.
fn how_to_choose(error: DevError) -> anyhow::Error {
    match &error {
        DevError::SeveralPlugins { plugins, .. } => {
            let option = format!("--dev {}", plugins[0]);
            anyhow!("{error}, as in `{option}`")
        }
        _ => error.into(),
    }
}

/// A plugin was built.
#[derive(Serialize)]
#[serde(tag = "event", rename = "built")]
pub(crate) struct Built {
    pub(crate) path: PathBuf,
    /// Warnings.
    rendered: String,
    #[serde(rename = "took_us", serialize_with = "as_us")]
    took: Duration,
    /// None: it is the first, is a canary, or was refused.
    #[serde(rename = "swapped_in_us", serialize_with = "as_optional_us")]
    pub(crate) swapped_in: Option<Duration>,
}

/// What else happens: there is no new plugin.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Progress {
    /// A build begins.
    Building { package: String },
    /// What was saved is not a part of the plugin.
    Unchanged {
        #[serde(rename = "took_us", serialize_with = "as_us")]
        took: Duration,
    },
    /// It does not build.
    NotBuilt {
        rendered: String,
        #[serde(rename = "took_us", serialize_with = "as_us")]
        took: Duration,
        /// The generation that stays live.
        live: Option<u64>,
    },
}

/// The plugin that was built, before it is swapped in; or what else has happened, after which the generation `live`
/// stays live.
pub(crate) fn take(build: Build, package: &str, live: Option<u64>) -> Result<Built, Progress> {
    match build {
        Build::Built {
            path,
            rendered,
            took,
            ..
        } => Ok(Built {
            path: from_here(path),
            rendered,
            took,
            swapped_in: None,
        }),
        Build::Failed { rendered, took, .. } => Err(Progress::NotBuilt {
            rendered,
            took,
            live,
        }),
        Build::Unchanged { took, .. } => Err(Progress::Unchanged { took }),
        _ => Err(Progress::Building {
            package: package.to_owned(),
        }),
    }
}

/// As somebody would write it who stands in the current folder.
fn from_here(path: PathBuf) -> PathBuf {
    let here = env::current_dir().unwrap_or_default();
    match path.strip_prefix(here) {
        Ok(below) if below.components().count() > 1 => below.to_owned(),
        _ => path,
    }
}

/// What to do if a plugin that was built is refused, if that is known. The host was built together with the first one:
/// if they disagree now, the interface was changed.
pub(crate) fn hint(event: &Event) -> Option<&'static str> {
    let is_interface = matches!(
        &event.kind,
        EventKind::Refused {
            kind: ErrorKind::Layout { .. } | ErrorKind::Version { .. },
            ..
        }
    );
    is_interface.then_some(
        "the interface has changed since this process was built: end it, and run it again",
    )
}

impl Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}built in {:.1?}", self.rendered, self.took)?;
        let time = self.swapped_in;
        time.map_or(Ok(()), |time| write!(f, ", swapped in {time:.1?}"))
    }
}

impl Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Building { package } => write!(f, "building {package}"),
            Self::Unchanged { took } => write!(f, "unchanged, after {took:.1?}"),
            Self::NotBuilt {
                rendered,
                took,
                live,
            } => {
                write!(f, "{rendered}not built, after {took:.1?}")?;
                match live {
                    Some(live) => write!(f, "; generation {live} stays live"),
                    None => f.write_str("; save a change, and it is built again"),
                }
            }
        }
    }
}

fn as_us<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    as_optional_us(&Some(*time), serializer)
}

fn as_optional_us<S: Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(|it| it.as_micros()).serialize(serializer)
}
