//! Plugins that log leave, and what the host keeps of what they said stays.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use hotswap_core::{Hotswap, State};
use hotswap_fixtures::logs::{Gate, Logs};
use tracing::{Instrument, info_span};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use super::{
    load,
    subscriber::{Told, What},
};
use crate::{
    alone::alone,
    fixtures::{SOON, plugin, until},
    process,
};

fn told() -> Told {
    let told = Told::default();
    tracing_subscriber::registry().with(told.layer()).init();
    told
}

/// Opens when the other half is dropped.
#[derive(Clone)]
struct HostGate {
    reached: Sender<()>,
    opened: Receiver<()>,
}

/// A gate, what it tells when it is reached, and what opens it when it is dropped.
fn new_gate() -> (Box<dyn Gate>, Receiver<()>, Sender<()>) {
    let (reached, is_reached) = unbounded();
    let (open, opened) = bounded(0);
    (Box::new(HostGate { reached, opened }), is_reached, open)
}

#[hotswap_sdk::interface]
impl Gate for HostGate {
    fn reached(&self) {
        self.reached.send(()).unwrap();
    }

    fn pass(&self) {
        let _ = self.opened.recv();
    }

    async fn passed(&self) {
        self.reached.send(()).unwrap();
        while self.opened.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {
            tokio::task::yield_now().await;
        }
    }
}

#[track_caller]
fn unloaded(logs: &Hotswap<dyn Logs>, generation: u64) {
    assert_eq!(logs.wait(generation, SOON), Some(State::Unloaded));
}

/// It lives on and does nothing.
#[test]
fn a_thread_that_has_logged_does_not_hold_the_plugin() {
    alone(
        "logs::leaving::a_thread_that_has_logged_does_not_hold_the_plugin",
        || {
            let _told = told();
            let logs = Arc::new(load("logs_1"));
            let (done, is_done) = bounded(0);
            let (end, ended) = bounded::<()>(0);
            let shared = Arc::clone(&logs);
            let thread = thread::spawn(move || {
                shared.with(|it| {
                    it.say_all();
                    it.say_levels();
                    it.say_of(3);
                    it.nest();
                    it.instrumented(1);
                    it.choose();
                    it.current();
                });
                info_span!("request").in_scope(|| shared.with(|it| it.current()));
                drop(shared);
                done.send(()).unwrap();
                let _ = ended.recv();
            });
            is_done.recv_timeout(SOON).unwrap();
            logs.swap(plugin("logs_2")).unwrap();
            unloaded(&logs, 1);
            drop(end);
            thread.join().unwrap();
        },
    );
}

/// By a thread of the plugin that is in it, and by one that was forgotten.
#[test]
fn a_span_that_is_open_is_closed_when_its_plugin_is_gone() {
    alone(
        "logs::leaving::a_span_that_is_open_is_closed_when_its_plugin_is_gone",
        || {
            let told = told();
            let logs = load("logs_1");
            let (gate, reached, open) = new_gate();
            logs.with(|it| it.hold(gate));
            reached.recv_timeout(SOON).unwrap();
            logs.with(|it| it.leak());
            logs.swap(plugin("logs_2")).unwrap();
            assert_eq!(
                logs.wait(1, Duration::from_millis(50))
                    .map(|it| it.has_ended()),
                Some(false)
            );
            assert_eq!(told.count(What::Closed, "held"), 0);
            drop(open);
            unloaded(&logs, 1);
            for name in ["held", "leaked"] {
                assert_eq!(told.count(What::NewSpan, name), 1);
                assert_eq!(told.count(What::Closed, name), 1);
            }
            let events = told.take_events();
            let of_thread = events.iter().find(|it| it.message() == "from a thread");
            assert_eq!(of_thread.unwrap().scope, ["held"]);
            // Also after the thread and the value: the last line of the plugin.
            assert_eq!(events.last().unwrap().message(), "dropped");
            assert_eq!(events.last().unwrap().field("generation"), "u64 1");
        },
    );
}

/// When it ends, or when it calls a plugin again.
#[test]
fn a_thread_may_log_when_it_leaves() {
    alone("logs::leaving::a_thread_may_log_when_it_leaves", || {
        let told = told();
        let logs = Arc::new(load("logs_1"));
        let (done, is_done) = bounded(0);
        let (end, ended) = bounded::<()>(0);
        let shared = Arc::clone(&logs);
        let thread = thread::spawn(move || {
            shared.with(|it| it.say_when_leaving());
            drop(shared);
            done.send(()).unwrap();
            let _ = ended.recv();
        });
        is_done.recv_timeout(SOON).unwrap();
        logs.swap(plugin("logs_2")).unwrap();
        until(|| {
            let all = told.all();
            all.iter().any(|it| it.message() == "dropped")
        });
        drop(end);
        thread.join().unwrap();
        unloaded(&logs, 1);
        let events = told.take_events();
        let last: Vec<_> = events.iter().rev().take(3).map(|it| it.message()).collect();
        assert_eq!(last, ["left", "leaving", "dropped"]);
        assert_eq!(events[events.len() - 2].scope, ["leaves"]);
    });
}

/// Only that thread could leave it. For a `Registry`, it is then in no span.
#[test]
fn a_thread_that_is_inside_of_a_span_goes_on() {
    alone(
        "logs::leaving::a_thread_that_is_inside_of_a_span_goes_on",
        || {
            let told = told();
            let logs = load("logs_1");
            logs.with(|it| it.forget_inside());
            logs.swap(plugin("logs_2")).unwrap();
            unloaded(&logs, 1);
            told.take();
            tracing::info!("of the host");
            logs.with(|it| it.judge(1));
            let events = told.take_events();
            assert_eq!(events.len(), 2);
            assert!(events.iter().all(|it| it.scope.is_empty()));
            tracing::info_span!("request").in_scope(|| logs.with(|it| it.judge(1)));
            assert_eq!(told.take_events()[0].scope, ["request"]);
        },
    );
}

/// On the host's threads, and on a runtime of the plugin's own: a call's task is in the span that is current where the
/// host first polls it.
#[test]
fn a_future_stays_in_its_span_across_a_swap() {
    alone(
        "logs::leaving::a_future_stays_in_its_span_across_a_swap",
        || {
            let told = told();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .build()
                .unwrap();
            for name in ["logs_1", "logs_tokio"] {
                let logs = load(name);
                told.take();
                let (gate, reached, open) = new_gate();
                let call = logs.call_async(|it| it.wait(gate));
                let call = runtime.spawn(call.instrument(info_span!("request")));
                reached.recv_timeout(SOON).unwrap();
                logs.swap(plugin("logs_2")).unwrap();
                drop(open);
                runtime.block_on(call).unwrap().unwrap();
                unloaded(&logs, 1);
                for message in ["before", "after"] {
                    let all = told.all();
                    let said = all.iter().find(|it| it.message() == message).unwrap();
                    assert_eq!(said.scope, ["request", "waits"], "{name}");
                    assert_eq!(said.field("generation"), "u64 1");
                }
                until(|| told.count(What::Closed, "request") == 1);
                assert_eq!(told.count(What::Closed, "waits"), 1);
            }
        },
    );
}

/// Each with a span that is open across the swap.
#[test]
fn three_hundred_generations_leave_nothing() {
    alone(
        "logs::leaving::three_hundred_generations_leave_nothing",
        || {
            let told = told();
            let logs = load("logs_1");
            let swap = |generation: u64| {
                let (gate, reached, open) = new_gate();
                logs.with(|it| it.hold(gate));
                let (waiting, is_waiting, wait) = new_gate();
                let mut call = logs.call_async(|it| it.wait(waiting));
                let mut context = Context::from_waker(Waker::noop());
                assert_eq!(Pin::new(&mut call).poll(&mut context), Poll::Pending);
                logs.with(|it| it.leak());
                reached.recv_timeout(SOON).unwrap();
                is_waiting.recv_timeout(SOON).unwrap();
                logs.swap(plugin("logs_1")).unwrap();
                drop(open);
                // One is cancelled in its span, and one ends.
                if generation.is_multiple_of(2) {
                    drop(wait);
                    while Pin::new(&mut call).poll(&mut context).is_pending() {}
                }
                drop(call);
                unloaded(&logs, generation);
                for name in ["held", "leaked", "waits"] {
                    assert_eq!(told.count(What::NewSpan, name), 1, "{name}");
                    assert_eq!(told.count(What::Closed, name), 1, "{name}");
                }
                told.take();
            };
            (1..=20).for_each(swap);
            let used = || {
                (
                    process::open_descriptors(),
                    process::threads(),
                    process::keys_in_use(),
                )
            };
            let before = used();
            (21..=320).for_each(swap);
            assert_eq!(used(), before);
        },
    );
}
