//! Calls that do not return are reported, each once.

use std::{
    fs,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use futures_executor::block_on;
use hotswap_core::{Event, EventKind, Hotswap, Settings};
use hotswap_fixtures::{
    desk::{Desk, Listener, Session},
    tasks::Tasks,
};
use hotswap_sdk::host::Interface;

use crate::{
    alone::alone,
    fixtures::{SOON, plugin, trust, until},
};

/// For calls that do not return at all. Others may be reported with it, too: on a busy machine, a thread may stand
/// still for so long.
const AT_ONCE: Duration = Duration::from_millis(1);

fn load<I: Interface + ?Sized>(
    name: &str,
    timeout: Duration,
    change: impl FnOnce(&mut Settings<I>),
) -> Arc<Hotswap<I>> {
    let mut settings = Settings {
        hung_call_timeout: Some(timeout),
        ..Settings::default()
    };
    change(&mut settings);
    Arc::new(Hotswap::load_with(plugin(name), &trust(), settings).expect("a good plugin"))
}

/// Lets a thread of the host go on that waits for it inside of a plugin.
#[derive(Clone)]
struct Gate {
    begun: (Sender<u32>, Receiver<u32>),
    go_on: (Sender<()>, Receiver<()>),
}

impl Gate {
    fn new() -> Self {
        Self {
            begun: unbounded(),
            go_on: unbounded(),
        }
    }

    /// Waits until somebody opens it.
    fn pass(&self) {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        self.begun.0.send(thread.cast_unsigned()).unwrap();
        self.go_on.1.recv_timeout(SOON).unwrap();
    }

    /// The number of the next thread that waits.
    fn waiting(&self) -> u32 {
        self.begun.1.recv_timeout(SOON).unwrap()
    }

    fn open(&self) {
        self.go_on.0.send(()).unwrap();
    }
}

impl Listener for Gate {
    fn hear(&self, _: &str) -> u64 {
        self.pass();
        0
    }

    fn take(&self, _: Box<dyn Session>) {}

    fn give(&self) -> Option<Box<dyn Session>> {
        None
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .unwrap()
}

/// A thread in a call of the live generation, which waits at the gate.
fn call(desk: &Arc<Hotswap<dyn Desk>>, gate: &Gate, name: &str) -> (JoinHandle<u64>, u32) {
    let thread = spawn(name, {
        let (desk, gate) = (Arc::clone(desk), gate.clone());
        move || {
            desk.with(|it| {
                gate.pass();
                it.build()
            })
        }
    });
    (thread, gate.waiting())
}

/// The next report of a thread; others before it are kept in `others`.
fn report(events: &Receiver<Event>, thread_of_call: u32, others: &mut Vec<u32>) -> Event {
    loop {
        let event = events.recv_timeout(SOON).expect("a report");
        match event.kind {
            EventKind::HungCall { thread, .. } if thread == thread_of_call => return event,
            EventKind::HungCall { thread, .. } => others.push(thread),
            _ => {}
        }
    }
}

#[test]
fn a_call_that_does_not_return_is_reported_once() {
    let desk = load::<dyn Desk>("desk_1", AT_ONCE, |_| {});
    let events = desk.events();
    let gate = Gate::new();
    let mut others = Vec::new();
    desk.with(|it| it.listen(Box::new(gate.clone())));
    // The plugin waits, twice.
    let first = spawn("first", {
        let desk = Arc::clone(&desk);
        move || {
            for _ in 0..2 {
                desk.with(|it| it.tell("something"));
            }
        }
    });
    let first_thread = gate.waiting();
    let event = report(&events, first_thread, &mut others);
    let EventKind::HungCall {
        name, is_poll, age, ..
    } = &event.kind
    else {
        unreachable!("a report")
    };
    assert_eq!(
        (event.generation, &**name, *is_poll),
        (Some(1), "first", false)
    );
    assert!(*age >= AT_ONCE);
    assert_eq!(
        event.to_string(),
        format!("hung-call generation 1: a call on thread {first_thread} (first), for {age:.1?}")
    );

    // Looks that find another find the first again, and say nothing of it.
    let other_gate = Gate::new();
    let (second, second_thread) = call(&desk, &other_gate, "second");
    report(&events, second_thread, &mut others);
    assert!(!others.contains(&first_thread), "{others:?}");

    // The next call is another one, although nothing else has changed.
    gate.open();
    assert_eq!(gate.waiting(), first_thread);
    report(&events, first_thread, &mut others);
    gate.open();
    first.join().unwrap();
    let (third, third_thread) = call(&desk, &gate, "third");
    report(&events, third_thread, &mut others);
    assert!(!others.contains(&first_thread), "{others:?}");
    assert!(!others.contains(&second_thread), "{others:?}");
    gate.open();
    other_gate.open();
    assert_eq!([second, third].map(|it| it.join().unwrap()), [1, 1]);
}

#[test]
fn the_live_generation_is_watched_whichever_it_is() {
    let desk = load::<dyn Desk>("desk_1", AT_ONCE, |settings| {
        settings.probation = Some(SOON);
        settings.probation_faults_max = 0;
    });
    let events = desk.events();
    let gate = Gate::new();
    let mut others = Vec::new();
    let mut next = |generation, name| {
        let (thread, number) = call(&desk, &gate, name);
        let event = report(&events, number, &mut others);
        assert_eq!(event.generation, Some(generation), "{event}");
        gate.open();
        thread.join().unwrap();
    };
    next(1, "first");
    desk.swap(plugin("desk_2")).unwrap();
    next(2, "second");
    desk.report_fault(2, "no answer").expect("rolled back");
    next(1, "back");
    desk.swap(plugin("desk_2")).unwrap();
    next(3, "third");
    assert_eq!(desk.rollback().unwrap().generation, 1);
    next(1, "back again");
    desk.prepare(plugin("desk_1")).unwrap().publish();
    next(4, "fourth");
}

#[test]
fn a_call_is_reported_once_although_its_generation_comes_back() {
    let desk = load::<dyn Desk>("desk_1", AT_ONCE, |settings| {
        settings.probation = Some(SOON);
        settings.probation_faults_max = 0;
    });
    let events = desk.events();
    let gates = [(); 4].map(|()| Gate::new());
    let mut others = Vec::new();
    let mut hang = |gate, name| {
        let (thread, number) = call(&desk, gate, name);
        report(&events, number, &mut others);
        (thread, number)
    };
    let [of_first, of_second, of_third, of_fourth] = &gates;
    let (first, first_thread) = hang(of_first, "first");
    desk.swap(plugin("desk_2")).unwrap();
    let (second, second_thread) = hang(of_second, "second");
    desk.report_fault(2, "no answer").expect("rolled back");
    // The look that reports the fourth comes after one that has found the first again.
    let (third, _) = hang(of_third, "third");
    let (fourth, _) = hang(of_fourth, "fourth");
    assert!(!others.contains(&first_thread), "{others:?}");
    assert!(!others.contains(&second_thread), "{others:?}");
    gates.iter().for_each(Gate::open);
    let builds = [first, second, third, fourth].map(|it| it.join().unwrap());
    assert_eq!(builds, [1, 2, 1, 1]);
}

/// Long enough for a poll that returns, on a busy machine.
const LATER: Duration = Duration::from_millis(500);

#[test]
fn a_poll_that_does_not_return_is_reported_and_a_future_that_waits_is_not() {
    let tasks: Arc<Hotswap<dyn Tasks>> = load("tasks_1", LATER, |_| {});
    let events = tasks.events();
    let lease = tasks.lease();
    // It is pending, from before the other is polled until after that is reported.
    let (say_thread, thread) = unbounded();
    let waiting = spawn("waiting", {
        let tasks = Arc::clone(&tasks);
        move || {
            let thread = rustix::thread::gettid().as_raw_nonzero().get();
            say_thread.send(thread.cast_unsigned()).unwrap();
            block_on(tasks.call_async(|it| it.pass(7)))
        }
    });
    let waiting_thread = thread.recv().unwrap();
    until(|| lease.with(|it| it.waiting(7)) == 1);

    let gate = Gate::new();
    for on_lease in [false, true] {
        let polling = spawn("polling", {
            let (tasks, lease, gate) = (Arc::clone(&tasks), lease.clone(), gate.clone());
            move || match on_lease {
                false => block_on(tasks.call_async(|it| {
                    Box::pin(async move {
                        gate.pass();
                        it.add(1, 1).await
                    })
                })),
                true => block_on(lease.call_async(|it| {
                    Box::pin(async move {
                        gate.pass();
                        it.add(1, 1).await
                    })
                })),
            }
        });
        let polling_thread = gate.waiting();
        let mut others = Vec::new();
        let event = report(&events, polling_thread, &mut others);
        assert!(!others.contains(&waiting_thread), "{others:?}");
        let text = event.to_string();
        let beginning =
            format!("hung-call generation 1: a poll on thread {polling_thread} (polling), for ");
        assert!(text.starts_with(&beginning), "{text}");
        gate.open();
        assert_eq!(polling.join().unwrap(), Ok(3));
    }
    lease.with(|it| it.open(7));
    assert_eq!(waiting.join().unwrap(), Ok(1));
}

#[test]
fn the_thread_that_looks_ends_with_its_swap_point() {
    alone(
        "hung_calls::the_thread_that_looks_ends_with_its_swap_point",
        || {
            let looking = || {
                let tasks = fs::read_dir("/proc/self/task").unwrap();
                let names = tasks.map(|it| fs::read_to_string(it.unwrap().path().join("comm")));
                let is_looking = |name: &String| name.trim_end() == "hotswap-calls";
                names.flatten().filter(is_looking).count()
            };
            let plain = Hotswap::<dyn Desk>::load(plugin("desk_1"), &trust()).unwrap();
            assert_eq!(looking(), 0);
            let desk = load::<dyn Desk>("desk_1", Duration::MAX, |_| {});
            let other = load::<dyn Desk>("desk_1", Duration::ZERO, |_| {});
            until(|| looking() == 2);
            drop(desk);
            until(|| looking() == 1);
            assert!(Arc::into_inner(other).unwrap().shutdown(SOON).is_empty());
            until(|| looking() == 0);
            drop(plain);
        },
    );
}
