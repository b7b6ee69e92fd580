//! When the reaper checks again whether retired generations can be unloaded.
//!
//! It polls, because a call that ends notifies nobody: a notification would cost every call, to save a few polls. The
//! pauses grow from [`SHORTEST_PAUSE`] to [`LONGEST_PAUSE`], and are short again after each change.
//!
//! A pause also lasts at least [`PAUSE_FACTOR`] times as long as the last poll took to find calls and leases and to
//! record the holders. So whatever the number of threads and held generations, that search takes at most one part in
//! [`PAUSE_FACTOR`] + 1 of the time, and new work is taken in between. A new generation is checked when it arrives,
//! even during a pause; the next pause is longer for it.
//!
//! The time spent on images that nobody calls any more is not measured: running hooks, asking for their remaining
//! threads and destructors, closing them.

use std::{
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};

const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// A pause lasts at least this many times as long as the search for holders before it.
const PAUSE_FACTOR: u32 = 4;

/// When to poll next, and the current pause.
pub(super) struct Polling {
    pause: Duration,
    pub(super) next: Instant,
    /// The next poll is not earlier than this, whatever else is due.
    pub(super) not_before: Instant,
}

impl Polling {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            pause: SHORTEST_PAUSE,
            next: now,
            not_before: now,
        }
    }

    /// Begins the pause after a poll. `search_time` is the time that the search for holders took since the last pause
    /// began.
    pub(super) fn pause_after(&mut self, search_time: Duration) {
        let now = Instant::now();
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
        self.next = now + self.pause;
        self.not_before = now + search_time * PAUSE_FACTOR;
    }

    /// Makes the pauses short again, after a change.
    pub(super) fn restart(&mut self) {
        self.pause = SHORTEST_PAUSE;
        self.next = self.next.min(Instant::now() + self.pause);
    }
}

/// Waits for the next task, or until it is time to poll ([`Timeout`](RecvTimeoutError::Timeout)).
pub(super) fn next_task<T>(
    inbox: &Receiver<T>,
    next_poll: Option<Instant>,
    open: bool,
) -> Result<T, RecvTimeoutError> {
    match next_poll {
        None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        // Poll even if there is always another task.
        Some(next_poll) if Instant::now() >= next_poll => Err(RecvTimeoutError::Timeout),
        Some(next_poll) if open => inbox.recv_deadline(next_poll),
        Some(next_poll) => {
            thread::sleep(next_poll.saturating_duration_since(Instant::now()));
            Err(RecvTimeoutError::Timeout)
        }
    }
}
