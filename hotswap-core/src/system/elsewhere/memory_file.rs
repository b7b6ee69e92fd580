//! Memory files: none is made.

use std::{fs::File, io};

use super::unsupported;

pub(crate) fn sealed(_: &str, _: &[u8], _: impl Iterator<Item = (u64, u8)>) -> io::Result<File> {
    Err(unsupported())
}

pub(crate) fn sealed_copy(_: &str, _: &File, _: u64) -> io::Result<File> {
    Err(unsupported())
}

pub(crate) fn name(_: &File) -> io::Result<String> {
    Err(unsupported())
}

pub(crate) fn is_sealed(_: &File) -> io::Result<bool> {
    Err(unsupported())
}

pub(crate) fn read_at(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
    Err(unsupported())
}
