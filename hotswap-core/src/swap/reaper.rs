//! The thread that unloads retired generations and refused candidates.
//!
//! Each swap point and each loader starts one. It is idle while nothing is retired. This file has the handle through
//! which it gets its work; [`worker`] has what it does.

mod records;

mod pinned;

mod unloading;

mod polling;

mod worker;

use std::{
    convert::Infallible,
    mem,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use self::{
    records::Records,
    unloading::{Phase, Unloading},
    worker::{WatchedProbation, Worker},
};
use super::{
    backlog::Backlog,
    draining::Draining,
    retained::{Bounds, Counted, Owner, Retained},
    settings::Limits,
    succession::Succession,
};
use crate::{
    error::{Error, ErrorKind, Result},
    history::{History, Recorded},
    image::{Image, Leaving, Opener, Spare, is_held_here, process_end},
    memory,
    stage::Kept,
    threads,
};

/// The handle of the thread, owned by the swap point or loader.
pub(crate) struct Reaper<M> {
    tasks: Sender<Task<M>>,
    thread: ReaperThread,
    records: Arc<Records>,
    retained: Owner,
}

/// The thread itself.
pub(super) struct ReaperThread {
    thread: JoinHandle<()>,
    /// Disconnected when the thread has done its work.
    running: Receiver<Infallible>,
}

/// A task for the thread.
enum Task<M> {
    Unload(Unloading<M>),
    /// Replaces the probation that it watched before.
    WatchProbation(WatchedProbation<M>),
    /// Delivers an event on this thread, because the sender holds a lock that a subscriber may take.
    Deliver(Recorded),
    /// Drops the copies on this thread, so that nobody waits until their memory is given back.
    DropCopies(Vec<Kept>),
}

impl<M: Send + Sync + 'static> Reaper<M> {
    /// Starts the thread. `path` is only for the error.
    pub(crate) fn start(path: &Path, history: Arc<History>, limits: &Limits) -> Result<Self> {
        // The queue is bounded all the same: by how many images may be retained, and every other task comes with an
        // image.
        let (tasks, inbox) = crossbeam_channel::unbounded();
        let (owner, retained) = Retained::new(limits.bounds());
        let records = Arc::new(Records {
            history,
            retained,
            backlog: Arc::new(Backlog::default()),
            spare: Spare::default(),
        });
        let worker = Worker::new(Arc::clone(&records), limits.drain_deadline);
        let (ended, running) = crossbeam_channel::bounded(0);
        let thread = threads::start("hotswap-reaper", move || {
            let _ended = ended;
            worker.run(&inbox);
        });
        let thread = thread.map_err(|error| Error::no_thread(path, error))?;
        Ok(Self {
            tasks,
            thread: ReaperThread { thread, running },
            records,
            retained: owner,
        })
    }

    /// Admits a candidate as soon as there is room for one more image. Refuses `path` at once while too much is
    /// retained and still mapped, and after waiting [`Bounds::unload_timeout`] for this thread to catch up.
    ///
    /// Refuses it at once, too, where it would wait for the calling thread ([`check_thread`]).
    ///
    /// `turn` takes the caller's turn, for which it may block; `admit` returns the result. Both bounds are checked
    /// while holding the turn, and again after each wait, since other candidates may go first. The turn is released
    /// while waiting for room, and only that wait counts towards the timeout.
    pub(crate) fn admit<T>(&self, path: &Path, turn: impl Fn() -> T) -> Result<T> {
        check_thread(path)?;
        let Bounds { unload_timeout, .. } = self.retained.retained().bounds();
        let mut left = unload_timeout;
        loop {
            let turn = turn();
            self.check_room(1, path)?;
            if self.has_room() {
                return Ok(turn);
            }
            drop(turn);
            let waited = self.records.backlog.wait(&mut left);
            waited.map_err(|timed_out| Error::new(path, timed_out.kind(unload_timeout)))?;
        }
    }

    /// Whether a candidate need not wait: the thread has little to do, or waiting here could last for ever. Inside a
    /// call, the caller may be what holds an image, or what has to run its destructors. On the reaper's own thread
    /// (in a finaliser, or a subscriber of `tracing`), nobody else would do the work.
    fn has_room(&self) -> bool {
        self.records.backlog.has_room()
            || hotswap_cell::is_inside_call()
            || thread::current().id() == self.thread.thread.thread().id()
    }

    /// Refuses `path`, which a rollback wants to load again, if far too much is retained: twice the bounds. A
    /// rollback is the way out of trouble, so it may still happen where candidates are refused; but a plugin that is
    /// refused each time and never gone has to be stopped, too.
    pub(super) fn check_room_for_rollback(&self, path: &Path) -> Result<()> {
        self.check_room(2, path)
    }

    /// Whether hotswap may retry a refused candidate without being asked. A plugin that is refused each time and
    /// never gone must not take all the room.
    pub(super) fn has_room_to_retry(&self) -> bool {
        self.retained.retained().has_room_to_retry()
    }

    fn check_room(&self, times: u8, path: &Path) -> Result<()> {
        let retained = self.retained.retained();
        let checked = retained.check(times);
        checked.map_err(|excess| {
            let bounds = retained.bounds();
            Error::new(path, excess.kind(bounds, &self.records.history))
        })
    }

    /// A thread for the image of the candidate at `path`: the spare one that another image has left, or a new one.
    pub(crate) fn opener(&self, path: &Path) -> Result<Opener> {
        if let Some(spare) = self.records.spare.take() {
            // Starting a thread would check this too.
            memory::need_image_mappings().map_err(|kind| Error::new(path, kind))?;
            return Ok(spare);
        }
        Opener::start().map_err(|error| Error::no_thread(path, error))
    }

    /// Hands over a generation that was live. Never fails, never waits. Returns an event, which the caller delivers
    /// after releasing its locks.
    #[must_use = "it has to be delivered"]
    pub(super) fn retire(&self, number: u64, generation: Draining<M>) -> Option<Recorded> {
        self.unload(Some(number), Phase::Draining(generation), false)
    }

    /// Hands over an image that nobody can use any more. Never fails, never waits. Delivers an event, so the caller
    /// holds no lock that a subscriber may take.
    pub(crate) fn leave(&self, number: u64, image: Leaving) {
        Recorded::deliver_any(self.unload(Some(number), Phase::Leaving(Box::new(image)), false));
    }

    /// Hands over the image of a refused candidate. Never fails, never waits. The caller may hold the turn.
    pub(crate) fn dispose(&self, image: Leaving) {
        self.deliver_here(self.unload(None, Phase::Leaving(Box::new(image)), true));
    }

    /// Keeps the image of a refused candidate mapped for good, because the host may still use it. The caller may hold
    /// the turn.
    pub(super) fn keep(&self, image: Image) {
        let counted = Counted::new(image.origin().bytes, true);
        mem::forget(image);
        self.deliver_here(self.records.count(Some(counted)));
    }

    /// Drops copies on the reaper's thread. Never waits.
    pub(super) fn drop_copies(&self, copies: Vec<Kept>) {
        if !copies.is_empty() {
            self.send(Task::DropCopies(copies));
        }
    }

    /// Has the reaper retire the standby when the probation of generation `number` ends.
    pub(super) fn watch_probation(
        &self,
        succession: &Arc<Succession<M>>,
        number: u64,
        until: Instant,
    ) {
        self.send(Task::WatchProbation(WatchedProbation {
            succession: Arc::clone(succession),
            number,
            until,
        }));
    }

    /// Gives it no more work. Its thread ends when it has unloaded everything.
    pub(super) fn end(self) -> ReaperThread {
        self.thread
    }

    /// Counts the image before the reaper has it, because the reaper may find at once that it is gone.
    fn unload(&self, number: Option<u64>, phase: Phase<M>, is_refused: bool) -> Option<Recorded> {
        // Here and not on the reaper's thread: the process may end as soon as this returns.
        process_end::watch_for();
        let (unloading, recorded) = Unloading::new(number, phase, is_refused, &self.records);
        self.send(Task::Unload(unloading));
        recorded
    }

    /// Has the reaper's thread deliver an event.
    fn deliver_here(&self, recorded: Option<Recorded>) {
        if let Some(recorded) = recorded {
            self.send(Task::Deliver(recorded));
        }
    }

    /// Hands over a task. If the reaper's thread were gone, the image would stay mapped for good, which is safe.
    fn send(&self, task: Task<M>) {
        drop(self.tasks.send(task));
    }
}

impl ReaperThread {
    /// Waits at most until `latest`. `true`: it has done its work.
    pub(super) fn wait(&self, latest: Instant) -> bool {
        self.running.recv_deadline(latest) == Err(RecvTimeoutError::Disconnected)
    }

    pub(super) fn join(self) {
        // If it panicked, the message was printed then.
        drop(self.thread.join());
    }
}

/// Refuses `path` in an initialiser or a finaliser of an image: opening another image would wait for its end.
pub(super) fn check_thread(path: &Path) -> Result<()> {
    if is_held_here() {
        let what = "an initialiser or a finaliser of a plugin is running on this thread; \
            nothing can be loaded before it has returned";
        return Err(Error::new(path, ErrorKind::Busy { what }));
    }
    Ok(())
}
