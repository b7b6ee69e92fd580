//! Which generation is live, and which one a rollback goes back to.
//!
//! Every change of the live generation is made under one lock, which is held for a store and some notes, never
//! while a candidate is prepared: a fault that brings a generation back does not wait for a swap that is under
//! way, and swaps that are published meanwhile do not mix with it. Callers of the plugin never take it.
//!
//! It knows neither how candidates are made nor how generations leave: what is not needed any more it gives
//! away.

use std::{
    collections::VecDeque,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hotswap_cell::Cell;

use super::{Generation, draining::Draining};
use crate::{deadline::deadline, refs, stage::Kept};

/// The generations of one swap point.
pub(super) struct Succession<M> {
    generations: Mutex<Generations<M>>,
    probation: Option<Duration>,
    faults_max: u32,
}

/// What the lock is for.
pub(super) struct Generations<M> {
    live: u64,
    /// While the live generation is on probation.
    probation: Option<Probation<M>>,
    /// Those that were live before, the newest last.
    kept: VecDeque<Earlier<M>>,
    copies_max: usize,
    /// Whether an earlier generation is being asked whether it can take over again.
    returning: bool,
}

struct Probation<M> {
    until: Instant,
    faults: u32,
    /// The generation before, mapped.
    standby: Former<M>,
    /// The values that have lost their names by the update of the live one.
    values: Option<refs::Former>,
}

/// A generation that was live.
pub(super) struct Former<M> {
    pub(super) number: u64,
    pub(super) generation: Draining<M>,
}

/// One that a rollback can go back to.
pub(super) struct Earlier<M> {
    pub(super) number: u64,
    pub(super) copy: Kept,
    /// While it drains it is itself what is gone back to.
    generation: Draining<M>,
}

/// Why a generation is published.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PublishKind {
    /// In place of one that may be wanted back.
    Swap,
    /// In place of one that is not wanted any more.
    Rollback,
}

/// What publishing has changed.
pub(super) struct Change<M> {
    /// The number of the generation that was live.
    pub(super) before: u64,
    /// When the probation of the new one ends. Its predecessor is standby until then.
    pub(super) probation: Option<Instant>,
    /// Those that are needed no more.
    pub(super) retired: Vec<Former<M>>,
    /// Copies that are needed no more. To drop one may give back all its memory, which takes a while.
    pub(super) dropped: Vec<Kept>,
    /// Values that are needed no more.
    pub(super) values: Option<refs::Former>,
}

/// What is needed no more when an earlier generation is live again.
pub(super) struct Restored<M> {
    /// What was live.
    pub(super) former: Former<M>,
    pub(super) copy: Option<Kept>,
    pub(super) values: Option<refs::Former>,
}

/// What is needed no more when a probation has ended.
pub(super) struct Ended<M> {
    pub(super) standby: Former<M>,
    pub(super) values: Option<refs::Former>,
    pub(super) copies: Vec<Kept>,
}

impl<M: Send + Sync> Succession<M> {
    /// With generation 1 live.
    pub(super) fn new(probation: Option<Duration>, faults_max: u32, copies_max: usize) -> Self {
        let generations = Generations {
            live: 1,
            probation: None,
            kept: VecDeque::new(),
            copies_max,
            returning: false,
        };
        Self {
            generations: Mutex::new(generations),
            probation,
            faults_max,
        }
    }

    /// Nothing in here panics under the lock but a failed allocation; they are whole even then.
    pub(super) fn lock(&self) -> MutexGuard<'_, Generations<M>> {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a new generation the live one.
    pub(super) fn publish(
        &self,
        generations: &mut Generations<M>,
        cell: &Cell<Generation<M>>,
        new: Generation<M>,
        kind: PublishKind,
    ) -> Change<M> {
        let (number, before) = (new.number, generations.live);
        // Before the new one is live: nothing may fail after that.
        let probation = self.probation.filter(|_| kind == PublishKind::Swap);
        let until = probation.map(|time| deadline(Instant::now(), time));
        let generation = cell.publish(new);
        generations.live = number;
        let former = Former {
            number: before,
            generation: Draining::new(generation),
        };
        let ended = generations.probation.take();
        let (standby, values) = ended.map(|it| (it.standby, it.values)).unzip();
        let mut retired: Vec<_> = standby.into_iter().collect();
        retired.iter().for_each(|standby| generations.keep(standby));
        match (kind, until) {
            (PublishKind::Swap, Some(until)) => {
                generations.probation = Some(Probation {
                    until,
                    faults: 0,
                    standby: former,
                    values: None,
                });
            }
            (PublishKind::Swap, None) => {
                generations.keep(&former);
                retired.push(former);
            }
            (PublishKind::Rollback, _) => retired.push(former),
        }
        let dropped = generations.take_excess();
        Change {
            before,
            probation: until,
            retired,
            dropped,
            values: values.flatten(),
        }
    }

    /// Counts a fault of `number`. `true`: it was one too many.
    pub(super) fn count_fault(&self, generations: &mut Generations<M>, number: u64) -> bool {
        let is_live = generations.live == number;
        let Some(probation) = generations
            .probation
            .as_mut()
            .filter(|it| is_live && it.is_on())
        else {
            return false;
        };
        probation.faults += 1;
        probation.faults > self.faults_max
    }
}

impl<M: Send + Sync> Generations<M> {
    pub(super) fn live(&self) -> u64 {
        self.live
    }

    pub(super) fn faults(&self) -> u32 {
        self.probation.as_ref().map_or(0, |it| it.faults)
    }

    /// Keeps the generation that a rollback goes back to, whatever becomes of it. None: there is none, or it is on
    /// its way out.
    pub(super) fn lease_previous(&self) -> Option<hotswap_cell::Lease<Generation<M>>> {
        match &self.probation {
            Some(probation) => probation.standby.generation.lease(),
            None => self.kept.back()?.generation.lease(),
        }
    }

    /// Its number, whether or not it is on its way out.
    pub(super) fn previous(&self) -> Option<u64> {
        match &self.probation {
            Some(probation) => Some(probation.standby.number),
            None => self.kept.back().map(|it| it.number),
        }
    }

    /// The bytes of a generation that was live, if they are kept.
    pub(super) fn copy_of(&self, number: u64) -> Option<Kept> {
        let standby = self.probation.as_ref().map(|it| &it.standby);
        if let Some(standby) = standby.filter(|it| it.number == number) {
            let copy = standby.generation.inspect(|it| it.peek().image.keep());
            return copy?.ok();
        }
        let earlier = self.kept.iter().find(|it| it.number == number)?;
        earlier.copy.try_clone().ok()
    }

    /// Keeps what the update of the live generation has replaced, while that is on probation. Gives what is not kept.
    pub(super) fn keep_values(&mut self, values: refs::Former) -> Option<refs::Former> {
        match &mut self.probation {
            Some(probation) if !values.is_empty() => probation.values.replace(values),
            _ => Some(values),
        }
    }

    /// Takes the values that have lost their names by the update of the live generation: it is not gone back from any
    /// more.
    pub(super) fn take_values(&mut self) -> Option<refs::Former> {
        self.probation.as_mut()?.values.take()
    }

    /// The values that the generation before finds again under their names.
    pub(super) fn values_before(&self) -> refs::Names {
        let values = self.probation.as_ref().and_then(|it| it.values.as_ref());
        values.map(|it| it.names().clone()).unwrap_or_default()
    }

    /// It is about to be asked whether it can take over again. `false`: it is being asked already.
    pub(super) fn begin_return(&mut self) -> bool {
        !mem::replace(&mut self.returning, true)
    }

    /// It was asked.
    pub(super) fn end_return(&mut self) {
        self.returning = false;
    }

    pub(super) fn is_returning(&self) -> bool {
        self.returning
    }

    /// Makes the standby live again, or without one the newest of the earlier generations. None: there is none, or
    /// it is on its way out. Gives what is needed no more.
    pub(super) fn restore(&mut self, cell: &Cell<Generation<M>>) -> Option<Restored<M>> {
        let (number, generation, copy, values) = match self.probation.take() {
            // A standby is not given away.
            Some(Probation {
                standby, values, ..
            }) => (standby.number, standby.generation.take()?, None, values),
            None => {
                let generation = self.kept.back()?.generation.take()?;
                let Earlier { number, copy, .. } = self.kept.pop_back()?;
                (number, generation, Some(copy), None)
            }
        };
        let former = Former {
            number: self.live,
            generation: Draining::new(cell.restore(generation)),
        };
        self.live = number;
        Some(Restored {
            former,
            copy,
            values,
        })
    }

    /// Keeps what a rollback needs of a generation that begins to drain. (A standby needs nothing: it is not given
    /// away.)
    fn keep(&mut self, former: &Former<M>) {
        let copy = former.generation.inspect(|it| it.peek().image.keep());
        if let Some(Ok(copy)) = copy {
            self.kept.push_back(Earlier {
                number: former.number,
                copy,
                generation: former.generation.clone(),
            });
        }
    }

    /// More copies than are to be kept, the oldest.
    fn take_excess(&mut self) -> Vec<Kept> {
        let excess = self.kept.len().saturating_sub(self.copies_max);
        self.kept.drain(..excess).map(|it| it.copy).collect()
    }

    /// Takes the newest of the earlier generations, to load it again.
    pub(super) fn take_earlier(&mut self) -> Option<Earlier<M>> {
        self.kept.pop_back()
    }

    /// Gives one back that could not be loaded.
    pub(super) fn put_back(&mut self, earlier: Earlier<M>) {
        self.kept.push_back(earlier);
    }

    /// Ends the probation of `number` if it is due.
    pub(super) fn end_probation(&mut self, number: u64) -> Option<Ended<M>> {
        let is_live = self.live == number;
        let probation = self.probation.take_if(|it| is_live && !it.is_on())?;
        self.keep(&probation.standby);
        Some(Ended {
            standby: probation.standby,
            values: probation.values,
            copies: self.take_excess(),
        })
    }

    /// Ends the probation, whatever the time, and gives the standby. The values are not there any more
    /// ([`take_values`](Self::take_values)).
    pub(super) fn close(&mut self) -> Option<Former<M>> {
        Some(self.probation.take()?.standby)
    }
}

impl<M> Probation<M> {
    fn is_on(&self) -> bool {
        Instant::now() < self.until
    }
}
