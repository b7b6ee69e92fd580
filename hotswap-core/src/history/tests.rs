//! What is said of text from outside.

use std::path::PathBuf;

use super::*;
use crate::{error::Stage, image::OldLibrary};

/// Turns the direction of the text, ends the line, is invisible, begins a sequence that a terminal obeys.
const HIDDEN: &str = "a\u{202e}b\u{2066}c\u{2028}d\u{200b}e\u{9b}f\u{1b}g\nh";

#[track_caller]
fn check(said: &dyn std::fmt::Display) {
    let said = said.to_string();
    let is_hidden = |c: char| !c.is_ascii_alphabetic() && HIDDEN.contains(c);
    assert!(!said.contains(is_hidden), "{said:?}");
    assert!(
        said.contains(r"a\u{202e}b\u{2066}c\u{2028}d\u{200b}e\u{9b}f\u{1b}g"),
        "{said}"
    );
}

fn name() -> String {
    HIDDEN.to_owned()
}

#[test]
fn what_a_terminal_does_not_show_is_escaped_in_every_event() {
    let error = Error::new(Stage::Link, HIDDEN.as_ref(), HIDDEN);
    let (generation, path) = (1, PathBuf::from(HIDDEN));
    let service = |news| Event::Service {
        name: "it".to_owned(),
        generation,
        news,
    };
    let ends = [ServiceEnd::Failed(name()), ServiceEnd::Panicked(name())];
    for how in ends {
        check(&how);
        check(&ServiceState::Pausing(how.clone()));
        check(&ServiceState::Ended(how.clone()));
        let again_in = None;
        check(&service(ServiceNews::Ended { how, again_in }));
    }
    for reason in [
        PinReason::Function(name()),
        PinReason::SignalHandler(name()),
        PinReason::Library(name()),
        PinReason::Callback(name()),
    ] {
        check(&State::Pinned(reason.clone()));
        check(&Event::Pinned { generation, reason });
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
        check(&Event::Held { generation, by });
    }
    check(&error);
    check(&RefusedInfo::new(&error, None));
    check(&Event::from(&error));
    check(&Event::Accepted {
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
    check(&Event::OldLibrary {
        generation,
        library,
    });
    check(&Event::RolledBack {
        generation,
        live: 2,
        loaded_again: None,
        why: Some(name()),
    });
    check(&Event::HookPanicked {
        generation,
        message: name(),
    });
    check(&Event::Service {
        name: name(),
        generation,
        news: ServiceNews::Started,
    });
    check(&ServiceInfo {
        name: name(),
        generation,
        state: ServiceState::Running,
        since: SystemTime::UNIX_EPOCH,
        restarts: 0,
        mentioned: true,
    });
}
