//! Calls and leases, across swaps.

use std::{
    cell::RefCell,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use hotswap_core::{Bound, Event, EventKind, Generation, Hotswap, Lease, State, event::Holder};
use hotswap_fixtures::FixtureRef;

use crate::fixtures::{Plugin, SOON, build_of, load, load_with, plugin, unloaded};

#[test]
fn a_swap_inside_a_call_works_and_the_call_stays_where_it_was() {
    let it = load("build_1");
    it.with(|outer| {
        assert_eq!(it.swap(plugin("build_2")).unwrap().generation, 2);
        assert_eq!((outer.number(), outer.build_a()()), (1, 1));
        assert_eq!(
            it.with(|nested| (nested.number(), nested.build_b()())),
            (1, 1)
        );
        assert!(matches!(
            it.wait(1, Duration::from_millis(50)),
            Some(State::Draining { .. })
        ));
        assert_eq!(outer.build_b()(), 1);
    });
    assert_eq!(build_of(&it), 2);
    unloaded(&it, 1);
}

#[test]
fn calls_nest_to_any_depth_and_across_swap_points() {
    fn descend(a: &Plugin, b: &Plugin, depth: u32) -> u64 {
        if depth == 0 {
            return 0;
        }
        a.with(|outer| {
            b.with(|inner| outer.build_a()() + inner.build_a()() + descend(a, b, depth - 1))
        })
    }
    let (a, b) = (load("build_1"), load("build_2"));
    assert_eq!(descend(&a, &b, 500), 1500);
}

#[test]
fn a_lease_inside_a_call_is_on_the_live_generation() {
    let it = load("build_1");
    let lease = it.with(|outer| {
        it.swap(plugin("build_2")).unwrap();
        let number = it.lease().number();
        assert_eq!((outer.number(), number), (1, 2));
        number
    });
    assert_eq!(lease, 2);
}

#[test]
fn a_lease_of_a_call_is_on_the_generation_of_the_call() {
    let it = load("build_1");
    let lease = it.with(|outer| {
        it.swap(plugin("build_2")).unwrap();
        let lease = it.lease_of_call();
        assert_eq!((outer.number(), lease.number()), (1, 1));
        lease
    });
    assert_eq!(it.lease_of_call().number(), 2, "outside of calls");
    // A lease does not count as a call.
    assert_eq!(lease.with(|_| it.lease_of_call().number()), 2);
    assert_eq!(lease.with(|old| old.build_a()()), 1);
    drop(lease);
    unloaded(&it, 1);
}

#[test]
fn a_call_does_not_inherit_from_a_lease() {
    let it = load("build_1");
    let lease = it.lease();
    it.swap(plugin("build_2")).unwrap();
    assert_eq!(
        lease.with(|old| (old.build_a()(), it.with(|new| new.build_a()()))),
        (1, 2)
    );
}

#[test]
fn a_lease_outlives_two_swaps_and_ends_on_another_thread() {
    let it = load_with("build_1", |settings| {
        settings.limits.drain_deadline = Duration::from_millis(10)
    });
    let lease = it.lease();
    let also = lease.clone();
    it.swap(plugin("build_2")).unwrap();
    it.swap(plugin("suffix_field")).unwrap();
    unloaded(&it, 2);
    assert_eq!(lease.with(|old| old.build_a()()), 1);
    assert_eq!(lease.number(), 1);

    let held =
        |event: &Event| matches!(event.kind, EventKind::Held { .. }) && event.generation == Some(1);
    let events = it.events();
    let event = std::iter::from_fn(|| events.recv_timeout(SOON).ok())
        .find(held)
        .unwrap();
    assert_eq!(event.to_string(), "held generation 1: 2 leases");
    drop(lease);
    assert!(matches!(
        it.wait(1, Duration::from_millis(50)),
        Some(State::Draining { .. })
    ));
    thread::spawn(move || drop(also)).join().unwrap();
    unloaded(&it, 1);
}

#[test]
fn recorded_leases_say_where_and_when_they_were_taken() {
    let it = load_with("build_1", |settings| {
        settings.record_leases = true;
        settings.limits.drain_deadline = Duration::from_millis(10);
    });
    drop(it.lease());
    let lease = it.lease();
    let also = lease.clone();
    it.swap(plugin("build_2")).unwrap();
    let held = |event: &Event| matches!(event.kind, EventKind::Held { .. });
    let events = it.events();
    let event = std::iter::from_fn(|| events.recv_timeout(SOON).ok())
        .find(held)
        .unwrap();
    let text = event.to_string();
    assert!(
        text.starts_with("held generation 1: a lease taken at hotswap-core/tests/it/reading.rs:"),
        "{text}"
    );
    let EventKind::Held { by, .. } = event.kind else {
        unreachable!()
    };
    let [
        Holder::Lease {
            place: first, age, ..
        },
        Holder::Lease { place: second, .. },
    ] = &by[..]
    else {
        panic!("not {by:?}")
    };
    assert_eq!(first.line() + 1, second.line());
    assert!(*age >= Duration::from_millis(10));
    drop((lease, also));
    unloaded(&it, 1);
}

#[test]
fn a_call_that_does_not_end_is_named() {
    let it = Arc::new(load_with("build_1", |settings| {
        settings.limits.drain_deadline = Duration::from_millis(10)
    }));
    let (entered, wait_entered) = mpsc::channel();
    let (leave, wait_leave) = mpsc::channel::<()>();
    let caller = thread::Builder::new()
        .name("slow-caller".to_owned())
        .spawn({
            let it = Arc::clone(&it);
            move || {
                it.with(|_| {
                    entered.send(()).unwrap();
                    wait_leave.recv().unwrap();
                });
            }
        });
    wait_entered.recv().unwrap();
    it.swap(plugin("build_2")).unwrap();
    let events = it.events();
    let event = std::iter::from_fn(|| events.recv_timeout(SOON).ok())
        .find(|event| matches!(event.kind, EventKind::Held { .. }))
        .unwrap();
    let (Some(1), EventKind::Held { by, .. }) = (event.generation, &event.kind) else {
        panic!("not {event:?}")
    };
    let [Holder::Call { name, .. }] = &by[..] else {
        panic!("not {by:?}")
    };
    assert_eq!(name, "slow-caller");
    assert_eq!(
        it.generations()[0].state,
        State::Draining {
            held_by: by.clone()
        }
    );
    leave.send(()).unwrap();
    unloaded(&it, 1);
    caller.unwrap().join().unwrap();
}

#[test]
fn a_panic_in_the_host_s_closure_leaves_the_generation() {
    let it = load("build_1");
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        it.with::<()>(|_| panic!("mine"))
    }));
    assert!(panic.is_err());
    it.swap(plugin("build_2")).unwrap();
    unloaded(&it, 1);
}

#[test]
fn a_panic_in_the_plugin_is_an_error_of_that_call() {
    let it = load("panicking");
    let text = it.with(|it| {
        it.text()(1)
            .into_result()
            .map(String::from)
            .map_err(String::from)
    });
    assert_eq!(text, Err("as expected by a test".to_owned()));
    assert_eq!(build_of(&it), 7);
}

#[test]
fn calls_work_while_a_thread_ends() {
    /// Calls the plugin from its destructor, which runs after that of what hotswap keeps for the thread
    /// when it was made earlier, and before it when it was made later.
    struct Late(Arc<Plugin>, mpsc::Sender<u64>);
    impl Drop for Late {
        fn drop(&mut self) {
            let nested = self
                .0
                .with(|outer| outer.build_a()() + self.0.with(|inner| inner.build_b()()));
            self.1
                .send(nested + self.0.lease().with(|it| it.build_a()()))
                .unwrap();
        }
    }
    thread_local! {
        static FIRST: RefCell<Option<Late>> = const { RefCell::new(None) };
        static LAST: RefCell<Option<Late>> = const { RefCell::new(None) };
    }
    let it = Arc::new(load("build_1"));
    let (answers, received) = mpsc::channel();
    thread::spawn({
        let it = Arc::clone(&it);
        move || {
            FIRST.set(Some(Late(Arc::clone(&it), answers.clone())));
            build_of(&it);
            LAST.set(Some(Late(Arc::clone(&it), answers)));
        }
    })
    .join()
    .unwrap();
    assert_eq!(received.iter().collect::<Vec<_>>(), [3, 3]);
    it.swap(plugin("build_2")).unwrap();
    unloaded(&it, 1);
}

#[test]
fn a_value_of_the_plugin_can_leave_with_its_lease() {
    let it = load("build_1");
    let text: Bound<FixtureRef, _> = it.lease().bind(|it| it.text()(7).unwrap());
    it.swap(plugin("build_2")).unwrap();
    assert_eq!(text.with((), |text, ()| text.to_string()), "build 1 says 7");
    assert_eq!(text.lease().number(), 1);
    assert!(matches!(
        it.wait(1, Duration::from_millis(50)),
        Some(State::Draining { .. })
    ));
    drop(text);
    unloaded(&it, 1);
}

#[test]
fn what_is_shared_between_threads_can_be() {
    fn check<T: Send + Sync>() {}
    check::<Hotswap<FixtureRef>>();
    check::<Generation<FixtureRef>>();
    check::<Lease<FixtureRef>>();
    check::<Bound<FixtureRef, u64>>();
    assert_eq!(size_of::<Lease<FixtureRef>>(), 2 * size_of::<usize>());
}
