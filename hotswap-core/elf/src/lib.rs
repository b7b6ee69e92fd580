#![doc = include_str!("../README.md")]
//!
//! # How it is built
//!
//! The crate `object` supplies the layout of the structures; this crate makes all the checks. One noun per file, from
//! the ground up:
//!
//! - `refusal`, `process`, `query` and `facts`: the question and its answers.
//! - `kind` names files that are not ELF; `header` reads the file header.
//! - `load` and `memory`: what the loader will map at which address.
//! - `entries`, `strings` and `dynamic`: the dynamic table. `notes`, `versions`, `index` (the hash table), `imports`,
//!   `symbol`, `symbols` and `exports`: what the dynamic table points to.
//! - `tables`: the address ranges of those tables. `calls`: the functions that the loader will call.
//! - `targets`: where relocations write. `action`: what each relocation type does. `relocations` checks them.
//! - `inspect` runs all checks in order.

#![forbid(unsafe_code)]

// From the ground up: a file uses only those above it. (The empty lines keep rustfmt from sorting them.)

mod refusal;

mod process;

mod query;

mod facts;

mod kind;

mod header;

mod load;

mod memory;

mod entries;

mod strings;

mod dynamic;

mod notes;

mod versions;

mod index;

mod imports;

mod symbol;

mod symbols;

mod exports;

mod tables;

mod calls;

mod targets;

mod action;

mod relocations;

mod inspect;

pub use crate::{
    facts::{Change, Facts},
    header::{check_header, is_for},
    inspect::inspect,
    notes::build_id,
    process::{Machine, Process},
    query::{Export, Query},
    refusal::{NotExported, Refusal},
};
