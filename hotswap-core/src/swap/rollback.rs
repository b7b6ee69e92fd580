//! Going back to an earlier generation: on request, or automatically after faults on probation.

use std::panic::{self, AssertUnwindSafe};

use hotswap_sdk::host::Interface;

use super::{
    Hotswap,
    pipeline::{Source, drop_update, on_short_thread},
    reaper::check_thread,
    succession::{Generations, Locked, Restored},
};
use crate::{
    error::{Error, ErrorKind, Result},
    history::{PublishKind, Recorded},
    refs,
};

/// What a rollback did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RolledBack {
    /// The generation that is live now.
    pub generation: u64,
    /// The generation that was live, and is draining now.
    pub retired: u64,
    /// The generation whose bytes were loaded again, under a new number. `None`: the earlier generation was still
    /// mapped, as standby or draining, and is live again under its old number.
    pub loaded_again: Option<u64>,
}

/// The result of going back to the previous generation as it is mapped.
enum Restoration<'a, M> {
    /// With what the caller delivers after releasing its turn.
    Ended(Result<(RolledBack, Recorded)>),
    /// There is no previous generation, or it has drained and is being unloaded. Nothing has changed, and the lock is
    /// held (still, or again).
    NotMapped(Locked<'a, M>),
}

impl<I: Interface + ?Sized> Hotswap<I> {
    /// Makes the previous generation live again.
    ///
    /// If it is still mapped and has not begun to unload, one store makes it live again, under its old number. That
    /// is so while it is standby because the live generation is on probation, and while it drains because calls or
    /// leases hold it. It needs neither memory nor static TLS.
    ///
    /// Once it has drained, it is unloaded and its hook (`before_unload`) runs. Then it can only be loaded again,
    /// under a new number: from the bytes that it was loaded from, whatever has become of the file since. It passes
    /// through the same pipeline as any candidate, except for the checks of the file and the trial.
    ///
    /// Each rollback goes one generation further back, as far as copies are kept
    /// ([`Settings::rollback_copies_max`](crate::Settings::rollback_copies_max)); the generation that it replaces is
    /// not kept.
    ///
    /// With [services](crate::Settings::services), the update of the earlier generation runs first, even if that
    /// generation is still mapped. While the live generation is on probation, that update finds the values that the
    /// live generation's update migrated, wrote anew or deleted, as that update left them; what was written to the
    /// new values since is lost. Without a probation, or after it, the update finds the new values; there is then no
    /// way back to a generation that does not know the type of a migrated value. Changes inside a value that both
    /// generations share stay. A [`Canary`](crate::canary::Canary) is abandoned first, if there is one.
    ///
    /// Waits for a swap that is under way, for no call and for no lease. Tasks of an executor use
    /// [`rollback_async`](Self::rollback_async).
    ///
    /// # Errors
    ///
    /// There is no earlier generation (no event says so), or it could not be loaded again, or its update has failed, or
    /// another generation has become live while it was loaded ([`ErrorKind::Busy`]). The live generation keeps serving.
    pub fn rollback(&self) -> Result<RolledBack> {
        if self.is_inherited() {
            let path = self.path_of_live();
            self.check_process(&path)?;
        }
        check_thread(&self.path_of_live()).inspect_err(|error| self.history.refused(error))?;
        let has_earlier = self.succession.lock().previous().is_some();
        if has_earlier {
            self.abandon_canary_for_rollback();
        }
        let turn = self.turn();
        let generations = match self.restore_mapped(self.succession.lock(), None) {
            Restoration::Ended(back) => {
                drop(turn);
                return self.delivered(back);
            }
            Restoration::NotMapped(generations) => generations,
        };
        let (live, earlier) = (generations.live(), generations.earlier_copy());
        drop(generations);
        let Some((number, copy)) = earlier else {
            drop(turn);
            let path = self.path_of_live();
            // No event: nothing was refused, and the path is that of the live generation.
            return Err(Error::new(&path, ErrorKind::NoEarlierGeneration));
        };
        let published = copy.and_then(|copy| {
            let source = Source::Kept(&copy);
            self.reaper().check_room_for_rollback(source.path())?;
            let candidate = self.prepare_from(source)?;
            self.publish_after(live, candidate, PublishKind::Rollback { to: number })
        });
        drop(turn);
        let swapped = self.delivered(published)?;
        Ok(RolledBack {
            generation: swapped.generation,
            retired: swapped.retired,
            loaded_again: Some(number),
        })
    }

    /// Reports that `generation` did something wrong: a panic that the host caught, or an answer that cannot be
    /// right.
    ///
    /// If that generation is live and on probation, and has now had more faults than it may have
    /// ([`Settings::probation_faults_max`](crate::Settings::probation_faults_max)), this makes the previous
    /// generation live again before it returns; that happens at most once for each generation. The event then
    /// contains `what`. Otherwise nothing happens.
    ///
    /// With [services](crate::Settings::services), a [`Canary`](crate::canary::Canary) is abandoned first, if there is
    /// one. Then the update of the previous generation runs, on a thread of its own. If it fails, or another
    /// candidate's update is running, an event reports the refusal, and the next fault tries again.
    ///
    /// May be called inside [`with`](Self::with). Costs a lock. Waits for no swap that is under way, for no call and
    /// for no lease.
    pub fn report_fault(&self, generation: u64, what: &str) -> Option<RolledBack> {
        if self.is_inherited() {
            return None;
        }
        let mut generations = self.succession.lock();
        self.succession.count_fault(&mut generations, generation);
        let is_to_return = |generations: &Generations<_>| {
            self.succession.has_too_many_faults(generations, generation)
                && !generations.is_returning()
        };
        if !is_to_return(&generations) {
            return None;
        }
        if self.services.is_some() {
            drop(generations);
            self.abandon_canary_for_rollback();
            generations = self.succession.lock();
            // Another thread may have gone back or swapped meanwhile.
            if !is_to_return(&generations) {
                return None;
            }
        }
        let faults = generations.faults();
        let plural = if faults == 1 { "" } else { "s" };
        let why = format!("{faults} fault{plural} on probation, the last: {what}");
        match self.restore_mapped(generations, Some(why)) {
            Restoration::Ended(back) => self.delivered(back).ok(),
            Restoration::NotMapped(_) => None,
        }
    }

    /// Makes the previous generation live again if it is still mapped, as standby or draining.
    fn restore_mapped<'a>(
        &'a self,
        mut generations: Locked<'a, I::Live>,
        why: Option<String>,
    ) -> Restoration<'a, I::Live> {
        // The update has to be dropped before its generation may be unloaded. Dropping either may run code of
        // plugins, so both happen after the lock is released.
        let mut update_of = None;
        // A built-in value has no update.
        let is_built_in = generations.is_previous_built_in();
        if let Some(services) = self.services.as_ref().filter(|_| !is_built_in) {
            let Some(previous) = generations.lease_previous() else {
                return Restoration::NotMapped(generations);
            };
            let Some(image) = previous.image.image() else {
                return Restoration::NotMapped(generations);
            };
            if !generations.begin_return() {
                drop(generations);
                let what = "a rollback is under way already";
                let kind = ErrorKind::Busy { what };
                return Restoration::Ended(Err(Error::new(previous.path(), kind)));
            }
            let (live, values) = (generations.live(), generations.values_before());
            drop(generations);
            let ask = move || services.ask(image, values);
            // Unwind-safe: the panic continues after `end_return`.
            let asked = panic::catch_unwind(AssertUnwindSafe(|| {
                on_short_thread(previous.path(), ask).flatten()
            }));
            generations = self.succession.lock();
            generations.end_return();
            let asked = match asked {
                Ok(asked) => asked,
                Err(panicked) => {
                    drop(generations);
                    panic::resume_unwind(panicked);
                }
            };
            // The standby may have begun to drain meanwhile. It is still mapped, since it is leased.
            let is_previous =
                generations.live() == live && generations.previous() == Some(previous.number());
            match asked {
                Ok(update) if is_previous => update_of = Some((update, previous)),
                Ok(update) => {
                    drop(generations);
                    drop_update(previous.path(), Some(update));
                    drop(previous);
                    return Restoration::NotMapped(self.succession.lock());
                }
                Err(error) => {
                    drop(generations);
                    return Restoration::Ended(Err(error));
                }
            }
        }
        let Some(restored) = generations.restore(&self.cell) else {
            return Restoration::NotMapped(generations);
        };
        let Restored {
            replaced,
            copy,
            values,
            polls,
        } = restored;
        self.watch_calls(generations.live(), polls);
        let back = RolledBack {
            generation: generations.live(),
            retired: replaced.number,
            loaded_again: None,
        };
        let mut recorded = self.history.rolled_back(back.generation, back.retired, why);
        let (replaced_values, previous) = update_of
            .map(|(update, previous)| (self.publish_update(update, back.generation), previous))
            .unzip();
        drop(generations);
        self.reaper().drop_copies(copy.into_iter().collect());
        recorded.append(self.reaper().retire(replaced.number, replaced.generation));
        refs::drop_elsewhere(replaced_values.into_iter().chain(values));
        drop(previous);
        Restoration::Ended(Ok((back, recorded)))
    }
}
