//! Whether a plugin printed: its own copy of std may hold back an unfinished line.
//!
//! Asked by flushing, std makes its buffer of 1 KiB in a plugin that never printed, and nobody frees it. So the
//! static that holds the buffer is looked up in the file's symbol table, and its bytes in memory are compared
//! with those in the file: std writes to it the first time it is used, and not before. Nothing is assumed about
//! what the bytes mean. The symbol is there in debug and release builds, with thin and fat LTO, linked by lld
//! and by bfd (rustc 1.95, 2026-11); it is not in a file that was stripped.
#![expect(
    unsafe_code,
    reason = "maps the copy, and looks at a static of the image"
)]

use std::slice;

use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind, read::elf::ElfFile64,
};

use super::Place;
use crate::stage::Staged;

/// `std::io::stdio::STDOUT`, as both manglings write it; a suffix may follow.
const STATIC: &[u8] = b"2io5stdio6STDOUT";

/// Whether code of the image has used its standard output. `None`: the file does not say.
///
/// Costs a walk over the symbols of the file.
///
/// # Safety
/// `staged` is what the image was opened from, which is mapped at `place`, and nobody is inside.
pub(super) unsafe fn printed(staged: &Staged, place: &Place) -> Option<bool> {
    // Of which only what is looked at is touched: to read a debug plugin of 7 MB again took longer than all the
    // rest of its way out (2026-11).
    let copy = staged.map().ok()?;
    let elf = ElfFile64::<object::Endianness>::parse(&*copy).ok()?;
    let named = |name: &[u8]| name.windows(STATIC.len()).any(|part| part == STATIC);
    let symbol = elf
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Data)
        .find(|symbol| symbol.name_bytes().is_ok_and(named))?;
    // The table that the symbol is from is nothing that the linker needs, and nobody has inspected it.
    let (address, size) = (symbol.address(), usize::try_from(symbol.size()).ok()?);
    let first = place.bias.checked_add(usize::try_from(address).ok()?)?;
    if size == 0 || !place.has(first, size) {
        return None;
    }
    let section = elf.section_by_index(symbol.section_index()?).ok()?;
    // None in a section that is not in the file and begins as zeros.
    let begins_as = section.data_range(address, size as u64).ok()?;

    let pointer = std::ptr::with_exposed_provenance::<u8>(first);
    // SAFETY: these bytes lie in one readable segment of the image, and nobody is inside who would write to them (the
    // caller's promise).
    let is = unsafe { slice::from_raw_parts(pointer, size) };
    Some(match begins_as {
        Some(bytes) => is != bytes,
        None => is.iter().any(|&byte| byte != 0),
    })
}
