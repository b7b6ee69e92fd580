//! Timeouts of any length: one that ends after the end of time does not end. And bounds that bound nothing.

use std::{sync::Arc, time::Duration};

use hotswap_core::{
    Limits, State,
    loader::{Loader, LoaderSettings},
    services::ServiceSettings,
    watch::WatchSettings,
};

use crate::fixtures::{SOON, build_of, load_with, plugin, trust, unloaded};

/// `Instant::now() + it` does not exist, or is so late that other sums with it do not.
const ENDLESS: [Duration; 4] = [
    Duration::MAX,
    Duration::from_secs(u64::MAX),
    Duration::from_secs(i64::MAX.unsigned_abs() - (1 << 40)),
    Duration::from_millis(u64::MAX),
];

#[test]
fn a_probation_may_be_endless() {
    for time in ENDLESS {
        let it = load_with("build_1", |settings| settings.probation = Some(time));
        it.swap(plugin("build_2")).unwrap();
        assert_eq!(build_of(&it), 2);
        assert_eq!(it.generations()[0].state, State::Standby);
        // It ends with the next swap.
        it.swap(plugin("suffix_field")).unwrap();
        unloaded(&it, 1);
        let back = it.report_fault(3, "no answer").unwrap();
        assert_eq!((back.generation, build_of(&it)), (2, 2));
        assert!(it.shutdown(SOON).is_empty());
    }
}

#[test]
fn nothing_that_is_waited_for_has_a_longest_time() {
    for time in ENDLESS {
        let it = load_with("build_1", |settings| {
            settings.limits.drain_deadline = time;
            let services = ServiceSettings {
                stop_deadline: time,
            };
            settings.services = Some(services);
        });
        let lease = it.lease();
        let retired = it.swap(plugin("build_2")).unwrap().retired;
        drop(lease);
        assert_eq!(it.wait(retired, time), Some(State::Unloaded));
        assert!(it.shutdown(time).is_empty());

        let settings = LoaderSettings {
            limits: Limits {
                drain_deadline: time,
                ..Limits::default()
            },
            ..LoaderSettings::default()
        };
        let loader = Loader::with_settings(&trust(), settings).unwrap();
        let number = loader.open(plugin("functions_1")).unwrap().number();
        assert_eq!(loader.wait(number, time), Some(State::Unloaded));
    }
}

#[test]
fn no_bound_is_too_large() {
    let it = load_with("build_1", |settings| {
        settings.limits.events_max = usize::MAX;
        settings.limits.ended_max = usize::MAX;
        settings.limits.refused_max = usize::MAX;
        settings.limits.retired_images_max = usize::MAX;
        settings.limits.retired_bytes_max = u64::MAX;
        settings.rollback_copies_max = usize::MAX;
        settings.probation_faults_max = u32::MAX;
    });
    it.swap(plugin("build_2")).unwrap();
    unloaded(&it, 1);
    assert!(it.swap("/no/such.so").is_err());
    assert!(it.events().len() >= 3);

    let settings = LoaderSettings {
        limits: Limits {
            events_max: usize::MAX,
            ended_max: usize::MAX,
            refused_max: usize::MAX,
            retired_images_max: usize::MAX,
            retired_bytes_max: u64::MAX,
            ..Limits::default()
        },
        ..LoaderSettings::default()
    };
    let loader = Loader::with_settings(&trust(), settings).unwrap();
    drop(loader.open(plugin("functions_1")).unwrap());
    assert_eq!(loader.wait(1, SOON), Some(State::Unloaded));
}

#[test]
fn a_watch_may_wait_for_ever() {
    for time in ENDLESS {
        let it = Arc::new(load_with("build_1", |_| {}));
        let settings = WatchSettings {
            settle: time,
            look_every: time,
            ..WatchSettings::default()
        };
        let watch = it.watch(settings).unwrap();
        // Ends its thread.
        drop(watch);
        assert_eq!(build_of(&it), 1);
    }
}
