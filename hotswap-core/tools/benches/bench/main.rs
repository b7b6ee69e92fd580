//! Measures what a call and a swap cost, in comparison with the alternatives.
//!
//! One program, with one file for each measurement. `scripts/bench` runs the measurements one after the other, each
//! in a process of its own, and then `report`, which makes the table. Each measurement writes its results to
//! `target/bench/NAME.csv`.
//!
//! # Why neither criterion nor divan
//! The results are ratios, measured on machines that are also busy with other work. Therefore the alternatives must
//! take turns within milliseconds, with one thread and with several, and a ratio is taken within one round before the
//! median over all rounds is taken. Criterion and divan finish one benchmark before they begin the next. On a shared
//! machine, two benchmarks half a minute apart differed by more than the effect that is measured (2026-11).

mod alternatives;
mod bound;
#[expect(
    clippy::disallowed_methods,
    reason = "what the library is compared with"
)]
mod by_hand;
mod call;
mod cores;
mod fence;
mod growth;
mod instructions;
mod memory;
mod page;
mod place;
mod plot;
mod report;
mod rows;
mod storm;
mod swap;
mod threads;
mod traits;
mod trial;

#[path = "../../../tests/it/process.rs"]
#[expect(dead_code, reason = "the tests ask the system for more")]
mod process;

use std::{env, error::Error};

use hotswap_core::Trial;

use self::rows::Rows;

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// A minute in all: enough to see that everything runs, and large changes.
    Quick,
    /// Long enough for figures to publish.
    Full,
}

impl Effort {
    /// Selects one of two values.
    pub(crate) fn choose<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

pub(crate) type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const USAGE: &str = "usage: bench call|full_fence|traits|storm|swap|trial|memory|growth|threads [quick], \
    bench instructions CASE CALLS, bench report [--write-docs]";

fn main() -> Result {
    let trial = Trial::at_top_of_main(trial::probe);
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<String> = env::args().skip(1).filter(|it| it != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (name, effort) = match words[..] {
        ["instructions", case, calls] => return instructions::run(case, calls.parse()?),
        ["report"] => return report::run(false),
        ["report", "--write-docs"] => return report::run(true),
        [name] => (name, Effort::Full),
        [name, "quick"] => (name, Effort::Quick),
        _ => return Err(USAGE.into()),
    };
    let mut rows = Rows::new(name);
    match name {
        "call" => call::run(effort, &mut rows)?,
        "full_fence" => call::run_with_full_fence(effort, &mut rows)?,
        "traits" => traits::run(effort, &mut rows)?,
        "storm" => storm::run(effort, &mut rows)?,
        "swap" => swap::run(effort, &mut rows)?,
        "trial" => trial::run(trial, effort, &mut rows)?,
        "memory" => memory::run(&mut rows)?,
        "growth" => growth::run(effort, &mut rows)?,
        "threads" => threads::run(effort, &mut rows)?,
        _ => return Err(USAGE.into()),
    }
    let quick = effort.choose(1.0, 0.0);
    rows.add("effort", 0, rows::QUICK, quick);
    rows.write()
}
