//! Candidates on live calls.

use std::{
    collections::HashSet,
    iter, mem, panic,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use futures_executor::block_on;
use futures_util::StreamExt;
use hotswap_core::{
    Error, ErrorKind, EventKind, Hotswap, Lease, Settings, Stage, State,
    canary::{Canary, Decision, Progress, Rollout, Rule, Share, Side, Step},
    event::Holder,
};
use hotswap_fixtures::{FixtureRef, rules::Rules, tasks::Tasks};
use hotswap_sdk::host::Interface;

use crate::{
    alone::alone,
    fixtures::{SOON, StopAtEnd, build_of, generation_of, load, load_with, plugin, trust, until},
};

const HALF: Share = Share::percent(50);

fn rules() -> Hotswap<dyn Rules> {
    rules_with(|_| {})
}

fn rules_with(change: impl FnOnce(&mut Settings<dyn Rules>)) -> Hotswap<dyn Rules> {
    let mut settings = Settings::default();
    change(&mut settings);
    Hotswap::load_with(plugin("rules_1"), &trust(), settings).expect("a good plugin")
}

/// A canary with this share.
#[track_caller]
fn canary(rules: &Hotswap<dyn Rules>, share: Share) -> Canary<'_, dyn Rules> {
    let prepared = rules.prepare(plugin("rules_2")).expect("a good plugin");
    prepared.start_canary(share).expect("the only one")
}

#[track_caller]
fn unloaded<I: Interface + ?Sized>(hotswap: &Hotswap<I>, generation: u64) {
    assert_eq!(hotswap.wait(generation, SOON), Some(State::Unloaded));
}

/// The lines of the events since the last time, without paths and times.
fn said<I: Interface + ?Sized>(hotswap: &Hotswap<I>) -> Vec<String> {
    let events = hotswap.events();
    let lines = events.try_iter().map(|event| event.to_string());
    let folder = plugin("rules_1").with_file_name("");
    let folder = folder.display().to_string();
    lines
        .map(|line| line.replace(&folder, ""))
        .filter(|line| !line.starts_with("unloaded"))
        .collect()
}

#[track_caller]
fn promoted(decision: Decision) -> u64 {
    match decision {
        Decision::Promoted(swapped) => swapped.generation,
        Decision::Abandoned(error) => panic!("{error}"),
    }
}

#[track_caller]
fn abandoned(decision: Decision) -> Error {
    match decision {
        Decision::Promoted(swapped) => panic!("{swapped:?}"),
        Decision::Abandoned(error) => error,
    }
}

/// A rule with one step of half the calls.
fn short_rule() -> Rule {
    let soak = Duration::from_secs(1);
    Rule {
        steps: vec![Step { share: HALF, soak }],
        calls_min: 100,
        // What the times are depends on the machine.
        latency_ratio_max: 1e9,
        ..Rule::default()
    }
}

/// A process of its own: a look at who holds a generation, in another test, may see a thread that is just choosing.
#[test]
fn each_share_of_the_keys_has_the_candidate() {
    alone("canary::each_share_of_the_keys_has_the_candidate", || {
        const KEYS: u32 = 100_000;
        let rules = rules();
        let canary = canary(&rules, Share::NONE);
        for percent in [0, 1, 10, 50, 99, 100] {
            canary.set_share(Share::percent(percent));
            let count = |is_candidate: &mut dyn FnMut(u32) -> bool| {
                let chosen = (0..KEYS).filter(|key| is_candidate(*key));
                f64::from(u32::try_from(chosen.count()).unwrap()) / f64::from(KEYS)
            };
            let by_key = count(&mut |key| canary.choose(&key).side() == Side::Candidate);
            let at_random = count(&mut |_| rules.choose_at_random().side() == Side::Candidate);
            let expected = f64::from(percent) / 100.0;
            // Six times the deviation of half the keys.
            for found in [by_key, at_random] {
                assert!((found - expected).abs() < 0.01, "{expected}: {found}");
            }
            if [0, 100].contains(&percent) {
                assert_eq!((by_key, at_random), (expected, expected));
            }
        }
    });
}

#[test]
fn a_key_stays_on_the_candidate_while_the_share_grows() {
    let rules = rules();
    let canary = canary(&rules, Share::NONE);
    let mut before = HashSet::new();
    for percent in [1, 2, 10, 50, 90, 100] {
        canary.set_share(Share::percent(percent));
        let of_candidate = |user: &u32| {
            let key = format!("user {user}");
            let sides = [0; 3].map(|_| canary.choose(&*key).side());
            assert!(sides.iter().all(|side| *side == sides[0]), "{sides:?}");
            sides[0] == Side::Candidate
        };
        let now: HashSet<u32> = (0..2000).filter(of_candidate).collect();
        assert!(now.is_superset(&before), "{percent}%");
        before = now;
    }
    assert_eq!(before.len(), 2000);
}

#[test]
fn another_canary_gets_other_keys_first() {
    let rules = rules();
    let of_candidate = || -> HashSet<u32> {
        let canary = canary(&rules, HALF);
        let chosen = (0..1000).filter(|key| canary.choose(key).side() == Side::Candidate);
        chosen.collect()
    };
    assert_ne!(of_candidate(), of_candidate());
}

#[test]
fn a_choice_stays_on_its_generation() {
    let rules = rules();
    let canary = canary(&rules, Share::ALL);
    let chosen = canary.choose("Ada");
    assert_eq!((chosen.side(), chosen.generation()), (Side::Candidate, 2));
    assert_eq!(chosen.call(|it| it.build()), Ok(2));
    // Calls that are not under a choice reach the live generation.
    assert_eq!(rules.call(|it| it.build()), Ok(1));
    assert_eq!(rules.lease().call(|it| it.build()), Ok(1));

    canary.abandon("another time");
    assert_eq!(chosen.call(|it| it.build()), Ok(2));
    let next = rules.choose("Ada");
    assert_eq!(
        (next.side(), next.call(|it| it.build())),
        (Side::Live, Ok(1))
    );
    drop(chosen);
    unloaded(&rules, 2);
}

#[test]
fn what_is_promoted_is_a_generation_like_any_other() {
    let rules = rules_with(|settings| {
        settings.probation = Some(Duration::from_secs(3600));
        settings.probation_faults_max = 0;
    });
    let canary = canary(&rules, HALF);
    let entry = generation_of(&rules, 2);
    assert_eq!(entry.state, State::Canary { share: HALF });
    assert_eq!(promoted(canary.promote()), 2);
    assert_eq!(rules.call(|it| it.build()), Ok(2));
    assert_eq!(generation_of(&rules, 2).state, State::Live);
    assert_eq!(generation_of(&rules, 1).state, State::Standby);
    // It is decided once.
    assert_eq!(promoted(canary.abandon("too late")), 2);
    canary.set_share(Share::NONE);
    drop(canary);
    assert_eq!(
        said(&rules),
        [
            "accepted generation 1: librules_1.so",
            "canary generation 2 gets 50% of the calls: librules_2.so",
            "accepted generation 2: librules_2.so",
            "standby generation 1: while generation 2 is on probation",
        ]
    );
    let back = rules.report_fault(2, "no").expect("on probation");
    assert_eq!((back.generation, back.retired), (1, 2));
    unloaded(&rules, 2);
    assert_eq!(rules.swap(plugin("rules_2")).unwrap().generation, 3);
}

#[test]
fn what_is_abandoned_is_refused_with_its_figures() {
    let rules = rules();
    let canary = canary(&rules, Share::ALL);
    for _ in 0..3 {
        canary.choose("Ada").call(|it| it.build()).unwrap();
    }
    let chosen = canary.choose("Ada");
    let fault = chosen.call(|it| it.panic("no")).unwrap_err();
    assert_eq!(fault.generation, Some(2));
    chosen.report_fault();
    let error = abandoned(canary.abandon("I do not like it"));
    assert_eq!(error.stage(), Stage::Canary);
    assert!(error.is_transient());
    let path = plugin("rules_2");
    let line = format!("abandoned {path:?}: canary: I do not like it (the candidate had ");
    assert!(error.to_string().starts_with(&line), "{error}");
    assert!(
        error
            .to_string()
            .ends_with("; the live side had 0 calls, 0 faults)"),
        "{error}"
    );
    let ErrorKind::Abandoned {
        reason,
        candidate,
        live,
        ..
    } = error.kind()
    else {
        panic!("{error}");
    };
    assert_eq!(reason, "I do not like it");
    assert_eq!((candidate.calls, candidate.faults), (4, 2));
    assert_eq!((live.calls, live.faults), (0, 0));
    assert_eq!(abandoned(canary.promote()), error);

    let refused = &rules.refused()[0];
    assert_eq!(refused.generation, Some(2));
    let line = refused.to_string();
    assert!(
        line.contains("canary: I do not like it (the candidate had 4 calls, 2 faults, p50 "),
        "{line}"
    );
    assert!(line.ends_with("; generation 1 stays live"), "{line}");
    let json = serde_json::to_value(refused).unwrap();
    assert_eq!(json["data"]["candidate"]["calls"], 4, "{json}");

    // Its choice holds it.
    assert!(matches!(
        generation_of(&rules, 2).state,
        State::Draining { .. }
    ));
    drop(chosen);
    unloaded(&rules, 2);
    assert_eq!(rules.call(|it| it.build()), Ok(1));
}

#[test]
fn choices_that_are_out_hold_a_canary_that_is_dropped() {
    let rules = rules_with(|settings| settings.limits.drain_deadline = Duration::ZERO);
    let canary = canary(&rules, Share::ALL);
    let chosen: Vec<_> = (0..1000).map(|key| canary.choose(&key)).collect();
    drop(canary);
    let held = State::Draining {
        held_by: vec![Holder::Leases { count: 1000 }],
    };
    until(|| generation_of(&rules, 2).state == held);
    for chosen in &chosen {
        assert_eq!(chosen.call(|it| it.build()), Ok(2));
    }
    assert_eq!(rules.choose("Ada").call(|it| it.build()), Ok(1));
    drop(chosen);
    unloaded(&rules, 2);
    let reason = rules.refused()[0].to_string();
    assert!(
        reason.contains("canary: the host has dropped it"),
        "{reason}"
    );
}

#[test]
fn there_is_one_at_a_time() {
    let rules = rules();
    let first = canary(&rules, HALF);
    let second = rules.prepare(plugin("rules_2")).unwrap();
    let error = second.start_canary(HALF).expect_err("the second");
    assert_eq!(
        error.reason(),
        "host: another candidate is a canary already"
    );
    drop(first);
    assert_eq!(canary(&rules, HALF).generation(), 3);
}

#[test]
fn swaps_and_rollbacks_go_on_beside_it() {
    let rules = rules();
    let canary = canary(&rules, HALF);
    assert_eq!(rules.swap(plugin("rules_1")).unwrap().generation, 3);
    unloaded(&rules, 1);
    assert_eq!(rules.swap_config("").unwrap().generation, 4);
    assert_eq!(rules.rollback().unwrap().retired, 4);
    let live = rules.with(|it| it.build());
    assert_eq!(live, 1);
    assert!(matches!(
        generation_of(&rules, 2).state,
        State::Canary { .. }
    ));
    assert_eq!(promoted(canary.promote()), 2);
    assert_eq!(rules.with(|it| it.build()), 2);
    // Back to what it has replaced.
    rules.rollback().unwrap();
    assert_eq!(rules.with(|it| it.build()), 1);
}

#[test]
fn a_candidate_that_fails_is_abandoned_by_the_rule() {
    let rules = rules();
    let canary = canary(&rules, Share::NONE);
    let rule = Rule {
        calls_min: 1000,
        ..short_rule()
    };
    let mut rollout = Rollout::new(rule);
    let now = Instant::now();
    let mut failed = 0;
    let mut advance = || rollout.advance(&canary, now);
    let error = loop {
        if let Progress::Decided(decision) = advance() {
            break abandoned(decision);
        }
        // One in twenty of the candidate's calls.
        let chosen = rules.choose_at_random();
        let calls = canary.figures(Side::Candidate).calls;
        if chosen.side() == Side::Candidate && calls % 20 == 19 {
            failed += 1;
            chosen.call(|it| it.panic("no")).unwrap_err();
        } else {
            chosen.call(|it| it.build()).unwrap();
        }
    };
    // At the eleventh of the ten that are accepted of a thousand.
    assert_eq!(failed, 11);
    let ErrorKind::Abandoned { candidate, .. } = error.kind() else {
        panic!("{error}");
    };
    assert_eq!((candidate.calls, candidate.faults), (220, 11));
    unloaded(&rules, 2);
    assert_eq!(rules.with(|it| it.build()), 1);
}

#[test]
fn a_good_candidate_is_promoted_by_the_rule() {
    let rules = rules();
    let canary = canary(&rules, Share::NONE);
    let soak = Duration::from_secs(60);
    let shares = [1, 10, 50, 100].map(Share::percent);
    let rule = Rule {
        steps: shares.map(|share| Step { share, soak }).to_vec(),
        ..short_rule()
    };
    let mut rollout = Rollout::new(rule);
    let mut now = Instant::now();
    for share in shares {
        let progress = rollout.advance(&canary, now);
        assert!(matches!(progress, Progress::Soaking(step) if step.share == share));
        assert_eq!(canary.share(), share);
        // The time alone is not enough, and neither are the calls alone.
        let progress = rollout.advance(&canary, now + 2 * soak);
        assert!(matches!(progress, Progress::Soaking(step) if step.share == share));
        let before = canary.figures(Side::Candidate).calls;
        while canary.figures(Side::Candidate).calls < before + 100 {
            rules.choose_at_random().call(|it| it.build()).unwrap();
        }
        let progress = rollout.advance(&canary, now + soak / 2);
        assert!(matches!(progress, Progress::Soaking(step) if step.share == share));
        now += soak;
    }
    let Progress::Decided(decision) = rollout.advance(&canary, now) else {
        panic!("not decided");
    };
    assert_eq!(promoted(decision), 2);
    assert_eq!(
        said(&rules)[1..],
        [
            "canary generation 2 gets 0% of the calls: librules_2.so",
            "canary generation 2 gets 1% of the calls: librules_2.so",
            "canary generation 2 gets 10% of the calls: librules_2.so",
            "canary generation 2 gets 50% of the calls: librules_2.so",
            "canary generation 2 gets 100% of the calls: librules_2.so",
            "accepted generation 2: librules_2.so",
        ]
    );
}

#[test]
fn a_step_begins_anew_with_another_live_generation() {
    let rules = rules();
    let canary = canary(&rules, Share::NONE);
    let mut rollout = Rollout::new(short_rule());
    let now = Instant::now();
    rollout.advance(&canary, now);
    for _ in 0..1000 {
        rules.choose_at_random().call(|it| it.build()).unwrap();
    }
    rules.swap(plugin("rules_1")).unwrap();
    let later = now + Duration::from_secs(10);
    for _ in 0..2 {
        let progress = rollout.advance(&canary, later);
        assert!(matches!(progress, Progress::Soaking(_)), "{progress:?}");
    }
}

#[test]
fn a_rollout_begins_anew_with_another_canary() {
    let rules = rules();
    let mut rollout = Rollout::new(short_rule());
    let now = Instant::now();
    for _ in 0..2 {
        let canary = canary(&rules, Share::NONE);
        for later in [0, 10] {
            let now = now + Duration::from_secs(later);
            let progress = rollout.advance(&canary, now);
            assert!(matches!(progress, Progress::Soaking(_)), "{progress:?}");
            assert_eq!(canary.share(), HALF);
            for _ in 0..50 {
                rules.choose_at_random().call(|it| it.build()).unwrap();
            }
        }
        canary.abandon("no");
    }
}

#[test]
fn a_rule_that_cannot_be_followed_is_refused_at_once() {
    let check = |change: fn(&mut Rule), expected: &str| {
        let mut rule = Rule::default();
        change(&mut rule);
        let panicked = panic::catch_unwind(|| Rollout::new(rule)).expect_err("no rule");
        let found = panicked.downcast_ref::<String>().expect("a message");
        assert_eq!(found, expected);
    };
    check(
        |it| it.latency_quantile = 2.0,
        "latency_quantile of a rule is from 0 to 1, and not 2",
    );
    check(
        |it| it.latency_ratio_max = f64::NAN,
        "latency_ratio_max of a rule is at least 0, and not NaN",
    );
    check(
        |it| it.fault_ratio_excess_max = -0.5,
        "fault_ratio_excess_max of a rule is at least 0, and not -0.5",
    );
}

#[test]
fn a_canary_that_is_forgotten_ends_with_its_swap_point() {
    for is_shut_down in [false, true] {
        let rules = rules();
        let events = rules.events();
        mem::forget(canary(&rules, HALF));
        if is_shut_down {
            let mapped = rules.shutdown(SOON);
            assert!(mapped.is_empty(), "{mapped:?}");
        } else {
            drop(rules);
        }
        // The queue ends when everything is unloaded.
        let all = iter::from_fn(|| events.recv_timeout(SOON).ok());
        let unloaded = all.filter(|event| matches!(event.kind, EventKind::Unloaded { .. }));
        assert_eq!(unloaded.count(), 2);
    }
}

#[test]
fn a_canary_whose_event_panics_goes_on() {
    struct Panicking;
    impl Wake for Panicking {
        fn wake(self: Arc<Self>) {
            panic!("as it is to");
        }
    }
    let rules = rules();
    let prepared = rules.prepare(plugin("rules_2")).unwrap();
    let mut events = rules.event_stream();
    let waker = Waker::from(Arc::new(Panicking));
    let mut context = Context::from_waker(&waker);
    while events.poll_next_unpin(&mut context).is_ready() {}
    let canary = prepared.start_canary(HALF).unwrap();
    assert_eq!(canary.generation(), 2);
    assert_eq!(promoted(canary.promote()), 2);
}

#[test]
fn whoever_runs_a_rule_is_told_what_another_thread_decides() {
    let rules = rules();
    let canary = canary(&rules, HALF);
    let rule = || Rule {
        calls_min: u64::MAX,
        ..short_rule()
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..2).map(|_| scope.spawn(|| canary.run(rule()))).collect();
        canary.promote();
        for running in running {
            assert_eq!(promoted(running.join().unwrap()), 2);
        }
    });
}

#[test]
fn async_calls_are_counted_when_they_are_ready() {
    let tasks: Arc<Hotswap<dyn Tasks>> =
        Arc::new(Hotswap::load(plugin("tasks_1"), &trust()).unwrap());
    let prepared = block_on(tasks.prepare_async(plugin("tasks_2"))).unwrap();
    let canary = prepared.start_canary(Share::ALL).unwrap();
    let chosen = canary.choose("Ada");
    let sum = block_on(chosen.call_async(|it| it.add(1, 2)));
    assert_eq!(sum, Ok(5));
    block_on(chosen.call_async(|it| it.fail(1))).unwrap_err();
    // One that is cancelled is not.
    drop(chosen.call_async(|it| it.add(1, 2)));
    let figures = canary.figures(Side::Candidate);
    assert_eq!((figures.calls, figures.faults), (2, 1));

    // A future holds what it runs on.
    let future = chosen.call_async(|it| it.add(1, 2));
    drop(chosen);
    canary.abandon("no");
    assert!(matches!(
        generation_of(&tasks, 2).state,
        State::Draining { .. }
    ));
    assert_eq!(block_on(future), Ok(5));
    unloaded(&tasks, 2);
}

#[test]
fn a_root_module_of_ones_own_has_canaries_too() {
    let it = load("build_1");
    let canary = it.prepare(plugin("build_2")).unwrap();
    let canary = canary.start_canary(Share::ALL).unwrap();
    let build = canary.choose("Ada").with(|it| it.build_a()());
    assert_eq!((build, build_of(&it)), (2, 1));
    assert_eq!(canary.figures(Side::Candidate).calls, 1);
}

/// Every choice finds one of the two builds, and only that one.
#[test]
fn nothing_is_lost_in_a_storm_of_canaries_and_swaps() {
    alone(
        "canary::nothing_is_lost_in_a_storm_of_canaries_and_swaps",
        || {
            const ROUNDS: u64 = 60;
            let it = load_with("build_1", |settings| settings.limits.ended_max = 3);
            let stop = AtomicBool::new(false);
            let calls = AtomicU64::new(0);
            thread::scope(|scope| {
                let _stop = StopAtEnd(&stop);
                for caller in 0..2_u64 {
                    let (it, stop, calls) = (&it, &stop, &calls);
                    scope.spawn(move || {
                        let mut key = caller;
                        while !stop.load(Relaxed) {
                            key += 2;
                            let chosen = it.choose(&key);
                            let builds = [0; 4].map(|_| chosen.with(|it| it.build_a()()));
                            assert!(builds.iter().all(|build| *build == builds[0]));
                            assert!([1, 2].contains(&builds[0]));
                            calls.fetch_add(1, Relaxed);
                        }
                    });
                }
                for round in 0..ROUNDS {
                    let names = ["build_1", "build_2"];
                    let name = names[usize::try_from(round % 2).unwrap()];
                    let canary = it
                        .prepare(plugin(name))
                        .unwrap()
                        .start_canary(HALF)
                        .unwrap();
                    let before = calls.load(Relaxed);
                    until(|| calls.load(Relaxed) > before + 10);
                    match round % 4 {
                        0 | 1 => drop(canary.promote()),
                        2 => drop(canary.abandon("no")),
                        _ => {
                            it.swap(plugin("build_1")).unwrap();
                            drop(canary);
                        }
                    }
                }
            });
            let last = it.generations().last().unwrap().number;
            for number in 1..last {
                let state = it.wait(number, SOON);
                assert!(
                    matches!(state, None | Some(State::Unloaded | State::Live)),
                    "{number}: {state:?}"
                );
            }
        },
    );
}

#[test]
fn its_leases_are_recorded_as_others_are() {
    let it: Hotswap<FixtureRef> = load_with("build_1", |settings| {
        settings.record_leases = true;
        settings.limits.drain_deadline = Duration::ZERO;
    });
    let prepared = it.prepare(plugin("build_2")).unwrap();
    let canary = prepared.start_canary(Share::ALL).unwrap();
    let line = line!() + 1;
    let chosen = canary.choose("Ada");
    let lease: &Lease<FixtureRef> = chosen.lease();
    assert_eq!(lease.number(), 2);
    drop(canary);
    let is_held_here = || match generation_of(&it, 2).state {
        State::Draining { held_by } => held_by.iter().any(|holder| match holder {
            Holder::Lease { place, .. } => place.line() == line && place.file() == file!(),
            _ => false,
        }),
        _ => false,
    };
    until(is_held_here);
}
