//! Why a call of an interface gave no answer.

use std::fmt;

/// Why a call of an interface gave no answer. It is made of the memory of whoever has it.
///
/// What a method itself returns as an error is none: that is an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The code that was called panicked: its message, and where.
    Panicked(String),
    /// A value has a variant that the side which reads it does not know.
    Unknown(String),
    /// A value is nested too deeply to be read.
    TooDeep,
    /// An object comes from a generation that is retired and that nobody uses any more.
    Retired,
}

impl Fault {
    /// By which number it crosses.
    pub(super) fn code(&self) -> u32 {
        match self {
            Self::Panicked(_) => 1,
            Self::Unknown(_) => 2,
            Self::TooDeep => 3,
            Self::Retired => 4,
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Panicked(text) | Self::Unknown(text) => text,
            Self::TooDeep | Self::Retired => "",
        }
    }

    pub(super) fn from_code(code: u32, text: &str) -> Self {
        match code {
            2 => Self::Unknown(text.to_owned()),
            3 => Self::TooDeep,
            4 => Self::Retired,
            _ => Self::Panicked(text.to_owned()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Unknown(what) => write!(f, "{what} is not known here"),
            Self::TooDeep => f.write_str("a value is nested too deeply"),
            Self::Retired => f.write_str("its generation is retired, and gives no more objects"),
        }
    }
}

impl std::error::Error for Fault {}
