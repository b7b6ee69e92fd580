//! Why a call of an interface has returned no result.

use std::fmt;

use super::object::Leases;

/// Why a call of an interface has returned no result, and which generation was called. It owns its text.
///
/// An error that a method itself returns is not a fault: that is a result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// What has happened.
    pub kind: FaultKind,
    /// The generation whose method, object or future was called. `None` if it is a candidate that is not published yet,
    /// or a single function, and in a plugin.
    pub generation: Option<u64>,
}

/// What has happened in a call that has returned no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
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

impl FaultKind {
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

impl Fault {
    /// This fault, of a call of the generation that these leases are on.
    #[cold]
    pub(super) fn in_call(self, leases: &Leases) -> Self {
        let generation = leases.as_ref().and_then(|leases| leases.generation());
        Self { generation, ..self }
    }
}

impl From<FaultKind> for Fault {
    fn from(kind: FaultKind) -> Self {
        Self {
            kind,
            generation: None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        match self.generation {
            Some(generation) => write!(f, ", in a call of generation {generation}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for FaultKind {
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
