//! Systems other than Linux.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU32, Ordering},
};

/// `false`: no barrier is known here, so that both sides execute a fence.
pub(crate) fn register_process_barrier() -> bool {
    false
}

/// `false`: there is none.
pub(crate) fn process_barrier() -> bool {
    false
}

/// A number that the calling thread keeps: a count of this process, and not the system's number. Numbers repeat after
/// 2²⁸ threads, so `is_registered` may take a thread for another one. hotswap-core asks that only where images are
/// unloaded, which is on Linux.
pub(crate) fn thread_number() -> u32 {
    const COUNT_MAX: u32 = 1 << 28;
    static COUNT: AtomicU32 = AtomicU32::new(0);
    thread_local! {
        /// 0: it has none yet.
        static OWN: Cell<u32> = const { Cell::new(0) };
    }
    let own = OWN.get();
    if own != 0 {
        return own;
    }
    // Relaxed: only the uniqueness of the count matters.
    let own = COUNT.fetch_add(1, Ordering::Relaxed) % COUNT_MAX + 1;
    OWN.set(own);
    own
}
