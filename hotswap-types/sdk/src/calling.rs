//! Whether a thread is inside of a call of an interface, whose panics are caught and told by whoever has called.
//!
//! The side that calls counts, which is cheap in a program and not in a library that is loaded: there each look at a
//! thread-local is a call. The other side asks it when something panics.

use std::cell::Cell;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// A call that has begun, until it is dropped.
pub(crate) struct Calling(());

/// Counts one more.
#[inline]
pub(crate) fn begin() -> Calling {
    DEPTH.set(DEPTH.get() + 1);
    Calling(())
}

/// Whether this thread has called somebody.
pub(crate) extern "C" fn is_calling() -> bool {
    DEPTH.get() > 0
}

impl Drop for Calling {
    #[inline]
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}
