//! The thread that watches the old generations leave.
//!
//! One for each swap point, started with it, idle while nothing is retired. What it does is in [`watch`]; here is what
//! it is given.

mod looks;
mod watch;

use std::{
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;

use self::watch::Watch;
use super::{
    backlog::{Backlog, Pending},
    draining::Draining,
    retained::{Bounds, Counted, Owner, Retained},
    succession::Succession,
};
use crate::{
    error::{Error, Result},
    history::{EventKind, History, News},
    image::{Leaving, Opener, Pinned, Spare},
    stage::{Kept, check_mappings, check_thread},
};

/// The swap point's end of the reaper.
pub(crate) struct Reaper<M> {
    jobs: Sender<Job<M>>,
    thread: JoinHandle<()>,
    history: Arc<History>,
    retained: Owner,
    backlog: Arc<Backlog>,
    spare: Spare,
}

/// A reaper that takes no more, and ends when it has nothing left to watch.
pub(super) struct Ending(JoinHandle<()>);

struct Job<M> {
    /// None for what is left of a refused candidate.
    number: Option<u64>,
    since: Instant,
    phase: Phase<M>,
    /// If it is an image that is retired.
    counted: Option<Counted>,
    /// While nothing is known that holds it up.
    pending: Option<Pending>,
    /// Copies that nobody needs any more. They are dropped here, where nobody waits for their memory to be given back.
    copies: Vec<Kept>,
}

/// How far a retired generation has come.
enum Phase<M> {
    /// Calls or leases may be left on it, and a rollback may take it back.
    Draining(Draining<M>),
    /// Threads or destructors of its own may be left.
    Leaving(Box<Leaving>),
    /// The generation is live; until then the one before it is standby.
    OnProbation {
        succession: Arc<Succession<M>>,
        until: Instant,
    },
    /// Nobody uses it, and it is still mapped; it may leave later.
    Pinned {
        image: Box<Pinned>,
        pause: Duration,
        next: Instant,
    },
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
        let (jobs, inbox) = crossbeam_channel::unbounded();
        let (owner, retained) = Retained::new(bounds);
        let backlog = Arc::new(Backlog::default());
        let spare = Spare::default();
        let watch = Watch::new(
            Arc::clone(&history),
            retained,
            Arc::clone(&backlog),
            spare.clone(),
            drain_deadline,
        );
        let thread = thread::Builder::new().name("hotswap-reaper".to_owned());
        let thread = check_thread().and_then(|()| thread.spawn(move || watch.run(&inbox)));
        let thread = thread.map_err(|error| Error::no_thread(path, error))?;
        Ok(Self {
            jobs,
            thread,
            history,
            retained: owner,
            backlog,
            spare,
        })
    }

    /// Lets a candidate in when there is room for one more. Refuses `path` at once while so much is retained and still
    /// mapped that no more is to be loaded, and when it has waited for this thread's work for as long as it may.
    ///
    /// Gives what `turn` gives, which may take its time. Both bounds are looked at with it, and again after each wait,
    /// for others go ahead meanwhile. Nobody waits for room with it, and only that wait counts.
    pub(crate) fn admit<T>(&self, path: &Path, turn: impl Fn() -> T) -> Result<T> {
        let Bounds {
            unload_timeout,
            settings,
            ..
        } = self.retained.retained().bounds();
        let mut left = unload_timeout;
        loop {
            let turn = turn();
            self.need_room_of(1, path)?;
            if self.has_room() {
                return Ok(turn);
            }
            drop(turn);
            let waited = self.backlog.wait(&mut left);
            waited.map_err(|behind| Error::new(path, behind.kind(unload_timeout, settings)))?;
        }
    }

    /// Whether a candidate need not wait: what this thread has to do is little, or must not be waited for here. Inside
    /// a call that may be what holds an image, or has something left to run for one; and on the reaper's own thread
    /// (a finaliser, a subscriber of `tracing`) nobody else would do it.
    fn has_room(&self) -> bool {
        self.backlog.has_room()
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
            Error::new(path, excess.kind(bounds, &self.history))
        })
    }

    /// A thread for the image of the candidate at `path`: the one that an image has left, or a new one.
    pub(crate) fn opener(&self, path: &Path) -> Result<Opener> {
        if let Some(spare) = self.spare.take() {
            check_mappings(path)?;
            return Ok(spare);
        }
        Opener::start().map_err(|error| Error::no_thread(path, error))
    }

    /// Never fails and never waits. Has `copies` dropped.
    pub(super) fn retire(&self, number: u64, generation: Draining<M>, copies: Vec<Kept>) {
        let counted = counted(&generation);
        self.send(Some(number), Phase::Draining(generation), counted, copies);
    }

    /// Retires the standby when the probation of generation `number` has ended.
    pub(super) fn watch_probation(
        &self,
        succession: &Arc<Succession<M>>,
        number: u64,
        until: Instant,
    ) {
        let succession = Arc::clone(succession);
        let phase = Phase::OnProbation { succession, until };
        self.send(Some(number), phase, None, Vec::new());
    }

    /// As [`retire`](Self::retire), for what nobody can use any more.
    pub(crate) fn leave(&self, number: u64, image: Leaving) {
        let counted = Counted::new(image.file_bytes(), false);
        let phase = Phase::Leaving(Box::new(image));
        self.send(Some(number), phase, Some(counted), Vec::new());
    }

    /// As [`leave`](Self::leave), for what is left of a refused candidate.
    pub(crate) fn dispose(&self, image: Leaving) {
        let counted = Counted::new(image.file_bytes(), true);
        let phase = Phase::Leaving(Box::new(image));
        self.send(None, phase, Some(counted), Vec::new());
    }

    pub(super) fn end(self) -> Ending {
        Ending(self.thread)
    }

    /// Should the reaper be gone after all, what is sent stays mapped for good, which is safe.
    fn send(
        &self,
        number: Option<u64>,
        phase: Phase<M>,
        counted: Option<Counted>,
        copies: Vec<Kept>,
    ) {
        // Before the reaper has it, who may find at once that it has left.
        let pending = counted.map(|_| self.backlog.add());
        let news = count(self.retained.retained(), counted, &self.history);
        drop(self.jobs.send(Job {
            number,
            since: Instant::now(),
            phase,
            counted,
            pending,
            copies,
        }));
        if let Some(news) = news {
            news.trace();
        }
    }
}

impl Ending {
    /// Waits for the thread to end. What it panicked with was printed when it did.
    pub(super) fn join(self) {
        drop(self.0.join());
    }
}

/// What is counted of a generation, if no rollback has taken it back already.
fn counted<M: Send + Sync>(generation: &Draining<M>) -> Option<Counted> {
    let bytes = generation.inspect(|it| it.peek().image.origin().bytes)?;
    Some(Counted::new(bytes, false))
}

/// Counts it, and tells if half of what may be there is reached.
fn count(retained: &Retained, counted: Option<Counted>, history: &History) -> Option<News> {
    let total = retained.add(counted?)?;
    let Bounds {
        images_max,
        bytes_max,
        ..
    } = retained.bounds();
    let retained = EventKind::Retained {
        images: total.images,
        bytes: total.bytes,
        images_max,
        bytes_max,
    };
    Some(history.happened(None, retained))
}
