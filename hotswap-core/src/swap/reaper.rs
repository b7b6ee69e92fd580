//! The thread that unloads what is retired.
//!
//! One for each swap point or loader, started with it, idle while nothing is retired. What it does is in [`worker`]; here
//! is what it is given.

mod records;

mod pinned;

mod unloading;

mod polling;

mod worker;

use std::{
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;

use self::{
    records::Records,
    unloading::{Phase, Unloading},
    worker::{Probation, Worker},
};
use super::{
    backlog::Backlog,
    draining::Draining,
    retained::{Bounds, Owner, Retained},
    succession::Succession,
};
use crate::{
    error::{Error, Result},
    history::History,
    image::{Leaving, Opener, Spare},
    stage::{Kept, check_mappings, check_thread},
};

/// The swap point's end of the reaper.
pub(crate) struct Reaper<M> {
    tasks: Sender<Task<M>>,
    thread: JoinHandle<()>,
    records: Arc<Records>,
    retained: Owner,
}

/// A reaper that takes no more, and ends when nothing is left to unload.
pub(super) struct Ending(JoinHandle<()>);

/// What the thread is given.
enum Task<M> {
    Unload(Unloading<M>),
    /// In the place of the one before.
    WatchProbation(Probation<M>),
    /// They are dropped where nobody waits for their memory to be given back.
    DropCopies(Vec<Kept>),
}

impl<M: Send + Sync + 'static> Reaper<M> {
    /// `path` is only for the error.
    pub(crate) fn start(
        path: &Path,
        history: Arc<History>,
        drain_deadline: Duration,
        bounds: Bounds,
    ) -> Result<Self> {
        // What is in it is bounded: images by what may be retained, and all else comes with one.
        let (tasks, inbox) = crossbeam_channel::unbounded();
        let (owner, retained) = Retained::new(bounds);
        let records = Arc::new(Records {
            history,
            retained,
            backlog: Arc::new(Backlog::default()),
            spare: Spare::default(),
        });
        let worker = Worker::new(Arc::clone(&records), drain_deadline);
        let thread = thread::Builder::new().name("hotswap-reaper".to_owned());
        let thread = check_thread().and_then(|()| thread.spawn(move || worker.run(&inbox)));
        let thread = thread.map_err(|error| Error::no_thread(path, error))?;
        Ok(Self {
            tasks,
            thread,
            records,
            retained: owner,
        })
    }

    /// Lets a candidate in when there is room for one more. Refuses `path` at once while so much is retained and still
    /// mapped that no more is to be loaded, and when it has waited for this thread's work for as long as it may.
    ///
    /// Gives what `turn` gives, which may take its time. Both bounds are looked at with it, and again after each wait,
    /// for others go ahead meanwhile. Nobody waits for room with it, and only that wait counts.
    pub(crate) fn admit<T>(&self, path: &Path, turn: impl Fn() -> T) -> Result<T> {
        let Bounds { unload_timeout, .. } = self.retained.retained().bounds();
        let mut left = unload_timeout;
        loop {
            let turn = turn();
            self.need_room_of(1, path)?;
            if self.has_room() {
                return Ok(turn);
            }
            drop(turn);
            let waited = self.records.backlog.wait(&mut left);
            waited.map_err(|behind| Error::new(path, behind.kind(unload_timeout)))?;
        }
    }

    /// Whether a candidate need not wait: what this thread has to do is little, or must not be waited for here. Inside
    /// a call that may be what holds an image, or has something left to run for one; and on the reaper's own thread
    /// (a finaliser, a subscriber of `tracing`) nobody else would do it.
    fn has_room(&self) -> bool {
        self.records.backlog.has_room()
            || hotswap_cell::is_inside_call()
            || thread::current().id() == self.thread.thread().id()
    }

    /// Refuses `path`, which a rollback is to load again, if too much is retained. That is the way out of trouble, so
    /// that it may go on for a while where nothing else is accepted; but one that is refused each time and does not
    /// leave must end, too.
    pub(super) fn need_room_to_go_back(&self, path: &Path) -> Result<()> {
        self.need_room_of(2, path)
    }

    /// Whether a candidate that was refused may be tried again without anybody asking for it: one that is refused each
    /// time and does not leave must not take all the room.
    pub(super) fn has_room_to_retry(&self) -> bool {
        self.retained.retained().has_room_to_retry()
    }

    fn need_room_of(&self, times: u8, path: &Path) -> Result<()> {
        let retained = self.retained.retained();
        let checked = retained.check(times);
        checked.map_err(|excess| {
            let bounds = retained.bounds();
            Error::new(path, excess.kind(bounds, &self.records.history))
        })
    }

    /// A thread for the image of the candidate at `path`: the one that an image has left, or a new one.
    pub(crate) fn opener(&self, path: &Path) -> Result<Opener> {
        if let Some(spare) = self.records.spare.take() {
            check_mappings(path)?;
            return Ok(spare);
        }
        Opener::start().map_err(|error| Error::no_thread(path, error))
    }

    /// Never fails and never waits.
    pub(super) fn retire(&self, number: u64, generation: Draining<M>) {
        self.unload(Some(number), Phase::Draining(generation), false);
    }

    /// As [`retire`](Self::retire), for what nobody can use any more.
    pub(crate) fn leave(&self, number: u64, image: Leaving) {
        self.unload(Some(number), Phase::Leaving(Box::new(image)), false);
    }

    /// As [`leave`](Self::leave), for what is left of a refused candidate.
    pub(crate) fn dispose(&self, image: Leaving) {
        self.unload(None, Phase::Leaving(Box::new(image)), true);
    }

    /// Drops copies that nobody needs any more. Never waits.
    pub(super) fn drop_copies(&self, copies: Vec<Kept>) {
        if !copies.is_empty() {
            self.send(Task::DropCopies(copies));
        }
    }

    /// Retires the standby when the probation of generation `number` has ended.
    pub(super) fn watch_probation(
        &self,
        succession: &Arc<Succession<M>>,
        number: u64,
        until: Instant,
    ) {
        self.send(Task::WatchProbation(Probation {
            succession: Arc::clone(succession),
            number,
            until,
        }));
    }

    pub(super) fn end(self) -> Ending {
        Ending(self.thread)
    }

    /// It is on record before the reaper has it, who may find at once that it has left.
    fn unload(&self, number: Option<u64>, phase: Phase<M>, is_refused: bool) {
        let (unloading, news) = Unloading::new(number, phase, is_refused, &self.records);
        self.send(Task::Unload(unloading));
        if let Some(news) = news {
            news.trace();
        }
    }

    /// Should the reaper be gone after all, what is sent stays mapped for good, which is safe.
    fn send(&self, task: Task<M>) {
        drop(self.tasks.send(task));
    }
}

impl Ending {
    /// Waits for the thread to end. What it panicked with was printed when it did.
    pub(super) fn join(self) {
        drop(self.0.join());
    }
}
