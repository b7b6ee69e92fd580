//! A process that forks, and a child that goes on.

use std::{
    io::Write,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use futures_executor::block_on;
use hotswap_core::{
    Hotswap, State, canary::Share, detach_current_thread, event::Holder, loader::Loader,
    watch::WatchSettings,
};
use hotswap_fixtures::desk::Desk;

use crate::{
    alone::alone,
    fixtures::{StopAtEnd, build_of, load, plugin, trust, unloaded},
    process::images,
};

/// Runs `body` in a child that this thread forks, and insists that it comes to its end. (What it panics with is on
/// standard error.)
#[track_caller]
fn in_child(body: impl FnOnce()) {
    // SAFETY: the child runs the body and ends; libc's allocator may be used in it.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let ended = panic::catch_unwind(AssertUnwindSafe(body)).is_ok();
        let _ = std::io::stderr().flush();
        // SAFETY: no conditions.
        unsafe { libc::_exit(i32::from(!ended)) };
    }
    let mut status = 0;
    // SAFETY: a child of ours, and a place for its status.
    let result = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(result, child);
    assert_eq!(status, 0, "the child");
}

/// `thread_local_drop` of the constructs.
const THREAD_LOCAL_DROP: u64 = 1;

#[test]
fn a_canary_of_the_parent_is_called_in_the_child_and_not_decided() {
    alone(
        "forked::a_canary_of_the_parent_is_called_in_the_child_and_not_decided",
        || {
            let it = Arc::new(load("build_1"));
            let canary = it.prepare(plugin("build_2")).unwrap();
            let canary = canary.start_canary(Share::ALL).unwrap();
            in_child(|| {
                let chosen = canary.choose("Ada");
                assert_eq!(chosen.with(|it| it.build_a()()), 2);
                let decide: [&dyn Fn(); 3] = [
                    &|| drop(canary.promote()),
                    &|| drop(canary.abandon("no")),
                    &|| canary.set_share(Share::NONE),
                ];
                for decide in decide {
                    panic::catch_unwind(AssertUnwindSafe(decide)).unwrap_err();
                }
                drop((chosen, canary));
                drop(it.clone());
            });
        },
    );
}

#[test]
fn a_swap_point_of_the_parent_is_called_in_the_child_and_not_swapped() {
    alone(
        "forked::a_swap_point_of_the_parent_is_called_in_the_child_and_not_swapped",
        || {
            let it = Arc::new(load("constructs_unloadable"));
            let loader = Loader::new(&trust()).unwrap();
            let library = loader.open(plugin("functions_1")).unwrap();
            let watch = it.watch(WatchSettings::default()).unwrap();
            let lease = it.lease();
            let prepared = it.prepare(plugin("unloadable_with_hook")).unwrap();
            in_child(|| drop(prepared));
            in_child(|| {
                assert_eq!(build_of(&it), 12);
                let expected = "host: this process was forked off the one that loaded the plugin, and has none of its \
                            threads; load it anew here";
                assert_eq!(it.swap(plugin("build_1")).unwrap_err().reason(), expected);
                assert_eq!(
                    it.prepare(plugin("build_1")).unwrap_err().reason(),
                    expected
                );
                assert_eq!(it.rollback().unwrap_err().reason(), expected);
                let swapped = block_on(it.swap_async(plugin("build_1")));
                assert_eq!(swapped.unwrap_err().reason(), expected);
                assert_eq!(it.report_fault(1, "none"), None);
                let expected = "host: this process was forked off the one that made the loader, and has none of its \
                            threads; make one here";
                assert_eq!(
                    loader.open(plugin("functions_1")).unwrap_err().reason(),
                    expected
                );
                drop((watch, library, loader, lease));
                drop(it);
            });
        },
    );
}

#[test]
fn an_object_of_the_parent_is_used_in_the_child() {
    alone(
        "forked::an_object_of_the_parent_is_used_in_the_child",
        || {
            let desk: Hotswap<dyn Desk> = Hotswap::load(plugin("desk_1"), &trust()).unwrap();
            let session = desk.with(|it| it.open("Ada"));
            let lent = &session;
            in_child(|| {
                assert_eq!(lent.user(), "Ada at 1");
                let opened = desk.with(|it| it.open("Bob"));
                assert_eq!(opened.again().user(), "Bob at 1");
                drop(opened);
                assert_eq!(desk.with(|it| it.open_sessions()), 1);
            });
            in_child(|| drop((session, desk)));
        },
    );
}

#[test]
fn a_swap_point_that_is_made_in_the_child_works_like_any_other() {
    alone(
        "forked::a_swap_point_that_is_made_in_the_child_works_like_any_other",
        || {
            let of_parent = load("constructs_unloadable");
            // The thread has something to do for the parent's.
            of_parent.with(|it| it.text()(THREAD_LOCAL_DROP).map(drop).unwrap());
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                let _stop = StopAtEnd(&stop);
                // Threads that stay behind, in the middle of calls.
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            build_of(&of_parent);
                        }
                    });
                }
                for _ in 0..10 {
                    in_child(|| {
                        let inherited = images().len();
                        let it = load("constructs_unloadable");
                        it.with(|it| it.text()(THREAD_LOCAL_DROP).map(drop).unwrap());
                        it.swap(plugin("build_1")).unwrap();
                        // This thread has a destructor to run, and is known for it by the number that it has here.
                        let this = rustix::thread::gettid()
                            .as_raw_nonzero()
                            .get()
                            .cast_unsigned();
                        let is_held = || {
                            matches!(&it.generations()[0].state, State::Draining { held_by }
                            if matches!(held_by[..], [Holder::Destructors { thread, .. }] if thread == this))
                        };
                        while !is_held() {
                            thread::yield_now();
                        }
                        detach_current_thread();
                        unloaded(&it, 1);
                        assert_eq!(images().len(), inherited + 1);
                        assert_eq!(build_of(&it), 1);
                        assert!(it.shutdown(Duration::from_secs(60)).is_empty());
                        assert_eq!(images().len(), inherited);
                    });
                }
            });
        },
    );
}
