//! What differs between systems: which file it is, and the processes of a build.

#[cfg(not(unix))]
mod elsewhere;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
use elsewhere as platform;
#[cfg(unix)]
use unix as platform;

pub(crate) use self::platform::{FileId, Group, NOT_SUPPORTED};
