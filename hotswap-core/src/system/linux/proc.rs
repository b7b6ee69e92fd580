//! `/proc` of this process: paths for its descriptors, whether they work, and the environment.
//!
//! Without it, each question about a file would get a different wrong answer: no such file, an access control list,
//! an untrusted owner. So [`check`] comes first.
//!
//! glibc compares the path that it is given with the paths of mapped objects before it looks at any file. The path of
//! a descriptor contains the descriptor's number, which is reused: if other code has closed the descriptor of an
//! object that is still mapped (daemons close all that they find), the next one may get its number, and `dlopen` would
//! return the old object. So [`unused`] gives paths that contain a count that is never reused.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd, RawFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{Mode, OFlags, open};

use super::status::Status;

/// The folder of the descriptors of this process.
pub(crate) const DESCRIPTORS: &str = "/proc/self/fd";

/// Checks that `/proc` shows this process's descriptors. Costs four system calls.
///
/// # Errors
/// It does not; the error says that files are opened by way of it.
pub(crate) fn check() -> io::Result<()> {
    let failed = |path: &str, error: io::Error| {
        let message =
            format!("files are opened by way of /proc, which cannot be used: {path}: {error}");
        io::Error::new(error.kind(), message)
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = open("/", flags, Mode::empty()).map_err(|error| failed("/", error.into()))?;
    let path = path(&top);
    match (Status::of(&top), Status::at(&path)) {
        (Ok(expected), Ok(found)) if expected.id == found.id => Ok(()),
        (Ok(_), Ok(_)) => Err(failed(&path, io::Error::other("it leads to another file"))),
        (Err(error), _) | (_, Err(error)) => Err(failed(&path, error)),
    }
}

/// Leads to the program that runs in this process, whatever has its path by now.
#[cfg(feature = "backtrace")]
pub(crate) fn program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// A path that leads to what a descriptor refers to.
pub(crate) fn path(descriptor: &impl AsRawFd) -> String {
    format!("{DESCRIPTORS}/{}", descriptor.as_raw_fd())
}

/// The environment that the program was started with: entries `NAME=VALUE`, each with a NUL behind it. A program that
/// has written a title for `ps` over it has that there.
pub(crate) fn environment_at_start() -> io::Result<Vec<u8>> {
    fs::read("/proc/self/environ")
}

/// The number of paths that this process has made.
static MADE: AtomicU64 = AtomicU64::new(0);

/// A path that leads to a file's descriptor, and that this process has never made before.
///
/// It is `/proc/PROCESS/fd/NUMBER`, with the count in binary before the last part: `./` for one and a further `/` for
/// zero, both of which the system skips. No two counts give the same path, because the first digit is always a one.
/// (A folder of links would work too, but needs a place to write to.)
///
/// # Errors
/// There is no `/proc`.
pub(crate) fn unused(file: &File) -> io::Result<PathBuf> {
    // Relaxed: only the uniqueness of the count matters.
    let count = MADE.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    Ok(PathBuf::from(spelled(&folder()?, count, file.as_raw_fd())))
}

/// Whether a path is one that [`unused`] has made in this process.
pub(crate) fn is_of_descriptor(path: &Path) -> bool {
    folder().is_ok_and(|folder| path.starts_with(folder))
}

/// The usual path of a file's descriptor, for messages.
pub(crate) fn plain(file: &File) -> io::Result<String> {
    Ok(format!("{}{}", folder()?, file.as_raw_fd()))
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
    use std::{collections::HashSet, os::unix::fs::MetadataExt};

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
        let paths: Vec<PathBuf> = (0..200).map(|_| unused(&file).unwrap()).collect();
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
