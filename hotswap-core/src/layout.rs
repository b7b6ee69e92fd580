//! Is the type that a plugin has the one that the host expects?
//!
//! abi_stable describes every type of an interface by a layout that the plugin carries with it. Here two of them
//! are compared, with tables that live as long as the comparison: abi_stable's own are process-wide, and would keep
//! pointers into the plugin (see [`module`](crate::module)).
//!
//! All text is made while the image is still mapped, for it is made of the plugin's strings.

mod difference;
mod evolution;

use std::{
    panic::{self, AssertUnwindSafe},
    path::Path,
};

use abi_stable::{
    abi_stability::abi_checking::{CheckingGlobals, check_layout_compatibility_with_globals},
    type_layout::TypeLayout,
};

use crate::error::{Error, Stage};

/// How two types differ.
#[derive(Debug)]
pub(crate) struct Mismatch {
    /// In one line: where, what was expected there, and what was found.
    pub(crate) summary: String,
    /// All that abi_stable has to say: some hundred lines. None: nothing could be compared.
    report: Option<String>,
}

/// Checks that a value of the type that `found` describes can be used as one that `expected` describes, which may be
/// an older or a newer version of the same type.
pub(crate) fn check(
    expected: &'static TypeLayout,
    found: &'static TypeLayout,
) -> Result<(), Mismatch> {
    let tables = CheckingGlobals::new();
    // It takes what a description says for true, and panics where one is damaged.
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
    checked.unwrap_or_else(|_| {
        Err(Mismatch {
            summary: "its description of its types is damaged".to_owned(),
            report: None,
        })
    })
}

/// The type in one line: its name, and what it is made of.
pub(crate) fn describe(layout: &'static TypeLayout) -> String {
    let described = panic::catch_unwind(AssertUnwindSafe(|| difference::describe(layout)));
    described.unwrap_or_else(|_| "a type whose description is damaged".to_owned())
}

impl Mismatch {
    /// The refusal of the file at `path`.
    pub(crate) fn refuse(self, path: &Path) -> Error {
        let error = Error::new(Stage::Layout, path, self.summary);
        match self.report {
            Some(report) => error.because(report),
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
