//! Ways back to a generation that was live before.

use std::{
    fs,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use hotswap_core::{Generation, Hotswap, Prepared, Stage, State, event::Holder};
use hotswap_fixtures::FixtureRef;

use crate::{
    alone::alone,
    fixtures::{Plugin, SOON, StopAtEnd, build_of, load, load_with, plugin, trust, unloaded},
};

const HOUR: Duration = Duration::from_secs(3600);

fn on_probation(faults_max: u32, time: Duration) -> Plugin {
    load_with("build_1", |settings| {
        settings.probation = Some(time);
        settings.probation_faults_max = faults_max;
    })
}

fn states(plugin: &Plugin) -> Vec<(u64, State)> {
    let all = plugin.generations().into_iter();
    all.map(|it| (it.number, it.state)).collect()
}

fn address(generation: &Generation<FixtureRef>) -> usize {
    generation.build_a() as *const () as usize
}

/// The lines of the events since the last time that begin with one of these words.
fn said(plugin: &Plugin, words: &[&str]) -> Vec<String> {
    let events = plugin.events();
    let lines = events.try_iter().map(|event| event.to_string());
    lines
        .filter(|line| words.iter().any(|word| line.starts_with(word)))
        .collect()
}

#[test]
fn a_file_that_is_gone_is_loaded_again_from_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libplugin.so");
    fs::copy(plugin("build_1"), &path).unwrap();
    let it: Hotswap<FixtureRef> = Hotswap::load(&path, &trust()).unwrap();
    fs::write(&path, fs::read(plugin("build_2")).unwrap()).unwrap();
    it.swap(&path).unwrap();
    assert_eq!(build_of(&it), 2);
    unloaded(&it, 1);
    fs::remove_file(&path).unwrap();

    let back = it.rollback().unwrap();
    assert_eq!(
        (back.generation, back.retired, back.loaded_again),
        (3, 2, Some(1))
    );
    assert_eq!(build_of(&it), 1);
    unloaded(&it, 2);
    let live = it.generations().pop().unwrap();
    assert_eq!(
        (live.number, live.loaded_again, &live.path),
        (3, Some(1), &path)
    );
    let line = "rolled-back generation 2: generation 1 is live again, as generation 3";
    assert_eq!(said(&it, &["rolled-back", "accepted generation 3"]), [line]);

    // What was left is not gone back to.
    let error = it.rollback().unwrap_err();
    assert_eq!(
        error.reason(),
        "host: there is no earlier generation to go back to"
    );
    assert_eq!(it.refused().len(), 0, "nothing was tried");
    assert_eq!(build_of(&it), 1);
}

/// The probe runs while a rollback loads the earlier generation again.
#[test]
fn a_rollback_replaces_nothing_that_was_published_meanwhile() {
    let prepared: Arc<Mutex<Option<Prepared<'static, FixtureRef>>>> = Arc::default();
    let it = Arc::new(load_with("build_1", |settings| {
        let prepared = Arc::clone(&prepared);
        settings.rollback_copies_max = 2;
        settings.probe = Some(Arc::new(move |_, _| {
            let prepared = prepared.lock().unwrap().take();
            prepared.map(Prepared::publish);
            Ok(())
        }));
    }));
    it.swap(plugin("build_2")).unwrap();
    unloaded(&it, 1);
    let candidate = it.prepare_shared(plugin("build_2")).unwrap();
    *prepared.lock().unwrap() = Some(candidate);
    let error = it.rollback().unwrap_err();
    assert_eq!(
        error.reason(),
        "host: another generation has become live meanwhile"
    );
    assert_eq!((it.with(Generation::number), build_of(&it)), (3, 2));

    // It is the newest earlier generation that is gone back to, and then the one before.
    unloaded(&it, 2);
    for (number, build) in [(2, 2), (1, 1)] {
        assert_eq!(it.rollback().unwrap().loaded_again, Some(number));
        assert_eq!(build_of(&it), build);
    }
    assert_eq!(it.rollback().unwrap_err().stage(), Stage::Host);
}

/// Two candidates that are published at once, again and again.
#[test]
fn a_standby_leaves_whoever_is_published_at_the_same_time() {
    let it = on_probation(0, Duration::from_millis(1));
    for _ in 0..50 {
        let candidates = [1, 2].map(|_| it.prepare(plugin("build_2")).unwrap());
        let both = Barrier::new(2);
        thread::scope(|scope| {
            for candidate in candidates {
                scope.spawn(|| {
                    both.wait();
                    candidate.publish()
                });
            }
        });
        let live = it.with(Generation::number);
        unloaded(&it, live - 1);
    }
}

#[test]
fn a_generation_that_is_still_in_use_is_put_back_as_it_is() {
    // It is noted as held at once, and not again when it is live.
    let it = load_with("build_1", |settings| {
        settings.limits.drain_deadline = Duration::ZERO
    });
    let before = it.with(address);
    let lease = it.lease();
    for number in 2..5 {
        assert_eq!(it.swap(plugin("build_2")).unwrap().generation, number);
        assert_eq!(build_of(&it), 2);
        if number == 3 {
            thread::sleep(Duration::from_millis(250));
        }
        let back = it.rollback().unwrap();
        assert_eq!(
            (back.generation, back.retired, back.loaded_again),
            (1, number, None)
        );
        assert_eq!((it.with(Generation::number), it.with(address)), (1, before));
        unloaded(&it, number);
        assert_eq!(states(&it)[0], (1, State::Live));
    }
    thread::sleep(Duration::from_millis(250));
    assert_eq!(states(&it)[0], (1, State::Live));
    let line = "rolled-back generation 2: generation 1 is live again";
    assert_eq!(said(&it, &["rolled-back"])[0], line);

    // It leaves as it would have without all that.
    it.swap(plugin("build_2")).unwrap();
    drop(lease);
    unloaded(&it, 1);
    assert_eq!(it.rollback().unwrap().loaded_again, Some(1));
    assert_eq!(build_of(&it), 1);
}

#[test]
fn a_rollback_inside_a_call_is_back_on_its_generation() {
    let it = load("build_1");
    it.with(|inside| {
        it.swap(plugin("build_2")).unwrap();
        let back = it.rollback().unwrap();
        assert_eq!((back.generation, inside.number()), (1, 1));
        assert_eq!(inside.build_a()(), 1);
    });
    unloaded(&it, 2);
    assert_eq!(states(&it)[0], (1, State::Live));
}

/// The old image is still mapped, and the linker must not take the copy for it.
#[test]
fn a_generation_that_is_on_its_way_out_is_loaded_again() {
    let it = load("constructs_unloadable");
    let place = hotswap_fixtures::constructs::CONSTRUCTS
        .iter()
        .position(|(name, _)| *name == "thread_local_drop");
    let (touched, end) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            it.with(|it| it.text()(place.unwrap() as u64).map(drop).unwrap());
            touched.wait();
            end.wait();
        });
        touched.wait();
        let before = it.with(address);
        it.swap(plugin("build_2")).unwrap();
        let has_destructors = |state: &State| {
            let State::Draining { held_by } = state else {
                return false;
            };
            matches!(held_by[..], [Holder::Destructors { .. }])
        };
        while !has_destructors(&states(&it)[0].1) {
            thread::yield_now();
        }
        assert_eq!(it.rollback().unwrap().loaded_again, Some(1));
        assert_ne!(it.with(address), before, "an image of its own");
        end.wait();
    });
    unloaded(&it, 1);
    assert_eq!(build_of(&it), 12);
}

#[test]
fn a_storm_of_swaps_rollbacks_and_leases() {
    // Threads that take leases without pause are seen by those who look for holders in other tests.
    alone("rollback::a_storm_of_swaps_rollbacks_and_leases", storm);
}

/// One generation is live at any time, and all others leave.
fn storm() {
    const TIME: Duration = Duration::from_secs(2);
    let it = load_with("build_1", |settings| {
        settings.rollback_copies_max = 3;
        settings.limits.drain_deadline = Duration::ZERO;
        settings.limits.ended_max = usize::MAX;
    });
    let stop = AtomicBool::new(false);
    let (put_back, loaded) = (AtomicU32::new(0), AtomicU32::new(0));
    let go_on = || !stop.load(Relaxed);
    thread::scope(|scope| {
        scope.spawn(|| {
            for name in ["build_2", "suffix_field", "build_1"].iter().cycle() {
                if !go_on() {
                    return;
                }
                it.swap(plugin(name)).unwrap();
            }
        });
        scope.spawn(|| {
            while go_on() {
                match it.rollback() {
                    Ok(back) if back.loaded_again.is_none() => put_back.fetch_add(1, Relaxed),
                    Ok(_) => loaded.fetch_add(1, Relaxed),
                    Err(error) => {
                        let expected = "host: there is no earlier generation to go back to";
                        assert_eq!(error.reason(), expected);
                        thread::sleep(Duration::from_millis(1));
                        0
                    }
                };
            }
        });
        for pause in [0, 1, 3] {
            let it = &it;
            scope.spawn(move || {
                while go_on() {
                    let lease = it.lease();
                    thread::sleep(Duration::from_millis(pause));
                    let builds = lease.with(|it| (it.build_a()(), it.build_b()()));
                    assert_eq!(builds.0, builds.1);
                }
            });
        }
        scope.spawn(|| {
            while go_on() {
                let states = states(&it);
                let live = states.iter().filter(|(_, state)| *state == State::Live);
                assert_eq!(live.count(), 1, "{states:?}");
            }
        });
        let _stop = StopAtEnd(&stop);
        thread::sleep(TIME);
    });
    let live = it.with(Generation::number);
    for (number, _) in states(&it) {
        if number != live {
            unloaded(&it, number);
        }
    }
    let (put_back, loaded) = (put_back.into_inner(), loaded.into_inner());
    println!("{put_back} put back, {loaded} loaded again");
    assert!(put_back > 0);
    assert!(it.shutdown(SOON).is_empty(), "nothing is still mapped");
}

#[test]
fn each_rollback_goes_one_further_back_as_far_as_there_are_copies() {
    let it = load_with("build_1", |settings| settings.rollback_copies_max = 2);
    for name in ["build_2", "suffix_field", "build_1"] {
        unloaded(&it, it.swap(plugin(name)).unwrap().retired);
    }
    assert_eq!(it.rollback().unwrap().loaded_again, Some(3));
    assert_eq!(build_of(&it), 3);
    assert_eq!(it.rollback().unwrap().loaded_again, Some(2));
    assert_eq!(build_of(&it), 2);
    assert!(it.rollback().is_err());

    let it = load_with("build_1", |settings| settings.rollback_copies_max = 0);
    it.swap(plugin("build_2")).unwrap();
    assert!(it.rollback().is_err());
    assert_eq!(build_of(&it), 2);
}

#[test]
fn while_the_new_one_is_on_probation_the_old_one_is_put_back_as_it_is() {
    let it = on_probation(0, HOUR);
    let before = it.with(address);
    it.swap(plugin("build_2")).unwrap();
    assert_eq!(states(&it), [(1, State::Standby), (2, State::Live)]);
    let back = it.rollback().unwrap();
    assert_eq!(
        (back.generation, back.retired, back.loaded_again),
        (1, 2, None)
    );
    assert_eq!((it.with(Generation::number), it.with(address)), (1, before));
    unloaded(&it, 2);
    assert_eq!(states(&it), [(1, State::Live), (2, State::Unloaded)]);
    let lines = [
        "standby generation 1: while generation 2 is on probation",
        "rolled-back generation 2: generation 1 is live again",
    ];
    assert_eq!(said(&it, &["standby", "rolled-back"]), lines);
    assert!(it.rollback().is_err(), "there was none before 1");
    // A number is never used twice.
    assert_eq!(it.swap(plugin("build_2")).unwrap().generation, 3);
}

#[test]
fn one_fault_too_many_on_probation_puts_the_old_one_back() {
    let it = on_probation(1, HOUR);
    assert_eq!(it.report_fault(1, "the first is on no probation"), None);
    it.swap(plugin("build_2")).unwrap();
    assert_eq!(it.report_fault(1, "not the live one"), None);
    assert_eq!(it.report_fault(2, "first"), None);
    assert_eq!(build_of(&it), 2);
    // From inside a call, which stays where it is.
    let back = it.with(|inside| {
        let back = it.report_fault(inside.number(), "second\n");
        assert_eq!(inside.build_a()(), 2);
        back.map(|back| (back.generation, back.retired))
    });
    assert_eq!(back, Some((1, 2)));
    assert_eq!(build_of(&it), 1);
    assert_eq!(it.report_fault(2, "it has gone"), None);
    assert_eq!(it.report_fault(1, "it has proved itself"), None);
    unloaded(&it, 2);
    let line = r"rolled-back generation 2: generation 1 is live again; 2 faults on probation, the last: second\n";
    assert_eq!(said(&it, &["rolled-back"]), [line]);
}

#[test]
fn many_faults_at_once_put_the_old_one_back_once() {
    const THREADS: usize = 8;
    let it = on_probation(3, HOUR);
    for round in 0..20 {
        let number = it.swap(plugin("build_2")).unwrap().generation;
        let barrier = Barrier::new(THREADS);
        let backs = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        it.report_fault(number, "no answer")
                    })
                })
                .collect();
            let backs = threads.into_iter().map(|thread| thread.join().unwrap());
            backs.flatten().count()
        });
        assert_eq!(backs, 1, "round {round}");
        assert_eq!(build_of(&it), 1);
        unloaded(&it, number);
    }
}

#[test]
fn a_generation_that_proves_itself_lets_the_old_one_leave() {
    let it = on_probation(0, Duration::from_millis(50));
    it.swap(plugin("build_2")).unwrap();
    unloaded(&it, 1);
    assert_eq!(it.report_fault(2, "late"), None);
    assert_eq!(build_of(&it), 2);
    // Its bytes are still there.
    assert_eq!(it.rollback().unwrap().loaded_again, Some(1));
    assert_eq!(build_of(&it), 1);
}

#[test]
fn a_swap_during_probation_makes_the_live_one_standby() {
    let it = on_probation(0, HOUR);
    it.swap(plugin("build_2")).unwrap();
    it.swap(plugin("suffix_field")).unwrap();
    unloaded(&it, 1);
    assert_eq!(
        states(&it),
        [(1, State::Unloaded), (2, State::Standby), (3, State::Live)]
    );
    assert_eq!(it.report_fault(2, "not the live one"), None);
    assert_eq!(
        it.report_fault(3, "no answer").map(|back| back.generation),
        Some(2)
    );
    assert_eq!(build_of(&it), 2);
    // And one further back: the standby took no copy's place.
    assert_eq!(it.rollback().unwrap().loaded_again, Some(1));
    assert_eq!(build_of(&it), 1);
}

#[test]
fn a_standby_leaves_with_its_swap_point() {
    let it = on_probation(0, HOUR);
    it.swap(plugin("build_2")).unwrap();
    assert!(it.shutdown(SOON).is_empty(), "nothing is still mapped");
}
