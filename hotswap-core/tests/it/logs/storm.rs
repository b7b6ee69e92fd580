//! Threads of both sides log while plugins are swapped and the filter changes.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use hotswap_core::State;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

use super::load;
use crate::{
    alone::alone,
    fixtures::{SOON, StopAtEnd, plugin, until},
    process,
};

#[test]
fn swaps_lines_and_changes_of_the_filter() {
    alone("logs::storm::swaps_lines_and_changes_of_the_filter", || {
        let (filter, handle) = reload::Layer::<LevelFilter, Registry>::new(LevelFilter::INFO);
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .init();
        let logs = load("logs_1");
        let end = AtomicBool::new(false);
        thread::scope(|scope| {
            let _end = StopAtEnd(&end);
            for _ in 0..3 {
                scope.spawn(|| {
                    while !end.load(Relaxed) {
                        logs.with(|it| {
                            it.say_levels();
                            it.nest();
                            it.instrumented(1);
                            it.current();
                        });
                    }
                });
            }
            scope.spawn(|| {
                let levels = [LevelFilter::TRACE, LevelFilter::OFF, LevelFilter::INFO];
                for level in levels.into_iter().cycle() {
                    if end.load(Relaxed) {
                        return;
                    }
                    handle.modify(|it| *it = level).unwrap();
                }
            });
            for generation in 1..=60 {
                logs.with(|it| {
                    it.chatter();
                    it.leak();
                });
                logs.swap(plugin("logs_1")).unwrap();
                // By the thread that chatters, until the plugin is dropped.
                if generation % 10 == 0 {
                    assert_eq!(logs.wait(generation, SOON), Some(State::Unloaded));
                }
            }
        });
        for generation in 1..=60 {
            assert_eq!(logs.wait(generation, SOON), Some(State::Unloaded));
        }
        for (level, lines) in [(LevelFilter::TRACE, 11), (LevelFilter::WARN, 4)] {
            handle.modify(|it| *it = level).unwrap();
            until(|| logs.with(|it| it.say_levels()) == lines);
        }
        assert!(logs.shutdown(SOON).iter().all(|it| it.state.has_ended()));
        assert!(process::images().is_empty());
    });
}
