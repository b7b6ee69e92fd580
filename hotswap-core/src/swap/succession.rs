//! Which generation is live, and which one a rollback goes back to.
//!
//! Every change of the live generation happens under one lock. It is held for one store and some bookkeeping, never
//! while a candidate is prepared. So a fault that brings a generation back does not wait for a swap that is under
//! way, and a swap that is published meanwhile does not mix with it. Callers of the plugin never take the lock.
//!
//! This module knows neither how candidates are made nor how generations are unloaded: it returns what is not needed
//! any more.

use std::{
    collections::VecDeque,
    mem,
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hotswap_cell::{CallbackDeferral, Cell, Retired, ValueId};

use super::{Generation, draining::Draining};
use crate::{
    deadline::deadline,
    error::{Error, ErrorKind, Result},
    history::PublishKind,
    refs,
    stage::Kept,
};

/// The generations of one swap point.
pub(super) struct Succession<M> {
    generations: Mutex<Generations<M>>,
    probation: Option<Duration>,
    faults_max: u32,
}

/// The state that the lock protects.
pub(super) struct Generations<M> {
    live: u64,
    /// `Some` while the live generation is on probation.
    probation: Option<Probation<M>>,
    /// Generations that were live and can be loaded again, the newest last.
    kept: VecDeque<Earlier<M>>,
    copies_max: usize,
    /// Whether the update of an earlier generation is running, for a rollback to it.
    returning: bool,
}

struct Probation<M> {
    until: Instant,
    faults: u32,
    /// The previous generation, still mapped.
    standby: Replaced<M>,
    /// The values whose names the update of the live generation has taken.
    values: Option<refs::ReplacedValues>,
}

/// A generation that was live.
pub(super) struct Replaced<M> {
    pub(super) number: u64,
    pub(super) generation: Draining<M>,
}

/// An earlier generation that a rollback can go back to.
struct Earlier<M> {
    number: u64,
    copy: Kept,
    /// While it drains, a rollback makes it live again without loading the copy.
    generation: Draining<M>,
}

/// What publishing changed, and what it made superfluous.
pub(super) struct PublishResult<M> {
    /// The number of the generation that was live.
    pub(super) before: u64,
    /// When the probation of the new generation ends. The previous one is standby until then.
    pub(super) probation: Option<Instant>,
    /// Generations to retire.
    pub(super) retired: Vec<Replaced<M>>,
    /// Copies to drop. Dropping the last handle of one gives back its memory, which takes a while.
    pub(super) dropped: Vec<Kept>,
    /// Values to drop.
    pub(super) values: Option<refs::ReplacedValues>,
}

/// The locked state. Destructors of plugins do not run on the thread that has it: they may call the host, and the host
/// this swap point.
pub(super) struct Locked<'a, M> {
    // Unlocked before the deferral ends.
    generations: MutexGuard<'a, Generations<M>>,
    _deferral: CallbackDeferral,
}

impl<M> Deref for Locked<'_, M> {
    type Target = Generations<M>;

    fn deref(&self) -> &Generations<M> {
        &self.generations
    }
}

impl<M> DerefMut for Locked<'_, M> {
    fn deref_mut(&mut self) -> &mut Generations<M> {
        &mut self.generations
    }
}

/// What is not needed any more after an earlier generation was made live again.
pub(super) struct Restored<M> {
    /// The generation that was live.
    pub(super) replaced: Replaced<M>,
    pub(super) copy: Option<Kept>,
    pub(super) values: Option<refs::ReplacedValues>,
    /// What the futures of the restored generation enter while they are polled.
    pub(super) polls: Option<ValueId>,
}

/// What is not needed any more after a probation has ended.
pub(super) struct Ended<M> {
    pub(super) standby: Replaced<M>,
    pub(super) values: Option<refs::ReplacedValues>,
    pub(super) copies: Vec<Kept>,
}

impl<M: Send + Sync> Succession<M> {
    /// Starts with generation 1 live.
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

    /// Under the lock only a failed allocation can panic, and the state is consistent even then.
    pub(super) fn lock(&self) -> Locked<'_, M> {
        Locked {
            _deferral: hotswap_cell::defer_callbacks(),
            generations: self
                .generations
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Makes a staged generation live. After a rollback, the generation that it replaces cannot be rolled back to.
    pub(super) fn publish(
        &self,
        generations: &mut Generations<M>,
        cell: &Cell<Generation<M>>,
        new: Retired<Generation<M>>,
        kind: PublishKind,
    ) -> PublishResult<M> {
        let (number, before) = (new.peek().number, generations.live);
        // Computed before the new generation is live: after that nothing may fail.
        let is_rollback = matches!(kind, PublishKind::Rollback { .. });
        let probation = self.probation.filter(|_| !is_rollback);
        let until = probation.map(|time| deadline(Instant::now(), time));
        let generation = cell.restore(new);
        generations.live = number;
        let replaced = Replaced {
            number: before,
            generation: Draining::new(generation),
        };
        let ended = generations.probation.take();
        let (standby, values) = ended.map(|it| (it.standby, it.values)).unzip();
        let mut retired: Vec<_> = standby.into_iter().collect();
        retired.iter().for_each(|standby| generations.keep(standby));
        match until {
            Some(until) => {
                generations.probation = Some(Probation {
                    until,
                    faults: 0,
                    standby: replaced,
                    values: None,
                });
            }
            None => {
                if !is_rollback {
                    generations.keep(&replaced);
                }
                retired.push(replaced);
            }
        }
        let mut dropped = generations.take_excess();
        if let PublishKind::Rollback { to } = kind {
            dropped.extend(generations.remove(to));
        }
        PublishResult {
            before,
            probation: until,
            retired,
            dropped,
            values: values.flatten(),
        }
    }

    /// Counts a fault of generation `number`, if that is live and on probation.
    pub(super) fn count_fault(&self, generations: &mut Generations<M>, number: u64) {
        let is_live = generations.live == number;
        let probation = generations.probation.as_mut();
        if let Some(probation) = probation.filter(|it| is_live && it.is_on()) {
            probation.faults += 1;
        }
    }

    /// Whether generation `number` is live and on probation, and has had more faults than it may have.
    pub(super) fn has_too_many_faults(&self, generations: &Generations<M>, number: u64) -> bool {
        let is_live = generations.live == number;
        let probation = generations.probation.as_ref();
        probation.is_some_and(|it| is_live && it.is_on() && it.faults > self.faults_max)
    }
}

impl<M: Send + Sync> Generations<M> {
    pub(super) fn live(&self) -> u64 {
        self.live
    }

    pub(super) fn faults(&self) -> u32 {
        self.probation.as_ref().map_or(0, |it| it.faults)
    }

    /// The generation that a rollback goes back to, even if that one is being unloaded, and its number.
    fn earlier(&self) -> Option<(u64, &Draining<M>)> {
        match &self.probation {
            Some(Probation { standby, .. }) => Some((standby.number, &standby.generation)),
            None => self.kept.back().map(|it| (it.number, &it.generation)),
        }
    }

    /// Leases the generation that a rollback goes back to. `None`: there is none, or it has drained and is being
    /// unloaded.
    pub(super) fn lease_previous(&self) -> Option<hotswap_cell::Lease<Generation<M>>> {
        self.earlier()?.1.inspect(Retired::lease)
    }

    /// Whether it is a value of the host's own.
    pub(super) fn is_previous_built_in(&self) -> bool {
        let is_built_in = |it: &Retired<Generation<M>>| it.peek().image.image().is_none();
        let previous = self.earlier();
        let previous = previous.and_then(|(_, it)| it.inspect(is_built_in));
        previous.unwrap_or_default()
    }

    /// Its number.
    pub(super) fn previous(&self) -> Option<u64> {
        self.earlier().map(|(number, _)| number)
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

    /// Keeps the values that the update of the live generation has replaced, if that generation is on probation.
    /// Returns those that are not kept.
    pub(super) fn keep_values(
        &mut self,
        values: refs::ReplacedValues,
    ) -> Option<refs::ReplacedValues> {
        match &mut self.probation {
            Some(probation) if !values.is_empty() => probation.values.replace(values),
            _ => Some(values),
        }
    }

    /// Takes the values that [`keep_values`](Self::keep_values) has kept, when nobody will go back from the live
    /// generation any more.
    pub(super) fn take_values(&mut self) -> Option<refs::ReplacedValues> {
        self.probation.as_mut()?.values.take()
    }

    /// The values that the previous generation will find under their names again.
    pub(super) fn values_before(&self) -> refs::Names {
        let values = self.probation.as_ref().and_then(|it| it.values.as_ref());
        values.map(|it| it.names().clone()).unwrap_or_default()
    }

    /// Notes that the update of an earlier generation begins, for a rollback. `false`: one is running already.
    pub(super) fn begin_return(&mut self) -> bool {
        !mem::replace(&mut self.returning, true)
    }

    /// Notes that this update has ended.
    pub(super) fn end_return(&mut self) {
        self.returning = false;
    }

    pub(super) fn is_returning(&self) -> bool {
        self.returning
    }

    /// Makes the standby live again, or without one the newest earlier generation. `None`: there is none, or it has
    /// drained and is being unloaded. Returns what is not needed any more.
    pub(super) fn restore(&mut self, cell: &Cell<Generation<M>>) -> Option<Restored<M>> {
        let (number, generation, copy, values) = match self.probation.take() {
            // A standby is not given to the reaper, so it is still there.
            Some(Probation {
                standby, values, ..
            }) => (standby.number, standby.generation.take()?, None, values),
            None => {
                let generation = self.kept.back()?.generation.take()?;
                let Earlier { number, copy, .. } = self.kept.pop_back()?;
                (number, generation, Some(copy), None)
            }
        };
        let polls = generation.peek().polls_id();
        let replaced = Replaced {
            number: self.live,
            generation: Draining::new(cell.restore(generation)),
        };
        self.live = number;
        Some(Restored {
            replaced,
            copy,
            values,
            polls,
        })
    }

    /// Keeps the copy and handle of a generation that begins to drain, for a rollback. (A standby needs no copy: it
    /// stays mapped.)
    fn keep(&mut self, replaced: &Replaced<M>) {
        let copy = replaced.generation.inspect(|it| it.peek().image.keep());
        if let Some(Ok(copy)) = copy {
            self.kept.push_back(Earlier {
                number: replaced.number,
                copy,
                generation: replaced.generation.clone(),
            });
        }
    }

    /// Removes the copy of an earlier generation that was loaded again.
    fn remove(&mut self, number: u64) -> Option<Kept> {
        let place = self.kept.iter().rposition(|it| it.number == number)?;
        Some(self.kept.remove(place)?.copy)
    }

    /// Removes the oldest copies beyond the maximum, and returns them.
    fn take_excess(&mut self) -> Vec<Kept> {
        let excess = self.kept.len().saturating_sub(self.copies_max);
        self.kept.drain(..excess).map(|it| it.copy).collect()
    }

    /// The number and the bytes of the newest earlier generation, to load it again.
    pub(super) fn earlier_copy(&self) -> Option<(u64, Result<Kept>)> {
        let Earlier { number, copy, .. } = self.kept.back()?;
        let path = &copy.origin().given;
        let copy = copy.try_clone();
        let copy = copy.map_err(|error| Error::new(path, ErrorKind::cannot_copy(error)));
        Some((*number, copy))
    }

    /// Ends the probation of generation `number` if its time is over.
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

    /// Ends the probation early, and returns the standby. Call [`take_values`](Self::take_values) first, or its
    /// values are dropped here, under the lock.
    pub(super) fn close(&mut self) -> Option<Replaced<M>> {
        Some(self.probation.take()?.standby)
    }
}

impl<M> Probation<M> {
    fn is_on(&self) -> bool {
        Instant::now() < self.until
    }
}
