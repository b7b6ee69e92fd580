//! What arrives of what is said.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::Value;
use tracing::Level;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use super::{
    load,
    subscriber::{Entry, Told, What},
};
use crate::{
    alone::alone,
    fixtures::{SOON, plugin},
    tracing::Lines,
};
use hotswap_core::{State, canary::Share};

/// What plugins say by `log` goes to a subscriber of `tracing`.
#[test]
fn a_logger_of_the_host_gets_nothing_of_a_plugin() {
    struct Counter(AtomicU64);
    static COUNTER: Counter = Counter(AtomicU64::new(0));
    impl log::Log for Counter {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, _: &log::Record<'_>) {
            self.0.fetch_add(1, Relaxed);
        }

        fn flush(&self) {}
    }
    alone(
        "logs::lines::a_logger_of_the_host_gets_nothing_of_a_plugin",
        || {
            log::set_logger(&COUNTER).unwrap();
            log::set_max_level(log::LevelFilter::Trace);
            let logs = load("logs_1");
            logs.with(|it| it.say_levels());
            assert_eq!(COUNTER.0.load(Relaxed), 0);
            log::info!("the host");
            assert_eq!(COUNTER.0.load(Relaxed), 1);
        },
    );
}

/// By the subscriber that most hosts have, with its own settings.
#[test]
fn a_json_log_has_the_generation() {
    alone("logs::lines::a_json_log_has_the_generation", || {
        let lines = Lines::default();
        tracing_subscriber::fmt()
            .json()
            .with_writer(lines.clone())
            .init();
        let logs = load("logs_1");
        logs.with(|it| it.judge(7));
        logs.swap(plugin("logs_2")).unwrap();
        assert_eq!(logs.wait(1, SOON), Some(State::Unloaded));
        logs.with(|it| it.judge(8));

        let text = lines.text();
        let all = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let all: Vec<Value> = all
            .filter(|line: &Value| line["target"] != "hotswap")
            .collect();
        let fields: Vec<_> = all.iter().map(|line| line["fields"].to_string()).collect();
        assert_eq!(
            fields,
            [
                r#"{"message":"constructed","plugin":"rules"}"#,
                r#"{"generation":1,"message":"judged","order":7,"plugin":"rules"}"#,
                r#"{"message":"constructed","plugin":"rules"}"#,
                r#"{"generation":1,"message":"to be unloaded","plugin":"rules"}"#,
                r#"{"generation":1,"message":"dropped","plugin":"rules"}"#,
                r#"{"generation":2,"message":"judged","order":8,"plugin":"rules"}"#,
            ]
        );
        assert_eq!(all[1]["target"], "logs_1");
        assert_eq!(all[1]["level"], "INFO");
    });
}

fn told() -> Told {
    let told = Told::default();
    tracing_subscriber::registry().with(told.layer()).init();
    told
}

#[test]
fn fields_of_each_type_arrive() {
    alone("logs::lines::fields_of_each_type_arrive", || {
        let told = told();
        let logs = load("logs_1");
        told.take();
        logs.with(|it| it.say_all());
        let [said] = &told.take_events()[..] else {
            panic!("one event");
        };
        let fields: Vec<_> = said
            .fields
            .iter()
            .map(|(name, it)| format!("{name}: {it}"))
            .collect();
        assert_eq!(
            fields,
            [
                "bool: bool true",
                "bytes: bytes [98, 121, 116, 101, 115]",
                "debug: Some(7)",
                "display: shown",
                r#"error: error outer ["inner"]"#,
                "f64: f64 0.5",
                "generation: u64 1",
                "i128: i128 -170141183460469231731687303715884105728",
                "i64: i64 -7",
                "message: all of 1",
                "plugin: rules",
                r#"str: str a "text""#,
                "u128: u128 340282366920938463463374607431768211455",
                "u64: u64 7",
            ]
        );
        let it = said.metadata;
        assert_eq!(
            (it.target(), it.module_path(), it.level()),
            ("logs_1", Some("logs_1"), &Level::WARN)
        );
        assert!(it.file().unwrap().ends_with("examples/logs_1.rs"));
        assert_eq!(it.line(), Some(5));
        assert!(it.name().ends_with("examples/logs_1.rs:5"), "{}", it.name());
    });
}

#[test]
fn events_and_records_have_levels() {
    alone("logs::lines::events_and_records_have_levels", || {
        let told = told();
        let logs = load("logs_1");
        told.take();
        assert_eq!(logs.with(|it| it.say_levels()), 11);
        let said = told.take_events();
        let levels = [
            Level::ERROR,
            Level::WARN,
            Level::INFO,
            Level::DEBUG,
            Level::TRACE,
        ];
        let messages = ["error", "warn", "info", "debug", "trace"];
        for ((said, level), message) in said.iter().zip(levels).zip(messages) {
            assert_eq!((said.level(), said.message()), (level, message));
            assert_eq!(said.field("value"), "counted");
        }
        assert_eq!(said.len(), 10);
        for (record, level) in said[5..].iter().zip(levels) {
            assert_eq!(
                (record.level(), record.message()),
                (level, "record counted")
            );
            assert_eq!(
                (record.field("plugin"), record.field("generation")),
                ("rules", "u64 1")
            );
            let it = record.metadata;
            assert_eq!((it.name(), it.target()), ("log record", "logs_1"));
            assert_eq!((it.module_path(), it.line()), (Some("logs_1"), Some(5)));
            assert!(it.file().unwrap().ends_with("examples/logs_1.rs"));
        }
    });
}

/// The first fields, and the two that are added, however long the texts are.
#[test]
fn of_many_fields_the_first_arrive() {
    alone("logs::lines::of_many_fields_the_first_arrive", || {
        let told = told();
        let logs = load("logs_1");
        told.take();
        for bytes in [0, 1, 1 << 20] {
            logs.with(|it| it.say_much(bytes));
            let said = &told.take_events()[0];
            assert_eq!(said.message().len() as u64, bytes);
            assert_eq!((said.field("f31"), said.field("f32")), ("i64 31", ""));
            assert_eq!(said.field("generation"), "u64 1");
            assert_eq!(said.fields.len(), 32 + 2);
        }
    });
}

/// Where the plugin itself has a field of that name, ours has another.
#[test]
fn a_field_of_the_plugin_keeps_its_name() {
    alone("logs::lines::a_field_of_the_plugin_keeps_its_name", || {
        let told = told();
        let logs = load("logs_1");
        told.take();
        logs.with(|it| it.say_late());
        let said = &told.take_events()[0];
        assert_eq!(
            (said.field("plugin"), said.field("generation")),
            ("str mine", "str mine")
        );
        assert_eq!(said.field("hotswap.plugin"), "rules");
        assert_eq!(said.field("hotswap.generation"), "u64 1");
    });
}

#[test]
fn a_canary_logs_with_its_number() {
    alone("logs::lines::a_canary_logs_with_its_number", || {
        let told = told();
        let logs = load("logs_1");
        let canary = logs.prepare(plugin("logs_2")).unwrap();
        let canary = canary.start_canary(Share::ALL).unwrap();
        told.take();
        canary.choose("Ada").with(|it| it.judge(7));
        let said = &told.take_events()[0];
        assert_eq!(said.field("generation"), "u64 2");
    });
}

#[test]
fn a_value_that_panics_is_a_panic_of_the_plugin() {
    alone(
        "logs::lines::a_value_that_panics_is_a_panic_of_the_plugin",
        || {
            let told = told();
            let logs = load("logs_1");
            told.take();
            let fault = logs.call(|it| it.fail()).unwrap_err();
            assert!(
                fault.to_string().starts_with("panicked: not to be shown ("),
                "{fault}"
            );
            logs.with(|it| it.judge(1));
            assert_eq!(told.take_events().len(), 1);
        },
    );
}

/// The names of the spans and events, with what they are in.
fn shown(all: &[Entry]) -> Vec<String> {
    let shown = all.iter().map(|it| {
        let name = match it.what {
            What::Event => it.message(),
            _ => it.metadata.name(),
        };
        format!("{:?} {name} in {}", it.what, it.scope.join(" "))
    });
    shown.collect()
}

#[test]
fn spans_have_parents_and_events_are_in_them() {
    alone(
        "logs::lines::spans_have_parents_and_events_are_in_them",
        || {
            let told = told();
            let logs = load("logs_1");
            told.take();
            tracing::info_span!("request").in_scope(|| logs.with(|it| it.nest()));
            let all = told.take();
            assert_eq!(
                shown(&all),
                [
                    "NewSpan request in request",
                    "Entered request in request",
                    "NewSpan outer in request outer",
                    "Entered outer in request outer",
                    "NewSpan inner in request outer inner",
                    "Entered inner in request outer inner",
                    "Event inside in request outer inner",
                    "Exited inner in request outer inner",
                    "Closed inner in request outer inner",
                    "Exited outer in request outer",
                    "Closed outer in request outer",
                    "Exited request in request",
                    "Closed request in request",
                ]
            );
            assert_eq!(all[2].field("depth"), "i64 1");
            assert_eq!(all[2].field("generation"), "u64 1");

            logs.with(|it| it.choose());
            let all = shown(&told.take());
            let chosen: Vec<_> = all
                .iter()
                .filter(|it| !it.starts_with("Entered") && !it.starts_with("Exited"))
                .collect();
            assert_eq!(
                chosen,
                [
                    "NewSpan first in first",
                    "NewSpan second in second",
                    "Follows second in second",
                    "Event of nothing in ",
                    "Event of the first in first",
                    "Event of the second in second",
                    "NewSpan third in first third",
                    "Event of the third in first third",
                    "Closed third in first third",
                    "Closed second in second",
                    "Closed first in first",
                ]
            );
        },
    );
}

#[test]
fn a_span_can_be_current_and_get_values_later() {
    alone(
        "logs::lines::a_span_can_be_current_and_get_values_later",
        || {
            let told = told();
            let logs = load("logs_1");
            told.take();
            logs.with(|it| it.instrumented(7));
            let all = told.take();
            let recorded: Vec<_> = all.iter().filter(|it| it.what == What::Recorded).collect();
            assert_eq!(recorded.len(), 1);
            assert_eq!(recorded[0].metadata.name(), "judged");
            assert_eq!(recorded[0].field("result"), "u64 8");
            assert_eq!(recorded[0].fields.len(), 1);
            assert_eq!(all.last().unwrap().what, What::Closed);

            assert_eq!(logs.with(|it| it.current()), None);
            tracing::info_span!("request").in_scope(|| {
                let current = logs.with(|it| it.current());
                assert_eq!(current.as_deref(), Some("span of the host {}"));
            });
            assert_eq!(told.count(What::Closed, "request"), 1);
        },
    );
}

/// Any number may be passed for a span.
#[test]
fn numbers_of_no_span_do_nothing() {
    alone("logs::lines::numbers_of_no_span_do_nothing", || {
        let told = told();
        let logs = load("logs_1");
        told.take();
        logs.with(|it| it.make_up());
        tracing::info_span!("request").in_scope(|| logs.with(|it| it.make_up()));
        assert_eq!(told.count(What::Closed, "request"), 1);
        assert_eq!(told.count(What::Closed, "made up"), 10);
        logs.with(|it| it.judge(1));
        assert_eq!(told.take_events().last().unwrap().message(), "judged");
    });
}
