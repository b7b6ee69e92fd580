//! Going back: on request, or by itself when a generation on probation does not prove itself.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::MutexGuard,
};

use abi_stable::library::RootModule;

use super::{
    Hotswap,
    pipeline::{Source, drop_update, on_short_thread},
    succession::{Generations, PublishKind, Restored},
};
use crate::{
    error::{Error, ErrorKind, Result},
    history::Return,
    refs,
};

/// What a rollback did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RolledBack {
    /// The generation that is live now.
    pub generation: u64,
    /// The one that was live, and is draining now.
    pub retired: u64,
    /// The one whose bytes were loaded again, under a new number. None: it was still mapped, as standby or because
    /// it was draining, and is live again under its old one.
    pub loaded_again: Option<u64>,
}

/// What has come of going back to the generation before as it is mapped.
enum Attempt<'a, M> {
    Ended(Result<RolledBack>),
    /// There is none, or it is on its way out. Nothing has changed; the lock is still held, or was taken again.
    NotMapped(MutexGuard<'a, Generations<M>>),
}

impl<M: RootModule + Send + Sync> Hotswap<M> {
    /// Puts the generation before back.
    ///
    /// If that is still mapped and its code is untouched, it is made live again by one store, under its old number:
    /// while it is standby because the live one is on probation, and while it drains because calls or leases keep it.
    /// That needs neither memory nor static TLS. Once it has drained it begins to leave, its hook
    /// (`before_unload`) runs, and it can only be loaded again: from the bytes that it was loaded from, whatever has
    /// become of the file since, under a new number. It goes through the pipeline of any candidate, but for
    /// the checks of the file and the trial.
    ///
    /// Each rollback goes one generation further back, as far as copies are kept
    /// ([`Settings::rollback_copies_max`](crate::Settings::rollback_copies_max)); the generation that is left is not
    /// kept.
    ///
    /// With [services](crate::Settings::services), the update of the generation that is gone back to is run first,
    /// also if that is still mapped. While the live generation is on probation, that update finds the values that the
    /// one of the live generation has migrated, written anew or deleted, as they were left; what was written to the new
    /// ones since is lost. Without a probation, or after it, it finds the new ones: there is then no way back to a
    /// generation that does not know the type of a migrated value. What was changed inside of a value that both share
    /// stays.
    ///
    /// Waits for a swap that is under way, for no call and for no lease.
    ///
    /// # Errors
    ///
    /// There is no earlier generation, or it could not be loaded again, or its update has failed. The live
    /// generation serves on.
    pub fn rollback(&self) -> Result<RolledBack> {
        if self.is_inherited() {
            let path = self.cell.with(|live| live.path().to_owned());
            self.check_process(&path)?;
        }
        let turn = self.turn();
        let mut generations = match self.restore_mapped(self.succession.lock(), None) {
            Attempt::Ended(back) => {
                drop(turn);
                return back.inspect_err(|error| self.history.refused(error));
            }
            Attempt::NotMapped(generations) => generations,
        };
        let earlier = generations.take_earlier();
        drop(generations);
        let Some(earlier) = earlier else {
            drop(turn);
            let path = self.cell.with(|live| live.path().to_owned());
            let error = Error::new(&path, ErrorKind::NoEarlierGeneration);
            self.history.refused(&error);
            return Err(error);
        };
        let number = earlier.number;
        let source = Source::Kept(&earlier.copy);
        let room = self.reaper().need_room_to_go_back(source.path());
        let prepared = room.and_then(|()| self.prepare_from(source));
        drop(turn);
        let candidate = prepared.inspect_err(|error| {
            self.succession.lock().put_back(earlier);
            self.history.refused(error);
        })?;
        let (swapped, news) = self.publish(candidate, PublishKind::Rollback, Some(number));
        news.trace();
        Ok(RolledBack {
            generation: swapped.generation,
            retired: swapped.retired,
            loaded_again: Some(number),
        })
    }

    /// Says that `generation` did something that it should not: its caught panic, an answer that cannot be
    /// right. If it is live and on probation, and this is one fault too many
    /// ([`Settings::probation_faults_max`](crate::Settings::probation_faults_max)), the generation before is
    /// made live again, here and at once; that happens at most once for each generation. `what` is told in the
    /// event then. Otherwise nothing happens.
    ///
    /// With [services](crate::Settings::services), the update of the generation before is run first, on a thread of
    /// its own. If it fails, or another candidate's is under way, that is told as a refusal, and the next fault
    /// tries again.
    ///
    /// May be called inside [`with`](Self::with). Waits for no swap that is under way, for no call and for no
    /// lease. Costs a lock.
    pub fn report_fault(&self, generation: u64, what: &str) -> Option<RolledBack> {
        if self.is_inherited() {
            return None;
        }
        let mut generations = self.succession.lock();
        if !self.succession.count_fault(&mut generations, generation) || generations.is_returning()
        {
            return None;
        }
        let faults = generations.faults();
        let plural = if faults == 1 { "" } else { "s" };
        let why = format!("{faults} fault{plural} on probation, the last: {what}");
        match self.restore_mapped(generations, Some(why)) {
            Attempt::Ended(back) => back.inspect_err(|error| self.history.refused(error)).ok(),
            Attempt::NotMapped(_) => None,
        }
    }

    /// Makes the generation before live again if it is still mapped, as standby or because it drains.
    fn restore_mapped<'a>(
        &'a self,
        mut generations: MutexGuard<'a, Generations<M>>,
        why: Option<String>,
    ) -> Attempt<'a, M> {
        // The update is gone before its generation is free to leave. Both may run code of plugins when they are
        // dropped, and that is for when no lock is held.
        let mut update_of = None;
        if let Some(services) = &self.services {
            let Some(previous) = generations.lease_previous() else {
                return Attempt::NotMapped(generations);
            };
            if !generations.begin_return() {
                drop(generations);
                let what = "a rollback is under way already";
                let kind = ErrorKind::Busy { what };
                return Attempt::Ended(Err(Error::new(previous.path(), kind)));
            }
            let (live, values) = (generations.live(), generations.values_before());
            drop(generations);
            let image = &previous.image;
            let ask = move || services.ask(image, values);
            // Unwind-safe: the panic goes on when what it must not leave behind is undone.
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
            // A standby may only drain by now. It is there nevertheless, for it is leased.
            let is_previous =
                generations.live() == live && generations.previous() == Some(previous.number());
            match asked {
                Ok(update) if is_previous => update_of = Some((update, previous)),
                Ok(update) => {
                    drop(generations);
                    drop_update(previous.path(), Some(update));
                    drop(previous);
                    return Attempt::NotMapped(self.succession.lock());
                }
                Err(error) => {
                    drop(generations);
                    return Attempt::Ended(Err(error));
                }
            }
        }
        let Some(restored) = generations.restore(&self.cell) else {
            return Attempt::NotMapped(generations);
        };
        let Restored {
            former,
            copy,
            values,
        } = restored;
        let back = RolledBack {
            generation: generations.live(),
            retired: former.number,
            loaded_again: None,
        };
        let news = self.history.rolled_back(Return {
            live: back.generation,
            left: back.retired,
            why,
        });
        let (replaced, previous) = update_of
            .map(|(update, previous)| (self.publish_update(update, back.generation), previous))
            .unzip();
        drop(generations);
        self.reaper().drop_copies(copy.into_iter().collect());
        self.reaper().retire(former.number, former.generation);
        news.trace();
        refs::drop_elsewhere(replaced.into_iter().chain(values));
        drop(previous);
        Attempt::Ended(Ok(back))
    }
}
