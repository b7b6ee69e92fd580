//! A thread that unloads slower than others swap.

use std::{
    env, fs,
    path::PathBuf,
    sync::{
        Arc, Barrier, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use ::tracing::{Event, Subscriber};
use crossbeam_channel::{Receiver, Sender, bounded};
use hotswap_core::{
    Error, ErrorKind, Limits, Settings, Stage, State,
    event::Holder,
    loader::{Library, Loader, LoaderSettings},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

use crate::{
    alone::{alone, alone_with},
    fixtures::{
        Plugin, SOON, StopAtEnd, build_of, generation, load, load_with, plugin, trust, unloaded,
        until,
    },
    process::{images, open_descriptors},
};

/// So many images may be left for the thread that unloads (`IMAGES_MAX` in `backlog`).
pub(crate) const BACKLOG: u64 = 4;

/// Something that the thread which unloads does after each image.
struct AfterEach<F>(F);

impl<F: Fn() + Send + Sync + 'static, S: Subscriber> Layer<S> for AfterEach<F> {
    fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
        if thread::current().name() == Some("hotswap-reaper") {
            (self.0)();
        }
    }
}

/// Slows the thread down that unloads, for the whole process.
fn after_each(f: impl Fn() + Send + Sync + 'static) {
    tracing_subscriber::registry().with(AfterEach(f)).init();
}

/// Where that thread waits, after each image, until the other end says that it may go on, or is dropped.
pub(crate) fn gate() -> (Receiver<()>, Sender<()>) {
    let (arrived, wait_arrived) = bounded(0);
    let (go_on, wait_go_on) = bounded(0);
    after_each(move || {
        // Nobody waits for it any more.
        let _ = arrived.send(());
        let _ = wait_go_on.recv();
    });
    (wait_arrived, go_on)
}

/// Also of another swap point: the linker's lock is one for all.
#[test]
fn a_swap_does_not_wait_for_a_finaliser_without_bound() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("FINALISER_WAITS", folder.path().to_str().unwrap())];
    let test = "backlog::a_swap_does_not_wait_for_a_finaliser_without_bound";
    alone_with(test, &environment, || {
        let folder = PathBuf::from(env::var_os("FINALISER_WAITS").unwrap());
        let change = |settings: &mut Settings<_>| settings.limits.unload_timeout = Duration::ZERO;
        let it = load_with("finaliser_waits", change);
        let other = load_with("build_1", change);
        it.swap(plugin("build_1")).unwrap();
        until(|| folder.join("begun").exists());
        // Until then, a finaliser counts as a short one.
        thread::sleep(Duration::from_millis(50));
        for point in [&it, &other] {
            let error = point.swap(plugin("build_2")).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::UnloadingBehind { images: 1, .. }),
                "{error}"
            );
            assert_eq!(build_of(point), 1);
        }
        fs::write(folder.join("end"), "").unwrap();
        unloaded(&it, 1);
        until(|| it.swap(plugin("build_2")).is_ok());
    });
}

/// It runs while the linker's lock is held, so that whatever opens an image would wait for it.
#[test]
fn a_finaliser_can_load_nothing() {
    static IT: OnceLock<Plugin> = OnceLock::new();
    static ERRORS: Mutex<Vec<Error>> = Mutex::new(Vec::new());

    extern "C" fn load_more() {
        let it = IT.get().unwrap();
        let errors = [
            it.swap(plugin("build_2")).err(),
            it.rollback().err(),
            Plugin::load(plugin("build_2"), &trust()).err(),
        ];
        ERRORS.lock().unwrap().extend(errors.into_iter().flatten());
    }

    alone("backlog::a_finaliser_can_load_nothing", || {
        let it = IT.get_or_init(|| load("finaliser_calls_host"));
        let function: extern "C" fn() = load_more;
        it.with(|it| it.text()(function as usize as u64).map(drop).unwrap());
        it.swap(plugin("build_1")).unwrap();
        unloaded(it, 1);
        let errors = ERRORS.lock().unwrap();
        assert_eq!(errors.len(), 3);
        for error in errors.iter() {
            assert!(matches!(error.kind(), ErrorKind::Busy { .. }), "{error}");
        }
        assert_eq!(it.swap(plugin("build_2")).unwrap().generation, 3);
    });
}

#[test]
fn a_slow_unloading_thread_leaves_few_images_and_copies_behind() {
    alone(
        "backlog::a_slow_unloading_thread_leaves_few_images_and_copies_behind",
        || {
            const SWAPS: u64 = 60;
            // Ten times what a swap and its unloading take by themselves.
            after_each(|| thread::sleep(Duration::from_millis(50)));
            let it = load_with("build_1", |settings| settings.limits.unload_timeout = SOON);
            let before = open_descriptors();
            let (mut descriptors, mut mapped) = (0, 0);
            for _ in 0..SWAPS {
                it.swap(plugin("build_1")).unwrap();
                descriptors = descriptors.max(open_descriptors() - before);
                mapped = mapped.max(images().len());
            }
            // The live one, those that are left, and the one that was swapped in then. Twice as many, for an image is
            // not waited for whose thread has not had a turn for a second.
            let images_max = 2 * (usize::try_from(BACKLOG).unwrap() + 2);
            assert!(mapped <= images_max, "{mapped} images");
            // Each with its copy, and one that is not needed any more; the last that was accepted; one for rollbacks.
            assert!(
                descriptors <= 2 * images_max + 2,
                "{descriptors} descriptors"
            );
            assert!(it.shutdown(SOON).is_empty());
        },
    );
}

#[test]
fn a_candidate_that_has_waited_in_vain_is_refused_and_told_for_what() {
    alone(
        "backlog::a_candidate_that_has_waited_in_vain_is_refused_and_told_for_what",
        || {
            let (arrived, go_on) = gate();
            let it = load_with("build_1", |settings| {
                settings.limits.unload_timeout = Duration::from_millis(10);
            });
            it.swap(plugin("build_1")).unwrap();
            arrived.recv_timeout(SOON).unwrap();
            for _ in 0..BACKLOG {
                it.swap(plugin("build_1")).unwrap();
            }
            let reason = "host: unloading is behind: 4 retired plugins are still to be unloaded after 10ms \
                          (Limits::unload_timeout), and no more are accepted until one has left; the thread that \
                          unloads is at generation 1";
            for error in [
                it.swap(plugin("build_2")).unwrap_err(),
                it.prepare(plugin("build_2")).unwrap_err(),
                // Before the file is looked at.
                it.swap("/no/such.so").unwrap_err(),
            ] {
                assert_eq!(error.stage(), Stage::Host);
                assert_eq!(error.reason(), reason);
            }
            assert_eq!(it.refused().len(), 3);
            assert_eq!(build_of(&it), 1);

            // Nobody waits inside of a call, and the way back is open.
            assert!(it.with(|_| it.swap(plugin("build_2")).is_ok()));
            assert_eq!(build_of(&it), 2);
            it.rollback().unwrap();
            assert_eq!(build_of(&it), 1);

            drop((arrived, go_on));
            for number in 1..=BACKLOG {
                unloaded(&it, number);
            }
            it.swap(plugin("build_2")).unwrap();
        },
    );
}

/// What was held at first is to be unloaded like all else when nobody holds it any more.
#[test]
fn what_calls_and_leases_have_held_is_waited_for_when_they_have_ended() {
    alone(
        "backlog::what_calls_and_leases_have_held_is_waited_for_when_they_have_ended",
        || {
            let (arrived, go_on) = gate();
            let it = load_with("build_1", |settings| {
                settings.limits.unload_timeout = Duration::ZERO;
                settings.limits.drain_deadline = Duration::MAX;
            });
            let stop = AtomicBool::new(false);
            let entered = Barrier::new(2);
            thread::scope(|scope| {
                let _stop = StopAtEnd(&stop);
                let (mut calls, mut leases) = (Vec::new(), Vec::new());
                for number in 1..=BACKLOG + 1 {
                    if number % 2 == 0 {
                        leases.push(it.lease());
                    } else {
                        calls.push(scope.spawn(|| {
                            it.with(|_| {
                                entered.wait();
                                while !stop.load(Ordering::Relaxed) {
                                    thread::sleep(Duration::from_millis(1));
                                }
                            });
                        }));
                        entered.wait();
                    }
                    it.swap(plugin("build_1")).unwrap();
                    // The thread that unloads has found that it is held.
                    while generation(&it, number).state == (State::Draining { held_by: vec![] }) {
                        thread::yield_now();
                    }
                }
                it.swap(plugin("build_1")).unwrap();
                arrived.recv_timeout(SOON).unwrap();
                unloaded(&it, BACKLOG + 2);
                stop.store(true, Ordering::Relaxed);
                calls.into_iter().for_each(|call| call.join().unwrap());
            });
            // At the next look all of them have drained, and the first is unloaded.
            go_on.send(()).unwrap();
            arrived.recv_timeout(SOON).unwrap();
            let error = it.swap(plugin("build_2")).unwrap_err();
            let reason = error.reason();
            let expected = "host: unloading is behind: 4 retired plugins are still to be unloaded";
            assert!(reason.starts_with(expected), "{reason}");
            drop((arrived, go_on));
            for number in 1..=BACKLOG + 2 {
                unloaded(&it, number);
            }
            it.swap(plugin("build_2")).unwrap();
        },
    );
}

/// The time that another candidate's probe takes is not spent on waiting for the thread that unloads.
#[test]
fn who_stands_behind_another_candidate_does_not_pay_for_that_time() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    alone(
        "backlog::who_stands_behind_another_candidate_does_not_pay_for_that_time",
        || {
            let (arrived, go_on) = gate();
            let (probed, wait_probed) = bounded(0);
            let (answer, wait_answer) = bounded::<()>(0);
            let it = load_with("build_1", |settings| {
                settings.limits.unload_timeout = TIMEOUT;
                settings.probe = Some(Arc::new(move |candidate, _| {
                    if candidate.build_a()() == 2 {
                        probed.send(()).map_err(|error| error.to_string())?;
                        wait_answer.recv().map_err(|error| error.to_string())?;
                    }
                    Ok(())
                }));
            });
            let prepared: Vec<_> = (0..BACKLOG)
                .map(|_| it.prepare(plugin("build_1")).unwrap())
                .collect();
            it.swap(plugin("build_1")).unwrap();
            arrived.recv_timeout(SOON).unwrap();
            thread::scope(|scope| {
                let ahead = scope.spawn(|| it.swap(plugin("build_2")).map(drop));
                wait_probed.recv_timeout(SOON).unwrap();
                let behind = scope.spawn(|| it.swap(plugin("suffix_field")).map(drop));
                for prepared in prepared {
                    prepared.publish();
                }
                // What is waited for is that this time has passed.
                thread::sleep(TIMEOUT + TIMEOUT / 10);
                answer.send(()).unwrap();
                ahead.join().unwrap().unwrap();
                // Whoever had to pay for it has been refused by now.
                drop((arrived, go_on));
                behind.join().unwrap().unwrap();
            });
            assert_eq!(build_of(&it), 3);
        },
    );
}

/// Whoever waited here would wait for itself.
#[test]
fn the_thread_that_unloads_does_not_wait_for_itself() {
    alone(
        "backlog::the_thread_that_unloads_does_not_wait_for_itself",
        || {
            type Swap = Box<dyn Fn() + Send + Sync>;
            static SWAP: std::sync::OnceLock<Swap> = std::sync::OnceLock::new();
            static DONE: AtomicUsize = AtomicUsize::new(0);
            const SWAPS: usize = 3 * BACKLOG as usize;
            after_each(|| {
                // Each of them is heard of here in turn.
                if DONE.fetch_add(1, Ordering::Relaxed) == 0 {
                    for _ in 0..SWAPS {
                        (SWAP.get().unwrap())();
                    }
                }
            });
            let it = Arc::new(load_with("build_1", |settings| {
                settings.limits.unload_timeout = Duration::MAX;
            }));
            let swap = {
                let it = Arc::clone(&it);
                move || assert!(it.swap(plugin("build_1")).is_ok())
            };
            assert!(SWAP.set(Box::new(swap)).is_ok());
            it.swap(plugin("build_1")).unwrap();
            for number in 1..SWAPS as u64 + 2 {
                while it.generations().last().unwrap().number <= number {
                    thread::yield_now();
                }
                unloaded(&it, number);
            }
        },
    );
}

#[test]
fn a_loader_waits_for_its_thread_too() {
    alone("backlog::a_loader_waits_for_its_thread_too", || {
        let (arrived, go_on) = gate();
        let settings = LoaderSettings {
            limits: Limits {
                unload_timeout: Duration::ZERO,
                ..Limits::default()
            },
            ..LoaderSettings::default()
        };
        let loader = Loader::with_settings(&trust(), settings).unwrap();
        let open = || {
            loader
                .open(plugin("functions_1"))
                .map(|it| Library::number(&it))
        };
        open().unwrap();
        arrived.recv_timeout(SOON).unwrap();
        for _ in 0..BACKLOG {
            open().unwrap();
        }
        let error: Error = open().unwrap_err();
        assert_eq!(error.stage(), Stage::Host);
        let reason = error.reason();
        let expected = "still to be unloaded after 0ns (Limits::unload_timeout)";
        assert!(reason.contains(expected), "{reason}");
        drop((arrived, go_on));
        for number in 1..=BACKLOG + 1 {
            assert_eq!(loader.wait(number, SOON), Some(State::Unloaded));
        }
        open().unwrap();
    });
}

/// What has become of the bounds while a file waited is looked at before it is opened.
#[test]
fn a_loader_counts_again_what_is_retained_when_it_has_waited() {
    const MAX: usize = BACKLOG as usize + 1;
    alone(
        "backlog::a_loader_counts_again_what_is_retained_when_it_has_waited",
        || {
            let (arrived, go_on) = gate();
            let settings = LoaderSettings {
                limits: Limits {
                    unload_timeout: Duration::MAX,
                    retired_images_max: MAX,
                    ..Limits::default()
                },
                ..LoaderSettings::default()
            };
            let loader = Loader::with_settings(&trust(), settings).unwrap();
            // They stay when they are retired.
            let mut opened: Vec<_> = (0..MAX)
                .map(|_| loader.open(plugin("constructs_plain")).unwrap())
                .collect();
            drop(loader.open(plugin("functions_1")).unwrap());
            arrived.recv_timeout(SOON).unwrap();
            let last = opened.pop();
            drop(opened);
            thread::scope(|scope| {
                let (id, wait_id) = bounded(1);
                let loader = &loader;
                let waiting = scope.spawn(move || {
                    id.send(rustix::thread::gettid().as_raw_nonzero()).unwrap();
                    loader.open(plugin("functions_1")).map(drop)
                });
                let id = wait_id.recv().unwrap();
                let stat =
                    || std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).unwrap();
                // Until it waits. If it only seems to, it is refused without having waited.
                while !stat().contains(") S ") {
                    thread::yield_now();
                }
                drop(last);
                drop((arrived, go_on));
                let error = waiting.join().unwrap().unwrap_err();
                let reason = error.reason();
                assert!(reason.starts_with("host: 5 retired plugins"), "{reason}");
            });
        },
    );
}

/// With a timeout that does not end: whoever waited here would wait for what the test itself holds.
#[test]
fn nobody_waits_for_a_lease_a_call_or_what_is_pinned() {
    const EACH: u64 = 2 * BACKLOG;
    alone(
        "backlog::nobody_waits_for_a_lease_a_call_or_what_is_pinned",
        || {
            let it = load_with("build_1", |settings| {
                settings.limits.unload_timeout = Duration::MAX
            });
            let stop = AtomicBool::new(false);
            let entered = Barrier::new(2);
            thread::scope(|scope| {
                let _stop = StopAtEnd(&stop);
                let mut leases = Vec::new();
                for _ in 0..EACH {
                    leases.push(it.lease());
                    it.swap(plugin("build_2")).unwrap();
                    scope.spawn(|| stay_inside(&it, &entered, &stop));
                    entered.wait();
                    // It stays when it is retired.
                    it.swap(plugin("constructs_plain")).unwrap();
                    it.swap(plugin("build_1")).unwrap();
                }
                assert_eq!(build_of(&it), 1);
            });
        },
    );
}

/// A call that lasts from `entered` until `stop`.
fn stay_inside(it: &Plugin, entered: &Barrier, stop: &AtomicBool) {
    it.with(|_| {
        entered.wait();
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
    });
}

/// Does something while so many threads are inside a call.
fn during_calls(it: &Plugin, calls: usize, body: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let entered = Barrier::new(calls + 1);
    thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        for _ in 0..calls {
            scope.spawn(|| stay_inside(it, &entered, &stop));
        }
        entered.wait();
        body();
    });
}

#[test]
fn of_many_holders_some_are_listed_and_the_rest_is_counted() {
    const CALLS: usize = 40;
    let it = load_with("build_1", |settings| settings.record_leases = true);
    let leases: Vec<_> = (0..100).map(|_| it.lease()).collect();
    let listed = |expected: usize| {
        let by = loop {
            match generation(&it, 1).state {
                State::Draining { held_by } if !held_by.is_empty() => {
                    let more = held_by.last().cloned();
                    // The threads may still be counted at the first look.
                    if more
                        == Some(Holder::More {
                            count: expected - 32,
                        })
                    {
                        break held_by;
                    }
                }
                State::Draining { .. } => {}
                other => panic!("{other:?}"),
            }
            thread::yield_now();
        };
        assert_eq!(by.len(), 33);
        by
    };
    during_calls(&it, CALLS, || {
        it.swap(plugin("build_2")).unwrap();
        let by = listed(CALLS + leases.len());
        assert!(matches!(by[0], Holder::Call { .. }), "{by:?}");
    });
    let by = listed(leases.len());
    assert!(matches!(by[0], Holder::Lease { .. }), "{by:?}");
    assert_eq!(by[32].to_string(), "68 more");
    drop(leases);
    unloaded(&it, 1);
}

#[test]
fn leases_that_are_not_recorded_are_told_beside_many_calls() {
    let it = load("build_1");
    let leases: Vec<_> = (0..100).map(|_| it.lease()).collect();
    during_calls(&it, 40, || {
        it.swap(plugin("build_2")).unwrap();
        let by = loop {
            match generation(&it, 1).state {
                State::Draining { held_by } if !held_by.is_empty() => break held_by,
                State::Draining { .. } => thread::yield_now(),
                other => panic!("{other:?}"),
            }
        };
        assert!(matches!(by[31], Holder::Call { .. }), "{by:?}");
        let rest: Vec<_> = by[32..].iter().map(ToString::to_string).collect();
        assert_eq!(rest, ["8 more", "100 leases"]);
    });
    drop(leases);
    unloaded(&it, 1);
}
