//! Makes a library that does nothing but need another one.
//!
//! If the loader has found a library in a folder, it remembers the name under which the library was needed; if it has
//! opened the library by a path, it does not. Then objects that need the library by name do not find it, if it has no
//! name of its own (`DT_SONAME`). The remedy: load a library that needs it by that name, with its folder as
//! `DT_RPATH`. The loader looks there, finds the file that is mapped already, and remembers the name (glibc 2.36,
//! 2026-11). It looks there before it looks anywhere else; before a `DT_RUNPATH`, it would search `LD_LIBRARY_PATH`.

use hotswap_elf::Machine;
use object::elf::{
    DT_HASH, DT_NEEDED, DT_NULL, DT_RPATH, DT_STRSZ, DT_STRTAB, DT_SYMENT, DT_SYMTAB, PF_R, PF_W,
    PT_DYNAMIC, PT_GNU_STACK, PT_LOAD,
};

const HEADER_BYTES: u64 = 64;
const SEGMENT_BYTES: u64 = 56;
const SEGMENTS: u16 = 3;
const ENTRY_BYTES: u64 = 16;
const ENTRIES: u64 = 8;
const SYMBOL_BYTES: u64 = 24;
/// A hash table with one bucket, and a chain for the one (null) symbol.
const HASH: [u32; 4] = [1, 1, 0, 0];
/// The largest page size of any machine that Linux runs on.
const ALIGN: u64 = 0x1_0000;

/// The bytes of a library that needs `name`, with `folder` as the place where the loader looks for it. `None`: the
/// loader would read something else out of these names, or hotswap does not know this machine.
pub(crate) fn finder(name: &str, folder: &str) -> Option<Vec<u8>> {
    let is_plain = |text: &str, special: &[char]| !text.is_empty() && !text.contains(special);
    if !is_plain(name, &['\0', '/', '$'])
        || !is_plain(folder, &['\0', ':', '$'])
        || Machine::NATIVE == Machine::UNKNOWN
    {
        return None;
    }
    let strings = format!("\0{name}\0{folder}\0");
    let table = HEADER_BYTES + u64::from(SEGMENTS) * SEGMENT_BYTES;
    let symbols = table + ENTRIES * ENTRY_BYTES;
    let hash = symbols + SYMBOL_BYTES;
    let names = hash + size_of_val(&HASH) as u64;
    let end = names + strings.len() as u64;

    let mut file = Writer(Vec::new());
    let little = cfg!(target_endian = "little");
    file.0.extend(b"\x7fELF\x02");
    file.0.extend([if little { 1 } else { 2 }, 1, 0]);
    file.words([0]);
    // A shared object (3), for this machine, of version 1.
    file.halves([3, Machine::NATIVE.number()]);
    file.u32s([1]);
    file.words([0, HEADER_BYTES, 0]);
    file.u32s([0]);
    file.halves([
        HEADER_BYTES as u16,
        SEGMENT_BYTES as u16,
        SEGMENTS,
        64,
        0,
        0,
    ]);

    let read_write = PF_R | PF_W;
    file.u32s([PT_LOAD.0, read_write.0]);
    file.words([0, 0, 0, end, end, ALIGN]);
    file.u32s([PT_DYNAMIC.0, read_write.0]);
    let bytes = ENTRIES * ENTRY_BYTES;
    file.words([table, table, table, bytes, bytes, 8]);
    file.u32s([PT_GNU_STACK.0, read_write.0]);
    file.words([0, 0, 0, 0, 0, 16]);

    for (tag, value) in [
        (DT_NEEDED, 1),
        (DT_RPATH, 2 + name.len() as u64),
        (DT_STRTAB, names),
        (DT_STRSZ, strings.len() as u64),
        (DT_SYMTAB, symbols),
        (DT_SYMENT, SYMBOL_BYTES),
        (DT_HASH, hash),
        (DT_NULL, 0),
    ] {
        file.words([tag.0.cast_unsigned(), value]);
    }
    file.words([0; (SYMBOL_BYTES / 8) as usize]);
    file.u32s(HASH);
    file.0.extend(strings.bytes());
    Some(file.0)
}

struct Writer(Vec<u8>);

impl Writer {
    fn words<const N: usize>(&mut self, values: [u64; N]) {
        self.0.extend(values.map(u64::to_ne_bytes).as_flattened());
    }

    fn u32s<const N: usize>(&mut self, values: [u32; N]) {
        self.0.extend(values.map(u32::to_ne_bytes).as_flattened());
    }

    fn halves<const N: usize>(&mut self, values: [u16; N]) {
        self.0.extend(values.map(u16::to_ne_bytes).as_flattened());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::inspection::inspect;

    #[test]
    fn a_finder_is_a_library_that_needs_another_one() {
        let bytes = finder("libdep.so", "/srv/my plugins").unwrap();
        let facts = inspect(&bytes, None).unwrap();
        assert_eq!(facts.needed, ["libdep.so"]);
        assert_eq!(facts.rpath.as_deref(), Some("/srv/my plugins"));
    }

    #[test]
    fn names_that_the_loader_would_expand_are_not_used() {
        for (name, folder) in [
            ("", "/a"),
            ("libdep.so", ""),
            ("a/libdep.so", "/a"),
            ("libdep.so", "/a:b"),
            ("libdep.so", "/a/$ORIGIN"),
            ("lib\0dep.so", "/a"),
        ] {
            assert_eq!(finder(name, folder), None, "{name:?} {folder:?}");
        }
    }
}
