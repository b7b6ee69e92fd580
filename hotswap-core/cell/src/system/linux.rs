//! Linux.

use rustix::thread::{MembarrierCommand, gettid, membarrier};

/// Prepares [`process_barrier`]. `false`: the system has none.
pub(crate) fn register_process_barrier() -> bool {
    membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
}

/// Makes every running thread of the process pass a full fence, and passes one itself (`membarrier(2)`). `false`: the
/// system refused.
pub(crate) fn process_barrier() -> bool {
    membarrier(MembarrierCommand::PrivateExpedited).is_ok()
}

/// The calling thread's number in the system. No other living thread of the process has the same one.
pub(crate) fn thread_number() -> u32 {
    gettid().as_raw_nonzero().get().cast_unsigned()
}
