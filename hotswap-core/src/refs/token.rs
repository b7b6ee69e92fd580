//! What wakes a service that is to stop.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use hotswap_sdk::Stop;

/// The token of one service. It is set when there is no sender any more, which every waiting receiver notices.
pub(crate) struct Token {
    sender: Mutex<Option<Sender<()>>>,
    set: Receiver<()>,
}

impl Token {
    pub(crate) fn new() -> Self {
        let (sender, set) = bounded(0);
        Self {
            sender: Mutex::new(Some(sender)),
            set,
        }
    }

    /// Wakes all that wait with it, now and later. `true`: it was not set before.
    pub(crate) fn set(&self) -> bool {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.take().is_some()
    }

    /// The plugin's handle.
    pub(crate) fn stop(self: &Arc<Self>) -> Stop {
        // SAFETY: this is the only place in which one is made.
        unsafe { Stop::new(Arc::clone(self)) }
    }

    /// What is ready when the token is set, for a `select!`.
    pub(crate) fn ready_when_set(&self) -> &Receiver<()> {
        &self.set
    }

    /// The token behind a plugin's handle.
    pub(super) fn of(stop: &Stop) -> &Self {
        // SAFETY: `stop` above is the only place in which one is made, as every other maker has promised
        // (`Stop::new`).
        unsafe { stop.token().object() }
    }
}

impl hotswap_sdk::host::Token for Token {
    fn is_set(&self) -> bool {
        self.set.try_recv() == Err(TryRecvError::Disconnected)
    }

    fn sleep(&self, time: Duration) -> bool {
        self.set.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }
}
