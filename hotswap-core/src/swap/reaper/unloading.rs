//! An image on its way out: from when it is retired until it has left, is pinned, or is taken back by a rollback.

use std::{
    mem,
    time::{Duration, Instant},
};

use hotswap_cell::Calls;

use super::{
    super::{
        Generation,
        backlog::Pending,
        draining::{Draining, NotDrained},
        holders,
        retained::Counted,
    },
    pinned::PinnedImage,
    records::Records,
};
use crate::{
    history::{EventKind, News},
    holder::Holder,
    image::{Exit, Leaving},
};

/// Who holds a generation is noted in the list when it has been retired for so long, and then so often.
const FIRST_NOTE: Duration = Duration::from_millis(5);
const NOTE_PAUSE: Duration = Duration::from_millis(100);

/// One such image.
pub(super) struct Unloading<M> {
    /// None for what is left of a refused candidate.
    number: Option<u64>,
    since: Instant,
    phase: Phase<M>,
    counted: Option<Counted>,
    /// While nothing is known that holds it up.
    pending: Option<Pending>,
    /// When the list is told next who holds it, if it was told before.
    next_note: Option<Instant>,
    /// Whether it was reported as held.
    is_reported: bool,
}

/// How far it has come.
pub(super) enum Phase<M> {
    /// Calls or leases may be left on it, and a rollback may take it back.
    Draining(Draining<M>),
    /// Threads or destructors of its own may be left.
    Leaving(Box<Leaving>),
}

/// What came of an attempt to unload an image.
pub(super) enum Attempt<M> {
    Left,
    /// `None`: it is pinned for good.
    Pinned(Option<PinnedImage>),
    /// Threads have something left to do for it, which those that are idle may be asked to do.
    WaitsForThreads(Unloading<M>),
    /// Calls or leases are left on it.
    InUse(Unloading<M>),
}

/// What came of a look at one that may be in use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    /// It is on its way out since now.
    Drained,
    /// As before.
    Unchanged,
    /// By a rollback.
    TakenBack,
}

impl<M: Send + Sync> Unloading<M> {
    /// Counts it, and gives an event if that is half of what may be retained.
    pub(super) fn new(
        number: Option<u64>,
        phase: Phase<M>,
        is_refused: bool,
        records: &Records,
    ) -> (Self, Option<News>) {
        let bytes = match &phase {
            // None if a rollback has taken it back already.
            Phase::Draining(generation) => generation.inspect(|it| it.peek().image.origin().bytes),
            Phase::Leaving(image) => Some(image.file_bytes()),
        };
        let counted = bytes.map(|bytes| Counted::new(bytes, is_refused));
        let (pending, news) = records.add(counted);
        let unloading = Self {
            number,
            since: Instant::now(),
            phase,
            counted,
            pending,
            next_note: None,
            is_reported: false,
        };
        (unloading, news)
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining(_))
    }

    /// Begins the way out of one that has drained. `looked` is how long it took to find that out.
    pub(super) fn drain(
        &mut self,
        calls: Option<&Calls>,
        records: &Records,
        looked: &mut Duration,
    ) -> Drain {
        let mut result = Drain::Unchanged;
        if let Phase::Draining(generation) = &self.phase {
            let begun = Instant::now();
            let drained = try_drain(generation, calls);
            *looked += begun.elapsed();
            match drained {
                Ok(generation) => {
                    records.backlog.set_current(Some(self.number));
                    self.phase = Phase::Leaving(Box::new(generation.retire()));
                    records.backlog.set_current(None);
                    result = Drain::Drained;
                }
                Err(NotDrained::InUse) => {}
                Err(NotDrained::TakenBack) => {
                    records.uncount(self.counted);
                    return Drain::TakenBack;
                }
            }
        }
        self.set_pending(records);
        result
    }

    /// Adds it to the backlog, or takes it out: it is part of that while nothing but the reaper keeps it.
    fn set_pending(&mut self, records: &Records) {
        let is_pending = match &self.phase {
            Phase::Leaving(image) => !image.is_held_up(),
            Phase::Draining(_) => false,
        };
        if is_pending {
            self.pending.get_or_insert_with(|| records.backlog.add());
        } else {
            self.pending = None;
        }
    }

    /// Unloads it if nothing keeps it.
    pub(super) fn unload(self, records: &Records) -> Attempt<M> {
        records.backlog.set_current(Some(self.number));
        let attempt = self.try_close(records);
        records.backlog.set_current(None);
        attempt
    }

    fn try_close(mut self, records: &Records) -> Attempt<M> {
        let mut image = match self.phase {
            Phase::Leaving(image) => image,
            Phase::Draining(_) => return Attempt::InUse(self),
        };
        if let (Some(panic), Some(number)) = (image.hook_panic(), self.number) {
            let panicked = EventKind::HookPanicked { panic };
            records.history.happened(Some(number), panicked).trace();
        }
        let Self {
            number,
            since,
            counted,
            pending,
            ..
        } = self;
        match image.try_close() {
            Exit::Gone(gone) => {
                records.left(number, since, counted, pending, gone);
                Attempt::Left
            }
            Exit::Pinned(image) => {
                drop(pending);
                Attempt::Pinned(PinnedImage::new(number, since, counted, image, records))
            }
            Exit::NotYet(image) => {
                self.phase = Phase::Leaving(image);
                self.pending = pending;
                self.set_pending(records);
                Attempt::WaitsForThreads(self)
            }
        }
    }

    /// Tells the list, and once after `deadline` the listeners, who holds it. `looked` is how long it took to find that
    /// out.
    pub(super) fn note(
        &mut self,
        calls: Option<&Calls>,
        deadline: Duration,
        records: &Records,
        looked: &mut Duration,
    ) {
        let first = self.since + FIRST_NOTE.min(deadline);
        let next = self.next_note.unwrap_or(first);
        let Some(number) = self.number.filter(|_| Instant::now() >= next) else {
            return;
        };
        let begun = Instant::now();
        let is_late = self.since.elapsed() >= deadline;
        let report = is_late && !mem::replace(&mut self.is_reported, is_late);
        let news = match &self.phase {
            Phase::Draining(generation) => {
                note_draining(number, generation, calls, report, records)
            }
            Phase::Leaving(image) => {
                let obstacles = image.obstacles();
                let count = obstacles.len();
                let by = holders::listed(obstacles.into_iter(), count);
                tell(number, by, report, records)
            }
        };
        *looked += begun.elapsed();
        self.next_note = Some(Instant::now() + NOTE_PAUSE);
        if let Some(news) = news {
            news.trace();
        }
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

/// No file is read while the generation is inspected: a rollback may wait for that.
fn note_draining<M: Send + Sync>(
    number: u64,
    generation: &Draining<M>,
    calls: Option<&Calls>,
    report: bool,
    records: &Records,
) -> Option<News> {
    let mut now = None;
    let calls = calls.unwrap_or_else(|| now.insert(Calls::snapshot(holders::LISTED_MAX)));
    let mut by = generation.inspect(|generation| holders::of(generation, calls))?;
    holders::name_threads(&mut by);
    // Not one that a rollback has just made live (`draining`).
    generation
        .inspect(|_| tell(number, by, report, records))
        .flatten()
}

fn tell(number: u64, by: Vec<Holder>, report: bool, records: &Records) -> Option<News> {
    if report {
        return Some(records.history.held(number, by));
    }
    records.history.draining(number, by);
    None
}
