//! The thread that watches the old generations leave.
//!
//! One for each swap point, started with it, idle while nothing is retired. It asks again and again
//! whether a retired generation is still in use, because a call that ends tells nobody: that would cost
//! every call, to save a look now and then. The pauses between looks grow from [`SHORTEST_PAUSE`] to
//! [`LONGEST_PAUSE`], and begin anew when something happens.

use std::{
    fs, io, mem,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::{
    Generation,
    draining::{Draining, NotDrained},
    retained::{Bounds, Counted, Owner, Retained},
    road::no_thread,
    succession::{Ended, Former, Succession},
};
use crate::{
    cell::{self, Holders, Retired},
    error::{Error, Result, Stage},
    history::{History, Holder, News},
    image::{Exit, HeapLeft, Leaving, Pinned},
    refs,
    stage::Kept,
};

const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// The pauses between two tries to unload an image that was pinned.
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Who holds a generation is noted in the list when it has been retired for so long, and then so often.
const FIRST_NOTE: Duration = Duration::from_millis(5);
const NOTE_PAUSE: Duration = Duration::from_millis(100);

/// The swap point's end of the reaper.
pub(crate) struct Reaper<M> {
    jobs: Sender<Job<M>>,
    thread: JoinHandle<()>,
    history: Arc<History>,
    retained: Owner,
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
    /// Its bytes, to be hashed for the list; of no generation, to be dropped.
    Bytes(Kept),
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
        let (jobs, inbox) = crossbeam_channel::unbounded();
        let (owner, retained) = Retained::new(bounds);
        let watch = Watch {
            history: Arc::clone(&history),
            retained,
            drain_deadline,
            all: Vec::new(),
        };
        let thread = thread::Builder::new()
            .name("hotswap-reaper".to_owned())
            .spawn(move || watch.run(&inbox))
            .map_err(|error| no_thread(path, error))?;
        Ok(Self {
            jobs,
            thread,
            history,
            retained: owner,
        })
    }

    /// Refuses `path` if so much is retired and still mapped that no more is to be loaded.
    pub(crate) fn need_room(&self, path: &Path) -> Result<()> {
        self.need_room_of(1, path)
    }

    /// The same for what is loaded again by a rollback. That is the way out of trouble, so that it may go on for a
    /// while where nothing else is accepted; but one that is refused each time and does not leave must end, too.
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
            Error::new(Stage::Host, path, excess.text(bounds, &self.history))
        })
    }

    /// Never fails and never waits.
    pub(super) fn retire(&self, number: u64, generation: Draining<M>) {
        let counted = counted(&generation);
        self.send(Some(number), Phase::Draining(generation), counted);
    }

    /// Retires the standby when the probation of generation `number` has ended.
    pub(super) fn watch_probation(
        &self,
        succession: &Arc<Succession<M>>,
        number: u64,
        until: Instant,
    ) {
        let succession = Arc::clone(succession);
        self.send(Some(number), Phase::OnProbation { succession, until }, None);
    }

    /// Has the hash of a generation's bytes told to the list. Without a descriptor for them it is not.
    pub(super) fn hash(&self, number: u64, copy: io::Result<Kept>) {
        if let Ok(copy) = copy {
            self.send(Some(number), Phase::Bytes(copy), None);
        }
    }

    /// Drops a copy here, where nobody waits for it.
    pub(super) fn drop_copy(&self, copy: Kept) {
        self.send(None, Phase::Bytes(copy), None);
    }

    /// As [`retire`](Self::retire), for what nobody can use any more.
    pub(crate) fn leave(&self, number: u64, image: Leaving) {
        let counted = Counted::new(image.file_bytes(), false);
        self.send(Some(number), Phase::Leaving(Box::new(image)), Some(counted));
    }

    /// As [`leave`](Self::leave), for what is left of a refused candidate.
    pub(crate) fn dispose(&self, image: Leaving) {
        let counted = Counted::new(image.file_bytes(), true);
        self.send(None, Phase::Leaving(Box::new(image)), Some(counted));
    }

    pub(super) fn end(self) -> Ending {
        Ending(self.thread)
    }

    /// Should the reaper be gone after all, what is sent stays mapped for good, which is safe.
    fn send(&self, number: Option<u64>, phase: Phase<M>, counted: Option<Counted>) {
        // Before the reaper has it, who may find at once that it has left.
        let news = count(self.retained.retained(), counted, &self.history);
        drop(self.jobs.send(Job {
            number,
            since: Instant::now(),
            phase,
            counted,
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

/// What the thread has before it.
struct Watch<M> {
    history: Arc<History>,
    retained: Arc<Retained>,
    drain_deadline: Duration,
    all: Vec<Watched<M>>,
}

struct Watched<M> {
    job: Job<M>,
    /// When the list is told next who holds it.
    next_note: Instant,
    /// Whether it was reported as held.
    reported: bool,
}

impl<M: Send + Sync> Watch<M> {
    fn run(mut self, inbox: &Receiver<Job<M>>) {
        // So that it is known not to be ending, when it looks for threads that may be.
        cell::come_by();
        let mut pause = SHORTEST_PAUSE;
        let mut open = true;
        while open || self.all.iter().any(Watched::is_waited_for) {
            match self.next_job(inbox, pause, open) {
                Ok(job) => {
                    self.watch(job);
                    pause = SHORTEST_PAUSE;
                }
                Err(RecvTimeoutError::Timeout) => pause = LONGEST_PAUSE.min(pause * 2),
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
            if self.look() {
                pause = SHORTEST_PAUSE;
            }
        }
    }

    /// The next job, or how long to wait without one.
    fn next_job(
        &self,
        inbox: &Receiver<Job<M>>,
        pause: Duration,
        open: bool,
    ) -> Result<Job<M>, RecvTimeoutError> {
        let soon = Instant::now() + pause;
        let wake = self.all.iter().map(|watched| match watched.job.phase {
            Phase::Draining(_) | Phase::Leaving(_) | Phase::Bytes(_) => soon,
            Phase::Pinned { next, .. } | Phase::OnProbation { until: next, .. } => next,
        });
        match wake.min() {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wake) if open => inbox.recv_deadline(wake),
            Some(wake) => {
                thread::sleep(wake.saturating_duration_since(Instant::now()));
                Err(RecvTimeoutError::Timeout)
            }
        }
    }

    /// Looks at everything once. `true`: something has come further.
    fn look(&mut self) -> bool {
        let before = self.all.len();
        let mut has_left = false;
        for watched in mem::take(&mut self.all) {
            match watched.job.phase {
                Phase::Draining(_) | Phase::Leaving(_) => {
                    let left = self.advance(watched);
                    has_left |= left;
                }
                Phase::OnProbation { until, .. } if Instant::now() < until => {
                    self.all.push(watched);
                }
                Phase::OnProbation { succession, .. } => {
                    let number = watched.job.number.unwrap_or_default();
                    if let Some(ended) = self.end_probation(&succession, number) {
                        let Ended {
                            standby,
                            values,
                            copies,
                        } = ended;
                        self.retire_standby(standby);
                        values.into_iter().for_each(refs::Former::drop_elsewhere);
                        // Here, when the lock is free again.
                        drop(copies);
                    }
                }
                Phase::Bytes(copy) => {
                    let number = watched.job.number;
                    let hashed = number.and_then(|number| Some((number, copy.sha256().ok()?)));
                    // Before the hash is told: nothing of this swap is left then.
                    drop(copy);
                    if let Some((number, sha256)) = hashed {
                        self.history.hashed(number, sha256);
                    }
                }
                Phase::Pinned { .. } => self.all.push(watched),
            }
        }
        // With each image that leaves, the system looks at all others.
        self.retry_pinned(has_left);
        self.all.len() != before
    }

    /// The list is changed under the lock, as a rollback does it: it may make the standby live right after.
    fn end_probation(&self, succession: &Succession<M>, number: u64) -> Option<Ended<M>> {
        let mut line = succession.lock();
        let ended = line.end_probation(number)?;
        self.history.draining(ended.standby.number, Vec::new());
        Some(ended)
    }

    /// A standby that is not needed any more goes the way of all.
    fn retire_standby(&mut self, former: Former<M>) {
        let counted = counted(&former.generation);
        let news = count(&self.retained, counted, &self.history);
        self.watch(Job {
            number: Some(former.number),
            since: Instant::now(),
            phase: Phase::Draining(former.generation),
            counted,
        });
        if let Some(news) = news {
            news.trace();
        }
    }

    fn watch(&mut self, job: Job<M>) {
        let next_note = job.since + FIRST_NOTE.min(self.drain_deadline);
        self.all.push(Watched {
            job,
            next_note,
            reported: false,
        });
    }

    /// Takes one as far as it comes. `true`: it has left.
    fn advance(&mut self, mut watched: Watched<M>) -> bool {
        if let Phase::Draining(generation) = &watched.job.phase {
            match generation.try_drain() {
                Ok(generation) => {
                    watched.job.phase = Phase::Leaving(Box::new(generation.retire()));
                }
                Err(NotDrained::InUse) => {}
                Err(NotDrained::TakenBack) => {
                    self.uncount(watched.job.counted);
                    return false;
                }
            }
        }
        if let Phase::Leaving(mut image) = watched.job.phase {
            if let (Some(message), Some(number)) = (image.hook_panic(), watched.job.number) {
                self.history.hook_panicked(number, message);
            }
            match image.try_close() {
                Exit::Gone(heap) => {
                    let Job {
                        number,
                        since,
                        counted,
                        ..
                    } = watched.job;
                    self.has_left(number, since, counted, heap);
                    return true;
                }
                Exit::Pinned(image) => {
                    if let Some(number) = watched.job.number {
                        self.history.pinned(number, image.why().clone());
                    }
                    if image.why().is_final() {
                        return false;
                    }
                    let next = Instant::now() + FIRST_RETRY;
                    watched.job.phase = Phase::Pinned {
                        image,
                        pause: FIRST_RETRY,
                        next,
                    };
                }
                Exit::NotYet(image) => {
                    // Threads that have something to do for it come by, if they ever call anything again.
                    cell::nudge();
                    watched.job.phase = Phase::Leaving(image);
                }
            }
        }
        self.note(&mut watched);
        self.all.push(watched);
        false
    }

    /// Whoever hears of it may swap.
    fn has_left(
        &self,
        number: Option<u64>,
        since: Instant,
        counted: Option<Counted>,
        heap: Option<HeapLeft>,
    ) {
        self.uncount(counted);
        if let Some(number) = number {
            self.history.unloaded(number, since.elapsed(), heap);
        }
    }

    fn uncount(&self, counted: Option<Counted>) {
        if let Some(counted) = counted {
            self.retained.remove(counted);
        }
    }

    /// Tells the list, and once after the deadline the listeners, who holds it.
    fn note(&self, watched: &mut Watched<M>) {
        let Some(number) = watched
            .job
            .number
            .filter(|_| Instant::now() >= watched.next_note)
        else {
            return;
        };
        let is_late = watched.job.since.elapsed() >= self.drain_deadline;
        let report = is_late && !watched.reported;
        let news = match &watched.job.phase {
            // Not one that a rollback has just made live (`draining`).
            Phase::Draining(generation) => generation
                .inspect(|generation| self.tell(number, users(generation), report))
                .flatten(),
            Phase::Leaving(image) => {
                let by = image.obstacles().into_iter().map(Holder::from);
                self.tell(number, by.collect(), report)
            }
            Phase::OnProbation { .. } | Phase::Bytes(_) | Phase::Pinned { .. } => return,
        };
        watched.reported |= report;
        watched.next_note = Instant::now() + NOTE_PAUSE;
        if let Some(news) = news {
            news.trace();
        }
    }

    fn tell(&self, number: u64, by: Vec<Holder>, report: bool) -> Option<News> {
        if report {
            return Some(self.history.held(number, by));
        }
        self.history.draining(number, by);
        None
    }

    /// Asks again for what is due, or for all.
    fn retry_pinned(&mut self, all: bool) {
        let now = Instant::now();
        for mut watched in mem::take(&mut self.all) {
            let Job {
                number,
                since,
                counted,
                ..
            } = watched.job;
            if let Phase::Pinned { image, pause, next } = watched.job.phase {
                let before = image.why().clone();
                let retried = if all || now >= next {
                    image.retry()
                } else {
                    Err(image)
                };
                if let (Err(image), Some(number)) = (&retried, number)
                    && *image.why() != before
                {
                    self.history.pinned(number, image.why().clone());
                }
                match retried {
                    Ok(heap) => {
                        self.has_left(number, since, counted, heap);
                        continue;
                    }
                    // What is pinned for good is asked no more.
                    Err(image) if image.why().is_final() => continue,
                    Err(image) if now >= next => {
                        let pause = LAST_RETRY.min(pause * 2);
                        watched.job.phase = Phase::Pinned {
                            image,
                            pause,
                            next: now + pause,
                        };
                    }
                    Err(image) => watched.job.phase = Phase::Pinned { image, pause, next },
                }
            }
            self.all.push(watched);
        }
    }
}

impl<M> Watched<M> {
    /// Whether the reaper stays for it when the swap point is gone.
    fn is_waited_for(&self) -> bool {
        matches!(self.job.phase, Phase::Draining(_) | Phase::Leaving(_))
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
    Some(history.retained(total.images, total.bytes, images_max, bytes_max))
}

/// Calls and leases, with what is known of them.
fn users<M>(generation: &Retired<Generation<M>>) -> Vec<Holder> {
    let Holders { threads, leases } = generation.holders();
    let call = |thread: u32| {
        let name = fs::read_to_string(format!("/proc/self/task/{thread}/comm")).unwrap_or_default();
        Holder::Call {
            thread,
            name: name.trim_end().to_owned(),
        }
    };
    let tenants = generation.peek().tenants.list();
    // They have leases, too; one may have come or gone between the two looks.
    let leases = leases.saturating_sub(tenants.len());
    let leases = match &generation.peek().leases {
        Some(register) => register
            .out()
            .into_iter()
            .map(|(place, age)| Holder::Lease { place, age })
            .collect(),
        None if leases > 0 => vec![Holder::Leases(leases)],
        None => Vec::new(),
    };
    let calls = threads.into_iter().map(call);
    calls.chain(tenants).chain(leases).collect()
}
