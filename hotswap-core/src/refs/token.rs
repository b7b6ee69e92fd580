//! The token that tells a service to stop, and wakes it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use hotswap_sdk::Stop;

/// The token of one service. It is set by dropping the sender, which every waiting receiver notices.
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

    /// Sets the token, and wakes all current and later waiters. Returns whether the token was not set before.
    pub(crate) fn set(&self) -> bool {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.take().is_some()
    }

    /// The handle for the plugin.
    pub(crate) fn stop(self: &Arc<Self>) -> Stop {
        // SAFETY: the object is a `Token`, and `of` reads it as one. This is the only place that creates a `Stop`.
        unsafe { Stop::new(Arc::clone(self)) }
    }

    /// A receiver for `select!`, which is ready once the token is set.
    pub(crate) fn ready_when_set(&self) -> &Receiver<()> {
        &self.set
    }

    /// The token that a plugin's handle refers to.
    pub(super) fn of(stop: &Stop) -> &Self {
        // SAFETY: only `stop` above creates a `Stop`, from a `Token`; `Stop::new` demands that of every creator.
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
