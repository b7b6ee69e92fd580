//! The crate's system calls: an asymmetric barrier, and the number of a thread.

#[cfg(all(target_os = "linux", not(loom)))]
use rustix::thread::{MembarrierCommand, membarrier};

/// Prepares [`process_barrier`]. `false`: the system has none.
#[cfg(all(target_os = "linux", not(loom)))]
pub(crate) fn register_process_barrier() -> bool {
    membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
}

/// Makes every running thread of the process pass a full fence, and passes one itself (`membarrier(2)`). `false`: the
/// system refused.
#[cfg(all(target_os = "linux", not(loom)))]
pub(crate) fn process_barrier() -> bool {
    membarrier(MembarrierCommand::PrivateExpedited).is_ok()
}

/// Other systems have no such barrier. The model checker could not see it, so under loom there is none either.
#[cfg(not(all(target_os = "linux", not(loom))))]
pub(crate) fn register_process_barrier() -> bool {
    false
}

#[cfg(not(all(target_os = "linux", not(loom))))]
pub(crate) fn process_barrier() -> bool {
    false
}

/// The calling thread's number in the system. No other living thread of the process has the same one.
pub(crate) fn thread_number() -> u32 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .cast_unsigned()
}
