//! What is said of text from outside.

use std::{
    fmt::{Debug, Display, Write},
    path::PathBuf,
    sync::Arc,
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

use super::*;
use crate::{error::Stage, image::OldLibrary};

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

/// As text, and as subscribers of `tracing` are told it.
#[track_caller]
fn check_event(event: Event) {
    check(&event);
    let fields = Fields::default();
    let subscriber = Registry::default().with(fields.clone());
    with_default(subscriber, || News(vec![event]).trace());
    check(&fields.0.lock().unwrap());
}

/// The fields of the events that a subscriber is told, as they are given to it.
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
fn what_a_terminal_does_not_show_is_escaped_in_every_event() {
    let error = Error::new(Stage::Link, HIDDEN.as_ref(), HIDDEN);
    let (generation, path) = (1, PathBuf::from(HIDDEN));
    let service = |news| Event::Service {
        name: name(),
        generation,
        news,
    };
    let ends = [ServiceEnd::Failed(name()), ServiceEnd::Panicked(name())];
    for how in ends {
        check(&how);
        check(&ServiceState::Pausing(how.clone()));
        check(&ServiceState::Ended(how.clone()));
        let again_in = None;
        check_event(service(ServiceNews::Ended { how, again_in }));
    }
    for reason in [
        PinReason::Function(name()),
        PinReason::SignalHandler(name()),
        PinReason::Library(name()),
        PinReason::Callback(name()),
    ] {
        check(&State::Pinned(reason.clone()));
        check_event(Event::Pinned { generation, reason });
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
        check_event(Event::Held { generation, by });
    }
    check(&error);
    check(&RefusedInfo::new(&error, None));
    check_event(Event::from(&error));
    check_event(Event::Accepted {
        generation,
        path: path.clone(),
        real_path: PathBuf::from("/real"),
        followed_link: true,
        phases: Phases::default(),
    });
    let library = OldLibrary {
        name: name(),
        mapped: path,
        found: PathBuf::from("/found"),
    };
    check(&library);
    check_event(Event::OldLibrary {
        generation,
        library,
    });
    check_event(Event::RolledBack {
        generation,
        live: 2,
        loaded_again: None,
        why: Some(name()),
    });
    check_event(Event::HookPanicked {
        generation,
        message: name(),
    });
    check_event(service(ServiceNews::Started));
    check(&ServiceInfo {
        name: name(),
        generation,
        state: ServiceState::Running,
        since: SystemTime::UNIX_EPOCH,
        restarts: 0,
        mentioned: true,
    });
}
