//! Files that are something else, or not whole.

use std::{fs, process::Command};

use hotswap_elf::Query;

use crate::{
    NATIVE, ROOT, check,
    fixture::{Library, X86_64},
    libraries::own_libraries,
    refusal,
};

#[track_caller]
fn check_kind(bytes: &[u8], expected: &str) {
    assert_eq!(
        refusal(bytes, ROOT),
        format!("not a shared object: {expected}")
    );
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
        "a script for /usr/bin/\\x1b[31mred",
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

/// As `objcopy`, `llvm-objcopy` and `eu-strip -f` make them: the code is gone, and the headers that describe it are
/// not.
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
            let refused =
                hotswap_elf::inspect(&fs::read(&split).unwrap(), Query::default(), NATIVE)
                    .unwrap_err();
            assert_eq!(refused.to_string(), expected, "{library:?}");
        }
        let bytes = without_code(fs::read(&library).unwrap());
        let refused = hotswap_elf::inspect(&bytes, Query::default(), NATIVE).unwrap_err();
        assert_eq!(refused.to_string(), expected, "{library:?}");
        // Whatever else is wrong with it.
        let refused =
            hotswap_elf::inspect(&bytes[..bytes.len() - 1], Query::default(), NATIVE).unwrap_err();
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
