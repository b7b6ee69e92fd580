//! How services end.

use std::time::Duration;

use hotswap_core::{
    GenerationInfo, State,
    services::{ServiceEnd, ServiceState},
};

use super::{Host, change_line, until, until_state};
use crate::fixtures::{SOON, unloaded};

/// Services that count as stuck at once.
fn impatient(script: &str) -> Host {
    Host::with(script, |settings| {
        let services = settings.services.as_mut().expect("turned on");
        services.stop_deadline = Duration::from_millis(1);
    })
}

#[test]
fn how_a_service_has_ended_is_told() {
    let host = Host::new("panics one");
    assert_eq!(host.next_news(), "one 1 started");
    let line = host.next_news();
    assert!(
        line.starts_with(
            "one 1 panicked: on purpose (hotswap-core/tests/fixtures/src/services.rs:"
        ),
        "{line}"
    );
    host.swap("fails two").unwrap();
    assert_eq!(host.next_news(), "two 2 started");
    assert_eq!(host.next_news(), "two 2 failed: no luck");
    host.swap("returns three").unwrap();
    assert_eq!(host.next_news(), "three 3 started");
    assert_eq!(host.next_news(), "three 3 returned");
    until_state(&host, "three", ServiceState::Ended(ServiceEnd::Returned));
    unloaded(host.plugin(), 1);
    unloaded(host.plugin(), 2);
    // Those that are not mentioned any more are forgotten; one that is, is started anew.
    until(|| host.services() == [r#""three" on generation 3: returned"#]);
    host.swap("returns three").unwrap();
    assert_eq!(host.next_news(), "three 4 started");
}

#[test]
fn a_policy_starts_it_again_on_the_code_it_began_with() {
    let host = Host::new("recovers one");
    assert_eq!(host.next_news(), "one 1 started");
    assert_eq!(host.next_news(), "one 1 failed: first, again");
    assert_eq!(host.next_news(), "one 1 started");
    let line = host.next_news();
    assert!(line.starts_with("one 1 panicked: second"), "{line}");
    assert!(line.ends_with(", again"), "{line}");
    assert_eq!(host.next_news(), "one 1 started");
    assert_eq!(
        host.services(),
        [r#""one" on generation 1: running, started again 2 times"#]
    );
    // It sleeps for an hour, but for the token.
    host.swap("stop one").unwrap();
    assert_eq!(host.next_news(), "one 1 stopped");
    unloaded(host.plugin(), 1);
}

#[test]
fn what_its_thread_has_left_to_do_is_done_before_its_code_leaves() {
    let host = Host::new("untidy one");
    for swaps in 1..5 {
        until(|| host.begun("one") == swaps);
        host.swap("untidy one").unwrap();
        unloaded(host.plugin(), swaps);
        assert_eq!(host.beats("left"), swaps);
    }
}

#[test]
fn a_service_that_does_not_stop_is_reported_once_and_nothing_takes_its_place() {
    let host = impatient("deaf one");
    until(|| host.begun("one") == 1);
    assert_eq!(host.next_news(), "one 1 started");
    host.swap("restart one 2").unwrap();
    assert_eq!(host.next_news(), "one 1 stuck");
    for word in 3..5 {
        host.swap(&format!("restart one {word}")).unwrap();
        assert_eq!(
            host.next_news(),
            format!("one {} stopped before it had begun", word - 1)
        );
    }
    // Those that were to take its place have left.
    unloaded(host.plugin(), 2);
    unloaded(host.plugin(), 3);
    assert_eq!(
        host.services(),
        [
            r#""one" on generation 1: stuck"#,
            r#""one" on generation 4: waiting for the one before to end"#
        ]
    );
    assert_eq!(host.begun("one"), 1);
    let first = host.plugin().generations().remove(0);
    assert!(matches!(first.state, State::Draining { .. }), "{first}");

    host.release();
    assert_eq!(host.next_news(), "one 1 stopped");
    assert_eq!(host.next_news(), "one 4 started");
    unloaded(host.plugin(), 1);
    assert_eq!(
        host.tally("one", |it| it
            .most
            .load(std::sync::atomic::Ordering::SeqCst)),
        1
    );
}

#[test]
fn a_start_while_the_one_before_is_stopping_waits_for_it() {
    let host = impatient("deaf one");
    until(|| host.begun("one") == 1);
    host.swap("stop one").unwrap();
    until_state(&host, "one", ServiceState::Stuck);
    host.swap("start one 3").unwrap();
    until_state(&host, "one", ServiceState::Waiting);
    // What waits is left alone like what runs.
    host.swap("start one 4").unwrap();
    host.release();
    host.goes_on("one");
    assert_eq!(host.services(), [r#""one" on generation 3: running"#]);
}

#[test]
fn at_the_end_services_stop_in_reverse_order() {
    let mut host = Host::new("start one 1\nstart two 1\nstart three 1");
    for name in ["one", "two", "three"] {
        until(|| host.begun(name) == 1);
    }
    host.swap("restart one 2").unwrap();
    until(|| host.begun("one") == 2);
    let events = &host.events;
    let mapped = host.plugin.take().unwrap().shutdown(SOON);
    assert!(mapped.is_empty(), "{mapped:?}");
    let stopped: Vec<String> = events
        .iter()
        .filter_map(|event| change_line(&event))
        .collect();
    assert_eq!(
        stopped[stopped.len() - 4..],
        [
            "one 2 started",
            "one 2 stopped",
            "three 1 stopped",
            "two 1 stopped"
        ]
    );
}

#[test]
fn a_service_may_be_waited_for_without_end() {
    let mut host = Host::with("start one 1\nstart two 1", |settings| {
        let services = settings.services.as_mut().expect("turned on");
        services.stop_deadline = Duration::MAX;
    });
    until(|| host.begun("one") == 1 && host.begun("two") == 1);
    let events = &host.events;
    host.swap("stop one\nstart two 2").unwrap();
    until(|| host.services() == [r#""two" on generation 1: running"#]);
    let mapped = host.plugin.take().unwrap().shutdown(Duration::MAX);
    assert!(mapped.is_empty(), "{mapped:?}");
    let stopped: Vec<String> = events
        .iter()
        .filter_map(|event| change_line(&event))
        .collect();
    assert_eq!(
        stopped[stopped.len() - 2..],
        ["one 1 stopped", "two 1 stopped"]
    );
}

#[test]
fn what_does_not_stop_at_the_end_is_reported_and_stays_mapped() {
    let mut host = impatient("deaf one");
    until(|| host.begun("one") == 1);
    host.swap("start two 1").unwrap();
    until(|| host.begun("two") == 1);
    let is_held = |first: &GenerationInfo| match &first.state {
        State::Draining { held_by } => {
            let held_by: Vec<String> = held_by.iter().map(ToString::to_string).collect();
            held_by == [r#"the service "one""#]
        }
        _ => false,
    };
    until(|| is_held(&host.plugin().generations()[0]));
    let events = &host.events;
    let plugin = host.plugin.take().unwrap();
    let mapped = plugin.shutdown(Duration::from_millis(200));
    let first = mapped.iter().find(|it| it.number == 1);
    assert!(first.is_some_and(is_held), "{first:?}");
    let mut expected = vec!["one 1 stuck", "two 2 stopped"];
    while !expected.is_empty() {
        let event = events.recv_timeout(SOON);
        let line = change_line(&event.unwrap_or_else(|_| panic!("no {expected:?}")));
        expected.retain(|it| line.as_deref() != Some(it));
    }
}

#[test]
fn dropping_waits_for_nobody_and_all_leave() {
    let mut host = Host::new("start one 1\nrestart two 1\ntext it value");
    host.goes_on("one");
    let events = &host.events;
    drop(host.plugin.take());
    let mut seen = Vec::new();
    while let Ok(event) = events.recv_timeout(SOON) {
        seen.push(event.to_string());
    }
    assert!(
        seen.iter()
            .any(|it| it.starts_with("unloaded generation 1")),
        "{seen:?}"
    );
}
