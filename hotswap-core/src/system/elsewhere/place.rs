//! Places in the file system: none is opened.

use std::{
    convert::Infallible,
    ffi::{OsStr, OsString},
    fs::File,
    io,
};

use super::{status::Status, unsupported};

#[derive(Debug)]
pub(crate) struct Handle(Infallible);

impl Handle {
    pub(crate) fn top() -> io::Result<Self> {
        Err(unsupported())
    }

    pub(crate) fn child(&self, _: &OsStr, _: bool) -> io::Result<Self> {
        match self.0 {}
    }

    pub(crate) fn status(&self) -> io::Result<Status> {
        match self.0 {}
    }

    pub(crate) fn status_of(&self, _: &OsStr) -> io::Result<Status> {
        match self.0 {}
    }

    pub(crate) fn link_target(&self) -> io::Result<OsString> {
        match self.0 {}
    }

    pub(crate) fn open_for_reading(&self) -> io::Result<File> {
        match self.0 {}
    }

    pub(crate) fn is_noexec(&self) -> io::Result<bool> {
        match self.0 {}
    }

    pub(crate) fn may_have_acl(&self) -> bool {
        match self.0 {}
    }
}
