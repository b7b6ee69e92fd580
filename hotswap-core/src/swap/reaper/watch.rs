//! What the reaper's thread does.
//!
//! What is new is taken as far as it comes when it comes; all else is looked at when it is time ([`looks`]). One look at
//! the threads' slots (`cell`) serves all that is retired.
//!
//! [`looks`]: super::looks

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use hotswap_cell::Calls;

use super::super::{
    Generation,
    backlog::{Backlog, Pending},
    draining::{Draining, NotDrained},
    holders::{self, LISTED_MAX},
    retained::{Counted, Retained},
    succession::{Ended, Former, Succession},
};
use super::{
    Job, Phase, count, counted,
    looks::{Looks, next_job},
};
use crate::{
    history::{EventKind, History, News},
    holder::Holder,
    image::{Exit, Gone, Spare},
    refs,
    stage::Kept,
};

/// The pauses between two tries to unload an image that was pinned.
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Who holds a generation is noted in the list when it has been retired for so long, and then so often.
const FIRST_NOTE: Duration = Duration::from_millis(5);
const NOTE_PAUSE: Duration = Duration::from_millis(100);

/// What the thread has before it.
pub(super) struct Watch<M> {
    history: Arc<History>,
    retained: Arc<Retained>,
    backlog: Arc<Backlog>,
    spare: Spare,
    drain_deadline: Duration,
    all: Vec<Watched<M>>,
    /// Whether something was found to be left for other threads to do.
    nudge: bool,
    /// Whether anything has come, gone or reached its next phase since the pauses last began anew.
    has_changed: bool,
    /// How long calls, leases and other holders of what is retired were looked for, since the last rest began.
    looked: Duration,
}

struct Watched<M> {
    job: Job<M>,
    /// When the list is told next who holds it.
    next_note: Instant,
    /// Whether it was reported as held.
    reported: bool,
}

impl<M: Send + Sync> Watch<M> {
    pub(super) fn new(
        history: Arc<History>,
        retained: Arc<Retained>,
        backlog: Arc<Backlog>,
        spare: Spare,
        drain_deadline: Duration,
    ) -> Self {
        Self {
            history,
            retained,
            backlog,
            spare,
            drain_deadline,
            all: Vec::new(),
            nudge: false,
            has_changed: false,
            looked: Duration::ZERO,
        }
    }

    /// Until nobody sends any more, and nothing is left that is to leave.
    pub(super) fn run(mut self, inbox: &Receiver<Job<M>>) {
        // So that it is known not to be ending, when it looks for threads that may be.
        hotswap_cell::pass_quiescent_point();
        let mut looks = Looks::new();
        let mut open = true;
        while open || self.all.iter().any(Watched::is_waited_for) {
            match next_job(inbox, self.next_look(&looks), open) {
                Ok(job) => self.begin(job),
                Err(RecvTimeoutError::Timeout) => {
                    self.look();
                    looks.rest_from(mem::take(&mut self.looked));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    open = false;
                    self.has_changed = true;
                }
            }
            if mem::take(&mut self.nudge) {
                // Threads that have something to do for an image come by, if they ever call anything again. This one is
                // among them if a hook found no thread of its own, and was run here.
                hotswap_cell::request_quiescence_callbacks();
                hotswap_cell::pass_quiescent_point();
            }
            if mem::take(&mut self.has_changed) {
                looks.hurry();
            }
        }
    }

    /// When to look at what there is, if there is anything.
    fn next_look(&self, looks: &Looks) -> Option<Instant> {
        let wake = self.all.iter().map(|watched| match watched.job.phase {
            Phase::Draining(_) | Phase::Leaving(_) => looks.next,
            Phase::Pinned { next, .. } | Phase::OnProbation { until: next, .. } => next,
        });
        Some(wake.min()?.max(looks.rested))
    }

    /// Takes a new one as far as it comes. That there are new ones may change what the others can do.
    fn begin(&mut self, job: Job<M>) {
        self.has_changed = true;
        let mut watched = self.watched(job);
        match watched.job.phase {
            Phase::Draining(_) | Phase::Leaving(_) => {
                if self.drain(&mut watched, None) && self.leave(watched, None) {
                    // With each image that leaves, the system looks at all others.
                    self.retry_pinned(true);
                }
            }
            // Of a swap point there is one probation at a time.
            Phase::OnProbation { .. } => {
                self.all
                    .retain(|it| !matches!(it.job.phase, Phase::OnProbation { .. }));
                self.all.push(watched);
            }
            Phase::Pinned { .. } => self.all.push(watched),
        }
    }

    /// Looks at everything once.
    fn look(&mut self) {
        let begun = Instant::now();
        let is_draining = |it: &Watched<M>| matches!(it.job.phase, Phase::Draining(_));
        let calls = self.all.iter().any(is_draining);
        let calls = calls.then(|| Calls::snapshot(LISTED_MAX));
        self.looked += begun.elapsed();
        let mut all = mem::take(&mut self.all);
        // To unload one may take long. All that are to be unloaded are in the backlog before that.
        all.retain_mut(|watched| self.drain(watched, calls.as_ref()));
        let mut has_left = false;
        for watched in all {
            match watched.job.phase {
                Phase::Draining(_) | Phase::Leaving(_) => {
                    has_left |= self.leave(watched, calls.as_ref());
                }
                Phase::OnProbation { until, .. } if Instant::now() < until => {
                    self.all.push(watched);
                }
                Phase::OnProbation { succession, .. } => {
                    let number = watched.job.number.unwrap_or_default();
                    if let Some(ended) = self.end_probation(&succession, number) {
                        self.has_changed = true;
                        let Ended {
                            standby,
                            values,
                            copies,
                        } = ended;
                        self.retire_standby(standby, copies);
                        refs::drop_elsewhere(values);
                    }
                }
                Phase::Pinned { .. } => self.all.push(watched),
            }
        }
        self.retry_pinned(has_left);
    }

    /// The list is changed under the lock, as a rollback does it: it may make the standby live right after.
    fn end_probation(&self, succession: &Succession<M>, number: u64) -> Option<Ended<M>> {
        let mut line = succession.lock();
        let ended = line.end_probation(number)?;
        self.history.draining(ended.standby.number, Vec::new());
        Some(ended)
    }

    /// A standby that is not needed any more goes the way of all.
    fn retire_standby(&mut self, former: Former<M>, copies: Vec<Kept>) {
        let counted = counted(&former.generation);
        let news = count(&self.retained, counted, &self.history);
        let watched = self.watched(Job {
            number: Some(former.number),
            since: Instant::now(),
            phase: Phase::Draining(former.generation),
            counted,
            pending: counted.map(|_| self.backlog.add()),
            copies,
        });
        self.all.push(watched);
        if let Some(news) = news {
            news.trace();
        }
    }

    fn watched(&self, mut job: Job<M>) -> Watched<M> {
        drop(mem::take(&mut job.copies));
        let next_note = job.since + FIRST_NOTE.min(self.drain_deadline);
        Watched {
            job,
            next_note,
            reported: false,
        }
    }

    /// Begins the way out of one that has drained. `false`: a rollback has taken it back.
    fn drain(&mut self, watched: &mut Watched<M>, calls: Option<&Calls>) -> bool {
        let job = &mut watched.job;
        if let Phase::Draining(generation) = &job.phase {
            let begun = Instant::now();
            let drained = try_drain(generation, calls);
            self.looked += begun.elapsed();
            match drained {
                Ok(generation) => {
                    self.has_changed = true;
                    self.backlog.set_current(Some(job.number));
                    job.phase = Phase::Leaving(Box::new(generation.retire()));
                    self.backlog.set_current(None);
                }
                // By a call or a lease.
                Err(NotDrained::InUse) => {}
                Err(NotDrained::TakenBack) => {
                    self.has_changed = true;
                    self.uncount(job.counted);
                    return false;
                }
            }
        }
        self.set_pending(job);
        true
    }

    /// Adds it to the backlog, or takes it out: it is part of that while nothing but this thread keeps it.
    fn set_pending(&self, job: &mut Job<M>) {
        let is_pending = match &job.phase {
            Phase::Leaving(image) => !image.is_held_up(),
            Phase::Draining(_) | Phase::OnProbation { .. } | Phase::Pinned { .. } => false,
        };
        if is_pending {
            job.pending.get_or_insert_with(|| self.backlog.add());
        } else {
            job.pending = None;
        }
    }

    /// Unloads it if nothing keeps it. `true`: it has left.
    fn leave(&mut self, watched: Watched<M>, calls: Option<&Calls>) -> bool {
        self.backlog.set_current(Some(watched.job.number));
        let has_left = self.try_close(watched, calls);
        self.backlog.set_current(None);
        has_left
    }

    fn try_close(&mut self, mut watched: Watched<M>, calls: Option<&Calls>) -> bool {
        if let Phase::Leaving(mut image) = watched.job.phase {
            if let (Some(message), Some(number)) = (image.hook_panic(), watched.job.number) {
                let panicked = EventKind::HookPanicked { panic: message };
                self.history.happened(Some(number), panicked).trace();
            }
            match image.try_close() {
                Exit::Gone(gone) => {
                    let Job {
                        number,
                        since,
                        counted,
                        pending,
                        ..
                    } = watched.job;
                    self.has_left(number, since, counted, pending, gone);
                    return true;
                }
                Exit::Pinned(image) => {
                    self.has_changed = true;
                    watched.job.pending = None;
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
                    self.nudge = true;
                    watched.job.phase = Phase::Leaving(image);
                    self.set_pending(&mut watched.job);
                }
            }
        }
        self.note(&mut watched, calls);
        self.all.push(watched);
        false
    }

    /// Whoever waits for room, or hears of it, may swap.
    fn has_left(
        &mut self,
        number: Option<u64>,
        since: Instant,
        counted: Option<Counted>,
        pending: Option<Pending>,
        gone: Gone,
    ) {
        self.has_changed = true;
        // Before anybody hears of it, who may need a thread for the next one.
        if let Some(opener) = gone.opener {
            self.spare.keep(opener);
        }
        self.uncount(counted);
        drop(pending);
        if let Some(number) = number {
            self.history.unloaded(number, since.elapsed(), gone.heap);
        }
    }

    fn uncount(&self, counted: Option<Counted>) {
        if let Some(counted) = counted {
            self.retained.remove(counted);
        }
    }

    /// Tells the list, and once after the deadline the listeners, who holds it.
    fn note(&mut self, watched: &mut Watched<M>, calls: Option<&Calls>) {
        let Some(number) = watched
            .job
            .number
            .filter(|_| Instant::now() >= watched.next_note)
        else {
            return;
        };
        let begun = Instant::now();
        let is_late = watched.job.since.elapsed() >= self.drain_deadline;
        let report = is_late && !watched.reported;
        let news = match &watched.job.phase {
            Phase::Draining(generation) => self.note_draining(number, generation, calls, report),
            Phase::Leaving(image) => {
                let obstacles = image.obstacles();
                let count = obstacles.len();
                let by = holders::listed(obstacles.into_iter(), count);
                self.tell(number, by, report)
            }
            Phase::OnProbation { .. } | Phase::Pinned { .. } => return,
        };
        self.looked += begun.elapsed();
        watched.reported |= report;
        watched.next_note = Instant::now() + NOTE_PAUSE;
        if let Some(news) = news {
            news.trace();
        }
    }

    /// No file is read while the generation is inspected: a rollback may wait for that.
    fn note_draining(
        &self,
        number: u64,
        generation: &Draining<M>,
        calls: Option<&Calls>,
        report: bool,
    ) -> Option<News> {
        let mut now = None;
        let calls = calls.unwrap_or_else(|| now.insert(Calls::snapshot(LISTED_MAX)));
        let mut by = generation.inspect(|generation| holders::of(generation, calls))?;
        holders::name_threads(&mut by);
        // Not one that a rollback has just made live (`draining`).
        generation
            .inspect(|_| self.tell(number, by, report))
            .flatten()
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
                    Ok(gone) => {
                        self.has_left(number, since, counted, None, gone);
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

/// `calls` spares a look at all slots where it would be in vain.
fn try_drain<M: Send + Sync>(
    generation: &Draining<M>,
    calls: Option<&Calls>,
) -> Result<Generation<M>, NotDrained> {
    let was_in_use = |calls| generation.inspect(|it| it.was_in_use(calls));
    if calls.and_then(was_in_use) == Some(true) {
        return Err(NotDrained::InUse);
    }
    generation.try_drain()
}
