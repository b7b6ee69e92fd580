//! When the reaper looks at what is retired.
//!
//! It asks again and again, because a call that ends tells nobody: that would cost every call, to save a look now and
//! then. The pauses grow from [`SHORTEST_PAUSE`] to [`LONGEST_PAUSE`], and begin anew when something happens. They are
//! at least [`REST`] times as long as the look before took: neither many threads nor many generations that are held
//! take more than a fifth of a processor, or keep new work waiting.

use std::{
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};

const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// How many times as long as a look the pause after it is.
const REST: u32 = 4;

/// When to look at everything.
pub(super) struct Looks {
    pause: Duration,
    pub(super) next: Instant,
    /// Not before.
    pub(super) rested: Instant,
}

impl Looks {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            pause: SHORTEST_PAUSE,
            next: now,
            rested: now,
        }
    }

    /// After a look that took so long.
    pub(super) fn rest_from(&mut self, look: Duration) {
        let now = Instant::now();
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
        self.next = now + self.pause;
        self.rested = now + look * REST;
    }

    /// Something has happened.
    pub(super) fn hurry(&mut self) {
        self.pause = SHORTEST_PAUSE;
        self.next = self.next.min(Instant::now() + self.pause);
    }
}

/// The next job, or [`Timeout`](RecvTimeoutError::Timeout) when it is time for a look.
pub(super) fn next_job<J>(
    inbox: &Receiver<J>,
    next_look: Option<Instant>,
    open: bool,
) -> Result<J, RecvTimeoutError> {
    match next_look {
        None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        // Also when there are always more.
        Some(next_look) if Instant::now() >= next_look => Err(RecvTimeoutError::Timeout),
        Some(next_look) if open => inbox.recv_deadline(next_look),
        Some(next_look) => {
            thread::sleep(next_look.saturating_duration_since(Instant::now()));
            Err(RecvTimeoutError::Timeout)
        }
    }
}
