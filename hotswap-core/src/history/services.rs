//! What is said of services, and each of it as one line of text.

use std::{
    fmt::{self, Display},
    time::{Duration, SystemTime},
};

use crate::report::report;

/// One of the services: named threads that outlive the generation that has started them.
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
    /// Since when.
    pub since: SystemTime,
    /// How many times it was started again after it had ended of its own accord.
    pub restarts: u64,
    /// Whether the latest update has started or restarted it, or left it alone on purpose. What is not mentioned
    /// any more runs on.
    pub mentioned: bool,
}

/// How often it was started again, if ever.
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
    /// It begins when those of its name that were asked to stop have ended.
    #[text("waiting for the one before to end")]
    Waiting,
    /// It runs.
    #[text("running")]
    Running,
    /// It has ended so, and will be started again after a pause.
    #[text("{it}, to be started again")]
    Pausing(ServiceEnd),
    /// It was asked to stop, and has not ended yet.
    #[text("stopping")]
    Stopping,
    /// It was asked to stop, and had not ended when the deadline was over. It still runs.
    #[text("stuck")]
    Stuck,
    /// It has ended.
    #[text("{it}")]
    Ended(ServiceEnd),
}

/// How a service has ended.
#[report(tag = "how")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceEnd {
    /// It has returned.
    #[text("returned")]
    Returned,
    /// It has returned an error.
    #[text("failed: {message}")]
    #[non_exhaustive]
    Failed {
        /// The error.
        message: String,
    },
    /// It has panicked.
    #[text("panicked: {message}")]
    #[non_exhaustive]
    Panicked {
        /// The message of the panic, and where it was.
        message: String,
    },
}

/// What has happened to a service.
#[report(tag = "news")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceNews {
    /// It has begun.
    #[text("started")]
    Started,
    /// It has ended of its own accord, or not in the way it should when it was asked to stop.
    #[text("{how}[; it is started again in {again_in:.1?}]")]
    #[non_exhaustive]
    Ended {
        /// How.
        #[serde(flatten)]
        how: ServiceEnd,
        /// After which pause it will be started again, if it will.
        again_in: Option<Duration>,
    },
    /// It has ended as it was asked to.
    #[text("stopped after {after:.1?}")]
    #[non_exhaustive]
    Stopped {
        /// The time since it was asked to.
        after: Duration,
    },
    /// It was asked to stop, and has not ended although the deadline has passed. It keeps its generation mapped,
    /// and nothing of its name begins before it has ended.
    #[text(
        "stuck: it was asked to stop {after:.1?} ago and still runs; nothing takes its place, and its generation stays \
         mapped"
    )]
    #[non_exhaustive]
    Stuck {
        /// The time since it was asked to stop.
        after: Duration,
    },
    /// It was asked to stop before it had begun.
    #[text("stopped before it had begun")]
    NeverBegan,
}

impl ServiceNews {
    /// Whether somebody may want to look into it.
    pub(super) fn is_bad(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::Stuck { .. })
    }
}
