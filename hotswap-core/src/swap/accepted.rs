//! The candidate that was accepted last, for those who follow what is accepted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Sender, TrySendError};

use crate::{digest::Sha256, given::GivenPath, image::Image, stage::Kept};

/// A candidate that was published. A rollback is none: it asks for no candidate.
pub(crate) struct Accepted {
    /// The number that it was given.
    pub(crate) generation: u64,
    pub(crate) path: GivenPath,
    bytes: Option<Kept>,
}

/// The last of them, and who wants to know of the next.
pub(super) struct LastAccepted(Mutex<State>);

struct State {
    accepted: Arc<Accepted>,
    followers: Vec<Sender<()>>,
}

impl Accepted {
    pub(super) fn of(generation: u64, image: &Image) -> Self {
        Self {
            generation,
            path: image.origin().given.clone(),
            bytes: image.keep().ok(),
        }
    }

    /// What was loaded, if that can be told. Costs what [`Sha256::of`] does.
    pub(crate) fn sha256(&self) -> Option<Sha256> {
        self.bytes.as_ref()?.sha256().ok()
    }
}

impl LastAccepted {
    pub(super) fn new(accepted: Accepted) -> Self {
        Self(Mutex::new(State {
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
        state.tell();
    }

    /// Sends to `follower` after each that is accepted, and at the end. Never waits for there to be room.
    pub(super) fn tell(&self, follower: Sender<()>) {
        self.state().followers.push(follower);
    }

    /// A panic under the lock could only come from a failed allocation; the state is whole even then.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LastAccepted {
    fn drop(&mut self) {
        self.state().tell();
    }
}

impl State {
    /// Forgets those that have gone.
    fn tell(&mut self) {
        self.followers
            .retain(|it| !matches!(it.try_send(()), Err(TrySendError::Disconnected(()))));
    }
}
