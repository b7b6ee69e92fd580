#![doc = include_str!("../README.md")]
//!
//! # How it is built
//!
//! A thread (`dev_loop`) looks at all files that a build may read (`sources`), asks cargo for a build (`cargo`), and
//! looks again. Only what it sees there counts; notices from the system (`notices`) tell it when to look, and it looks
//! every second in any case.

#![forbid(unsafe_code)]

// From the ground up: a file uses only those above it. (The empty lines keep rustfmt from sorting them.)

/// What differs between systems.
mod system;

/// Why there is no loop, or no plugin.
mod error;

/// Which package is the plugin, and where its sources are.
mod packages;

/// The state of all files that a build may read.
mod sources;

/// When to look at them.
mod notices;

/// One build.
mod cargo;

mod dev_loop;

pub use dev_loop::{Build, DevLoop, DevSettings, build};
pub use error::DevError;
