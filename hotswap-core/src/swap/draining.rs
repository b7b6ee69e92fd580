//! A generation that was live and is still mapped. The reaper unloads it when nobody uses it, unless a rollback takes
//! it back first.
//!
//! Reaper and rollback each have a handle. One lock protects the generation, which belongs to whichever of them takes
//! it out. The reaper changes the generation's entry in the list only while it holds the lock and the generation is
//! there. So what the reaper records comes before a rollback takes the generation back, and does not overwrite what
//! the rollback records afterwards.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Generation;
use hotswap_cell::Retired;

/// A handle of a draining generation.
pub(super) struct Draining<M>(Arc<Mutex<Option<Retired<Generation<M>>>>>);

/// Why a generation cannot be unloaded now.
pub(super) enum NotDrained {
    /// Somebody uses it.
    InUse,
    /// A rollback has taken it back.
    TakenBack,
}

impl<M: Send + Sync> Draining<M> {
    pub(super) fn new(generation: Retired<Generation<M>>) -> Self {
        Self(Arc::new(Mutex::new(Some(generation))))
    }

    /// For the reaper: takes the generation out if nobody uses it any more. After that no rollback can take it.
    pub(super) fn try_drain(&self) -> Result<Generation<M>, NotDrained> {
        let mut place = self.lock();
        let retired = place.take().ok_or(NotDrained::TakenBack)?;
        retired.try_drain().map_err(|in_use| {
            *place = Some(in_use);
            NotDrained::InUse
        })
    }

    /// For a rollback: takes the generation out, to make it live again.
    pub(super) fn take(&self) -> Option<Retired<Generation<M>>> {
        self.lock().take()
    }

    /// Calls `f` with the generation, if it is still there. Whoever wants to take it waits meanwhile.
    pub(super) fn inspect<R>(&self, f: impl FnOnce(&Retired<Generation<M>>) -> R) -> Option<R> {
        self.lock().as_ref().map(f)
    }

    /// Only a bug in hotswap or a failed allocation can panic under the lock; the generation then stays mapped.
    fn lock(&self) -> MutexGuard<'_, Option<Retired<Generation<M>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Clone for Draining<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
