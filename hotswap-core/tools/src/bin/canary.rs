//! Canaries on real calls, and a table of what became of them: `scripts/canary` runs it with a plugin of the tests
//! whose configuration says how long its calls take and how many of them fail.
//!
//! Ends with an error if a share is wrong, a rule decides otherwise than it should, or a call is lost.

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use hotswap_core::{
    Candidate, Hotswap, Policy, Settings, State, Trust,
    canary::{Canary, Decision, Rule, Share, Side, Step},
};
use hotswap_fixtures::workload::Workload;

type Plugin = Hotswap<dyn Workload>;
type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// What the plugin that is live is told: 200 µs a call, and none of them fails.
const GOOD: &str = "200 0";

const SOON: Duration = Duration::from_secs(60);

fn main() -> Result {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [path, seconds] = &arguments[..] else {
        return Err("usage: canary PLUGIN SECONDS".into());
    };
    let (path, seconds) = (PathBuf::from(path), seconds.parse()?);
    shares(&path)?;
    rules(&path)?;
    storm(&path, Duration::from_secs(seconds))?;
    dropped(&path)
}

fn load(path: &Path) -> Result<Plugin> {
    let policy = Policy {
        any_owner: true,
        ..Policy::default()
    };
    // SAFETY: the files are the plugins of the tests, which keep the promises of `Trust::vouch`.
    let trust = unsafe { Trust::vouch(policy) };
    let mut settings = Settings::default();
    settings.limits.drain_deadline = Duration::ZERO;
    let candidate = Candidate::new(path).with_config(GOOD);
    Ok(Hotswap::load_with(candidate, &trust, settings)?)
}

/// Begins a canary that is told this.
fn canary<'a>(
    plugin: &'a Plugin,
    path: &Path,
    config: &str,
    share: Share,
) -> Result<Canary<'a, dyn Workload>> {
    let candidate = Candidate::new(path).with_config(config);
    Ok(plugin.prepare(candidate)?.start_canary(share)?)
}

/// How many of a million choices are the candidate, and whether a key ever goes back.
fn shares(path: &Path) -> Result {
    const CHOICES: u64 = 1_000_000;
    println!("| share | of a million keys | of a million at random | keys that went back |");
    println!("|---|---|---|---|");
    let plugin = load(path)?;
    let canary = canary(&plugin, path, GOOD, Share::NONE)?;
    let mut on_candidate = vec![false; usize::try_from(CHOICES)?];
    for percent in [0, 1, 10, 50, 90, 100] {
        canary.set_share(Share::percent(percent));
        let (mut by_key, mut at_random, mut back) = (0_u64, 0_u64, 0);
        for (key, before) in on_candidate.iter_mut().enumerate() {
            let is_candidate = canary.choose(&key).side() == Side::Candidate;
            back += u64::from(*before && !is_candidate);
            *before = is_candidate;
            by_key += u64::from(is_candidate);
            at_random += u64::from(canary.choose_at_random().side() == Side::Candidate);
        }
        let ratio = |count: u64| 100.0 * count as f64 / CHOICES as f64;
        println!(
            "| {percent} % | {:.3} % | {:.3} % | {back} |",
            ratio(by_key),
            ratio(at_random)
        );
        let is_off = |count| (ratio(count) - f64::from(percent)).abs() > 1.0;
        if is_off(by_key) || is_off(at_random) || back > 0 {
            return Err("a share is wrong".into());
        }
    }
    println!();
    Ok(())
}

/// What the default rule decides on candidates of several kinds, with shorter steps.
fn rules(path: &Path) -> Result {
    println!(
        "| candidate | decision | after | calls of the candidate | of them faults | calls of the live side |"
    );
    println!("|---|---|---|---|---|---|");
    let (busy, rare) = (Duration::ZERO, Duration::from_millis(1));
    for (what, [live, candidate], pause, is_good) in [
        ("like the live one", [GOOD, GOOD], busy, true),
        ("5 % of its calls fail", [GOOD, "200 50"], busy, false),
        ("all of its calls fail", [GOOD, "200 1000"], busy, false),
        ("0.1 % of its calls fail", [GOOD, "200 1"], busy, true),
        ("30 % slower", [GOOD, "260 0"], busy, false),
        ("30 % faster", [GOOD, "140 0"], busy, true),
        // What is called rarely is out of the processor's caches when it is called.
        (
            "like the live one, short and rare",
            ["0 0", "0 0"],
            rare,
            true,
        ),
        ("30 % slower, rare", [GOOD, "260 0"], rare, false),
    ] {
        decide(path, what, [live, candidate], pause, is_good)?;
    }
    println!();
    Ok(())
}

/// Two callers, each of which pauses for so long between its calls.
fn decide(
    path: &Path,
    what: &str,
    [live, candidate]: [&str; 2],
    pause: Duration,
    is_good: bool,
) -> Result {
    let plugin = load(path)?;
    plugin.swap_config(live)?;
    let canary = canary(&plugin, path, candidate, Share::NONE)?;
    let soak = Duration::from_secs(1);
    let step = |percent| Step {
        share: Share::percent(percent),
        soak,
    };
    let mut rule = Rule {
        steps: [10, 50, 100].map(step).to_vec(),
        ..Rule::default()
    };
    if !pause.is_zero() {
        rule.steps.insert(0, step(1));
        rule.calls_min = 200;
    }
    let (started, stop) = (Instant::now(), AtomicBool::new(false));
    let decision = thread::scope(|scope| {
        for caller in 0..2 {
            let (plugin, stop) = (&plugin, &stop);
            scope.spawn(move || {
                let mut number = caller;
                while !stop.load(Relaxed) {
                    number += 2;
                    // What fails is counted, and no concern of this caller.
                    let _ = plugin.choose_at_random().call(|it| it.work(number));
                    thread::sleep(pause);
                }
            });
        }
        let decision = canary.run(rule);
        stop.store(true, Relaxed);
        decision
    });
    let (candidate, live) = (canary.figures(Side::Candidate), canary.figures(Side::Live));
    let (name, why) = match &decision {
        Decision::Promoted(_) => ("promoted", String::new()),
        Decision::Abandoned(error) => ("abandoned", format!(": {}", error.reason())),
    };
    println!(
        "| {what} | {name} | {:.1?} | {} | {} | {} |",
        started.elapsed(),
        candidate.calls,
        candidate.faults,
        live.calls
    );
    match decision {
        Decision::Promoted(_) if is_good => Ok(()),
        Decision::Abandoned(_) if !is_good => Ok(()),
        _ => Err(format!("{what}: {name}{why}").into()),
    }
}

/// Callers with several calls under each choice, beside canaries that are promoted and abandoned and plain swaps.
fn storm(path: &Path, time: Duration) -> Result {
    let plugin = load(path)?;
    let quick = "0 0";
    let stop = AtomicBool::new(false);
    let [requests, lost, mixed] = [(); 3].map(|()| AtomicU64::new(0));
    let (mut promoted, mut abandoned, mut swaps) = (0, 0, 0);
    let outcome = thread::scope(|scope| -> Result {
        for caller in 0..2 {
            let (plugin, stop, requests, lost, mixed) = (&plugin, &stop, &requests, &lost, &mixed);
            scope.spawn(move || {
                let mut key = caller;
                while !stop.load(Relaxed) {
                    key += 2;
                    let chosen = plugin.choose(&key);
                    let first = chosen.call(|it| it.identity());
                    for number in 1000..1003 {
                        let answer = chosen.call(|it| it.work(number));
                        lost.fetch_add(u64::from(answer != Ok(number)), Relaxed);
                        let identity = chosen.call(|it| it.identity());
                        mixed.fetch_add(u64::from(identity != first), Relaxed);
                    }
                    requests.fetch_add(1, Relaxed);
                }
            });
        }
        let started = Instant::now();
        let outcome = (|| -> Result {
            while started.elapsed() < time {
                let canary = canary(&plugin, path, quick, Share::percent(50))?;
                if swaps % 2 == 0 {
                    canary.promote();
                    promoted += 1;
                } else {
                    canary.abandon("it is told to");
                    abandoned += 1;
                }
                plugin.swap(path)?;
                swaps += 1;
            }
            Ok(())
        })();
        stop.store(true, Relaxed);
        outcome
    });
    outcome?;
    let [requests, lost, mixed] = [requests, lost, mixed].map(AtomicU64::into_inner);
    println!(
        "A storm of {time:?}: {requests} requests of seven calls, {promoted} canaries promoted, {abandoned} abandoned, \
         {swaps} swaps; {lost} calls lost, {mixed} requests on two generations."
    );
    let left = plugin.shutdown(SOON);
    if lost > 0 || mixed > 0 || !left.is_empty() {
        return Err(format!("not all went well; still mapped: {left:?}").into());
    }
    Ok(())
}

/// A canary that is dropped while choices on it are out.
fn dropped(path: &Path) -> Result {
    let plugin = load(path)?;
    let canary = canary(&plugin, path, "0 0", Share::ALL)?;
    let number = canary.generation();
    let chosen: Vec<_> = (0..1000).map(|key| canary.choose(&key)).collect();
    drop(canary);
    let answers = chosen
        .iter()
        .filter(|it| it.call(|it| it.work(1000)).is_ok())
        .count();
    let state = plugin.wait(number, Duration::from_millis(100));
    println!(
        "A canary dropped under {} choices: {answers} of them answer; {}.",
        chosen.len(),
        state.as_ref().map_or("gone".to_owned(), State::to_string)
    );
    drop(chosen);
    let state = plugin.wait(number, SOON);
    println!(
        "After the last of them: {}.",
        state.as_ref().map_or("gone".to_owned(), State::to_string)
    );
    if answers != 1000 || state != Some(State::Unloaded) {
        return Err("not all went well".into());
    }
    Ok(())
}
