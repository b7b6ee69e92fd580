//! Where the code of a generation is: in an image, or in the host itself.

use std::io;

use crate::{
    image::{Image, Leaving},
    stage::{Kept, Origin},
};

/// The code of one generation.
#[expect(clippy::large_enum_variant, reason = "all but one of them are images")]
pub(super) enum Code {
    Image(Image),
    /// A value of the host's own. Its path, where one is shown, says so.
    BuiltIn(Origin),
}

impl Code {
    pub(super) fn origin(&self) -> &Origin {
        match self {
            Self::Image(image) => image.origin(),
            Self::BuiltIn(origin) => origin,
        }
    }

    /// The size of its copy, if there is one.
    pub(super) fn copy_bytes(&self) -> Option<u64> {
        self.image().map(|image| image.origin().bytes)
    }

    pub(super) fn image(&self) -> Option<&Image> {
        match self {
            Self::Image(image) => Some(image),
            Self::BuiltIn(_) => None,
        }
    }

    /// The bytes, to be loaded again some time.
    pub(super) fn keep(&self) -> io::Result<Kept> {
        match self {
            Self::Image(image) => image.keep(),
            Self::BuiltIn(_) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Begins the way out, if there is one.
    pub(super) fn retire(self) -> Option<Leaving> {
        match self {
            Self::Image(image) => Some(image.retire()),
            Self::BuiltIn(_) => None,
        }
    }
}
