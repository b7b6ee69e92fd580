//! The budgets' bounds, and what keeps them.

/// The bound of a budget.
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    /// Whether a figure keeps it, and by how much.
    pub(crate) fn verdict(&self, measured: Option<f64>) -> String {
        let Some(measured) = measured else {
            return "not measured".to_owned();
        };
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
