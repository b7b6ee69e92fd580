//! Replace part of a running process's own compiled code.
//!
//! A [`Hotswap`] holds a plugin: a `cdylib` that exports an [`abi_stable`] root module.
//! Any number of threads call it, at little more than the price of a function pointer. [`swap`](Hotswap::swap)
//! loads a candidate, checks it, and publishes it with one atomic store; a candidate that cannot be used
//! changes nothing. The generation before drains, is unloaded, and is looked for: it ends as *unloaded* or
//! as *pinned*, with a reason.
//!
//! ```no_run
//! use hotswap_core::{Hotswap, Policy, Trust};
//! use hotswap_types::PluginRef;
//!
//! // SAFETY: we build these plugins ourselves, and nobody else can write to that folder.
//! let trust = unsafe { Trust::vouch(Policy::default()) };
//! let plugin: Hotswap<PluginRef> = Hotswap::load("./plugins/libplugin.so", &trust)?;
//!
//! let generation = plugin.with(|it| it.number());
//! let swapped = plugin.swap("./plugins/libplugin.so")?;
//! assert_eq!((generation, swapped.generation), (1, 2));
//! # Ok::<(), hotswap_core::Error>(())
//! ```
//!
//! # The road of a candidate
//!
//! ```text
//! path ─► Staged ─► Image ─► root module ─► published generation ─► retired ─► unloaded
//!         trusted,  dlopen   header,        with(), lease()         drained    or pinned
//!         private            version and
//!         copy,              layout checked
//!         inspected
//! ```
//!
//! With a [`Trial`], a child process takes the copy down the same road and back first.
//!
//! All that may fail comes before *published*, and leaves no trace when it does. Nothing after it can
//! fail the swap.
//!
//! # What it does not do
//!
//! It is not a sandbox: see [`Trust::vouch`]. It runs on Linux with glibc; that is where it is tested.

#![deny(unsafe_code)]

// From the ground up: a file uses only those above it. (The empty lines keep rustfmt from sorting them.)

// Why a candidate was refused.
mod error;

// What a file's bytes are.
mod digest;

// Who has signed them.
mod signature;

// What is asked of a file before it is loaded, and the one `unsafe` statement of a host.
#[expect(unsafe_code, reason = "states what a host promises")]
mod trust;

// std's atomics, or the model checker's.
mod sync;

// Who reads: publish, read, lease, retire, drain. Knows no files.
#[expect(
    unsafe_code,
    reason = "lends out values that other threads may be retiring"
)]
mod cell;

// What is loaded, from here on: is this a file that the dynamic linker can be given?
mod elf;

// From a path to a private, trusted, inspected copy.
mod stage;

// The dynamic linker.
#[expect(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "talks to the dynamic linker"
)]
mod image;

// Two types, compared.
mod layout;

// From an image to a checked root module.
#[expect(unsafe_code, reason = "takes an address in an image for a root module")]
mod module;

// From an image to one of its typed symbols.
#[expect(
    unsafe_code,
    reason = "takes addresses in an image for what they are said to be"
)]
mod symbol;

// Which values may leave a call.
#[expect(unsafe_code, reason = "states which values lead into no image")]
mod owned;

// Events, and the list of generations.
mod history;

// Values that outlive generations.
#[expect(unsafe_code, reason = "keeps values whose types were compared")]
mod refs;

// Threads that outlive generations, and what a candidate says of them.
mod services;

// The same road in a child process first.
mod trial;

// The same road for a deploy script, and no further.
mod gate;

// Both columns together.
mod swap;

// Single symbols, without a swap point.
#[expect(unsafe_code, reason = "takes the host's word for C symbols")]
mod loader;

// Settled changes of a file become swaps.
mod watch;

pub use crate::{
    digest::Sha256,
    error::{Error, ParseError, Result, Stage},
    gate::{CheckReport, check},
    history::{
        Event, GenerationInfo, Holder, Phases, RefusedInfo, ServiceEnd, ServiceInfo, ServiceNews,
        ServiceState, State,
    },
    image::PinReason,
    loader::{Library, Loader, LoaderSettings, Symbol},
    owned::{AssertHostOwned, HostOwned},
    refs::RefInfo,
    services::ServiceSettings,
    signature::PublicKey,
    swap::{
        Bound, Generation, Hotswap, Lease, Prepared, Probe, RolledBack, Settings, Swapped,
        detach_current_thread,
    },
    symbol::SymbolInfo,
    trial::Trial,
    trust::{Policy, Trust},
    watch::{Watch, WatchSettings},
};

/// What is too long to be said at the names.
pub mod docs {
    #[doc = include_str!("../docs/benchmarks.md")]
    #[doc = include_str!("../docs/calls.svg")]
    pub mod benchmarks {}

    #[doc = include_str!("../docs/evolution.md")]
    pub mod evolution {}

    #[doc = include_str!("../docs/plugins.md")]
    pub mod plugins {}

    #[doc = include_str!("../docs/deploying.md")]
    pub mod deploying {}

    #[doc = include_str!("../docs/troubleshooting.md")]
    pub mod troubleshooting {}
}

/// README's example is compiled like any other.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
