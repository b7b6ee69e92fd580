//! What Linux shows in `/proc`.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use super::unsupported;

pub(crate) const DESCRIPTORS: &str = "";

pub(crate) fn check() -> io::Result<()> {
    Err(unsupported())
}

#[cfg(feature = "backtrace")]
pub(crate) fn program() -> PathBuf {
    std::env::current_exe().unwrap_or_default()
}

pub(crate) fn environment_at_start() -> io::Result<Vec<u8>> {
    Err(unsupported())
}

pub(crate) fn unused(_: &File) -> io::Result<PathBuf> {
    Err(unsupported())
}

pub(crate) fn is_of_descriptor(_: &Path) -> bool {
    false
}

pub(crate) fn plain(_: &File) -> io::Result<String> {
    Err(unsupported())
}
