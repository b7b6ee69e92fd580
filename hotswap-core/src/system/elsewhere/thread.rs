//! Threads: only what std knows of them.

use std::{
    ffi::{c_int, c_void},
    io,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::unsupported;
use crate::system::errno;

/// 0: no thread has a number that others know it by.
pub(crate) fn this() -> c_int {
    0
}

/// The calling thread's name; empty if it has none.
pub(crate) fn own_name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

pub(crate) fn name_of(_: u32) -> String {
    String::new()
}

pub(crate) fn lives(_: c_int) -> bool {
    true
}

pub(crate) fn all() -> Option<Vec<u32>> {
    None
}

pub(crate) fn count() -> Option<u64> {
    None
}

pub(crate) struct Blocked {
    pub(crate) stack: usize,
    pub(crate) next: usize,
}

pub(crate) fn blocked(_: u32) -> io::Result<Option<Blocked>> {
    Err(unsupported())
}

pub(crate) struct Ending(JoinHandle<()>);

impl Ending {
    pub(crate) fn new(thread: JoinHandle<()>) -> Self {
        Self(thread)
    }

    /// Waits at most `timeout` until the thread has ended.
    ///
    /// # Errors
    /// It has not ended.
    pub(crate) fn join(self, timeout: Duration) -> Result<(), Self> {
        const PAUSE: Duration = Duration::from_millis(1);
        let started = Instant::now();
        while !self.0.is_finished() {
            if started.elapsed() >= timeout {
                return Err(self);
            }
            thread::sleep(PAUSE);
        }
        // Its last thread-locals may still be dropped, for which there is no timeout. A panic was shown when it
        // happened.
        let _ = self.0.join();
        Ok(())
    }
}

pub(crate) type StartRoutine = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// # Safety
/// No conditions: it starts none.
pub(crate) unsafe fn create(
    _: *mut c_void,
    _: *const c_void,
    _: StartRoutine,
    _: *mut c_void,
) -> c_int {
    errno::EAGAIN
}

pub(crate) fn give_back_stack() {}
