//! What is asked of the system: an asymmetric barrier, and a thread's number.

#[cfg(all(target_os = "linux", not(loom)))]
use rustix::thread::{MembarrierCommand, membarrier};

/// Prepares [`process_barrier`]. `false`: there is none.
#[cfg(all(target_os = "linux", not(loom)))]
pub(crate) fn register_process_barrier() -> bool {
    membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
}

/// Has every running thread of the process pass a full fence, and passes one itself (`membarrier(2)`). `false`: the
/// system refused.
#[cfg(all(target_os = "linux", not(loom)))]
pub(crate) fn process_barrier() -> bool {
    membarrier(MembarrierCommand::PrivateExpedited).is_ok()
}

/// There is none on other systems, nor in the model checker, which could not see it.
#[cfg(not(all(target_os = "linux", not(loom))))]
pub(crate) fn register_process_barrier() -> bool {
    false
}

#[cfg(not(all(target_os = "linux", not(loom))))]
pub(crate) fn process_barrier() -> bool {
    false
}

/// The calling thread's number in the system, which no other living thread of the process has.
pub(crate) fn thread_number() -> u32 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .cast_unsigned()
}
