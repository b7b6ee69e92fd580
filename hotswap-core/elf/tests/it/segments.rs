//! Damaged program headers, and what they lead to.

use crate::{
    check,
    fixture::{CODE, Library, PAGE},
};

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
