//! What the host does not want is not sent, and what it wants may change.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use hotswap_core::{Hotswap, State};
use hotswap_fixtures::logs::Logs;
use tracing::{
    Level, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{
    Layer,
    filter::{Targets, dynamic_filter_fn},
    layer::{Context, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

use super::{load, subscriber::Told};
use crate::{
    alone::alone,
    fixtures::{SOON, plugin, until},
};

/// How many lines of [`Logs::say_levels`] are formatted, of `tracing` and of `log`.
fn formatted(logs: &Hotswap<dyn Logs>) -> u64 {
    logs.with(|it| it.say_levels())
}

/// Counts what it is asked of callsites of the plugin, and lets them pass.
#[derive(Clone, Default)]
struct Asked(Arc<AtomicU64>);

impl<S: Subscriber> Layer<S> for Asked {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.target() == "logs_1" {
            self.0.fetch_add(1, Relaxed);
        }
        Interest::always()
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        if metadata.target() == "logs_1" {
            self.0.fetch_add(1, Relaxed);
        }
        true
    }
}

#[test]
fn a_disabled_level_is_not_sent() {
    alone("logs::filter::a_disabled_level_is_not_sent", || {
        let (told, asked) = (Told::default(), Asked::default());
        tracing_subscriber::registry()
            .with(told.layer())
            .with(asked.clone())
            .with(LevelFilter::INFO)
            .init();
        let logs = load("logs_1");
        told.take();
        assert_eq!(formatted(&logs), 6);
        assert_eq!(told.take_events().len(), 6);
        // Of the levels that are enabled, each callsite is asked for once; of the others none.
        let before = asked.0.load(Relaxed);
        for _ in 0..100 {
            assert_eq!(formatted(&logs), 6);
        }
        assert_eq!(asked.0.load(Relaxed), before);
        assert_eq!(told.take_events().len(), 600);
        assert!(before <= 8, "{before}");
    });
}

#[test]
fn a_change_reaches_a_plugin_that_runs() {
    alone("logs::filter::a_change_reaches_a_plugin_that_runs", || {
        let told = Told::default();
        let (filter, handle) = reload::Layer::new(LevelFilter::INFO);
        tracing_subscriber::registry()
            .with(told.layer())
            .with(filter)
            .init();
        let logs = load("logs_1");
        assert_eq!(formatted(&logs), 6);
        // `say_levels` has ten lines and a span.
        for (level, count) in [
            (LevelFilter::DEBUG, 8),
            (LevelFilter::WARN, 4),
            (LevelFilter::TRACE, 11),
            (LevelFilter::OFF, 0),
            (LevelFilter::ERROR, 2),
        ] {
            handle.modify(|it| *it = level).unwrap();
            told.take();
            // At once for what is not wanted any more.
            formatted(&logs);
            let all = told.take_events();
            assert!(
                all.iter()
                    .all(|it| LevelFilter::from_level(it.level()) <= level),
                "{level}"
            );
            until(|| formatted(&logs) == count);
            told.take();
            assert_eq!(formatted(&logs), count);
            let events = count - u64::from(level == LevelFilter::TRACE);
            assert_eq!(told.take_events().len() as u64, events);
        }
    });
}

/// Not by the level, but by the target.
#[test]
fn a_change_of_one_target_reaches_its_plugin() {
    alone(
        "logs::filter::a_change_of_one_target_reaches_its_plugin",
        || {
            let told = Told::default();
            let (filter, handle) =
                reload::Layer::new(Targets::new().with_target("other", Level::TRACE));
            tracing_subscriber::registry()
                .with(told.layer())
                .with(filter)
                .init();
            let logs = load("logs_1");
            // What is formatted of `log` before it is known whether its target is wanted: nothing.
            assert_eq!(formatted(&logs), 0);
            let targets = Targets::new().with_target("logs_1", Level::WARN);
            handle.reload(targets).unwrap();
            until(|| formatted(&logs) == 4);
            told.take();
            formatted(&logs);
            assert_eq!(told.take_events().len(), 4);
        },
    );
}

/// While a candidate is prepared, and until it is published, it cannot be told.
#[test]
fn a_change_before_the_publication_is_not_missed() {
    alone(
        "logs::filter::a_change_before_the_publication_is_not_missed",
        || {
            let (filter, handle) = reload::Layer::new(LevelFilter::INFO);
            tracing_subscriber::registry()
                .with(Told::default())
                .with(filter)
                .init();
            let logs = load("logs_1");
            let prepared = logs.prepare(plugin("logs_1")).unwrap();
            handle.modify(|it| *it = LevelFilter::WARN).unwrap();
            until(|| formatted(&logs) == 4);
            prepared.publish();
            until(|| formatted(&logs) == 4);
            assert_eq!(logs.lease().number(), 2);
        },
    );
}

#[test]
fn a_subscriber_may_come_later() {
    alone("logs::filter::a_subscriber_may_come_later", || {
        let logs = load("logs_1");
        assert_eq!(formatted(&logs), 0);
        let told = Told::default();
        tracing_subscriber::registry().with(told.layer()).init();
        until(|| formatted(&logs) == 11);
        told.take();
        formatted(&logs);
        assert_eq!(told.take_events().len(), 10);
    });
}

/// As the host's own lines do.
#[test]
fn a_thread_may_have_a_subscriber_of_its_own() {
    alone(
        "logs::filter::a_thread_may_have_a_subscriber_of_its_own",
        || {
            let (all, own) = (Told::default(), Told::default());
            tracing_subscriber::registry().with(all.layer()).init();
            let logs = load("logs_1");
            all.take();
            let subscriber = tracing_subscriber::registry().with(own.layer());
            tracing::subscriber::with_default(subscriber, || logs.with(|it| it.nest()));
            assert_eq!(own.take_events().len(), 1);
            assert!(all.take().is_empty());
            logs.with(|it| it.nest());
            assert_eq!(all.take_events().len(), 1);
        },
    );
}

#[test]
fn layers_may_have_filters_of_their_own() {
    alone("logs::filter::layers_may_have_filters_of_their_own", || {
        let (some, more) = (Told::default(), Told::default());
        tracing_subscriber::registry()
            .with(some.layer().with_filter(LevelFilter::ERROR))
            .with(more.layer().with_filter(LevelFilter::DEBUG))
            .init();
        let logs = load("logs_1");
        for _ in 0..2 {
            some.take();
            more.take();
            assert_eq!(formatted(&logs), 8);
            assert_eq!(some.take_events().len(), 2);
            assert_eq!(more.take_events().len(), 8);
        }
    });
}

/// What is going on decides: each line asks.
#[test]
fn a_filter_may_look_at_the_span() {
    alone("logs::filter::a_filter_may_look_at_the_span", || {
        let told = Told::default();
        let in_request = dynamic_filter_fn(|metadata, context: &Context<'_, _>| {
            let current = context.lookup_current();
            let is_inside = current.is_some_and(|it| it.name() == "request");
            is_inside || metadata.name() == "request"
        });
        tracing_subscriber::registry()
            .with(told.layer().with_filter(in_request))
            .init();
        let logs = load("logs_1");
        for _ in 0..2 {
            told.take();
            formatted(&logs);
            assert!(told.take().is_empty());
            tracing::info_span!("request").in_scope(|| formatted(&logs));
            assert_eq!(told.take_events().len(), 10);
        }
    });
}

/// Calls a plugin for each line.
#[derive(Clone, Default)]
struct Calling(Arc<OnceLock<Arc<Hotswap<dyn Logs>>>>, Arc<AtomicU64>);

impl<S: Subscriber> Layer<S> for Calling {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "hotswap" {
            return;
        }
        self.1.fetch_add(1, Relaxed);
        if let Some(logs) = self.0.get() {
            logs.with(|it| it.judge(self.1.load(Relaxed)));
            logs.with(|it| it.nest());
        }
    }
}

/// What the plugin says then is left out, or there were no end to it.
#[test]
fn a_subscriber_may_call_the_plugin() {
    alone("logs::filter::a_subscriber_may_call_the_plugin", || {
        let calling = Calling::default();
        tracing_subscriber::registry().with(calling.clone()).init();
        let logs = Arc::new(load("logs_1"));
        assert!(calling.0.set(Arc::clone(&logs)).is_ok());
        let before = calling.1.load(Relaxed);
        logs.with(|it| it.judge(1));
        assert_eq!(calling.1.load(Relaxed), before + 1);
        // Of the host's own line: that line, and the two that the plugin says for it.
        tracing::info!("of the host");
        assert_eq!(calling.1.load(Relaxed), before + 4);
    });
}

/// Calls a plugin for all that it is told of spans, and while it filters.
#[derive(Clone, Default)]
struct CallingForSpans {
    logs: Arc<OnceLock<Arc<Hotswap<dyn Logs>>>>,
    calls: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl CallingForSpans {
    fn call(&self, what: &'static str) {
        if let Some(logs) = self.logs.get() {
            *self.calls.lock().unwrap().entry(what).or_default() += 1;
            speak(logs);
        }
    }
}

/// Has the plugin do all that can be done with a span.
fn speak(logs: &Hotswap<dyn Logs>) {
    logs.with(|it| it.instrumented(1));
    logs.with(|it| it.choose());
}

impl<S: Subscriber> Layer<S> for CallingForSpans {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // It asks under a lock of its own, which a callsite of the plugin would take again.
        match metadata.target() {
            "hotswap" => Interest::never(),
            _ => Interest::sometimes(),
        }
    }

    fn enabled(&self, _: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.call("enabled");
        true
    }

    fn on_new_span(&self, _: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        self.call("new_span");
    }

    fn on_record(&self, _: &Id, _: &Record<'_>, _: Context<'_, S>) {
        self.call("record");
    }

    fn on_follows_from(&self, _: &Id, _: &Id, _: Context<'_, S>) {
        self.call("follows_from");
    }

    fn on_enter(&self, _: &Id, _: Context<'_, S>) {
        self.call("enter");
    }

    fn on_exit(&self, _: &Id, _: Context<'_, S>) {
        self.call("exit");
    }

    fn on_close(&self, _: Id, _: Context<'_, S>) {
        self.call("close");
    }
}

#[test]
fn a_subscriber_may_call_the_plugin_for_its_spans() {
    alone(
        "logs::filter::a_subscriber_may_call_the_plugin_for_its_spans",
        || {
            let calling = CallingForSpans::default();
            tracing_subscriber::registry().with(calling.clone()).init();
            let logs = Arc::new(load("logs_1"));
            assert!(calling.logs.set(Arc::clone(&logs)).is_ok());
            for _ in 0..2 {
                calling.calls.lock().unwrap().clear();
                speak(&logs);
                let calls = calling.calls.lock().unwrap().clone();
                let all = [
                    "close",
                    "enabled",
                    "enter",
                    "exit",
                    "follows_from",
                    "new_span",
                    "record",
                ];
                assert!(calls.keys().eq(&all), "{calls:?}");
            }
        },
    );
}

/// It is closed on the thread that unloads, and the next generation is called then.
#[test]
fn a_subscriber_may_call_the_plugin_for_a_span_of_one_that_has_left() {
    alone(
        "logs::filter::a_subscriber_may_call_the_plugin_for_a_span_of_one_that_has_left",
        || {
            let calling = CallingForSpans::default();
            tracing_subscriber::registry().with(calling.clone()).init();
            let logs = Arc::new(load("logs_1"));
            logs.with(|it| it.leak());
            assert!(calling.logs.set(Arc::clone(&logs)).is_ok());
            let retired = logs.swap(plugin("logs_2")).unwrap().retired;
            assert_eq!(logs.wait(retired, SOON), Some(State::Unloaded));
            let calls = calling.calls.lock().unwrap().clone();
            assert!(calls.contains_key("close"), "{calls:?}");
        },
    );
}

/// Panics at each line and span.
struct Panicking;

impl<S: Subscriber> Layer<S> for Panicking {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        assert_eq!(event.metadata().target(), "hotswap");
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        assert_eq!(attributes.metadata().target(), "hotswap");
    }
}

/// It ends where the plugin's line is passed on: the plugin goes on.
#[test]
fn a_panic_of_the_subscriber_is_not_the_plugins() {
    alone(
        "logs::filter::a_panic_of_the_subscriber_is_not_the_plugins",
        || {
            tracing_subscriber::registry().with(Panicking).init();
            let logs = load("logs_1");
            logs.call(|it| it.judge(1)).unwrap();
            logs.call(|it| it.nest()).unwrap();
            assert_eq!(formatted(&logs), 11);
        },
    );
}
