//! Which file it is, whatever its path.

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
    /// The file that `path` leads to now; `None` if it leads nowhere.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        Some(Self::of(&fs::stat(path).ok()?))
    }

    /// The file that has this status.
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}
