//! Functions that the C library would call: it is asked for none.

use std::ffi::c_void;

pub(crate) const DESTRUCTOR_ROUNDS: usize = 4;

pub(crate) type AtEnd = extern "C" fn(*mut c_void);

#[derive(Clone, Copy)]
pub(crate) struct EndOfThread(std::convert::Infallible);

impl EndOfThread {
    pub(crate) fn new(_: AtEnd) -> Option<Self> {
        None
    }

    pub(crate) fn ask(self) {
        match self.0 {}
    }
}

pub(crate) fn at_end_of_thread_locals(_: AtEnd) {}

pub(crate) fn call_first_at_exit(_: AtEnd) {}

/// Registers nothing: a forked child keeps the slots and numbers of its parent's threads.
///
/// # Safety
/// None: the function is never called.
pub(crate) unsafe fn in_forked_children(_: extern "C" fn()) {}
