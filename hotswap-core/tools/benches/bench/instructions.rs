//! A loop of calls and nothing else, for a tool that counts instructions.
//!
//! `scripts/instructions` runs it with two numbers of calls. The difference contains neither start nor end.

use std::{hint::black_box, time::Duration};

use hotswap_core::{Hotswap, Settings};
use hotswap_fixtures::measured::Measured;

use crate::{Result, alternatives::Subjects, place, traits};

const ASYNC_CALL: &str = "async call";
const WATCHED_ASYNC_CALL: &str = "watched async call";

/// Makes `calls` calls in one way.
pub(crate) fn run(case: &str, calls: u64) -> Result {
    match case {
        ASYNC_CALL => return call_async(None, calls),
        // So long that the thread that looks does it as rarely as it ever does.
        WATCHED_ASYNC_CALL => return call_async(Some(Duration::MAX), calls),
        _ => {}
    }
    let subjects = Subjects::load()?;
    let ways = subjects.alternatives();
    let way = ways.iter().find(|way| way.name == case);
    way.ok_or("no such way to call")?.time(calls);
    Ok(())
}

/// Calls of an async method that is ready at once.
fn call_async(hung_call_timeout: Option<Duration>, calls: u64) -> Result {
    let settings = Settings {
        host_services: traits::host_services(),
        hung_call_timeout,
        ..Settings::default()
    };
    let path = place::fixture("measured")?;
    let plugin = Hotswap::<dyn Measured>::load_with(path, &place::trust(), settings)?;
    for _ in 0..calls {
        let call = plugin.call_async(|it| it.next_async(black_box(7)));
        black_box(traits::ready(call)?);
    }
    Ok(())
}
