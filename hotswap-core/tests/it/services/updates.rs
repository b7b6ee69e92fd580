//! Updates as transactions.

use hotswap_core::{Hotswap, ServiceSettings, Settings, Stage};

use super::{Files, Host, until};
use crate::fixtures::{SOON, trust, unloaded};

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
    let mut settings = Settings::default();
    settings.services = Some(ServiceSettings::default());
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
    for probation in [None, Some(SOON)] {
        let host = Host::with("before it 1", |settings| settings.probation = probation);
        host.swap("migrate it\nrestart one 2").unwrap();
        let error = host.plugin().rollback().unwrap_err();
        let expected = "update: ref \"it\": another type: the fields of `Config` differ: expected `limit`, \
                        found `limit`, `burst`";
        assert_eq!(error.reason(), expected);
        let said = host.plugin().refused().pop().unwrap();
        assert_eq!((said.reason.as_str(), said.live), (expected, Some(2)));
        assert_eq!(host.plugin().with(|it| it.number()), 2);
        host.goes_on("one");
        // What has become of it is no obstacle to what comes next.
        host.swap("restart one 3").unwrap();
    }
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
    assert_eq!(
        said.reason,
        "host: the update of another candidate is under way, or waits to be published"
    );
    drop(prepared);
    let back = host.plugin().report_fault(2, "it lies again");
    assert_eq!(back.map(|it| it.generation), Some(1));
}
