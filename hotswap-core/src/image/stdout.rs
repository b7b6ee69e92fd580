//! Whether a plugin has printed: its own copy of std may hold back an unfinished line.
//!
//! Flushing would not tell: in a plugin that never printed it makes std allocate its buffer of 1 KiB, which nobody
//! frees. So this looks up the static that holds the buffer in the file's symbol table, and compares its bytes in
//! memory with those in the file. std writes to it when it is first used, and not before; what the bytes mean does
//! not matter. Debug and release builds have the symbol, with thin and fat LTO, linked by lld and by bfd (rustc 1.95,
//! 2026-11); a stripped file does not.
#![expect(
    unsafe_code,
    reason = "maps the copy, and looks at a static of the image"
)]

use std::slice;

use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind, read::elf::ElfFile64,
};

use crate::{stage::Staged, system::linker::Mapping};

/// `std::io::stdio::STDOUT`, as both manglings write it; a suffix may follow.
const STATIC: &[u8] = b"2io5stdio6STDOUT";

/// Whether code of the image has used its standard output. `None`: the file does not tell.
///
/// Costs a walk over the symbols of the file.
///
/// # Safety
/// The image was opened from `staged` and is mapped at `mapping`, and no code of it runs.
pub(super) unsafe fn printed(staged: &Staged, mapping: &Mapping) -> Option<bool> {
    // Maps the file, so that only the pages that are needed are read: reading a debug plugin of 7 MB again took
    // longer than all the rest of its way out (2026-11).
    let copy = staged.map().ok()?;
    let elf = ElfFile64::<object::Endianness>::parse(&*copy).ok()?;
    let named = |name: &[u8]| name.windows(STATIC.len()).any(|part| part == STATIC);
    let symbol = elf
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Data)
        .find(|symbol| symbol.name_bytes().is_ok_and(named))?;
    // The linker does not need this symbol table, so nobody has inspected it: check what it says.
    let (address, size) = (symbol.address(), usize::try_from(symbol.size()).ok()?);
    let first = mapping.bias.checked_add(usize::try_from(address).ok()?)?;
    if size == 0 || !mapping.has(first, size) {
        return None;
    }
    let section = elf.section_by_index(symbol.section_index()?).ok()?;
    // `None` for a section that is not in the file and begins as zeros.
    let begins_as = section.data_range(address, size as u64).ok()?;

    let pointer = std::ptr::with_exposed_provenance::<u8>(first);
    // SAFETY: `has` above found these bytes in one readable segment of the image. No code of the image runs that could
    // write to them (`# Safety` of this function).
    let is = unsafe { slice::from_raw_parts(pointer, size) };
    Some(match begins_as {
        Some(bytes) => is != bytes,
        None => is.iter().any(|&byte| byte != 0),
    })
}
