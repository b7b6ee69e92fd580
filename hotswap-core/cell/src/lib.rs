#![doc = include_str!("../README.md")]
//!
//! # How it is built
//!
//! From the ground up, each file using only those before it: `sync`, std's atomics or the model checker's; `system` and
//! `barrier`, what orders a reader and a retirer; `slot`, what one thread says that it reads; `registry`, all slots;
//! `chain`, the slots of one thread; `calls`, who reads what; and `cell`, whose description has the argument why all of it
//! is right. `scripts/loom` checks it under a model checker.

// From the ground up: a file uses only those above it. (The empty lines keep rustfmt from sorting them.)

mod sync;

mod system;

mod barrier;

mod slot;

mod registry;

mod chain;

mod calls;

mod cell;

pub use crate::{
    calls::{Calls, Holders},
    cell::{Cell, Lease, Retired},
    chain::{
        is_inside_call, pass_quiescent_point, request_quiescence_callbacks, reset_after_fork,
        set_quiescence_callback,
    },
    registry::is_registered,
};
