//! What the system allows this process, its user and its container.

use std::{fs, io, path::Path};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use rustix::io::Errno;

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

/// Whether a call has failed because the process or the machine has too few descriptors or too little memory.
pub(crate) fn is_exhaustion(error: &io::Error) -> bool {
    let number = Errno::from_io_error(error);
    matches!(number, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
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

/// How many bytes of memory this process can still use before the kernel ends it, or another process, for lack of
/// memory: what the machine has left, or a control group that it is in (cgroup v2), if that is less. `u64::MAX`: the
/// system does not say. Reads some files.
pub(crate) fn available_bytes() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name| Some(field(&info, name)?.saturating_mul(1024));
    let swap = kib("SwapFree:").unwrap_or(0);
    let machine = kib("MemAvailable:").map_or(u64::MAX, |bytes| bytes.saturating_add(swap));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let root = Path::new("/sys/fs/cgroup");
    let group = group.map_or_else(|| root.to_owned(), |group| root.join(group));
    let groups = group.ancestors().take_while(|it| it.starts_with(root));
    let left = groups.filter_map(|group| left_in_group(group, swap));
    left.fold(machine, u64::min)
}

/// What a control group may still use, if it has a limit: with what the kernel takes back first, and swap.
/// (<https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>)
fn left_in_group(group: &Path, swap_of_machine: u64) -> Option<u64> {
    let number = |name| number_in(group.join(name));
    let free = number("memory.max")?.saturating_sub(number("memory.current")?);
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let taken_back = ["active_file", "inactive_file", "slab_reclaimable"];
    let taken_back = taken_back.iter().filter_map(|name| field(&stat, name));
    let swap = number("memory.swap.max").map_or(swap_of_machine, |max| {
        let used = number("memory.swap.current").unwrap_or(0);
        swap_of_machine.min(max.saturating_sub(used))
    });
    let free = taken_back.fold(free, u64::saturating_add);
    Some(free.saturating_add(swap))
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let is_it = words.next() == Some(name);
        is_it.then(|| words.next()?.parse().ok())?
    })
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
fn number_in(path: impl AsRef<Path>) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_back_and_swap_count_as_left() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path();
        let write = |name: &str, text: &str| fs::write(group.join(name), text).unwrap();
        assert_eq!(left_in_group(group, 7), None);
        write("memory.max", "max\n");
        write("memory.current", "900\n");
        assert_eq!(left_in_group(group, 7), None);
        write("memory.max", "1000\n");
        assert_eq!(left_in_group(group, 7), Some(107));
        write(
            "memory.stat",
            "anon 500\nactive_file 30\ninactive_file 15\nfile 90\nslab_reclaimable 5\n",
        );
        assert_eq!(left_in_group(group, 7), Some(157));
        write("memory.swap.max", "5\n");
        write("memory.swap.current", "2\n");
        assert_eq!(left_in_group(group, 7), Some(153));
        write("memory.current", "2000\n");
        assert_eq!(left_in_group(group, 0), Some(50));
    }

    #[test]
    fn this_process_can_use_some_and_less_than_the_machine_has() {
        let left = available_bytes();
        assert!(left > 0);
        assert!(left < u64::MAX, "Linux says how much there is");
    }
}
