//! How long the linker has been closing an image, and on which threads it opens and closes images.
//!
//! It holds its lock while finalisers run, and while initialisers run. Whoever opens an image meanwhile waits; so does
//! every thread that begins or ends.

use std::{
    cell::Cell,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The images of this process that are being closed and opened, by all swap points.
struct Uses {
    closing: usize,
    opening: usize,
    /// When the linker has finished one last: since then, if only closings are left, it has been at one of them.
    since: Instant,
}

static USES: Mutex<Option<Uses>> = Mutex::new(None);

thread_local! {
    /// The images that this thread is opening and closing.
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// Whether the calling thread is in an initialiser or a finaliser of an image. A candidate that it waited for would
/// wait for the linker, and so for this thread.
pub(crate) fn is_held_here() -> bool {
    HERE.get() > 0
}

/// How long the finalisers of one image have run. `None`: none is being closed, or an image that is being opened may
/// have the lock.
pub(crate) fn closing_for() -> Option<Duration> {
    let uses = lock();
    let uses = uses.as_ref().filter(|it| it.opening == 0)?;
    (uses.closing > 0).then(|| uses.since.elapsed())
}

/// Closes an image by `close`.
pub(super) fn closing(close: impl FnOnce()) {
    counted(|uses| &mut uses.closing, close);
}

/// Opens an image by `open`.
pub(super) fn opening<T>(open: impl FnOnce() -> T) -> T {
    counted(|uses| &mut uses.opening, open)
}

fn counted<T>(count: impl Fn(&mut Uses) -> &mut usize, act: impl FnOnce() -> T) -> T {
    let change = |by: fn(usize) -> usize| {
        let mut uses = lock();
        let uses = uses.get_or_insert_with(|| Uses {
            closing: 0,
            opening: 0,
            since: Instant::now(),
        });
        let is_first = uses.closing + uses.opening == 0;
        let number = count(uses);
        let before = *number;
        *number = by(before);
        if is_first || *number < before {
            uses.since = Instant::now();
        }
    };
    change(|number| number + 1);
    HERE.set(HERE.get() + 1);
    let result = act();
    HERE.set(HERE.get() - 1);
    change(|number| number - 1);
    result
}

fn lock() -> MutexGuard<'static, Option<Uses>> {
    USES.lock().unwrap_or_else(PoisonError::into_inner)
}
