#![doc = include_str!("../README.md")]
//!
//! # How it is built
//!
//! The modules, from the ground up; each uses only those before it:
//!
//! - `sync`: the atomics of std, or those of the model checker.
//! - `system` and `barrier`: what orders a reader against the thread that retires a value.
//! - `slot`: the value that one thread is reading. `registry`: all slots. `chain`: the slots of one thread.
//! - `calls`: which threads read which value, for reports.
//! - `cell`: the public type. Its module documentation argues why the scheme is correct; `scripts/loom` checks it
//!   with a model checker.
//! - `future`: a future that borrows a leased value, and owns the lease.
//! - `signal_list`: a list that a signal handler may read.

// From the ground up: a file uses only those above it. (The empty lines keep rustfmt from sorting them.)

mod sync;

mod system;

mod barrier;

mod slot;

mod registry;

mod chain;

mod calls;

mod cell;

mod future;

mod signal_list;

#[cfg(not(loom))]
pub use crate::cell::SelfLease;
pub use crate::{
    calls::{Calls, Holders, MarkedCall, ValueId, mark_calls, marked_calls, values_of_thread},
    cell::{Cell, Lease, Retired},
    chain::{
        CallbackDeferral, defer_callbacks, is_inside_call, pass_quiescent_point,
        request_quiescence_callbacks, reset_after_fork, set_quiescence_callback,
    },
    future::LeasedFuture,
    registry::is_registered,
    signal_list::{ListReader, Listed, SignalSafeList},
};
