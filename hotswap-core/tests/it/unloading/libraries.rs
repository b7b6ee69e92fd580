//! Libraries that a plugin needs and that may call it.

use hotswap_core::{Hotswap, State, event::PinReason};
use hotswap_fixtures::FixtureRef;

use crate::{
    alone::alone,
    fixtures::{Plugin, SOON, build_of, load, plugin, trust_with, unloaded},
    process::images,
};

fn ask(it: &Plugin, what: u64) {
    it.with(|it| it.text()(what).map(drop).unwrap());
}

#[test]
fn one_that_can_start_threads_pins_and_is_named() {
    alone(
        "unloading::libraries::one_that_can_start_threads_pins_and_is_named",
        || {
            let it = load("needs_calls_later");
            ask(&it, 0);
            it.swap(plugin("build_1")).unwrap();
            let expected = PinReason::Library("libcalls_later.so".to_owned());
            assert_eq!(it.wait(1, SOON), Some(State::Pinned { reason: expected }));
            let event = it.events().try_iter().last().unwrap();
            assert_eq!(
                event.to_string(),
                "pinned generation 1: it needs libcalls_later.so, which stays mapped or may have threads, and may call it; \
             a plugin that knows better vouches for it (`unloadable!(vouch(\"libcalls_later.so\"))`)"
            );
            assert_eq!(build_of(&it), 1);
        },
    );
}

#[test]
fn one_that_the_author_vouches_for_does_not() {
    alone(
        "unloading::libraries::one_that_the_author_vouches_for_does_not",
        || {
            let it = load("vouches_for_calls_later");
            for _ in 0..20 {
                ask(&it, 0);
                let swapped = it.swap(plugin("vouches_for_calls_later")).unwrap();
                unloaded(&it, swapped.retired);
            }
            assert_eq!(images().len(), 1);
        },
    );
}

#[test]
fn the_host_may_extend_both_lists() {
    alone(
        "unloading::libraries::the_host_may_extend_both_lists",
        || {
            let trust = trust_with(|policy| {
                policy.any_owner = true;
                policy.harmless_libraries.push("libcalls_later".to_owned());
                policy
                    .pinning_libraries
                    .push("libkeeps_callback".to_owned());
            });
            let it: Hotswap<FixtureRef> =
                Hotswap::load(plugin("needs_calls_later"), &trust).unwrap();
            // Nothing is started.
            it.swap(plugin("needs_keeps_callback")).unwrap();
            unloaded(&it, 1);
            it.swap(plugin("build_1")).unwrap();
            let expected = PinReason::Library("libkeeps_callback.so".to_owned());
            assert_eq!(it.wait(2, SOON), Some(State::Pinned { reason: expected }));
        },
    );
}

/// Its name is on the list of those that do not call a plugin later.
#[test]
fn a_harmless_one_that_works_on_stays() {
    alone(
        "unloading::libraries::a_harmless_one_that_works_on_stays",
        || {
            let it = load("needs_works_on");
            ask(&it, 0);
            it.swap(plugin("build_1")).unwrap();
            unloaded(&it, 1);
            // Its thread has begun, and would crash if the library had left.
            std::thread::sleep(std::time::Duration::from_millis(20));
            let mapped = std::fs::read_to_string("/proc/self/maps").unwrap();
            assert!(mapped.contains("/libzstd-9.so\n"));
            assert_eq!(images().len(), 1);
        },
    );
}

#[test]
fn one_that_keeps_a_callback_pins_until_it_has_another() {
    alone(
        "unloading::libraries::one_that_keeps_a_callback_pins_until_it_has_another",
        || {
            let it = load("needs_keeps_callback");
            ask(&it, 1);
            it.swap(plugin("needs_keeps_callback")).unwrap();
            let expected = PinReason::Callback("libkeeps_callback.so".to_owned());
            assert_eq!(it.wait(1, SOON), Some(State::Pinned { reason: expected }));
            ask(&it, 1);
            left_after_all(&it, 1);
            ask(&it, 0);
            it.swap(plugin("build_1")).unwrap();
            unloaded(&it, 2);
            assert_eq!(images().len(), 1);
        },
    );
}

/// Waits until a generation that was pinned has left.
fn left_after_all(it: &Plugin, number: u64) {
    let state = || {
        it.generations()
            .into_iter()
            .find(|it| it.number == number)
            .map(|it| it.state)
    };
    while state() != Some(State::Unloaded) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
