//! Why a call of an interface has returned no result.

use std::fmt;

/// Why a call of an interface has returned no result. It owns its text.
///
/// An error that a method itself returns is not a fault: that is a result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The method panicked. The text is the panic's message and its location.
    Panicked(String),
    /// The reader does not know something in a value, such as a variant. The text names it.
    Unknown(String),
    /// A value is nested too deeply to be read.
    TooDeep,
    /// An object or a waker was not accepted, because its generation is retired and no call or lease uses it any more,
    /// or because it is a candidate that is not published: its constructor runs, or its probe has ended.
    Retired,
}

impl Fault {
    /// The number that stands for it in a reply.
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
            Self::Retired => {
                f.write_str("its generation is not in use, and makes no objects or wakers")
            }
        }
    }
}

impl std::error::Error for Fault {}
