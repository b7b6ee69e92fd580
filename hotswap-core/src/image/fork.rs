//! Children that this process forks and that go on without `exec`.
//!
//! Such a child has only the thread that forked (man 2 fork). Two things would be wrong in it: that thread has a new
//! number, not the one that it remembers; and whatever other threads were in the middle of is never finished.
//! `pthread_atfork` has both put right before the child's own code runs, so that a swap point made in the child works
//! like any other.
//!
//! # What it does not know
//! A lock that another thread held at the fork stays locked in the child. So a process should not fork while it swaps
//! or while an image leaves, just as it should not while it allocates with anything but libc's allocator.
#![expect(unsafe_code, reason = "states what a forked child runs")]

use std::sync::Once;

use super::account;
use crate::system::hooks;

/// Registers the function that puts a forked child's state right. Only the first call does something.
pub(crate) fn prepare_for_forks() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        // Creates the registry of threads now: a child could not finish creating it if another thread of the parent
        // had begun.
        hotswap_cell::pass_quiescent_point();
        // SAFETY: `in_child` calls only what is allowed between `fork` and `exec`: it writes to statics and to a
        // thread-local without a destructor.
        unsafe { hooks::in_forked_children(in_child) };
    });
}

extern "C" fn in_child() {
    account::forget_this_thread_s_number();
    hotswap_cell::reset_after_fork();
}
