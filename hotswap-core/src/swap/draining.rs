//! A generation that was live and is still mapped: the reaper unloads it when nobody uses it, unless a rollback takes
//! it back before.
//!
//! Both have a handle; the generation is behind one lock, and belongs to whoever takes it out. The reaper changes what
//! the list says of it only with that lock held and the generation there. So a note of the reaper comes before the
//! generation is taken back, and what the rollback writes after that stays.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Generation;
use hotswap_cell::Retired;

/// A handle of it.
pub(super) struct Draining<M>(Arc<Mutex<Option<Retired<Generation<M>>>>>);

/// Why it cannot be unloaded.
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

    /// Takes it out if nobody uses it any more, so that nobody can take it back. For the one who unloads it.
    pub(super) fn try_drain(&self) -> Result<Generation<M>, NotDrained> {
        let mut place = self.lock();
        let retired = place.take().ok_or(NotDrained::TakenBack)?;
        retired.try_drain().map_err(|in_use| {
            *place = Some(in_use);
            NotDrained::InUse
        })
    }

    /// Takes it out, to make it live again.
    pub(super) fn take(&self) -> Option<Retired<Generation<M>>> {
        self.lock().take()
    }

    /// Keeps it where it is until the lease is dropped, if it is still there.
    pub(super) fn lease(&self) -> Option<hotswap_cell::Lease<Generation<M>>> {
        self.lock().as_ref().map(Retired::lease)
    }

    /// Calls `f` with it, if it is still there. Whoever wants to take it waits meanwhile.
    pub(super) fn inspect<R>(&self, f: impl FnOnce(&Retired<Generation<M>>) -> R) -> Option<R> {
        self.lock().as_ref().map(f)
    }

    /// A panic under the lock is a bug of ours, or no memory; the generation stays mapped then.
    fn lock(&self) -> MutexGuard<'_, Option<Retired<Generation<M>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Clone for Draining<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
