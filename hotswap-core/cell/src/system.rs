//! The crate's system calls: an asymmetric barrier, and the number of a thread.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
use elsewhere as platform;
#[cfg(target_os = "linux")]
use linux as platform;

pub(crate) use self::platform::{process_barrier, register_process_barrier, thread_number};
