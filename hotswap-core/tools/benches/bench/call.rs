//! Measures what one call costs in each of the ways, and how calls scale with threads.
//!
//! In each round, and for each number of threads, every way gets a turn of about a millisecond. In a turn all threads
//! do the same, each on a core of its own as long as there are enough. Figures are medians over the rounds; a ratio
//! is taken within a round.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Effort, Result,
    alternatives::{Alternative, FUNCTION_POINTER, NESTED, Subjects, WITH},
    cores, fence,
    rows::{Rows, median},
};

/// How long one turn should take with one thread.
const TURN: Duration = Duration::from_millis(1);
/// How many calls each thread makes in each way before the measurement.
const WARM_UP_CALLS: u64 = 1_000;

/// The time of a call relative to a function pointer's, and relative to the same way's with one thread.
pub(crate) const VERSUS_POINTER: &str = "× function pointer";
pub(crate) const VERSUS_ONE_THREAD: &str = "× one thread";

/// The turn of one way, in one round, with one number of threads.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// The time of one call, as the mean over all threads.
    ns: f64,
    calls_per_second: f64,
}

/// Measures all ways, with one thread up to twice as many as there are cores.
pub(crate) fn run(effort: Effort, rows: &mut Rows) -> Result {
    let cores = cores::all()?;
    let subjects = Subjects::load()?;
    let threads: Vec<usize> = (1..=2 * cores.len()).collect();
    let rounds = effort.choose(20, 200);
    measure(&subjects.alternatives(), &cores, &threads, rounds, rows);
    Ok(())
}

/// Measures with a full fence, with one and two threads.
pub(crate) fn run_with_full_fence(effort: Effort, rows: &mut Rows) -> Result {
    fence::take_asymmetric()?;
    let subjects = Subjects::load()?;
    let mut ways = subjects.alternatives();
    ways.retain(|way| [FUNCTION_POINTER, WITH, NESTED].contains(&way.name));
    let rounds = effort.choose(20, 200);
    measure(&ways, &cores::all()?, &[1, 2], rounds, rows);
    Ok(())
}

fn measure(
    ways: &[Alternative<'_>],
    cores: &[usize],
    threads: &[usize],
    rounds: usize,
    rows: &mut Rows,
) {
    let calls: Vec<u64> = ways.iter().map(calls_in_a_turn).collect();
    // Indexed by number of threads, way and round.
    let mut turns = vec![vec![Vec::new(); ways.len()]; threads.len()];
    for round in 0..rounds {
        for (turns, &threads) in turns.iter_mut().zip(threads) {
            // Each round begins with another way.
            let order: Vec<usize> = (0..ways.len())
                .map(|it| (it + round) % ways.len())
                .collect();
            for (way, turn) in play(ways, &calls, &order, cores, threads) {
                turns[way].push(turn);
            }
        }
    }
    for (with_threads, &threads) in turns.iter().zip(threads) {
        for (place, way) in ways.iter().enumerate() {
            let of_way = &with_threads[place];
            let against = |others: &[Turn]| {
                median(
                    of_way
                        .iter()
                        .zip(others)
                        .map(|(it, other)| it.ns / other.ns),
                )
            };
            let count = threads as u64;
            rows.add(way.name, count, "ns", median(of_way.iter().map(|it| it.ns)));
            rows.add(way.name, count, VERSUS_POINTER, against(&with_threads[0]));
            rows.add(
                way.name,
                count,
                VERSUS_ONE_THREAD,
                against(&turns[0][place]),
            );
            let speed = median(of_way.iter().map(|it| it.calls_per_second));
            rows.add(way.name, count, "calls/s", speed);
        }
    }
}

/// How many calls take about [`TURN`].
fn calls_in_a_turn(way: &Alternative<'_>) -> u64 {
    let mut calls = WARM_UP_CALLS;
    loop {
        let took = way.time(calls);
        if took >= TURN / 4 {
            return (calls as f64 * TURN.as_secs_f64() / took.as_secs_f64()) as u64;
        }
        calls *= 2;
    }
}

/// Runs one round with `threads` threads: one way after the other, all threads at once.
fn play(
    ways: &[Alternative<'_>],
    calls: &[u64],
    order: &[usize],
    cores: &[usize],
    threads: usize,
) -> Vec<(usize, Turn)> {
    let ready = AtomicUsize::new(0);
    let caller = &|thread: usize| {
        cores::stay_on(cores[thread % cores.len()]);
        for way in ways {
            way.time(WARM_UP_CALLS);
        }
        let turn = |(place, &way): (usize, &usize)| {
            // Not a `Barrier`: a thread that sleeps in one wakes up when the others are half done.
            ready.fetch_add(1, Ordering::AcqRel);
            while ready.load(Ordering::Acquire) < (place + 1) * threads {
                thread::yield_now();
            }
            let started = Instant::now();
            (started, ways[way].time(calls[way]))
        };
        order.iter().enumerate().map(turn).collect::<Vec<_>>()
    };
    let callers: Vec<Vec<(Instant, Duration)>> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || caller(thread)))
            .collect();
        let join = |it: thread::ScopedJoinHandle<'_, _>| it.join().expect("no panic");
        running.into_iter().map(join).collect()
    });
    let turn = |(place, &way): (usize, &usize)| {
        let times = || callers.iter().map(|times| times[place]);
        let began = times().map(|(started, _)| started).min();
        let ended = times().map(|(started, took)| started + took).max();
        let whole = ended
            .zip(began)
            .map_or(Duration::ZERO, |(ended, began)| ended - began);
        let spent: Duration = times().map(|(_, took)| took).sum();
        let made = (calls[way] * threads as u64) as f64;
        let turn = Turn {
            ns: spent.as_secs_f64() * 1e9 / made,
            calls_per_second: made / whole.as_secs_f64(),
        };
        (way, turn)
    };
    order.iter().enumerate().map(turn).collect()
}
