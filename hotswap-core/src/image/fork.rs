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
//! swaps or while an image leaves, just as it should not while it allocates with anything but libc's allocator.
#![expect(unsafe_code, reason = "registers with libc")]

use std::{ffi::c_int, sync::Once};

use super::account;

/// Registers the function that puts a forked child's state right. Only the first call does something.
pub(crate) fn prepare_for_forks() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        // Creates the registry of threads now: a child could not finish creating it if another thread of the parent
        // had begun.
        hotswap_cell::pass_quiescent_point();
        // SAFETY: `in_child` is a function of the executable, and calls only what is allowed between `fork` and
        // `exec`. (If there is no memory to register it, nothing changes.)
        unsafe { pthread_atfork(None, None, Some(in_child)) };
    });
}

unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> c_int;
}

unsafe extern "C" fn in_child() {
    account::forget_this_thread_s_number();
    hotswap_cell::reset_after_fork();
}
