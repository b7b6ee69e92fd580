//! Updates as transactions.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    thread,
    time::Duration,
};

use crossbeam_channel::bounded;
use hotswap_core::{
    EventKind, Hotswap, Settings, Stage,
    canary::{Decision, Share},
    services::ServiceSettings,
};
use hotswap_fixtures::services::{Config, before};

use super::{Files, Host, Plugin, until};
use crate::{
    alone::alone,
    fixtures::{SOON, trust, unloaded},
    process::images,
};

#[test]
fn what_an_update_says_is_visible_inside_it() {
    let host = Host::new("text it one\nwrite it two\nexpect it two\ndelete it\ntext it three");
    host.swap("expect it three").unwrap();
    // Of several words on one service the last counts, and what is to run is not started twice.
    host.swap("start one 1\nstop one\nstart one 2\nstart one 3")
        .unwrap();
    host.goes_on("one");
    assert_eq!(host.begun("one"), 1);
    host.swap("stop one\nstart one 4").unwrap();
    until(|| host.begun("one") == 2);
    host.swap("restart one 5\nstop one").unwrap();
    until(|| host.services().is_empty());
    assert_eq!(host.begun("one"), 2);
}

#[test]
fn an_update_that_fails_or_panics_changes_nothing() {
    let host = Host::new("start one 1\ntext it value");
    host.goes_on("one");
    let (services, refs) = (host.services(), host.refs());
    let all = "restart one 2\nstart never 2\nwrite it other\ntext more x\nstop one";
    let number = host.plugin().generations().len();
    assert_eq!(
        host.refused(&format!("{all}\nfail I do not want to")),
        "update: I do not want to"
    );
    let reason = host.refused(&format!("{all}\npanic oh dear"));
    assert!(
        reason
            .starts_with("update: panicked: oh dear (hotswap-core/tests/fixtures/src/services.rs:"),
        "{reason}"
    );
    assert_eq!((host.services(), host.refs()), (services, refs));
    assert_eq!(host.plugin().generations().len(), number);
    let stage = host.swap("fail").unwrap_err().stage();
    assert_eq!(stage, Stage::Update);
    host.goes_on("one");
    host.swap("expect it value").unwrap();
    until(|| !threads().contains(&"never".to_owned()));
}

/// The names of this process's threads.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
    names
        .filter_map(|name| Some(name.ok()?.trim_end().to_owned()))
        .collect()
}

#[test]
fn a_first_plugin_whose_update_fails_is_not_loaded() {
    let files = Files::new();
    let settings = Settings {
        services: Some(ServiceSettings::default()),
        ..Settings::default()
    };
    let path = files.with("start one 1\nfail at once");
    let loaded = Hotswap::<hotswap_fixtures::FixtureRef>::load_with(&path, &trust(), settings);
    assert_eq!(loaded.unwrap_err().reason(), "update: at once");
}

#[test]
fn what_is_prepared_takes_effect_when_it_is_published() {
    let host = Host::new("start one 1");
    host.goes_on("one");
    let path = host.files.with("restart one 2\ntext it value");
    let prepared = host.plugin().prepare(&path).unwrap();
    assert_eq!(host.refs().len(), 1);
    assert_eq!(
        host.refused("start two 1"),
        "host: the update of another candidate is under way, or waits to be published"
    );
    drop(prepared);
    host.swap("start two 1").unwrap();
    assert_eq!(host.refs().len(), 2);
    assert_eq!(host.begun("one"), 1);

    let prepared = host.plugin().prepare(&path).unwrap();
    prepared.publish();
    until(|| host.begun("one") == 2);
    assert_eq!(host.refs().len(), 4);
}

#[test]
fn a_rollback_runs_the_update_of_what_it_goes_back_to() {
    // From its bytes.
    let host = Host::new("restart one 1");
    until(|| host.begun("one") == 1);
    host.swap("restart one 2").unwrap();
    until(|| host.begun("one") == 2);
    host.plugin().rollback().unwrap();
    until(|| host.begun("one") == 3);
    unloaded(host.plugin(), 2);

    // To one that drains.
    let host = Host::new("restart one 1\nbefore it 1");
    until(|| host.begun("one") == 1);
    let lease = host.plugin().lease();
    host.swap("restart one 2").unwrap();
    until(|| host.begun("one") == 2);
    let back = host.plugin().rollback().unwrap();
    assert_eq!((back.generation, back.loaded_again), (1, None));
    until(|| host.begun("one") == 3);
    assert_eq!(host.services(), [r#""one" on generation 1: running"#]);
    unloaded(host.plugin(), 2);
    drop(lease);
    host.goes_on("one");

    // To a standby.
    let host = Host::with("restart one 1\nbefore it 1", |settings| {
        settings.probation = Some(SOON);
    });
    until(|| host.begun("one") == 1);
    host.swap("restart one 2").unwrap();
    until(|| host.begun("one") == 2);
    let back = host.plugin().rollback().unwrap();
    assert_eq!((back.generation, back.loaded_again), (1, None));
    until(|| host.begun("one") == 3);
    assert_eq!(host.services(), [r#""one" on generation 1: running"#]);
    unloaded(host.plugin(), 2);
}

#[test]
fn a_rollback_whose_update_fails_is_refused() {
    let migrated = "update: ref \"it\": another type: the fields of `Config` differ: expected `limit`, \
                    found `limit`, `burst`";
    for (first, probation, expected) in [
        ("once", None, "update: it has run already"),
        ("once", Some(SOON), "update: it has run already"),
        ("before it 1", None, migrated),
    ] {
        let host = Host::with(first, |settings| settings.probation = probation);
        host.swap("migrate it\nrestart one 2").unwrap();
        let error = host.plugin().rollback().unwrap_err();
        assert_eq!(error.reason(), expected);
        let said = host.plugin().refused().pop().unwrap();
        let EventKind::Refused { reason, live, .. } = said.kind else {
            panic!("{said}")
        };
        assert_eq!((reason.as_str(), live), (expected, Some(2)));
        assert_eq!(host.plugin().with(|it| it.number()), 2);
        host.goes_on("one");
        // What has become of it is no obstacle to what comes next.
        host.swap("restart one 3").unwrap();
    }
}

/// The update of the generation before finds what that of the live one has replaced.
#[test]
fn on_probation_a_rollback_goes_back_over_what_was_migrated_written_and_deleted() {
    let first = "before it 7\ntext word first\nexpect word first\ntext gone here\nexpect gone here\nadd number";
    for by_fault in [false, true] {
        let mut host = Host::with(first, |settings| settings.probation = Some(SOON));
        host.swap("migrate it\nwrite word second\ndelete gone\ntext more x\nadd number")
            .unwrap();
        let burst = host.plugin().with_ref("it", |it: &Config| it.burst);
        assert_eq!(burst, Ok(Some(14)));
        if by_fault {
            let back = host.plugin().report_fault(2, "it lies");
            assert_eq!(back.map(|it| it.generation), Some(1));
        } else {
            assert_eq!(host.plugin().rollback().unwrap().generation, 1);
        }
        let limit = host.plugin().with_ref("it", |it: &before::Config| it.limit);
        assert_eq!(limit, Ok(Some(7)));
        let names: Vec<_> = host.plugin().refs().into_iter().map(|it| it.name).collect();
        let expected = [
            "gone",
            "it",
            "more",
            "number",
            "seen",
            "updates.tally",
            "word",
        ];
        assert_eq!(names, expected);
        // A value that is shared is one and the same for all.
        let number = host
            .plugin()
            .with_ref("number", |it: &AtomicU64| it.load(SeqCst));
        assert_eq!(number, Ok(Some(3)));
        // There is another way on from here.
        host.swap("migrate it\ndelete more\nexpect word first")
            .unwrap();
        let mapped = host.plugin.take().unwrap().shutdown(SOON);
        assert!(mapped.is_empty(), "{mapped:?}");
    }
}

#[test]
fn what_an_update_has_replaced_is_dropped_when_its_probation_ends() {
    let dropped = |host: &Host| host.beats("left");
    let host = Host::with("counted it", |settings| {
        settings.probation = Some(Duration::from_millis(1));
    });
    host.swap("count-again it").unwrap();
    until(|| dropped(&host) == 1);
    unloaded(host.plugin(), 1);

    // By another swap.
    let mut host = Host::with("counted it", |settings| settings.probation = Some(SOON));
    host.swap("count-again it").unwrap();
    assert_eq!(dropped(&host), 0);
    host.swap("delete it").unwrap();
    until(|| dropped(&host) == 1);
    unloaded(host.plugin(), 1);
    // Not if a rollback gives it its name again.
    host.swap("counted it").unwrap();
    until(|| dropped(&host) == 2);
    host.swap("delete it").unwrap();
    host.plugin().rollback().unwrap();
    assert_eq!(dropped(&host), 2);
    unloaded(host.plugin(), 5);
    // With the swap point.
    host.swap("delete it").unwrap();
    let mapped = host.plugin.take().unwrap().shutdown(SOON);
    assert!(mapped.is_empty(), "{mapped:?}");
}

/// Destructors of values have thread-locals of the plugin on their thread, which may not come by again.
#[test]
fn what_an_update_has_replaced_leaves_nothing_on_the_thread_that_swaps() {
    let script = "untidy-value it";
    let rolled_back = Host::with(script, |settings| settings.probation = Some(SOON));
    for (host, roll_back, left) in [(Host::new(script), false, 1), (rolled_back, true, 2)] {
        let path = host.files.with("untidy-value-again it");
        let plugin = host.plugin();
        thread::scope(|scope| {
            let (swapped, wait_swapped) = bounded(0);
            let (end, wait_end) = bounded::<()>(0);
            scope.spawn(move || {
                plugin.swap(path).unwrap();
                if roll_back {
                    plugin.rollback().unwrap();
                }
                swapped.send(()).unwrap();
                // Until it is dropped.
                let _ = wait_end.recv();
            });
            wait_swapped.recv_timeout(SOON).unwrap();
            unloaded(plugin, left);
            drop(end);
        });
    }
}

#[test]
fn what_an_update_has_asked_for_in_vain_leaves_nothing_on_the_thread_that_drops_it() {
    alone(
        "services::updates::what_an_update_has_asked_for_in_vain_leaves_nothing_on_the_thread_that_drops_it",
        || {
            let host = Host::new("");
            let before = images().len();
            let path = host.files.with("untidy-value it");
            let plugin = host.plugin();
            thread::scope(|scope| {
                let (dropped, wait_dropped) = bounded(0);
                let (end, wait_end) = bounded::<()>(0);
                scope.spawn(move || {
                    drop(plugin.prepare(path).unwrap());
                    dropped.send(()).unwrap();
                    // Until it is dropped.
                    let _ = wait_end.recv();
                });
                wait_dropped.recv_timeout(SOON).unwrap();
                until(|| images().len() == before);
                drop(end);
            });
        },
    );
}

/// An update that is refused has no effect, but for what it has done to a value that others share.
#[test]
fn what_a_refused_update_has_changed_in_place_stays_changed() {
    let host = Host::new("add number");
    let number = || {
        host.plugin()
            .with_ref("number", |it: &AtomicU64| it.load(SeqCst))
    };
    host.refused("add number\nfail too late");
    assert_eq!(number(), Ok(Some(2)));
    let path = host.files.with("add number");
    drop(host.plugin().prepare(&path).unwrap());
    assert_eq!(number(), Ok(Some(3)));
    // With a new value, all of it or nothing.
    host.refused("add-one-to number\nfail in time");
    assert_eq!(number(), Ok(Some(3)));
    host.swap("add-one-to number").unwrap();
    assert_eq!(number(), Ok(Some(4)));
}

#[test]
fn a_fault_brings_back_the_services_too_also_inside_a_call() {
    let host = Host::with("restart one 1", |settings| settings.probation = Some(SOON));
    until(|| host.begun("one") == 1);
    host.swap("restart one 2").unwrap();
    until(|| host.begun("one") == 2);
    let back = host.plugin().with(|it| {
        let back = host.plugin().report_fault(it.number(), "it lies");
        back.map(|it| (it.generation, it.retired))
    });
    assert_eq!(back, Some((1, 2)));
    until(|| host.begun("one") == 3);
    assert_eq!(host.services(), [r#""one" on generation 1: running"#]);
}

#[test]
fn a_fault_while_another_update_is_open_is_told_and_the_next_one_counts() {
    let host = Host::with("restart one 1", |settings| settings.probation = Some(SOON));
    host.swap("restart one 2").unwrap();
    let path = host.files.with("stop one");
    let prepared = host.plugin().prepare(&path).unwrap();
    assert_eq!(host.plugin().report_fault(2, "it lies"), None);
    let said = host.plugin().refused().pop().unwrap();
    assert!(
        said.to_string().contains(
            "host: the update of another candidate is under way, or waits to be published"
        ),
        "{said}"
    );
    drop(prepared);
    let back = host.plugin().report_fault(2, "it lies again");
    assert_eq!(back.map(|it| it.generation), Some(1));
}

/// A plugin's words and names reach a terminal, and must not move what is on it.
#[test]
fn what_an_update_says_is_escaped() {
    const HIDDEN: &str = "a\u{202e}b\u{2066}c\u{200b}d\u{9b}e";
    const SHOWN: &str = r"a\u{202e}b\u{2066}c\u{200b}d\u{9b}e";
    let host = Host::new(&format!("start {HIDDEN} 1\ncounted {HIDDEN}.value"));
    let running = format!("\"{SHOWN}\" on generation 1: running");
    until(|| host.services() == [&*running]);
    let refs = host.refs().into_iter();
    let value = refs.filter(|it| it.starts_with(&format!("\"{SHOWN}.value\": Counted, ")));
    assert_eq!(value.count(), 1, "{:?}", host.refs());
    for order in ["fail", "panic"] {
        let reason = host.refused(&format!("{order} {HIDDEN}"));
        assert!(reason.contains(SHOWN), "{reason}");
    }
    // Another type than that of the value.
    let reason = host.refused(&format!("lock-texts {HIDDEN}.value"));
    assert!(reason.contains(SHOWN), "{reason}");
    let wrong = host
        .plugin()
        .with_ref(&format!("{HIDDEN}.value"), |_: &u64| ());
    let wrong = wrong.unwrap_err();
    let reason = wrong.reason();
    assert!(reason.contains(SHOWN), "{reason}");
}

#[test]
fn the_update_of_a_canary_takes_effect_when_it_is_promoted() {
    let host = Host::new("text it one");
    let prepare = |script: &str| host.plugin().prepare(host.files.with(script));
    let change = "write it two\nstart one 1";
    let canary = prepare(change).unwrap().start_canary(Share::ALL).unwrap();
    let before = host.refs();
    assert!(host.services().is_empty());
    // Its update has seen a state that another one would change.
    let stage = prepare("").unwrap_err().stage();
    assert_eq!(stage, Stage::Host);
    canary.abandon("no");
    assert_eq!(host.refs(), before);

    let canary = prepare(change).unwrap().start_canary(Share::ALL).unwrap();
    canary.promote();
    host.goes_on("one");
    host.swap("expect it two").unwrap();
}

/// The update of a canary has seen values that a rollback changes.
#[test]
fn a_rollback_ends_a_canary() {
    let on_request = |plugin: &Plugin| plugin.rollback().unwrap().generation;
    let after_a_fault = |plugin: &Plugin| plugin.report_fault(2, "no").unwrap().generation;
    let check = |probation, go_back: &dyn Fn(&Plugin) -> u64, live| {
        let host = Host::with("write it one", |settings| settings.probation = probation);
        assert_eq!(host.swap("write it two").unwrap().generation, 2);
        if probation.is_none() {
            host.plugin().wait(1, SOON);
        }
        let prepared = host.plugin().prepare(host.files.with("write it three"));
        let canary = prepared.unwrap().start_canary(Share::ALL).unwrap();
        let chosen = canary.choose("Ada");
        assert_eq!(go_back(host.plugin()), live);
        let Decision::Abandoned(error) = canary.promote() else {
            panic!("promoted");
        };
        let reason = error.reason();
        assert!(
            reason.starts_with("canary: a rollback changes "),
            "{reason}"
        );
        assert_eq!(chosen.generation(), 3);
        host.swap("write it four").unwrap();
    };
    check(Some(SOON), &on_request, 1);
    check(Some(SOON), &after_a_fault, 1);
    // The first generation is loaded again.
    check(None, &on_request, 4);
}
