//! The limits that the system has set for this process ([`getrlimit(2)`]).
//!
//! Not by rustix, which takes for granted that a process may ask: where a sandbox denies it (`prlimit64`, as systemd's
//! `SystemCallFilter=~@resources` does), rustix 1.1 reads memory that nobody has written to.
//!
//! [`getrlimit(2)`]: https://man7.org/linux/man-pages/man2/getrlimit.2.html

use nix::sys::resource::{RLIM_INFINITY, getrlimit};

pub(crate) use nix::sys::resource::Resource;

/// What is known of a soft limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Of(u64),
    Unlimited,
    /// The system does not say.
    Unknown,
}

/// The soft limit of this process. A system call.
pub(crate) fn limit(resource: Resource) -> Limit {
    match getrlimit(resource) {
        Ok((RLIM_INFINITY, _)) => Limit::Unlimited,
        Ok((soft, _)) => Limit::Of(soft),
        Err(_) => Limit::Unknown,
    }
}
