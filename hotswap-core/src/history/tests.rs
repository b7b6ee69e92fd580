//! How events show text from outside.

use std::{
    fmt::{Debug, Display, Write},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use tracing::{
    Subscriber,
    field::{Field, Visit},
    subscriber::with_default,
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
};

use serde_json::json;

use super::*;
use crate::{comparison::Share, error::ErrorKind, image::OldLibrary};

/// Turns the direction of the text, ends the line, is invisible (also for std's `Debug`), begins a sequence that a
/// terminal obeys.
const HIDDEN: &str = "a\u{202e}b\u{2066}c\u{2028}d\u{200b}e\u{9b}f\u{1b}g\u{3164}h\ni";

#[track_caller]
fn check(said: &dyn Display) {
    let said = said.to_string();
    let is_hidden = |c: char| !c.is_ascii_alphabetic() && HIDDEN.contains(c);
    assert!(!said.contains(is_hidden), "{said:?}");
    assert!(
        said.contains(r"a\u{202e}b\u{2066}c\u{2028}d\u{200b}e\u{9b}f\u{1b}g\u{3164}h"),
        "{said}"
    );
}

/// The event as text, and as subscribers of `tracing` get it.
#[track_caller]
fn check_event(kind: EventKind) {
    let event = Event {
        generation: Some(1),
        version: Some(name()),
        ..Event::now(kind)
    };
    check(&event);
    let name = event.kind.name();
    assert!(
        event
            .to_string()
            .starts_with(&format!("{name} generation 1")),
        "{event}"
    );
    let object = serde_json::to_value(&event).unwrap();
    assert_eq!(object["event"], name);
    let fields = Fields::default();
    let subscriber = Registry::default().with(fields.clone());
    with_default(subscriber, || recorded(event).deliver());
    let fields = fields.0.lock().unwrap();
    check(&fields);
    assert_eq!(fields.matches("message=").count(), 1, "{fields}");
}

fn recorded(event: Event) -> Recorded {
    Recorded {
        events: vec![event],
        wakers: Vec::new(),
        metrics: Metrics::new("test"),
    }
}

/// The fields of events as a subscriber of `tracing` gets them.
#[derive(Clone, Default)]
struct Fields(Arc<Mutex<String>>);

impl<S: Subscriber> Layer<S> for Fields {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        event.record(&mut Written(&mut self.0.lock().unwrap()));
    }
}

struct Written<'a>(&'a mut String);

impl Visit for Written<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

fn name() -> String {
    HIDDEN.to_owned()
}

#[test]
fn every_event_escapes_what_a_terminal_does_not_show() {
    let error = Error::new(HIDDEN.as_ref(), ErrorKind::link(HIDDEN));
    let path = PathBuf::from(HIDDEN);
    let service = |change| EventKind::Service {
        name: name(),
        change,
    };
    let ends = [
        ServiceEnd::Failed { message: name() },
        ServiceEnd::Panicked { message: name() },
    ];
    for how in ends {
        check(&how);
        check(&ServiceState::Pausing(how.clone()));
        check(&ServiceState::Ended(how.clone()));
        let again_in = None;
        check_event(service(ServiceChange::Ended { how, again_in }));
    }
    for reason in [
        PinReason::Function(name()),
        PinReason::SignalHandler(name()),
        PinReason::Library(name()),
        PinReason::Callback(name()),
    ] {
        check(&State::Pinned {
            reason: reason.clone(),
        });
        check_event(EventKind::Pinned { reason });
    }
    let age = Duration::ZERO;
    let (thread, count) = (1, 1);
    for holder in [
        Holder::Call {
            thread,
            name: name(),
        },
        Holder::Thread {
            thread: Some(1),
            name: name(),
            age,
        },
        Holder::Destructors {
            thread,
            name: name(),
            count,
        },
        Holder::Service { name: name() },
        Holder::Ref { name: name() },
        Holder::DeletedKey {
            thread,
            name: name(),
        },
    ] {
        check(&holder);
        let by = vec![holder];
        check(&State::Draining {
            held_by: by.clone(),
        });
        check_event(EventKind::Held { by });
    }
    check(&error);
    check_event(Event::from(&error).kind);
    check_event(EventKind::Accepted {
        path: path.clone(),
        real_path: PathBuf::from("/real"),
        followed_link: true,
        configures: None,
        phases: Phases::default(),
    });
    let library = OldLibrary {
        name: name(),
        mapped: path,
        found: PathBuf::from("/found"),
    };
    check(&library);
    check_event(EventKind::OldLibrary { library });
    check_event(EventKind::RolledBack {
        live: 2,
        loaded_again: None,
        why: Some(name()),
    });
    check_event(EventKind::HungCall {
        thread,
        name: name(),
        is_poll: false,
        age,
    });
    check_event(EventKind::HookPanicked { panic: name() });
    check_event(service(ServiceChange::Started));
    check(&ServiceInfo {
        name: name(),
        generation: 1,
        state: ServiceState::Running,
        since: SystemTime::UNIX_EPOCH,
        restarts: 0,
        mentioned: true,
    });
}

/// The forms that programs rely on.
#[test]
fn each_kind_of_event_has_this_form_for_programs() {
    let ms = Duration::from_millis(1);
    let path = || PathBuf::from("/a.so");
    let service = |change| EventKind::Service {
        name: "one".to_owned(),
        change,
    };
    let message = || "no".to_owned();
    let too_low = ErrorKind::SerialTooLow {
        floor: 5,
        found: Some(3),
        is_in_file: true,
    };
    let forms = [
        (
            EventKind::Accepted {
                path: path(),
                real_path: PathBuf::from("/b.so"),
                followed_link: true,
                configures: Some(2),
                phases: Phases {
                    copy: ms,
                    ..Phases::default()
                },
            },
            json!({
                "event": "accepted", "path": "/a.so", "real_path": "/b.so", "followed_link": true,
                "configures": 2, "phases": {
                    "copy_us": 1000, "inspect_us": 0, "trial_us": 0, "link_us": 0, "check_us": 0, "probe_us": 0,
                    "update_us": 0, "publish_us": 0
                }
            }),
        ),
        (
            EventKind::StaticTls { bytes: 400 },
            json!({"event": "static-tls", "bytes": 400}),
        ),
        (
            EventKind::OldLibrary {
                library: OldLibrary {
                    name: "liba.so".to_owned(),
                    mapped: path(),
                    found: PathBuf::from("/b.so"),
                },
            },
            json!({"event": "old-library", "name": "liba.so", "mapped": "/a.so", "found": "/b.so"}),
        ),
        (
            EventKind::refused(&Error::new(&path(), too_low), Some(7)),
            json!({
                "event": "refused", "path": "/a.so", "stage": "trust", "kind": "serial_too_low",
                "data": {"floor": 5, "found": 3, "is_in_file": true},
                "reason": "trust: its serial number: expected at least 5, found 3", "setting": "Policy::serial_file",
                "live": 7
            }),
        ),
        (
            EventKind::Canary {
                path: path(),
                share: Share::percent(10),
            },
            json!({"event": "canary", "path": "/a.so", "share": 0.1}),
        ),
        (
            EventKind::Standby { successor: 2 },
            json!({"event": "standby", "successor": 2}),
        ),
        (
            EventKind::RolledBack {
                live: 3,
                loaded_again: Some(1),
                why: None,
            },
            json!({"event": "rolled-back", "live": 3, "loaded_again": 1, "why": null}),
        ),
        (
            EventKind::Held {
                by: vec![
                    Holder::Call {
                        thread: 1,
                        name: "a".to_owned(),
                    },
                    Holder::Thread {
                        thread: None,
                        name: String::new(),
                        age: ms,
                    },
                    Holder::Hook,
                    Holder::More { count: 2 },
                    Holder::Leases { count: 3 },
                ],
            },
            json!({"event": "held", "by": [
                {"holder": "call", "thread": 1, "name": "a"},
                {"holder": "thread", "thread": null, "name": "", "age_us": 1000},
                {"holder": "hook"}, {"holder": "more", "count": 2}, {"holder": "leases", "count": 3},
            ]}),
        ),
        (
            EventKind::HungCall {
                thread: 1,
                name: "a".to_owned(),
                is_poll: true,
                age: ms,
            },
            json!({"event": "hung-call", "thread": 1, "name": "a", "is_poll": true, "age_us": 1000}),
        ),
        (
            EventKind::HookPanicked { panic: message() },
            json!({"event": "hook-panicked", "panic": "no"}),
        ),
        (
            EventKind::Unloaded {
                after: ms,
                heap: Some(HeapLeft {
                    bytes: 1,
                    allocations: 2,
                }),
            },
            json!({"event": "unloaded", "after_us": 1000, "heap": {"bytes": 1, "allocations": 2}}),
        ),
        (
            EventKind::Pinned {
                reason: PinReason::NoDelete,
            },
            json!({"event": "pinned", "reason": PinReason::NoDelete.to_string()}),
        ),
        (
            EventKind::Retained {
                images: 1,
                bytes: 2,
                images_max: 3,
                bytes_max: 4,
            },
            json!({"event": "retained", "images": 1, "bytes": 2, "images_max": 3, "bytes_max": 4}),
        ),
        (
            EventKind::SerialNotKept {
                reason: message(),
                setting: Some("Policy::root".to_owned()),
            },
            json!({"event": "serial-not-kept", "reason": "no", "setting": "Policy::root"}),
        ),
        (
            service(ServiceChange::Ended {
                how: ServiceEnd::Failed { message: message() },
                again_in: Some(ms),
            }),
            json!({
                "event": "service", "name": "one", "change": "ended", "how": "failed", "message": "no", "again_in_us": 1000
            }),
        ),
        (
            service(ServiceChange::Stuck { after: ms }),
            json!({"event": "service", "name": "one", "change": "stuck", "after_us": 1000}),
        ),
        (
            EventKind::Missed { events: 2 },
            json!({"event": "missed", "events": 2}),
        ),
    ];
    for (kind, mut expected) in forms {
        let event = Event {
            at: SystemTime::UNIX_EPOCH + ms,
            generation: Some(1),
            version: Some("0.1.0".to_owned()),
            build_id: Some("c0ffee".to_owned()),
            sha256: Some(Sha256::of(b"")),
            kind,
        };
        let common = json!({
            "at_ms": 1, "generation": 1, "version": "0.1.0", "build_id": "c0ffee", "sha256": Sha256::of(b"").to_string(),
        });
        let common = common.as_object().unwrap().clone();
        expected.as_object_mut().unwrap().extend(common);
        assert_eq!(serde_json::to_value(&event).unwrap(), expected);
    }
}

/// Metrics have the names as labels, and a query joins them with what programs read in events.
#[test]
fn the_name_of_a_variant_is_its_tag() {
    let object = serde_json::to_value(State::draining()).unwrap();
    assert_eq!(object["state"], State::draining().name());
    let holder = Holder::DeletedKey {
        thread: 1,
        name: name(),
    };
    let object = serde_json::to_value(&holder).unwrap();
    assert_eq!(object["holder"], holder.name());
    assert_eq!(holder.name(), "deleted-key");
    let error = ErrorKind::NoEarlierGeneration;
    let object = serde_json::to_value(&error).unwrap();
    assert_eq!(object["kind"], error.name());
    assert_eq!(error.name(), "no_earlier_generation");
    let states = [
        "live", "canary", "standby", "draining", "unloaded", "pinned",
    ];
    assert_eq!(State::NAMES, states);
}
