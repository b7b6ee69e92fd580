//! The file header: is the file a complete ELF shared object for this process?
//!
//! The checks for an operator's mistakes come first: another kind of file, another machine, a file cut short. The
//! checks for damage follow.

use object::NativeEndian as E;
use object::elf::{
    ELFCLASS32, ELFCLASS64, ELFDATA2LSB, ELFDATA2MSB, ELFMAG, ELFOSABI_GNU, ELFOSABI_NONE, ET_CORE,
    ET_DYN, ET_EXEC, ET_REL, EV_CURRENT, FileHeader64, FileType, PT_LOAD, ProgramHeader64,
    SHF_ALLOC, SHT_NOBITS, SHT_NOTE, SectionHeader64,
};
use object::pod;

use crate::{
    kind,
    process::{Machine, Process},
    refusal::{Refusal, refuse},
};

pub(crate) type FileHeader = FileHeader64<E>;
pub(crate) type Segment = ProgramHeader64<E>;
type Section = SectionHeader64<E>;

/// glibc copies the program headers onto its stack, twice. Linkers write about a dozen.
const SEGMENTS_MAX: u16 = 256;

const HEADER_BYTES: u64 = size_of::<FileHeader>() as u64;
const SEGMENT_BYTES: u64 = size_of::<Segment>() as u64;
const SECTION_BYTES: u64 = size_of::<Section>() as u64;

/// The program headers, and their offset in the file.
#[derive(Clone, Copy)]
pub(crate) struct Segments<'a> {
    pub(crate) offset: u64,
    pub(crate) all: &'a [Segment],
}

/// Reads the program headers of a file, after checking that it is for `process` and not cut short.
pub(crate) fn segments(bytes: &[u8], process: Process) -> Result<Segments<'_>, Refusal> {
    let header = checked(bytes, process)?;
    let count = header.e_phnum.get(E);
    if count == 0 {
        return refuse("not loadable: no program headers");
    }
    if count > SEGMENTS_MAX {
        return refuse(format!(
            "{count} program headers, at most {SEGMENTS_MAX} make sense"
        ));
    }
    let each = u64::from(header.e_phentsize.get(E));
    if each != SEGMENT_BYTES {
        return refuse(format!(
            "program headers of {each} bytes, expected {SEGMENT_BYTES}"
        ));
    }
    let start = header.e_phoff.get(E);
    if start < HEADER_BYTES || !start.is_multiple_of(8) {
        return refuse(format!(
            "program headers at offset {start:#x}, inside the file header or unaligned"
        ));
    }
    let table = end_of(start, u64::from(count) * SEGMENT_BYTES)?;
    check_length(bytes, table)?;
    let Some((segments, _)) = usize::try_from(start)
        .ok()
        .and_then(|start| bytes.get(start..))
        .and_then(|rest| pod::slice_from_bytes::<Segment>(rest, usize::from(count)).ok())
    else {
        return refuse("program headers cannot be read");
    };
    check_length(bytes, bytes_needed(header, segments)?)?;
    Ok(Segments {
        offset: start,
        all: segments,
    })
}

/// Returns whether the bytes are the output of `objcopy --only-keep-debug` for a library: debug information, and
/// section headers for code and data that the file does not contain. Such a file does contain notes.
pub(crate) fn is_debug_information(bytes: &[u8]) -> bool {
    let sections = |header: &FileHeader| {
        let start = usize::try_from(header.e_shoff.get(E)).ok()?;
        let count = usize::from(header.e_shnum.get(E));
        let rest = bytes.get(start..)?;
        let (sections, _) = pod::slice_from_bytes::<Section>(rest, count).ok()?;
        (u64::from(header.e_shentsize.get(E)) == SECTION_BYTES).then_some(sections)
    };
    let sections = read(bytes).ok().and_then(sections).unwrap_or_default();
    let loaded = sections
        .iter()
        .filter(|it| it.sh_flags.get(E).contains(SHF_ALLOC));
    let mut kinds = loaded.map(|it| it.sh_type.get(E));
    let mut has_code_or_data = false;
    kinds.all(|kind| {
        has_code_or_data |= kind == SHT_NOBITS;
        kind == SHT_NOBITS || kind == SHT_NOTE
    }) && has_code_or_data
}

/// Returns whether the bytes begin like a 64-bit ELF file for the machine of `process`.
///
/// When the loader searches folders for a library, it skips a file for another machine. When it meets a file that is
/// not ELF at all, such as a linker script, it ends the search with an error ("invalid ELF header", "file too
/// short").
pub fn is_for(bytes: &[u8], process: Process) -> bool {
    read(bytes).is_ok_and(|header| check_machine(header, process).is_ok())
}

/// Checks the file header alone, so that a large file of another kind need not be read whole: a few kilobytes from its
/// beginning are enough.
///
/// # Errors
///
/// The [`Refusal`] that [`inspect`](crate::inspect()) would return for the file, because of its kind, machine or type.
pub fn check_header(beginning: &[u8], process: Process) -> Result<(), Refusal> {
    checked(beginning, process).map(drop)
}

fn checked(bytes: &[u8], process: Process) -> Result<&FileHeader, Refusal> {
    let header = read(bytes)?;
    check_machine(header, process)?;
    check_type(header)?;
    check_version(header)?;
    Ok(header)
}

fn read(bytes: &[u8]) -> Result<&FileHeader, Refusal> {
    let magic = bytes.get(..ELFMAG.len()).unwrap_or(bytes);
    if magic.is_empty() || !ELFMAG.starts_with(magic) {
        return refuse(format!("not a shared object: {}", kind::name(bytes)));
    }
    // The first sixteen bytes have the same meaning in every class and byte order.
    let class = bytes.get(4).copied();
    if class == Some(ELFCLASS32.0) {
        return refuse("a 32-bit object, this process is 64-bit");
    }
    check_length(bytes, HEADER_BYTES)?;
    if class != Some(ELFCLASS64.0) {
        return refuse(format!(
            "ELF class {}, expected {}",
            class.unwrap_or(0),
            ELFCLASS64.0
        ));
    }
    match pod::from_bytes::<FileHeader>(bytes) {
        Ok((header, _)) => Ok(header),
        Err(()) => refuse("the file header cannot be read"),
    }
}

fn check_machine(header: &FileHeader, process: Process) -> Result<(), Refusal> {
    let (ours, word) = if cfg!(target_endian = "little") {
        (ELFDATA2LSB, "little")
    } else {
        (ELFDATA2MSB, "big")
    };
    let data = header.e_ident.data;
    if data != ours {
        return refuse(match data {
            ELFDATA2LSB => format!("a little-endian object, this process is {word}-endian"),
            ELFDATA2MSB => format!("a big-endian object, this process is {word}-endian"),
            other => format!("ELF byte order {}, expected {}", other.0, ours.0),
        });
    }
    let (theirs, ours) = (
        Machine::from_number(header.e_machine.get(E).0),
        process.machine,
    );
    if ours != Machine::UNKNOWN && theirs != ours {
        return refuse(format!("for {theirs}, this process is {ours}"));
    }
    Ok(())
}

fn check_type(header: &FileHeader) -> Result<(), Refusal> {
    match header.e_type.get(E) {
        ET_DYN => Ok(()),
        ET_REL => refuse("an object file, not yet linked to a shared object"),
        ET_EXEC => refuse("an executable, expected a shared object"),
        ET_CORE => refuse("a core dump, expected a shared object"),
        FileType(other) => refuse(format!(
            "ELF file type {other:#x}, expected a shared object"
        )),
    }
}

fn check_version(header: &FileHeader) -> Result<(), Refusal> {
    let ident = header.e_ident.version;
    if ident != EV_CURRENT {
        return refuse(format!("ELF version {}, expected 1", ident.0));
    }
    let version = header.e_version.get(E);
    if version != u32::from(EV_CURRENT.0) {
        return refuse(format!("ELF version {version}, expected 1"));
    }
    let system = header.e_ident.os_abi;
    if system != ELFOSABI_NONE && system != ELFOSABI_GNU {
        return refuse(format!(
            "for another system (OS ABI {}), expected 0 or 3",
            system.0
        ));
    }
    Ok(())
}

/// The number of bytes that the file must at least have. No loader reads the section headers, but in nearly every
/// file they are last: a file without them was cut short, even if everything that is loaded has arrived.
fn bytes_needed(header: &FileHeader, segments: &[Segment]) -> Result<u64, Refusal> {
    let mut needed = 0;
    for segment in segments
        .iter()
        .filter(|segment| segment.p_type.get(E) == PT_LOAD)
    {
        let length = segment.p_filesz.get(E);
        // A segment of zeros only; its offset has no meaning.
        if length != 0 {
            needed = needed.max(end_of(segment.p_offset.get(E), length)?);
        }
    }
    let sections = u64::from(header.e_shnum.get(E));
    if sections != 0 && u64::from(header.e_shentsize.get(E)) == SECTION_BYTES {
        needed = needed.max(end_of(header.e_shoff.get(E), sections * SECTION_BYTES)?);
    }
    Ok(needed)
}

fn check_length(bytes: &[u8], needed: u64) -> Result<(), Refusal> {
    let length = bytes.len();
    if u64::try_from(length).is_ok_and(|length| length < needed) {
        return refuse(format!("truncated: needs {needed} bytes, has {length}"));
    }
    Ok(())
}

fn end_of(offset: u64, length: u64) -> Result<u64, Refusal> {
    match offset.checked_add(length) {
        Some(end) => Ok(end),
        None => refuse(format!(
            "{length:#x} bytes at offset {offset:#x} are beyond any file"
        )),
    }
}
