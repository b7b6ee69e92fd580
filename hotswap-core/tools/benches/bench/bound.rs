//! The budgets' bounds, and what keeps them.

use std::path::Path;

/// The unit of the budgets of swaps.
pub(crate) const BY_HAND: &str = "× by hand";

/// Whether this is a virtual machine that gives its free memory back to its host, so that it costs much to get it
/// again (<https://docs.kernel.org/mm/free_page_reporting.html>).
fn gives_memory_back() -> bool {
    Path::new("/sys/module/page_reporting").exists()
}

/// The bound of a budget.
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    /// Whether a figure of this unit keeps it, and by how much.
    pub(crate) fn verdict(&self, unit: &str, measured: Option<f64>) -> String {
        let Some(measured) = measured else {
            return "not measured".to_owned();
        };
        if unit == BY_HAND && gives_memory_back() {
            return "not judged".to_owned();
        }
        let (met, limit) = match *self {
            Self::AtMost(limit) => (measured <= limit, limit),
            Self::AtLeast(limit) => (measured >= limit, limit),
        };
        let verdict = if met { "met" } else { "**not met**" };
        if limit == 0.0 {
            return verdict.to_owned();
        }
        let percent = (measured - limit).abs() / limit * 100.0;
        format!("{verdict}, by {percent:.0} %")
    }
}
