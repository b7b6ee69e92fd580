//! Swap points whose first generation is a value of the host's own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hotswap_core::{Hotswap, Settings, State, event::Holder, reasons::FaultKind};
use hotswap_fixtures::desk::{Desk, Listener, Nested, Session};

use crate::fixtures::{SOON, generation_of, plugin, trust};

/// An implementation in the host, which counts how often it was dropped.
#[derive(Default)]
struct HostDesk(Arc<AtomicU64>);

impl Drop for HostDesk {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

struct HostSession;

impl Session for HostSession {
    fn user(&self) -> String {
        "somebody".to_owned()
    }

    fn hit(&self, count: u64) -> u64 {
        count
    }

    fn again(&self) -> Box<dyn Session> {
        Box::new(Self)
    }

    fn panic(&self) {
        panic!("as asked for");
    }
}

impl Desk for HostDesk {
    fn build(&self) -> u64 {
        0
    }

    fn open(&self, _: &str) -> Box<dyn Session> {
        Box::new(HostSession)
    }

    fn try_open(&self, user: &str) -> Result<Box<dyn Session>, String> {
        Err(format!("not for {user}"))
    }

    fn open_sessions(&self) -> u64 {
        0
    }

    fn listen(&self, _: Box<dyn Listener>) {}

    fn tell(&self, _: &str) -> u64 {
        0
    }

    fn echo(&self, session: Option<Box<dyn Session>>) -> Option<Box<dyn Session>> {
        session
    }

    fn open_all(&self, users: &[String]) -> Result<Vec<Box<dyn Session>>, String> {
        users.iter().map(|user| self.try_open(user)).collect()
    }

    fn open_deep(&self, _: &[u32]) -> Vec<(Box<dyn Session>, Nested)> {
        Vec::new()
    }

    fn hit_all(&self, _: Vec<(String, Option<Box<dyn Session>>)>) -> Vec<Vec<u64>> {
        Vec::new()
    }
}

#[test]
fn a_value_of_the_host_is_called_like_a_plugin() {
    let dropped = Arc::<AtomicU64>::default();
    let desk = Hotswap::<dyn Desk>::builtin(HostDesk(Arc::clone(&dropped))).unwrap();
    assert_eq!(desk.call(|it| it.build()), Ok(0));
    let error = desk.with(|it| it.try_open("Ada")).map(drop);
    assert_eq!(error, Err("not for Ada".to_owned()));
    let fault = desk.call(|it| it.open("Ada").panic());
    let panicked = FaultKind::Panicked("as asked for".to_owned());
    let fault = fault.unwrap_err();
    assert_eq!(fault.kind, panicked);
    assert_eq!(
        fault.to_string(),
        "panicked: as asked for, in a call of generation 1"
    );
    assert_eq!(desk.generations()[0].path.to_str(), Some("(built in)"));
    assert_eq!(dropped.load(Relaxed), 0);
    assert!(desk.shutdown(SOON).iter().all(|it| it.state.has_ended()));
    assert_eq!(dropped.load(Relaxed), 1);
}

#[test]
fn without_a_trust_nothing_is_loaded() {
    let desk = Arc::new(Hotswap::<dyn Desk>::builtin(HostDesk::default()).unwrap());
    let error = desk.swap(plugin("desk_1")).unwrap_err();
    assert_eq!(error.kind().name(), "no_trust");
    let expected = "trust: a swap point of a built-in value without a trust loads nothing (Hotswap::builtin_with)";
    assert_eq!(error.reason(), expected);
    let error = desk.watch(Default::default()).unwrap_err();
    let expected = "open: there is no file to watch: the value is built in; swap one in first";
    assert_eq!(error.reason(), expected);
    assert_eq!(desk.with(|it| it.build()), 0);
}

#[test]
fn a_plugin_replaces_it() {
    let dropped = Arc::<AtomicU64>::default();
    let value = HostDesk(Arc::clone(&dropped));
    let mut settings = Settings::default();
    settings.limits.drain_deadline = Duration::ZERO;
    let desk = Hotswap::<dyn Desk>::builtin_with(value, &trust(), settings).unwrap();
    let lease = desk.lease();
    let session = desk.with(|it| it.open("Ada"));
    desk.swap(plugin("desk_1")).unwrap();
    assert_eq!(
        (desk.with(|it| it.build()), lease.with(|it| it.build())),
        (1, 0)
    );
    drop(lease);
    // Its objects hold it, as those of a plugin do.
    let held = loop {
        match generation_of(&desk, 1).state {
            State::Draining { held_by, .. } if held_by.len() == 1 => break held_by,
            _ => std::thread::yield_now(),
        }
    };
    assert!(
        matches!(&held[0], Holder::Objects { interface, count: 1, .. } if interface == "Session")
    );
    assert_eq!(session.user(), "somebody");
    assert_eq!(dropped.load(Relaxed), 0);
    drop(session);
    assert_eq!(desk.wait(1, SOON), Some(State::Unloaded));
    assert_eq!(dropped.load(Relaxed), 1);
    let error = desk.rollback().unwrap_err();
    assert!(error.reason().contains("no earlier generation"), "{error}");
}

#[test]
fn a_rollback_goes_back_to_it_on_probation() {
    let dropped = Arc::<AtomicU64>::default();
    let value = HostDesk(Arc::clone(&dropped));
    let settings = Settings {
        probation: Some(SOON),
        services: Some(Default::default()),
        ..Settings::default()
    };
    let desk = Hotswap::<dyn Desk>::builtin_with(value, &trust(), settings).unwrap();
    desk.swap(plugin("desk_1")).unwrap();
    let back = desk.rollback().unwrap();
    assert_eq!(
        (back.generation, back.retired, back.loaded_again),
        (1, 2, None)
    );
    assert_eq!(desk.with(|it| it.build()), 0);
    assert_eq!(desk.wait(2, SOON), Some(State::Unloaded));
    drop(desk);
}
