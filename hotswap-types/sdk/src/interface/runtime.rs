//! A runtime of a plugin's own: threads that run the futures of its async methods.
//!
//! Without one, the host's threads poll these futures. With one, each future becomes a task of the runtime when it is
//! first polled, and the host awaits the [`Shared`] state of that task. So what a host's thread does here stores and
//! sends, and calls nothing of the runtime's: a thread-local that the runtime left on it would hold the plugin for as
//! long as that thread lives.

use std::{
    future::{Future, poll_fn},
    mem,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use super::{
    boxed::BoxFuture,
    call::raise,
    fault::{Fault, FaultKind},
    object::Keep,
};
use crate::{
    fault::{catch_unwind_noted, caught_message},
    logs,
};

/// What runs tasks. All functions but `start` may be called on any thread, and leave nothing on it.
pub trait Runtime: Sync {
    /// Starts the thread that the others talk to, on the thread that makes the plugin's value: starting a thread may
    /// leave something on the thread that does it.
    ///
    /// # Errors
    ///
    /// The system's, in words.
    fn start(&self) -> Result<(), String>;

    /// Runs a task. It is dropped if that is not possible.
    fn spawn(&self, task: Task);

    /// Drops a task on a thread of the runtime.
    fn cancel(&self, task: &TaskHandle);

    /// Wakes a waker on a thread of the runtime.
    fn wake(&self, waker: Waker);

    /// Drops all tasks, and ends the threads. Waits for those that are running, but not for ever.
    fn end(&self);
}

/// A future that runs on the runtime, and the handle by which it is cancelled.
pub struct Task {
    /// The future.
    pub future: BoxFuture<'static, ()>,
    /// Its handle.
    pub handle: TaskHandle,
}

/// Cancels a task. The runtime fills it in.
pub type TaskHandle = Arc<Mutex<Option<Box<dyn Fn() + Send>>>>;

/// That of this plugin.
static CURRENT: OnceLock<&'static dyn Runtime> = OnceLock::new();

/// How many tasks there are that may borrow the plugin's value.
static TASKS: AtomicUsize = AtomicUsize::new(0);

/// Makes this the runtime of the plugin, whose value was made just now.
pub(super) fn start(runtime: Option<&'static dyn Runtime>) -> Result<(), String> {
    if let Some(runtime) = runtime {
        let started = runtime.start();
        started.map_err(|error| format!("its runtime cannot be started: {error}"))?;
        // A plugin is made once.
        let _ = CURRENT.set(runtime);
    }
    Ok(())
}

/// Ends the runtime, if there is one. Returns whether no task is left.
pub(super) fn end() -> bool {
    if let Some(runtime) = CURRENT.get() {
        runtime.end();
    }
    // Acquire: pairs with the Release in `Borrowing::drop`, for what the tasks did with the value.
    TASKS.load(Ordering::Acquire) == 0
}

/// Wakes a waker of this side, for the other side.
pub(super) fn wake(waker: &Waker) {
    match CURRENT.get() {
        Some(runtime) => runtime.wake(waker.clone()),
        None => waker.wake_by_ref(),
    }
}

/// The future for the other side, of a future whose method may have to run on the runtime.
pub(super) fn sent<T: Send + 'static>(
    future: BoxFuture<'static, T>,
    keep: impl FnOnce() -> Keep,
) -> BoxFuture<'static, T> {
    match CURRENT.get() {
        None => future,
        Some(runtime) => Box::pin(Spawned {
            runtime: *runtime,
            state: SpawnState::New(future, keep()),
        }),
    }
}

/// A future of the host's that awaits a task, which it spawns when it is first polled.
struct Spawned<T> {
    runtime: &'static dyn Runtime,
    state: SpawnState<T>,
}

enum SpawnState<T> {
    New(BoxFuture<'static, T>, Keep),
    Running(Arc<Shared<T>>, TaskHandle),
    Ended,
}

/// What a task and whoever awaits it share.
struct Shared<T>(Mutex<Progress<T>>);

enum Progress<T> {
    Pending(Option<Waker>),
    Ready(Result<T, Fault>),
    Taken,
}

/// Belongs to a task. Dropped with it, it tells that there is no result, if there is none.
struct Completion<T>(Arc<Shared<T>>);

/// Counts a task, which may borrow the plugin's value or an object, until its future is dropped.
struct Borrowing(Keep);

impl<T: Send + 'static> Future for Spawned<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if let SpawnState::New(..) = self.state {
            let SpawnState::New(future, keep) = mem::replace(&mut self.state, SpawnState::Ended)
            else {
                unreachable!("it was looked at just now")
            };
            let shared = Arc::new(Shared(Mutex::new(Progress::Pending(None))));
            let handle = TaskHandle::default();
            self.state = SpawnState::Running(Arc::clone(&shared), Arc::clone(&handle));
            let task = run(future, Borrowing::new(keep), Completion(shared));
            let future = Box::pin(logs::in_current_span(task));
            self.runtime.spawn(Task { future, handle });
        }
        let SpawnState::Running(shared, _) = &self.state else {
            panic!("it has ended");
        };
        let result = match &mut *shared.lock() {
            Progress::Pending(waker) => {
                let mine = context.waker();
                if waker.as_ref().is_none_or(|it| !it.will_wake(mine)) {
                    *waker = Some(mine.clone());
                }
                return Poll::Pending;
            }
            progress => mem::replace(progress, Progress::Taken),
        };
        self.state = SpawnState::Ended;
        match result {
            Progress::Ready(Ok(value)) => Poll::Ready(value),
            Progress::Ready(Err(fault)) => raise(fault),
            Progress::Pending(_) | Progress::Taken => unreachable!("it is taken once"),
        }
    }
}

impl<T> Drop for Spawned<T> {
    fn drop(&mut self) {
        if let SpawnState::Running(_, handle) = &self.state {
            self.runtime.cancel(handle);
        }
    }
}

/// The body of a task.
async fn run<T>(future: BoxFuture<'static, T>, borrowing: Borrowing, completion: Completion<T>) {
    let mut future = future;
    let result = poll_fn(|context| {
        // Unwind-safe: the future is not polled again after a panic.
        match catch_unwind_noted(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(payload) => Poll::Ready(Err(match payload.downcast::<Fault>() {
                Ok(fault) => *fault,
                Err(payload) => FaultKind::Panicked(caught_message(payload)).into(),
            })),
        }
    })
    .await;
    // What it borrows is given back before whoever awaits it can go on.
    drop(future);
    drop(borrowing);
    completion.0.complete(result);
}

impl<T> Shared<T> {
    /// Stores the result, if there is none yet, and wakes whoever awaits it.
    fn complete(&self, result: Result<T, Fault>) {
        let mut progress = self.lock();
        if let Progress::Pending(waker) = &mut *progress {
            let waker = waker.take();
            *progress = Progress::Ready(result);
            drop(progress);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Nothing panics under the lock but the cloning of a waker.
    fn lock(&self) -> MutexGuard<'_, Progress<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        let text = "the plugin's runtime has dropped the call";
        let fault = FaultKind::Panicked(text.to_owned());
        self.0.complete(Err(fault.into()));
    }
}

impl Borrowing {
    fn new(keep: Keep) -> Self {
        // Relaxed: `end` is called when no call can spawn a task any more.
        TASKS.fetch_add(1, Ordering::Relaxed);
        Self(keep)
    }
}

impl Drop for Borrowing {
    fn drop(&mut self) {
        self.0 = None;
        // Release: pairs with the Acquire in `end`.
        TASKS.fetch_sub(1, Ordering::Release);
    }
}
