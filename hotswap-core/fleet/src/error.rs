//! What can go wrong.

use std::{error, fmt};

/// Why something could not be done.
#[derive(Debug)]
pub struct FleetError {
    kind: FleetErrorKind,
    what: String,
    /// What was expected and what was found, if it is about that.
    sides: Option<(String, String)>,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

/// A result of this crate.
pub(crate) type Result<T, E = FleetError> = std::result::Result<T, E>;

/// What kind of problem a [`FleetError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FleetErrorKind {
    /// The server cannot be reached, does not answer, or does not allow it.
    Server,
    /// Somebody else has changed the roll-out meanwhile.
    Conflict,
    /// What was asked for is not there.
    NotFound,
    /// What was given, or found, is not as it must be.
    Invalid,
    /// A file of this machine cannot be read or written.
    File,
    /// No plugin could be loaded to begin with.
    Load,
}

impl FleetError {
    pub(crate) fn new(kind: FleetErrorKind, what: impl Into<String>) -> Self {
        let what = what.into();
        Self {
            kind,
            what,
            sides: None,
            source: None,
        }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::new(FleetErrorKind::Invalid, what)
    }

    /// Something is not what it should be.
    pub(crate) fn differs(what: &str, expected: &str, found: &str) -> Self {
        let text = format!("{what}: expected {expected}, found {found}");
        Self {
            sides: Some((expected.to_owned(), found.to_owned())),
            ..Self::invalid(text)
        }
    }

    /// What was expected and what was found, if it is about that.
    pub(crate) fn sides(&self) -> Option<&(String, String)> {
        self.sides.as_ref()
    }

    /// An error that another one has caused, whose text follows.
    pub(crate) fn caused(
        kind: FleetErrorKind,
        what: impl Into<String>,
        source: impl Into<Box<dyn error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            what: what.into(),
            sides: None,
            source: Some(source.into()),
        }
    }

    /// What kind of problem it is.
    pub fn kind(&self) -> FleetErrorKind {
        self.kind
    }
}

impl fmt::Display for FleetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

// The text has that of the cause in it, so that there is no `source`.
impl error::Error for FleetError {}
