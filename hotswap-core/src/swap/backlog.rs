//! The work that the unloading thread is behind with, and the candidates that wait for it.
//!
//! An image is part of the backlog from the moment it is handed to the reaper until it is gone, except while somebody
//! else is known to hold it: a call, a lease, a hook, a thread of the plugin, the system. When that ends, it is added
//! again. So a candidate that waits here waits for the reaper's own work, and for nobody whom the reaper waits for.
//! What others hold has a bound of its own (`retained`).
//!
//! A candidate also waits while an image is being closed for long: a finaliser runs, and the linker, whose lock is held
//! meanwhile, would open nothing. (If that begins when the candidate was let through, opening it takes as long as the
//! finaliser.)
//!
//! An image is added again without waiting for room. If that comes first, the next candidate finds it and waits; if
//! the candidate comes first, it goes ahead, and the one after it waits.
//!
//! The lock is held only for counting, here and in `image/linker_lock`.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{error::ErrorKind, image::closing_for};

/// With this many images in the backlog, the next candidate waits. Each image keeps its copy and a descriptor; a few
/// images keep the unloading thread busy while a candidate is prepared.
const IMAGES_MAX: usize = 4;

/// While a finaliser takes longer than this, candidates wait.
const CLOSING_MAX: Duration = Duration::from_millis(50);

/// How often a candidate that waits looks whether an image is still being closed, which may be one of another reaper.
const LOOK_PERIOD: Duration = Duration::from_millis(5);

/// The backlog of one reaper.
#[derive(Default)]
pub(super) struct Backlog {
    state: Mutex<BacklogState>,
    changed: Condvar,
}

/// One image in the backlog, until this is dropped.
pub(super) struct Pending(Arc<Backlog>);

/// The backlog when a wait timed out.
pub(super) struct TimedOut {
    images: usize,
    current: Option<Current>,
}

/// The image that the reaper is working on: that of a generation, or `None` for a refused candidate.
type Current = Option<u64>;

#[derive(Default)]
struct BacklogState {
    images: usize,
    current: Option<Current>,
}

impl Backlog {
    /// Adds one image. Waits for nobody.
    pub(super) fn add(self: &Arc<Self>) -> Pending {
        self.state().images += 1;
        Pending(Arc::clone(self))
    }

    /// Notes which image the reaper is working on.
    pub(super) fn set_current(&self, current: Option<Current>) {
        self.state().current = current;
    }

    pub(super) fn has_room(&self) -> bool {
        self.state().has_room()
    }

    /// Waits until there is room, at most for `left`, and subtracts from `left` the time that it waited.
    pub(super) fn wait(&self, left: &mut Duration) -> Result<(), TimedOut> {
        let started = Instant::now();
        let mut state = self.state();
        while !state.has_room() {
            let rest = left.saturating_sub(started.elapsed());
            if rest.is_zero() {
                *left = rest;
                return Err(TimedOut {
                    // If there is none of this reaper, it is one of another that is being closed.
                    images: state.images.max(1),
                    current: state.current,
                });
            }
            let waited = self.changed.wait_timeout(state, rest.min(LOOK_PERIOD));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *left = left.saturating_sub(started.elapsed());
        Ok(())
    }

    /// Nothing panics under the lock.
    fn state(&self) -> MutexGuard<'_, BacklogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BacklogState {
    fn has_room(&self) -> bool {
        self.images < IMAGES_MAX && closing_for().is_none_or(|time| time < CLOSING_MAX)
    }
}

impl TimedOut {
    /// The refusal: how many images there are, and how long the candidate waited.
    pub(super) fn kind(&self, timeout: Duration) -> ErrorKind {
        ErrorKind::UnloadingBehind {
            images: self.images,
            timeout,
            generation: self.current.flatten(),
            is_refused: self.current == Some(None),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.state().images -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_waiter_continues_as_soon_as_there_is_room() {
        let backlog = Arc::new(Backlog::default());
        let mut pending: Vec<_> = (0..IMAGES_MAX).map(|_| backlog.add()).collect();
        assert!(!backlog.has_room());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut left = Duration::MAX;
                backlog.wait(&mut left).is_ok()
            });
            drop(pending.pop());
            assert!(waiting.join().unwrap());
        });
        assert!(backlog.has_room());
    }

    #[test]
    fn a_timeout_names_what_the_reaper_is_working_on() {
        let backlog = Arc::new(Backlog::default());
        let _pending: Vec<_> = (0..=IMAGES_MAX).map(|_| backlog.add()).collect();
        let text = |current| {
            backlog.set_current(current);
            let mut left = Duration::ZERO;
            let timed_out = backlog.wait(&mut left).unwrap_err();
            timed_out.kind(Duration::ZERO).to_string()
        };
        let expected = "unloading is behind: 5 retired plugins are still to be unloaded after 0ns \
                        (Limits::unload_timeout), and no more are accepted until one has left";
        assert_eq!(text(None), expected);
        assert_eq!(
            text(Some(Some(7))),
            format!("{expected}; the thread that unloads is at generation 7")
        );
        assert_eq!(
            text(Some(None)),
            format!("{expected}; the thread that unloads is at a refused candidate")
        );
    }
}
