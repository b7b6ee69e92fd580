//! What orders a reader's write to its slot against the scan of the thread that retires a value.
//!
//! Loom checks the full pair, the only one on systems other than Linux: under loom both halves are `fence(SeqCst)`. It
//! does not check the asymmetric pair. That `membarrier` makes a compiler fence as strong as a full one is the kernel's
//! promise (`membarrier(2)`), which no test of ours can check.

use crate::{
    sync::{Ordering, fence},
    system,
};

/// How this process orders a reader's write to its slot against a retiring thread's scan.
///
/// Both sides do the same: write a variable of their own, pass the barrier, read what the other side wrote. With
/// either kind, at least one of the two sees the other's write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// The reader only keeps the compiler from reordering. The retiring thread makes the kernel interrupt every
    /// running thread of the process (`MEMBARRIER_CMD_PRIVATE_EXPEDITED`), which replaces the readers' fences.
    Asymmetric,
    /// Both sides execute a sequentially consistent fence.
    Full,
}

impl Barrier {
    /// The kind of inline calls. In a process of the other kind, no call is inline ([`Slot::is_ready`]).
    ///
    /// [`Slot::is_ready`]: crate::slot::Slot::is_ready
    pub(crate) const INLINE: Self = if cfg!(all(target_os = "linux", not(loom))) {
        Self::Asymmetric
    } else {
        Self::Full
    };

    /// Selects the cheapest pair that this system has.
    ///
    /// Registering happens once per process and costs about a millisecond when other threads already run (the kernel
    /// waits for a grace period), so callers keep the result.
    pub(crate) fn detect() -> Self {
        // The model checker could not see the kernel's half.
        if cfg!(not(loom)) && system::register_process_barrier() {
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

    /// The retiring thread's half. `false`: the system refused, so the caller may conclude nothing from what it reads
    /// afterwards. (A seccomp filter that was installed after the registration makes the system refuse.)
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
