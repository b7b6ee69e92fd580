//! `inspect` on a library made here, on that library damaged in every way it refuses, on every library
//! of this machine, and on many thousands of random damages.

mod fixture;
mod random;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use object::elf::Machine;

use self::fixture::{AARCH64, CODE, DATA, Library, PAGE, RELRO, X86_64, string};
use super::{Export, Facts, Process, inspect, inspect_for};

const X86: Process = Process {
    machine: object::elf::EM_X86_64,
    page_bytes: PAGE,
};
const ROOT: Export<'_> = Export::Static {
    name: "root",
    size_min: 8,
};
/// What a library is asked for that exports nothing of ours.
const ANY: Export<'_> = Export::Prefixed {
    prefix: "hotswap_symbol_",
    size_min: 64,
};

fn facts(library: &Library) -> Facts {
    inspect_for(&library.bytes, ROOT, X86).unwrap()
}

#[track_caller]
fn refusal(bytes: &[u8], export: Export<'_>) -> String {
    inspect_for(bytes, export, X86)
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

#[track_caller]
fn check_kind(bytes: &[u8], expected: &str) {
    assert_eq!(
        refusal(bytes, ROOT),
        format!("not a shared object: {expected}")
    );
}

#[track_caller]
fn check_export(export: Export<'_>, change: impl FnOnce(&mut Library), expected: &str) {
    let mut library = Library::new(&X86_64);
    change(&mut library);
    assert_eq!(refusal(&library.bytes, export), expected);
}

#[test]
fn facts_of_the_fixture() {
    let expected = Facts {
        soname: Some("libfixture.so".into()),
        needed: vec!["libc.so.6".into()],
        runpath: Some("/opt/plugins".into()),
        thread_exit_hook: true,
        thread_locals: true,
        tls_bytes: 32,
        build_id: Some("deadbeef".into()),
        init_functions: 2,
        ..Facts::default()
    };
    assert_eq!(facts(&Library::new(&X86_64)), expected);
    assert_eq!(facts(&Library::with_old_hash(&X86_64)), expected);
    let process = Process {
        machine: Machine(AARCH64.number),
        page_bytes: PAGE,
    };
    assert_eq!(
        inspect_for(&Library::new(&AARCH64).bytes, ROOT, process).unwrap(),
        expected
    );
    // A machine without a table of relocation types.
    let process = Process {
        machine: object::elf::EM_RISCV,
        page_bytes: PAGE,
    };
    let mut other = Library::new(&X86_64);
    other.put16(18, 243);
    assert_eq!(inspect_for(&other.bytes, ROOT, process).unwrap(), expected);
}

#[test]
fn facts_that_flags_tell() {
    let mut library = Library::new(&X86_64);
    library
        .value("flags", 0x8 | 0x10)
        .value("flags_1", 0x1 | 0x8)
        .tag("spare", 22, 0);
    library.set32("PT_GNU_STACK", 4, 7);
    library.set("call", 4, [0xaa, 0]);
    let facts = facts(&library);
    assert!(facts.static_tls && facts.nodelete && facts.text_relocations && facts.executable_stack);
    assert!(facts.unique_symbols && facts.ifuncs);
    assert!(!facts.unique_in_std && !facts.unloadable);
    // No word on the stack means executable.
    let mut library = Library::new(&X86_64);
    library.set32("PT_GNU_STACK", 0, 0);
    assert!(self::facts(&library).executable_stack);
}

/// The changes name bytes of the file, and with them it is what it would be without the marks.
#[test]
fn marks_by_which_the_system_keeps_an_image_can_be_taken_away() {
    let mut marked = Library::new(&X86_64);
    marked
        .value("flags_1", 0x1 | 0x8)
        .tag("spare", 0x6fff_fffb, 0x9);
    marked
        .set("root", 4, [0x21])
        .set("call", 4, [0xa2])
        .set("local", 4, [0xa6]);
    let found = facts(&marked);
    assert!(found.nodelete && found.unique_symbols);
    assert_eq!(
        (found.without_nodelete.len(), found.without_unique.len()),
        (2, 2)
    );
    let mut changed = marked.clone();
    for change in found.without_nodelete.iter().chain(&found.without_unique) {
        let place = usize::try_from(change.offset).unwrap();
        assert_eq!(changed.bytes[place], change.from);
        changed.bytes[place] = change.to;
    }
    let mut expected = marked;
    expected.value("flags_1", 1).tag("spare", 0x6fff_fffb, 1);
    expected.set("call", 4, [0x22]).set("local", 4, [0x26]);
    assert!(changed.bytes == expected.bytes);
    let without = Facts {
        nodelete: false,
        without_nodelete: Vec::new(),
        unique_symbols: false,
        without_unique: Vec::new(),
        ..found
    };
    assert_eq!(facts(&changed), without);
}

#[test]
fn facts_that_relocations_tell() {
    let mut library = Library::new(&X86_64);
    library.set32("rela_tls", 8, 18);
    assert!(facts(&library).static_tls);
    let mut library = Library::new(&X86_64);
    library.set64("rela_got", 8, 37).set64("rela_got", 16, CODE);
    assert!(facts(&library).ifuncs);
}

#[test]
fn other_kinds_of_files_are_named() {
    check_kind(b"", "the file is empty");
    check_kind(&[0; 4096], "nothing but zeros (4096 bytes)");
    check_kind(
        b"!<arch>\n/               0 ",
        "a static library (ar archive)",
    );
    check_kind(b"!<arch>\nlib.rmeta/      0 ", "a Rust library (rlib)");
    check_kind(
        b"!<thin>\n/               0 ",
        "a thin static library (ar archive)",
    );
    check_kind(b"#!/bin/sh -e\nexit\n", "a script for /bin/sh -e");
    check_kind(
        b"#! /usr/bin/\x1b[31mred\n",
        "a script for /usr/bin/\\u{1b}[31mred",
    );
    check_kind(b"\x1f\x8b\x08\0", "gzip-compressed data");
    check_kind(b"\x28\xb5\x2f\xfd\0", "zstd-compressed data");
    check_kind(b"\xfd7zXZ\0\0", "xz-compressed data");
    check_kind(b"BZh91AY", "bzip2-compressed data");
    check_kind(b"\x04\x22\x4d\x18", "lz4-compressed data");
    check_kind(b"PK\x03\x04", "a zip archive");
    check_kind(&[&[b'x'; 257][..], b"ustar\0"].concat(), "a tar archive");
    check_kind(b"\xcf\xfa\xed\xfe\x07\0\0\x01", "a Mach-O file (macOS)");
    check_kind(
        b"\xca\xfe\xba\xbe\0\0\0\x02",
        "a Mach-O universal file (macOS)",
    );
    check_kind(b"\xca\xfe\xba\xbe\0\0\0\x41", "a Java class file");
    check_kind(b"MZ\x90\0", "a Windows executable or DLL");
    check_kind(b"\0asm\x01\0\0\0", "a WebAssembly module");
    check_kind(b"BC\xc0\xde", "LLVM bitcode");
    check_kind(b"rust\0\0\0\x09", "Rust metadata (.rmeta)");
    check_kind(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:",
        "a git-lfs pointer, not the file it stands for",
    );
    check_kind(b"/* GNU ld script\n*/", "a linker script (text)");
    check_kind(
        b"/* why */\nGROUP( libtinfo.so )\n",
        "a linker script (text)",
    );
    check_kind(b"INPUT(-lm)\n", "a linker script (text)");
    check_kind(b"\n<!DOCTYPE html>", "an HTML page");
    check_kind(b"<?xml version='1.0'?>", "an XML document");
    check_kind(b"{\"error\": 404}", "JSON or similar text");
    check_kind(b" \n\n", "blank text");
    check_kind(
        "caf\u{e9} au lait, which is plain text".as_bytes(),
        "plain text",
    );
    check_kind(
        b"\x01\x02\x03\x04",
        "begins with 01 02 03 04, an ELF file with 7f 45 4c 46",
    );
}

#[test]
fn other_kinds_of_elf_files_are_named() {
    let (little, big) = if cfg!(target_endian = "little") {
        ("little", "big")
    } else {
        ("big", "little")
    };
    let other_order = if cfg!(target_endian = "little") { 2 } else { 1 };
    check(
        |lib| _ = lib.put(4, [1]),
        "a 32-bit object, this process is 64-bit",
    );
    check(|lib| _ = lib.put(4, [3]), "ELF class 3, expected 2");
    let expected = format!("a {big}-endian object, this process is {little}-endian");
    check(|lib| _ = lib.put(5, [other_order]), &expected);
    check(
        |lib| _ = lib.put16(18, 183),
        "for aarch64, this process is x86-64",
    );
    check(
        |lib| _ = lib.put16(18, 0x1234),
        "for machine 0x1234, this process is x86-64",
    );
    check(
        |lib| _ = lib.put16(16, 1),
        "an object file, not yet linked to a shared object",
    );
    check(
        |lib| _ = lib.put16(16, 2),
        "an executable, expected a shared object",
    );
    check(
        |lib| _ = lib.put16(16, 4),
        "a core dump, expected a shared object",
    );
    check(
        |lib| _ = lib.put16(16, 0),
        "ELF file type 0x0, expected a shared object",
    );
    check(|lib| _ = lib.put(6, [0]), "ELF version 0, expected 1");
    check(|lib| _ = lib.put32(20, 2), "ELF version 2, expected 1");
    check(
        |lib| _ = lib.put(7, [9]),
        "for another system (OS ABI 9), expected 0 or 3",
    );
    check(
        |lib| _ = lib.value("flags_1", 0x0800_0000),
        "a position-independent executable, expected a shared object",
    );
    check(
        |lib| {
            lib.set32("PT_GNU_EH_FRAME", 0, 3).tag("spare", 21, 0);
        },
        "a position-independent executable, expected a shared object",
    );
    check(
        |lib| _ = lib.value("flags_1", 0x40),
        "marked as not to be opened at run time (DF_1_NOOPEN)",
    );
    check(
        |lib| _ = lib.set64("PT_DYNAMIC", 32, 0),
        "the dynamic table is empty: a detached debug file",
    );
}

#[test]
fn truncated_files_say_so_wherever_they_end() {
    let library = Library::new(&X86_64);
    let whole = library.bytes.len();
    assert_eq!(
        refusal(&library.bytes[..2], ROOT),
        "truncated: needs 64 bytes, has 2"
    );
    assert_eq!(
        refusal(&library.bytes[..63], ROOT),
        "truncated: needs 64 bytes, has 63"
    );
    assert_eq!(
        refusal(&library.bytes[..64], ROOT),
        "truncated: needs 624 bytes, has 64"
    );
    for length in 624..whole {
        let expected = format!("truncated: needs {whole} bytes, has {length}");
        assert_eq!(refusal(&library.bytes[..length], ROOT), expected);
    }
    // Section headers stand last, and nobody loads them.
    check(
        |lib| _ = lib.put64(40, 0x4000).put16(60, 10),
        "truncated: needs 17024 bytes, has 12416",
    );
    check(
        |lib| _ = lib.set64("data", 8, u64::MAX - 8),
        "0x1080 bytes at offset 0xfffffffffffffff7 are beyond any file",
    );
}

#[test]
fn damaged_program_headers() {
    check(
        |lib| _ = lib.put16(56, 0),
        "not loadable: no program headers",
    );
    check(
        |lib| _ = lib.put16(56, 0xffff),
        "65535 program headers, at most 256 make sense",
    );
    check(
        |lib| _ = lib.put16(54, 32),
        "program headers of 32 bytes, expected 56",
    );
    check(
        |lib| _ = lib.put64(32, 65),
        "program headers at offset 0x41, inside the file header or unaligned",
    );
    check(
        |lib| _ = lib.set64("PT_PHDR", 16, 72),
        "program headers are at offset 0x40, but not mapped at 0x48",
    );
    check(
        |lib| {
            lib.set64("PT_PHDR", 16, 72).set64("PT_PHDR", 8, 72);
        },
        "program headers are at offset 0x40, but not mapped at 0x48",
    );
    // The loader finds them by itself, in pages that nobody may read.
    check(
        |lib| {
            lib.set32("PT_PHDR", 0, 0).set32("tables", 4, 1);
        },
        "program headers are at offset 0x40, but not mapped at 0x40",
    );
}

#[test]
fn damaged_load_segments() {
    let no_loads = |lib: &mut Library| {
        for part in ["tables", "code", "data"] {
            lib.put32(lib.at(part), 0);
        }
    };
    check(no_loads, "not loadable: no load segments");
    check(
        |lib| _ = lib.set64("code", 40, 0x3f),
        "load segment 1: 0x40 bytes in the file but 0x3f in memory",
    );
    check(
        |lib| _ = lib.set64("code", 48, 0x3000),
        "load segment 1: alignment 0x3000",
    );
    check(
        |lib| _ = lib.set64("code", 48, 1 << 40),
        "load segment 1: alignment 0x10000000000",
    );
    check(
        |lib| _ = lib.set64("code", 16, 0x1800),
        "load segment 1: address 0x1800 and offset 0x1000 differ modulo 0x1000",
    );
    check(
        |lib| _ = lib.set64("data", 40, u64::MAX - 0x3000),
        "load segment 2: 0xffffffffffffcfff bytes at 0x3000 overflow",
    );
    check(
        |lib| _ = lib.set64("data", 40, 1 << 40),
        "load segments span 0x10000003000 bytes of address space, at most 0x400000000 make sense",
    );
    check(
        |lib| _ = lib.set64("code", 40, 0x2001),
        "load segment at 0x3000 begins before the one at 0x1000 ends (0x3001)",
    );
    check(
        |lib| _ = lib.set64("code", 16, 0x9000),
        "load segment at 0x3000 begins before the one at 0x9000 ends (0x9040)",
    );
    check(
        |lib| _ = lib.set64("code", 8, 0x2000),
        "load segments at 0x1000 and 0x3000 map the same bytes of the file (offset 0x2000)",
    );
    check(
        |lib| _ = lib.set64("code", 32, 0x20),
        "load segment 1: code that ends in 0x20 bytes of zeros",
    );
    // Zeros only, from a page of the file that does not exist: SIGBUS in the loader's memset.
    check(
        |lib| {
            let place = lib.at("PT_NOTE");
            lib.put32(place, 1)
                .put64(place + 8, 0x9010)
                .put64(place + 16, 0x8010);
            lib.put64(place + 32, 0)
                .put64(place + 40, 0x10)
                .put64(place + 48, PAGE);
        },
        "load segment at 0x8010 begins in a page of the file that does not exist (offset 0x9000)",
    );
}

#[test]
fn damaged_other_segments() {
    let dynamic = "dynamic table at 0x3100 (0x1f0 bytes) is not inside a readable load segment";
    check(|lib| _ = lib.set32("data", 4, 2), dynamic);
    check(
        |lib| _ = lib.set64("PT_DYNAMIC", 16, 0x9000),
        "dynamic table at 0x9000 (0x1f0 bytes) is not inside a readable load segment",
    );
    check(
        |lib| {
            lib.set64("PT_DYNAMIC", 16, 0x3104)
                .set64("PT_DYNAMIC", 8, 0x2104);
        },
        "dynamic table at 0x3104, which is not aligned to 8 bytes",
    );
    check(
        |lib| _ = lib.value("null", 1).set64("null", 0, 1),
        "dynamic table at 0x3100 has no end (DT_NULL) in its 31 entries",
    );
    check(
        |lib| _ = lib.set32("data", 4, 4),
        "load segment 2: constants that end in 0x180 bytes of zeros",
    );
    check(
        |lib| _ = lib.set32("data", 4, 4).set64("data", 40, 0x1080),
        "dynamic table at 0x3100 is to be written, in a read-only segment",
    );
    check(
        |lib| _ = lib.set32("PT_DYNAMIC", 0, 0),
        "no dynamic table (PT_DYNAMIC): static, or a detached debug file",
    );
    check(
        |lib| {
            let place = lib.at("PT_NOTE");
            let copy: [u8; 56] = lib.bytes[lib.at("PT_DYNAMIC")..][..56].try_into().unwrap();
            lib.put(place, copy);
        },
        "two dynamic tables (PT_DYNAMIC), expected one",
    );
    check(
        |lib| _ = lib.set64("PT_TLS", 32, 0x40),
        "thread-local segment: 0x40 bytes in the file but 0x20 in memory",
    );
    check(
        |lib| _ = lib.set64("PT_TLS", 40, 1 << 40),
        "thread-local segment of 0x10000000000 bytes, at most 0x10000000 make sense",
    );
    check(
        |lib| _ = lib.set64("PT_TLS", 48, 0),
        "thread-local segment with alignment 0x0",
    );
    check(
        |lib| _ = lib.set64("PT_TLS", 16, 0x9000),
        "thread-local segment at 0x9000 (0x8 bytes) is not inside a readable load segment",
    );
    check(
        |lib| _ = lib.set64("PT_TLS", 8, 0x2008),
        "segment of type 0x7 at 0x3000 is mapped from offset 0x2000, but says 0x2008",
    );
    check(
        |lib| _ = lib.set64("PT_GNU_RELRO", 16, CODE),
        "read-only-after-relocation range at 0x1000 (0x1000 bytes) is not inside a writable load segment",
    );
    check(
        |lib| _ = lib.set64("PT_GNU_EH_FRAME", 40, 0x200),
        "unwind table at 0x700 (0x200 bytes) is not inside a readable load segment",
    );
    check(
        |lib| {
            lib.set64("PT_NOTE", 48, 8).set32("note", 4, 0x100);
        },
        "a note in the segment at 0x720 is longer than the segment",
    );
    check(
        |lib| {
            lib.set64("PT_NOTE", 48, 8).set64("PT_NOTE", 40, 0x200);
        },
        "note at 0x720 (0x200 bytes) is not inside a readable, file-backed segment",
    );
}

#[test]
fn damaged_dynamic_table() {
    let gone = |entry: &'static str| move |lib: &mut Library| _ = lib.without(entry);
    check(gone("strtab"), "the dynamic table has no DT_STRTAB");
    check(
        gone("strsz"),
        "the dynamic table has DT_STRTAB but not its size",
    );
    check(gone("symtab"), "the dynamic table has no DT_SYMTAB");
    check(
        gone("relasz"),
        "the dynamic table has DT_RELA but not its size",
    );
    check(
        gone("relaent"),
        "the dynamic table has DT_RELA but not its entry size",
    );
    check(
        gone("relrent"),
        "the dynamic table has DT_RELR but not its entry size",
    );
    check(
        gone("init_arraysz"),
        "the dynamic table has DT_INIT_ARRAY but not its size",
    );
    check(
        gone("jmprel"),
        "the dynamic table has one of DT_JMPREL and DT_PLTREL, expected both",
    );
    check(
        gone("hash"),
        "no symbol hash table (neither DT_GNU_HASH nor DT_HASH)",
    );
    check(
        gone("versym"),
        "has symbol versions but no table of them (DT_VERSYM)",
    );
    check(
        |lib| _ = lib.value("syment", 16),
        "symbols of 16 bytes (DT_SYMENT), expected 24",
    );
    check(
        |lib| _ = lib.value("relaent", 16),
        "DT_RELA entries of 16 bytes, expected 24",
    );
    check(
        |lib| _ = lib.value("relasz", 0x88),
        "DT_RELA has 0x88 bytes, expected a multiple of 24",
    );
    check(
        |lib| _ = lib.value("init_arraysz", 9),
        "DT_INIT_ARRAY has 0x9 bytes, expected a multiple of 8",
    );
    check(
        |lib| _ = lib.value("rela", 0x4c4),
        "DT_RELA at 0x4c4, which is not aligned to 8 bytes",
    );
    check(
        |lib| _ = lib.value("pltrel", 17),
        "relocations of type 17 (DT_PLTREL), expected 7",
    );
    check(
        |lib| _ = lib.tag("spare", 33, 8),
        "has pre-initialisers (DT_PREINIT_ARRAY), which only an executable may have",
    );
    check(
        |lib| {
            lib.tag("spare", 17, 0x4c0).tag("runpath", 18, 16);
        },
        "has relocations without addends (DT_REL), which this machine's loader ignores",
    );
    check(
        |lib| _ = lib.value("strtab", 0x7f0),
        "string table (DT_STRTAB) at 0x7f0 (0x75 bytes) is not inside a readable, file-backed segment",
    );
    check(
        |lib| _ = lib.value("strsz", 0),
        "the string table (DT_STRTAB) is empty",
    );
    check(
        |lib| _ = lib.value("strsz", 4),
        "the string table (DT_STRTAB) does not end with a zero",
    );
    check(
        |lib| _ = lib.value("needed", 0),
        "needs a library with an empty name (DT_NEEDED)",
    );
    for (entry, tag) in [
        ("needed", "DT_NEEDED"),
        ("soname", "DT_SONAME"),
        ("runpath", "DT_RUNPATH"),
    ] {
        let expected =
            format!("{tag} names the string at 0x1000, but the string table has 0x75 bytes");
        check(|lib| _ = lib.value(entry, 0x1000), &expected);
    }
}

#[test]
fn too_many_needed_libraries() {
    let mut library = Library::new(&X86_64);
    // A dynamic table of its own, behind everything else.
    let address = library.bytes.len() as u64 + 0x1000;
    let entry = [1, u64::from(string("libc.so.6"))]
        .map(u64::to_ne_bytes)
        .concat();
    let first = library.bytes[library.at("needed")..library.at("null")].to_vec();
    let table = [first, entry.repeat(1025), vec![0; 16]].concat();
    let length = table.len() as u64;
    library.bytes.extend(table);
    let end = library.bytes.len() as u64 - 0x2000;
    library.set64("data", 32, end).set64("data", 40, end);
    library
        .set64("PT_DYNAMIC", 8, address - 0x1000)
        .set64("PT_DYNAMIC", 16, address);
    library
        .set64("PT_DYNAMIC", 32, length)
        .set64("PT_DYNAMIC", 40, length);
    assert_eq!(
        refusal(&library.bytes, ROOT),
        "needs 1026 libraries (DT_NEEDED), at most 1024 make sense"
    );
}

#[test]
fn names_too_long_for_the_loaders_stack() {
    let mut library = Library::new(&X86_64);
    // The last part of the data becomes the string table: one long name.
    let place = library.bytes.len() as u64;
    library.bytes.extend([b'x'; 5000]);
    library.bytes.push(0);
    let end = library.bytes.len() as u64 - 0x2000;
    library.set64("data", 32, end).set64("data", 40, end);
    library
        .value("strtab", place + 0x1000)
        .value("strsz", 5001)
        .value("needed", 1);
    let shown = "x".repeat(120);
    let expected = format!("DT_NEEDED is a name of more than 4096 bytes: {shown}…");
    assert_eq!(refusal(&library.bytes, ROOT), expected);
    library
        .without("needed")
        .without("soname")
        .value("runpath", 2);
    let expected = format!("DT_RUNPATH has a directory of more than 4096 bytes: {shown}…");
    assert_eq!(refusal(&library.bytes, ROOT), expected);
}

#[test]
fn damaged_versions() {
    check(
        |lib| _ = lib.set16("verneed_table", 0, 2),
        "needed version at 0x440 of revision 2, expected 1",
    );
    check(
        |lib| _ = lib.set32("verneed_table", 4, string("other")),
        "needs versions of other, which is not among the needed libraries",
    );
    check(
        |lib| _ = lib.set32("verneed_table", 4, 0x1000),
        "version at 0x440 names the string at 0x1000, beyond the string table",
    );
    check(
        |lib| _ = lib.set32("verneed_table", 12, 0x1000),
        "needed version (DT_VERNEED) at 0x1440 is unaligned or not inside a readable, file-backed segment",
    );
    check(
        |lib| _ = lib.set32("verneed_table", 8, 2),
        "needed version (DT_VERNEED) at 0x442 is unaligned or not inside a readable, file-backed segment",
    );
    check(
        |lib| _ = lib.set16("verdef_table", 0, 0),
        "defined version at 0x470 of revision 0, expected 1",
    );
    check(
        |lib| _ = lib.set32("verdef_table", 12, 0x8000),
        "defined version (DT_VERDEF) at 0x8470 is unaligned or not inside a readable, file-backed segment",
    );
    check(
        |lib| _ = lib.set16("versym_table", 2, 9),
        "symbol 1 (__cxa_thread_atexit_impl) has version 9, the highest is 4",
    );
    check(
        |lib| _ = lib.value("versym", 0x7fc),
        "symbol versions (DT_VERSYM) at 0x7fc (0xc bytes) is not inside a readable, file-backed segment",
    );
    check(
        |lib| {
            _ = lib
                .without("verneed")
                .without("verdef")
                .without("versym")
                .value("versym", 0)
                .tag("spare", 0x6fff_fff0, 0x430)
        },
        "symbol 1 (__cxa_thread_atexit_impl) has version 2, the highest is 0",
    );
}

#[test]
fn damaged_hash_tables() {
    let what = "symbol hash table (DT_GNU_HASH)";
    check(
        |lib| _ = lib.set32("gnu_hash", 0, 0),
        &format!("{what}: no buckets"),
    );
    for words in [0, 3] {
        let expected = format!("{what}: a filter of {words} words, expected a power of two");
        check(|lib| _ = lib.set32("gnu_hash", 8, words), &expected);
    }
    check(
        |lib| _ = lib.set32("gnu_hash", 8, 1 << 31),
        &format!(
            "{what} at 0x3c0 (0x400000014 bytes) is not inside a readable, file-backed segment"
        ),
    );
    check(
        |lib| _ = lib.set32("gnu_hash", 0x18, 2),
        &format!("{what}: a bucket begins with symbol 2, the first is 3"),
    );
    check(
        |lib| _ = lib.set32("gnu_hash", 0x18, 1 << 30),
        &format!("{what}: the chain of symbol 1073741824 has no end in its segment"),
    );
    check(
        |lib| _ = lib.value("hash", 0x3c4),
        &format!("{what} at 0x3c4, which is not aligned to 8 bytes"),
    );
    let old = |change: fn(&mut Library, usize), expected: &str| {
        let library = Library::with_old_hash(&X86_64);
        let place = library.at("old_hash");
        let expected = format!("symbol hash table (DT_HASH){expected}");
        check_in(library, |lib| change(lib, place), &expected);
    };
    old(|lib, place| _ = lib.put32(place, 0), ": no buckets");
    old(
        |lib, place| _ = lib.put32(place + 8, 6),
        ": a chain leads to symbol 6, there are 6",
    );
    old(
        |lib, place| _ = lib.put32(place + 12 + 20, 3),
        ": a chain goes round at symbol 3",
    );
    old(
        |lib, place| _ = lib.put32(place + 4, 1 << 20),
        " at 0x400 (0x40000c bytes) is not inside a readable, file-backed segment",
    );
}

#[test]
fn damaged_symbols() {
    check(
        |lib| _ = lib.set32("weak", 0, 0x1000),
        "symbol 2 names the string at 0x1000, beyond the string table",
    );
    check(
        |lib| _ = lib.set64("root", 8, 0x9000),
        "symbol 3 (root) has value 0x9000, outside the image",
    );
    check(
        |lib| _ = lib.set64("call", 8, DATA),
        "symbol 4 (call) has value 0x4000, which is not executable code",
    );
    check(
        |lib| _ = lib.set64("local", 8, 0x21),
        "symbol 5 (local) has value 0x21, outside the thread-local segment",
    );
    check(
        |lib| _ = lib.value("symtab", 0x780),
        "symbol table (DT_SYMTAB) at 0x780 (0x90 bytes) is not inside a readable, file-backed segment",
    );
    check(
        |lib| _ = lib.value("relr", 0x570),
        "DT_RELR at 0x570 lies within DT_JMPREL (0x560 to 0x578)",
    );
    check(
        |lib| _ = lib.set("weak", 5, [2]),
        "a relocation refers to symbol 2 (other), which is local or hidden but undefined",
    );
}

#[test]
fn what_relocations_leave() {
    let leaves =
        |address: u64| format!("leaves the address {address:#x}, which is outside of the image");
    check(
        |lib| _ = lib.set64("rela_data", 16, DATA | 1 << 40),
        &format!("relocation at 0x4008 {}", leaves(DATA | 1 << 40)),
    );
    check(
        |lib| _ = lib.set64("rela_address", 16, 1 << 63),
        &format!("relocation at 0x4000 {}", leaves(DATA | 1 << 63)),
    );
    // Packed: what stands in the file is the address.
    check(
        |lib| _ = lib.set64("init_slot", 0x1008, 1 << 20),
        &format!("relocation at 0x4018 {}", leaves(1 << 20)),
    );
    check(
        |lib| _ = lib.set64("rela_data", 0, DATA + 9),
        "relocation at 0x4009 would write 8 bytes at an unaligned address",
    );
    check(
        |lib| _ = lib.set64("rela_data", 0, DATA),
        "two relocations write at 0x4000",
    );
    check(
        |lib| _ = lib.set64("rela_data", 0, DATA + 0x18),
        "two relocations write at 0x4018",
    );
    check(
        |lib| _ = lib.set64("rela_data", 0, DATA + 0x100),
        "relocation at 0x4100 would write where the image has only zeros",
    );
    // An absolute symbol is a number.
    let mut lib = Library::new(&X86_64);
    lib.set16("root", 6, 0xfff1)
        .set64("root", 8, 0xb800_0000_0000);
    inspect_for(&lib.bytes, Export::Function { name: "call" }, X86).unwrap();
    for good in [RELRO + 0x1200, DATA - 16, 0, RELRO + 0x1ff0] {
        let mut lib = Library::new(&X86_64);
        lib.set64("rela_data", 16, good);
        inspect_for(&lib.bytes, ROOT, X86).unwrap();
    }
}

/// Some linkers count them twice.
#[test]
fn the_second_table_may_be_the_end_of_the_first() {
    let mut lib = Library::new(&X86_64);
    lib.value("jmprel", 0x538).set32("rela_address", 8, 7);
    inspect_for(&lib.bytes, ROOT, X86).unwrap();
}

#[test]
fn damaged_relocations() {
    // The symbol of that one is weak.
    check(
        |lib| _ = lib.set32("rela_got", 8, 33),
        "relocation at 0x3400 is for the size of other, which need not be there",
    );
    check(
        |lib| _ = lib.set32("rela_got", 8, 3),
        "relocation at 0x3400 has type 3, which no loader knows",
    );
    // Left over: no addend; anything else is not what it says.
    let mut taken_back = Library::new(&X86_64);
    taken_back.set32("rela_address", 8, 0);
    inspect_for(&taken_back.bytes, ROOT, X86).unwrap();
    check(
        |lib| _ = lib.set32("rela_data", 8, 0).value("relacount", 2),
        "relocation at 0x4008 does nothing, but has an addend (0x4000)",
    );
    check(
        |lib| _ = lib.set32("rela_got", 8, 5),
        "relocation at 0x3400 copies a symbol, as only executables do",
    );
    check(
        |lib| _ = lib.set32("rela_got", 12, 6),
        "a relocation refers to symbol 6, there are 6",
    );
    check(
        |lib| _ = lib.set32("rela_data", 12, 600),
        "a relocation refers to symbol 600, there are 6",
    );
    check(
        |lib| _ = lib.set32("rela_got", 12, 0),
        "relocation at 0x3400 is unaligned or for no symbol",
    );
    check(
        |lib| _ = lib.set32("rela_call", 8, 1),
        "DT_JMPREL has a relocation of type 1",
    );
    check(
        |lib| _ = lib.set64("rela_data", 0, CODE),
        "relocation at 0x1000 would write where the image is not writable",
    );
    check(
        |lib| _ = lib.set64("rela_data", 0, DATA + 0x1fc),
        "relocation at 0x41fc would write where the image is not writable",
    );
    check(
        |lib| _ = lib.set64("rela_data", 0, RELRO + 0x108),
        "relocation at 0x3108 would write into the dynamic table",
    );
    check(
        |lib| _ = lib.value("relacount", 4),
        "relocation 3 is among the 4 relative ones (DT_RELACOUNT), but is not relative",
    );
    check(
        |lib| _ = lib.value("relacount", 7),
        "DT_RELACOUNT is 7, there are 6 relocations",
    );
    check(
        |lib| _ = lib.value("rela", 0x7f8),
        "DT_RELA at 0x7f8 (0x90 bytes) is not inside a readable, file-backed segment",
    );
    check(
        |lib| _ = lib.set64("rela_got", 8, 37),
        "relocation at 0x3400 calls 0x0, which is not executable code",
    );
    check(
        |lib| _ = lib.set32("rela_tls", 12, 3),
        "relocation at 0x3408 treats root as a thread-local, which it is not",
    );
    check(
        |lib| {
            // Local-dynamic: no symbol, so it means the image's own segment.
            lib.set32("PT_TLS", 0, 0).set32("rela_tls", 12, 0);
            lib.set("local", 4, [0x11, 0]).set64("local", 8, DATA);
        },
        "relocation at 0x3408 is for a thread-local, but there is no thread-local segment",
    );
    check(
        |lib| _ = lib.set64("relr_table", 0, 0b11),
        "DT_RELR has a bitmap without an address to begin from",
    );
    check(
        |lib| _ = lib.set64("relr_table", 0, CODE),
        "relocation at 0x1000 would write where the image is not writable",
    );
    check(
        |lib| _ = lib.value("relr", 0x7f8),
        "DT_RELR at 0x7f8 (0x10 bytes) is not inside a readable, file-backed segment",
    );
}

#[test]
fn damaged_functions_to_call() {
    check(
        |lib| _ = lib.value("init", DATA),
        "DT_INIT is at 0x4000, which is not executable code",
    );
    check(
        |lib| _ = lib.value("fini", 0),
        "DT_FINI is at 0x0, which is not executable code",
    );
    check(
        |lib| _ = lib.set64("rela_init", 16, DATA),
        "DT_INIT_ARRAY calls 0x4000 (entry 0), which is not executable code",
    );
    check(
        |lib| _ = lib.set64("rela_init", 0, DATA + 0x40),
        "DT_INIT_ARRAY entry 0 (0x0) is not relocated to an address",
    );
    check(
        |lib| _ = lib.set64("rela_data", 0, RELRO + 0x14),
        "a relocation at 0x3014 writes across entries of DT_INIT_ARRAY",
    );
    check(
        |lib| _ = lib.set64("rela_tls", 0, RELRO + 0x10),
        "two relocations write DT_INIT_ARRAY at 0x3010",
    );
    check(
        |lib| {
            lib.set64("rela_init", 0, DATA + 0x40)
                .set64("rela_tls", 0, RELRO + 0x10);
        },
        "a relocation at 0x3010 leaves no address in DT_INIT_ARRAY",
    );
    check(
        |lib| _ = lib.value("fini_array", DATA + 0x100),
        "DT_FINI_ARRAY at 0x4100 (0x8 bytes) is not inside a readable, file-backed segment",
    );
    // One segment for tables and code, as small linkers make it.
    check(
        |lib| {
            lib.set32("tables", 4, 5).set64("rela_init", 16, 0x328);
        },
        "DT_INIT_ARRAY calls 0x328 (entry 0), which is not executable code",
    );
}

#[test]
fn the_export_must_be_what_the_host_expects() {
    let library = Library::new(&X86_64);
    for export in [ROOT, Export::Function { name: "call" }, ANY] {
        inspect_for(&library.bytes, export, X86).unwrap();
    }
    let of = |name| Export::Static { name, size_min: 8 };
    let unchanged = |_: &mut Library| {};
    check_export(
        of("absent"),
        unchanged,
        "does not export absent: no such symbol",
    );
    check_export(of(""), unchanged, "does not export : no such symbol");
    check_export(
        of("other"),
        unchanged,
        "does not export other: it only imports that symbol",
    );
    check_export(
        of("call"),
        unchanged,
        "exports call as a function, expected a static",
    );
    check_export(
        of("local"),
        unchanged,
        "exports local as a thread-local, expected a static",
    );
    check_export(
        Export::Function { name: "root" },
        unchanged,
        "exports root as a static, expected a function",
    );
    check_export(
        Export::Static {
            name: "root",
            size_min: 9,
        },
        unchanged,
        "exports root with 8 bytes, expected at least 9",
    );
    let all = |prefix, size_min| Export::Prefixed { prefix, size_min };
    let named = |prefix, size_min| {
        let facts = inspect_for(&library.bytes, all(prefix, size_min), X86);
        facts.unwrap().named
    };
    assert_eq!(named("ro", 8), ["ot"]);
    assert_eq!(named("root", 8), [""]);
    assert_eq!(named("other", 8), [""; 0], "that is not its own");
    check_export(
        all("ro", 9),
        unchanged,
        "exports root with 8 bytes, expected at least 9",
    );
    check_export(
        all("c", 1),
        unchanged,
        "exports call as a function, expected a static",
    );
    check_export(
        all("ro", 8),
        |lib| {
            let name = lib.bytes.windows(5).position(|it| it == b"root\0").unwrap();
            lib.bytes[name + 2] = 0xff;
        },
        "exports ro\u{fffd}t, expected a name of at most 256 bytes of text",
    );
    let info = |byte: u8, other: u8| move |lib: &mut Library| _ = lib.set("root", 4, [byte, other]);
    check_export(
        ROOT,
        info(0x01, 0),
        "does not export root: the symbol is local",
    );
    check_export(
        ROOT,
        info(0x11, 2),
        "does not export root: the symbol is hidden",
    );
    check_export(
        ROOT,
        info(0x10, 0),
        "exports root as something without a type, expected a static",
    );
    check_export(
        ROOT,
        info(0xa1, 0),
        "exports root as unique in the process: the first one loaded would answer for all",
    );
    check_export(
        ROOT,
        |lib| _ = lib.set64("root", 8, 0),
        "does not export root: the symbol has no address",
    );
    check_export(
        ROOT,
        |lib| _ = lib.set64("root", 16, 0x1000),
        "exports root at 0x4000, which is not readable memory",
    );
    check_export(
        ROOT,
        |lib| _ = lib.set16("versym_table", 6, 0x8003),
        "does not export root: the symbol is in no hash table, or only in an old version",
    );
    check_export(
        ROOT,
        |lib| _ = lib.set32("gnu_hash", 0x1c, 0),
        "does not export root: the symbol is in no hash table, or only in an old version",
    );
    // Protected, weak and newest-version symbols are found.
    let mut library = Library::new(&X86_64);
    library
        .set("root", 4, [0x21, 3])
        .set16("versym_table", 6, 3);
    facts(&library);
}

#[test]
fn no_file_takes_long() {
    // Every needed version leads into one long chain of versions.
    let mut versions = Library::new(&X86_64);
    let start = versions.bytes.len();
    let entries = 100_000;
    for number in 0..entries {
        versions
            .bytes
            .extend([1u16, 1].map(u16::to_ne_bytes).concat());
        let next = if number + 1 == entries { 0 } else { 16 };
        versions.bytes.extend(
            [string("libc.so.6"), 16, next]
                .map(u32::to_ne_bytes)
                .concat(),
        );
    }
    let end = (versions.bytes.len() - 0x2000) as u64;
    versions.set64("data", 32, end).set64("data", 40, end);
    versions.value("verneed", start as u64 + 0x1000);
    let begin = Instant::now();
    assert_eq!(
        refusal(&versions.bytes, ROOT),
        "more than 65536 symbol versions"
    );
    // Every bucket leads into one long chain of symbols.
    let mut hash = Library::with_old_hash(&X86_64);
    let start = hash.bytes.len();
    let (buckets, symbols) = (100_000u32, 100_000u32);
    hash.bytes
        .extend([buckets, symbols].map(u32::to_ne_bytes).concat());
    hash.bytes
        .extend((0..buckets).flat_map(|_| 1u32.to_ne_bytes()));
    hash.bytes
        .extend((1..=symbols).flat_map(|next| (next % symbols).to_ne_bytes()));
    let end = (hash.bytes.len() - 0x2000) as u64;
    hash.set64("data", 32, end).set64("data", 40, end);
    hash.value("hash", start as u64 + 0x1000);
    assert!(refusal(&hash.bytes, ROOT).starts_with("symbol table (DT_SYMTAB) at 0x280"));
    // A quadratic walk of either takes minutes.
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "took {:?}",
        begin.elapsed()
    );
}

/// As `objcopy`, `llvm-objcopy` and `eu-strip -f` make them: the code is gone, and the headers that describe it are not.
#[test]
fn debug_information_without_its_library_is_named() {
    let expected = "debug information alone, without the library that it was split from (objcopy --only-keep-debug): \
                    give that";
    let folder = tempfile::tempdir().unwrap();
    for library in own_libraries() {
        for tool in ["objcopy", "llvm-objcopy"] {
            let split = folder.path().join("split.debug");
            let mut command = Command::new(tool);
            command.arg("--only-keep-debug").arg(&library).arg(&split);
            if !command.output().is_ok_and(|output| output.status.success()) {
                println!("not tested: no {tool}");
                continue;
            }
            let refused = inspect(&fs::read(&split).unwrap(), ANY).unwrap_err();
            assert_eq!(refused.to_string(), expected, "{library:?}");
        }
        let bytes = without_code(fs::read(&library).unwrap());
        let refused = inspect(&bytes, ANY).unwrap_err();
        assert_eq!(refused.to_string(), expected, "{library:?}");
        // Whatever else is wrong with it.
        let refused = inspect(&bytes[..bytes.len() - 1], ANY).unwrap_err();
        assert!(refused.to_string().starts_with("truncated: "), "{refused}");
    }
}

/// What each section and segment that is loaded has in the file, said to be nothing.
fn without_code(mut bytes: Vec<u8>) -> Vec<u8> {
    use object::elf::{PT_DYNAMIC, PT_LOAD, SHT_NOBITS, SHT_NOTE};
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let half = |bytes: &[u8], at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]).into();
    let kind = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (segments, sections) = (word(&bytes, 32) as usize, word(&bytes, 40) as usize);
    for at in (0..half(&bytes, 56)).map(|index: usize| segments + 56 * index) {
        if [PT_LOAD.0, PT_DYNAMIC.0].contains(&kind(&bytes, at)) {
            bytes[at + 32..at + 40].fill(0);
        }
    }
    for at in (0..half(&bytes, 60)).map(|index: usize| sections + 64 * index) {
        let is_loaded = word(&bytes, at + 8) & 2 != 0;
        if is_loaded && kind(&bytes, at + 4) != SHT_NOTE.0 {
            bytes[at + 4..at + 8].copy_from_slice(&SHT_NOBITS.0.to_le_bytes());
        }
    }
    bytes
}

#[test]
fn bytes_may_lie_at_any_address() {
    let library = Library::new(&X86_64);
    for shift in 0..8 {
        let moved = [vec![0; shift], library.bytes.clone()].concat();
        inspect_for(&moved[shift..], ROOT, X86).unwrap();
    }
}

/// The libraries that this process itself runs on: there are always some.
fn own_libraries() -> Vec<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let files = maps
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(5));
    let libraries: BTreeSet<&str> = files.filter(|file| file.contains(".so")).collect();
    assert!(
        !libraries.is_empty(),
        "a test runs on shared libraries:\n{maps}"
    );
    libraries.into_iter().map(PathBuf::from).collect()
}

fn libraries_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        let Ok(kind) = kind else { continue };
        if kind.is_dir() {
            libraries_below(&path, found);
        } else if kind.is_file()
            && path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().contains(".so"))
        {
            found.push(path);
        }
    }
}

/// The plugins of the tests, and the one of the demo: built here, since these tests run before those that build them.
fn own_plugins() -> Vec<PathBuf> {
    let target = std::env::current_exe().unwrap();
    let target = target.ancestors().nth(3).expect("target/debug/deps/NAME");
    let cargo = |options: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--quiet", "--target-dir"])
            .arg(target)
            .args(options)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("CARGO_BUILD_TARGET");
        assert!(cargo.status().unwrap().success(), "{options:?}");
    };
    cargo(&["--package", "hotswap-fixtures", "--examples"]);
    cargo(&["--package", "hotswap-plugin"]);
    let mut paths = Vec::new();
    libraries_below(&target.join("debug/examples"), &mut paths);
    // Under names with a hash there are also those of earlier builds.
    paths.retain(|path| !path.file_name().unwrap().to_string_lossy().contains('-'));
    paths.push(target.join("debug/libplugin.so"));
    paths
}

/// What std itself imports is nothing to report of a plugin.
#[test]
fn a_plugin_in_plain_rust_leaves_nothing_and_shares_nothing() {
    /// They are there to leave something.
    const LEAVE: [&str; 3] = [
        "libfunctions_plain.so",
        "libconstructs_plain.so",
        "libkit_unbound.so",
    ];
    let (mut plugins, mut with_kit) = (0, 0);
    for path in own_plugins() {
        let found = inspect(&fs::read(&path).unwrap(), ANY).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let leaves = LEAVE.iter().any(|it| name == *it);
        assert_eq!(
            !found.leaves.is_empty(),
            leaves,
            "{name}: {:?}",
            found.leaves
        );
        assert_eq!(found.imports_rust, None, "{}", path.display());
        assert!(!found.nodelete && !found.unique_symbols);
        plugins += 1;
        with_kit += usize::from(found.unloadable);
    }
    assert!(plugins > 20, "only {plugins} were found");
    assert!((5..plugins).contains(&with_kit), "{with_kit} have the kit");
}

/// No good library is refused. Files of the usual folders that are none are refused for that reason,
/// and for no other.
#[test]
fn every_library_of_this_machine_passes() {
    // Reading larger ones takes longer than inspecting them.
    const FILE_BYTES_MAX: u64 = 32 << 20;
    const NO_LIBRARIES: [&str; 7] = [
        // Linker scripts, texts about a library, compressed manuals.
        "not a shared object: ",
        // For other processes.
        "a 32-bit object, ",
        "for ",
        // Named like libraries.
        "an object file, ",
        "an executable, ",
        "a position-independent executable, ",
        // What debug packages install: sections without their contents.
        "the dynamic table is empty: a detached debug file",
    ];
    let mut paths = own_libraries();
    for folder in ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"] {
        libraries_below(Path::new(folder), &mut paths);
    }
    if let Some(folder) = env::var_os("HOTSWAP_LIBRARIES") {
        libraries_below(Path::new(&folder), &mut paths);
    }
    let mut passed = 0;
    let mut refused = Vec::new();
    for path in paths {
        if fs::metadata(&path).map_or(u64::MAX, |file| file.len()) > FILE_BYTES_MAX {
            continue;
        }
        let Ok(bytes) = fs::read(&path) else { continue };
        match inspect(&bytes, ANY).map_err(|refusal| refusal.to_string()) {
            Ok(_) => passed += 1,
            Err(why) if NO_LIBRARIES.iter().any(|other| why.starts_with(other)) => {}
            Err(why) => refused.push(format!("{}: {why}", path.display())),
        }
    }
    assert!(
        refused.is_empty(),
        "{} refused, {passed} passed:\n{}",
        refused.len(),
        refused.join("\n")
    );
    assert!(passed > 0);
    println!("{passed} libraries passed");
}
