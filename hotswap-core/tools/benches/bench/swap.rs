//! Measures how long a swap takes, step by step, in comparison with the same done by hand; and how long a refusal
//! takes.
//!
//! Nobody calls the plugin meanwhile. hotswap's swaps and those by hand take turns, so that a ratio compares
//! neighbours.

use std::{
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use hotswap_core::{Event, EventKind, Hotswap, Interface, event::Phases};
use hotswap_fixtures::FixtureRef;
use hotswap_types::Plugin;
use rustix::time::{ClockId, clock_gettime};

use crate::{
    Effort, Result, by_hand,
    by_hand::{Copy, Steps},
    place::{self, Profile},
    rows::{Rows, median},
};

/// The timeout for events that must happen.
const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

/// The ratio of hotswap's time to the time by hand with a copy in memory.
const RETURNED_RATIO: &str = "until it returns × by hand";
pub(crate) const LEFT_RATIO: &str = "in all × by hand";
pub(crate) const PROCESSOR_RATIO: &str = "processor time × by hand";
pub(crate) const REFUSED_BEYOND: &str = "refused beyond its copy µs";

/// The times of one swap.
#[derive(Clone, Copy)]
struct Swap {
    phases: Phases,
    /// Until `swap` returned; new calls then reach the new generation.
    returned: Duration,
    /// Until the old generation had left.
    left: Duration,
    /// The processor time of all threads of the process.
    processor: Duration,
}

/// A swap and the same by hand, one after the other.
struct Round {
    ours: Swap,
    by_hand: Steps,
    by_hand_processor: Duration,
}

pub(crate) fn run(effort: Effort, rows: &mut Rows) -> Result {
    let rounds = effort.choose(100, 1_000);
    let fixture = place::fixture("build_1")?;
    compare::<FixtureRef>("release without `unloadable!`", &fixture, rounds, rows)?;
    for profile in [Profile::Release, Profile::Debug] {
        let plugin = place::demo_plugin(profile)?;
        compare::<dyn Plugin>(profile.name(), &plugin, rounds, rows)?;
    }
    refuse(rounds, rows)
}

fn compare<I: Interface + ?Sized>(
    case: &str,
    path: &PathBuf,
    rounds: usize,
    rows: &mut Rows,
) -> Result {
    let plugin: Hotswap<I> = place::load(path)?;
    let events = plugin.events();
    let file_bytes = fs::metadata(path)?.len();
    let round = || -> Result<Round> {
        take_memory_back(file_bytes);
        let ours = swap(&plugin, &events, path)?;
        take_memory_back(file_bytes);
        let before = processor_time();
        Ok(Round {
            ours,
            by_hand: by_hand::cycle(path, Copy::Memory)?,
            by_hand_processor: processor_time() - before,
        })
    };
    for _ in 0..rounds / 10 {
        round()?;
    }
    let measured = (0..rounds).map(|_| round()).collect::<Result<Vec<_>>>()?;

    rows.add(case, 0, "file KiB", file_bytes as f64 / 1024.0);
    let mut micros = |measure: &str, of: &dyn Fn(&Round) -> Duration| {
        let values = measured.iter().map(|round| of(round).as_secs_f64() * 1e6);
        rows.add(case, 0, measure, median(values));
    };
    micros("copy µs", &|it| it.ours.phases.copy);
    micros("inspect µs", &|it| it.ours.phases.inspect);
    micros("link µs", &|it| it.ours.phases.link);
    micros("check µs", &|it| it.ours.phases.check);
    micros("publish µs", &|it| it.ours.phases.publish);
    micros("thread and list µs", &|it| {
        it.ours.returned.saturating_sub(it.ours.phases.total())
    });
    micros("until it returns µs", &|it| it.ours.returned);
    micros("drain and unload µs", &|it| {
        it.ours.left - it.ours.returned
    });
    micros("in all µs", &|it| it.ours.left);
    micros("processor time µs", &|it| it.ours.processor);
    micros("by hand in memory: copy µs", &|it| it.by_hand.copy);
    micros("by hand in memory: dlopen µs", &|it| it.by_hand.open);
    micros("by hand in memory: dlclose µs", &|it| it.by_hand.close);
    micros("by hand in memory: in all µs", &|it| it.by_hand.sum());
    micros("by hand in memory: processor time µs", &|it| {
        it.by_hand_processor
    });
    let mut ratio = |measure: &str, of: &dyn Fn(&Round) -> (Duration, Duration)| {
        let ratio = |(ours, by_hand): (Duration, Duration)| ours.div_duration_f64(by_hand);
        rows.add(
            case,
            0,
            measure,
            median(measured.iter().map(|it| ratio(of(it)))),
        );
    };
    ratio(RETURNED_RATIO, &|it| (it.ours.returned, it.by_hand.sum()));
    ratio(LEFT_RATIO, &|it| (it.ours.left, it.by_hand.sum()));
    // Other work on the machine hardly changes processor time.
    ratio(PROCESSOR_RATIO, &|it| {
        (it.ours.processor, it.by_hand_processor)
    });

    // Not in turns with the others: the file system defers part of the work for a deleted file, and that work would
    // then count for another measurement.
    let files = (0..rounds / 10).map(|_| by_hand::cycle(path, Copy::File));
    let files = files.collect::<Result<Vec<_>>>()?;
    let files = files.iter().map(|it| it.sum().as_secs_f64() * 1e6);
    rows.add(case, 0, "by hand with a file: in all µs", median(files));
    Ok(())
}

/// Writes to as much memory as a swap of a file of this size needs, and frees it.
///
/// A virtual machine may give free memory back to its host after two seconds
/// (<https://docs.kernel.org/mm/free_page_reporting.html>), and then waits for the host when it needs that memory
/// again. That can take longer than the rest of a swap.
fn take_memory_back(file_bytes: u64) {
    black_box(vec![1_u8; 3 * file_bytes as usize]);
}

fn swap<I: Interface + ?Sized>(
    plugin: &Hotswap<I>,
    events: &Receiver<Event>,
    path: &Path,
) -> Result<Swap> {
    let processor = processor_time();
    let started = Instant::now();
    let swapped = plugin.swap(path)?;
    let returned = started.elapsed();
    loop {
        let event = events.recv_timeout(EVENT_TIMEOUT)?;
        match event.kind {
            EventKind::Unloaded { .. } if event.generation == Some(swapped.retired) => break,
            EventKind::Accepted { .. } => {}
            _ => return Err(event.to_string().into()),
        }
    }
    Ok(Swap {
        phases: swapped.phases,
        returned,
        left: started.elapsed(),
        processor: processor_time() - processor,
    })
}

/// The processor time of all threads of the process.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

/// Measures files that are refused at three stages of the pipeline, in comparison with copying each by hand.
fn refuse(rounds: usize, rows: &mut Rows) -> Result {
    let plugin: Hotswap<FixtureRef> = place::load(&place::fixture("build_1")?)?;
    let folder = tempfile::tempdir()?;
    let truncated = folder.path().join("libtruncated.so");
    let bytes = fs::read(place::demo_plugin(Profile::Debug)?)?;
    fs::write(&truncated, &bytes[..bytes.len() / 2])?;
    let files = [
        ("half a debug plugin", truncated),
        ("no root module", place::fixture("missing_export")?),
        ("another interface", place::fixture("changed_type")?),
    ];
    for (case, path) in files {
        let round = || {
            let started = Instant::now();
            let refused = plugin.swap(&path).is_err();
            assert!(refused, "{} was accepted", path.display());
            let refused = started.elapsed();
            let copy = by_hand::copy(&path)?;
            Ok((refused.as_secs_f64() * 1e6, copy.as_secs_f64() * 1e6))
        };
        let measured = (0..rounds).map(|_| round()).collect::<Result<Vec<_>>>()?;
        let beyond = measured.iter().map(|(refused, copy)| refused - copy);
        rows.add(
            case,
            0,
            "refused µs",
            median(measured.iter().map(|it| it.0)),
        );
        rows.add(
            case,
            0,
            "its copy by hand µs",
            median(measured.iter().map(|it| it.1)),
        );
        rows.add(case, 0, REFUSED_BEYOND, median(beyond));
    }
    Ok(())
}
