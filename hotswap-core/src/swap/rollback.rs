//! Going back: on request, or by itself when a generation on probation does not prove itself.

use std::sync::MutexGuard;

use abi_stable::library::RootModule;

use super::{
    Hotswap,
    road::Source,
    succession::{Line, Manner},
};
use crate::{
    error::{Error, Result, Stage},
    history::Return,
};

/// What a rollback did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RolledBack {
    /// The generation that is live now.
    pub generation: u64,
    /// The one that was live, and is draining now.
    pub retired: u64,
    /// The one whose bytes were loaded again, under a new number. None: it was still mapped, and is live again
    /// under its old one.
    pub loaded_again: Option<u64>,
}

impl<M: RootModule + Send + Sync> Hotswap<M> {
    /// Puts the generation before back.
    ///
    /// While the live generation is on probation, its predecessor is still mapped, and is made live again by
    /// one store. Otherwise it is loaded again, from the bytes that it was loaded from, whatever has become of
    /// the file since; that walks the road of any candidate, but for the checks of the file and the trial,
    /// and gives a new number. Each rollback goes one generation further back, as far as copies are kept
    /// ([`Settings::rollback_copies_max`](crate::Settings::rollback_copies_max)); the generation that is
    /// left is not kept.
    ///
    /// With [services](crate::Settings::services), the update of the generation that is gone back to is run first,
    /// also if that is still mapped.
    ///
    /// Waits for a swap that is under way, for no call and for no lease.
    ///
    /// # Errors
    ///
    /// There is no earlier generation, or it could not be loaded again, or its update has failed. The live
    /// generation serves on.
    pub fn rollback(&self) -> Result<RolledBack> {
        let turn = self.turn();
        let mut line = match self.restore_standby(self.succession.lock(), None) {
            Ok(back) => {
                drop(turn);
                return back.inspect_err(|error| self.history.refused(error));
            }
            Err(line) => line,
        };
        let copy = line.take_copy();
        drop(line);
        let Some((number, copy)) = copy else {
            drop(turn);
            let path = self.cell.with(|live| live.path().to_owned());
            let what = "there is no earlier generation to go back to";
            let error = Error::new(Stage::Host, &path, what);
            self.history.refused(&error);
            return Err(error);
        };
        let prepared = self.prepare_from(Source::Kept(&copy));
        drop(turn);
        let candidate = prepared.inspect_err(|error| {
            self.succession.lock().put_back((number, copy));
            self.history.refused(error);
        })?;
        let (swapped, news) = self.publish(candidate, Manner::Rollback, Some(number));
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
        let mut line = self.succession.lock();
        if !self.succession.count_fault(&mut line, generation) || line.is_returning() {
            return None;
        }
        let faults = line.faults();
        let plural = if faults == 1 { "" } else { "s" };
        let why = format!("{faults} fault{plural} on probation, the last: {what}");
        let back = self.restore_standby(line, Some(why)).ok()?;
        back.inspect_err(|error| self.history.refused(error)).ok()
    }

    /// Gives the line back if there is no standby.
    fn restore_standby<'a>(
        &'a self,
        mut line: MutexGuard<'a, Line<M>>,
        why: Option<String>,
    ) -> std::result::Result<Result<RolledBack>, MutexGuard<'a, Line<M>>> {
        // Its update is gone before the standby is free to leave. Both may run code of plugins when they are
        // dropped, and that is for when no lock is held.
        let mut update_of = None;
        if let Some(services) = &self.services {
            let Some(standby) = line.lease_standby() else {
                return Err(line);
            };
            if !line.begin_return() {
                drop(line);
                let what = "a rollback is under way already";
                return Ok(Err(Error::new(Stage::Host, standby.path(), what)));
            }
            drop(line);
            let asked = standby.image.opener().run(|| services.ask(&standby.image));
            line = self.succession.lock();
            line.end_return();
            let is_there = line.standby() == Some(standby.number());
            match asked {
                Ok(update) if is_there => update_of = Some((update, standby)),
                Ok(update) => {
                    drop(line);
                    drop(update);
                    drop(standby);
                    return Err(self.succession.lock());
                }
                Err(error) => {
                    drop(line);
                    return Ok(Err(error));
                }
            }
        }
        let Some(former) = line.restore(&self.cell) else {
            return Err(line);
        };
        let back = RolledBack {
            generation: line.live(),
            retired: former.number,
            loaded_again: None,
        };
        let news = self.history.rolled_back(Return {
            live: back.generation,
            left: back.retired,
            why,
        });
        let replaced = update_of
            .map(|(update, standby)| (self.publish_update(update, back.generation), standby));
        drop(line);
        self.reaper().retire(former.number, former.generation);
        news.trace();
        drop(replaced);
        Ok(Ok(back))
    }
}
