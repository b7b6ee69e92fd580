//! Notes: the build id, which is for the operator, and the properties, which the loader parses.

use std::fmt::Write as _;

use object::NativeEndian as E;
use object::elf::{NT_GNU_BUILD_ID, NoteHeader64, PT_GNU_PROPERTY, PT_NOTE};
use object::pod;
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use crate::{
    header::{FileHeader, Segment},
    memory::Memory,
    refusal::{Refusal, refuse},
};

/// Reads the build id, and checks the notes that the loader reads.
pub(crate) fn read(memory: &Memory<'_>, segments: &[Segment]) -> Result<Option<String>, Refusal> {
    let mut build_id = None;
    for segment in segments {
        let kind = segment.p_type.get(E);
        if kind != PT_NOTE && kind != PT_GNU_PROPERTY {
            continue;
        }
        let (address, length) = (segment.p_vaddr.get(E), segment.p_memsz.get(E));
        // glibc reads only notes with this alignment, and trusts their lengths (2.36 to 2.42).
        let read_by_loader = segment.p_align.get(E) == 8;
        let notes = memory.read(address, length);
        if notes.is_none() && read_by_loader && length != 0 {
            return refuse(format!(
                "note at {address:#x} ({length:#x} bytes) is not inside a readable, file-backed segment"
            ));
        }
        let align = if read_by_loader { 8 } else { 4 };
        let whole = walk(notes.unwrap_or_default(), align, &mut build_id);
        if !whole && read_by_loader {
            return refuse(format!(
                "a note in the segment at {address:#x} is longer than the segment"
            ));
        }
    }
    Ok(build_id)
}

/// The build id in the first bytes of a file, if it is there: linkers put it behind the program headers. Checks nothing
/// else.
pub fn build_id(beginning: &[u8]) -> Option<String> {
    let header = FileHeader::parse(beginning).ok()?;
    let mut build_id = None;
    for segment in header.program_headers(E, beginning).ok()? {
        if segment.p_type.get(E) == PT_NOTE {
            let align = if segment.p_align.get(E) == 8 { 8 } else { 4 };
            let notes = segment.data(E, beginning).unwrap_or_default();
            walk(notes, align, &mut build_id);
        }
    }
    build_id
}

/// Returns `false` when a note is cut off.
fn walk(mut rest: &[u8], align: usize, build_id: &mut Option<String>) -> bool {
    while let Ok((header, body)) = pod::from_bytes::<NoteHeader64<E>>(rest) {
        let lengths = (
            usize::try_from(header.n_namesz.get(E)),
            usize::try_from(header.n_descsz.get(E)),
        );
        let (Ok(name_length), Ok(length)) = lengths else {
            return false;
        };
        // Alignment counts from the note's header.
        let header_length = size_of::<NoteHeader64<E>>();
        let start = header_length
            .checked_add(name_length)
            .and_then(|end| end.checked_next_multiple_of(align));
        let Some((start, end)) = start.and_then(|start| Some((start, start.checked_add(length)?)))
        else {
            return false;
        };
        let Some(content) = rest.get(start..end) else {
            return false;
        };
        if header.n_type.get(E) == NT_GNU_BUILD_ID && body.get(..4) == Some(b"GNU\0") {
            *build_id = Some(hex(content));
        }
        let next = end.checked_next_multiple_of(align);
        rest = next.and_then(|next| rest.get(next..)).unwrap_or_default();
    }
    true
}

fn hex(bytes: &[u8]) -> String {
    // A build id usually has twenty bytes.
    const SHOWN_BYTES_MAX: usize = 64;
    let mut text = String::new();
    for byte in bytes.iter().take(SHOWN_BYTES_MAX) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
