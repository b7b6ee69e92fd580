//! A plugin whose symbol table is damaged: the one that the linker needs not, and nobody inspects.

use std::{fs, ops::Range};

use hotswap_core::Hotswap;
use hotswap_fixtures::FixtureRef;

use crate::{
    alone::alone,
    fixtures::{build_of, plugin, trust, unloaded, until},
    process::images,
};

/// `println` of the constructs.
const PRINTLN: u64 = 7;

const SHT_SYMTAB: u32 = 2;
const SHT_NOBITS: u32 = 8;
const SHF_TLS: u64 = 0x400;
const SECTION_BYTES: usize = 64;
const SYMBOL_BYTES: usize = 24;

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(number)
}

/// Where in the file the entry of std's `STDOUT` lies, and the number of the section `.bss`.
fn entry_of_stdout(bytes: &[u8]) -> (Range<usize>, u16) {
    let (table, count) = (
        number::<8>(bytes, 0x28) as usize,
        number::<2>(bytes, 0x3c) as usize,
    );
    let section = |index: usize| table + index * SECTION_BYTES;
    let kind = |index: usize| number::<4>(bytes, section(index) + 4) as u32;
    let offset = |index: usize| number::<8>(bytes, section(index) + 24) as usize;
    let bss = (0..count)
        .find(|&it| kind(it) == SHT_NOBITS && number::<8>(bytes, section(it) + 8) & SHF_TLS == 0);
    let symbols = (0..count)
        .find(|&it| kind(it) == SHT_SYMTAB)
        .expect("a symbol table");
    let names = offset(number::<4>(bytes, section(symbols) + 40) as usize);
    let size = number::<8>(bytes, section(symbols) + 32) as usize;
    let entries = (offset(symbols)..offset(symbols) + size).step_by(SYMBOL_BYTES);
    let is_stdout = |&entry: &usize| {
        let name = &bytes[names + number::<4>(bytes, entry) as usize..];
        let name = name.split(|&byte| byte == 0).next().unwrap();
        name.windows(16).any(|part| part == b"2io5stdio6STDOUT")
    };
    let entry = entries.into_iter().find(is_stdout).expect("std has one");
    (
        entry..entry + SYMBOL_BYTES,
        bss.expect("a section .bss") as u16,
    )
}

#[test]
fn an_address_outside_of_the_image_is_not_read() {
    alone(
        "unloading::symbol_table::an_address_outside_of_the_image_is_not_read",
        || {
            let good = fs::read(plugin("constructs_unloadable")).unwrap();
            let (entry, bss) = entry_of_stdout(&good);
            let size = number::<8>(&good, entry.start + 16);
            let folder = tempfile::tempdir().unwrap();
            // Far away, at the end of all addresses, before the image, and longer than any memory.
            let damages = [
                (0x70_0000_0000, size),
                (u64::MAX - 8, size),
                (u64::MAX << 12, size),
                (0, u64::MAX),
            ];
            for (number, (value, size)) in damages.into_iter().enumerate() {
                let mut bytes = good.clone();
                bytes[entry.start + 6..][..2].copy_from_slice(&bss.to_le_bytes());
                bytes[entry.start + 8..][..8].copy_from_slice(&value.to_le_bytes());
                bytes[entry.start + 16..][..8].copy_from_slice(&size.to_le_bytes());
                let path = folder.path().join(format!("{number}.so"));
                fs::write(&path, bytes).unwrap();
                let it: Hotswap<FixtureRef> = Hotswap::load(&path, &trust()).unwrap();
                it.with(|it| it.text()(PRINTLN).map(drop).unwrap());
                it.swap(plugin("build_1")).unwrap();
                assert_eq!(build_of(&it), 1);
                unloaded(&it, 1);
            }
            // Each swap point leaves its last generation to a thread, which may not have unloaded it yet.
            until(|| images().len() <= 1);
        },
    );
}
