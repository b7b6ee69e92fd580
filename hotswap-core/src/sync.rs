//! The one place where the standard library's atomics and the model checker's are told apart.
//!
//! [`cell`](crate::cell) takes every type that orders memory from here, so that with `--cfg loom` the very
//! same code runs under [loom](https://docs.rs/loom). The pair of barriers at the end of this file is
//! part of that: a reader pays the [`light`](Barrier::light) half, whoever retires a generation the
//! [`heavy`](Barrier::heavy) one.
//!
//! What loom does not see: the asymmetric pair. Under loom both halves are `fence(SeqCst)`; that the
//! system's `membarrier` makes a compiler fence as strong as that is the kernel's promise
//! (`Documentation/membarrier` and `man 2 membarrier`), not something that we check.

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc,
    atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, Ordering, fence},
};

/// Thread-locals. Those without a destructor can be read at any time in a thread's life.
#[cfg(not(loom))]
macro_rules! per_thread {
    ($($(#[$doc:meta])* static $name:ident: $type:ty = $value:expr;)*) => {
        ::std::thread_local! { $($(#[$doc])* static $name: $type = const { $value };)* }
    };
}

#[cfg(loom)]
macro_rules! per_thread {
    ($($(#[$doc:meta])* static $name:ident: $type:ty = $value:expr;)*) => {
        ::loom::thread_local! { $($(#[$doc])* static $name: $type = $value;)* }
    };
}

/// A static made at its first use; the model checker makes it anew, and drops it, in every execution.
#[cfg(not(loom))]
macro_rules! process_wide {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $make:expr;) => {
        $(#[$doc])* static $name: ::std::sync::LazyLock<$type> = ::std::sync::LazyLock::new(|| $make);
    };
}

#[cfg(loom)]
macro_rules! process_wide {
    ($(#[$doc:meta])* static $name:ident: $type:ty = $make:expr;) => {
        ::loom::lazy_static! { $(#[$doc])* static ref $name: $type = $make; }
    };
}

pub(crate) use {per_thread, process_wide};

/// How a reader's announcement and a retirer's look at it are ordered, in this process.
///
/// Both sides do the same: write something of one's own, pass the barrier, read what the other wrote.
/// With either kind, at least one of the two sees the other's write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barrier {
    /// The reader only keeps the compiler from reordering; the retirer interrupts every running thread
    /// of the process (`MEMBARRIER_CMD_PRIVATE_EXPEDITED`), which stands in for the readers' fences.
    #[cfg_attr(
        loom,
        expect(dead_code, reason = "the model checker sees the full fence only")
    )]
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
        #[cfg(all(target_os = "linux", not(loom)))]
        {
            use rustix::thread::{MembarrierCommand, membarrier};
            if membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok() {
                return Self::Asymmetric;
            }
        }
        Self::Full
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
            #[cfg(all(target_os = "linux", not(loom)))]
            Self::Asymmetric => {
                use rustix::thread::{MembarrierCommand, membarrier};
                membarrier(MembarrierCommand::PrivateExpedited).is_ok()
            }
            #[cfg(not(all(target_os = "linux", not(loom))))]
            Self::Asymmetric => false,
            Self::Full => {
                fence(Ordering::SeqCst);
                true
            }
        }
    }
}
