//! Rolls a hotswap plugin out to many machines over NATS JetStream, ring by ring, and takes it back when it fails.
//!
//! Three parts, which meet at the server only:
//!
//! - An [`Agent`](agent::Agent) in each host process brings it to run what the roll-out says, and says what has become
//!   of it.
//! - A [`Controller`](controller::Controller), or several, carries the roll-out on: from ring to ring, or back.
//! - The [record](rollout::RolloutRecord), which is changed by compare-and-swap only. All that a controller needs is in
//!   it and in what the hosts say, so that controllers may end at any time.
//!
//! What hosts run must be signed by a key that neither the server nor a controller has.
//!
//! The program `hotswap-fleet` is for operators; *Many machines* in hotswap's manual is their page.

// From the ground up: a file uses only those above it. (The empty lines keep rustfmt from sorting them.)

// What can go wrong.
mod error;

// How things are called at the server.
mod names;

// What a signature says of a plugin.
mod manifest;

// What hosts should run.
pub mod rollout;

// What hosts say.
pub mod status;

// What comes next.
pub mod decision;

// All of that at the server.
pub mod store;

// Whoever carries a roll-out on.
pub mod controller;

// Whoever does what it says.
pub mod agent;

pub use crate::{
    error::{FleetError, FleetErrorKind},
    manifest::Manifest,
};
