//! What plugins leave behind, and how they are unloaded nevertheless.

mod at_exit;
mod callbacks;
mod libraries;
mod nested;
mod symbol_table;

use std::{
    fs, io,
    os::fd::IntoRawFd,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use hotswap_core::{
    Hotswap, Lease, State, detach_current_thread,
    event::{Holder, PinReason},
};
use hotswap_fixtures::{
    FixtureRef,
    constructs::{CONSTRUCTS, START_BY_DLSYM, START_STUBBORN, STUBBORN_FOR_A_WHILE, until_closed},
};

use crate::{
    alone::{alone, alone_with},
    fixtures::{Plugin, SOON, build_of, load, load_with, plugin, shows_keys, trust, unloaded},
    process::{images, keys_in_use, openers, threads},
};

/// Constructs that leave their thread something to do at its end.
const LEFT_ON_THE_THREAD: [&str; 11] = [
    "thread_local_drop",
    "thread_current",
    // std notes who has started a thread.
    "spawn_join",
    "spawn_detached",
    "thread_spawns_thread",
    "scoped",
    "recv_timeout",
    "destructor_registers",
    "key_set_again",
    "c11_storage",
    "all",
];

fn run(it: &Plugin, construct: u64) {
    it.with(|it| it.text()(construct).map(drop).unwrap());
}

/// The place of a construct in the list.
fn place(name: &str) -> u64 {
    CONSTRUCTS
        .iter()
        .position(|(it, _)| *it == name)
        .expect("a construct") as u64
}

/// Which thread uses a construct, and what it does before the plugin leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum User {
    /// The thread that swaps; it calls again.
    Main,
    /// A worker that has ended before the swap.
    Gone,
    /// A worker that ends after the swap.
    Ends,
    /// A worker that lives, and calls again.
    Calls,
    /// A worker that lives, and says that it is done.
    Detaches,
}

const USERS: [User; 5] = [
    User::Main,
    User::Gone,
    User::Ends,
    User::Calls,
    User::Detaches,
];

/// Uses a construct on a fresh generation, swaps, and gives its states: while the user lives, and at the end.
fn use_and_swap(it: &Arc<Plugin>, name: &str, construct: u64, user: User) -> [Option<State>; 2] {
    let swapped = it.swap(plugin(name)).unwrap();
    unloaded_or_pinned(it, swapped.retired);
    let mine = swapped.generation;
    // Until it has left, or nothing but the user is in its way: threads of its own end by themselves.
    let settled = |it: &Plugin| loop {
        match it.wait(mine, Duration::from_millis(5)) {
            Some(State::Draining { held_by })
                if !matches!(held_by[..], [Holder::Destructors { .. }]) => {}
            state => break state,
        }
    };
    if user == User::Main {
        run(it, construct);
        it.swap(plugin("build_1")).unwrap();
        let before = settled(it);
        build_of(it);
        return [before, it.wait(mine, SOON)];
    }
    let (used, wait_used) = mpsc::channel();
    let (go_on, wait_go_on) = mpsc::channel::<()>();
    let worker = thread::spawn({
        let it = Arc::clone(it);
        move || {
            run(&it, construct);
            used.send(()).unwrap();
            wait_go_on.recv().unwrap();
            match user {
                User::Calls => drop(build_of(&it)),
                User::Detaches => detach_current_thread(),
                User::Main | User::Gone | User::Ends => return,
            }
            used.send(()).unwrap();
            wait_go_on.recv().unwrap();
        }
    });
    wait_used.recv().unwrap();
    if user == User::Gone {
        go_on.send(()).unwrap();
        worker.join().unwrap();
        it.swap(plugin("build_1")).unwrap();
        return [settled(it), it.wait(mine, SOON)];
    }
    it.swap(plugin("build_1")).unwrap();
    let before = settled(it);
    go_on.send(()).unwrap();
    if user == User::Ends {
        worker.join().unwrap();
        return [before, it.wait(mine, SOON)];
    }
    wait_used.recv().unwrap();
    let after = it.wait(mine, SOON);
    go_on.send(()).unwrap();
    worker.join().unwrap();
    [before, after]
}

#[track_caller]
fn unloaded_or_pinned(it: &Plugin, generation: u64) {
    assert!(
        it.wait(generation, SOON)
            .is_none_or(|state| state.has_ended())
    );
}

/// A row of the table that `--nocapture` shows.
fn show(name: &str, user: User, before: &Option<State>, after: &Option<State>) {
    let text = |state: &Option<State>| {
        state
            .as_ref()
            .map_or("forgotten".to_owned(), ToString::to_string)
    };
    println!(
        "{name:22} {:9} {}, then {}",
        format!("{user:?}"),
        text(before),
        text(after)
    );
}

#[test]
fn with_unloadable_everything_leaves() {
    alone("unloading::with_unloadable_everything_leaves", || {
        let it = Arc::new(load("build_1"));
        // The host has one key of its own, for all plugins with `unloadable!`.
        use_and_swap(&it, "constructs_unloadable", place("nothing"), User::Main);
        // Whether there is a spare one depends on what left last.
        let others = || threads() - openers().len();
        let before = (others(), keys_in_use());
        for (construct, (name, _)) in CONSTRUCTS.iter().enumerate() {
            for user in USERS {
                let [before, after] =
                    use_and_swap(&it, "constructs_unloadable", construct as u64, user);
                show(name, user, &before, &after);
                assert_eq!(after, Some(State::Unloaded), "{name} {user:?}");
                // The main thread leaves by waiting, so it may or may not have been seen.
                if user != User::Main {
                    let waits = LEFT_ON_THE_THREAD.contains(name) && user != User::Gone;
                    let held = matches!(&before, Some(State::Draining { held_by })
                        if matches!(held_by[..], [Holder::Destructors { .. }]));
                    assert_eq!(held, waits, "{name} {user:?}: {before:?}");
                }
                assert_eq!(images().len(), 1, "{name} {user:?}");
            }
        }
        // The system may list a thread for a moment after its end.
        let started = Instant::now();
        while others() != before.0 && started.elapsed() < SOON {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!((others(), keys_in_use()), before);
        assert!((1..=2).contains(&openers().len()), "{:?}", openers());
    });
}

/// It makes no calls of its own: it uses what another thread has leased, as one does that polls futures.
#[test]
fn a_thread_that_only_has_leases_leaves_when_it_drops_one() {
    alone(
        "unloading::a_thread_that_only_has_leases_leaves_when_it_drops_one",
        || {
            let it = load("constructs_unloadable");
            let (give, leases) = mpsc::channel::<(Lease<FixtureRef>, Option<u64>)>();
            let (dropped, wait_dropped) = mpsc::channel();
            let worker = thread::spawn(move || {
                for (lease, construct) in leases {
                    if let Some(construct) = construct {
                        lease.with(|it| it.text()(construct).map(drop).unwrap());
                    }
                    drop(lease);
                    dropped.send(()).unwrap();
                }
            });
            give.send((it.lease(), Some(place("thread_local_drop"))))
                .unwrap();
            wait_dropped.recv().unwrap();
            it.swap(plugin("build_1")).unwrap();
            loop {
                match it.wait(1, Duration::from_millis(5)) {
                    Some(State::Draining { held_by })
                        if matches!(held_by[..], [Holder::Destructors { .. }]) =>
                    {
                        break;
                    }
                    state => assert!(!state.unwrap().has_ended()),
                }
            }
            give.send((it.lease(), None)).unwrap();
            wait_dropped.recv().unwrap();
            unloaded(&it, 1);
            drop(give);
            worker.join().unwrap();
        },
    );
}

#[test]
fn without_unloadable_nothing_crashes_and_what_stays_says_why() {
    alone(
        "unloading::without_unloadable_nothing_crashes_and_what_stays_says_why",
        || {
            let it = Arc::new(load("build_1"));
            for (construct, (name, _)) in CONSTRUCTS.iter().enumerate() {
                for user in USERS {
                    let [before, after] =
                        use_and_swap(&it, "constructs_plain", construct as u64, user);
                    show(name, user, &before, &after);
                    assert_eq!(
                        after,
                        Some(State::Pinned {
                            reason: PinReason::MayHaveThreads
                        }),
                        "{name} {user:?}"
                    );
                }
            }
        },
    );
}

/// Such a plugin leaves at once where its thread-locals keep nothing: here a pthread key is all there is. A system that
/// does not show the keys pins it.
#[test]
fn keys_of_a_plugin_without_unloadable_are_deleted() {
    alone(
        "unloading::keys_of_a_plugin_without_unloadable_are_deleted",
        || {
            let it = Arc::new(load("build_1"));
            let before = keys_in_use();
            for user in USERS {
                let [_, after] = use_and_swap(&it, "thread_current", 0, user);
                let expected = if shows_keys() {
                    State::Unloaded
                } else {
                    State::Pinned {
                        reason: PinReason::MayHaveKeys,
                    }
                };
                assert_eq!(after, Some(expected), "{user:?}");
            }
            if shows_keys() {
                assert_eq!(keys_in_use(), before);
                assert_eq!(images().len(), 1);
            } else {
                assert_eq!(images().len(), 1 + USERS.len());
            }
        },
    );
}

/// A pthread key for each reload would end the process after some thousand.
#[test]
fn two_thousand_reloads_with_thread_current_on_one_thread() {
    alone(
        "unloading::two_thousand_reloads_with_thread_current_on_one_thread",
        || {
            let it = load("constructs_unloadable");
            let before = keys_in_use();
            for _ in 0..2_000 {
                run(&it, place("thread_current"));
                let swapped = it.swap(plugin("constructs_unloadable")).unwrap();
                // Leaves the retired one.
                run(&it, place("nothing"));
                if swapped.generation.is_multiple_of(100) {
                    unloaded(&it, swapped.retired);
                }
            }
            detach_current_thread();
            let live = it.generations().last().unwrap().number;
            unloaded(&it, live - 1);
            assert!(
                keys_in_use() <= before + 1,
                "{} keys, before {before}",
                keys_in_use()
            );
            assert!(it.shutdown(SOON).is_empty());
            assert_eq!(images(), []);
        },
    );
}

#[test]
fn a_thread_that_does_not_stop_is_reported_and_the_plugin_leaves_when_it_ends() {
    let it = load_with("unloadable_with_hook", |settings| {
        settings.limits.drain_deadline = Duration::from_millis(50)
    });
    let (pipe, ends) = io::pipe().unwrap();
    run(&it, until_closed(STUBBORN_FOR_A_WHILE, pipe.into_raw_fd()));
    it.swap(plugin("build_1")).unwrap();
    assert_eq!(build_of(&it), 1);
    let held_by_thread = |it: &Plugin| match &it.generations()[0].state {
        // The wait lets this thread leave; what is left is the plugin's own.
        State::Draining { held_by } => match &held_by[..] {
            [
                Holder::Thread {
                    thread: Some(_),
                    name,
                    age,
                    ..
                },
            ] => Some((name.clone(), *age)),
            _ => None,
        },
        other => panic!("{other} without having been held"),
    };
    let (name, age) = loop {
        it.wait(1, Duration::from_millis(5));
        if let Some(thread) = held_by_thread(&it) {
            break thread;
        }
    };
    assert_eq!(name, "stubborn");
    assert!(age > Duration::ZERO);
    // It is not in the way of the next swap, and needs none.
    it.swap(plugin("build_2")).unwrap();
    unloaded(&it, 2);
    let events = it.events();
    let mut events = events.iter().map(|event| event.to_string());
    let held = events.find(|event| event.starts_with("held generation 1: "));
    let held = held.unwrap();
    assert!(held.contains(" (stubborn) of its own, for "), "{held}");
    drop(ends);
    unloaded(&it, 1);
}

/// As jemalloc starts its background threads.
#[test]
fn a_thread_that_a_looked_up_function_starts_is_waited_for() {
    alone(
        "unloading::a_thread_that_a_looked_up_function_starts_is_waited_for",
        || {
            let it = load("constructs_unloadable");
            let (pipe, ends) = io::pipe().unwrap();
            run(&it, until_closed(START_BY_DLSYM, pipe.into_raw_fd()));
            it.swap(plugin("build_1")).unwrap();
            loop {
                match it.wait(1, Duration::from_millis(5)) {
                    Some(State::Draining { held_by })
                        if matches!(held_by[..], [Holder::Thread { .. }]) =>
                    {
                        break;
                    }
                    state => assert!(!state.unwrap().has_ended(), "its thread runs"),
                }
            }
            drop(ends);
            unloaded(&it, 1);
        },
    );
}

#[test]
fn the_hook_stops_the_plugin_s_threads_and_its_panic_is_reported() {
    let it = load("unloadable_with_hook");
    run(&it, START_STUBBORN);
    it.swap(plugin("build_1")).unwrap();
    unloaded(&it, 1);
    let events: Vec<_> = it
        .events()
        .try_iter()
        .map(|event| event.to_string())
        .collect();
    assert!(
        events.contains(&"hook-panicked generation 1: the hook panicked, on purpose".to_owned()),
        "{events:?}"
    );
}

#[test]
fn an_unknown_version_of_unloadable_counts_as_none_and_that_is_said() {
    let it = load("unloadable_of_the_next_version");
    let problem = it.generations()[0].unloadable_problem.clone();
    assert_eq!(
        problem.as_deref(),
        Some(
            "treated as a plugin without `unloadable!`: its `unloadable!` has version 3, expected 2"
        )
    );
    // Its shadows are in the way of seeing that it can start threads.
    run(&it, START_STUBBORN);
    it.swap(plugin("build_1")).unwrap();
    assert_eq!(
        it.wait(1, SOON),
        Some(State::Pinned {
            reason: PinReason::MayHaveThreads
        })
    );

    let it = load("unloadable_unbound");
    let problem = it.generations()[0]
        .unloadable_problem
        .clone()
        .expect("a problem");
    assert!(
        problem.starts_with("treated as a plugin without `unloadable!`: "),
        "{problem}"
    );
    it.swap(plugin("build_1")).unwrap();
    assert_eq!(
        it.wait(1, SOON),
        Some(State::Pinned {
            reason: PinReason::MayHaveThreads
        })
    );
}

#[test]
fn a_table_of_unloadable_that_has_grown_is_as_good() {
    let it = load("unloadable_with_a_longer_table");
    assert_eq!(it.generations()[0].unloadable_problem, None);
    run(&it, place("spawn_join"));
    it.swap(plugin("build_1")).unwrap();
    build_of(&it);
    unloaded(&it, 1);
}

/// Initialisers run on a thread that ends with the load.
#[test]
fn a_destructor_that_an_initialiser_leaves_keeps_nothing() {
    initialiser_leaves(
        "unloading::a_destructor_that_an_initialiser_leaves_keeps_nothing",
        place("thread_local_drop"),
    );
}

#[test]
fn a_key_that_an_initialiser_leaves_keeps_nothing() {
    initialiser_leaves(
        "unloading::a_key_that_an_initialiser_leaves_keeps_nothing",
        place("thread_current"),
    );
}

#[track_caller]
fn initialiser_leaves(test: &str, construct: u64) {
    alone_with(
        test,
        &[("HOTSWAP_CONSTRUCTOR", &construct.to_string())],
        || {
            let it = load("unloadable_in_a_constructor");
            let keys = keys_in_use();
            for _ in 0..10 {
                let swapped = it.swap(plugin("unloadable_in_a_constructor")).unwrap();
                unloaded(&it, swapped.retired);
            }
            assert_eq!((keys_in_use(), images().len()), (keys, 1));
        },
    );
}

/// What a probe leaves on the thread that runs it keeps no generation.
#[test]
fn a_probe_that_calls_the_live_generation_keeps_none() {
    let it = load_with("constructs_unloadable", |settings| {
        let construct = place("thread_local_drop");
        settings.probe = Some(Arc::new(move |_, live| {
            if let Some(live) = live {
                live.text()(construct).map(drop).unwrap();
            }
            Ok(())
        }));
    });
    for _ in 0..3 {
        let swapped = it.swap(plugin("constructs_unloadable")).unwrap();
        unloaded(&it, swapped.retired);
    }
}

/// `-z nodelete`, as the linker writes it into the file.
fn no_delete() -> (tempfile::TempDir, PathBuf) {
    const DT_FLAGS_1: u64 = 0x6fff_fffb;
    const DF_1_NODELETE: u8 = 0x08;
    let mut bytes = fs::read(plugin("build_2")).unwrap();
    let entry = DT_FLAGS_1.to_le_bytes();
    let places: Vec<_> = (0..bytes.len() - 16)
        .step_by(8)
        .filter(|&at| bytes[at..at + 8] == entry)
        .collect();
    let [place] = places[..] else {
        panic!("one such entry, not {places:?}")
    };
    bytes[place + 8] |= DF_1_NODELETE;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no_delete.so");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn what_may_not_be_deleted_is_pinned_and_says_so() {
    alone(
        "unloading::what_may_not_be_deleted_is_pinned_and_says_so",
        || {
            if !shows_keys() {
                // There, no plugin without `unloadable!` leaves, whatever its marks are.
                return;
            }
            let (_folder, path) = no_delete();
            let it: Hotswap<FixtureRef> = Hotswap::load(&path, &trust()).unwrap();
            for _ in 0..100 {
                let retired = it.swap(&path).unwrap().retired;
                assert!(it.wait(retired, SOON).is_none_or(|it| it
                    == State::Pinned {
                        reason: PinReason::NoDelete
                    }));
                assert_eq!(build_of(&it), 2);
            }
            assert_eq!(images().len(), 101, "each a copy of its own");
            let last = it.events().try_iter().last().unwrap();
            assert_eq!(
                last.to_string(),
                "pinned generation 100: it is linked with `-z nodelete`, so that the system never unmaps it"
            );
            it.swap(plugin("build_1")).unwrap();
            assert_eq!(build_of(&it), 1);
        },
    );
}
