//! What the system says of a file: which one it is, what kind, who may do what, and the state of its content.

use std::{
    io,
    os::fd::AsFd,
    path::Path,
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{self, Access, AtFlags, CWD, FileType, Stat},
    io::Errno,
    process::{getegid, geteuid, getgid, getuid},
};

/// The status of a file, a folder or a link at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) id: FileId,
    pub(crate) content: ContentState,
    pub(crate) kind: FileKind,
    pub(crate) mode: Mode,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Whether there is one hard link to it.
    pub(crate) has_one_name: bool,
}

/// Distinguishes a file from all others that exist at the same time, whatever their paths. The system may give a
/// deleted file's numbers to a new one.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Directory,
    RegularFile,
    Symlink,
    Fifo,
    Socket,
    Device,
    Unknown,
}

/// The permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u32);

impl Status {
    /// What is at `path`, with links followed.
    pub(crate) fn at(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::from(&fs::stat(path.as_ref())?))
    }

    /// What is at `path`, which may be a link.
    pub(crate) fn of_link(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&fs::lstat(path)?))
    }

    /// What a descriptor leads to.
    pub(crate) fn of(descriptor: impl AsFd) -> io::Result<Self> {
        Ok(Self::from(&fs::fstat(descriptor)?))
    }
}

impl From<&Stat> for Status {
    fn from(stat: &Stat) -> Self {
        Self {
            id: FileId {
                device: stat.st_dev,
                inode: stat.st_ino,
            },
            content: ContentState {
                size: stat.st_size,
                modified: (stat.st_mtime, stat.st_mtime_nsec),
                changed: (stat.st_ctime, stat.st_ctime_nsec),
            },
            kind: FileType::from_raw_mode(stat.st_mode).into(),
            mode: Mode(fs::Mode::from_raw_mode(stat.st_mode).bits()),
            uid: stat.st_uid,
            gid: stat.st_gid,
            has_one_name: stat.st_nlink == 1,
        }
    }
}

impl FileId {
    /// The file with this inode on the device with these two numbers.
    pub(super) fn new(major: u32, minor: u32, inode: u64) -> Self {
        let device = fs::makedev(major, minor);
        Self { device, inode }
    }

    /// The file at `path`, with links followed. `None` if there is no file.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        Some(Status::at(path).ok()?.id)
    }
}

impl ContentState {
    /// The size, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        u64::try_from(self.size).unwrap_or(u64::MAX)
    }

    /// How long ago somebody wrote to it, to the second. `None`: at a time in the future.
    pub(crate) fn age(&self) -> Option<Duration> {
        let seconds = u64::try_from(self.modified.0).unwrap_or_default();
        let modified = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        modified?.elapsed().ok()
    }

    /// Whether nobody has written to it since it was in the state `earlier`, judging by its size and the time of the
    /// last write. (A mere `chmod` or `ln` changes only the inode's own time.)
    pub(crate) fn is_as_written(&self, earlier: &Self) -> bool {
        (self.size, self.modified) == (earlier.size, earlier.modified)
    }
}

impl From<FileType> for FileKind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::RegularFile,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice | FileType::BlockDevice => Self::Device,
            FileType::Unknown => Self::Unknown,
        }
    }
}

impl Mode {
    pub(crate) fn is_sticky(self) -> bool {
        self.has(fs::Mode::SVTX)
    }

    pub(crate) fn everybody_may_write(self) -> bool {
        self.has(fs::Mode::WOTH)
    }

    pub(crate) fn group_may_write(self) -> bool {
        self.has(fs::Mode::WGRP)
    }

    /// Whether nobody but the owner may do anything with it.
    pub(crate) fn is_for_owner_only(self) -> bool {
        !self.has(fs::Mode::RWXG | fs::Mode::RWXO)
    }

    pub(crate) fn without_sticky(self) -> Self {
        Self(self.0 & !fs::Mode::SVTX.bits())
    }

    /// Whether it has any of these bits.
    fn has(self, bits: fs::Mode) -> bool {
        fs::Mode::from_bits_retain(self.0).intersects(bits)
    }
}

/// Whether a regular file is at `path` that this process may read.
pub(crate) fn is_readable_file(path: &Path) -> bool {
    let may_read = match fs::accessat(CWD, path, Access::READ_OK, AtFlags::EACCESS) {
        // A sandbox that is older than faccessat2(2) answers so. access(2) asks for the real ids.
        Err(Errno::PERM) if geteuid() == getuid() && getegid() == getgid() => {
            fs::access(path, Access::READ_OK)
        }
        answer => answer,
    };
    may_read.is_ok() && Status::at(path).is_ok_and(|status| status.kind == FileKind::RegularFile)
}
