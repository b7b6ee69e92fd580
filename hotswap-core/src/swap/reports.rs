//! What a swap point tells its host: generations, refusals, services, values and events.

use std::{path::PathBuf, sync::Arc};

use abi_stable::StableAbi;
use crossbeam_channel::{Receiver, Sender};
use hotswap_sdk::host::Interface;

use super::{Hotswap, accepted::Accepted};
use crate::{
    digest::Sha256,
    error::{Error, ErrorKind, Result},
    history::{Event, GenerationInfo, ServiceInfo},
    owned::HostOwned,
    refs::RefInfo,
    services::Services,
    trust::Policy,
};

impl<I: Interface + ?Sized> Hotswap<I> {
    /// The path of the candidate that was accepted last. A relative path that was given to [`load`](Self::load) or
    /// [`swap`](Self::swap) is returned as absolute, by the folder that was current then. Rollbacks do not count,
    /// nor does [`swap_config`](Self::swap_config).
    pub fn last_accepted(&self) -> PathBuf {
        self.accepted().path.absolute().to_owned()
    }

    pub(crate) fn accepted(&self) -> Arc<Accepted> {
        self.accepted.get()
    }

    /// Sends to `follower` after each accepted candidate, and when the swap point is dropped.
    pub(crate) fn notify_of_accepted(&self, follower: Sender<()>) {
        self.accepted.notify(follower);
    }

    /// Whether hotswap may retry a refused candidate without being asked.
    pub(crate) fn has_room_to_retry(&self) -> bool {
        self.reaper().has_room_to_retry()
    }

    pub(crate) fn policy(&self) -> &Policy {
        self.pipeline.policy()
    }

    /// The generations, oldest first: the live one, those that are still mapped, and the last of those that are
    /// unloaded (see [`Settings`](crate::Settings)).
    pub fn generations(&self) -> Vec<GenerationInfo> {
        self.history.generations()
    }

    /// The SHA-256 of the file that generation `number` was loaded from. `None`: there is no such generation, or its
    /// bytes are not kept any more.
    ///
    /// hotswap keeps the bytes of the live generation, of a standby, and of those that a rollback can go back to
    /// ([`Settings::rollback_copies_max`](crate::Settings::rollback_copies_max)). It remembers a digest that it has
    /// computed once for as long as the generation is in the list.
    ///
    /// Costs what [`Sha256::of`] costs, on the calling thread, unless the digest is known. Waits for nobody.
    pub fn sha256(&self, number: u64) -> Option<Sha256> {
        if let Some(known) = self.history.sha256(number) {
            return Some(known);
        }
        let live = self.cell.lease();
        let copy = if live.number == number {
            live.image.keep().ok()
        } else {
            self.succession.lock().copy_of(number)
        };
        drop(live);
        let sha256 = copy?.sha256().ok()?;
        self.history.hashed(number, sha256);
        Some(sha256)
    }

    /// The candidates that were refused after the first generation was published, oldest first. Only the last ones
    /// are kept (see [`Settings`](crate::Settings)).
    pub fn refused(&self) -> Vec<Event> {
        self.history.refusals()
    }

    /// The services, in the order in which they were started: those that run, and the last of each name that the
    /// latest update mentioned. Empty unless [`Settings::services`](crate::Settings::services) is set.
    pub fn services(&self) -> Vec<ServiceInfo> {
        self.services.as_ref().map_or_else(Vec::new, Services::list)
    }

    /// The values and channels that outlive generations, by name. Empty unless
    /// [`Settings::services`](crate::Settings::services) is set.
    pub fn refs(&self) -> Vec<RefInfo> {
        self.services.as_ref().map_or_else(Vec::new, Services::refs)
    }

    /// Calls `f` with the value of this name. `None`: there is no such value.
    ///
    /// If the value has locks of its own, `f` may wait for whoever holds them; nothing else waits.
    ///
    /// # Errors
    ///
    /// The value has another type ([`ErrorKind::RefType`]); nothing of it is read. The error's path is that of the
    /// live generation.
    pub fn with_ref<T, R>(&self, name: &str, f: impl FnOnce(&T) -> R) -> Result<Option<R>>
    where
        T: StableAbi + Send + Sync + 'static,
        R: HostOwned,
    {
        let found = self.services.as_ref().map(|services| services.get(name));
        let found = found.transpose().map_err(|problem| {
            let path = self.path_of_live();
            let name = name.to_owned();
            Error::new(&path, ErrorKind::RefType { name, problem })
        })?;
        Ok(found.flatten().map(|value| f(&value)))
    }

    /// A queue of the events. Every receiver gets every event. The first receiver also gets those from before it was
    /// asked for, from the first generation on. Tasks of an executor use [`event_stream`](Self::event_stream).
    ///
    /// Nobody waits for a receiver. A slow one misses events, and is told how many
    /// ([`Limits::events_max`](crate::Limits::events_max), [`EventKind::Missed`](crate::EventKind::Missed)). One that
    /// was dropped is forgotten at the next event. The queues end when the swap point is shut down or dropped and each
    /// of its generations is unloaded or pinned.
    pub fn events(&self) -> Receiver<Event> {
        self.history.events()
    }
}
