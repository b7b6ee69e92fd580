//! Plugins with marks by which the system would keep them mapped for good.

use std::{fs, path::Path};

use hotswap_core::{ErrorKind, Hotswap, Policy, Sha256, State, event::PinReason};
use hotswap_fixtures::FixtureRef;
use object::{
    NativeEndian as E,
    elf::{
        DF_1_NODELETE, DT_FLAGS_1, Dyn64, FileHeader64, PF_X, PT_GNU_STACK, ProgramHeader64,
        STB_GNU_UNIQUE, SymbolInfo,
    },
    pod,
    read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _, Sym as _},
};
use tempfile::TempPath;

use crate::{
    alone::alone,
    fixtures::{Plugin, SOON, build_of, plugin, shows_keys, trust_with, unloaded},
    process::images,
};

/// The fixture, linked with `-z nodelete`.
pub(crate) fn nodelete(name: &str) -> TempPath {
    changed(name, |bytes| {
        let header = FileHeader64::<E>::parse(bytes).unwrap();
        let segments = header.program_headers(E, bytes).unwrap();
        let mut tables = segments
            .iter()
            .filter_map(|it| it.dynamic(E, bytes).unwrap());
        let entries: &[Dyn64<E>] = tables.next().unwrap();
        let is_flags = |entry: &&Dyn64<E>| entry.d_tag(E) == DT_FLAGS_1;
        let entry = entries.iter().find(is_flags).unwrap();
        let mut new = *entry;
        new.d_val.set(E, entry.d_val(E) | DF_1_NODELETE.0);
        (offset(bytes, entry), pod::bytes_of(&new).to_vec())
    })
}

/// The fixture, with one of its statics bound as g++ binds the inline statics of C++.
fn unique(name: &str, symbol: &str) -> TempPath {
    changed(name, |bytes| {
        let header = FileHeader64::<E>::parse(bytes).unwrap();
        let sections = header.sections(E, bytes).unwrap();
        let symbols = sections.symbols(E, bytes, object::elf::SHT_DYNSYM).unwrap();
        let named = |it: &&object::elf::Sym64<E>| {
            it.name(E, symbols.strings()).unwrap() == symbol.as_bytes()
        };
        let found = symbols.iter().find(named).unwrap();
        let mut new = *found;
        new.st_info = SymbolInfo::new(STB_GNU_UNIQUE, found.st_type());
        (offset(bytes, found), pod::bytes_of(&new).to_vec())
    })
}

/// The fixture with some of its bytes changed: where, and what stands there then.
pub(crate) fn changed(name: &str, change: impl FnOnce(&[u8]) -> (usize, Vec<u8>)) -> TempPath {
    let mut bytes = fs::read(plugin(name)).unwrap();
    let (offset, new) = change(&bytes);
    bytes[offset..offset + new.len()].copy_from_slice(&new);
    let file = tempfile::Builder::new().suffix(".so").tempfile().unwrap();
    let path = file.into_temp_path();
    fs::write(&path, bytes).unwrap();
    path
}

fn offset<T>(bytes: &[u8], part: &T) -> usize {
    (&raw const *part).addr() - bytes.as_ptr().addr()
}

fn load(path: &Path, change: impl FnOnce(&mut Policy)) -> Plugin {
    let trust = trust_with(|policy| {
        policy.any_owner = true;
        change(policy);
    });
    Hotswap::<FixtureRef>::load(path, &trust).unwrap()
}

/// Swaps the file in again and again; each time the one before leaves, and the hash is the file's.
#[track_caller]
fn swaps_and_leaves(file: &Path, build: u64, swaps: u64) {
    let sha256 = Sha256::of(&fs::read(file).unwrap());
    let it = load(file, |policy| policy.sha256 = vec![sha256]);
    for round in 0..swaps {
        assert_eq!(build_of(&it), build);
        let swapped = it.swap(file).unwrap();
        unloaded(&it, swapped.retired);
        assert_eq!(images().len(), 1, "{round}");
        if round.is_multiple_of(10) {
            // From the copy that was kept, which is changed already.
            let back = it.rollback().unwrap();
            unloaded(&it, back.retired);
            assert_eq!(build_of(&it), build);
            assert_eq!(it.sha256(back.generation), Some(sha256));
        }
    }
    let live = it.generations().pop().unwrap().number;
    assert_eq!(it.sha256(live), Some(sha256));
    assert_eq!(it.generations()[0].unloadable_problem, None);
    assert!(it.shutdown(SOON).is_empty());
    assert_eq!(images(), []);
}

/// With the marks left as they are, each generation stays for that reason.
#[track_caller]
fn stays_if_it_is_told_to(file: &Path, why: PinReason) {
    let it = load(file, |policy| policy.clear_nodelete = false);
    it.swap(file).unwrap();
    it.swap(plugin("build_1")).unwrap();
    for generation in [1, 2] {
        let reason = why.clone();
        assert_eq!(it.wait(generation, SOON), Some(State::Pinned { reason }));
    }
    let sha256 = Sha256::of(&fs::read(file).unwrap());
    assert_eq!(it.sha256(2), Some(sha256));
}

#[test]
fn an_unloadable_plugin_leaves_although_it_is_linked_to_stay() {
    alone(
        "marks::an_unloadable_plugin_leaves_although_it_is_linked_to_stay",
        || {
            swaps_and_leaves(&nodelete("constructs_unloadable"), 12, 100);
            swaps_and_leaves(&nodelete("unloadable_with_hook"), 13, 20);
            stays_if_it_is_told_to(&nodelete("constructs_unloadable"), PinReason::NoDelete);
        },
    );
}

#[test]
fn unique_symbols_of_a_plugin_with_unloadable_do_not_keep_it() {
    alone(
        "marks::unique_symbols_of_a_plugin_with_unloadable_do_not_keep_it",
        || {
            // A static that is looked up in every load, which is what has the system keep it.
            let file = unique("constructs_unloadable", "hotswap_unload");
            swaps_and_leaves(&file, 12, 20);
            // One that nobody looks up, so that each generation has its own `unloadable!`.
            let file = unique("constructs_unloadable", "SHARED");
            stays_if_it_is_told_to(&file, PinReason::UniqueSymbols);
        },
    );
}

/// The linker would make the stacks of all threads executable before it finds that a file cannot be used.
#[test]
fn a_plugin_for_executable_stacks_is_refused() {
    let file = changed("build_1", |bytes| {
        let header = FileHeader64::<E>::parse(bytes).unwrap();
        let segments = header.program_headers(E, bytes).unwrap();
        let is_stack = |segment: &&ProgramHeader64<E>| segment.p_type(E) == PT_GNU_STACK;
        let segment = segments.iter().find(is_stack).unwrap();
        let mut new = *segment;
        new.p_flags.set(E, segment.p_flags(E) | PF_X);
        (offset(bytes, segment), pod::bytes_of(&new).to_vec())
    });
    let trust = trust_with(|policy| policy.any_owner = true);
    let error = Hotswap::<FixtureRef>::load(&file, &trust).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::ExecutableStack),
        "{error}"
    );
}

#[test]
fn without_unloadable_the_marks_are_left() {
    alone("marks::without_unloadable_the_marks_are_left", || {
        if !shows_keys() {
            // There, no plugin without `unloadable!` leaves, whatever its marks are.
            return;
        }
        let it = load(&nodelete("build_2"), |_| {});
        it.swap(plugin("build_1")).unwrap();
        assert_eq!(
            it.wait(1, SOON),
            Some(State::Pinned {
                reason: PinReason::NoDelete
            })
        );
    });
}
