//! Swaps a plugin a given number of times under callers that never pause, and prints what has grown.
//!
//! `scripts/stress` runs it with the plugins of the tests. The plugins print to stdout; the figures go to stderr.

#[path = "../../../../tests/it/process.rs"]
#[expect(dead_code, reason = "the tests ask the system for more")]
mod process;
mod traits;

use std::{
    env,
    error::Error,
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use hotswap_core::{Hotswap, Interface, Policy, State, Trust};
use hotswap_fixtures::{FixtureRef, constructs::CONSTRUCTS};

/// The resources that are measured before and after.
#[derive(Debug)]
struct Resources {
    resident_bytes: u64,
    images: usize,
    descriptors: usize,
    threads: usize,
    keys: usize,
}

impl Resources {
    fn now() -> Self {
        Self {
            resident_bytes: process::resident_bytes(),
            images: process::images().len(),
            descriptors: process::open_descriptors(),
            threads: process::threads(),
            keys: process::keys_in_use(),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [path, construct, warm_up, swaps] = &arguments[..] else {
        return Err(
            "usage: stress PLUGIN CONSTRUCT|each WARM_UP_SWAPS SWAPS, or stress FOLDER traits …"
                .into(),
        );
    };
    let (path, swaps) = (PathBuf::from(path), warm_up.parse()?..swaps.parse()?);
    eprintln!(
        "{:22} {:>8} {:>12} {:>7} {:>12} {:>10} {:>6} {:>11} {:>7} {:>4}",
        "construct",
        "swaps",
        "calls",
        "seconds",
        "resident KiB",
        "B per swap",
        "images",
        "descriptors",
        "threads",
        "keys"
    );
    for (place, (name, _)) in CONSTRUCTS.iter().enumerate() {
        if construct == name || construct == "each" {
            uses_construct(&path, name, place as u64, swaps.clone())?;
        }
    }
    if construct == "traits" {
        traits::pass_data(&path.join("libshop_1.so"), swaps.clone())?;
        traits::pass_objects(&path.join("libdesk_1.so"), swaps.clone())?;
        traits::take_services(&path.join("libclerk_1.so"), swaps.clone())?;
        traits::await_methods(&path.join("libtasks_1.so"), swaps.clone())?;
        // Each swap starts and ends five threads and a runtime.
        let swaps = swaps.start / 10..swaps.end / 10;
        traits::use_runtimes(&path.join("libtasks_tokio.so"), swaps)?;
    }
    Ok(())
}

/// A plugin whose generations all use one construct.
fn uses_construct(
    path: &Path,
    name: &str,
    construct: u64,
    swaps: Range<u64>,
) -> Result<(), Box<dyn Error>> {
    let plugin: Hotswap<FixtureRef> = Hotswap::load(path, &trust())?;
    let build = plugin.with(|it| it.build_a()());
    let call = |plugin: &Hotswap<FixtureRef>| {
        let (a, b) = plugin.with(|it| (it.build_a()(), it.build_b()()));
        assert_eq!((a, b), (build, build), "a wrong answer");
    };
    let run = |plugin: &Hotswap<FixtureRef>| {
        plugin.with(|it| it.text()(construct).map(drop).unwrap());
    };
    stress(plugin, path, name, call, run, swaps)
}

fn trust() -> Trust {
    let policy = Policy {
        any_owner: true,
        ..Policy::default()
    };
    // SAFETY: the files are the plugins of the tests, which keep the promises of `Trust::vouch`.
    unsafe { Trust::vouch(policy) }
}

/// Swaps under two threads that `call` without pause. Each generation also has to `run`, on a thread that lives on and
/// on a thread that ends.
fn stress<I: Interface + ?Sized>(
    plugin: Hotswap<I>,
    path: &Path,
    name: &str,
    call: impl Fn(&Hotswap<I>) + Sync,
    run: impl Fn(&Hotswap<I>) + Sync,
    swaps: Range<u64>,
) -> Result<(), Box<dyn Error>> {
    let (stop, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let caller = || {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            call(&plugin);
            count += 1;
            // On two cores, the threads that do the work need a turn.
            if count % 1_000 == 0 {
                thread::yield_now();
            }
        }
        calls.fetch_add(count, Ordering::Relaxed);
    };
    let started = Instant::now();
    let swap = || -> Result<(), Box<dyn Error>> {
        run(&plugin);
        thread::scope(|scope| scope.spawn(|| run(&plugin)).join())
            .map_err(|_| "a worker panicked")?;
        let retired = plugin.swap(path)?.retired;
        match plugin.wait(retired, Duration::from_secs(60)) {
            Some(State::Unloaded) => Ok(()),
            other => Err(format!("generation {retired}: {other:?}").into()),
        }
    };
    let (before, after) = thread::scope(|scope| {
        scope.spawn(caller);
        scope.spawn(caller);
        let measured = (|| {
            for _ in 0..swaps.start {
                swap()?;
            }
            let before = Resources::now();
            for _ in swaps.clone() {
                swap()?;
            }
            Ok::<_, Box<dyn Error>>((before, Resources::now()))
        })();
        stop.store(true, Ordering::Relaxed);
        measured
    })?;
    for (swaps, belongings, per_swap) in [
        (swaps.start, &before, String::new()),
        (swaps.end, &after, {
            let growth = after.resident_bytes as i64 - before.resident_bytes as i64;
            (growth / (swaps.end - swaps.start).max(1) as i64).to_string()
        }),
    ] {
        let Resources {
            resident_bytes,
            images,
            descriptors,
            threads,
            keys,
        } = belongings;
        eprintln!(
            "{name:22} {swaps:8} {:12} {:7} {:12} {per_swap:>10} {images:6} {descriptors:11} {threads:7} {keys:4}",
            calls.load(Ordering::Relaxed),
            started.elapsed().as_secs(),
            resident_bytes / 1024,
        );
    }
    let left = plugin.shutdown(Duration::from_secs(60));
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("still mapped: {left:?}").into())
    }
}
