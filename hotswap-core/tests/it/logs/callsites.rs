//! Callsites are made once, of the host's own memory, and are bounded.

use std::{collections::BTreeSet, ops::Range};

use hotswap_core::State;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use super::{load, subscriber::Told};
use crate::{
    alone::alone,
    fixtures::{SOON, plugin},
    process,
};

fn told() -> Told {
    let told = Told::default();
    tracing_subscriber::registry().with(told.layer()).init();
    told
}

#[test]
fn callsites_of_many_generations_are_the_same() {
    alone(
        "logs::callsites::callsites_of_many_generations_are_the_same",
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
                assert_eq!(logs.wait(generation, SOON), Some(State::Unloaded));
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
    alone("logs::callsites::records_of_any_target_are_bounded", || {
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
        "logs::callsites::what_the_host_keeps_leads_into_no_image",
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
            assert_eq!(logs.wait(1, SOON), Some(State::Unloaded));
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
