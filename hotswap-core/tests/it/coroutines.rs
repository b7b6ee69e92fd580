//! Calls that several coroutines of one thread are inside of at once, and that end in any order.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use corosensei::{Coroutine, CoroutineResult, Yielder};
use hotswap_core::{State, event::Holder};

use crate::{
    alone::alone,
    fixtures::{Plugin, SOON, build_of, load, plugin, unloaded},
};

/// Long enough for a generation that nobody holds to be unloaded, which takes some milliseconds.
const A_WHILE: Duration = Duration::from_millis(200);

/// A coroutine that is suspended inside a call.
struct Suspended(Coroutine<(), (), ()>);

impl Suspended {
    /// Begins a call, which must reach this build, and suspends it.
    #[track_caller]
    fn inside(it: &Arc<Plugin>, build: u64) -> Self {
        Self::inside_with(it, build, || {})
    }

    /// The same, and does more when it goes on.
    #[track_caller]
    fn inside_with(it: &Arc<Plugin>, build: u64, more: impl FnOnce() + 'static) -> Self {
        let it = Arc::clone(it);
        let body = move |yielder: &Yielder<(), ()>, ()| {
            it.with(|generation| {
                assert_eq!(generation.build_a()(), build);
                yielder.suspend(());
                assert_eq!(generation.build_b()(), build);
                more();
                assert_eq!(build_of(&it), build, "a nested call");
            });
        };
        let mut coroutine = Coroutine::new(body);
        assert!(matches!(coroutine.resume(()), CoroutineResult::Yield(())));
        Self(coroutine)
    }

    /// Goes on, and ends the call.
    #[track_caller]
    fn end(mut self) {
        assert!(matches!(self.0.resume(()), CoroutineResult::Return(())));
    }
}

/// The generation is still mapped after a while, and this thread is reported as the holder.
#[track_caller]
fn held_by_this_thread(it: &Plugin, generation: u64) {
    let this_thread = rustix::thread::gettid().as_raw_nonzero().get();
    let this_thread = this_thread.cast_unsigned();
    let is_this_thread = |held_by: &[Holder]| matches!(held_by, [Holder::Call { thread, .. }] if *thread == this_thread);
    let latest = Instant::now() + SOON;
    loop {
        match it.wait(generation, A_WHILE) {
            Some(State::Draining { held_by }) if is_this_thread(&held_by) => return,
            // Nobody has looked yet.
            Some(State::Draining { held_by }) => assert!(Instant::now() < latest, "{held_by:?}"),
            state => panic!("{state:?}"),
        }
    }
}

#[test]
fn a_generation_is_held_until_the_last_of_its_calls_ends() {
    for first_ends_first in [true, false] {
        let it = Arc::new(load("build_1"));
        let first = Suspended::inside(&it, 1);
        let second = Suspended::inside(&it, 1);
        it.swap(plugin("build_2")).unwrap();
        let (ends, stays) = if first_ends_first {
            (first, second)
        } else {
            (second, first)
        };
        ends.end();
        held_by_this_thread(&it, 1);
        // Calls that overlap share a generation.
        let third = Suspended::inside(&it, 1);
        stays.end();
        held_by_this_thread(&it, 1);
        third.end();
        unloaded(&it, 1);
        assert_eq!(build_of(&it), 2);
    }
}

#[test]
fn calls_of_two_swap_points_end_crosswise() {
    let (a, b) = (Arc::new(load("build_1")), Arc::new(load("build_1")));
    let in_a = Suspended::inside(&a, 1);
    let in_b = Suspended::inside_with(&b, 1, {
        let a = Arc::clone(&a);
        move || assert_eq!(build_of(&a), 2)
    });
    for it in [&a, &b] {
        it.swap(plugin("build_2")).unwrap();
    }
    in_a.end();
    unloaded(&a, 1);
    // Nothing but the call on `b` is left, and a call inside of it is on the same generation.
    held_by_this_thread(&b, 1);
    in_b.end();
    unloaded(&b, 1);
    assert_eq!(build_of(&b), 2);
}

/// A process of its own, because what is held for ever has a thread that looks for its end for ever.
#[test]
fn a_call_that_never_ends_holds_its_own_generation_only() {
    alone(
        "coroutines::a_call_that_never_ends_holds_its_own_generation_only",
        || {
            let it = Arc::new(load("build_1"));
            let other = Arc::new(load("build_1"));
            mem::forget(Suspended::inside(&it, 1));
            for generation in 1..=3 {
                it.swap(plugin("build_2")).unwrap();
                other.swap(plugin("build_2")).unwrap();
                unloaded(&other, generation);
                // This thread is inside of the first generation, as far as anybody can tell. Others are not.
                assert_eq!(build_of(&it), 1);
                assert_eq!(build_of(&other), 2);
                let elsewhere = Arc::clone(&it);
                let elsewhere = std::thread::spawn(move || build_of(&elsewhere));
                assert_eq!(elsewhere.join().unwrap(), 2);
            }
            for generation in 2..=3 {
                unloaded(&it, generation);
            }
            held_by_this_thread(&it, 1);
        },
    );
}
