//! Swaps, rollbacks, waits and events for hosts whose threads belong to an executor.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use crossbeam_channel::{Sender, unbounded};
use futures_executor::block_on;
use futures_util::{StreamExt, future::join};
use hotswap_core::{Event, EventKind, State, future::EventStream, loader::Loader};
use tokio::sync::mpsc;

use crate::{
    alone::alone,
    fixtures::{Plugin, SOON, build_of, load, load_with, plugin, trust, until},
    process::{images, threads},
};

/// Runs a test on an executor that has one thread and reacts to nothing but wakers, and on tokio's.
fn on_each_executor<F: Future<Output = ()>>(test: impl Fn() -> F) {
    block_on(test());
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.build().unwrap().block_on(test());
}

/// Lets candidates go on that wait in their probe.
struct Gate {
    begun: mpsc::UnboundedReceiver<()>,
    go_on: Sender<()>,
}

impl Gate {
    /// A swap point of build 1. Each later candidate says when it is there, and waits.
    fn load() -> (Arc<Plugin>, Self) {
        let (say_begun, begun) = mpsc::unbounded_channel();
        let (go_on, may_go_on) = unbounded();
        let it = load_with("build_1", |settings| {
            settings.probe = Some(Arc::new(move |_, live| {
                if live.is_some() {
                    say_begun.send(()).map_err(|error| error.to_string())?;
                    let waited = may_go_on.recv_timeout(SOON);
                    waited.map_err(|_| "the executor is blocked".to_owned())?;
                }
                Ok(())
            }));
        });
        (Arc::new(it), Self { begun, go_on })
    }

    /// Is ready when a candidate is there.
    async fn is_reached(&mut self) {
        self.begun.recv().await.unwrap();
    }

    /// What another task does while the candidate waits, which goes on afterwards.
    async fn meanwhile<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.is_reached().await;
        let done = work();
        self.open();
        done
    }

    fn open(&self) {
        self.go_on.send(()).unwrap();
    }
}

/// Whether it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// Polls a future that is not ready, and says when it is to be polled again.
#[track_caller]
fn begin<F: Future + Unpin>(future: &mut F) -> Arc<Flag> {
    let flag = Arc::<Flag>::default();
    let waker = Waker::from(Arc::clone(&flag));
    let polled = Pin::new(future).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    flag
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn get(&self) -> usize {
        self.0.load(SeqCst)
    }

    #[track_caller]
    fn poll<F: Future + Unpin>(self: &Arc<Self>, future: &mut F) {
        let waker = Waker::from(Arc::clone(self));
        let polled = Pin::new(future).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// All events that a reader gets, who reads until the end.
#[track_caller]
fn until_the_end(read: impl FnOnce() -> Vec<Event> + Send + 'static) -> Vec<Event> {
    let (send, events) = unbounded();
    thread::spawn(move || send.send(read()));
    events.recv_timeout(SOON).expect("the end")
}

async fn next(events: &mut EventStream) -> Event {
    events.next().await.expect("an event")
}

#[test]
fn other_tasks_go_on_while_one_waits() {
    on_each_executor(|| async {
        let (it, mut gate) = Gate::load();
        let swap = it.swap_async(plugin("build_2"));
        let (swapped, build) = join(swap, gate.meanwhile(|| build_of(&it))).await;
        let swapped = swapped.unwrap();
        assert_eq!((swapped.generation, swapped.retired, build), (2, 1, 1));
        assert_eq!(it.wait_async(1).await, Some(State::Unloaded));

        let prepare = it.prepare_async(plugin("suffix_field"));
        let (prepared, ()) = join(prepare, gate.meanwhile(|| ())).await;
        let prepared = prepared.unwrap();
        assert_eq!(build_of(&it), 2);
        assert_eq!(prepared.publish().generation, 3);
        assert_eq!(it.wait_async(2).await, Some(State::Unloaded));

        let roll_back = it.rollback_async();
        let (rolled_back, ()) = join(roll_back, gate.meanwhile(|| ())).await;
        let rolled_back = rolled_back.unwrap();
        assert_eq!(
            (rolled_back.generation, rolled_back.loaded_again),
            (4, Some(2))
        );

        let reconfigure = it.swap_config_async("limit = 3");
        let (swapped, build) = join(reconfigure, gate.meanwhile(|| build_of(&it))).await;
        assert_eq!((swapped.unwrap().generation, build), (5, 2));

        let lease = it.lease();
        // None of them shares it any more.
        let it = Arc::into_inner(it).unwrap();
        let (mapped, ()) = join(it.shutdown_async(SOON), async { drop(lease) }).await;
        assert!(mapped.is_empty(), "{mapped:?}");
    });
}

#[test]
fn a_refusal_is_the_same() {
    on_each_executor(|| async {
        let it = Arc::new(load("build_1"));
        let expected = "open: no such file";
        let swapped = it.swap_async("/none.so").await;
        assert_eq!(swapped.unwrap_err().reason(), expected);
        let prepared = it.prepare_async("/none.so").await;
        assert_eq!(prepared.unwrap_err().reason(), expected);
        let rolled_back = it.rollback_async().await;
        assert_eq!(
            rolled_back.unwrap_err().reason(),
            it.rollback().unwrap_err().reason()
        );
        assert_eq!((it.refused().len(), it.generations().len()), (2, 1));
        assert_eq!(it.wait_async(7).await, None);
    });
}

#[test]
fn a_swap_goes_on_without_its_future() {
    on_each_executor(|| async {
        let (it, mut gate) = Gate::load();
        let mut events = it.event_stream();
        assert_eq!(next(&mut events).await.generation, Some(1));
        let mut swap = it.swap_async(plugin("build_2"));
        gate.is_reached().await;
        begin(&mut swap);
        drop(swap);
        gate.open();
        let event = next(&mut events).await;
        assert!(matches!(event.kind, EventKind::Accepted { .. }), "{event}");
        assert_eq!(build_of(&it), 2);
        assert_eq!(it.wait_async(1).await, Some(State::Unloaded));

        // Nor does it need to be polled.
        drop(it.rollback_async());
        gate.meanwhile(|| ()).await;
        while !matches!(next(&mut events).await.kind, EventKind::RolledBack { .. }) {}
        assert_eq!(build_of(&it), 1);
    });
}

#[test]
fn a_candidate_leaves_without_its_future() {
    alone("executors::a_candidate_leaves_without_its_future", || {
        on_each_executor(|| async {
            let (it, mut gate) = Gate::load();
            let mut prepare = it.prepare_async(plugin("build_2"));
            gate.is_reached().await;
            begin(&mut prepare);
            assert_eq!(images().len(), 2);
            drop(prepare);
            gate.open();
            until(|| images().len() == 1);

            // When it is ready, and nobody has asked.
            let mut prepare = it.prepare_async(plugin("build_2"));
            let woken = begin(&mut prepare);
            gate.meanwhile(|| ()).await;
            until(|| woken.0.load(SeqCst));
            assert_eq!(images().len(), 2);
            drop(prepare);
            until(|| images().len() == 1);

            // And when it is there and not published.
            let prepare = it.prepare_async(plugin("build_2"));
            let (prepared, ()) = join(prepare, gate.meanwhile(|| ())).await;
            drop(prepared);
            until(|| images().len() == 1);
            assert_eq!((build_of(&it), it.generations().len()), (1, 1));
            assert!(it.refused().is_empty());
            let it = Arc::into_inner(it).unwrap();
            assert!(it.shutdown_async(SOON).await.is_empty());
        });
    });
}

#[test]
fn who_waits_costs_no_thread() {
    alone("executors::who_waits_costs_no_thread", || {
        const WAITERS: usize = 1000;
        let it = load("build_1");
        let lease = it.lease();
        it.swap(plugin("build_2")).unwrap();
        let before = threads();
        let mut waiters: Vec<_> = (0..WAITERS).map(|_| it.wait_async(1)).collect();
        let woken: Vec<_> = waiters.iter_mut().map(begin).collect();
        assert_eq!(threads(), before);
        // Some of them do not wait any more, one is polled again, and each other one is woken.
        waiters.truncate(WAITERS / 2);
        let again = begin(&mut waiters[0]);
        assert!(!woken.iter().any(|it| it.0.load(SeqCst)));
        drop(lease);
        until(|| again.0.load(SeqCst));
        until(|| woken[1..WAITERS / 2].iter().all(|it| it.0.load(SeqCst)));
        assert!(!woken[0].0.load(SeqCst));
        assert!(!woken[WAITERS / 2..].iter().any(|it| it.0.load(SeqCst)));
        for waiter in waiters {
            assert_eq!(block_on(waiter), Some(State::Unloaded));
        }
    });
}

/// `thread_local_drop` of the constructs.
const THREAD_LOCAL_DROP: u64 = 1;

/// The executor's thread has something to run before the plugin may leave, and nothing else to do.
#[test]
fn the_thread_that_waits_is_not_waited_for() {
    on_each_executor(|| async {
        let it = Arc::new(load("constructs_unloadable"));
        it.with(|it| it.text()(THREAD_LOCAL_DROP).map(drop).unwrap());
        it.swap_async(plugin("constructs_unloadable"))
            .await
            .unwrap();
        assert_eq!(it.wait_async(1).await, Some(State::Unloaded));
        it.with(|it| it.text()(THREAD_LOCAL_DROP).map(drop).unwrap());
        let it = Arc::into_inner(it).unwrap();
        assert!(it.shutdown_async(SOON).await.is_empty());
    });
}

/// A future is woken when what it waits for has ended, and once when threads may leave that. Each other generation
/// comes and goes without it.
#[test]
fn a_future_is_woken_for_its_own_generation() {
    let it = Arc::new(load("build_1"));
    let held = it.lease();
    it.swap(plugin("constructs_unloadable")).unwrap();
    let (say_called, called) = unbounded();
    let (go_on, may_go_on) = unbounded::<()>();
    let sleeping = thread::spawn({
        let it = Arc::clone(&it);
        move || {
            it.with(|it| it.text()(THREAD_LOCAL_DROP).map(drop).unwrap());
            say_called.send(()).unwrap();
            may_go_on.recv_timeout(SOON)
        }
    });
    called.recv_timeout(SOON).unwrap();
    let (mut of_1, mut of_2) = (it.wait_async(1), it.wait_async(2));
    let (woken_1, woken_2) = (Arc::<Count>::default(), Arc::<Count>::default());
    woken_1.poll(&mut of_1);
    woken_2.poll(&mut of_2);
    it.swap(plugin("build_1")).unwrap();
    // This thread has nothing to run for generation 2, but the sleeping one has.
    until(|| woken_2.get() == 1);
    woken_2.poll(&mut of_2);
    for _ in 0..5 {
        let retired = it.swap(plugin("build_2")).unwrap().retired;
        assert_eq!(it.wait(retired, SOON), Some(State::Unloaded));
    }
    assert_eq!((woken_1.get(), woken_2.get()), (0, 1));

    go_on.send(()).unwrap();
    sleeping.join().unwrap().unwrap();
    until(|| woken_2.get() == 2);
    assert_eq!(block_on(of_2), Some(State::Unloaded));
    assert_eq!(woken_1.get(), 0);
    drop(held);
    until(|| woken_1.get() == 1);
    assert_eq!(block_on(of_1), Some(State::Unloaded));
}

#[test]
fn a_wait_outlives_its_swap_point() {
    on_each_executor(|| async {
        let it = load("build_1");
        let lease = it.lease();
        let (wait, later) = (it.wait_async(1), it.wait_async(1));
        let (state, ()) = join(wait, async {
            drop(it);
            drop(lease);
        })
        .await;
        assert_eq!(state, Some(State::Unloaded));
        assert_eq!(later.await, Some(State::Unloaded));
    });
}

#[test]
fn a_stream_says_what_a_channel_says() {
    on_each_executor(|| async {
        let it = load_with("build_1", |settings| settings.limits.events_max = 2);
        let mut first = it.event_stream();
        let (channel, mut stream) = (it.events(), it.event_stream());
        for _ in 0..4 {
            it.swap("/none.so").unwrap_err();
        }
        let refused = "refused /none.so: open: no such file; generation 1 stays live";
        // The first one is told what was before it.
        let accepted = next(&mut first).await.to_string();
        assert!(accepted.starts_with("accepted generation 1"), "{accepted}");
        assert_eq!(next(&mut first).await.to_string(), refused);
        assert_eq!(channel.try_iter().count(), 2);
        for _ in 0..2 {
            assert_eq!(next(&mut stream).await.to_string(), refused);
        }

        // It is woken by the next event.
        let swap = || it.swap("/none.so").unwrap_err();
        let (event, _) = join(next(&mut stream), async { swap() }).await;
        assert_eq!(
            event.to_string(),
            "missed 2 events: they were not received in time"
        );
        assert_eq!(next(&mut stream).await.to_string(), refused);
        let of_channel: Vec<_> = channel.try_iter().map(|it| it.to_string()).collect();
        assert_eq!(of_channel, [event.to_string(), refused.to_owned()]);
    });
}

#[test]
fn a_stream_ends_with_its_swap_point() {
    on_each_executor(|| async {
        let it = load("build_1");
        let (mut stream, mut idle) = (it.event_stream(), it.event_stream());
        assert_eq!(next(&mut stream).await.generation, Some(1));
        let dropping = thread::spawn(move || drop(it));
        let last = next(&mut stream).await;
        assert!(matches!(last.kind, EventKind::Unloaded { .. }), "{last}");
        assert!(stream.next().await.is_none());
        dropping.join().unwrap();
        assert!(next(&mut idle).await.to_string().starts_with("unloaded"));
        assert!(idle.next().await.is_none());
    });
}

#[test]
fn a_future_that_is_kept_does_not_keep_the_events_from_ending() {
    for shut_down in [false, true] {
        let it = load("build_1");
        let (stream, channel) = (it.event_stream(), it.events());
        let mut waiting = it.wait_async(1);
        begin(&mut waiting);
        let idle = it.wait_async(1);
        let shutdown = if shut_down {
            Some(it.shutdown_async(SOON))
        } else {
            drop(it);
            None
        };
        let of_stream = until_the_end(move || block_on(stream.collect()));
        let of_channel = until_the_end(move || channel.iter().collect());
        for events in [of_stream, of_channel] {
            let last = events.last().expect("an event");
            assert!(matches!(last.kind, EventKind::Unloaded { .. }), "{last}");
        }
        for future in [waiting, idle] {
            assert_eq!(block_on(future), Some(State::Unloaded));
        }
        assert!(shutdown.is_none_or(|it| block_on(it).is_empty()));
    }
}

#[test]
fn the_events_go_on_until_the_last_generation_has_left() {
    let it = load("build_1");
    let (mut stream, lease) = (it.event_stream(), it.lease());
    let mut shutdown = it.shutdown_async(Duration::ZERO);
    assert_eq!(block_on(&mut shutdown).len(), 1);
    let accepted = block_on(next(&mut stream));
    assert!(
        matches!(accepted.kind, EventKind::Accepted { .. }),
        "{accepted}"
    );
    begin(&mut stream.next());
    drop(lease);
    let events = until_the_end(move || block_on(stream.collect()));
    let [unloaded] = &events[..] else {
        panic!("{events:?}")
    };
    assert!(
        matches!(unloaded.kind, EventKind::Unloaded { .. }),
        "{unloaded}"
    );
}

#[test]
fn a_loader_has_streams_and_waits_too() {
    on_each_executor(|| async {
        let loader = Loader::new(&trust()).unwrap();
        let mut events = loader.event_stream();
        let library = loader.open(plugin("functions_1")).unwrap();
        assert_eq!(next(&mut events).await.generation, Some(1));
        let (state, ()) = join(loader.wait_async(1), async { drop(library) }).await;
        assert_eq!(state, Some(State::Unloaded));
        let event = next(&mut events).await;
        assert!(matches!(event.kind, EventKind::Unloaded { .. }), "{event}");
    });
}
