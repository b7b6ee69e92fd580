//! What the list and the events say of services, and each of it as one line of text.

use std::{
    fmt::{self, Display},
    time::{Duration, SystemTime},
};

use crate::report::report;

/// One service: a named thread that outlives the generation that started it.
///
/// Its [`Display`] is one line.
#[report]
#[text(
    "{name:?} on generation {generation}: {state}{}{}",
    Restarted(*restarts), if *mentioned { "" } else { ", not mentioned by the latest update" }
)]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceInfo {
    /// Its name.
    pub name: String,
    /// The generation whose code it runs, and which it keeps mapped until it ends.
    pub generation: u64,
    /// What it is doing.
    #[serde(flatten)]
    pub state: ServiceState,
    /// When it began to do that.
    pub since: SystemTime,
    /// How often it was started again after it had ended by itself.
    pub restarts: u64,
    /// Whether the latest update started or restarted it, or left it alone on purpose. A service that is not
    /// mentioned any more keeps running.
    pub mentioned: bool,
}

/// Writes how often a service was started again, if it was.
struct Restarted(u64);

impl Display for Restarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str(", started again once"),
            count => write!(f, ", started again {count} times"),
        }
    }
}

/// What a service is doing.
#[report(tag = "state")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceState {
    /// It begins once the services of its name that were asked to stop have ended.
    #[text("waiting for the one before to end")]
    Waiting,
    /// It runs.
    #[text("running")]
    Running,
    /// It has ended like this, and will be started again after a pause.
    #[text("{it}, to be started again")]
    Pausing(ServiceEnd),
    /// It was asked to stop, and has not ended yet.
    #[text("stopping")]
    Stopping,
    /// It was asked to stop, and did not end within the stop deadline. It still runs.
    #[text("stuck")]
    Stuck,
    /// It has ended.
    #[text("{it}")]
    Ended(ServiceEnd),
}

/// How a service ended.
#[report(tag = "how")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceEnd {
    /// It returned.
    #[text("returned")]
    Returned,
    /// It returned an error.
    #[text("failed: {message}")]
    #[non_exhaustive]
    Failed {
        /// The error.
        message: String,
    },
    /// It panicked.
    #[text("panicked: {message}")]
    #[non_exhaustive]
    Panicked {
        /// The message and place of the panic.
        message: String,
    },
}

/// What happened to a service.
#[report(tag = "change")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceChange {
    /// It began.
    #[text("started")]
    Started,
    /// It ended by itself, or failed or panicked after it was asked to stop.
    #[text("{how}[; it is started again in {again_in:.1?}]")]
    #[non_exhaustive]
    Ended {
        /// How.
        #[serde(flatten)]
        how: ServiceEnd,
        /// The pause after which it is started again, if it is.
        again_in: Option<Duration>,
    },
    /// It ended because it was asked to.
    #[text("stopped after {after:.1?}")]
    #[non_exhaustive]
    Stopped {
        /// The time since it was asked to stop.
        after: Duration,
    },
    /// It did not end within the stop deadline. It keeps its generation mapped, and no other service of its name
    /// begins before it has ended.
    #[text(
        "stuck: it was asked to stop {after:.1?} ago and still runs; nothing takes its place, and its generation stays \
         mapped"
    )]
    #[non_exhaustive]
    Stuck {
        /// The time since it was asked to stop.
        after: Duration,
    },
    /// It was asked to stop before it began.
    #[text("stopped before it had begun")]
    NeverBegan,
}

impl ServiceChange {
    /// Whether an operator may have to look into it.
    pub(super) fn is_bad(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::Stuck { .. })
    }
}
