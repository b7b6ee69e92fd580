//! When the reaper looks at what is retired.
//!
//! It asks again and again, because a call that ends tells nobody: that would cost every call, to save a look now and
//! then. The pauses grow from [`SHORTEST_PAUSE`] to [`LONGEST_PAUSE`], and begin anew when something happens.
//!
//! They are also at least [`REST`] times as long as it took, since the look before, to find out whether calls or leases
//! hold what is retired, and to tell the list who holds it. So looking again, with however many threads and held
//! generations, takes at most one part in [`REST`] + 1 of the time, and new work comes in between. A new generation is
//! looked at when it comes, rest or not; the next rest is longer for it.
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

    /// After a look, if looking for holders has taken so long since the one before.
    pub(super) fn rest_from(&mut self, looked: Duration) {
        let now = Instant::now();
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
        self.next = now + self.pause;
        self.rested = now + looked * REST;
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
