//! Swaps faster than the old generations can be unloaded, and prints what is left behind meanwhile.
//!
//! `scripts/backlog` runs it with a plugin of the tests. A subscriber of `tracing` blocks the unloading thread after
//! each image for nine times as long as the unloading took, so the thread is ten times slower. (A slow finaliser
//! would not do: it holds the dynamic linker's lock, which blocks all swaps.) The table goes to stdout.

#[path = "../../../tests/it/process.rs"]
#[expect(dead_code, reason = "the tests ask the system for more")]
mod process;

use std::{
    collections::HashMap,
    env,
    error::Error,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use hotswap_core::{EventKind, Hotswap, Limits, Policy, Settings, State, Trust};
use hotswap_fixtures::FixtureRef;
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

type Plugin = Hotswap<FixtureRef>;

const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the unloading thread pauses after each image, in microseconds.
static PAUSE_US: AtomicU64 = AtomicU64::new(0);

struct Pause;

impl<S: tracing::Subscriber> Layer<S> for Pause {
    fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
        let pause = PAUSE_US.load(Ordering::Relaxed);
        if pause > 0 && thread::current().name() == Some("hotswap-reaper") {
            thread::sleep(Duration::from_micros(pause));
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [path, swaps] = &arguments[..] else {
        return Err("usage: backlog PLUGIN SWAPS".into());
    };
    let (path, swaps): (PathBuf, u64) = (path.into(), swaps.parse()?);
    tracing_subscriber::registry().with(Pause).init();
    let policy = Policy {
        any_owner: true,
        ..Policy::default()
    };
    // SAFETY: the files are the plugins of the tests, which keep the promises of `Trust::vouch`.
    let trust = unsafe { Trust::vouch(policy) };
    let settings = Settings {
        limits: Limits {
            unload_timeout: EVENT_TIMEOUT,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let plugin: Plugin = Hotswap::load_with(&path, &trust, settings)?;

    let unloading = unloading(&plugin, &path)?;
    let pause = unloading * 9;
    PAUSE_US.store(u64::try_from(pause.as_micros())?, Ordering::Relaxed);
    println!("unloading takes {unloading:.1?} by itself, with a pause of {pause:.1?} after it");
    println!(
        "{:>8} {:>8} {:>11} {:>7} {:>7} {:>10} {:>12}",
        "swaps", "seconds", "descriptors", "images", "copies", "copies KiB", "resident KiB"
    );
    let started = Instant::now();
    let mut most = Row::default();
    for swap in 0..=swaps {
        let row = Row::now();
        most = most.or(row);
        if swap % (swaps / 20).max(1) == 0 {
            row.print(swap, started.elapsed());
        }
        plugin.swap(&path)?;
    }
    println!("the most of each:");
    most.print(swaps, started.elapsed());
    let left = plugin.shutdown(EVENT_TIMEOUT);
    println!("after the end:");
    Row::now().print(swaps, started.elapsed());
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("still mapped: {left:?}").into())
    }
}

/// How long unloading one generation takes when nothing else happens.
fn unloading(plugin: &Plugin, path: &Path) -> Result<Duration, Box<dyn Error>> {
    const SWAPS: u32 = 100;
    let mut sum = Duration::ZERO;
    for _ in 0..SWAPS {
        let retired = plugin.swap(path)?.retired;
        if plugin.wait(retired, EVENT_TIMEOUT) != Some(State::Unloaded) {
            return Err(format!("generation {retired} has not left").into());
        }
        let events = plugin.events();
        sum += events
            .try_iter()
            .filter_map(|event| match event.kind {
                EventKind::Unloaded { after, .. } => Some(after),
                _ => None,
            })
            .sum::<Duration>();
    }
    Ok(sum / SWAPS)
}

/// The resources of the process at one moment.
#[derive(Clone, Copy, Default)]
struct Row {
    descriptors: usize,
    images: usize,
    copies: usize,
    /// The shared memory of the copies, whether or not they are mapped.
    copies_kib: u64,
    resident_kib: u64,
}

impl Row {
    fn now() -> Self {
        let copies = copies();
        Self {
            descriptors: process::open_descriptors(),
            images: process::images().len(),
            copies: copies.len(),
            copies_kib: copies.values().sum::<u64>() / 1024,
            resident_kib: process::resident_bytes() / 1024,
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            descriptors: self.descriptors.max(other.descriptors),
            images: self.images.max(other.images),
            copies: self.copies.max(other.copies),
            copies_kib: self.copies_kib.max(other.copies_kib),
            resident_kib: self.resident_kib.max(other.resident_kib),
        }
    }

    fn print(self, swaps: u64, time: Duration) {
        let Self {
            descriptors,
            images,
            copies,
            copies_kib,
            resident_kib,
        } = self;
        println!(
            "{swaps:8} {:8.1} {descriptors:11} {images:7} {copies:7} {copies_kib:10} {resident_kib:12}",
            time.as_secs_f64()
        );
    }
}

/// The memory files that this process has open, by inode number, and the bytes of memory of each.
fn copies() -> HashMap<u64, u64> {
    const BLOCK_BYTES: u64 = 512;
    let open = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    let is_copy = |path: &PathBuf| {
        fs::read_link(path).is_ok_and(|it| it.to_string_lossy().starts_with("/memfd:"))
    };
    let copies = open.map(|it| it.path()).filter(is_copy);
    copies
        .filter_map(|path| fs::metadata(path).ok())
        .map(|it| (it.ino(), it.blocks() * BLOCK_BYTES))
        .collect()
}
