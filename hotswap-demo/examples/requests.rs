//! Does a request that makes five calls get all its answers from one version, whatever is swapped meanwhile?
//!
//! ```sh
//! cargo run --release -p hotswap-demo --example requests -- ONE.so OTHER.so [SECONDS]
//! ```
//!
//! Three threads serve requests: one makes all five calls inside one `with`, one with a lease that it takes for
//! each request, and one makes each call by itself, for comparison. A fourth thread swaps between the two plugins
//! without pause. Ends with 1 if any request of the first two has seen both.

use std::{
    collections::BTreeMap,
    env,
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hotswap_core::{Hotswap, Policy, Trust};
use hotswap_types::Plugin;

/// What the five calls of one request are answered.
type Answers = [String; 5];

/// How many requests were answered so.
type Counts = BTreeMap<Answers, u64>;

fn main() -> Result<ExitCode> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let (paths, seconds) = match &arguments[..] {
        [one, other] => ([Path::new(one), Path::new(other)], 2),
        [one, other, seconds] => {
            let seconds = seconds.to_str().and_then(|seconds| seconds.parse().ok());
            (
                [Path::new(one), Path::new(other)],
                seconds.context("SECONDS is a number")?,
            )
        }
        _ => anyhow::bail!("usage: requests ONE.so OTHER.so [SECONDS]"),
    };
    let policy = Policy {
        any_owner: true,
        ..Policy::default()
    };
    // SAFETY: whoever runs the example vouches for the two plugins.
    let trust = unsafe { Trust::vouch(policy) };
    let plugin = Hotswap::load(paths[0], &trust)?;

    // What each version says when nobody swaps.
    let versions = paths.map(|path| plugin.swap(path).map(|_| plugin.with(request)));
    let [one, other] = versions;
    let versions = [one?, other?];
    ensure!(
        versions[0] != versions[1],
        "the two plugins give the same answers"
    );

    let stop = AtomicBool::new(false);
    let (swaps, counts) = thread::scope(|scope| {
        let serve = |answer: fn(&Hotswap<dyn Plugin>) -> Answers| {
            let (stop, plugin) = (&stop, &plugin);
            scope.spawn(move || {
                let mut counts = Counts::new();
                while !stop.load(Ordering::Relaxed) {
                    *counts.entry(answer(plugin)).or_default() += 1;
                }
                counts
            })
        };
        let servers = [
            serve(|plugin| plugin.with(request)),
            serve(|plugin| plugin.lease().with(request)),
            serve(|plugin| CALLS.map(|call| plugin.with(call))),
        ];
        let started = Instant::now();
        let mut swaps = 0_u64;
        let mut swap_all = || -> Result<()> {
            while started.elapsed() < Duration::from_secs(seconds) {
                plugin.swap(paths[swaps as usize % 2])?;
                swaps += 1;
            }
            Ok(())
        };
        let swapped = swap_all();
        stop.store(true, Ordering::Relaxed);
        let counts = servers.map(|server| server.join().expect("no server panics"));
        swapped.map(|()| (swaps, counts))
    })?;

    let mixed = |counts: &Counts| {
        let whole = versions.iter().filter_map(|version| counts.get(version));
        counts.values().sum::<u64>() - whole.sum::<u64>()
    };
    for (server, counts) in ["one with", "one lease", "each call by itself"]
        .iter()
        .zip(&counts)
    {
        let requests: u64 = counts.values().sum();
        println!(
            "{server}: {requests} requests, {} of them mixed",
            mixed(counts)
        );
    }
    println!("{swaps} swaps");
    Ok(if mixed(&counts[0]) + mixed(&counts[1]) == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

type Call = fn(&dyn Plugin) -> String;

/// Five calls that belong together.
const CALLS: [Call; 5] = [
    |plugin| plugin.some_data(),
    |plugin| plugin.some_fn(1),
    |plugin| plugin.some_fn(2),
    |plugin| plugin.some_fn(3),
    |plugin| plugin.some_data(),
];

fn request(plugin: &dyn Plugin) -> Answers {
    CALLS.map(|call| call(plugin))
}
