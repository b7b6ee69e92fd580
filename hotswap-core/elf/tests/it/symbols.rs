//! Damaged symbols and hash tables, and symbols that are not what somebody expects.

use hotswap_elf::{Export, NotExported};

use crate::{
    ROOT, X86, check, check_in, facts,
    fixture::{CODE, DATA, Library, X86_64},
    inspect, refusal,
};

/// Nothing need be exported.
const NONE: Export<'_> = Export::Prefixed {
    prefix: "absent_",
    size_min: 64,
};

#[track_caller]
fn check_export(export: Export<'_>, change: impl FnOnce(&mut Library), expected: &str) {
    let mut library = Library::new(&X86_64);
    change(&mut library);
    assert_eq!(refusal(&library.bytes, export), expected);
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
    // Also where the number would be one of code: nothing is added to it.
    for address in [0x1234, CODE] {
        check(
            |lib| {
                lib.set16("call", 6, 0xfff1).set("call", 4, [0x1a, 0]);
                lib.set64("call", 8, address);
            },
            &format!(
                "symbol 4 (call) is an indirect function at an absolute address ({address:#x})"
            ),
        );
    }
    check(
        |lib| _ = lib.set64("weak", 8, 0x10),
        "symbol 2 (other) is undefined, and has value 0x10",
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
    for visibility in 1..=3 {
        check(
            |lib| _ = lib.set("weak", 5, [visibility]),
            "a relocation refers to symbol 2 (other), which is local, hidden or protected but undefined",
        );
    }
}

#[test]
fn the_export_must_be_what_the_host_expects() {
    let library = Library::new(&X86_64);
    for export in [ROOT, Export::Function { name: "call" }, NONE] {
        inspect(&library.bytes, export, X86).unwrap();
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
    let why = |export| {
        let refusal = inspect(&library.bytes, export, X86).unwrap_err();
        refusal.why_not_exported()
    };
    assert_eq!(why(of("absent")), Some(NotExported::Absent));
    assert_eq!(why(of("other")), Some(NotExported::Imported));
    assert_eq!(why(of("call")), None, "it is exported, as something else");
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
        let facts = inspect(&library.bytes, all(prefix, size_min), X86);
        facts.unwrap().exported_names
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
        "exports ro\\xfft, expected a name of at most 256 bytes of text",
    );
    check_export(
        ROOT,
        |lib| _ = lib.set16("root", 6, 0xfff1),
        "exports root at an absolute address (0x4000), expected one in the image",
    );
    check_export(
        Export::Function { name: "call" },
        |lib| _ = lib.set16("call", 6, 0xfff1),
        "exports call at an absolute address (0x1000), expected one in the image",
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
