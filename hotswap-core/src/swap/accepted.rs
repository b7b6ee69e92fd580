//! The candidate that was accepted last, for those who follow what is accepted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Sender, TrySendError};

use super::code::Code;
use crate::{digest::Sha256, given::GivenPath, stage::Kept};

/// A candidate that was published. Neither a rollback nor another configuration replaces it: no file is read for them.
pub(crate) struct Accepted {
    /// Its number, or that of the latest generation since that only has another configuration.
    pub(crate) generation: u64,
    pub(crate) path: GivenPath,
    bytes: Option<Arc<Kept>>,
}

/// The candidate that was accepted last, and who is notified of the next.
pub(super) struct LastAccepted(Mutex<AcceptedState>);

struct AcceptedState {
    accepted: Arc<Accepted>,
    followers: Vec<Sender<()>>,
}

impl Accepted {
    pub(super) fn new(generation: u64, code: &Code) -> Self {
        Self {
            generation,
            path: code.origin().given.clone(),
            bytes: code.keep().ok().map(Arc::new),
        }
    }

    /// The same candidate, after generation `generation` was published, which only has another configuration than the
    /// one that it replaced. (After a rollback, that one may be of an earlier file than this candidate.)
    pub(super) fn configured(&self, generation: u64) -> Self {
        Self {
            generation,
            path: self.path.clone(),
            bytes: self.bytes.clone(),
        }
    }

    /// The digest of the bytes that were loaded, if they are kept. Costs what [`Sha256::of`] does.
    pub(crate) fn sha256(&self) -> Option<Sha256> {
        self.bytes.as_ref()?.sha256().ok()
    }
}

impl LastAccepted {
    pub(super) fn new(accepted: Accepted) -> Self {
        Self(Mutex::new(AcceptedState {
            accepted: Arc::new(accepted),
            followers: Vec::new(),
        }))
    }

    pub(super) fn get(&self) -> Arc<Accepted> {
        Arc::clone(&self.state().accepted)
    }

    pub(super) fn set(&self, accepted: Accepted) {
        let mut state = self.state();
        state.accepted = Arc::new(accepted);
        state.notify_all();
    }

    /// Sends to `follower` after each accepted candidate, and when the swap point is dropped. Never waits: if the
    /// channel is full, it sends nothing.
    pub(super) fn notify(&self, follower: Sender<()>) {
        self.state().followers.push(follower);
    }

    /// Under the lock only a failed allocation can panic, and the state is consistent even then.
    fn state(&self) -> MutexGuard<'_, AcceptedState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LastAccepted {
    fn drop(&mut self) {
        self.state().notify_all();
    }
}

impl AcceptedState {
    /// Notifies the followers, and forgets those that are gone.
    fn notify_all(&mut self) {
        self.followers
            .retain(|it| !matches!(it.try_send(()), Err(TrySendError::Disconnected(()))));
    }
}
