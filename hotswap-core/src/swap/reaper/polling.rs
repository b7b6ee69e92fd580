//! When the reaper asks again whether what is retired can leave.
//!
//! It polls, because a call that ends tells nobody: that would cost every call, to save a poll now and then. The pauses
//! grow from [`SHORTEST_PAUSE`] to [`LONGEST_PAUSE`], and begin anew when something happens.
//!
//! A pause is also at least [`REST`] times as long as the last poll took to find out whether calls or leases hold what is
//! retired, and to tell the list who holds it. So polling, with however many threads and held generations, takes at most
//! one part in [`REST`] + 1 of the time, and new work comes in between. A new generation is looked at when it comes,
//! whether or not the pause is over; the next pause is longer for it.
//!
//! What is done for images that nobody calls any more is not measured: running hooks, asking for threads and destructors
//! that are left, closing them.

use std::{
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};

const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// How many times as long as looking for holders has taken the pause after it is.
const REST: u32 = 4;

/// When to poll next.
pub(super) struct Polling {
    pause: Duration,
    pub(super) next: Instant,
    /// Not before.
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

    /// After a poll, if looking for holders has taken so long since the one before.
    pub(super) fn pause_after(&mut self, looked: Duration) {
        let now = Instant::now();
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
        self.next = now + self.pause;
        self.not_before = now + looked * REST;
    }

    /// Something has happened: the pauses are short again.
    pub(super) fn restart(&mut self) {
        self.pause = SHORTEST_PAUSE;
        self.next = self.next.min(Instant::now() + self.pause);
    }
}

/// The next task, or [`Timeout`](RecvTimeoutError::Timeout) when it is time to poll.
pub(super) fn next_task<T>(
    inbox: &Receiver<T>,
    next_poll: Option<Instant>,
    open: bool,
) -> Result<T, RecvTimeoutError> {
    match next_poll {
        None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        // Also when there are always more.
        Some(next_poll) if Instant::now() >= next_poll => Err(RecvTimeoutError::Timeout),
        Some(next_poll) if open => inbox.recv_deadline(next_poll),
        Some(next_poll) => {
            thread::sleep(next_poll.saturating_duration_since(Instant::now()));
            Err(RecvTimeoutError::Timeout)
        }
    }
}
