//! The identity of a file, independent of its path.

use std::path::Path;

use rustix::fs::{self, Stat};

/// Distinguishes a file from all others that exist at the same time. The system may give a deleted file's numbers to a
/// new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
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
