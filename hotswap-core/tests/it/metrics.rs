//! What a recorder of the host gets.
//!
//! The tests of this binary share one recorder, so each swap point here has a name of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use futures_executor::block_on;
use hotswap_core::{
    Hotswap, Settings,
    canary::Share,
    loader::{Loader, LoaderSettings},
};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::{
    alone::alone,
    fixtures::{Plugin, SOON, load_with, mapped_copies, plugin, trust, unloaded},
};

static RECORDER: LazyLock<PrometheusHandle> = LazyLock::new(|| {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).expect("the only one");
    handle
});

fn named(name: &str, change: impl FnOnce(&mut Settings<hotswap_fixtures::FixtureRef>)) -> Plugin {
    LazyLock::force(&RECORDER);
    load_with("build_1", |settings| {
        settings.name = Some(name.to_owned());
        change(settings);
    })
}

/// The series of a swap point, without its label. Of durations only how many there are.
fn figures_of(name: &str) -> BTreeMap<String, f64> {
    let label = format!("plugin=\"{name}\"");
    let text = RECORDER.render();
    let lines = text.lines().filter(|line| line.contains(&label));
    let counted = lines.filter(|line| !line.contains("quantile=") && !line.contains("_sum{"));
    let parsed = counted.map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let series = series.replace(&label, "").replace("{,", "{");
        (series.replace("{}", ""), value.parse().unwrap())
    });
    parsed.collect()
}

/// Waits until the series of a swap point that are not 0 are these, one a line.
#[track_caller]
fn check(name: &str, expected: &str) {
    let expected: BTreeSet<_> = expected.lines().map(|it| it.trim().to_owned()).collect();
    becomes(
        || {
            let figures = figures_of(name).into_iter();
            let figures = figures.filter(|(_, value)| *value != 0.0);
            figures
                .map(|(series, value)| format!("{series} {value}"))
                .collect()
        },
        expected,
    );
}

#[track_caller]
fn check_one(name: &str, series: &str, expected: f64) {
    becomes(|| figures_of(name).get(series).copied(), Some(expected));
}

/// Waits: the thread that records an event does so after everybody else knows of it.
#[track_caller]
fn becomes<T: PartialEq + Debug>(look: impl Fn() -> T, expected: T) {
    let latest = Instant::now() + SOON;
    while look() != expected && Instant::now() < latest {
        thread::yield_now();
    }
    assert_eq!(look(), expected);
}

/// How many durations there are after so many candidates, of which so many have replaced another one.
fn durations(candidates: u64, replacing: u64) -> String {
    let phase = |phase, count| {
        format!("hotswap_swap_phase_duration_seconds_count{{phase=\"{phase}\"}} {count}\n")
    };
    let mut lines = format!("hotswap_swap_duration_seconds_count {candidates}\n");
    for name in ["copy", "inspect", "link", "check"] {
        lines += &phase(name, candidates);
    }
    if replacing > 0 {
        lines += &phase("publish", replacing);
    }
    lines.trim_end().to_owned()
}

/// Counts both sides of a canary, and what becomes of it.
fn count_a_canary() {
    let name = "canaries";
    let it = named(name, |_| {});
    let prepared = it.prepare(plugin("build_2")).unwrap();
    let canary = prepared.start_canary(Share::percent(25)).unwrap();
    let share = "hotswap_canary_share_ratio";
    check_one(name, share, 0.25);
    check_one(name, "hotswap_mapped_generations{state=\"canary\"}", 1.0);
    for (share, calls) in [(Share::NONE, 2), (Share::ALL, 3)] {
        canary.set_share(share);
        for _ in 0..calls {
            canary.choose_at_random().with(|it| it.build_a()());
        }
    }
    canary.choose_at_random().report_fault();
    check_one(name, share, 1.0);
    for (series, live, candidate) in [
        ("hotswap_canary_calls_total", 2.0, 3.0),
        ("hotswap_canary_faults_total", 0.0, 1.0),
        ("hotswap_canary_call_duration_seconds_count", 2.0, 3.0),
    ] {
        check_one(name, &format!("{series}{{side=\"live\"}}"), live);
        check_one(name, &format!("{series}{{side=\"candidate\"}}"), candidate);
    }
    canary.abandon("no");
    check_one(name, share, 0.0);
    check_one(name, "hotswap_refusals_total{stage=\"canary\"}", 1.0);
    check_one(name, "hotswap_events_total{event=\"canary\"}", 3.0);
}

/// The candidate of a canary that does not begin is unloaded.
#[test]
fn a_recorder_may_panic() {
    struct Panicking;

    impl Recorder for Panicking {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, _: &Key, _: &metrics::Metadata<'_>) -> Counter {
            panic!("no counter")
        }

        fn register_gauge(&self, _: &Key, _: &metrics::Metadata<'_>) -> Gauge {
            panic!("no gauge")
        }

        fn register_histogram(&self, _: &Key, _: &metrics::Metadata<'_>) -> Histogram {
            panic!("no histogram")
        }
    }

    alone("metrics::a_recorder_may_panic", || {
        assert!(metrics::set_global_recorder(Panicking).is_ok());
        let it = load_with("build_1", |_| {});
        let prepared = it.prepare(plugin("build_2")).unwrap();
        let start = || prepared.start_canary(Share::percent(25)).map(drop);
        let started = panic::catch_unwind(AssertUnwindSafe(start));
        assert!(started.is_err(), "the recorder's panic is the caller's");
        it.swap(plugin("build_2")).unwrap();
        assert!(it.shutdown(SOON).iter().all(|it| it.state.has_ended()));
        while mapped_copies() > 0 {
            thread::yield_now();
        }
    });
}

#[test]
fn each_change_of_a_swap_point_is_counted() {
    count_a_canary();
    let name = "counted";
    let it = named(name, |settings| {
        settings.limits.drain_deadline = Duration::ZERO;
    });
    let loaded = durations(1, 0);
    check(
        name,
        &format!(
            r#"hotswap_swaps_total 1
            hotswap_events_total{{event="accepted"}} 1
            hotswap_live_generation 1
            hotswap_mapped_generations{{state="live"}} 1
            {loaded}"#
        ),
    );
    // What may stay 0 for long is there from the beginning.
    let figures = figures_of(name);
    for series in [
        "hotswap_refusals_total{stage=\"layout\"}",
        "hotswap_rollbacks_total{cause=\"request\"}",
        "hotswap_rollbacks_total{cause=\"probation\"}",
        "hotswap_faults_total",
        "hotswap_missed_events_total",
        "hotswap_mapped_generations{state=\"pinned\"}",
    ] {
        assert_eq!(figures.get(series), Some(&0.0), "{series}");
    }

    it.swap("/none.so").unwrap_err();
    it.swap(plugin("removed_field")).unwrap_err();
    let lease = it.lease();
    it.swap(plugin("constructs_plain")).unwrap();
    let twice = durations(2, 1);
    check(
        name,
        &format!(
            r#"hotswap_swaps_total 2
            hotswap_refusals_total{{stage="open"}} 1
            hotswap_refusals_total{{stage="layout"}} 1
            hotswap_events_total{{event="accepted"}} 2
            hotswap_events_total{{event="refused"}} 2
            hotswap_events_total{{event="held"}} 1
            hotswap_live_generation 2
            hotswap_mapped_generations{{state="live"}} 1
            hotswap_mapped_generations{{state="draining"}} 1
            hotswap_holders{{holder="leases"}} 1
            {twice}"#
        ),
    );

    drop(lease);
    unloaded(&it, 1);
    // Its bytes are loaded again, as generation 3; the one that it replaces may have threads.
    it.rollback().unwrap();
    check(
        name,
        &format!(
            r#"hotswap_swaps_total 2
            hotswap_refusals_total{{stage="open"}} 1
            hotswap_refusals_total{{stage="layout"}} 1
            hotswap_rollbacks_total{{cause="request"}} 1
            hotswap_events_total{{event="accepted"}} 2
            hotswap_events_total{{event="refused"}} 2
            hotswap_events_total{{event="held"}} 1
            hotswap_events_total{{event="unloaded"}} 1
            hotswap_events_total{{event="rolled-back"}} 1
            hotswap_events_total{{event="pinned"}} 1
            hotswap_live_generation 3
            hotswap_mapped_generations{{state="live"}} 1
            hotswap_mapped_generations{{state="pinned"}} 1
            hotswap_pinned_generations{{reason="may-have-threads"}} 1
            hotswap_unload_duration_seconds_count 1
            {twice}"#
        ),
    );
    the_manual_lists(&RECORDER.render());

    it.shutdown(SOON);
    let figures = figures_of(name);
    let pinned = "hotswap_mapped_generations{state=\"pinned\"}";
    assert_eq!(figures[pinned], 1.0);
    // The reaper has ended, so nothing is still to be recorded.
    assert_eq!(figures["hotswap_live_generation"], 0.0);
    assert_eq!(figures["hotswap_mapped_generations{state=\"live\"}"], 0.0);
}

/// The table of the manual has every metric, with its type, its labels and its text, and no other.
#[track_caller]
fn the_manual_lists(text: &str) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploying.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `hotswap_"));
    let listed: BTreeSet<_> = rows.map(str::to_owned).collect();
    let mut help = BTreeMap::new();
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if let Some((name, text)) = line
            .strip_prefix("# HELP ")
            .and_then(|it| it.split_once(' '))
        {
            help.insert(name, text);
        }
        let Some((name, kind)) = line
            .strip_prefix("# TYPE hotswap_")
            .and_then(|it| it.split_once(' '))
        else {
            continue;
        };
        let name = format!("hotswap_{name}");
        let is_one = |it: &&str| {
            ["{", "_sum{"]
                .iter()
                .any(|end| it.starts_with(&(name.clone() + end)))
        };
        let mut series = text.lines().filter(|it| !it.contains("quantile="));
        let labels = series
            .find(is_one)
            .unwrap()
            .split(['{', '}'])
            .nth(1)
            .unwrap();
        let labels = labels.split("\",").map(|it| it.split('=').next().unwrap());
        let labels: Vec<_> = labels.map(|it| format!("`{it}`")).collect();
        // Without buckets, this recorder calls a histogram a summary.
        let kind = kind.replace("summary", "histogram");
        let text = help[&*name];
        found.insert(format!(
            "| `{name}` | {kind} | {} | {text} |",
            labels.join(", ")
        ));
    }
    assert_eq!(found, listed);
}

#[test]
fn a_rollback_on_probation_has_another_cause_and_no_new_generation() {
    let name = "on probation";
    let it = named(name, |settings| {
        settings.probation = Some(Duration::from_secs(3600));
    });
    it.swap(plugin("build_2")).unwrap();
    let twice = durations(2, 1);
    check(
        name,
        &format!(
            r#"hotswap_swaps_total 2
            hotswap_events_total{{event="accepted"}} 2
            hotswap_events_total{{event="standby"}} 1
            hotswap_live_generation 2
            hotswap_mapped_generations{{state="live"}} 1
            hotswap_mapped_generations{{state="standby"}} 1
            {twice}"#
        ),
    );
    it.report_fault(2, "no answer").unwrap();
    unloaded(&it, 2);
    check(
        name,
        &format!(
            r#"hotswap_swaps_total 2
            hotswap_rollbacks_total{{cause="probation"}} 1
            hotswap_events_total{{event="accepted"}} 2
            hotswap_events_total{{event="standby"}} 1
            hotswap_events_total{{event="rolled-back"}} 1
            hotswap_events_total{{event="unloaded"}} 1
            hotswap_live_generation 1
            hotswap_mapped_generations{{state="live"}} 1
            hotswap_unload_duration_seconds_count 1
            {twice}"#
        ),
    );
}

#[test]
fn swap_points_of_one_name_are_told_apart() {
    let (first, second) = (named("twin", |_| {}), named("twin", |_| {}));
    first.swap(plugin("build_2")).unwrap();
    first.swap(plugin("build_1")).unwrap();
    second.swap(plugin("build_2")).unwrap();
    unloaded(&first, 2);
    unloaded(&second, 1);
    for (name, number) in [("twin", 3.0), ("twin-2", 2.0)] {
        check_one(name, "hotswap_live_generation", number);
        check_one(name, "hotswap_swaps_total", number);
    }
    drop((first, second));
}

#[test]
fn a_swap_point_without_a_name_has_that_of_its_first_file() {
    LazyLock::force(&RECORDER);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("librules of today.so");
    fs::copy(plugin("build_1"), &path).unwrap();
    let it: Plugin = Hotswap::load(&path, &trust()).unwrap();
    it.swap(plugin("build_2")).unwrap();
    check_one("librules of today.so", "hotswap_swaps_total", 2.0);
}

#[test]
fn a_first_candidate_that_is_refused_leaves_no_series() {
    LazyLock::force(&RECORDER);
    Plugin::load("/never.so", &trust()).unwrap_err();
    assert_eq!(figures_of("never.so"), BTreeMap::new());
}

#[test]
fn events_are_missed_by_those_who_have_asked_for_them() {
    let name = "missed";
    let it = named(name, |settings| settings.limits.events_max = 1);
    it.swap("/none.so").unwrap_err();
    let missed = "hotswap_missed_events_total";
    check_one(name, missed, 0.0);
    let _unread = it.events();
    for _ in 0..3 {
        it.swap("/none.so").unwrap_err();
    }
    check_one(name, missed, 3.0);
}

#[hotswap_sdk::interface]
trait Answers {
    fn answer(&self) -> u64;
}

struct Panicking;

impl Answers for Panicking {
    fn answer(&self) -> u64 {
        panic!("as asked for")
    }
}

#[test]
fn calls_that_end_with_a_fault_are_counted() {
    LazyLock::force(&RECORDER);
    let settings = Settings {
        name: Some("faults".to_owned()),
        ..Settings::default()
    };
    let it = Hotswap::<dyn Answers>::builtin_with(Panicking, &trust(), settings).unwrap();
    let check_faults = |count| check_one("faults", "hotswap_faults_total", count);
    it.call(|it| it.answer()).unwrap_err();
    check_faults(1.0);
    it.lease().call(|it| it.answer()).unwrap_err();
    check_faults(2.0);
    it.call(|_| ()).unwrap();
    check_faults(2.0);
    // While the future is made, and while it is awaited.
    let made = it.call_async(|it| {
        it.answer();
        Box::pin(async {})
    });
    block_on(made).unwrap_err();
    check_faults(3.0);
    let awaited = it.call_async(|it| Box::pin(async move { it.answer() }));
    block_on(awaited).unwrap_err();
    check_faults(4.0);
    let answer = it
        .lease()
        .call_async(|it| Box::pin(async move { it.answer() }));
    block_on(answer).unwrap_err();
    check_faults(5.0);
}

#[test]
fn a_loader_has_figures_too() {
    LazyLock::force(&RECORDER);
    let settings = LoaderSettings {
        name: Some("functions".to_owned()),
        ..LoaderSettings::default()
    };
    let loader = Loader::with_settings(&trust(), settings).unwrap();
    let one = loader.open(plugin("build_1")).unwrap();
    let _other = loader.open(plugin("build_2")).unwrap();
    loader.open("/none.so").unwrap_err();
    let twice = durations(2, 0);
    check(
        "functions",
        &format!(
            r#"hotswap_swaps_total 2
            hotswap_refusals_total{{stage="open"}} 1
            hotswap_events_total{{event="accepted"}} 2
            hotswap_events_total{{event="refused"}} 1
            hotswap_mapped_generations{{state="live"}} 2
            {twice}"#
        ),
    );
    drop(one);
    check(
        "functions",
        &format!(
            r#"hotswap_swaps_total 2
            hotswap_refusals_total{{stage="open"}} 1
            hotswap_events_total{{event="accepted"}} 2
            hotswap_events_total{{event="refused"}} 1
            hotswap_events_total{{event="unloaded"}} 1
            hotswap_mapped_generations{{state="live"}} 1
            hotswap_unload_duration_seconds_count 1
            {twice}"#
        ),
    );
}
