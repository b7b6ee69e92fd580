//! Selects the atomics: those of the standard library, or with `--cfg loom` those of the model checker
//! [loom](https://docs.rs/loom). The rest of the crate is the same code in both cases.

#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc,
    atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering, fence},
};

/// A word that its owner stores, and that other threads change by read-modify-writes.
///
/// A read-modify-write comes right after the store that it has read. So whatever the owner stores next comes after it,
/// and the change is gone. Loom does not know that: it takes the two for unordered. In scenarios in which other threads
/// change words, the owner's stores are therefore read-modify-writes for loom (`order_stores`). That makes the owner
/// stronger than it is, so all other scenarios check the stores as they are.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct OwnedWord(AtomicPtr<()>);

impl OwnedWord {
    pub(crate) fn new(word: *mut ()) -> Self {
        Self(AtomicPtr::new(word))
    }

    #[inline]
    pub(crate) fn load(&self, order: Ordering) -> *mut () {
        self.0.load(order)
    }

    /// For the owner.
    #[inline]
    pub(crate) fn store(&self, word: *mut (), order: Ordering) {
        #[cfg(loom)]
        if STORES_ARE_ORDERED.get() {
            self.0.swap(word, order);
            return;
        }
        self.0.store(word, order);
    }

    /// For other threads. Relaxed. Returns whether the word was `from`, and is `to` now.
    pub(crate) fn change(&self, from: *mut (), to: *mut ()) -> bool {
        let changed = self
            .0
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
        changed.is_ok()
    }
}

#[cfg(loom)]
std::thread_local! {
    /// Loom runs all threads of a scenario on the thread of its test.
    static STORES_ARE_ORDERED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs a scenario in which other threads change words.
#[cfg(all(test, loom))]
pub(crate) fn order_stores(scenario: impl FnOnce()) {
    STORES_ARE_ORDERED.set(true);
    scenario();
    STORES_ARE_ORDERED.set(false);
}

/// Declares thread-locals. Those without a destructor can be read at any time in a thread's life.
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

/// Declares a static that is initialised at its first use. The model checker initialises and drops it in every
/// execution.
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
