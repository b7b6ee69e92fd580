//! Crashes: no handler is installed, so that none is reported.

use std::{
    convert::Infallible,
    ffi::{CStr, OsStr},
    fmt, io,
    ops::Range,
    path::Path,
};

use super::{status::FileId, unsupported};

pub(crate) type Report = fn(&Crash, &mut Maps, &mut Line);

pub(crate) struct Crash {
    pub(crate) signal: &'static str,
    pub(crate) address: Option<usize>,
    pub(crate) instruction: usize,
    pub(crate) thread: u32,
    never: Infallible,
}

pub(crate) struct Maps(Infallible);

pub(crate) struct MappedFile {
    pub(crate) offset: usize,
    never: Infallible,
}

pub(crate) struct MappedCode {
    pub(crate) start: usize,
    pub(crate) range: Range<usize>,
}

pub(crate) struct Line(Infallible);

pub(crate) struct AlternateStack(Infallible);

/// Why a line was not written.
pub(crate) struct NotWritten(Infallible);

pub(crate) fn report_crashes(_: Report) -> io::Result<()> {
    let message = "crashes are not reported on this system yet";
    Err(io::Error::new(unsupported().kind(), message))
}

pub(crate) fn is_reported() -> bool {
    false
}

impl Crash {
    pub(crate) fn thread_name(&self) -> &OsStr {
        match self.never {}
    }

    pub(crate) fn is_near_stack_pointer(&self) -> bool {
        match self.never {}
    }

    pub(crate) fn find_on_stack<R>(&self, _: impl FnMut(usize) -> Option<R>) -> Option<R> {
        match self.never {}
    }
}

impl Maps {
    pub(crate) fn file_at(&mut self, _: usize) -> Option<&MappedFile> {
        match self.0 {}
    }

    pub(crate) fn code_of(&mut self, _: FileId) -> Option<MappedCode> {
        match self.0 {}
    }
}

impl MappedFile {
    pub(crate) fn path(&self) -> &Path {
        match self.never {}
    }

    pub(crate) fn is_at(&self, _: &Path) -> bool {
        match self.never {}
    }
}

impl Line {
    pub(crate) fn write_to_stderr(&mut self) {
        match self.0 {}
    }

    pub(crate) fn append_to(&mut self, _: &CStr) -> Result<(), NotWritten> {
        match self.0 {}
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        match self.0 {}
    }
}

impl NotWritten {
    pub(crate) fn desc(&self) -> &'static str {
        match self.0 {}
    }
}

impl AlternateStack {
    pub(crate) fn install() -> Option<Self> {
        None
    }

    pub(crate) fn remove(self) {
        match self.0 {}
    }
}
