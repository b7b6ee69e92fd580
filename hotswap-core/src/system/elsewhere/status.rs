//! The status of a file: none is asked for.

use std::{fs::File, io, path::Path, time::Duration};

use super::unsupported;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) id: FileId,
    pub(crate) content: ContentState,
    pub(crate) kind: FileKind,
    pub(crate) mode: Mode,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ContentState;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Directory,
    RegularFile,
    Symlink,
    Fifo,
    Socket,
    Device,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u32);

impl Status {
    pub(crate) fn at(_: impl AsRef<Path>) -> io::Result<Self> {
        Err(unsupported())
    }

    pub(crate) fn of_link(_: &Path) -> io::Result<Self> {
        Err(unsupported())
    }

    pub(crate) fn of(_: &File) -> io::Result<Self> {
        Err(unsupported())
    }
}

impl FileId {
    pub(crate) fn at(_: &Path) -> Option<Self> {
        None
    }
}

impl ContentState {
    pub(crate) fn bytes(&self) -> u64 {
        0
    }

    pub(crate) fn age(&self) -> Option<Duration> {
        None
    }

    pub(crate) fn is_as_written(&self, _: &Self) -> bool {
        false
    }
}

impl Mode {
    pub(crate) fn without_sticky(self) -> Self {
        self
    }

    pub(crate) fn is_sticky(self) -> bool {
        false
    }

    pub(crate) fn everybody_may_write(self) -> bool {
        true
    }

    pub(crate) fn group_may_write(self) -> bool {
        true
    }
}

pub(crate) fn is_readable_file(_: &Path) -> bool {
    false
}
