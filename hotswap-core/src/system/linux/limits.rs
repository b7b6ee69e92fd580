//! What the system allows this process, its user and its container.

use std::fs;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

/// What is known of a soft limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Of(u64),
    Unlimited,
    /// The system does not say.
    Unknown,
}

/// How many descriptors the process may have open. A system call.
pub(crate) fn descriptors() -> Limit {
    soft(Resource::RLIMIT_NOFILE)
}

/// How many threads the user may have. A system call.
pub(crate) fn threads_of_user() -> Limit {
    soft(Resource::RLIMIT_NPROC)
}

/// How large a file may become. A write past it raises SIGXFSZ, which ends the process, instead of failing. A system
/// call.
pub(crate) fn file_bytes() -> Limit {
    soft(Resource::RLIMIT_FSIZE)
}

/// How many mappings the kernel allows for a process. Reads a file.
pub(crate) fn mappings() -> Option<u64> {
    number_in("/proc/sys/vm/max_map_count")
}

/// How many threads the container may have. Reads a file.
pub(crate) fn threads_of_container() -> Option<u64> {
    number_in("/sys/fs/cgroup/pids.max")
}

/// The memory of the machine, or of the container if that is less, in bytes. Reads a file.
pub(crate) fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    let machine = info.totalram.saturating_mul(info.mem_unit.into());
    let container = number_in("/sys/fs/cgroup/memory.max").unwrap_or(u64::MAX);
    machine.min(container)
}

/// Not by rustix, which takes for granted that a process may ask: where a sandbox denies it (`prlimit64`, as systemd's
/// `SystemCallFilter=~@resources` does), rustix 1.1 reads memory that nobody has written to.
fn soft(resource: Resource) -> Limit {
    match getrlimit(resource) {
        Ok((RLIM_INFINITY, _)) => Limit::Unlimited,
        Ok((soft, _)) => Limit::Of(soft),
        Err(_) => Limit::Unknown,
    }
}

/// The number in a file of the kernel; `None` if it holds no number.
fn number_in(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
