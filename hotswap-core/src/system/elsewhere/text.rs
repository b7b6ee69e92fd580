//! Names and paths. What is not UTF-8 in them is replaced: only code that never runs here asks for them.

use std::ffi::OsString;

pub(crate) fn from_bytes(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}
