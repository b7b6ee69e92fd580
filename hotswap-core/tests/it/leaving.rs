//! What is left when a generation, or the whole swap point, has gone.

use std::{
    io,
    os::fd::IntoRawFd,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use hotswap_core::{EventKind, Hotswap, State, event::PinReason};
use hotswap_fixtures::constructs::{CONSTRUCTS, START_UNNAMED, until_closed};

use crate::{
    alone::{alone, alone_with},
    fixtures::{
        Plugin, SOON, build_of, load, load_with, plain_plugin, plugin, shows_keys, trust, unloaded,
    },
    process::{images, open_descriptors, openers, status_of, threads},
};

#[test]
fn dropping_while_leases_are_out_is_safe_and_does_not_wait() {
    alone(
        "leaving::dropping_while_leases_are_out_is_safe_and_does_not_wait",
        || {
            let it = load("build_1");
            let events = it.events();
            let lease = it.lease();
            it.swap(plugin("build_2")).unwrap();
            let second = it.lease();
            drop(it);
            assert_eq!(
                (
                    lease.with(|it| it.build_a()()),
                    second.with(|it| it.build_b()())
                ),
                (1, 2)
            );
            assert_eq!(images().len(), 2);
            drop((lease, second));
            // The last sender of events is gone when the reaper is.
            let left = events
                .iter()
                .filter(|event| matches!(event.kind, EventKind::Unloaded { .. }))
                .count();
            assert_eq!((left, images().len()), (2, 0));
        },
    );
}

#[test]
fn a_thread_on_which_an_image_left_nothing_opens_the_next() {
    let left = |(name, _): &(&str, _)| *name == "thread_local_drop";
    let left = CONSTRUCTS.iter().position(left).unwrap().to_string();
    alone_with(
        "leaving::a_thread_on_which_an_image_left_nothing_opens_the_next",
        &[("HOTSWAP_CONSTRUCTOR", &left)],
        || {
            let it = load("constructs_unloadable");
            let swap = |name| unloaded(&it, it.swap(plugin(name)).unwrap().retired);
            swap("constructs_unloadable");
            let two = openers();
            assert_eq!(two.len(), 2, "that of the live image, and a spare one");
            for _ in 0..20 {
                swap("constructs_unloadable");
            }
            assert_eq!(openers(), two);

            // Its constructor leaves a destructor for the end of the thread.
            swap("unloadable_in_a_constructor");
            swap("constructs_unloadable");
            let now = openers();
            assert!(now.len() <= 2 && now != two, "{now:?}, {two:?}");
            assert!(it.shutdown(SOON).is_empty());
            assert_eq!(openers().len(), 0);
        },
    );
}

/// A candidate's initialisers and threads would inherit it.
#[test]
fn a_thread_whose_state_an_image_changed_opens_no_other() {
    alone(
        "leaving::a_thread_whose_state_an_image_changed_opens_no_other",
        || {
            let blocked = |thread: Option<&str>| status_of(thread, "SigBlk:");
            let before = blocked(None);
            let it = load("blocks_signals");
            let [opener] = Vec::from_iter(openers()).try_into().unwrap();
            assert_ne!(blocked(Some(&opener)), before);
            for _ in 0..2 {
                let retired = it.swap(plugin("build_1")).unwrap().retired;
                unloaded(&it, retired);
            }
            for opener in openers() {
                assert_eq!(blocked(Some(&opener)), before);
            }
        },
    );
}

#[test]
fn shutdown_waits_and_leaves_nothing() {
    alone("leaving::shutdown_waits_and_leaves_nothing", || {
        let before = (open_descriptors(), threads());
        let it = load("build_1");
        for _ in 0..3 {
            it.swap(plugin("build_2")).unwrap();
            it.swap(plugin("changed_type")).unwrap_err();
            it.swap(plugin("failing_constructor")).unwrap_err();
            build_of(&it);
        }
        let lease = it.lease();
        let releaser = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            drop(lease);
        });
        let mapped = it.shutdown(SOON);
        assert!(mapped.is_empty(), "{mapped:?}");
        releaser.join().unwrap();
        assert_eq!(images(), []);
        assert_eq!((open_descriptors(), threads()), before);
    });
}

/// A refused candidate is in no list, and stays for as long as a thread of its own runs.
#[test]
fn shutdown_waits_for_a_refused_candidate_no_longer_than_it_may() {
    let (pipe, ends) = io::pipe().unwrap();
    let request = until_closed(START_UNNAMED, pipe.into_raw_fd());
    let it = load_with("build_1", |settings| {
        settings.probe = Some(Arc::new(move |candidate, live| {
            if live.is_none() {
                return Ok(());
            }
            candidate.text()(request).map(drop).unwrap();
            Err("refused".into())
        }));
    });
    it.swap(plugin("constructs_unloadable")).unwrap_err();
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || done.send(it.shutdown(Duration::from_millis(300))));
    let mapped = is_done.recv_timeout(SOON);
    drop(ends);
    // How far the live generation has come by then is another matter.
    mapped.expect("it waits for the thread");
}

/// Whoever shuts down may be the thread that is waited for.
#[test]
fn shutdown_leaves_the_plugin_too_and_may_wait_for_ever() {
    let it = load("constructs_unloadable");
    let place = hotswap_fixtures::constructs::CONSTRUCTS
        .iter()
        .position(|(name, _)| *name == "thread_local_drop");
    it.with(|it| it.text()(place.unwrap() as u64).map(drop).unwrap());
    assert!(it.shutdown(Duration::MAX).is_empty());
}

#[test]
fn shutdown_says_what_is_still_held() {
    // The holders are found out some milliseconds after it was retired, or later on a slow machine.
    let mut timeout = Duration::from_millis(50);
    let (lease, events) = loop {
        let it = load("build_1");
        let events = it.events();
        let lease = it.lease();
        let mapped = it.shutdown(timeout);
        assert_eq!(mapped.len(), 1);
        let said = mapped[0].to_string();
        let path = plugin("build_1");
        if said != format!("generation 1 draining: {}", path.display()) || timeout > SOON {
            let path = path.display();
            assert_eq!(
                said,
                format!("generation 1 draining, held by 1 lease: {path}")
            );
            break (lease, events);
        }
        timeout *= 2;
    };
    assert_eq!(lease.with(|it| it.build_a()()), 1);
    drop(lease);
    let last = events.iter().last().unwrap();
    assert!(
        matches!(last.kind, EventKind::Unloaded { .. }) && last.generation == Some(1),
        "{last:?}"
    );
}

#[test]
fn an_image_that_a_thread_keeps_is_reported_as_pinned_and_leaves_after_the_thread() {
    let it: Plugin = Hotswap::load(plain_plugin("thread_local_with_drop"), &trust()).unwrap();
    let it = Arc::new(it);
    let (touched, wait_touched) = mpsc::channel();
    let (end, wait_end) = mpsc::channel::<()>();
    let toucher = thread::spawn({
        let it = Arc::clone(&it);
        move || {
            touched
                .send(it.with(|it| {
                    it.text()(1)
                        .into_result()
                        .map(String::from)
                        .map_err(String::from)
                }))
                .unwrap();
            wait_end.recv().unwrap();
        }
    });
    assert_eq!(
        wait_touched.recv().unwrap(),
        Ok("build 9 says 1".to_owned())
    );
    it.swap(plugin("build_1")).unwrap();
    if !shows_keys() {
        // It has no key, and it stays for those that it may have.
        let reason = PinReason::MayHaveKeys;
        assert_eq!(it.wait(1, SOON), Some(State::Pinned { reason }));
        end.send(()).unwrap();
        return toucher.join().unwrap();
    }
    assert_eq!(
        it.wait(1, SOON),
        Some(State::Pinned {
            reason: PinReason::ThreadLocals
        })
    );
    let events = it.events();
    let event = events.try_iter().last().unwrap();
    assert_eq!(
        event.to_string(),
        "pinned generation 1: a living thread has yet to run a destructor of one of its thread-locals"
    );
    end.send(()).unwrap();
    toucher.join().unwrap();
    let event = events.recv_timeout(SOON).unwrap();
    assert!(
        matches!(event.kind, EventKind::Unloaded { .. }) && event.generation == Some(1),
        "{event:?}"
    );
    unloaded(&it, 1);
}

#[test]
fn events_that_nobody_receives_are_counted() {
    let it = crate::fixtures::load_with("build_1", |settings| settings.limits.events_max = 2);
    for _ in 0..4 {
        it.swap("/none.so").unwrap_err();
    }
    let events = it.events();
    assert_eq!(events.try_iter().count(), 2);
    it.swap("/none.so").unwrap_err();
    let kept: Vec<_> = events.try_iter().map(|event| event.to_string()).collect();
    assert_eq!(kept[0], "missed 3 events: they were not received in time");
    assert_eq!(
        kept[1],
        "refused /none.so: open: no such file; generation 1 stays live"
    );
    assert_eq!(kept.len(), 2);
}

#[test]
fn at_least_one_event_is_kept() {
    for max in [0, 1] {
        let it = crate::fixtures::load_with("build_1", |settings| settings.limits.events_max = max);
        it.swap("/none.so").unwrap_err();
        let events = it.events();
        let kept = || {
            let kept: Vec<_> = events.try_iter().map(|event| event.to_string()).collect();
            kept
        };
        let [first] = &kept()[..] else { panic!() };
        assert!(first.starts_with("accepted generation 1"), "{first}");
        it.swap("/none.so").unwrap_err();
        let refused = "refused /none.so: open: no such file; generation 1 stays live";
        let missed = "missed 1 events: they were not received in time";
        assert_eq!(kept(), [missed, refused]);
        it.swap("/none.so").unwrap_err();
        assert_eq!(kept(), [refused]);
    }
}

#[test]
fn each_receiver_gets_every_event_and_one_that_does_not_come_delays_nobody() {
    const SWAPS: usize = 20;
    const MAX: usize = 5;
    let it = crate::fixtures::load_with("build_1", |settings| settings.limits.events_max = MAX);
    let (first, second, idle) = (it.events(), it.events(), it.events());
    drop(it.events());
    let (mut told_first, mut told_second) = (Vec::new(), Vec::new());
    let text = |event: hotswap_core::Event| event.to_string();
    for _ in 0..SWAPS {
        it.swap("/none.so").unwrap_err();
        told_first.extend(first.try_iter().map(text));
        told_second.extend(second.try_iter().map(text));
    }
    assert!(told_first[0].starts_with("accepted generation 1"));
    let refused = "refused /none.so: open: no such file; generation 1 stays live";
    assert_eq!(told_first[1..], [refused; SWAPS]);
    // The first alone is told what was before it.
    assert_eq!(told_second, [refused; SWAPS]);
    let told: Vec<_> = idle.try_iter().map(text).collect();
    assert_eq!(told, [refused; MAX]);
    it.swap("/none.so").unwrap_err();
    let told: Vec<_> = idle.try_iter().map(text).collect();
    let missed = "missed 15 events: they were not received in time";
    assert_eq!(told, [missed, refused]);
}

#[test]
fn the_list_forgets_the_oldest_that_have_left() {
    let it = crate::fixtures::load_with("build_1", |settings| settings.limits.ended_max = 2);
    let lease = it.lease();
    for number in 2..=6 {
        it.swap(plugin("build_2")).unwrap();
        if number > 2 {
            assert!(
                it.wait(number - 1, SOON)
                    .is_none_or(|state| state == State::Unloaded)
            );
        }
    }
    let numbers: Vec<_> = it.generations().iter().map(|it| it.number).collect();
    assert_eq!(numbers, [1, 4, 5, 6]);
    assert_eq!(it.wait(2, SOON), None);
    drop(lease);
}
