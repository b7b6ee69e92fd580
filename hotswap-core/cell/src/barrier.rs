//! What orders a reader's announcement and a retirer's look at it.
//!
//! What loom does not see: the asymmetric pair. Under loom both halves are `fence(SeqCst)`; that the system's `membarrier`
//! makes a compiler fence as strong as that is the kernel's promise (`membarrier(2)`), not something that we check.

use crate::{
    sync::{Ordering, fence},
    system,
};

/// How a reader's announcement and a retirer's look at it are ordered, in this process.
///
/// Both sides do the same: write something of one's own, pass the barrier, read what the other wrote.
/// With either kind, at least one of the two sees the other's write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// The reader only keeps the compiler from reordering; the retirer interrupts every running thread
    /// of the process (`MEMBARRIER_CMD_PRIVATE_EXPEDITED`), which stands in for the readers' fences.
    Asymmetric,
    /// Both sides execute a sequentially consistent fence.
    Full,
}

impl Barrier {
    /// The cheapest pair that this system has.
    ///
    /// Registering is once per process and costs about a millisecond when other threads already run
    /// (the kernel waits for a grace period), so callers keep the answer.
    pub(crate) fn detect() -> Self {
        if system::register_process_barrier() {
            Self::Asymmetric
        } else {
            Self::Full
        }
    }

    /// The reader's half.
    #[inline(always)]
    pub(crate) fn light(self) {
        match self {
            #[cfg(not(loom))]
            Self::Asymmetric => std::sync::atomic::compiler_fence(Ordering::SeqCst),
            #[cfg(loom)]
            Self::Asymmetric => unreachable!("never detected under loom"),
            Self::Full => {
                std::hint::cold_path();
                fence(Ordering::SeqCst);
            }
        }
    }

    /// The retirer's half. `false`: the system refused, so nothing may be concluded from what is read
    /// afterwards (a seccomp filter that was installed after the registration does that).
    #[must_use]
    pub(crate) fn heavy(self) -> bool {
        match self {
            Self::Asymmetric => system::process_barrier(),
            Self::Full => {
                fence(Ordering::SeqCst);
                true
            }
        }
    }
}
