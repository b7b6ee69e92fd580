//! When to try a file again that was refused for a reason that may pass.

use std::time::{Duration, Instant};

use crate::deadline::deadline;

/// Each pause is this many times as long as the one before.
const FACTOR: u32 = 2;

/// The attempts with one unchanged file.
pub(super) struct Retry {
    first: Duration,
    longest: Duration,
    /// The pause before the next attempt.
    pause: Duration,
    /// `None`: there is nothing to try again.
    due: Option<Instant>,
}

impl Retry {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest: longest.max(first),
            pause: first,
            due: None,
        }
    }

    /// Forgets all attempts: the file has changed.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.first, self.longest);
    }

    /// Schedules another attempt. The pause is longer each time.
    pub(super) fn schedule(&mut self) {
        self.due = Some(deadline(Instant::now(), self.next_pause()));
    }

    fn next_pause(&mut self) -> Duration {
        let longer = self.pause.saturating_mul(FACTOR).min(self.longest);
        std::mem::replace(&mut self.pause, longer)
    }

    /// The time until the next attempt, if there is one.
    pub(super) fn due_in(&self) -> Option<Duration> {
        let due = self.due?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Whether the next attempt is due. Returns `true` once; the caller makes the attempt.
    pub(super) fn take_due(&mut self) -> bool {
        self.due.take_if(|due| *due <= Instant::now()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[track_caller]
    fn check<const N: usize>(retry: &mut Retry, pauses: [u64; N]) {
        let found = [(); N].map(|()| retry.next_pause());
        assert_eq!(found, pauses.map(Duration::from_secs));
    }

    #[test]
    fn pauses_grow_to_the_longest_and_restart_after_a_reset() {
        let mut retry = Retry::new(2 * SECOND, 20 * SECOND);
        check(&mut retry, [2, 4, 8, 16, 20, 20]);
        retry.reset();
        check(&mut retry, [2, 4]);
        check(&mut Retry::new(9 * SECOND, 5 * SECOND), [9, 9]);
        check(&mut Retry::new(SECOND, Duration::MAX), [1, 2, 4]);
    }

    #[test]
    fn an_attempt_is_due_once() {
        let mut retry = Retry::new(Duration::ZERO, Duration::ZERO);
        assert!(!retry.take_due() && retry.due_in().is_none());
        retry.schedule();
        assert_eq!(retry.due_in(), Some(Duration::ZERO));
        assert!(retry.take_due());
        assert!(!retry.take_due() && retry.due_in().is_none());
        retry.schedule();
        retry.reset();
        assert!(!retry.take_due());
    }

    #[test]
    fn a_pause_without_end_has_a_deadline_far_away() {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        let mut retry = Retry::new(Duration::MAX, SECOND);
        retry.schedule();
        retry.schedule();
        assert!(!retry.take_due());
        assert!(retry.due_in() > Some(YEAR), "{:?}", retry.due_in());
    }
}
