//! `inspect` on a library made here, on that library damaged in every way it refuses, on every library
//! of this machine, and on many thousands of random damages.

mod bounds;
mod dynamic;
mod facts;
mod fixture;
mod kinds;
mod libraries;
mod random;
mod relocations;
mod segments;
mod symbols;

use hotswap_elf::{Export, Facts, Machine, Process, Query, Refusal};

use crate::fixture::{Library, PAGE, X86_64};

const X86: Process = Process::new(Machine::X86_64, PAGE);
const ARM: Process = Process::new(Machine::AARCH64, PAGE);
/// What loads the libraries of this machine. With larger pages, they are made for those.
const NATIVE: Process = Process::new(Machine::NATIVE, PAGE);
const ROOT: Export<'_> = Export::Static {
    name: "root",
    size_min: 8,
};

fn inspect(bytes: &[u8], export: Export<'_>, process: Process) -> Result<Facts, Refusal> {
    let query = Query {
        export: Some(export),
        ..Query::default()
    };
    hotswap_elf::inspect(bytes, query, process)
}

fn facts(library: &Library) -> Facts {
    inspect(&library.bytes, ROOT, X86).unwrap()
}

#[track_caller]
fn refusal(bytes: &[u8], export: Export<'_>) -> String {
    inspect(bytes, export, X86)
        .expect_err("accepted")
        .to_string()
}

/// Changes the fixture and checks the line with which it is then refused.
#[track_caller]
fn check(change: impl FnOnce(&mut Library), expected: &str) {
    check_in(Library::new(&X86_64), change, expected);
}

#[track_caller]
fn check_in(mut library: Library, change: impl FnOnce(&mut Library), expected: &str) {
    change(&mut library);
    assert_eq!(refusal(&library.bytes, ROOT), expected);
}
