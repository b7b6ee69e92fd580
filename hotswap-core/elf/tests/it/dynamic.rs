//! A damaged dynamic table, and damaged versions.

use crate::{
    ROOT, check, facts,
    fixture::{Library, X86_64, string},
    refusal,
};

#[test]
fn damaged_dynamic_table() {
    let gone = |entry: &'static str| move |lib: &mut Library| _ = lib.without(entry);
    // As one bit makes it of the end mark: the second is empty, and the relocations of calls would be missing.
    check(
        |lib| _ = lib.tag("spare", 2, 0),
        "the dynamic table has the tag 0x2 twice, with different values",
    );
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

/// A folder is looked into once for each library.
#[test]
fn too_many_folders() {
    for (folders, refused) in [(1024, false), (1025, true)] {
        let mut library = Library::new(&X86_64);
        let strings = library.at("strtab_table");
        let strings = library.bytes[strings..strings + 0x75].to_vec();
        let place = library.bytes.len() as u64;
        let list = [strings, vec![b'/'], b":/".repeat(folders - 1), vec![0]].concat();
        let bytes = list.len() as u64;
        library.bytes.extend(list);
        let end = library.bytes.len() as u64 - 0x2000;
        library.set64("data", 32, end).set64("data", 40, end);
        library
            .value("strtab", place + 0x1000)
            .value("strsz", bytes)
            .value("runpath", 0x75);
        if refused {
            assert_eq!(
                refusal(&library.bytes, ROOT),
                "DT_RUNPATH has 1025 directories, at most 1024 make sense"
            );
        } else {
            assert_eq!(facts(&library).runpath.unwrap().len(), 2047);
        }
    }
}

/// Whoever searches for libraries by these names would otherwise search for other names than the loader.
#[test]
fn names_that_are_no_text() {
    let damage = |lib: &mut Library, from: u32| {
        let place = lib.at("strtab_table") + from as usize;
        lib.bytes[place + 3] = 0xff;
    };
    for (entry, tag, name, shown) in [
        ("needed", "DT_NEEDED", "libc.so.6", r"lib\xff.so.6"),
        ("soname", "DT_SONAME", "libfixture.so", r"lib\xffixture.so"),
        ("runpath", "DT_RUNPATH", "/opt/plugins", r"/op\xff/plugins"),
    ] {
        let expected = format!("{tag} is not UTF-8: {shown}");
        check(|lib| damage(lib, string(name)), &expected);
        if entry == "runpath" {
            // An older entry, which counts if there is no other.
            check(
                |lib| {
                    lib.without(entry).tag("spare", 15, string(name).into());
                    damage(lib, string(name));
                },
                &expected.replace(tag, "DT_RPATH"),
            );
        }
    }
    for tag in [0x7fff_fffd, 0x7fff_ffff] {
        check(
            |lib| {
                lib.tag("spare", tag, string("other").into());
                damage(lib, string("other"));
            },
            r"DT_AUXILIARY or DT_FILTER is not UTF-8: oth\xffr",
        );
    }
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
    let renamed = |name: &'static str| {
        move |lib: &mut Library| {
            let (from, to) = (string("__cxa_thread_atexit_impl"), string("other"));
            assert!(name.len() < (to - from) as usize);
            let place = lib.at("strtab_table") + from as usize;
            lib.bytes[place..place + name.len()].copy_from_slice(name.as_bytes());
            lib.bytes[place + name.len()] = 0;
            lib.value("needed", from.into())
                .set32("verneed_table", 4, from);
        }
    };
    for name in [
        "/opt/$LIB/libv.so",
        "$ORIGIN/a.so",
        "/${PLATFORM}/a.so",
        "a$LIB",
    ] {
        let expected =
            format!("needs versions of {name}, which the loader cannot find under that name");
        check(renamed(name), &expected);
    }
    // Not replaced.
    for name in [
        "/opt/$LIBS/libv.so",
        "/opt/${LIB/a.so",
        "/opt/$lib/a.so",
        "lib$1.so",
    ] {
        let mut library = Library::new(&X86_64);
        renamed(name)(&mut library);
        facts(&library);
    }
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
