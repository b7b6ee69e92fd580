//! What a swap does to services.

use std::sync::atomic::Ordering::SeqCst;

use hotswap_core::{EventKind, State, event::Holder};

use super::{Host, until};
use crate::fixtures::{SOON, unloaded};

#[test]
fn a_started_service_runs_on_and_a_restarted_one_is_on_new_code() {
    let host = Host::new("start one 1\nrestart two 1");
    host.goes_on("one");
    host.goes_on("two");
    host.swap("start one 2\nrestart two 2").unwrap();
    until(|| host.tally("two", |it| it.word.load(SeqCst)) == 2);
    host.goes_on("one");
    host.goes_on("two");
    assert_eq!(host.tally("one", |it| it.word.load(SeqCst)), 1);
    assert_eq!((host.begun("one"), host.begun("two")), (1, 2));
    assert_eq!(
        host.services(),
        [
            r#""one" on generation 1: running"#,
            r#""two" on generation 2: running"#
        ]
    );
}

#[test]
fn old_code_stays_as_long_as_a_service_runs_on_it_and_says_so() {
    let host = Host::with("start one 1", |settings| {
        settings.limits.drain_deadline = std::time::Duration::ZERO;
    });
    host.swap("start one 2").unwrap();
    let events = &host.events;
    let held = loop {
        let event = events.recv().unwrap();
        if let EventKind::Held { by, .. } = &event.kind
            && !by.is_empty()
        {
            break event;
        }
    };
    assert_eq!(held.to_string(), r#"held generation 1: the service "one""#);
    let first = host.plugin().generations().remove(0);
    let State::Draining { held_by } = first.state else {
        panic!("not {:?}", first.state)
    };
    let [Holder::Service { name, .. }] = &held_by[..] else {
        panic!("not {held_by:?}")
    };
    assert_eq!(name, "one");

    host.swap("stop one").unwrap();
    unloaded(host.plugin(), 1);
}

#[test]
fn what_is_not_mentioned_any_more_runs_on_and_is_listed() {
    let host = Host::new("start one 1\nstart two 1");
    host.swap("start two 2").unwrap();
    host.goes_on("one");
    host.goes_on("two");
    assert_eq!(
        host.services(),
        [
            r#""one" on generation 1: running, not mentioned by the latest update"#,
            r#""two" on generation 1: running"#
        ]
    );
    host.swap("stop one\nstart two 3").unwrap();
    until(|| host.services() == [r#""two" on generation 1: running"#]);
}

#[test]
fn a_plugin_without_an_update_changes_nothing() {
    let host = Host::new("start one 1\ntext it value");
    host.goes_on("one");
    let (services, refs) = (host.services(), host.refs());
    host.plugin()
        .swap(crate::fixtures::plugin("build_1"))
        .unwrap();
    host.goes_on("one");
    assert_eq!((host.services(), host.refs()), (services, refs));
}

#[test]
fn without_services_no_update_is_run() {
    let host = Host::with("fail", |settings| settings.services = None);
    host.swap("panic").unwrap();
    assert!(host.plugin().services().is_empty());
    assert!(host.plugin().refs().is_empty());
}

#[test]
fn numbers_go_on_when_their_consumer_changes() {
    let mut host = Host::new("produce count\nconsume print 1");
    for word in 2..20 {
        host.goes_on("print");
        host.swap(&format!("produce count\nconsume print {word}"))
            .unwrap();
        until(|| host.tally("print", |it| it.word.load(SeqCst)) == word);
    }
    host.goes_on("print");
    assert_eq!(host.begun("print"), 19);
    assert_eq!(host.services()[0], r#""count" on generation 1: running"#);
    // One waits for room, or the other for a number.
    let mapped = host.plugin.take().unwrap().shutdown(SOON);
    assert!(mapped.is_empty(), "{mapped:?}");
}
