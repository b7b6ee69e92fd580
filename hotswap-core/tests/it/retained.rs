//! How much may stay mapped.
//!
//! Each test has a process of its own: what swap points have left behind counts for new ones.

use std::time::Duration;

use crossbeam_channel::Receiver;
use hotswap_core::{
    Event, EventKind, Generation, Hotswap, Limits, Settings, Stage, State,
    event::PinReason,
    loader::{Loader, LoaderSettings},
};
use hotswap_fixtures::FixtureRef;

use crate::{
    alone::alone,
    fixtures::{Plugin, SOON, build_of, load_with, plugin, refused, trust, unloaded, until},
};

/// Why a plugin without `unloadable!` that can start threads stays.
const WHY: &str = "it can start threads and has no `unloadable!` that this host works with, so that they may \
                   still be running";

fn with_max(name: &str, images_max: usize) -> Plugin {
    load_with(name, |settings| {
        settings.limits.retired_images_max = images_max
    })
}

/// As it is said.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[track_caller]
fn is_pinned(plugin: &Plugin, number: u64) {
    assert_eq!(
        plugin.wait(number, SOON),
        Some(State::Pinned {
            reason: PinReason::MayHaveThreads
        })
    );
}

/// What was said of the bound since the last time: images, and the bound.
fn reports(events: &Receiver<Event>) -> Vec<(usize, usize)> {
    events
        .try_iter()
        .filter_map(|event| match event.kind {
            EventKind::Retained {
                images, images_max, ..
            } => Some((images, images_max)),
            _ => None,
        })
        .collect()
}

#[test]
fn plugins_that_never_leave_stay_in_the_list() {
    alone(
        "retained::plugins_that_never_leave_stay_in_the_list",
        || {
            let it = load_with("constructs_plain", |settings| {
                settings.limits.ended_max = 1;
                settings.limits.retired_images_max = 8;
            });
            for number in 1..4 {
                it.swap(plugin("constructs_plain")).unwrap();
                is_pinned(&it, number);
            }
            let numbers: Vec<_> = it.generations().iter().map(|it| it.number).collect();
            assert_eq!(numbers, [1, 2, 3, 4]);
        },
    );
}

#[test]
fn libraries_that_never_leave_stay_in_the_list() {
    alone(
        "retained::libraries_that_never_leave_stay_in_the_list",
        || {
            let settings = LoaderSettings {
                limits: Limits {
                    ended_max: 1,
                    retired_images_max: 8,
                    ..Limits::default()
                },
                ..LoaderSettings::default()
            };
            let loader = Loader::with_settings(&trust(), settings).unwrap();
            for _ in 0..3 {
                drop(loader.open(plugin("constructs_plain")).unwrap());
            }
            let pinned = || {
                let all = loader.libraries().into_iter();
                all.filter(|it| matches!(it.state, State::Pinned { .. }))
                    .count()
            };
            until(|| pinned() == 3);
        },
    );
}

#[test]
fn plugins_that_never_leave_are_accepted_up_to_a_bound() {
    alone(
        "retained::plugins_that_never_leave_are_accepted_up_to_a_bound",
        || {
            let it = with_max("constructs_plain", 4);
            let events = it.events();
            let mut said = Vec::new();
            for number in 1..5 {
                it.swap(plugin("constructs_plain")).unwrap();
                is_pinned(&it, number);
                said.push(reports(&events));
            }
            assert_eq!(said, [vec![], vec![(2, 4)], vec![], vec![]]);

            let bytes = size(4 * it.generations()[0].file_bytes);
            let (error, reason) = refused(&it, plugin("constructs_plain"));
            assert_eq!(error.stage(), Stage::Host);
            let expected = format!(
                "host: 4 retired plugins are still mapped, {bytes}, and no more are accepted \
                 (Limits::retired_images_max is 4): generation 1 pinned, {WHY}; generation 2 pinned, {WHY}; \
                 generation 3 pinned, {WHY}; 1 more"
            );
            assert_eq!(reason, expected);
            // Before anything is done with the file.
            assert_eq!(refused(&it, "/no/such.so").0.stage(), Stage::Host);
            assert!(it.prepare("/no/such.so").is_err());
            assert_eq!(build_of(&it), 11);

            // The way back is open.
            let back = it.rollback().unwrap();
            assert_eq!((back.generation, back.loaded_again), (6, Some(4)));
            is_pinned(&it, 5);
            let (_, reason) = refused(&it, plugin("build_1"));
            assert!(
                reason.starts_with("host: 5 retired plugins are still mapped, "),
                "{reason}"
            );
        },
    );
}

#[test]
fn when_something_has_left_more_are_accepted() {
    alone(
        "retained::when_something_has_left_more_are_accepted",
        || {
            let it = with_max("build_1", 4);
            let events = it.events();
            for round in 0..2 {
                let mut leases: Vec<_> = (0..4)
                    .map(|_| {
                        let lease = it.lease();
                        it.swap(plugin("build_2")).unwrap();
                        lease
                    })
                    .collect();
                assert_eq!(reports(&events), [(2, 4)], "round {round}");
                let (_, reason) = refused(&it, plugin("build_1"));
                let first = leases[0].number();
                let named = format!("is 4): generation {first} draining");
                assert!(reason.contains(&named), "{reason}");

                let left = leases.remove(0);
                let number = left.number();
                drop(left);
                unloaded(&it, number);
                // It is reported again only when it has been much less.
                let lease = it.lease();
                it.swap(plugin("build_1")).unwrap();
                refused(&it, plugin("build_1"));
                assert_eq!(reports(&events), []);
                leases.push(lease);
                let numbers: Vec<_> = leases.iter().map(|it| it.number()).collect();
                drop(leases);
                for number in numbers {
                    unloaded(&it, number);
                }
            }
        },
    );
}

#[test]
fn bytes_are_bounded_too() {
    alone("retained::bytes_are_bounded_too", || {
        let it = load_with("build_1", |settings| {
            settings.limits.retired_bytes_max = 1000
        });
        let lease = it.lease();
        it.swap(plugin("build_2")).unwrap();
        let event = it.events().try_iter().last().unwrap().to_string();
        let bytes = size(it.generations()[0].file_bytes);
        let start =
            format!("retained 1 retired plugin is still mapped, {bytes}; no more are accepted at ");
        assert!(event.starts_with(&start), "{event}");
        assert!(event.ends_with(", or at 1.0 kB"), "{event}");
        let (_, reason) = refused(&it, plugin("build_2"));
        let start = format!(
            "host: 1 retired plugin is still mapped, {bytes}, and no more are accepted (Limits::retired_bytes_max \
             is 1.0 kB): generation 1 draining"
        );
        assert!(reason.starts_with(&start), "{reason}");
        drop(lease);
        unloaded(&it, 1);
        it.swap(plugin("build_2")).unwrap();
    });
}

#[test]
fn refused_candidates_that_do_not_leave_count() {
    alone(
        "retained::refused_candidates_that_do_not_leave_count",
        || {
            let settings = Settings::<FixtureRef> {
                probe: Some(std::sync::Arc::new(|_, live| match live {
                    Some(_) => Err("never".to_owned()),
                    None => Ok(()),
                })),
                limits: Limits {
                    retired_images_max: 3,
                    ..Limits::default()
                },
                ..Settings::<FixtureRef>::default()
            };
            let it: Plugin = Hotswap::load_with(plugin("build_1"), &trust(), settings).unwrap();
            for _ in 0..3 {
                let (_, reason) = refused(&it, plugin("constructs_plain"));
                assert_eq!(reason, "probe: never");
            }
            let (_, reason) = refused(&it, plugin("constructs_plain"));
            assert!(
                reason.ends_with("(Limits::retired_images_max is 3): 3 refused candidates"),
                "{reason}"
            );
        },
    );
}

/// Nor is a rollback a way around it.
#[test]
fn a_rollback_that_is_refused_each_time_ends_at_twice_the_bound() {
    alone(
        "retained::a_rollback_that_is_refused_each_time_ends_at_twice_the_bound",
        || {
            let settings = Settings::<FixtureRef> {
                probe: Some(std::sync::Arc::new(|_, live| match live {
                    Some(live) if Generation::number(live) == 2 => Err("never".to_owned()),
                    _ => Ok(()),
                })),
                limits: Limits {
                    retired_images_max: 2,
                    ..Limits::default()
                },
                ..Settings::<FixtureRef>::default()
            };
            let path = plugin("constructs_plain");
            let it: Plugin = Hotswap::load_with(&path, &trust(), settings).unwrap();
            it.swap(&path).unwrap();
            is_pinned(&it, 1);
            for _ in 0..3 {
                assert_eq!(it.rollback().unwrap_err().reason(), "probe: never");
            }
            for _ in 0..3 {
                let reason = it.rollback().unwrap_err().reason();
                assert!(
                    reason.starts_with("host: 4 retired plugins are still mapped, "),
                    "{reason}"
                );
                assert!(reason.ends_with("; 3 refused candidates"), "{reason}");
            }
        },
    );
}

#[test]
fn what_swap_points_and_loaders_have_left_behind_counts_for_the_next() {
    alone(
        "retained::what_swap_points_and_loaders_have_left_behind_counts_for_the_next",
        || {
            let path = plugin("constructs_plain");
            let load = || {
                let settings = Settings::<FixtureRef> {
                    probe: Some(std::sync::Arc::new(|_, _| Err("never".to_owned()))),
                    limits: Limits {
                        retired_images_max: 4,
                        ..Limits::default()
                    },
                    ..Settings::<FixtureRef>::default()
                };
                Hotswap::<FixtureRef>::load_with(&path, &trust(), settings)
            };
            for _ in 0..2 {
                assert_eq!(load().unwrap_err().reason(), "probe: never");
            }
            for _ in 0..2 {
                drop(Loader::new(&trust()).unwrap().open(&path).unwrap());
            }
            let reason = load().unwrap_err().reason();
            assert!(
                reason.ends_with(
                    "(Limits::retired_images_max is 4): 4 of swap points and loaders that are gone"
                ),
                "{reason}"
            );
            // What leaves does not count: none of these are any.
            let it = load_with("build_1", |_| {});
            for _ in 0..3 {
                unloaded(&it, it.swap(plugin("build_2")).unwrap().retired);
            }
            assert!(it.shutdown(SOON).is_empty());
            assert!(load().unwrap_err().reason().starts_with("host: 4 retired"));
        },
    );
}

#[test]
fn a_loader_has_the_same_bound() {
    alone("retained::a_loader_has_the_same_bound", || {
        let settings = LoaderSettings {
            limits: Limits {
                retired_images_max: 2,
                ..Limits::default()
            },
            ..LoaderSettings::default()
        };
        let loader = Loader::with_settings(&trust(), settings).unwrap();
        let in_use = loader.open(plugin("constructs_plain")).unwrap();
        for _ in 0..2 {
            drop(loader.open(plugin("constructs_plain")).unwrap());
        }
        assert!(loader.wait(3, SOON).unwrap().has_ended());
        let reason = loader.open("/no/such.so").unwrap_err().reason();
        assert!(
            reason.contains("(Limits::retired_images_max is 2): generation 2 "),
            "{reason}"
        );
        let events = loader.events();
        let is_report = |event: &Event| matches!(event.kind, EventKind::Retained { images: 1, .. });
        assert_eq!(events.try_iter().filter(is_report).count(), 1);
        drop(in_use);
    });
}

#[test]
fn what_is_prepared_and_dropped_counts_until_it_has_left() {
    alone(
        "retained::what_is_prepared_and_dropped_counts_until_it_has_left",
        || {
            let it = with_max("build_1", 1);
            drop(it.prepare(plugin("build_2")).unwrap());
            // It leaves in its own time.
            let started = std::time::Instant::now();
            while it.swap(plugin("build_2")).is_err() {
                assert!(started.elapsed() < SOON);
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(it.prepare(plugin("constructs_plain")));
        },
    );
}

#[test]
fn the_bounds_follow_from_the_limits_of_the_process() {
    alone(
        "retained::the_bounds_follow_from_the_limits_of_the_process",
        || {
            use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
            let settings = Settings::<FixtureRef>::default();
            assert!((1..1 << 20).contains(&settings.limits.retired_images_max));
            assert!(settings.limits.retired_bytes_max > 1 << 20);
            let before = getrlimit(Resource::Nofile);
            let less = Rlimit {
                current: Some(400),
                ..before
            };
            setrlimit(Resource::Nofile, less).unwrap();
            let settings = Settings::<FixtureRef>::default();
            assert_eq!(settings.limits.retired_images_max, 100);
            assert_eq!(LoaderSettings::default().limits.retired_images_max, 100);
        },
    );
}
