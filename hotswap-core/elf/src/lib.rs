#![doc = include_str!("../README.md")]
//!
//! # How it is built
//!
//! The crate `object` gives the layout of the structures; all that is judged is judged here. A noun a file, from the
//! ground up: `refusal`, `process`, `query` and `facts` are what is asked and answered. `kind` names what is no ELF
//! file, and `header` reads the file header. `load` and `memory` say where the loader will put what. `entries`,
//! `strings` and `dynamic` are the dynamic table; `notes`, `versions`, `index` (the hash table), `imports`, `symbol`,
//! `symbols` and `exports` what it leads to. `tables` says where all those lie, `calls` which functions the loader
//! will call, `targets` where relocations write, `action` what each type of them does, and `relocations` checks them.
//! `inspect` is all of it.

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
    header::is_for,
    inspect::inspect,
    process::{Machine, Process},
    query::{Export, Query},
    refusal::Refusal,
};
