//! Checks that `/proc` works; hotswap opens files and loads copies through it.
//!
//! Without it, each question about a file would get a different wrong answer: no such file, an access control list,
//! an untrusted owner. So this is checked first.

use std::{io, os::fd::AsRawFd};

use rustix::fs::{self, Mode, OFlags};

use crate::{error::ErrorKind, file_id::FileId};

/// Refuses if `/proc` does not show this process's descriptors. Costs four system calls.
pub(super) fn check() -> Result<(), ErrorKind> {
    let top = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = fs::open("/", top, Mode::empty()).map_err(|error| refusal("/", error.into()))?;
    let path = path(&top);
    let (expected, found) = (fs::fstat(&top), fs::stat(&*path));
    match (expected, found) {
        (Ok(expected), Ok(found)) => {
            if FileId::of(&expected) == FileId::of(&found) {
                return Ok(());
            }
            let what = io::Error::other("it leads to another file");
            Err(refusal(&path, what))
        }
        (Err(error), _) | (_, Err(error)) => Err(refusal(&path, error.into())),
    }
}

/// A path that leads to what a descriptor refers to.
pub(super) fn path(descriptor: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

fn refusal(path: &str, error: io::Error) -> ErrorKind {
    let message =
        format!("files are opened by way of /proc, which cannot be used: {path}: {error}");
    ErrorKind::cannot_open(io::Error::new(error.kind(), message))
}
