//! The thread that opens an image, and lives as long as the image.
//!
//! Each image has a thread of its own, for two reasons. Allocators (mimalloc) and C++ runtimes take the thread that
//! runs their initialisers for the main thread of the process: if it ends while the image is used, the host dies. And
//! an initialiser may register destructors with libc for the end of its thread, which keep the image mapped until
//! that thread has ended.
//!
//! The thread runs everything that is done with a candidate, is parked while the image is mapped, and has ended
//! before the image is closed. A thread on which the image has left nothing and whose [`ThreadState`] is as it was at
//! its start need not end: [`Spare`] keeps it for the next image.
#![expect(
    unsafe_code,
    reason = "lends a borrowing closure to a thread that outlives the borrow"
)]

use std::{
    collections::VecDeque,
    ffi::c_int,
    io, mem,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::account::leave_all;
use crate::{
    system::{self, thread::Ending, thread_state::ThreadState},
    threads,
};

type Job = Box<dyn FnOnce() + Send>;

/// A thread whose image has left nothing on it ends within some 50 µs. Waiting that long here spares its caller
/// another round of polling.
const END_TIMEOUT: Duration = Duration::from_millis(1);

/// A thread that has been idle for this long gives back the stack that it has used. Doing it at once would interrupt
/// the other processors, in vain where plugins are swapped all the time and the thread ends soon.
const STACK_KEPT: Duration = Duration::from_millis(500);

/// A handle of the thread. Dropping the last handle ends the thread and waits for its end.
#[derive(Clone)]
pub(crate) struct Opener(Arc<Handle>);

/// A thread whose image has left, kept for the next one: starting and ending a thread costs a swap some 150 µs of
/// processor time (2026-11). It keeps at most one, which ends when the last clone of this is dropped.
#[derive(Clone, Default)]
pub(crate) struct Spare(Arc<Mutex<Option<Opener>>>);

struct Handle {
    inbox: Arc<Inbox>,
    progress: Mutex<Progress>,
}

/// The thread's jobs. (A channel would spin for a while before it sleeps, and this thread mostly sleeps.)
#[derive(Default)]
struct Inbox {
    jobs: Mutex<Jobs>,
    changed: Condvar,
    /// 0 until the thread stores it, before its first job.
    tid: AtomicI32,
    /// The thread's state before its first job.
    at_start: OnceLock<ThreadState>,
    /// Whether the last job of [`Opener::run`] left the thread in that state.
    is_as_started: AtomicBool,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    is_closed: bool,
}

/// How far the thread has come.
enum Progress {
    /// It takes jobs.
    Open(thread::JoinHandle<()>),
    /// It was told to end at that time; it is joined once it has.
    Ending(Ending, Instant),
    Ended,
}

impl Spare {
    /// Takes the thread that is kept, if there is one.
    pub(crate) fn take(&self) -> Option<Opener> {
        let spare = self.place().take()?;
        // `add` would wake the thread; this first job can wait until the next one does.
        spare.0.inbox.jobs().waiting.push_back(Box::new(leave_all));
        Some(spare)
    }

    /// Keeps a thread on which no image has left anything, unless one is kept already or somebody else has a handle
    /// of it. A thread that is not kept ends with its last handle.
    pub(crate) fn keep(&self, opener: Opener) {
        let is_only_handle = Arc::strong_count(&opener.0) == 1;
        let mut place = self.place();
        if is_only_handle && place.is_none() {
            *place = Some(opener);
        } else {
            // Dropping the handle waits for the thread's end, so the lock is released first.
            drop(place);
            drop(opener);
        }
    }

    /// Nothing panics under the lock.
    fn place(&self) -> MutexGuard<'_, Option<Opener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opener {
    /// Starts the thread ([`threads::start`]) without waiting for it.
    pub(crate) fn start() -> io::Result<Self> {
        let inbox = Arc::new(Inbox::default());
        let thread = threads::start("hotswap-loader", {
            let inbox = Arc::clone(&inbox);
            move || inbox.work()
        })?;
        let progress = Mutex::new(Progress::Open(thread));
        Ok(Self(Arc::new(Handle { inbox, progress })))
    }

    /// Calls `work` on the thread and waits for its result. A panic of `work` continues in the caller.
    ///
    /// # Panics
    ///
    /// If the thread was told to end; nobody uses an image after that.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inbox = &self.0.inbox;
        let work = || {
            inbox.is_as_started.store(false, Ordering::Relaxed);
            let result = work();
            let is_as_started = inbox.at_start.get() == Some(&ThreadState::now());
            // Relaxed: `is_as_started`.
            inbox.is_as_started.store(is_as_started, Ordering::Relaxed);
            result
        };
        let answer = Arc::new(Answer::default());
        let done = Done(Arc::clone(&answer));
        let task = BorrowingJob { work, done };
        let job: Box<dyn FnOnce() + Send + '_> = Box::new(move || task.run());
        // SAFETY: this changes only the lifetime, so nobody may use what `work` borrows after this function returns.
        // Either the thread ran the task, which consumed `work` before it stored the result; or the task was dropped,
        // and `work` before `done` (the order of `BorrowingJob`'s fields). The answer becomes complete when `done` is
        // dropped, and `wait` below returns only then.
        let job = unsafe { mem::transmute::<Box<dyn FnOnce() + Send + '_>, Job>(job) };
        inbox.add(job);
        let result = answer.wait();
        let result = result.expect("the thread takes jobs as long as its image is used");
        result.unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// The system's number of the thread. Call it only after the thread has run a job.
    pub(super) fn tid(&self) -> c_int {
        // Relaxed: the thread stores it before its first job, and `run` has waited for a job since.
        self.0.inbox.tid.load(Ordering::Relaxed)
    }

    /// Whether the state of the thread is as it was at its start, as far as [`ThreadState`] knows it.
    pub(super) fn is_as_started(&self) -> bool {
        // Relaxed: the thread stores it before `run` returns, and whoever has an image has waited for `run`.
        self.0.inbox.is_as_started.load(Ordering::Relaxed)
    }

    /// Whether the thread was told to end.
    pub(super) fn is_ending(&self) -> bool {
        !matches!(*self.0.progress(), Progress::Open(_))
    }

    /// How long ago the thread was told to end; `None` if it was not, or has ended.
    pub(super) fn ending_for(&self) -> Option<Duration> {
        match *self.0.progress() {
            Progress::Ending(_, since) => Some(since.elapsed()),
            Progress::Open(_) | Progress::Ended => None,
        }
    }

    /// Tells the thread to run `last` and then end. Waits for nothing.
    pub(super) fn end(&self, last: impl FnOnce() + Send + 'static) {
        let mut progress = self.0.progress();
        *progress = match mem::replace(&mut *progress, Progress::Ended) {
            Progress::Open(thread) => {
                self.0.inbox.add(Box::new(last));
                self.0.inbox.close();
                Progress::Ending(Ending::new(thread), Instant::now())
            }
            other => other,
        };
    }

    /// Whether the thread has ended, including the last destructor of its thread-locals. Waits at most
    /// [`END_TIMEOUT`].
    pub(super) fn has_ended(&self) -> bool {
        let mut progress = self.0.progress();
        *progress = match mem::replace(&mut *progress, Progress::Ended) {
            Progress::Ending(thread, since) => match thread.join(END_TIMEOUT) {
                Ok(()) => Progress::Ended,
                Err(thread) => Progress::Ending(thread, since),
            },
            other => other,
        };
        matches!(*progress, Progress::Ended)
    }
}

impl Inbox {
    /// The thread's main function: runs jobs until the inbox is closed and empty.
    fn work(&self) {
        // Registers the thread, so that `ending` knows that it is not running key destructors.
        hotswap_cell::pass_quiescent_point();
        self.tid.store(system::thread::this(), Ordering::Relaxed);
        self.at_start.get_or_init(ThreadState::now);
        while let Some(job) = self.next() {
            job();
        }
    }

    fn next(&self) -> Option<Job> {
        let is_idle = |jobs: &mut Jobs| jobs.waiting.is_empty() && !jobs.is_closed;
        let (mut jobs, waited) = self
            .changed
            .wait_timeout_while(self.jobs(), STACK_KEPT, is_idle)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            // Loading a plugin takes some 50 KiB of stack.
            system::thread::give_back_stack();
            let all = self.changed.wait_while(jobs, is_idle);
            jobs = all.unwrap_or_else(PoisonError::into_inner);
        }
        jobs.waiting.pop_front()
    }

    /// Adds a job, or drops it if the inbox is closed.
    fn add(&self, job: Job) {
        let mut jobs = self.jobs();
        if !jobs.is_closed {
            jobs.waiting.push_back(job);
            drop(jobs);
            self.changed.notify_one();
        }
    }

    fn close(&self) {
        self.jobs().is_closed = true;
        self.changed.notify_one();
    }

    /// Nothing panics under the lock.
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A closure and the place of its result. The fields are dropped in this order.
struct BorrowingJob<F, T> {
    work: F,
    done: Done<T>,
}

impl<T, F: FnOnce() -> T> BorrowingJob<F, T> {
    fn run(self) {
        // Unwind-safe: the panic continues in the caller, who owns whatever the closure left broken.
        let result = panic::catch_unwind(AssertUnwindSafe(self.work));
        self.done.0.state().0 = Some(result);
    }
}

/// The result of a task, and whether the task has been dropped.
struct Answer<T> {
    state: Mutex<(Option<thread::Result<T>>, bool)>,
    complete: Condvar,
}

/// Completes the answer when it is dropped.
struct Done<T>(Arc<Answer<T>>);

impl<T> Answer<T> {
    /// Waits until the task has been dropped. `None`: it was never run.
    fn wait(&self) -> Option<thread::Result<T>> {
        let mut state = self
            .complete
            .wait_while(self.state(), |(_, is_complete)| !*is_complete)
            .unwrap_or_else(PoisonError::into_inner);
        state.0.take()
    }

    /// Nothing panics under the lock.
    fn state(&self) -> MutexGuard<'_, (Option<thread::Result<T>>, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Answer<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new((None, false)),
            complete: Condvar::new(),
        }
    }
}

impl<T> Drop for Done<T> {
    fn drop(&mut self) {
        self.0.state().1 = true;
        self.0.complete.notify_one();
    }
}

impl Handle {
    /// Nothing panics under the lock.
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Progress::Open(thread) = mem::replace(&mut *self.progress(), Progress::Ended) {
            self.inbox.close();
            // The panic of a job went to its caller.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use crossbeam_channel::{Receiver, Sender};

    use super::*;

    #[test]
    fn work_may_borrow_and_its_panic_continues_in_the_caller() {
        let opener = Opener::start().unwrap();
        let text = String::from("borrowed");
        let on = opener.run(|| (text.len(), thread::current().name().map(str::to_owned)));
        assert_eq!(on, (8, Some("hotswap-loader".to_owned())));
        let panicked = panic::catch_unwind(AssertUnwindSafe(|| opener.run(|| panic!("{text}"))));
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&text));
        assert_eq!(opener.run(|| 7), 7, "it goes on");
    }

    /// Uses `bytes` of stack, and stores in `deepest` an address in the lowest page that it wrote.
    fn go_down(bytes: usize, deepest: &mut usize) {
        let frame = std::hint::black_box([1_u8; 1024]);
        *deepest = frame.as_ptr().addr();
        if let Some(bytes) = bytes.checked_sub(frame.len()) {
            go_down(bytes, deepest);
        }
        std::hint::black_box(&frame);
    }

    fn is_resident(address: usize) -> bool {
        let page = rustix::param::page_size();
        let start = ptr::with_exposed_provenance_mut(address & !(page - 1));
        let mut state = 0;
        // SAFETY: `mincore` only asks about one page, and writes one byte.
        let result = unsafe { libc::mincore(start, page, &raw mut state) };
        assert_eq!(result, 0, "it is mapped");
        state & 1 != 0
    }

    #[test]
    fn the_stack_that_a_job_has_used_is_given_back() {
        let opener = Opener::start().unwrap();
        let mut deepest = 0;
        let during = opener.run(|| {
            go_down(200 << 10, &mut deepest);
            is_resident(deepest)
        });
        assert!(during);
        while is_resident(deepest) {
            thread::yield_now();
        }
    }

    #[test]
    fn a_thread_knows_whether_a_job_changed_its_state() {
        let opener = Opener::start().unwrap();
        opener.run(|| ());
        assert!(opener.is_as_started());
        opener.run(|| rustix::thread::set_name(c"other").unwrap());
        assert!(!opener.is_as_started());
    }

    #[test]
    fn it_has_ended_when_its_last_destructor_has_run() {
        struct Slow(Sender<()>, Receiver<()>);
        impl Drop for Slow {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
                self.1.recv().unwrap();
            }
        }
        thread_local! { static SLOW: std::cell::Cell<Option<Slow>> = const { std::cell::Cell::new(None) } }
        let (begun, wait_begun) = crossbeam_channel::bounded(1);
        let (go_on, wait_go_on) = crossbeam_channel::bounded(1);
        let opener = Opener::start().unwrap();
        opener.run(|| SLOW.set(Some(Slow(begun, wait_go_on))));
        assert!(!opener.is_ending());
        opener.end(|| {});
        wait_begun.recv().unwrap();
        assert!(
            opener.is_ending() && !opener.has_ended(),
            "its destructor runs"
        );
        go_on.send(()).unwrap();
        while !opener.has_ended() {
            thread::yield_now();
        }
    }
}
