//! An image that is being unloaded: from its retirement until it is gone, is pinned, or a rollback takes it back.

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
    history::{EventKind, Recorded},
    holder::Holder,
    image::{Exit, Gone, Leaving},
};

/// The holders of a generation are recorded for the first time when it has been retired for this long, then at this
/// period.
const FIRST_REPORT: Duration = Duration::from_millis(5);
const REPORT_PERIOD: Duration = Duration::from_millis(100);

/// An image that is being unloaded.
pub(super) struct Unloading<M> {
    /// `None` for a refused candidate.
    number: Option<u64>,
    since: Instant,
    phase: Phase<M>,
    counted: Option<Counted>,
    /// Its part of the backlog, while nothing but the reaper is known to hold it.
    pending: Option<Pending>,
    /// When to record its holders again; `None` before the first time.
    next_report: Option<Instant>,
    /// Whether the event that it is held was sent.
    is_reported: bool,
    /// Whether the futures that wait for it were woken, so that their threads run its destructors. Once is enough: a
    /// thread that has detached after the image was retired runs no more of its code.
    has_woken_waiters: bool,
}

/// How far the unloading has come.
pub(super) enum Phase<M> {
    /// Calls or leases may still use it, and a rollback may take it back.
    Draining(Draining<M>),
    /// Its own threads or destructors may still run.
    Leaving(Box<Leaving>),
    /// There is no image: its code is the host's.
    Left,
}

/// The result of an attempt to unload an image.
pub(super) enum Attempt<M> {
    Left,
    /// `None`: it is pinned for good.
    Pinned(Option<PinnedImage>),
    /// Threads have something left to run for it; idle threads can be asked to do it now.
    WaitsForThreads(Unloading<M>),
    /// Calls or leases still use it.
    InUse(Unloading<M>),
}

/// The result of checking whether a generation has drained.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    /// It has just drained, and its way out has begun.
    Drained,
    /// Nothing has changed.
    Unchanged,
    /// A rollback has taken it back.
    TakenBack,
}

impl<M: Send + Sync> Unloading<M> {
    /// Counts the image. Returns an event if half of what may be retained is reached.
    pub(super) fn new(
        number: Option<u64>,
        phase: Phase<M>,
        is_refused: bool,
        records: &Records,
    ) -> (Self, Option<Recorded>) {
        let bytes = match &phase {
            // `None` if a rollback has taken it back already.
            Phase::Draining(generation) => generation
                .inspect(|it| it.peek().image.copy_bytes())
                .flatten(),
            Phase::Leaving(image) => Some(image.file_bytes()),
            Phase::Left => None,
        };
        let counted = bytes.map(|bytes| Counted::new(bytes, is_refused));
        let (pending, recorded) = records.add(counted);
        let unloading = Self {
            number,
            since: Instant::now(),
            phase,
            counted,
            pending,
            next_report: None,
            is_reported: false,
            has_woken_waiters: false,
        };
        (unloading, recorded)
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining(_))
    }

    /// Begins the way out of a generation that has drained. Adds to `search_time` the time that checking took.
    pub(super) fn drain(
        &mut self,
        calls: Option<&Calls>,
        records: &Records,
        search_time: &mut Duration,
    ) -> Drain {
        let mut result = Drain::Unchanged;
        if let Phase::Draining(generation) = &self.phase {
            let begun = Instant::now();
            let drained = try_drain(generation, calls);
            *search_time += begun.elapsed();
            match drained {
                Ok(generation) => {
                    records.backlog.set_current(Some(self.number));
                    let leaving = generation.retire();
                    self.phase = leaving.map_or(Phase::Left, |it| Phase::Leaving(Box::new(it)));
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

    /// Adds it to the backlog, or removes it: it is part of the backlog while nothing but the reaper holds it.
    fn set_pending(&mut self, records: &Records) {
        let is_pending = match &self.phase {
            Phase::Leaving(image) => !image.waits_for_others(),
            Phase::Draining(_) | Phase::Left => false,
        };
        if is_pending {
            self.pending.get_or_insert_with(|| records.backlog.add());
        } else {
            self.pending = None;
        }
    }

    /// Unloads it if nothing holds it.
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
            Phase::Left => {
                let gone = Gone {
                    heap: None,
                    opener: None,
                };
                records.image_gone(self.number, self.since, self.counted, self.pending, gone);
                return Attempt::Left;
            }
        };
        if let (Some(panic), Some(number)) = (image.hook_panic(), self.number) {
            let panicked = EventKind::HookPanicked { panic };
            records.history.happened(Some(number), panicked).deliver();
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
                records.image_gone(number, since, counted, pending, gone);
                Attempt::Left
            }
            Exit::Pinned(image) => {
                drop(pending);
                Attempt::Pinned(PinnedImage::new(number, since, counted, image, records))
            }
            Exit::NotYet(image) => {
                if !self.has_woken_waiters && image.waits_for_threads() {
                    self.has_woken_waiters = true;
                    // Before the list says whose destructors hold it: who reads that, and lets such a thread call
                    // again, may count on it.
                    records.ask_threads(number);
                }
                self.phase = Phase::Leaving(image);
                self.pending = pending;
                self.set_pending(records);
                Attempt::WaitsForThreads(self)
            }
        }
    }

    /// Records who holds it, and once after `deadline` sends the event. Adds to `search_time` the time that finding the
    /// holders took.
    pub(super) fn report_holders(
        &mut self,
        calls: Option<&Calls>,
        deadline: Duration,
        records: &Records,
        search_time: &mut Duration,
    ) {
        let first = self.since + FIRST_REPORT.min(deadline);
        let next = self.next_report.unwrap_or(first);
        let Some(number) = self.number.filter(|_| Instant::now() >= next) else {
            return;
        };
        let begun = Instant::now();
        let is_late = self.since.elapsed() >= deadline;
        let report = is_late && !mem::replace(&mut self.is_reported, is_late);
        let recorded = match &self.phase {
            Phase::Draining(generation) => {
                report_draining(number, generation, calls, report, records)
            }
            Phase::Leaving(image) => {
                let obstacles = image.obstacles();
                let count = obstacles.len();
                let by = holders::listed(obstacles.into_iter(), count);
                Some(record_holders(number, by, report, records))
            }
            Phase::Left => None,
        };
        *search_time += begun.elapsed();
        self.next_report = Some(Instant::now() + REPORT_PERIOD);
        if let Some(recorded) = recorded {
            recorded.deliver();
        }
    }
}

/// Checks whether a generation has drained. If it was in use in the snapshot `calls`, that spares looking at all
/// slots again.
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

/// Records who holds a draining generation. It reads no file while it inspects the generation, since a rollback may
/// be waiting for that.
fn report_draining<M: Send + Sync>(
    number: u64,
    generation: &Draining<M>,
    calls: Option<&Calls>,
    report: bool,
    records: &Records,
) -> Option<Recorded> {
    let mut now = None;
    let calls = calls.unwrap_or_else(|| now.insert(Calls::snapshot(holders::LISTED_MAX)));
    let mut by = generation.inspect(|generation| holders::of(generation, calls))?;
    holders::name_threads(&mut by);
    // `inspect` again: a rollback may have made the generation live meanwhile, which the list must keep saying
    // (`draining`).
    generation.inspect(|_| record_holders(number, by, report, records))
}

fn record_holders(number: u64, by: Vec<Holder>, report: bool, records: &Records) -> Recorded {
    if report {
        records.history.held(number, by)
    } else {
        records.history.holders(number, by)
    }
}
