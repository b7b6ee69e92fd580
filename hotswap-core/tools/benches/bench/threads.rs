//! Measures what many threads cost: every search for the holders of a generation visits the slots of all threads that
//! have called at the same time.

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use hotswap_core::{Hotswap, State};
use hotswap_fixtures::FixtureRef;

use crate::{
    Effort, Result, place,
    rows::{Rows, median},
    swap::processor_time,
};

type Plugin = Hotswap<FixtureRef>;

const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

/// How many generations are held at once.
const HELD: usize = 100;

pub(crate) fn run(effort: Effort, rows: &mut Rows) -> Result {
    for count in effort.choose(&[1, 1_000][..], &[1, 100, 1_000, 10_000]) {
        with_threads(*count, effort, rows)?;
    }
    Ok(())
}

/// The threads that exist during the measurement, and the signals between them and the measuring thread.
struct Threads {
    /// All threads have called.
    called: Barrier,
    /// The threads must call again, and stay inside the call.
    enter: Barrier,
    inside: Barrier,
    leave: Barrier,
}

impl Threads {
    fn new(count: usize) -> Self {
        let barrier = || Barrier::new(count + 1);
        Self {
            called: barrier(),
            enter: barrier(),
            inside: barrier(),
            leave: barrier(),
        }
    }

    fn body(&self, plugin: &Plugin) {
        plugin.with(|it| it.number());
        self.called.wait();
        self.enter.wait();
        plugin.with(|_| {
            self.inside.wait();
            self.leave.wait();
        });
    }
}

fn with_threads(count: usize, effort: Effort, rows: &mut Rows) -> Result {
    const STACK_BYTES: usize = 64 << 10;
    let plugin: Plugin = place::load(&place::fixture("build_1")?)?;
    let threads = Threads::new(count);
    thread::scope(|scope| {
        for _ in 0..count {
            let builder = thread::Builder::new().stack_size(STACK_BYTES);
            let body = || threads.body(&plugin);
            // The other threads would wait for it for ever.
            builder.spawn_scoped(scope, body).expect("a thread");
        }
        threads.called.wait();
        let swaps = effort.choose(20, 200);
        let idle = swap_and_unload(&plugin, swaps).and_then(|took| Ok((took, hold(&plugin)?)));
        threads.enter.wait();
        threads.inside.wait();
        let busy = held_by_calls(&plugin);
        threads.leave.wait();

        let mut add = |measure, value| rows.add("threads", count as u64, measure, value);
        let ((returned, left), processor) = idle?;
        add("swap µs", returned);
        add("in all µs", left);
        add("processor % with 100 generations held", processor);
        let (returned, listed, processor) = busy?;
        add("swap with all inside µs", returned);
        add("until those inside are listed µs", listed);
        add("processor % with all inside", processor);
        Ok(())
    })
}

/// The time until the swap has returned, and until the old generation has left, in microseconds.
fn swap_and_unload(plugin: &Plugin, swaps: usize) -> Result<(f64, f64)> {
    let path = place::fixture("build_1")?;
    let mut took = Vec::new();
    for _ in 0..swaps {
        let started = Instant::now();
        let retired = plugin.swap(&path)?.retired;
        let returned = started.elapsed();
        if plugin.wait(retired, EVENT_TIMEOUT) != Some(State::Unloaded) {
            return Err(format!("generation {retired} has not left").into());
        }
        took.push((micros(returned), micros(started.elapsed())));
    }
    let returned = median(took.iter().map(|it| it.0));
    Ok((returned, median(took.iter().map(|it| it.1))))
}

/// How busy the process is while many generations are held and nothing else happens.
fn hold(plugin: &Plugin) -> Result<f64> {
    let path = place::fixture("build_1")?;
    let mut leases = Vec::new();
    let mut retired = Vec::new();
    for _ in 0..HELD {
        leases.push(plugin.lease());
        retired.push(plugin.swap(&path)?.retired);
    }
    let processor = busy_percent();
    drop(leases);
    for number in retired {
        plugin.wait(number, EVENT_TIMEOUT);
    }
    Ok(processor)
}

/// All threads are inside one generation. Returns how long the swap takes, how long it takes until some of the
/// threads are listed as holders, and how busy the process is then.
fn held_by_calls(plugin: &Plugin) -> Result<(f64, f64, f64)> {
    let started = Instant::now();
    let retired = plugin.swap(place::fixture("build_1")?)?.retired;
    let returned = micros(started.elapsed());
    let is_listed = || {
        let all = plugin.generations().into_iter();
        let mut held = all.filter(|it| it.number == retired);
        held.any(|it| matches!(it.state, State::Draining { held_by } if !held_by.is_empty()))
    };
    while !is_listed() {
        thread::sleep(Duration::from_micros(100));
    }
    let listed = micros(started.elapsed());
    Ok((returned, listed, busy_percent()))
}

/// The process's use of one processor while this thread sleeps, in per cent.
fn busy_percent() -> f64 {
    const TIME: Duration = Duration::from_secs(2);
    let (before, started) = (processor_time(), Instant::now());
    thread::sleep(TIME);
    (processor_time() - before).div_duration_f64(started.elapsed()) * 100.0
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
