//! Start, restart and stop in every order, against swaps, rollbacks and the end.

use std::{
    collections::BTreeMap, path::Path, sync::atomic::Ordering::SeqCst, thread, time::Duration,
};

use hotswap_core::{EventKind, Stage, services::ServiceChange};
use hotswap_fixtures::services::Tally;

use super::{Host, until};
use crate::fixtures::SOON;

/// A few numbers that are the same whenever the seed is.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        // xorshift64*, as in Marsaglia, *Xorshift RNGs*.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }
}

const NAMES: [&str; 4] = ["one", "two", "three", "four"];

/// What the last of all the updates says of each name.
type Wanted = BTreeMap<&'static str, Option<u64>>;

/// An update of some random words.
fn script(random: &mut Random, word: u64, wanted: &mut Wanted) -> String {
    let mut lines = Vec::new();
    for _ in 0..=random.below(4) {
        let name = NAMES[random.below(NAMES.len() as u64) as usize];
        match random.below(5) {
            0 => {
                lines.push(format!("start {name} {word}"));
                wanted.entry(name).or_default().get_or_insert(word);
            }
            it @ 1..4 => {
                let how = if it == 1 { "restart" } else { "slow" };
                lines.push(format!("{how} {name} {word}"));
                wanted.insert(name, Some(word));
            }
            _ => {
                lines.push(format!("stop {name}"));
                wanted.insert(name, None);
            }
        }
    }
    lines.join("\n")
}

#[test]
fn no_name_runs_twice_and_what_was_asked_for_last_runs() {
    for seed in 1..=4 {
        let mut random = Random(seed);
        let mut host = Host::with("", |settings| {
            settings.probation = (seed % 2 == 0).then_some(SOON);
            settings.limits.events_max = 100_000;
        });
        let mut wanted = Wanted::new();
        let shares: Vec<_> = (0..60)
            .map(|word| round(&host, &mut random, word, &mut wanted))
            .collect();
        assert!(shares.contains(&true), "nothing was swapped");

        for (name, word) in &wanted {
            let Some(word) = word else { continue };
            until(|| host.tally(name, |it| it.inside.load(SeqCst)) == 1);
            until(|| host.tally(name, |it| it.word.load(SeqCst)) == *word);
        }
        let running = wanted.values().flatten().count();
        until(|| host.plugin().services().len() == running);
        for name in wanted.keys() {
            let tally = host
                .plugin()
                .with_ref(&format!("{name}.tally"), |it: &Tally| it.most.load(SeqCst));
            // One that was only ever stopped has none.
            assert!(
                tally.unwrap().is_none_or(|most| most <= 1),
                "seed {seed}: {name}"
            );
        }
        ended(&mut host, seed);
    }
}

/// One change: `true` if there was a swap.
fn round(host: &Host, random: &mut Random, word: u64, wanted: &mut Wanted) -> bool {
    let mut after = wanted.clone();
    let script = script(random, word, &mut after);
    match random.below(8) {
        // In vain.
        0 => {
            host.swap(&format!("{script}\nfail on purpose"))
                .unwrap_err();
            false
        }
        // Prepared, and forgotten.
        1 => {
            let path = host.files.with(&script);
            drop(host.plugin().prepare(path).unwrap());
            false
        }
        // At the same time as others try.
        2 => {
            let paths = [host.files.with(&script), host.files.with("fail at once")];
            let plugin = host.plugin();
            thread::scope(|scope| {
                let fails = scope.spawn(|| plugin.swap(&paths[1]).unwrap_err());
                plugin.swap(&paths[0]).unwrap();
                fails.join().unwrap();
            });
            *wanted = after;
            true
        }
        _ => {
            host.swap(&script).unwrap();
            *wanted = after;
            // Sometimes there is time for something to begin.
            if random.below(2) == 0 {
                thread::sleep(Duration::from_micros(random.below(2_000)));
            }
            true
        }
    }
}

/// Nothing runs when the shutdown has returned, and whatever has begun has ended.
fn ended(host: &mut Host, seed: u64) {
    let events = &host.events;
    let mapped = host.plugin.take().unwrap().shutdown(SOON);
    assert!(mapped.is_empty(), "seed {seed}: {mapped:?}");
    let mut running: BTreeMap<String, i64> = BTreeMap::new();
    for event in events.try_iter() {
        let EventKind::Service { name, change, .. } = event.kind else {
            continue;
        };
        let count = running.entry(name.clone()).or_default();
        match change {
            ServiceChange::Started => *count += 1,
            ServiceChange::Stopped { .. } | ServiceChange::Ended { .. } => *count -= 1,
            _ => {}
        }
        assert!((0..=1).contains(count), "seed {seed}: {name}");
    }
    assert!(
        running.values().all(|count| *count == 0),
        "seed {seed}: {running:?}"
    );
}

#[test]
fn swaps_from_many_threads_while_services_come_and_go_and_faults_are_reported() {
    for probation in [None, Some(SOON)] {
        let mut host = Host::with("start one 0", |settings| {
            settings.limits.events_max = 100_000;
            settings.probation = probation;
        });
        let scripts = [
            "restart one 1",
            "stop one",
            "start one 2\nslow two 2",
            "stop two\nstart one 3",
        ];
        let paths = scripts.map(|script| host.files.with(script));
        let plugin = host.plugin();
        let swap = |path: &Path| {
            // A fault may have its update under way.
            while let Err(error) = plugin.swap(path) {
                assert_eq!(error.stage(), Stage::Host, "{error}");
            }
        };
        thread::scope(|scope| {
            for path in &paths {
                scope.spawn(|| (0..25).for_each(|_| swap(path)));
            }
            // And somebody who goes back, when there is something to go back to, and somebody who finds faults.
            scope.spawn(|| (0..25).for_each(|_| drop(plugin.rollback())));
            scope.spawn(|| {
                for _ in 0..200 {
                    plugin.with(|it| {
                        let _ = plugin.report_fault(it.number(), "it lies");
                    });
                    thread::sleep(Duration::from_millis(2));
                }
            });
        });
        for name in ["one", "two", "updates"] {
            let most = host.tally(name, |it| it.most.load(SeqCst));
            assert!(most <= 1, "{name}: {most} at once");
        }
        assert!(host.begun("updates") > 100);
        ended(&mut host, 0);
    }
}
