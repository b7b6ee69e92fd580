//! Async methods: futures of a plugin that the host awaits, and futures of the host that a plugin awaits.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use futures_executor::block_on;
use hotswap_core::{
    EventKind, Hotswap, Settings, State,
    event::Holder,
    future::CallFuture,
    reasons::{Fault, FaultKind},
};
use hotswap_fixtures::tasks::{Oracle, Order, Tasks, Work};
use tokio::{runtime::Runtime, time::timeout};

use self::parameters::{Local, Parameters};
use crate::fixtures::{SOON, generation_of, plugin, trust, until};

fn load(name: &str) -> Arc<Hotswap<dyn Tasks>> {
    let mut settings = Settings::default();
    settings.limits.drain_deadline = Duration::ZERO;
    let tasks = Hotswap::load_with(plugin(name), &trust(), settings);
    Arc::new(tasks.expect("a good plugin"))
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_time().build().unwrap()
}

#[track_caller]
fn unloaded(tasks: &Hotswap<dyn Tasks>, generation: u64) {
    assert_eq!(tasks.wait(generation, SOON), Some(State::Unloaded));
}

/// Counts how often it is woken.
#[derive(Default)]
struct Counting(AtomicU64);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn async_methods_are_awaited() {
    let tasks = load("tasks_1");
    runtime().block_on(async {
        assert_eq!(tasks.call_async(|it| it.add(2, 3)).await, Ok(6));
        let checked = |lines: &[&str]| {
            let lines = lines.iter().map(|it| (*it).to_owned()).collect();
            tasks.call_async(|it| it.check(Order { lines }))
        };
        assert_eq!(checked(&["a", "b"]).await, Ok(Ok(2)));
        assert_eq!(checked(&[]).await, Ok(Err("no lines".to_owned())));
        assert_eq!(checked(&[""]).await, Ok(Err("an empty line".to_owned())));
        let several = tasks
            .call_async(|it| Box::pin(async move { it.add(it.add(1, 1).await, it.build()).await }));
        assert_eq!(several.await, Ok(5));
    });
    tasks.swap(plugin("tasks_2")).unwrap();
    unloaded(&tasks, 1);
}

/// A call in a spawned task. There the compiler demands `Interface` of `dyn Tasks + 'a` for every lifetime.
#[test]
fn a_call_may_be_spawned() {
    let tasks = load("tasks_1");
    let shared = Arc::clone(&tasks);
    let sum = runtime().block_on(async {
        let spawned = tokio::spawn(async move {
            let first = shared.call_async(|it| it.add(1, 1)).await?;
            shared.call_async(|it| it.add(first, 1)).await
        });
        let future = tasks.call_async(|it| it.add(1, 2));
        drop(tasks);
        (spawned.await.unwrap(), tokio::spawn(future).await.unwrap())
    });
    assert_eq!(sum, (Ok(5), Ok(4)));
}

#[test]
fn a_swap_does_not_disturb_a_call_under_way() {
    let tasks = load("tasks_1");
    let events = tasks.events();
    let runtime = runtime();
    let lease = tasks.lease();
    let calls = [(); 3].map(|()| {
        let mut call = tasks.call_async(|it| it.pass(7));
        assert!(poll_once(&mut call).is_pending());
        runtime.spawn(call)
    });
    tasks.swap(plugin("tasks_2")).unwrap();
    assert_eq!(runtime.block_on(tasks.call_async(|it| it.add(0, 0))), Ok(2));

    let held = events.iter().find_map(|event| match event.kind {
        EventKind::Held { by, .. } => Some(by),
        _ => None,
    });
    let held = held.expect("told");
    let texts: Vec<_> = held.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["3 futures", "1 lease"]);
    assert!(matches!(held[0], Holder::Futures { count: 3, .. }));

    // On another thread than those that wait.
    thread::spawn(move || lease.with(|it| it.open(7)))
        .join()
        .unwrap();
    for call in calls {
        let answer = runtime.block_on(async { timeout(SOON, call).await });
        assert_eq!(answer.unwrap().unwrap(), Ok(1));
    }
    unloaded(&tasks, 1);
}

#[test]
fn dropping_a_call_cancels_it() {
    let tasks = load("tasks_1");
    let lease = tasks.lease();
    let mut call = tasks.call_async(|it| it.pass(7));
    assert!(poll_once(&mut call).is_pending());
    tasks.swap(plugin("tasks_2")).unwrap();
    assert_eq!(lease.with(|it| it.cancelled()), 0);
    drop(call);
    assert_eq!(lease.with(|it| it.cancelled()), 1);
    // One that was never polled, and one that is dropped on another thread.
    drop(lease.call_async(|it| it.pass(7)));
    assert_eq!(lease.with(|it| it.cancelled()), 1);
    let mut call = lease.call_async(|it| it.pass(7));
    assert!(poll_once(&mut call).is_pending());
    thread::spawn(move || drop(call)).join().unwrap();
    assert_eq!(lease.with(|it| it.cancelled()), 2);
    // The wakers that it has kept wake nobody.
    lease.with(|it| it.open(7));
    drop(lease);
    unloaded(&tasks, 1);
}

/// A task that is polled again has the same waker as before, and another task has another.
#[test]
fn a_waker_of_the_host_is_recognised() {
    let tasks = load("tasks_1");
    let counting = [(); 2].map(|()| Arc::<Counting>::default());
    let wakers = counting.clone().map(Waker::from);
    let mut call = tasks.call_async(|it| it.pass(7));
    for (waker, waiting) in [(0, 1), (0, 1), (0, 1), (1, 2), (1, 2), (0, 3), (0, 3)] {
        let mut context = Context::from_waker(&wakers[waker]);
        assert!(Pin::new(&mut call).poll(&mut context).is_pending());
        assert_eq!(tasks.with(|it| it.waiting(7)), waiting);
    }
    tasks.with(|it| it.open(7));
    assert_eq!(poll_once(&mut call), Poll::Ready(Ok(1)));
    // Each was woken, and no waker is kept.
    drop((call, wakers));
    for counting in counting {
        assert!(counting.0.load(Relaxed) > 0);
        assert_eq!(Arc::strong_count(&counting), 1);
    }
}

/// It ends with its answer, and not when its owner drops what is left of it.
#[test]
fn a_call_that_is_ready_holds_nothing() {
    let tasks = load("tasks_1");
    let mut call = tasks.call_async(|it| it.add(0, 0));
    assert_eq!(poll_once(&mut call), Poll::Ready(Ok(1)));
    tasks.swap(plugin("tasks_2")).unwrap();
    unloaded(&tasks, 1);
    drop(call);
}

#[test]
fn a_panic_is_an_error_of_that_call() {
    let tasks = load("tasks_1");
    let runtime = runtime();
    for polls in [1, 2, 5] {
        let other = runtime.spawn(tasks.call_async(|it| it.pass(7)));
        let error = runtime.block_on(tasks.call_async(|it| it.fail(polls)));
        let Err(Fault {
            kind: FaultKind::Panicked(text),
            generation: Some(1),
            ..
        }) = error
        else {
            panic!("{error:?}");
        };
        assert!(text.contains("as asked for"), "{text}");
        assert!(text.contains("tasks_1.rs"), "{text}");
        tasks.with(|it| it.open(7));
        assert_eq!(runtime.block_on(other).unwrap(), Ok(1));
    }
    tasks.swap(plugin("tasks_2")).unwrap();
    unloaded(&tasks, 1);
}

/// The method is called when the future is made, so this panics in there.
#[test]
fn a_panic_of_the_closure_is_the_callers() {
    let tasks = load("tasks_1");
    let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        tasks.call_async(|it| {
            assert_eq!(it.build(), 0);
            it.add(0, 0)
        })
    }));
    drop(called.expect_err("a panic"));
    let mut call = tasks.call_async(|_| Box::pin(async { panic!("mine") }));
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        poll_once::<CallFuture<_, ()>>(&mut call)
    }));
    drop(polled.expect_err("a panic"));
}

#[test]
fn a_call_inside_a_call_uses_its_generation() {
    let tasks = load("tasks_1");
    let inner = tasks.with(|_| {
        tasks.swap(plugin("tasks_2")).unwrap();
        tasks.call_async(|it| it.add(0, 0))
    });
    let runtime = runtime();
    assert_eq!(runtime.block_on(inner), Ok(1));
    assert_eq!(runtime.block_on(tasks.call_async(|it| it.add(0, 0))), Ok(2));
    unloaded(&tasks, 1);
}

#[test]
fn an_object_has_async_methods() {
    let tasks = load("tasks_1");
    let runtime = runtime();
    let lines = runtime
        .block_on(tasks.call_async(|it| it.lines(2)))
        .unwrap();
    tasks.swap(plugin("tasks_2")).unwrap();
    let all = runtime.spawn(async move {
        let mut all = Vec::new();
        while let Some(line) = lines.next().await {
            all.push(line);
        }
        all
    });
    let all = runtime.block_on(all).unwrap();
    assert_eq!(all, ["0 of 1", "1 of 1"]);
    unloaded(&tasks, 1);
}

/// An oracle of the host. It answers when it is told to, and keeps the wakers that it gets until then.
#[derive(Clone, Default)]
struct HostOracle(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    answer: Option<String>,
    wakers: Vec<Waker>,
    heard: Vec<String>,
}

impl HostOracle {
    fn tell(&self, answer: &str) {
        let mut told = self.0.lock().unwrap();
        told.answer = Some(answer.to_owned());
        told.wakers.drain(..).for_each(Waker::wake);
    }

    fn wakers(&self) -> Vec<Waker> {
        self.0.lock().unwrap().wakers.clone()
    }
}

#[hotswap_sdk::interface]
impl Oracle for HostOracle {
    async fn answer(&self, question: String) -> String {
        poll_fn(|context| {
            let mut told = self.0.lock().unwrap();
            match told.answer.take() {
                Some(answer) => Poll::Ready(format!("{question} {answer}")),
                None => {
                    told.wakers.push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn hear(&self, text: &str) {
        self.0.lock().unwrap().heard.push(text.to_owned());
    }
}

#[test]
fn a_plugin_awaits_an_object_of_the_host() {
    let tasks = load("tasks_1");
    let runtime = runtime();
    for own_waker in [false, true] {
        let oracle = HostOracle::default();
        let given = Box::new(oracle.clone());
        let question = "Why".to_owned();
        let call = tasks.call_async(|it| match own_waker {
            true => it.ask_with_own_waker(given, question),
            false => it.ask(given, question),
        });
        let call = runtime.spawn(call);
        until(|| !oracle.wakers().is_empty());
        oracle.tell("Because.");
        let mark = if own_waker { '!' } else { '?' };
        assert_eq!(
            runtime.block_on(call).unwrap(),
            Ok(format!("Why{mark} Because."))
        );
    }
    tasks.swap(plugin("tasks_2")).unwrap();
    unloaded(&tasks, 1);
}

/// A plugin that awaits the host's future with the waker that it was polled with passes that waker on as it is.
#[test]
fn a_waker_of_the_host_comes_back_as_it_was() {
    let tasks = load("tasks_1");
    let oracle = HostOracle::default();
    let given = Box::new(oracle.clone());
    let mut call = pin!(tasks.call_async(|it| it.ask(given, String::new())));
    let waker = Waker::from(Arc::new(Counting::default()));
    let polled = call.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    assert!(oracle.wakers()[0].will_wake(&waker));
}

/// A waker of the plugin's own, which the host keeps after the call was cancelled, holds the plugin.
#[test]
fn a_waker_that_the_host_keeps_holds_its_generation() {
    let tasks = load("tasks_1");
    let oracle = HostOracle::default();
    let given = Box::new(oracle.clone());
    let mut call = Box::pin(tasks.call_async(|it| it.ask_with_own_waker(given, String::new())));
    let counting = Arc::new(Counting::default());
    let waker = Waker::from(Arc::clone(&counting));
    let polled = call.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    let kept = oracle.wakers();
    oracle.0.lock().unwrap().wakers.clear();
    tasks.swap(plugin("tasks_2")).unwrap();
    drop(call);

    let held = loop {
        match generation_of(&tasks, 1).state {
            State::Draining { held_by, .. } if held_by.len() == 1 => break held_by,
            _ => thread::yield_now(),
        }
    };
    assert_eq!(held[0].to_string(), "1 waker");
    assert!(matches!(held[0], Holder::Wakers { count: 1, .. }));
    kept[0].wake_by_ref();
    assert_eq!(counting.0.load(Relaxed), 1);
    thread::spawn(move || kept.into_iter().for_each(Waker::wake))
        .join()
        .unwrap();
    assert_eq!(counting.0.load(Relaxed), 2);
    unloaded(&tasks, 1);
}

/// Parameters, of which the lints say no more than of those of an `async fn`.
#[deny(
    unused_variables,
    unfulfilled_lint_expectations,
    clippy::no_effect_underscore_binding,
    clippy::diverging_sub_expression,
    reason = "this is what the module tests"
)]
mod parameters {
    use super::Oracle;

    #[hotswap_sdk::interface]
    pub(super) trait Parameters {
        async fn left_out(&self, pair: (u64, Box<dyn Oracle>), _: Box<dyn Oracle>) -> u64;
        async fn unused(&self, _number: u64, text: u64) -> u64;
    }

    pub(super) struct Local;

    #[hotswap_sdk::interface]
    impl Parameters for Local {
        async fn left_out(&self, (number, _): (u64, Box<dyn Oracle>), _: Box<dyn Oracle>) -> u64 {
            number
        }

        async fn unused(
            &self,
            _number: u64,
            #[expect(unused_variables, reason = "the attribute of a parameter counts")] text: u64,
        ) -> u64 {
            panic!("nothing is returned")
        }
    }
}

/// As those of an `async fn`, also those that no pattern binds.
#[test]
fn parameters_live_as_long_as_the_future() {
    let oracle = HostOracle::default();
    let given = || Box::new(oracle.clone());
    let mut future = Local.left_out((7, given()), given());
    assert_eq!(Arc::strong_count(&oracle.0), 3);
    assert_eq!(poll_once(&mut future), Poll::Ready(7));
    assert_eq!(Arc::strong_count(&oracle.0), 1);
    let unused = std::panic::catch_unwind(|| poll_once(&mut Local.unused(1, 2)));
    drop(unused.expect_err("a panic"));
}

/// A panic when the host wakes it, or drops it, ends in the plugin.
#[test]
fn the_host_gets_no_panics_of_wakers() {
    let tasks = load("tasks_1");
    let oracle = HostOracle::default();
    let given = Box::new(oracle.clone());
    let mut call = tasks.call_async(|it| it.ask_with_bad_waker(given, String::new()));
    assert!(poll_once(&mut call).is_pending());
    oracle.wakers()[0].wake_by_ref();
    drop(call);
    oracle.tell("Because.");
    tasks.swap(plugin("tasks_2")).unwrap();
    unloaded(&tasks, 1);
}

/// When it polls, nothing holds the generation any more. The future of the host's is not disturbed: it gets a waker,
/// which wakes nobody.
#[test]
fn a_destructor_of_a_plugin_cannot_wait_for_the_host() {
    let tasks = load("tasks_1");
    let oracle = HostOracle::default();
    tasks.with(|it| it.ask_at_end(Box::new(oracle.clone())));
    tasks.swap(plugin("tasks_2")).unwrap();
    unloaded(&tasks, 1);
    assert_eq!(oracle.0.lock().unwrap().heard, ["refused"]);
    let wakers = oracle.wakers();
    assert_eq!(wakers.len(), 1);
    wakers.into_iter().for_each(Waker::wake);
}

/// A call that was never polled is not counted as a future. It is listed all the same.
#[test]
fn a_call_that_was_not_polled_is_listed() {
    for record_leases in [false, true] {
        let mut settings = Settings::default();
        settings.limits.drain_deadline = Duration::ZERO;
        settings.record_leases = record_leases;
        let tasks: Hotswap<dyn Tasks> =
            Hotswap::load_with(plugin("tasks_1"), &trust(), settings).unwrap();
        let events = tasks.events();
        let call = tasks.call_async(|it| it.add(1, 1));
        tasks.swap(plugin("tasks_2")).unwrap();
        let held = events.iter().find_map(|event| match event.kind {
            EventKind::Held { by, .. } => Some(by),
            _ => None,
        });
        let texts: Vec<_> = held.iter().flatten().map(ToString::to_string).collect();
        assert_eq!(texts, ["1 lease"], "{record_leases}");
        drop(call);
        unloaded(&tasks, 1);
    }
}

#[test]
fn a_default_body_may_be_async() {
    let runtime = runtime();
    let tasks = load("tasks_before");
    assert_eq!(
        runtime.block_on(tasks.call_async(|it| it.version(1, 2))),
        Ok(1001)
    );
    tasks.swap(plugin("tasks_1")).unwrap();
    assert_eq!(
        runtime.block_on(tasks.call_async(|it| it.version(1, 2))),
        Ok(3)
    );
    unloaded(&tasks, 1);
}

fn load_work(name: &str) -> Arc<Hotswap<dyn Work>> {
    Arc::new(Hotswap::load(plugin(name), &trust()).expect("a good plugin"))
}

const RUNTIMES: [&str; 2] = ["tasks_tokio", "tasks_tokio_current_thread"];

#[test]
fn async_methods_run_on_a_runtime_of_the_plugin() {
    for name in RUNTIMES {
        let work = load_work(name);
        let thread = block_on(work.call_async(|it| it.sleep(5)));
        assert_eq!(thread.as_deref(), Ok("hotswap-fixtures"));
        let echoed = block_on(work.call_async(|it| it.echo("to and fro".to_owned())));
        assert_eq!(echoed, Ok(Ok("to and fro".to_owned())));

        let error = block_on(work.call_async(|it| it.fail()));
        let Err(Fault {
            kind: FaultKind::Panicked(text),
            ..
        }) = error
        else {
            panic!("{error:?}");
        };
        assert!(
            text.starts_with("as asked for (") && text.contains(name),
            "{text}"
        );

        let oracle = HostOracle::default();
        let given = Box::new(oracle.clone());
        let mut asked = work.call_async(|it| it.ask(given, "Why?".to_owned()));
        assert!(poll_once(&mut asked).is_pending());
        until(|| !oracle.wakers().is_empty());
        oracle.tell("Because.");
        assert_eq!(block_on(asked), Ok("Why? Because.".to_owned()));

        let lines = block_on(work.call_async(|it| it.lines(2))).unwrap();
        let all = block_on(async {
            let mut all = Vec::new();
            while let Some(line) = lines.next().await {
                all.push(line);
            }
            all
        });
        assert_eq!(all, ["0", "1"]);

        work.swap(plugin(name)).unwrap();
        drop(lines);
        assert_eq!(work.wait(1, SOON), Some(State::Unloaded));
    }
}

/// A thread that has polled, woken and cancelled calls has nothing to run for the plugin: it lives on and does nothing,
/// and the plugin leaves.
#[test]
fn a_runtime_leaves_nothing_on_the_threads_of_the_host() {
    for name in RUNTIMES {
        let work = load_work(name);
        let (done, is_done) = bounded(0);
        let (end, ended) = bounded::<()>(0);
        let caller = thread::spawn({
            let work = Arc::clone(&work);
            move || {
                block_on(work.call_async(|it| it.sleep(1))).unwrap();
                block_on(work.call_async(|it| it.fail())).unwrap_err();
                let mut hung = work.call_async(|it| it.hang());
                assert!(poll_once(&mut hung).is_pending());
                until(|| work.with(|it| it.hung().0) > 0);
                drop(hung);
                let oracle = HostOracle::default();
                let given = Box::new(oracle.clone());
                let mut asked = work.call_async(|it| it.ask(given, "Why?".to_owned()));
                assert!(poll_once(&mut asked).is_pending());
                until(|| !oracle.wakers().is_empty());
                oracle.tell("Because.");
                block_on(asked).unwrap();
                let lines = block_on(work.call_async(|it| it.lines(1))).unwrap();
                block_on(lines.next());
                drop((lines, work));
                done.send(()).unwrap();
                let _ = ended.recv();
            }
        });
        is_done.recv_timeout(SOON).unwrap();
        work.swap(plugin(name)).unwrap();
        assert_eq!(
            work.wait(1, SOON),
            Some(State::Unloaded),
            "{:?}",
            work.generations()
        );
        drop(end);
        caller.join().unwrap();
    }
}

/// A waker of the plugin's own that panics does not end the runtime.
#[test]
fn a_runtime_survives_a_waker_that_panics() {
    for name in RUNTIMES {
        let work = load_work(name);
        let oracle = HostOracle::default();
        let given = Box::new(oracle.clone());
        let mut call = work.call_async(|it| it.ask_with_bad_waker(given, String::new()));
        assert!(poll_once(&mut call).is_pending());
        until(|| !oracle.wakers().is_empty());
        oracle.tell("Because.");
        assert_eq!(
            block_on(work.call_async(|it| it.sleep(1))).as_deref(),
            Ok("hotswap-fixtures")
        );
        drop(call);
        work.swap(plugin(name)).unwrap();
        assert_eq!(work.wait(1, SOON), Some(State::Unloaded));
    }
}

/// An oracle of the host that says what it hears, and does not return from "blocks" before `released` is closed.
struct Ear {
    heard: Sender<String>,
    released: Receiver<()>,
}

#[hotswap_sdk::interface]
impl Oracle for Ear {
    async fn answer(&self, question: String) -> String {
        question
    }

    fn hear(&self, text: &str) {
        self.heard.send(text.to_owned()).unwrap();
        if text == "blocks" {
            let _ = self.released.recv();
        }
    }
}

#[test]
fn a_runtime_has_as_many_threads_as_it_is_told() {
    let work = load_work("tasks_tokio");
    let (heard, hears) = unbounded();
    let (release, released) = bounded(0);
    let blocked = [(); 3].map(|()| {
        let ear = Box::new(Ear {
            heard: heard.clone(),
            released: released.clone(),
        });
        let mut call = work.call_async(|it| it.block(ear));
        assert!(poll_once(&mut call).is_pending());
        call
    });
    // All at once: none has returned.
    for _ in &blocked {
        assert_eq!(hears.recv_timeout(SOON).as_deref(), Ok("blocks"));
    }
    drop(release);
    for call in blocked {
        assert_eq!(block_on(call), Ok(()));
    }
}

/// The value is dropped once the runtime has ended. A task that does not end in time keeps the plugin mapped, and its
/// value is not dropped, because the task may be using it.
fn keeps_its_generation(runtime: &str) {
    let work = load_work(runtime);
    let (heard, hears) = unbounded();
    let (release, released) = bounded(0);
    let ear = || {
        Box::new(Ear {
            heard: heard.clone(),
            released: released.clone(),
        })
    };
    work.with(|it| it.keep(ear()));
    work.swap(plugin(runtime)).unwrap();
    assert_eq!(work.wait(1, SOON), Some(State::Unloaded));
    assert_eq!(hears.try_recv().as_deref(), Ok("dropped"));

    work.with(|it| it.keep(ear()));
    let mut call = work.call_async(|it| it.block(ear()));
    assert!(poll_once(&mut call).is_pending());
    assert_eq!(hears.recv_timeout(SOON).as_deref(), Ok("blocks"));
    drop(call);
    work.swap(plugin(runtime)).unwrap();
    until(|| {
        let State::Draining { held_by } = generation_of(&work, 2).state else {
            return false;
        };
        matches!(&held_by[..], [Holder::Thread { name, .. }] if name == "hotswap-fixture")
    });
    drop(release);
    assert_eq!(work.wait(2, SOON), Some(State::Unloaded));
    assert!(hears.is_empty(), "its value was dropped");
}

#[test]
fn a_task_that_does_not_end_keeps_its_generation() {
    keeps_its_generation("tasks_tokio");
}

#[test]
fn a_task_that_does_not_end_on_the_only_thread_keeps_its_generation() {
    keeps_its_generation("tasks_tokio_current_thread");
}

#[test]
fn a_cancelled_call_is_dropped_by_the_runtime() {
    for name in RUNTIMES {
        let work = load_work(name);
        let mut call = work.call_async(|it| it.hang());
        assert!(poll_once(&mut call).is_pending());
        until(|| work.with(|it| it.hung().0) > 0);
        drop(call);
        until(|| work.with(|it| it.hung().1) > 0);
        // One that was never polled was never begun.
        drop(work.call_async(|it| it.hang()));
        assert_eq!(work.with(|it| it.hung()), (1, 1));
        work.swap(plugin(name)).unwrap();
        assert_eq!(work.wait(1, SOON), Some(State::Unloaded));
    }
}

/// What it runs when it is retired is dropped before the plugin's value is.
#[test]
fn a_runtime_ends_with_its_generation() {
    for name in RUNTIMES {
        let work = load_work(name);
        for _ in 0..20 {
            let calls: Vec<_> = (0..8)
                .map(|_| work.call_async(|it| it.hang()))
                .map(|mut call| {
                    assert!(poll_once(&mut call).is_pending());
                    call
                })
                .collect();
            let lines = block_on(work.call_async(|it| it.lines(1))).unwrap();
            let mut next = lines.next();
            let _ = poll_once(&mut next);
            drop(next);
            // Its task may still be running. It takes a millisecond.
            drop(lines);
            let swapped = work.swap(plugin(name)).unwrap();
            drop(calls);
            assert_eq!(work.wait(swapped.retired, SOON), Some(State::Unloaded));
        }
    }
}
