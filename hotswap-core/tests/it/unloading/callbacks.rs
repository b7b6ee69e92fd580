//! What a plugin leaves with libc and the kernel that will call it.

use std::{
    env, io, iter,
    os::fd::IntoRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use hotswap_core::{
    EventKind, State,
    event::{Holder, PinReason},
};
use hotswap_fixtures::{
    callbacks::{FUNCTIONS, SIGNALS},
    constructs::{CONSTRUCTS, START_UNNAMED, until_closed},
};

use crate::{
    alone::{alone, alone_with},
    fixtures::{
        Plugin, SOON, StopAtEnd, build_of, load, load_with, plugin, shows_keys, unloaded, until,
    },
    process::images,
};

/// Names of all callbacks, by the number that a plugin is asked for.
fn callbacks() -> impl Iterator<Item = &'static str> {
    SIGNALS.iter().chain(&FUNCTIONS).map(|(name, _)| *name)
}

fn ask(it: &Plugin, callback: &str) {
    let place = callbacks().position(|name| name == callback);
    let place = place.expect("a callback") as u64;
    it.with(|it| it.text()(place).map(drop).unwrap());
}

/// Loads `name`, asks it for a callback, swaps, and gives what has become of it.
fn leave(name: &str, callback: &str) -> (Plugin, State) {
    let it = load(name);
    ask(&it, callback);
    it.swap(plugin("build_1")).unwrap();
    let state = it.wait(1, SOON).unwrap();
    (it, state)
}

fn function(name: &str) -> State {
    State::Pinned {
        reason: PinReason::Function(name.to_owned()),
    }
}

fn signal(name: &str) -> State {
    State::Pinned {
        reason: PinReason::SignalHandler(name.to_owned()),
    }
}

/// Has the calling thread receive a signal, before this returns.
fn receive(signal: i32) {
    // SAFETY: a signal, for which there is a handler.
    let result = unsafe { libc::raise(signal) };
    assert_eq!(result, 0);
}

/// Leaves each callback in a process of its own, for some of it stays with the process.
#[track_caller]
fn each(test: &str, name: &str, expected: &[(&str, State)]) {
    for (callback, _) in expected {
        alone_with(test, &[("HOTSWAP_CALLBACK", callback)], || {
            // In the process of its own this is the first of the loop, whichever is meant.
            let callback = env::var("HOTSWAP_CALLBACK").unwrap();
            let (_, state) = expected.iter().find(|(it, _)| *it == callback).unwrap();
            let (it, found) = leave(name, &callback);
            println!("{name} {callback}: {found}");
            assert_eq!(found, *state, "{name} {callback}");
            assert_eq!(images().len(), 1 + usize::from(*state != State::Unloaded));
            match callback.as_str() {
                "sigaction" => receive(libc::SIGUSR1),
                "signal_chained" if *state != State::Unloaded => receive(libc::SIGUSR2),
                _ => {}
            }
            assert_eq!(build_of(&it), 1);
        });
        if env::var_os("HOTSWAP_CALLBACK").is_some() {
            return;
        }
    }
}

#[test]
fn with_unloadable_what_is_used_decides() {
    each(
        "unloading::callbacks::with_unloadable_what_is_used_decides",
        "callbacks_unloadable",
        &[
            ("on_exit", function("on_exit")),
            ("timer_thread", function("timer_create")),
            ("timer_none", State::Unloaded),
            ("sigaction", signal("SIGUSR1")),
            ("signal_restored", State::Unloaded),
            // By the hook.
            ("signal_chained", State::Unloaded),
        ],
    );
}

#[test]
fn an_author_may_vouch_for_functions_and_not_for_handlers() {
    each(
        "unloading::callbacks::an_author_may_vouch_for_functions_and_not_for_handlers",
        "callbacks_vouched",
        &[
            ("timer_thread", State::Unloaded),
            ("sigaction", signal("SIGUSR1")),
        ],
    );
}

#[test]
fn without_unloadable_handlers_are_found() {
    if !shows_keys() {
        // There, no plugin without `unloadable!` leaves, whatever it has done.
        return;
    }
    each(
        "unloading::callbacks::without_unloadable_handlers_are_found",
        "callbacks_plain",
        &[
            ("sigaction", signal("SIGUSR1")),
            ("signal_restored", State::Unloaded),
            ("signal_chained", signal("SIGUSR2")),
        ],
    );
}

#[test]
fn without_unloadable_what_is_imported_decides() {
    if !shows_keys() {
        // There, no plugin without `unloadable!` leaves, whatever it imports.
        return;
    }
    let (_, state) = leave("functions_plain", "timer_none");
    let State::Pinned {
        reason: PinReason::Function(name),
    } = &state
    else {
        panic!("{state}")
    };
    assert!(["on_exit", "timer_create"].contains(&&**name), "{name}");
}

/// The threads that have called it go on calling its successor.
#[test]
fn what_pinned_a_plugin_may_end_before_its_thread_locals_are_dropped() {
    let test =
        "unloading::callbacks::what_pinned_a_plugin_may_end_before_its_thread_locals_are_dropped";
    alone(test, || {
        let it = load("constructs_unloadable");
        let drops = CONSTRUCTS
            .iter()
            .position(|(name, _)| *name == "thread_local_drop");
        let (ended, has_called) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            let _stop = StopAtEnd(&ended);
            scope.spawn(|| {
                it.with(|it| it.text()(drops.unwrap() as u64).map(drop).unwrap());
                has_called.store(true, Ordering::Release);
                while !ended.load(Ordering::Relaxed) {
                    assert!(it.with(|it| it.build_a()()) > 0);
                    thread::sleep(Duration::from_millis(1));
                }
            });
            until(|| has_called.load(Ordering::Acquire));
            let function = it.with(|it| it.build_a() as *const () as usize);
            // SAFETY: it is never raised.
            unsafe { libc::signal(libc::SIGUSR2, function) };
            it.swap(plugin("build_1")).unwrap();
            assert_eq!(it.wait(1, SOON), Some(signal("SIGUSR2")));
            // SAFETY: no handler.
            unsafe { libc::signal(libc::SIGUSR2, libc::SIG_DFL) };
            until(|| it.generations()[0].state == State::Unloaded);
        });
    });
}

/// A handler that the successor was given as the one before may be set again by it, after its owner has left.
#[test]
fn a_handler_that_another_plugin_knows_pins() {
    alone(
        "unloading::callbacks::a_handler_that_another_plugin_knows_pins",
        || {
            // Whoever starts the tests may ignore it, as `perf record` does, and children inherit that.
            // SAFETY: no handler.
            unsafe { libc::signal(libc::SIGUSR2, libc::SIG_DFL) };
            let it = load("callbacks_unloadable");
            ask(&it, "signal_chained");
            let lease = it.lease();
            it.swap(plugin("callbacks_unloadable")).unwrap();
            ask(&it, "signal_chained");
            drop(lease);
            assert_eq!(it.wait(1, SOON), Some(signal("SIGUSR2")));
            it.swap(plugin("build_1")).unwrap();
            // Its hook has set the first one's handler.
            unloaded(&it, 2);
            receive(libc::SIGUSR2);
            assert_eq!(build_of(&it), 1);
            assert_eq!(it.generations()[0].state, signal("SIGUSR2"));
            // SAFETY: no handler.
            unsafe { libc::signal(libc::SIGUSR2, libc::SIG_DFL) };
            while it.generations()[0].state != State::Unloaded {
                thread::sleep(Duration::from_millis(5));
            }
        },
    );
}

#[test]
fn the_reason_says_what_to_do() {
    alone("unloading::callbacks::the_reason_says_what_to_do", || {
        let last_event = |it: &Plugin| it.events().try_iter().last().unwrap().to_string();
        let (it, _) = leave("callbacks_unloadable", "sigaction");
        assert_eq!(
            last_event(&it),
            "pinned generation 1: it has handled SIGUSR1, and its handler may still be called; handlers belong in the \
             host"
        );
        let (it, _) = leave("callbacks_unloadable", "on_exit");
        assert_eq!(
            last_event(&it),
            "pinned generation 1: it uses `on_exit`, by which it may still be called; a plugin that knows better \
             vouches for it (`unloadable!(vouch(\"on_exit\"))`)"
        );
    });
}

/// No shadow looks a function up on a thread that a constructor waits for.
#[test]
fn a_constructor_may_wait_for_a_thread_that_makes_a_timer() {
    let test = "unloading::callbacks::a_constructor_may_wait_for_a_thread_that_makes_a_timer";
    alone(test, || {
        let it = load("timer_in_a_constructor");
        it.swap(plugin("build_1")).unwrap();
        unloaded(&it, 1);
    });
}

/// It is joined while `dlclose` holds the linker's lock.
#[test]
fn a_finaliser_may_wait_for_a_thread() {
    let test = "unloading::callbacks::a_finaliser_may_wait_for_a_thread";
    alone(test, || {
        let it = load("thread_in_a_finaliser");
        for _ in 0..10 {
            let swapped = it.swap(plugin("thread_in_a_finaliser")).unwrap();
            unloaded(&it, swapped.retired);
        }
        assert_eq!(images().len(), 1);
    });
}

/// The code asks for a version of libc's function, which the linker binds to libc.
#[test]
fn threads_that_are_not_counted_pin_their_plugin() {
    let it = load("threads_not_counted");
    it.with(|it| it.text()(0).map(drop).unwrap());
    it.swap(plugin("build_1")).unwrap();
    let reason = PinReason::Function("pthread_create".to_owned());
    assert_eq!(it.wait(1, SOON), Some(State::Pinned { reason }));
}

/// `std::thread` of C++ is started inside of libstdc++, past `pthread_create` of the plugin.
#[test]
fn a_thread_of_cxx_is_counted() {
    let it = load_with("cxx_thread", |settings| {
        settings.limits.drain_deadline = Duration::ZERO
    });
    let (pipe, ends) = io::pipe().unwrap();
    it.with(|it| it.text()(pipe.into_raw_fd() as u64).map(drop).unwrap());
    let events = it.events();
    it.swap(plugin("build_1")).unwrap();
    let mut events = iter::from_fn(|| events.recv_timeout(SOON).ok());
    let held = events.find_map(|event| match event.kind {
        EventKind::Held { by, .. } => Some(by),
        _ => None,
    });
    let held = held.expect("it runs until its pipe is closed");
    assert!(matches!(held[..], [Holder::Thread { .. }]), "{held:?}");
    drop(ends);
    unloaded(&it, 1);
}

/// The key is deleted, and its destructor runs on.
#[test]
fn a_destructor_that_is_running_when_its_key_is_deleted_is_waited_for() {
    if !shows_keys() {
        // There, keys of a plugin without `unloadable!` are not deleted.
        return;
    }
    let test =
        "unloading::callbacks::a_destructor_that_is_running_when_its_key_is_deleted_is_waited_for";
    alone(test, || {
        /// As the fixture has them.
        const RUNS: u8 = 1;
        const ENDS: u8 = 2;
        static STATE: AtomicU8 = AtomicU8::new(0);
        let it = Arc::new(load("slow_key"));
        let (set, wait_set) = mpsc::channel();
        let worker = thread::spawn({
            let it = Arc::clone(&it);
            move || {
                let state = STATE.as_ptr().expose_provenance() as u64;
                it.with(|it| it.text()(state).map(drop).unwrap());
                let tid = rustix::thread::gettid().as_raw_nonzero().get();
                set.send(tid.cast_unsigned()).unwrap();
            }
        });
        let worker_tid = wait_set.recv().unwrap();
        while STATE.load(Ordering::Acquire) != RUNS {
            thread::yield_now();
        }
        it.swap(plugin("build_1")).unwrap();
        // Until all other threads were seen to be elsewhere: then only that one is left, and stays.
        let is_held = || {
            matches!(it.wait(1, Duration::from_millis(5)), Some(State::Draining { held_by })
                if matches!(held_by[..], [Holder::DeletedKey { thread, .. }] if thread == worker_tid))
        };
        while !is_held() {
            assert!(!it.generations()[0].state.has_ended());
        }
        thread::sleep(Duration::from_millis(300));
        assert!(is_held());
        STATE.store(ENDS, Ordering::Release);
        worker.join().unwrap();
        unloaded(&it, 1);
    });
}

#[test]
fn a_thread_without_a_name_does_not_pass_for_its_creator() {
    let it = Arc::new(load_with("unloadable_with_hook", |settings| {
        settings.limits.drain_deadline = Duration::ZERO
    }));
    let caller = thread::Builder::new().name("host-caller".to_owned());
    let (pipe, ends) = io::pipe().unwrap();
    let request = until_closed(START_UNNAMED, pipe.into_raw_fd());
    let caller = caller.spawn({
        let it = Arc::clone(&it);
        move || it.with(|it| it.text()(request).map(drop).unwrap())
    });
    caller.unwrap().join().unwrap();
    let events = it.events();
    it.swap(plugin("build_1")).unwrap();
    let mut events = events.iter().map(|event| event.to_string());
    let held = events.find(|event| event.starts_with("held generation 1: "));
    let held = held.unwrap();
    assert!(
        held.contains(" of its own (without a name), for "),
        "{held}"
    );
    drop(ends);
    unloaded(&it, 1);
}

#[test]
fn what_stays_on_the_heap_is_said_if_it_is_counted() {
    let left = |bytes: u64| {
        let it = load("counts_allocations");
        it.with(|it| it.text()(bytes).map(drop).unwrap());
        it.swap(plugin("build_1")).unwrap();
        unloaded(&it, 1);
        let events: Vec<_> = it.events().try_iter().collect();
        let heap = events.iter().find_map(|event| match event.kind {
            EventKind::Unloaded { heap, .. } => Some(heap.expect("it counts")),
            _ => None,
        });
        (heap.expect("unloaded"), events.last().unwrap().to_string())
    };
    let (few, _) = left(24);
    let (many, text) = left(1024);
    assert_eq!(many.bytes - few.bytes, 1000);
    assert_eq!(many.allocations, few.allocations);
    let expected = format!(
        "; {} bytes in {} allocations stay on the heap",
        many.bytes, many.allocations
    );
    let singular = format!("; {} bytes in 1 allocation stay on the heap", many.bytes);
    assert!(
        text.ends_with(&expected) || text.ends_with(&singular),
        "{text}"
    );
}
