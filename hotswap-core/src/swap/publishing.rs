//! Publishing: a prepared candidate becomes the live generation.

use std::{sync::Arc, time::Instant};

use hotswap_cell::ValueId;
use hotswap_sdk::host::Interface;

use super::{
    Hotswap, Swapped,
    accepted::Accepted,
    hold,
    hung_calls::Watched,
    pipeline::Publishable,
    succession::{Locked, PublishResult},
    successor::Successor,
};
use crate::{
    error::{Error, ErrorKind, Result},
    history::{PublishKind, Recorded},
    refs,
    services::Update,
};

impl<I: Interface + ?Sized> Hotswap<I> {
    /// Makes a prepared candidate the live generation. Nothing in here can fail. The caller has to deliver what is
    /// returned after releasing its locks.
    pub(super) fn publish(
        &self,
        candidate: Publishable<I::Live>,
        kind: PublishKind,
    ) -> (Swapped, Recorded) {
        let generations = self.succession.lock();
        let successor = self.stage(&generations, candidate);
        self.publish_locked(generations, successor, kind)
    }

    /// The same for a candidate that is to replace generation `live` and no other.
    ///
    /// # Errors
    ///
    /// Another one is live. The candidate is discarded.
    pub(super) fn publish_after(
        &self,
        live: u64,
        candidate: Publishable<I::Live>,
        kind: PublishKind,
    ) -> Result<(Swapped, Recorded)> {
        let generations = self.succession.lock();
        if generations.live() != live {
            // A prepared candidate was published meanwhile, or a fault on probation has rolled back.
            drop(generations);
            let what = "another generation has become live meanwhile";
            let error = Error::new(&candidate.image.origin().given, ErrorKind::Busy { what });
            candidate.discard(self.reaper());
            return Err(error);
        }
        let successor = self.stage(&generations, candidate);
        Ok(self.publish_locked(generations, successor, kind))
    }

    /// Delivers the events of what was done, or that it was refused. The caller holds no lock.
    pub(super) fn delivered<T>(&self, done: Result<(T, Recorded)>) -> Result<T> {
        let (done, recorded) = done.inspect_err(|error| self.history.refused(error))?;
        recorded.deliver();
        Ok(done)
    }

    /// Gives a candidate its number. The number is taken for good when the generation is published, or begins as a
    /// canary, before the lock is released.
    pub(super) fn stage(
        &self,
        _: &Locked<'_, I::Live>,
        mut candidate: Publishable<I::Live>,
    ) -> Successor<I::Live> {
        let (update, phases) = (candidate.update.take(), candidate.phases);
        let logs = Arc::clone(&candidate.logs);
        let new = self.pipeline.number(candidate, self.history.next_number());
        let generation = self.cell.stage(new);
        generation.peek().set_self_lease(generation.self_lease());
        Successor {
            generation,
            update,
            phases,
            logs,
        }
    }

    pub(super) fn publish_locked(
        &self,
        mut generations: Locked<'_, I::Live>,
        successor: Successor<I::Live>,
        kind: PublishKind,
    ) -> (Swapped, Recorded) {
        let started = Instant::now();
        let mut published = successor.published(kind);
        let Successor {
            generation: new,
            update,
            logs,
            ..
        } = successor;
        let (number, polls) = (new.peek().number, new.peek().polls_id());
        let accepted = match kind {
            PublishKind::Candidate => Some(Accepted::new(number, &new.peek().image)),
            PublishKind::Configuration { .. } => Some(self.accepted().configured(number)),
            PublishKind::Rollback { .. } => None,
        };
        let PublishResult {
            before,
            probation,
            retired,
            dropped,
            values,
        } = self
            .succession
            .publish(&mut generations, &self.cell, new, kind);
        self.watch_calls(number, polls);
        published.phases.publish = started.elapsed();
        published.before = Some(before);
        published.on_probation = probation.is_some();
        let phases = published.phases;
        // Before the event: whoever gets the event asks for the path.
        if let Some(accepted) = accepted {
            self.accepted.set(accepted);
        }
        let mut recorded = self.history.published(published);
        for standby in retired.iter().filter(|it| it.number != before) {
            self.history.draining(standby.number, Vec::new());
        }
        // Under the lock, so that the live generation is the one that the update belongs to.
        let replaced_values = update.map(|update| self.publish_update(update, number));
        let replaced_values = replaced_values.and_then(|values| generations.keep_values(values));
        if let Some(until) = probation {
            // Under the lock: of two probations, the reaper watches the one that it is told of last. Never waits.
            self.reaper()
                .watch_probation(&self.succession, number, until);
        }
        drop(generations);

        logs.published();
        self.reaper().drop_copies(dropped);
        for replaced in retired {
            recorded.append(self.reaper().retire(replaced.number, replaced.generation));
        }
        refs::drop_elsewhere(replaced_values.into_iter().chain(values));
        let swapped = Swapped {
            generation: number,
            retired: before,
            phases,
        };
        (swapped, recorded)
    }

    /// Reports hung calls of the live generation from now on, if any are reported. The caller holds the succession's
    /// lock, and has not handed the previous generation to the reaper yet.
    pub(super) fn watch_calls(&self, live: u64, polls: Option<ValueId>) {
        let calls = self.cell.value_id();
        if let (Some(watchdog), Some(polls)) = (&self.hung_calls, polls) {
            watchdog.watch(Some(Watched {
                generation: live,
                calls,
                polls,
            }));
        }
    }

    /// Publishes an update. `number` is live, and nothing can change that meanwhile: the caller holds the succession's
    /// lock, or nobody else has the swap point yet.
    pub(super) fn publish_update(&self, update: Update, number: u64) -> refs::ReplacedValues {
        update.publish(number, &|holder| hold(&self.cell, holder))
    }
}
