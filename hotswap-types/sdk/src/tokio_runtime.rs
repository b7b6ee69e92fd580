//! The tokio runtime of a plugin: `#[plugin(runtime = "tokio")]`.
//!
//! Two kinds of threads: tokio's workers, which run the tasks, and one that gives the tasks to tokio. The host's
//! threads only send to that one. If they called tokio themselves, tokio would register a destructor on them, which
//! holds the plugin until the thread calls a plugin again or ends.

use std::{
    iter,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    task::Waker,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::runtime::{Builder, Runtime as Tokio};

use crate::interface::{Runtime, Task, TaskHandle};

/// The name of the thread that gives the tasks to tokio. Not that of the workers: a thread with the name of the thread
/// that has started it is taken for one without a name.
const DEALER: &str = "hotswap-runtime";

/// How long a runtime that ends waits for threads that are inside of a task or a blocking function.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// At most so many threads run blocking functions at once (`tokio::task::spawn_blocking`, files, names of hosts).
const BLOCKING_THREADS_MAX: usize = 64;

/// A tokio runtime, which is started at its first task.
#[derive(Debug)]
pub struct TokioRuntime {
    /// What its threads are called.
    name: &'static str,
    /// How many workers there are. With 0, the tasks run on one thread by tokio's current-thread scheduler.
    workers: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    New,
    Running(mpsc::Sender<Message>, JoinHandle<()>),
    Ended,
}

enum Message {
    Spawn(Task),
    Cancel(TaskHandle),
    Wake(Waker),
    End,
}

impl TokioRuntime {
    /// A runtime that is not started yet.
    pub const fn new(name: &'static str, workers: usize) -> Self {
        Self {
            name,
            workers,
            state: Mutex::new(State::New),
        }
    }

    /// Sends a message to the thread. A task that cannot be sent is dropped.
    fn send(&self, message: Message) {
        let sender = match &*lock(&self.state) {
            State::Running(sender, _) => sender.clone(),
            State::New | State::Ended => return,
        };
        // Without the lock: if the runtime could not be started, this fails and drops the message, with a plugin's
        // future.
        drop(sender.send(message));
    }
}

impl Runtime for TokioRuntime {
    fn start(&self) -> Result<(), String> {
        let (sender, messages) = mpsc::channel();
        let (name, workers) = (self.name, self.workers);
        let thread = thread::Builder::new().name(DEALER.to_owned());
        let thread = thread.spawn(move || run(name, workers, &messages));
        let thread = thread.map_err(|error| error.to_string())?;
        *lock(&self.state) = State::Running(sender, thread);
        Ok(())
    }

    fn spawn(&self, task: Task) {
        self.send(Message::Spawn(task));
    }

    fn cancel(&self, task: &TaskHandle) {
        self.send(Message::Cancel(Arc::clone(task)));
    }

    fn wake(&self, waker: Waker) {
        self.send(Message::Wake(waker));
    }

    fn end(&self) {
        let state = std::mem::replace(&mut *lock(&self.state), State::Ended);
        if let State::Running(sender, thread) = state {
            drop(sender.send(Message::End));
            // Its panic was printed.
            drop(thread.join());
        }
    }
}

/// Starts tokio at the first task, and gives it the tasks until the end.
fn run(name: &'static str, workers: usize, messages: &mpsc::Receiver<Message>) {
    let first = loop {
        match messages.recv() {
            Ok(Message::Spawn(task)) => break task,
            Ok(Message::Wake(waker)) => wake(waker),
            Ok(Message::Cancel(_)) => {}
            Ok(Message::End) | Err(_) => return,
        }
    };
    let mut builder = match workers {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let builder = builder
        .worker_threads(workers.max(1))
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name(name)
        .enable_all();
    // Without the runtime, the channel is closed and tasks are dropped, which their callers are told.
    let Ok(runtime) = builder.build() else { return };
    if workers > 0 {
        deal(&runtime, first, messages);
        runtime.shutdown_timeout(END_TIMEOUT);
    } else {
        run_on_one_thread(name, runtime, first, messages);
    }
}

/// Tokio's current-thread scheduler runs on the thread that waits for something.
fn run_on_one_thread(
    name: &'static str,
    runtime: Tokio,
    first: Task,
    messages: &mpsc::Receiver<Message>,
) {
    let runtime = Arc::new(runtime);
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let (has_left, left) = mpsc::channel::<()>();
    let scheduler = Arc::clone(&runtime);
    let thread = thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(move || {
        drop(scheduler.block_on(ended));
        drop(scheduler);
        drop(has_left);
    });
    if started.is_ok() {
        deal(&runtime, first, messages);
    }
    drop(end);
    // Ends when the thread drops its sender. A task that does not return keeps the thread, which then keeps the plugin.
    let _ = left.recv_timeout(END_TIMEOUT);
    if let Some(runtime) = Arc::into_inner(runtime) {
        runtime.shutdown_timeout(END_TIMEOUT);
    }
}

fn deal(runtime: &Tokio, first: Task, messages: &mpsc::Receiver<Message>) {
    for message in iter::once(Message::Spawn(first)).chain(messages) {
        match message {
            Message::Spawn(Task { future, handle }) => {
                let task = runtime.spawn(future).abort_handle();
                *lock(&handle) = Some(Box::new(move || task.abort()));
            }
            Message::Cancel(handle) => {
                let abort = lock(&handle).take();
                if let Some(abort) = abort {
                    abort();
                }
            }
            Message::Wake(waker) => wake(waker),
            Message::End => return,
        }
    }
}

/// A waker of the plugin's own may panic. The other tasks go on.
fn wake(waker: Waker) {
    // Unwind-safe: the waker is consumed.
    drop(panic::catch_unwind(AssertUnwindSafe(|| waker.wake())));
}

/// Nothing panics under the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
