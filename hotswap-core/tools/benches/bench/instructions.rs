//! A loop of calls and nothing else, for a tool that counts instructions.
//!
//! `scripts/instructions` runs it with two numbers of calls. The difference contains neither start nor end.

use crate::{Result, alternatives::Subjects};

/// Makes `calls` calls in one way.
pub(crate) fn run(case: &str, calls: u64) -> Result {
    let subjects = Subjects::load()?;
    let ways = subjects.alternatives();
    let way = ways.iter().find(|way| way.name == case);
    way.ok_or("no such way to call")?.time(calls);
    Ok(())
}
