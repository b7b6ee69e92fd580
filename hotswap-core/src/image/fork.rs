//! Children that this process forks, and that go on without `exec`.
//!
//! Such a child has the thread that forked and no other (man 2 fork). What that thread remembers of itself would be
//! wrong: its number is another one. What others were in the middle of will never be finished. Both are put right in
//! the child, before its code goes on (`pthread_atfork`); then a swap point that is made there works like any other.
//!
//! # What it does not know
//! A lock that another thread held at that moment stays locked in the child. So a process should not fork while it
//! swaps or while an image leaves, just as it should not while it allocates with anything but libc's allocator.
#![expect(unsafe_code, reason = "registers with libc")]

use std::{ffi::c_int, sync::Once};

use super::account;

/// Sees to it that what is kept for threads is put right in children. The first call does it.
pub(crate) fn prepare_for_forks() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        // Makes the register of threads, which a child could not finish if a thread that stays behind had begun to.
        hotswap_cell::pass_quiescent_point();
        // SAFETY: a function of the executable, which calls nothing that may not be called between `fork` and `exec`.
        // (That there is no memory to register it leaves all as it was.)
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
