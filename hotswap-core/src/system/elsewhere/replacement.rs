//! Replacing a file: none is replaced.

use std::{convert::Infallible, io, path::Path};

use super::unsupported;

pub(crate) struct Replacement(Infallible);

impl Replacement {
    pub(crate) fn lock(_: &Path) -> io::Result<Self> {
        Err(unsupported())
    }

    pub(crate) fn replace(self, _: &Path, _: &str) -> io::Result<()> {
        match self.0 {}
    }
}
