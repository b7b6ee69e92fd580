//! Names and paths, which are Unicode here.

use std::ffi::OsString;

pub(crate) fn from_bytes(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}
