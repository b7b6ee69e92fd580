//! Child processes: none is started.

use std::{
    convert::Infallible,
    fs::File,
    io,
    process::{Command, ExitStatus},
    time::Duration,
};

use super::{connection::Connection, unsupported};

pub(crate) struct Child(Infallible);

impl Child {
    pub(crate) fn start(_: &str, _: impl FnOnce(&mut Command)) -> io::Result<Self> {
        Err(unsupported())
    }

    pub(crate) fn has_ended(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn ends_within(&self, _: Duration) -> bool {
        match self.0 {}
    }

    pub(crate) fn stopped_by(&self) -> Option<i32> {
        match self.0 {}
    }

    pub(crate) fn kill_group(&self) {
        match self.0 {}
    }

    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        match self.0 {}
    }
}

pub(crate) fn signal(_: ExitStatus) -> Option<i32> {
    None
}

pub(crate) fn end_with_parent() -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn write_no_core_dumps() -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn standard_streams() -> io::Result<(File, Connection)> {
    Err(unsupported())
}

pub(crate) fn nowhere() -> io::Result<File> {
    Err(unsupported())
}

pub(crate) fn redirect_standard_streams(_: &File) -> io::Result<()> {
    Err(unsupported())
}
