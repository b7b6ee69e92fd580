//! Plugins that log leave, and what the host keeps of what they said stays.

use std::{
    collections::BTreeSet,
    ops::Range,
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

#[test]
fn callsites_of_many_generations_are_the_same() {
    alone(
        "logs::leaving::callsites_of_many_generations_are_the_same",
        || {
            let told = told();
            let logs = load("logs_1");
            let mut callsites = BTreeSet::new();
            let mut generations = BTreeSet::new();
            for generation in 1..=50 {
                logs.with(|it| {
                    it.judge(generation);
                    it.say_levels();
                    it.nest();
                });
                logs.swap(plugin("logs_1")).unwrap();
                unloaded(&logs, generation);
                for it in told.take() {
                    callsites.insert(std::ptr::from_ref(it.metadata).addr());
                    generations.insert(it.field("generation").to_owned());
                }
            }
            // The eleven of the levels, "judged", two spans, and one for all that have a message alone: what a macro
            // makes is at one place.
            assert_eq!(callsites.len(), 11 + 1 + 2 + 1);
            assert!(generations.contains("u64 1") && generations.contains("u64 50"));
        },
    );
}

/// Beyond the bound, one callsite says all in its message.
#[test]
fn records_of_any_target_are_bounded() {
    alone("logs::leaving::records_of_any_target_are_bounded", || {
        let told = told();
        let logs = load("logs_1");
        told.take();
        logs.with(|it| it.say_of(5_000));
        logs.with(|it| it.say_of(1));
        let events = told.take_events();
        assert_eq!(events.len(), 5_001);
        let callsites: BTreeSet<_> = events
            .iter()
            .map(|it| std::ptr::from_ref(it.metadata).addr())
            .collect();
        assert_eq!(callsites.len(), 4_096 + 1);
        let (first, last) = (&events[0], &events[4_999]);
        assert_eq!(
            (first.metadata.target(), first.message()),
            ("target 0", "number 0")
        );
        assert_eq!(last.metadata.target(), "hotswap::plugin");
        let message = last.message();
        assert!(
            message.starts_with("target 4999: number 4999 ("),
            "{message}"
        );
        assert!(message.ends_with("examples/logs_1.rs:5)"), "{message}");
        assert_eq!(last.field("generation"), "u64 1");
        assert_eq!(events[5_000].metadata.target(), "target 0");
        // Spans and events have a bound of their own.
        logs.with(|it| it.judge(1));
        assert_eq!(told.take_events()[0].metadata.target(), "logs_1");
    });
}

/// All that a subscriber may keep is memory of the host's own.
#[test]
fn what_the_host_keeps_leads_into_no_image() {
    alone(
        "logs::leaving::what_the_host_keeps_leads_into_no_image",
        || {
            let told = told();
            let logs = load("logs_1");
            logs.with(|it| {
                it.say_all();
                it.say_levels();
                it.instrumented(1);
                it.choose();
            });
            let all = told.all();
            let images = process::images();
            assert!(!images.is_empty());
            let is_outside = |text: &str| {
                let address = text.as_ptr().addr();
                !images.iter().any(|it: &Range<usize>| it.contains(&address))
            };
            for it in &all {
                let metadata = it.metadata;
                assert!(is_outside(metadata.name()) && is_outside(metadata.target()));
                assert!(metadata.file().is_none_or(is_outside));
                assert!(metadata.module_path().is_none_or(is_outside));
                assert!(
                    metadata
                        .fields()
                        .iter()
                        .all(|field| is_outside(field.name()))
                );
                assert!(it.fields.keys().all(|name| is_outside(name)));
                let address = std::ptr::from_ref(metadata).addr();
                assert!(!images.iter().any(|it| it.contains(&address)));
            }
            logs.swap(plugin("logs_2")).unwrap();
            unloaded(&logs, 1);
            // Read when it is gone.
            let shown = format!("{:?}", all.iter().map(|it| it.metadata).collect::<Vec<_>>());
            assert!(
                shown.contains("judged") && shown.contains("order"),
                "{shown}"
            );
            // Also by the host's `tracing`, which asks for every callsite again.
            tracing::callsite::rebuild_interest_cache();
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
