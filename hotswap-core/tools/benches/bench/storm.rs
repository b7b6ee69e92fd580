//! Measures calls beside a thread that swaps without pause: how many calls, whether the answers are right, and the
//! longest time between two calls of a reader.
//!
//! # What it is compared with
//! The same readers run in the same process, in turns of a few seconds: beside nothing; beside a thread that spins,
//! so that as many threads want a core; and beside a thread that copies, opens and closes the same files by hand
//! without pause. The last one demands as much of the system (it changes memory maps, and interrupts other cores to
//! invalidate them) and publishes nothing. The cost of the storm beyond the last one is hotswap's.
//!
//! A single reader has a core of its own, and everything else runs on another, so that the reader need not share its
//! core. Two readers run on any core, as in a server. On two cores, three threads then share the cores, and the
//! system suspends each of them now and then.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use hotswap_core::Hotswap;
use hotswap_fixtures::FixtureRef;

use crate::{
    Effort, Result,
    by_hand::{self, Copy},
    cores, place,
    rows::{Rows, median},
};

/// What runs beside the readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nothing,
    Spinning,
    ByHand,
    Swaps,
}

impl Beside {
    const ALL: [Self; 4] = [Self::Nothing, Self::Spinning, Self::ByHand, Self::Swaps];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "beside nobody",
            Self::Spinning => "beside a thread that spins",
            Self::ByHand => "beside dlopen and dlclose by hand",
            Self::Swaps => "beside a storm of swaps",
        }
    }
}

/// What a reader saw in one turn.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    calls: u64,
    wrong: u64,
    longest: Duration,
    /// The pauses that took longer than [`LONG`].
    long: u64,
}

/// One turn.
struct Turn {
    seen: Seen,
    took: Duration,
    /// The number of swaps, or of cycles by hand.
    cycles: u64,
}

const LONG: Duration = Duration::from_micros(100);
/// A reader reads the clock after this many calls, because reading it costs ten times as much as a call.
const CALLS_A_LOOK: u64 = 64;
/// A swap waits for the generation that was retired this many swaps before. On few cores the reaper may fall behind,
/// and each generation has a descriptor.
const BEHIND_MAX: u64 = 16;

struct Storm {
    plugin: Hotswap<FixtureRef>,
    /// The two plugins: odd generations are from the first, even ones from the second.
    builds: [PathBuf; 2],
    cores: Vec<usize>,
}

pub(crate) fn run(effort: Effort, rows: &mut Rows) -> Result {
    let cores = cores::all()?;
    let builds = [place::fixture("build_1")?, place::fixture("build_2")?];
    let ((one_turns, one), (two_turns, two)) =
        effort.choose(((2, 500), (2, 1_000)), ((8, 2_500), (12, 5_000)));
    for (readers, turns, turn) in [(1, one_turns, one), (2, two_turns, two)] {
        if readers == 1 {
            // The reaper then runs on the core of the swaps, too.
            cores::stay_on(cores[cores.len() - 1]);
        } else {
            cores::go_anywhere(&cores);
        }
        let storm = Storm {
            plugin: place::load(&builds[0])?,
            builds: builds.clone(),
            cores: cores.clone(),
        };
        storm.measure(readers, turns, Duration::from_millis(turn), rows)?;
    }
    Ok(())
}

impl Storm {
    fn measure(&self, readers: usize, turns: usize, turn: Duration, rows: &mut Rows) -> Result {
        let mut of_each: [Vec<Turn>; 4] = Default::default();
        for _ in 0..turns {
            for (beside, turns) in Beside::ALL.into_iter().zip(&mut of_each) {
                turns.push(self.play(readers, beside, turn)?);
            }
        }
        let speed = |turn: &Turn| turn.seen.calls as f64 / turn.took.as_secs_f64();
        for (beside, turns) in Beside::ALL.into_iter().zip(&of_each) {
            let count = readers as u64;
            let mut add =
                |measure: &str, value: f64| rows.add(beside.name(), count, measure, value);
            let sum = |of: fn(&Turn) -> u64| turns.iter().map(of).sum::<u64>() as f64;
            let seconds: f64 = turns.iter().map(|turn| turn.took.as_secs_f64()).sum();
            add("seconds", seconds);
            add("calls", sum(|it| it.seen.calls));
            add("cycles", sum(|it| it.cycles));
            add("wrong answers", sum(|it| it.seen.wrong));
            add("calls/s", median(turns.iter().map(speed)));
            let longest = turns
                .iter()
                .map(|it| it.seen.longest)
                .max()
                .unwrap_or_default();
            add("longest gap µs", longest.as_secs_f64() * 1e6);
            let usual = turns.iter().map(|it| it.seen.longest.as_secs_f64() * 1e6);
            add("longest gap of a usual turn µs", median(usual));
            add(
                "gaps above 100 µs a second",
                sum(|it| it.seen.long) / seconds,
            );
        }
        let [nothing, spinning, by_hand, swaps] = &of_each;
        for (name, others) in [
            ("calls/s × beside nobody", nothing),
            ("calls/s × beside a thread that spins", spinning),
            ("calls/s × beside by hand", by_hand),
        ] {
            let ratios = swaps
                .iter()
                .zip(others)
                .map(|(it, other)| speed(it) / speed(other));
            rows.add(Beside::Swaps.name(), readers as u64, name, median(ratios));
        }
        Ok(())
    }

    fn play(&self, readers: usize, beside: Beside, turn: Duration) -> Result<Turn> {
        let stop = AtomicBool::new(false);
        let started = Instant::now();
        let (seen, cycles) = thread::scope(|scope| {
            let reader = || {
                if readers == 1 {
                    cores::stay_on(self.cores[0]);
                }
                self.read(&stop)
            };
            let running: Vec<_> = (0..readers).map(|_| scope.spawn(reader)).collect();
            let other = scope.spawn(|| self.stay_busy(beside, &stop));
            thread::sleep(turn);
            stop.store(true, Ordering::Relaxed);
            let mut all = Seen::default();
            for it in running {
                let seen = it.join().expect("no panic");
                all.calls += seen.calls;
                all.wrong += seen.wrong;
                all.long += seen.long;
                all.longest = all.longest.max(seen.longest);
            }
            (all, other.join().expect("no panic"))
        });
        Ok(Turn {
            seen,
            took: started.elapsed(),
            cycles: cycles?,
        })
    }

    fn read(&self, stop: &AtomicBool) -> Seen {
        let mut seen = Seen::default();
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..CALLS_A_LOOK {
                let (number, a, b) = self
                    .plugin
                    .with(|it| (it.number(), it.build_a()(), it.build_b()()));
                let right = 2 - number % 2;
                seen.wrong += u64::from((a, b) != (right, right));
            }
            let now = Instant::now();
            let gap = now - last;
            last = now;
            seen.calls += CALLS_A_LOOK;
            seen.longest = seen.longest.max(gap);
            seen.long += u64::from(gap > LONG);
        }
        seen
    }

    /// Runs until `stop`. Returns the number of swaps or cycles.
    fn stay_busy(&self, beside: Beside, stop: &AtomicBool) -> Result<u64, String> {
        let mut cycles = 0;
        while !stop.load(Ordering::Relaxed) {
            match beside {
                Beside::Nothing => thread::sleep(Duration::from_millis(1)),
                Beside::Spinning => std::hint::spin_loop(),
                Beside::ByHand => {
                    let build = &self.builds[cycles as usize % 2];
                    by_hand::cycle(build, Copy::Memory).map_err(|error| error.to_string())?;
                    cycles += 1;
                }
                Beside::Swaps => {
                    let live = self.plugin.with(|it| it.number());
                    let swapped = self.plugin.swap(&self.builds[live as usize % 2]);
                    let swapped = swapped.map_err(|error| error.to_string())?;
                    self.plugin.wait(
                        swapped.generation.saturating_sub(BEHIND_MAX),
                        Duration::from_secs(60),
                    );
                    cycles += 1;
                }
            }
        }
        Ok(cycles)
    }
}
