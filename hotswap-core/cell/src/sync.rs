//! Selects the atomics: those of the standard library, or with `--cfg loom` those of the model checker
//! [loom](https://docs.rs/loom). The rest of the crate is the same code in both cases.

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
