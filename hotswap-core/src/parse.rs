//! Why a text cannot be read as what it should be.

use std::{
    error,
    fmt::{self, Display},
};

/// Why a text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError(pub(crate) &'static str);

impl Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl error::Error for ParseError {}
