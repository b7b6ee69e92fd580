//! What is said of services, and each of it as one line of text.

use std::{
    fmt::{self, Display},
    time::{Duration, SystemTime},
};

use crate::escape::{Escaped, one_line};

/// One of the services: named threads that outlive the generation that has started them.
///
/// Its [`Display`] is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceInfo {
    /// Its name.
    pub name: String,
    /// The generation whose code it runs, and which it keeps mapped until it ends.
    pub generation: u64,
    /// What it is doing.
    pub state: ServiceState,
    /// Since when.
    pub since: SystemTime,
    /// How many times it was started again after it had ended of its own accord.
    pub restarts: u64,
    /// Whether the latest update has started or restarted it, or left it alone on purpose. What is not mentioned
    /// any more runs on.
    pub mentioned: bool,
}

/// What a service is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceState {
    /// It begins when those of its name that were asked to stop have ended.
    Waiting,
    /// It runs.
    Running,
    /// It has ended so, and will be started again after a pause.
    Pausing(ServiceEnd),
    /// It was asked to stop, and has not ended yet.
    Stopping,
    /// It was asked to stop, and had not ended when the deadline was over. It still runs.
    Stuck,
    /// It has ended.
    Ended(ServiceEnd),
}

/// How a service has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceEnd {
    /// It has returned.
    Returned,
    /// It has returned an error.
    Failed(String),
    /// It has panicked; the message, and where.
    Panicked(String),
}

/// What has happened to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceNews {
    /// It has begun.
    Started,
    /// It has ended of its own accord, or not in the way it should when it was asked to stop.
    #[non_exhaustive]
    Ended {
        /// How.
        how: ServiceEnd,
        /// After which pause it will be started again, if it will.
        again_in: Option<Duration>,
    },
    /// It has ended as it was asked to.
    #[non_exhaustive]
    Stopped {
        /// The time since it was asked to.
        after: Duration,
    },
    /// It was asked to stop, and has not ended although the deadline has passed. It keeps its generation mapped,
    /// and nothing of its name begins before it has ended.
    #[non_exhaustive]
    Stuck {
        /// The time since it was asked to stop.
        after: Duration,
    },
    /// It was asked to stop before it had begun.
    NeverBegan,
}

impl Display for ServiceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            generation,
            state,
            since: _,
            restarts,
            mentioned,
        } = self;
        let name = Escaped(name);
        write!(f, "\"{name}\" on generation {generation}: {state}")?;
        if *restarts > 0 {
            write!(f, ", started again {restarts} times")?;
        }
        if !mentioned {
            f.write_str(", not mentioned by the latest update")?;
        }
        Ok(())
    }
}

impl Display for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting for the one before to end"),
            Self::Running => f.write_str("running"),
            Self::Pausing(how) => write!(f, "{how}, to be started again"),
            Self::Stopping => f.write_str("stopping"),
            Self::Stuck => f.write_str("stuck"),
            Self::Ended(how) => write!(f, "{how}"),
        }
    }
}

impl Display for ServiceEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned => f.write_str("returned"),
            Self::Failed(message) => write!(f, "failed: {}", one_line(message)),
            Self::Panicked(message) => write!(f, "panicked: {}", one_line(message)),
        }
    }
}

impl Display for ServiceNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Ended {
                how,
                again_in: None,
            } => write!(f, "{how}"),
            Self::Ended {
                how,
                again_in: Some(pause),
            } => {
                write!(f, "{how}; it is started again in {pause:.1?}")
            }
            Self::Stopped { after } => write!(f, "stopped after {after:.1?}"),
            Self::Stuck { after } => write!(
                f,
                "stuck: it was asked to stop {after:.1?} ago and still runs; nothing takes its place, and its \
                 generation stays mapped"
            ),
            Self::NeverBegan => f.write_str("stopped before it had begun"),
        }
    }
}
