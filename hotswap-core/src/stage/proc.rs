//! Whether `/proc` is there, by way of which files are opened and copies are loaded.
//!
//! Without it every question about a file has another wrong answer: that there is no such file, that it has an access
//! control list, that its owner is not trusted. So this is asked first.

use std::{io, os::fd::AsRawFd};

use rustix::fs::{self, Mode, OFlags};

use crate::error::ErrorKind;

/// Refuses where `/proc` does not show this process's descriptors. Costs four system calls.
pub(super) fn check() -> Result<(), ErrorKind> {
    let top = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = fs::open("/", top, Mode::empty()).map_err(|error| refusal("/", error.into()))?;
    let path = path(&top);
    let (expected, found) = (fs::fstat(&top), fs::stat(&*path));
    match (expected, found) {
        (Ok(expected), Ok(found)) => {
            if (expected.st_dev, expected.st_ino) == (found.st_dev, found.st_ino) {
                return Ok(());
            }
            let what = io::Error::other("it leads to another file");
            Err(refusal(&path, what))
        }
        (Err(error), _) | (_, Err(error)) => Err(refusal(&path, error.into())),
    }
}

/// The path that leads to what a descriptor stands for.
pub(super) fn path(descriptor: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}

fn refusal(path: &str, error: io::Error) -> ErrorKind {
    let message =
        format!("files are opened by way of /proc, which cannot be used: {path}: {error}");
    ErrorKind::cannot_open(io::Error::new(error.kind(), message))
}
