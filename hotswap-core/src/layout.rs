//! Is the type that a plugin has the one that the host expects?
//!
//! abi_stable describes every type of an interface by a layout that the plugin carries with it. Here two of them
//! are compared, with tables that live as long as the comparison: abi_stable's own are process-wide, and would keep
//! pointers into the plugin (see [`module`](crate::module)). That a description out of an image can be followed at all
//! is checked first ([`description`]).
//!
//! All text is made while the image is still mapped, for it is made of the plugin's strings.

mod description;
mod difference;
mod evolution;
#[expect(unsafe_code, reason = "looks at the fields of a root module")]
mod functions;

use std::{
    panic::{self, AssertUnwindSafe},
    path::Path,
    ptr,
};

use abi_stable::{
    StableAbi,
    abi_stability::abi_checking::{CheckingGlobals, check_layout_compatibility_with_globals},
    type_layout::TypeLayout,
};

pub(crate) use self::{
    description::{Damaged, check_header},
    difference::{both, place},
    functions::check_functions,
};
use crate::{
    error::{Error, ErrorKind},
    image::Image,
};

/// How two types differ.
#[derive(Debug)]
pub(crate) struct Mismatch {
    /// In one line: where, what was expected there, and what was found.
    pub(crate) summary: String,
    /// All that abi_stable has to say: some hundred lines. None: nothing could be compared.
    report: Option<String>,
}

/// What abi_stable says of a type, where that can be followed without harm.
#[derive(Clone, Copy)]
pub(crate) struct Description(&'static TypeLayout);

impl Description {
    /// The one that the compiler has made for this program.
    pub(crate) fn of<T: StableAbi>() -> Self {
        Self(T::LAYOUT)
    }

    /// One that lies in an image. It may be used for as long as the image is borrowed.
    pub(crate) fn in_image(image: &Image, layout: &'static TypeLayout) -> Result<Self, Damaged> {
        description::check(image, ptr::from_ref(layout).addr())?;
        Ok(Self(layout))
    }

    /// The type in one line: its name, and what it is made of.
    pub(crate) fn summary(self) -> String {
        let described = panic::catch_unwind(AssertUnwindSafe(|| difference::describe(self.0)));
        described.unwrap_or_else(|_| format!("a type: {Damaged}"))
    }
}

/// Checks that a value of the type that `found` describes can be used as one that `expected` describes, which may be
/// an older or a newer version of the same type.
pub(crate) fn check(expected: Description, found: Description) -> Result<(), Mismatch> {
    let (expected, found) = (expected.0, found.0);
    let tables = CheckingGlobals::new();
    // It panics where what is described makes no sense.
    let checked = panic::catch_unwind(AssertUnwindSafe(|| {
        let Err(errors) = check_layout_compatibility_with_globals(expected, found, &tables) else {
            return Ok(());
        };
        let summary = match difference::summary(&errors, evolution::is_growth) {
            Some(summary) => summary,
            None => match evolution::ambiguous(expected, found) {
                Some(name) => {
                    format!("several types `{name}`, of which one is older: expected one")
                }
                None => return Ok(()),
            },
        };
        let report = Some(errors.to_string());
        Err(Mismatch { summary, report })
    }));
    checked.unwrap_or_else(|_| Err(Damaged.into()))
}

impl From<Damaged> for Mismatch {
    fn from(damaged: Damaged) -> Self {
        Self::without_report(damaged.to_string())
    }
}

impl Mismatch {
    /// When nothing could be compared.
    pub(crate) fn without_report(summary: String) -> Self {
        Self {
            summary,
            report: None,
        }
    }

    /// The refusal of the file at `path`, for its root module or for a typed symbol.
    pub(crate) fn refuse(self, path: &Path, symbol: Option<&str>) -> Error {
        let kind = ErrorKind::Layout {
            symbol: symbol.map(str::to_owned),
            difference: self.summary,
        };
        let error = Error::new(path, kind);
        match self.report {
            Some(report) => error.because(&report),
            None => error,
        }
    }
}

#[cfg(test)]
#[expect(
    unsafe_code,
    unreachable_pub,
    dead_code,
    clippy::unnecessary_cast,
    reason = "what abi_stable derives, and types that are only described"
)]
mod tests;
