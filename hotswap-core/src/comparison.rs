//! Which calls a canary gets, what is counted of both sides, and how a rule compares them. This knows neither what a
//! call does nor what is loaded; `swap` joins the two.

mod share;

mod figures;

mod rule;

pub use self::{
    figures::Figures,
    rule::{Rule, Step},
    share::Share,
};
pub(crate) use self::{
    figures::{Recording, Window},
    rule::Evaluation,
};
