//! Objects: values of a plugin that the host uses, and values of the host that a plugin uses.

use std::{
    any::Any,
    cell::RefCell,
    collections::BTreeSet,
    panic::panic_any,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use hotswap_core::{
    ErrorKind, EventKind, Hotswap, Settings, Stage, State,
    canary::Share,
    event::Holder,
    reasons::{Fault, FaultKind},
};
use hotswap_fixtures::desk::{Desk, Listener, Session};

use crate::{
    alone::alone,
    fixtures::{SOON, plugin, trust, until},
    process::status_bytes,
};

fn load(name: &str) -> Hotswap<dyn Desk> {
    load_with(name, |_| {})
}

fn load_with(name: &str, change: impl FnOnce(&mut Settings<dyn Desk>)) -> Hotswap<dyn Desk> {
    let mut settings = Settings::default();
    change(&mut settings);
    Hotswap::load_with(plugin(name), &trust(), settings).expect("a good plugin")
}

#[track_caller]
fn unloaded(desk: &Hotswap<dyn Desk>, generation: u64) {
    assert_eq!(desk.wait(generation, SOON), Some(State::Unloaded));
}

#[test]
fn an_object_of_a_canary_stays_when_that_is_abandoned() {
    let desk = load("desk_1");
    let canary = desk.prepare(plugin("desk_2")).unwrap();
    let canary = canary.start_canary(Share::ALL).unwrap();
    let session = canary.choose("Ada").with(|it| it.open("Ada"));
    canary.abandon("no");
    assert!(matches!(
        desk.wait(2, Duration::from_millis(50)),
        Some(State::Draining { .. })
    ));
    assert_eq!(session.user(), "Ada at 2");
    drop(session);
    unloaded(&desk, 2);
}

#[test]
fn an_object_stays_with_the_generation_that_has_made_it() {
    let desk = load_with("desk_1", |settings| {
        settings.limits.drain_deadline = Duration::ZERO
    });
    let events = desk.events();
    let session = desk.with(|it| it.open("Ada"));
    let other = desk.call(|it| it.try_open("Bob")).unwrap().unwrap();
    let error = desk.with(|it| it.try_open("")).map(drop);
    assert_eq!(error, Err("nobody is called so".to_owned()));
    desk.swap(plugin("desk_2")).unwrap();

    let held = events.iter().find_map(|event| match event.kind {
        EventKind::Held { by, .. } => Some(by),
        _ => None,
    });
    let held = held.expect("told");
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(held[0].to_string(), "2 objects of Session");
    assert!(
        matches!(&held[0], Holder::Objects { interface, count: 2, .. } if interface == "Session")
    );

    assert_eq!(session.user(), "Ada at 1");
    assert_eq!((session.hit(2), session.hit(3), other.hit(1)), (2, 5, 1));
    drop(session);
    // On another thread, too.
    thread::spawn(move || assert_eq!(other.user(), "Bob at 1"))
        .join()
        .unwrap();
    unloaded(&desk, 1);
}

/// Each generation leaves with its last object, in whatever order the generations' objects go.
#[test]
fn ten_thousand_objects_of_twenty_generations() {
    const EACH: u64 = 500;
    let desk = load("desk_1");
    let mut generations = Vec::new();
    for generation in 1..=20 {
        let open = |user: u64| desk.with(|it| it.open(&user.to_string()));
        let sessions: Vec<_> = (0..EACH).map(open).collect();
        generations.push((generation, sessions));
        let next = if generation % 2 == 0 {
            "desk_1"
        } else {
            "desk_2"
        };
        assert_eq!(desk.swap(plugin(next)).unwrap().retired, generation);
    }
    let (odd, even): (Vec<_>, Vec<_>) = generations.into_iter().partition(|it| it.0 % 2 == 1);
    for (generation, mut sessions) in odd.into_iter().chain(even.into_iter().rev()) {
        let last = sessions.pop().expect("there are many");
        drop(sessions);
        // A look while they are dropped may list the lease of one that is not counted any more.
        until(|| {
            let state = desk.wait(generation, Duration::ZERO);
            matches!(&state, Some(State::Draining { held_by, .. })
                if matches!(&held_by[..], [Holder::Objects { .. }]))
        });
        let build = if generation % 2 == 1 { 1 } else { 2 };
        assert_eq!(last.user(), format!("{} at {build}", EACH - 1));
        drop(last);
        unloaded(&desk, generation);
    }
}

#[test]
fn an_object_of_an_object_stays_too() {
    let desk = load("desk_1");
    let session = desk.with(|it| it.open("Ada"));
    desk.swap(plugin("desk_2")).unwrap();
    let again = session.again();
    drop(session);
    assert_eq!(again.user(), "Ada at 1");
    drop(again);
    unloaded(&desk, 1);
}

#[test]
fn objects_are_dropped_by_their_side() {
    let desk = load("desk_1");
    let sessions: Vec<_> = (0..10).map(|_| desk.with(|it| it.open("Ada"))).collect();
    assert_eq!(desk.with(|it| it.open_sessions()), 10);
    drop(sessions);
    assert_eq!(desk.with(|it| it.open_sessions()), 0);
    // A panic of a destructor is dropped.
    drop(desk.with(|it| it.open("panics when dropped")));
    assert_eq!(desk.with(|it| it.open_sessions()), 0);
}

#[test]
fn a_fault_of_an_object_is_one_of_the_call() {
    let desk = load("desk_1");
    let Err(Fault {
        kind: FaultKind::Panicked(text),
        ..
    }) = desk.call(|it| it.open("Ada").panic())
    else {
        panic!("no fault");
    };
    assert!(text.starts_with("as asked for by Ada ("), "{text}");
    assert_eq!(desk.with(|it| it.open_sessions()), 0);
    // It is of the generation that the object is of, not of the one that is live.
    let session = desk.with(|it| it.open("Ada"));
    desk.swap(plugin("desk_2")).unwrap();
    let fault = desk.call(|_| session.panic()).unwrap_err();
    assert_eq!(fault.generation, Some(1), "{fault}");
}

#[test]
fn many_objects_come_at_once() {
    let desk = load("desk_1");
    let users = ["Ada", "Bob"].map(str::to_owned);
    let sessions = desk.call(|it| it.open_all(&users)).unwrap().unwrap();
    assert!(desk.with(|it| it.open_all(&[])).unwrap().is_empty());
    desk.swap(plugin("desk_2")).unwrap();
    let of_users: Vec<_> = sessions.iter().map(|it| it.user()).collect();
    assert_eq!(of_users, ["Ada at 1", "Bob at 1"]);
    // Each holds the generation by itself.
    for session in sessions {
        let is_mapped = |state: State| !state.has_ended();
        assert!(desk.wait(1, Duration::ZERO).is_some_and(is_mapped));
        drop(session);
    }
    unloaded(&desk, 1);
}

/// The host drops those that it has taken, and the plugin the others, also those after the one that cannot be read.
#[test]
fn objects_that_do_not_all_come_are_dropped() {
    const TOO_DEEP: u32 = 200;
    let desk = load("desk_1");
    let sessions = desk.with(|it| it.open_deep(&[0, 1, 2]));
    assert_eq!(desk.with(|it| it.open_sessions()), 3);
    assert_eq!(sessions[1].0.user(), "1 at 1");
    drop(sessions);
    let fault = desk.call(|it| it.open_deep(&[0, 1, TOO_DEEP, 2]));
    assert_eq!(fault.err().map(|it| it.kind), Some(FaultKind::TooDeep));
    assert_eq!(desk.with(|it| it.open_sessions()), 0);
    // One that cannot be opened, after another.
    let users = ["Ada", ""].map(str::to_owned);
    let error = desk.with(|it| it.open_all(&users)).map(drop);
    assert_eq!(error, Err("nobody is called so".to_owned()));
    assert_eq!(desk.with(|it| it.open_sessions()), 0);
    // Their destructors may panic, more than one of them.
    let users = ["panics when dropped", "panics when dropped"].map(str::to_owned);
    drop(desk.with(|it| it.open_all(&users)));
    assert_eq!(desk.with(|it| it.open_sessions()), 0);
    desk.swap(plugin("desk_2")).unwrap();
    unloaded(&desk, 1);
}

#[test]
fn a_plugin_takes_many_objects_at_once() {
    let desk = load("desk_1");
    let dropped = Arc::<AtomicU64>::default();
    let session = |name: &str| {
        let session: Box<dyn Session> = Box::new(HostSession(Arc::clone(&dropped)));
        (name.to_owned(), Some(session))
    };
    let sessions = vec![session("a"), ("none".to_owned(), None), session("b")];
    assert_eq!(
        desk.with(|it| it.hit_all(sessions)),
        [vec![2], vec![], vec![2]]
    );
    assert_eq!(dropped.load(Relaxed), 2);
    // One that panics half way.
    let sessions = vec![session("a"), session("panic"), session("b")];
    let fault = desk.call(|it| it.hit_all(sessions));
    let kind = fault.unwrap_err().kind;
    assert!(matches!(kind, FaultKind::Panicked(_)), "{kind}");
    assert_eq!(dropped.load(Relaxed), 5);
    // Its own ones go there and back.
    let own = vec![("own".to_owned(), Some(desk.with(|it| it.open("Ada"))))];
    assert_eq!(desk.with(|it| it.hit_all(own)), [[1]]);
    assert_eq!(desk.with(|it| it.open_sessions()), 0);
}

/// 10,000 objects over 20 swaps: each generation is unloaded when its last object is dropped.
#[test]
fn each_generation_leaves_with_its_last_object() {
    let desk = load("desk_1");
    let mut sessions = Vec::new();
    for generation in 0..20 {
        let opened =
            (0..500).map(|number| desk.with(|it| it.open(&format!("{generation}/{number}"))));
        sessions.push(opened.collect::<Vec<_>>());
        desk.swap(plugin(if generation % 2 == 0 {
            "desk_2"
        } else {
            "desk_1"
        }))
        .unwrap();
    }
    for (generation, opened_by_generation) in (0..).zip(sessions) {
        for (number, session) in opened_by_generation.iter().enumerate() {
            assert_eq!(
                session.user(),
                format!("{generation}/{number} at {}", generation % 2 + 1)
            );
        }
        let is_mapped = desk
            .wait(generation + 1, Duration::ZERO)
            .is_some_and(|it| !it.has_ended());
        assert!(is_mapped, "generation {}", generation + 1);
        drop(opened_by_generation);
        unloaded(&desk, generation + 1);
    }
}

/// Wherever the host puts an object, it keeps its generation.
#[test]
fn an_object_may_go_anywhere() {
    thread_local! {
        static OF_THREAD: RefCell<Option<Box<dyn Session>>> = const { RefCell::new(None) };
    }
    static KEPT: Mutex<Option<Box<dyn Session>>> = Mutex::new(None);
    let (desk, other) = (load("desk_1"), load("desk_2"));
    let (sender, receiver) = mpsc::channel();
    let mut captured = None;
    desk.with(|it| {
        captured = Some(it.open("captured"));
        *KEPT.lock().unwrap() = Some(it.open("of a static"));
        sender.send(it.open("of a channel")).unwrap();
    });
    let any: Box<dyn Any + Send> = desk.with(|it| Box::new(it.open("of any")) as _);
    let payload = thread::scope(|scope| {
        let panics = || desk.with(|it| -> () { panic_any(it.open("of a payload")) });
        scope.spawn(panics).join().unwrap_err()
    });
    let (of_desk, may_end) = (
        desk.with(|it| it.open("of a thread")),
        mpsc::channel::<()>(),
    );
    let holder = thread::spawn(move || {
        OF_THREAD.set(Some(of_desk));
        let _ = may_end.1.recv();
    });
    desk.swap(plugin("desk_2")).unwrap();

    let downcast = |any: Box<dyn Any + Send>| *any.downcast::<Box<dyn Session>>().unwrap();
    let sessions = [
        captured.unwrap(),
        KEPT.lock().unwrap().take().unwrap(),
        receiver.recv().unwrap(),
        downcast(any),
        downcast(payload),
    ];
    let users: Vec<_> = sessions.iter().map(|it| it.user()).collect();
    let expected = [
        "captured",
        "of a static",
        "of a channel",
        "of any",
        "of a payload",
    ];
    assert_eq!(users, expected.map(|it| format!("{it} at 1")));
    // In calls of another generation, and of another swap point.
    desk.with(|_| other.with(|_| drop(sessions)));
    let is_mapped = |state: State| !state.has_ended();
    assert!(desk.wait(1, Duration::ZERO).is_some_and(is_mapped));
    drop(may_end.0);
    holder.join().unwrap();
    unloaded(&desk, 1);
}

/// What a plugin has passed to the host's [`Recorder`].
#[derive(Default)]
struct Received {
    texts: Mutex<Vec<String>>,
    sessions: Mutex<Vec<Box<dyn Session>>>,
    dropped: Arc<AtomicU64>,
}

struct Recorder(Arc<Received>);

impl Listener for Recorder {
    fn hear(&self, text: &str) -> u64 {
        assert_ne!(text, "panic");
        self.0.texts.lock().unwrap().push(text.to_owned());
        1
    }

    fn take(&self, session: Box<dyn Session>) {
        self.0.sessions.lock().unwrap().push(session);
    }

    fn give(&self) -> Option<Box<dyn Session>> {
        Some(Box::new(HostSession(Arc::clone(&self.0.dropped))))
    }
}

struct HostSession(Arc<AtomicU64>);

impl Drop for HostSession {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Session for HostSession {
    fn user(&self) -> String {
        "the host's".to_owned()
    }

    fn hit(&self, count: u64) -> u64 {
        count + 1
    }

    fn again(&self) -> Box<dyn Session> {
        Box::new(Self(Arc::clone(&self.0)))
    }

    fn panic(&self) {
        panic!("of the host");
    }
}

/// An object that a plugin passes to an object of the host holds the plugin's generation, as any other does.
#[test]
fn a_plugin_has_objects_of_the_host() {
    let desk = load("desk_1");
    let received = Arc::<Received>::default();
    desk.with(|it| it.listen(Box::new(Recorder(Arc::clone(&received)))));
    assert_eq!(desk.with(|it| it.tell("a") + it.tell("b")), 2 * (1 + 101));
    assert_eq!(*received.texts.lock().unwrap(), ["a", "b"]);
    assert_eq!(received.dropped.load(Relaxed), 2);
    desk.swap(plugin("desk_2")).unwrap();
    let sessions = std::mem::take(&mut *received.sessions.lock().unwrap());
    assert_eq!(sessions[1].user(), "b at 1");
    assert_eq!(Arc::strong_count(&received), 2);
    drop(sessions);
    unloaded(&desk, 1);
    assert_eq!(
        Arc::strong_count(&received),
        1,
        "the listener left with the plugin"
    );
}

#[test]
fn a_panic_of_the_host_goes_through_the_plugin() {
    let desk = load("desk_1");
    desk.with(|it| it.listen(Box::new(Recorder(Arc::default()))));
    let Err(Fault {
        kind: FaultKind::Panicked(text),
        ..
    }) = desk.call(|it| it.tell("panic"))
    else {
        panic!("no fault");
    };
    assert!(text.contains("left != right"), "{text}");
}

/// From plugin to host to plugin, through one more proxy each time.
#[test]
fn an_object_may_come_back() {
    let (desk, other) = (load("desk_1"), load("desk_2"));
    assert!(desk.with(|it| it.echo(None)).is_none());
    let session = desk.with(|it| it.open("Ada"));
    let session = other.with(|it| it.echo(Some(session))).unwrap();
    let session = desk.with(|it| it.echo(Some(session))).unwrap();
    assert_eq!(session.user(), "Ada at 1");
    let host_session = desk.with(|it| it.echo(Some(Box::new(HostSession(Arc::default())))));
    assert_eq!(host_session.unwrap().user(), "the host's");
    for it in [&desk, &other] {
        it.swap(plugin("desk_1")).unwrap();
        assert!(
            it.wait(1, Duration::ZERO)
                .is_some_and(|state| !state.has_ended())
        );
    }
    drop(session);
    unloaded(&desk, 1);
    unloaded(&other, 1);
}

/// A probe may use objects. If it keeps one, the candidate is refused and stays mapped.
#[test]
fn a_probe_gives_objects_back() {
    static KEPT: Mutex<Option<Box<dyn Session>>> = Mutex::new(None);
    crate::alone::alone("desk::a_probe_gives_objects_back", || {
        let desk = load_with("desk_1", |settings| {
            settings.limits.retired_images_max = 1;
            settings.probe = Some(Arc::new(|candidate, live| {
                let session = candidate.open("probe");
                if session.hit(2) != 2 {
                    return Err("it cannot count".to_owned());
                }
                if live.is_some_and(|live| live.number() > 1) {
                    *KEPT.lock().unwrap() = Some(session);
                }
                Ok(())
            }));
        });
        desk.swap(plugin("desk_2")).unwrap();
        unloaded(&desk, 1);
        let error = desk.swap(plugin("desk_1")).unwrap_err();
        assert_eq!(error.stage(), Stage::Probe);
        let expected = "probe: the probe has kept 1 object of Session of the candidate, which stays mapped for that";
        assert_eq!(error.reason(), expected);
        let kept = KEPT.lock().unwrap().take().unwrap();
        assert_eq!(kept.user(), "probe at 1");
        drop(kept);
        // It counts, so that a host that tries again and again does not run out of descriptors.
        let error = desk.swap(plugin("desk_1")).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Retired { .. }), "{error}");
    });
}

/// A plugin's value is dropped when nobody uses the plugin any more. Then an object of it would be used when it is
/// gone.
#[test]
fn a_generation_that_leaves_gives_no_objects() {
    let desk = load("desk_1");
    let received = Arc::<Received>::default();
    desk.with(|it| it.listen(Box::new(Recorder(Arc::clone(&received)))));
    desk.with(|it| it.tell("goodbye"));
    received.sessions.lock().unwrap().clear();
    desk.swap(plugin("desk_2")).unwrap();
    unloaded(&desk, 1);
    assert_eq!(received.sessions.lock().unwrap().len(), 0);
    assert_eq!(Arc::strong_count(&received), 1);
}

/// A plugin that has the last handle of its own swap point drops that while it is being unloaded.
#[test]
fn a_plugin_may_have_its_own_swap_point() {
    struct Holds(Arc<Hotswap<dyn Desk>>);

    impl Listener for Holds {
        fn hear(&self, _: &str) -> u64 {
            self.0.with(|it| it.build())
        }

        fn take(&self, _: Box<dyn Session>) {}

        fn give(&self) -> Option<Box<dyn Session>> {
            Some(self.0.with(|it| it.open("again")))
        }
    }

    let desk = Arc::new(load("desk_1"));
    let events = desk.events();
    desk.with(|it| it.listen(Box::new(Holds(Arc::clone(&desk)))));
    assert_eq!(desk.with(|it| it.tell("a")), 1 + 100);
    let session = desk.with(|it| it.open("Ada"));
    desk.swap(plugin("desk_2")).unwrap();
    drop(desk);
    drop(session);
    // They end with the swap point, whichever is first: it ends when the first has dropped what it held, and before its
    // threads have ended.
    let unloaded = events.iter().filter_map(|event| match event.kind {
        EventKind::Unloaded { .. } => event.generation,
        _ => None,
    });
    assert_eq!(unloaded.collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
}

/// The same for a candidate, whose value is dropped too when it is refused or not published.
#[test]
fn a_candidate_that_leaves_gives_no_objects() {
    let received = Arc::<Received>::default();
    let of_probe = Arc::clone(&received);
    let desk = load_with("desk_1", |settings| {
        settings.probe = Some(Arc::new(move |candidate, live| {
            if live.is_none() {
                return Ok(());
            }
            candidate.listen(Box::new(Recorder(Arc::clone(&of_probe))));
            candidate.tell("goodbye");
            of_probe.sessions.lock().unwrap().clear();
            match candidate.build() {
                1 => Err("not again".to_owned()),
                _ => Ok(()),
            }
        }));
    });
    let sessions_at_the_end = || {
        while Arc::strong_count(&received) > 2 {
            thread::yield_now();
        }
        received.sessions.lock().unwrap().len()
    };
    let error = desk.swap(plugin("desk_1")).unwrap_err();
    assert_eq!(error.reason(), "probe: not again");
    assert_eq!(sessions_at_the_end(), 0, "refused");
    drop(desk.prepare(plugin("desk_2")).unwrap());
    assert_eq!(sessions_at_the_end(), 0, "not published");
    // One that is published gives objects again.
    let swapped = desk.swap(plugin("desk_2")).unwrap();
    desk.with(|it| it.tell("hello"));
    let sessions = std::mem::take(&mut *received.sessions.lock().unwrap());
    desk.swap(plugin("desk_2")).unwrap();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].user(), "hello at 2");
    drop(sessions);
    unloaded(&desk, swapped.generation);
}

/// The hook that drops the plugin's value runs on a thread of its own, which ends with it.
#[test]
fn two_thousand_swaps_leave_nothing_on_the_heap() {
    alone("desk::two_thousand_swaps_leave_nothing_on_the_heap", || {
        let desk = load("desk_1");
        let swap = || {
            let session = desk.with(|it| it.open("Ada"));
            let swapped = desk.swap(plugin("desk_1")).unwrap();
            drop(session);
            unloaded(&desk, swapped.retired);
        };
        // Until the allocator has the room that it needs.
        (0..2_000).for_each(|_| swap());
        let before = status_bytes("RssAnon:");
        (0..2_000).for_each(|_| swap());
        let grown = status_bytes("RssAnon:").saturating_sub(before);
        println!("grown by {} KiB", grown / 1024);
        // Less than a block for each.
        assert!(grown < 2_000 * 24, "{grown} bytes");
    });
}
