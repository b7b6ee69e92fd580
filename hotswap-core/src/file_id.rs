//! The identity of a file, independent of its path, and the state of its content.

use std::path::Path;

use rustix::fs::{self, Stat};

/// Distinguishes a file from all others that exist at the same time. The system may give a deleted file's numbers to a
/// new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

/// The state of a file's content. If two states are equal, the bytes are equal too, unless somebody wrote to the file
/// through a mapping, or within one tick of the file system's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ContentState {
    size: i64,
    modified: (i64, i64),
    /// Shows a change even if its author has set the other time back.
    changed: (i64, i64),
}

impl FileId {
    /// The file at `path`, with links followed. `None` if there is no file.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        Some(Self::of(&fs::stat(path).ok()?))
    }

    /// The file with this status.
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

impl ContentState {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}
