//! Compares the type that a plugin has with the type that the host expects.
//!
//! abi_stable describes every type of an interface by a layout, which the plugin carries with it. This module
//! compares two layouts, with tables that live only as long as the comparison. abi_stable's own tables are
//! process-wide and would keep pointers into the plugin (see [`module`](crate::module)). First, [`description`]
//! checks that a description in an image can be followed at all.
//!
//! All text is built while the image is still mapped, because it is built from the plugin's strings.

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

/// The difference between two types.
#[derive(Debug)]
pub(crate) struct Mismatch {
    /// One line: the place, what was expected there, and what was found.
    pub(crate) summary: String,
    /// abi_stable's full report, of some hundred lines. `None` if nothing could be compared.
    report: Option<String>,
}

/// abi_stable's description of a type, which can be followed without harm.
#[derive(Clone, Copy)]
pub(crate) struct Description(&'static TypeLayout);

impl Description {
    /// The description that the compiler has made for this program.
    pub(crate) fn of<T: StableAbi>() -> Self {
        Self(T::LAYOUT)
    }

    /// Checks a description that lies in an image. It may be used as long as the image is borrowed.
    pub(crate) fn in_image(image: &Image, layout: &'static TypeLayout) -> Result<Self, Damaged> {
        description::check(image, ptr::from_ref(layout).addr())?;
        Ok(Self(layout))
    }

    /// Whether both describe a reference to a root module of the same name, from a package of the same name.
    pub(crate) fn is_of_same_name(self, other: Self) -> bool {
        let name = |it: Self| {
            functions::prefix_type_of(it.0).map(|it| (it.name(), it.package().to_string()))
        };
        name(self) == name(other)
    }

    /// The type in one line: its name, and the type of its only field.
    pub(crate) fn summary(self) -> String {
        let described = panic::catch_unwind(AssertUnwindSafe(|| difference::describe(self.0)));
        described.unwrap_or_else(|_| format!("a type: {Damaged}"))
    }
}

/// Checks that a value of the type `found` can be used as a value of the type `expected`. The one may be an older or
/// a newer version of the other.
pub(crate) fn check(expected: Description, found: Description) -> Result<(), Mismatch> {
    let (expected, found) = (expected.0, found.0);
    let tables = CheckingGlobals::new();
    // abi_stable panics when a description makes no sense.
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
    /// A mismatch without a report, because nothing could be compared.
    pub(crate) fn without_report(summary: String) -> Self {
        Self {
            summary,
            report: None,
        }
    }

    /// The error that refuses the file at `path` because of its root module, or because of the typed symbol `symbol`.
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
