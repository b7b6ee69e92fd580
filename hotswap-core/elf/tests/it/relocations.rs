//! Damaged relocations, and damaged functions that the loader would call.

use hotswap_elf::Export;

use crate::{
    ROOT, X86, check,
    fixture::{CODE, DATA, Library, RELRO, X86_64},
    inspect,
};

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
    inspect(&lib.bytes, Export::Function { name: "call" }, X86).unwrap();
    for good in [RELRO + 0x1200, DATA - 16, 0, RELRO + 0x1ff0] {
        let mut lib = Library::new(&X86_64);
        lib.set64("rela_data", 16, good);
        inspect(&lib.bytes, ROOT, X86).unwrap();
    }
}

/// Some linkers count them twice.
#[test]
fn the_second_table_may_be_the_end_of_the_first() {
    let mut lib = Library::new(&X86_64);
    lib.value("jmprel", 0x538).set32("rela_address", 8, 7);
    inspect(&lib.bytes, ROOT, X86).unwrap();
}

/// What lies behind the second table and within the first lies within both for the loader.
#[test]
fn no_table_lies_in_relocations_that_are_counted_twice() {
    check(
        |lib| _ = lib.value("jmprel", 0x4d8).value("relr", 0x508),
        "DT_RELR at 0x508 lies within DT_RELA (0x4c0 to 0x550)",
    );
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
    inspect(&taken_back.bytes, ROOT, X86).unwrap();
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
        |lib| _ = lib.set32("rela_got", 8, 2),
        "relocation at 0x3400 writes four bytes, in a library without text relocations",
    );
    check(
        |lib| _ = lib.set32("rela_got", 12, 5),
        "relocation at 0x3400 takes the address of local, which is a thread-local",
    );
    // Without a symbol an address is one within the image.
    check(
        |lib| {
            lib.value("relacount", 2)
                .set32("rela_data", 8, 1)
                .set64("rela_data", 16, 1 << 46);
        },
        "relocation at 0x4008 leaves the address 0x400000000000, which is outside of the image",
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

/// As by a loader that leaves them out, and calls what is then no address.
#[test]
fn packed_relocations_need_a_loader_that_knows_them() {
    let old = X86.without_relr();
    let mut lib = Library::new(&X86_64);
    let refusal = inspect(&lib.bytes, ROOT, old).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "has packed relocations (DT_RELR), which this system's loader ignores"
    );
    lib.value("relrsz", 0);
    inspect(&lib.bytes, ROOT, old).unwrap();
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
        |lib| {
            lib.value("relacount", 0)
                .set32("rela_init", 8, 1)
                .set64("rela_init", 16, DATA);
        },
        "DT_INIT_ARRAY calls 0x4000 (entry 0), which is not executable code",
    );
    // What is in both would be called twice, or when it should not.
    check(
        |lib| _ = lib.value("fini_array", RELRO + 0x10),
        "DT_INIT_ARRAY at 0x3010 and DT_FINI_ARRAY at 0x3010 overlap",
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
        "a relocation at 0x3010 leaves no address of a function in DT_INIT_ARRAY",
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

/// One flipped bit in the number of a symbol is enough for that. A weak symbol that is nowhere has the address zero.
#[test]
fn only_functions_are_imported_to_be_called() {
    const WEAK: u8 = 0x20;
    const STRONG: u8 = 0x10;
    const OBJECT: u8 = 1;
    const FUNCTION: u8 = 2;
    let imported = |info: u8, addend: u64| {
        let mut library = Library::new(&X86_64);
        library
            .value("relacount", 0)
            .set("symtab_table", 2 * 24 + 4, [info])
            .set32("rela_init", 8, 1)
            .set32("rela_init", 12, 2)
            .set64("rela_init", 16, addend);
        inspect(&library.bytes, Export::Function { name: "call" }, X86).map_err(|it| it.to_string())
    };
    for (info, addend) in [
        (WEAK, 0),
        (WEAK | FUNCTION, 0),
        (STRONG | OBJECT, 0),
        (STRONG | FUNCTION, 8),
    ] {
        assert_eq!(
            imported(info, addend).unwrap_err(),
            "a relocation at 0x3010 leaves no address of a function in DT_INIT_ARRAY",
            "{info:#x} {addend}"
        );
    }
    for info in [STRONG, STRONG | FUNCTION] {
        imported(info, 0).unwrap();
    }
}

#[test]
fn functions_that_decide_at_run_time_pass() {
    let mut library = Library::new(&X86_64);
    library
        .set64("rela_got", 8, 37)
        .set64("rela_got", 16, CODE)
        .set("call", 4, [0x1a, 0]);
    inspect(&library.bytes, Export::Function { name: "call" }, X86).unwrap();
}
