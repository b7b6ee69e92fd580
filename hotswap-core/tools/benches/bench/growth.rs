//! Measures how costs grow: with threads that come and go, with past generations, and with plugins at once.
//!
//! `call` measures growth with threads at once, and `swap` growth with the size of the plugin.

use std::{
    collections::VecDeque,
    thread,
    time::{Duration, Instant},
};

use hotswap_core::{AssertHostOwned, Hotswap, State};
use hotswap_fixtures::FixtureRef;

use crate::{
    Effort, Result, place, process,
    rows::{Rows, median},
};

type Plugin = Hotswap<FixtureRef>;

pub(crate) fn run(effort: Effort, rows: &mut Rows) -> Result {
    threads(effort.choose(5_000, 100_000), rows)?;
    generations(effort.choose(1_000, 100_000), rows)?;
    for count in [1, 10, 100] {
        plugins(count, effort.choose(20, 200), rows)?;
    }
    Ok(())
}

fn load() -> Result<Plugin> {
    place::load(&place::fixture("build_1")?)
}

fn resident_kib() -> f64 {
    process::resident_bytes() as f64 / 1024.0
}

/// Measures threads one after the other, each of which makes one call, beside as many that make none.
fn threads(count: u64, rows: &mut Rows) -> Result {
    const CASE: &str = "threads one after the other";
    const TURN: u64 = 500;
    let plugin = load()?;
    let turn = |body: fn(&Plugin) -> u64| {
        let started = Instant::now();
        for _ in 0..TURN {
            thread::scope(|scope| scope.spawn(|| body(&plugin)).join()).expect("no panic");
        }
        started.elapsed().as_secs_f64() * 1e6 / TURN as f64
    };
    let round = || (turn(|it| it.with(|it| it.build_a()())), turn(|_| 1));
    round();
    let before = resident_kib();
    let rounds: Vec<(f64, f64)> = (0..count / TURN).map(|_| round()).collect();
    rows.add(
        CASE,
        count,
        "with one call µs",
        median(rounds.iter().map(|it| it.0)),
    );
    rows.add(
        CASE,
        count,
        "with none µs",
        median(rounds.iter().map(|it| it.1)),
    );
    rows.add(CASE, count, "resident growth KiB", resident_kib() - before);
    Ok(())
}

/// Measures swaps: the last ones of each decade.
fn generations(last: u64, rows: &mut Rows) -> Result {
    const CASE: &str = "generations";
    let (plugin, path) = (load()?, place::fixture("build_1")?);
    // This many of the last swaps are measured. Their records must not be what grows.
    const RECENT: usize = 1_000;
    let mut took = VecDeque::with_capacity(RECENT);
    let mut next = 10;
    for swap in 1..=last {
        let started = Instant::now();
        let retired = plugin.swap(&path)?.retired;
        let returned = started.elapsed();
        let state = plugin.wait(retired, Duration::from_secs(60));
        if state != Some(State::Unloaded) {
            return Err(format!("generation {retired}: {state:?}").into());
        }
        took.truncate(RECENT - 1);
        took.push_front((
            returned.as_secs_f64() * 1e6,
            started.elapsed().as_secs_f64() * 1e6,
        ));
        if swap == next {
            let recent = || took.iter().take(took.len().div_ceil(2));
            rows.add(CASE, swap, "swap µs", median(recent().map(|it| it.0)));
            rows.add(CASE, swap, "in all µs", median(recent().map(|it| it.1)));
            rows.add(CASE, swap, "with ns", with_ns(&[&plugin]));
            rows.add(CASE, swap, "resident KiB", resident_kib());
            let descriptors = process::open_descriptors();
            rows.add(CASE, swap, "descriptors", descriptors as f64);
            took.clear();
            next *= 10;
        }
    }
    Ok(())
}

/// Measures many swap points at once: the cost of one more, and the cost of a call on each.
fn plugins(count: usize, rounds: usize, rows: &mut Rows) -> Result {
    const CASE: &str = "plugins at once";
    let path = place::fixture("build_1")?;
    let before = resident_kib();
    let plugins = (0..count).map(|_| load()).collect::<Result<Vec<_>>>()?;
    let each = (resident_kib() - before) / count as f64;
    let mut took = Vec::new();
    for plugin in plugins.iter().cycle().take(rounds) {
        let started = Instant::now();
        let retired = plugin.swap(&path)?.retired;
        took.push(started.elapsed().as_secs_f64() * 1e6);
        plugin.wait(retired, Duration::from_secs(60));
    }
    let count = count as u64;
    rows.add(CASE, count, "swap µs", median(took));
    rows.add(
        CASE,
        count,
        "with ns",
        with_ns(&plugins.iter().collect::<Vec<_>>()),
    );
    // For comparison: the cost of calling so much code in turn.
    // SAFETY: nothing is swapped until these functions have been called.
    let function = |it: &Plugin| it.with(|it| unsafe { AssertHostOwned::new(it.build_a()) });
    let functions: Vec<_> = plugins.iter().map(|it| function(it).into_inner()).collect();
    rows.add(
        CASE,
        count,
        "function pointers ns",
        in_turn_ns(&functions, |it| it()),
    );
    rows.add(CASE, count, "resident KiB each", each);
    Ok(())
}

fn with_ns(plugins: &[&Plugin]) -> f64 {
    in_turn_ns(plugins, |plugin| plugin.with(|it| it.build_a()()))
}

/// The time of one call when all are called in turn.
fn in_turn_ns<T>(all: &[T], call: impl Fn(&T) -> u64) -> f64 {
    const CALLS: usize = 100_000;
    let round = |_| {
        let started = Instant::now();
        let sum: u64 = all.iter().cycle().take(CALLS).map(&call).sum();
        let took = started.elapsed();
        assert_eq!(sum, CALLS as u64);
        took.as_secs_f64() * 1e9 / CALLS as f64
    };
    median((0..21).map(round))
}
