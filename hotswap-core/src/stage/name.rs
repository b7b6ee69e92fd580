//! Paths that the dynamic linker has never seen.
//!
//! glibc compares the path that it is given with the paths of mapped images before it looks at any file. The path of
//! a descriptor contains the descriptor's number, which is reused: if other code has closed the descriptor of a copy
//! that is still mapped (daemons close all that they find), the next copy may get its number, and `dlopen` would
//! return the old image. So each path contains a count that is never reused.

use std::{
    fs, io,
    os::fd::RawFd,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

/// The number of paths that this process has made.
static MADE: AtomicU64 = AtomicU64::new(0);

/// A path that leads to the descriptor, and that this process has never made before.
///
/// It is `/proc/PROCESS/fd/NUMBER`, with the count in binary before the last part: `./` for one and a further `/` for
/// zero, both of which the system skips. No two counts give the same path, because the first digit is always a one.
/// (A folder of links would work too, but needs a place to write to.)
///
/// # Errors
/// There is no `/proc`.
pub(super) fn unused(descriptor: RawFd) -> io::Result<PathBuf> {
    // Relaxed: only the uniqueness of the count matters.
    let count = MADE.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    Ok(PathBuf::from(spelled(&folder()?, count, descriptor)))
}

/// The usual path of the descriptor, for messages.
pub(super) fn plain(descriptor: RawFd) -> io::Result<String> {
    Ok(format!("{}{descriptor}", folder()?))
}

/// The folder of this process's descriptors.
///
/// It contains the process's number and not `self`, because gdb hangs on `/proc/self/fd` (2026-11, gdb 13.1). The
/// number is the one that this `/proc` uses: in a PID namespace that sees the outer `/proc`, the number from `getpid`
/// belongs to another process. It is read each time, because the process may have been forked.
fn folder() -> io::Result<String> {
    let process = fs::read_link("/proc/self").map_err(|error| {
        let message =
            format!("a copy is loaded by way of /proc, which cannot be used: /proc/self: {error}");
        io::Error::new(error.kind(), message)
    })?;
    Ok(format!("/proc/{}/fd/", process.display()))
}

fn spelled(folder: &str, count: u64, descriptor: RawFd) -> String {
    let digits = format!("{count:b}");
    let parts = digits
        .chars()
        .map(|digit| if digit == '1' { "./" } else { "/" });
    let count: String = parts.collect();
    format!("{folder}{count}{descriptor}")
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fs::File, os::fd::AsRawFd, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn a_count_is_spelled_in_parts_that_the_system_skips() {
        assert_eq!(spelled("/proc/1/fd/", 1, 7), "/proc/1/fd/./7");
        assert_eq!(spelled("/proc/1/fd/", 2, 7), "/proc/1/fd/.//7");
        assert_eq!(spelled("/proc/1/fd/", 5, 7), "/proc/1/fd/.//./7");
        assert!(spelled("/proc/1/fd/", u64::MAX, 7).len() < 200);
        let all: HashSet<String> = (1..5000)
            .flat_map(|count| [spelled("", count, 3), spelled("", count, 33)])
            .collect();
        assert_eq!(all.len(), 2 * 4999);
    }

    #[test]
    fn each_path_leads_to_the_descriptor_and_none_is_used_twice() {
        let file = File::open("/dev/null").unwrap();
        let there = file.metadata().unwrap();
        let paths: Vec<PathBuf> = (0..200)
            .map(|_| unused(file.as_raw_fd()).unwrap())
            .collect();
        for path in &paths {
            let found = fs::metadata(path).unwrap();
            assert_eq!((found.dev(), found.ino()), (there.dev(), there.ino()));
        }
        assert_eq!(
            paths
                .iter()
                .map(|it| it.as_os_str())
                .collect::<HashSet<_>>()
                .len(),
            200
        );
    }
}
