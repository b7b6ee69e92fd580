//! Code of a plugin that is on a thread's stack without a call of the host's, while the thread enters plugins.

use std::{
    sync::{Mutex, OnceLock},
    thread,
};

use hotswap_core::{State, detach_current_thread};
use hotswap_fixtures::calls_back::{CALLS, INTACT, KEY, NOTHING, THREAD, THREAD_LOCAL};

use crate::{
    alone::alone,
    fixtures::{Plugin, SOON, build_of, load, plugin, unloaded},
    process::images,
};

static PLUGIN: OnceLock<Plugin> = OnceLock::new();
static SAID: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// What the plugins call: a host that uses its swap point, as a logger might.
extern "C" fn host(what: u64) {
    SAID.lock().unwrap().push(what);
    if what == CALLS {
        let it = PLUGIN.get().unwrap();
        // Not before the generation is retired: until then nothing would be run early.
        while it.generations()[0].state == State::Live {
            thread::yield_now();
        }
        // In each way in which a thread leaves retired plugins.
        it.with(|it| it.number());
        drop(it.lease());
        detach_current_thread();
    }
}

fn ask(it: &Plugin, what: u64) {
    it.with(|it| it.text()(what).map(drop).unwrap());
}

/// Loads `name`, asks it for `what` on a thread that then leaves it, and insists that nothing was destroyed under
/// code of it.
#[track_caller]
fn nothing_is_destroyed_under(name: &str, what: u64, leaves_early: bool) {
    let it = PLUGIN.get_or_init(|| load(name));
    thread::scope(|scope| {
        scope.spawn(|| {
            ask(it, host as *const () as u64);
            ask(it, what);
            it.swap(plugin("build_1")).unwrap();
            if leaves_early {
                // Runs what the thread has to do for generation 1, once that is known to be retired.
                while SAID.lock().unwrap().is_empty() {
                    detach_current_thread();
                    build_of(it);
                }
            }
        });
    });
    unloaded(it, 1);
    assert_eq!(*SAID.lock().unwrap(), [CALLS, INTACT]);
    assert_eq!(images().len(), 1);
}

#[test]
fn a_destructor_of_a_thread_local_that_is_run_early() {
    alone(
        "unloading::nested::a_destructor_of_a_thread_local_that_is_run_early",
        || {
            nothing_is_destroyed_under("calls_back", THREAD_LOCAL, true);
        },
    );
}

#[test]
fn a_destructor_of_a_thread_local_that_is_run_at_the_thread_s_end() {
    alone(
        "unloading::nested::a_destructor_of_a_thread_local_that_is_run_at_the_thread_s_end",
        || nothing_is_destroyed_under("calls_back", THREAD_LOCAL, false),
    );
}

#[test]
fn a_destructor_of_a_key_that_is_run_early() {
    alone(
        "unloading::nested::a_destructor_of_a_key_that_is_run_early",
        || {
            nothing_is_destroyed_under("calls_back", KEY, true);
        },
    );
}

#[test]
fn a_destructor_of_a_key_that_is_run_at_the_thread_s_end() {
    alone(
        "unloading::nested::a_destructor_of_a_key_that_is_run_at_the_thread_s_end",
        || {
            nothing_is_destroyed_under("calls_back", KEY, false);
        },
    );
}

#[test]
fn a_thread_of_the_plugin_s_own() {
    alone("unloading::nested::a_thread_of_the_plugin_s_own", || {
        nothing_is_destroyed_under("calls_back", THREAD, false);
    });
}

#[test]
fn a_thread_that_a_constructor_has_started() {
    alone(
        "unloading::nested::a_thread_that_a_constructor_has_started",
        || {
            nothing_is_destroyed_under("calls_back_early", NOTHING, false);
        },
    );
}

/// What is run early is still all of it, for a thread that is not inside.
#[test]
fn a_thread_that_is_not_inside_leaves_at_once() {
    let it = load("constructs_unloadable");
    it.with(|it| it.text()(1).map(drop).unwrap());
    it.swap(plugin("build_1")).unwrap();
    assert_eq!(it.wait(1, SOON), Some(State::Unloaded));
}
