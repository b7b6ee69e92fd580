//! The image as the loader will lay it out: which address is which byte of the file, and what may be
//! done there. Everything that is later read at an address is read through [`Memory`].
//!
//! The rule that makes this a simple list: load segments ascend and share no page, so that no segment
//! covers another's bytes, whatever the order of mappings in the loader.

use std::ops::Range;

use object::NativeEndian as E;
use object::elf::{
    DT_NULL, Dyn64, PF_R, PF_W, PF_X, PT_DYNAMIC, PT_GNU_EH_FRAME, PT_GNU_RELRO, PT_GNU_STACK,
    PT_LOAD, PT_NOTE, PT_PHDR, PT_TLS, ProgramFlags, ProgramType,
};
use object::pod::{self, Pod};

use super::header::{Segment, Segments};
use super::{Process, Refusal, refuse};

/// Address space one image may ask for. Code models end at 2 GiB; a large `static mut` may go beyond.
const SPAN_BYTES_MAX: u64 = 16 << 30;
/// The largest huge page of any machine we know; linkers write 4 KiB to 64 KiB.
const ALIGN_MAX: u64 = 1 << 30;
/// A thread's first use of a thread-local that cannot be allocated aborts the process (glibc 2.36).
const TLS_BYTES_MAX: u64 = 256 << 20;
const TLS_ALIGN_MAX: u64 = 1 << 20;
/// How far from what it stands for an address may be: `&table[-1]`, or `&table[i - 'A']`.
const BIAS_BYTES_MAX: u64 = 4096;

/// The laid-out image.
pub(super) struct Memory<'a> {
    bytes: &'a [u8],
    loads: Vec<Load>,
    page_bytes: u64,
    /// The dynamic table, up to its end mark.
    pub(super) dynamic: &'a [Dyn64<E>],
    pub(super) dynamic_range: Range<u64>,
    pub(super) tls: Option<Tls>,
    pub(super) executable_stack: bool,
    /// Program headers in memory, which the loader and unwinders read as long as the image lives.
    pub(super) headers_range: Range<u64>,
    /// Has a `PT_INTERP`, as executables do (and the C library).
    pub(super) interpreter: bool,
}

/// What `PT_TLS` asks for.
pub(super) struct Tls {
    pub(super) bytes: u64,
}

struct Load {
    start: u64,
    /// End of what comes from the file; zeros from here to `end`.
    file_end: u64,
    end: u64,
    offset: u64,
    flags: ProgramFlags,
}

impl Load {
    fn file_range(&self) -> Range<u64> {
        let length = self.file_end.saturating_sub(self.start);
        self.offset..self.offset.saturating_add(length)
    }

    fn offset_of(&self, address: u64) -> Option<u64> {
        self.offset.checked_add(address.checked_sub(self.start)?)
    }
}

impl<'a> Memory<'a> {
    pub(super) fn new(
        bytes: &'a [u8],
        segments: Segments<'a>,
        process: Process,
    ) -> Result<Self, Refusal> {
        let mut memory = Self {
            bytes,
            loads: loads(bytes, segments.all, process)?,
            page_bytes: process.page_bytes,
            dynamic: &[],
            dynamic_range: 0..0,
            tls: None,
            // Absent means executable, on most machines.
            executable_stack: true,
            headers_range: 0..0,
            interpreter: false,
        };
        memory.find_headers(segments)?;
        for segment in segments.all {
            memory.check_offset(segment)?;
            match segment.p_type.get(E) {
                PT_DYNAMIC => memory.read_dynamic(segment)?,
                PT_TLS => memory.read_tls(segment)?,
                PT_GNU_RELRO => memory.check_relro(segment)?,
                PT_GNU_EH_FRAME => memory.check_unwind_table(segment)?,
                PT_GNU_STACK => memory.executable_stack = segment.p_flags.get(E).contains(PF_X),
                object::elf::PT_INTERP => memory.interpreter = true,
                _ => {}
            }
        }
        if memory.dynamic_range.is_empty() {
            return refuse("no dynamic table (PT_DYNAMIC): static, or a detached debug file");
        }
        Ok(memory)
    }

    /// Bytes that the loader will read at `address`: mapped from the file, readable.
    pub(super) fn read(&self, address: u64, length: u64) -> Option<&'a [u8]> {
        let load = self.load(address, length)?;
        if !load.flags.contains(PF_R) || address.checked_add(length)? > load.file_end {
            return None;
        }
        let start = load.offset_of(address)?;
        let end = start.checked_add(length)?;
        self.bytes
            .get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    /// [`Self::read`] as a table of structures.
    pub(super) fn table<T: Pod>(&self, address: u64, count: u64) -> Option<&'a [T]> {
        let each = u64::try_from(size_of::<T>()).ok()?;
        let bytes = self.read(address, count.checked_mul(each)?)?;
        Some(
            pod::slice_from_bytes(bytes, usize::try_from(count).ok()?)
                .ok()?
                .0,
        )
    }

    /// One structure at `address`.
    pub(super) fn item<T: Pod>(&self, address: u64) -> Option<&'a T> {
        self.table(address, 1)?.first()
    }

    /// How many file-backed, readable bytes stand from `address` on.
    pub(super) fn readable_from(&self, address: u64) -> u64 {
        match self.load(address, 0) {
            Some(load) if load.flags.contains(PF_R) => load.file_end.saturating_sub(address),
            _ => 0,
        }
    }

    /// Whether the process may read there, file-backed or zero.
    pub(super) fn is_readable(&self, address: u64, length: u64) -> bool {
        self.load(address, length)
            .is_some_and(|load| load.flags.contains(PF_R))
    }

    /// Whether the loader may write there while it relocates. With text relocations it opens every
    /// segment for writing first.
    pub(super) fn is_writable(&self, address: u64, length: u64, text_relocations: bool) -> bool {
        self.load(address, length)
            .is_some_and(|load| text_relocations || load.flags.contains(PF_W))
    }

    /// Whether a function may begin there: code, not zeros.
    pub(super) fn is_code(&self, address: u64) -> bool {
        self.load(address, 1)
            .is_some_and(|load| load.flags.contains(PF_X) && address < load.file_end)
    }

    /// Whether the page of `address` is mapped, or `address` is the end of one: the names of ends
    /// (`_end`) are symbols too.
    pub(super) fn is_mapped(&self, address: u64) -> bool {
        self.loads.iter().any(|load| {
            let end = self.page_end(load.end);
            self.page_start(load.start) <= address && end.is_some_and(|end| address <= end)
        })
    }

    /// Whether an address belongs to the image: it lies between its first page and the end of its last one (ends are
    /// addresses, too), or so little outside that a compiler may have put a constant into it.
    pub(super) fn is_near(&self, address: u64) -> bool {
        let start = self
            .loads
            .first()
            .map_or(0, |load| self.page_start(load.start));
        let end = self.loads.last().map_or(0, |load| load.end);
        let end = self.page_end(end).unwrap_or(end);
        (start.saturating_sub(BIAS_BYTES_MAX)..=end.saturating_add(BIAS_BYTES_MAX))
            .contains(&address)
    }

    /// Where the file's first bytes are mapped, if they are.
    pub(super) fn file_header_range(&self) -> Range<u64> {
        const HEADER_BYTES: u64 = 64;
        let first = self
            .loads
            .iter()
            .find(|load| load.file_range().contains(&0));
        first.map_or(0..0, |load| {
            load.start..load.start.saturating_add(HEADER_BYTES)
        })
    }

    /// How long the file is.
    pub(super) fn file_bytes(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }

    /// Where in the file the bytes are that are mapped at `address`, if they come from there.
    pub(super) fn offset_in_file(&self, address: u64, length: u64) -> Option<u64> {
        let load = self.load(address, length)?;
        let is_from_file = address.checked_add(length)? <= load.file_end;
        is_from_file.then(|| load.offset_of(address)).flatten()
    }

    /// Which byte of the file is mapped at `address`.
    pub(super) fn offset_at(&self, address: u64) -> Option<u64> {
        self.load(address, 1)?.offset_of(address)
    }

    fn load(&self, address: u64, length: u64) -> Option<&Load> {
        let end = address.checked_add(length)?;
        self.loads
            .iter()
            .find(|load| load.start <= address && end <= load.end)
    }

    fn page_start(&self, address: u64) -> u64 {
        page_start(address, self.page_bytes)
    }

    fn page_end(&self, address: u64) -> Option<u64> {
        page_end(address, self.page_bytes)
    }

    /// Where the loader will look for the program headers: at `PT_PHDR`, or where a load happens to
    /// cover them. It and every unwinder read them there unchecked.
    fn find_headers(&mut self, segments: Segments<'_>) -> Result<(), Refusal> {
        let length = u64::try_from(size_of_val(segments.all)).unwrap_or(u64::MAX);
        let expected = segments.offset;
        // glibc takes the last of several.
        let named = segments
            .all
            .iter()
            .rfind(|segment| segment.p_type.get(E) == PT_PHDR);
        let address = match named {
            Some(segment) => segment.p_vaddr.get(E),
            None => match self.load_near(expected) {
                Some(load) => load.start.wrapping_add(expected.wrapping_sub(load.offset)),
                // The loader keeps a copy of its own.
                None => return Ok(()),
            },
        };
        let found = self.read(address, length).and(self.offset_at(address));
        // An address of zero means none to the loader.
        if address == 0 || found != Some(expected) {
            return refuse(format!(
                "program headers are at offset {expected:#x}, but not mapped at {address:#x}"
            ));
        }
        self.headers_range = address..address.saturating_add(length);
        Ok(())
    }

    /// The load whose pages hold this offset, even if the load itself begins after or ends before it.
    fn load_near(&self, offset: u64) -> Option<&Load> {
        self.loads.iter().find(|load| {
            let range = load.file_range();
            let end = self.page_end(range.end);
            self.page_start(range.start) <= offset && end.is_some_and(|end| offset < end)
        })
    }

    /// A segment says twice where it is, by offset and by address. The loader uses the address only;
    /// that the two differ shows damage. (Some linkers give relro no offset.)
    fn check_offset(&self, segment: &Segment) -> Result<(), Refusal> {
        const BOTH: [ProgramType; 5] = [PT_DYNAMIC, PT_GNU_EH_FRAME, PT_NOTE, PT_PHDR, PT_TLS];
        if !BOTH.contains(&segment.p_type.get(E)) {
            return Ok(());
        }
        let (offset, address) = (segment.p_offset.get(E), segment.p_vaddr.get(E));
        match self.offset_at(address) {
            Some(mapped) if mapped != offset && segment.p_filesz.get(E) != 0 => refuse(format!(
                "segment of type {:#x} at {address:#x} is mapped from offset {mapped:#x}, but says {offset:#x}",
                segment.p_type.get(E).0
            )),
            _ => Ok(()),
        }
    }

    fn read_dynamic(&mut self, segment: &Segment) -> Result<(), Refusal> {
        let (address, length) = (segment.p_vaddr.get(E), segment.p_filesz.get(E));
        if length == 0 {
            return refuse("the dynamic table is empty: a detached debug file");
        }
        if !self.dynamic_range.is_empty() {
            return refuse("two dynamic tables (PT_DYNAMIC), expected one");
        }
        if !address.is_multiple_of(8) {
            return refuse(format!(
                "dynamic table at {address:#x}, which is not aligned to 8 bytes"
            ));
        }
        // The loader reads up to the end mark, whatever the segment's length says.
        let entry_bytes = size_of::<Dyn64<E>>() as u64;
        let Some(entries) = self.table::<Dyn64<E>>(address, length / entry_bytes) else {
            return refuse(format!(
                "dynamic table at {address:#x} ({length:#x} bytes) is not inside a readable load segment"
            ));
        };
        let Some(end) = entries
            .iter()
            .position(|entry| entry.d_tag.get(E) == DT_NULL)
        else {
            return refuse(format!(
                "dynamic table at {address:#x} has no end (DT_NULL) in its {} entries",
                entries.len()
            ));
        };
        // The loader adds the base address to entries in place when this flag is set.
        if segment.p_flags.get(E).contains(PF_W) && !self.is_writable(address, length, false) {
            return refuse(format!(
                "dynamic table at {address:#x} is to be written, in a read-only segment"
            ));
        }
        self.dynamic = entries.get(..end).unwrap_or(entries);
        self.dynamic_range = address..address.saturating_add(length);
        Ok(())
    }

    fn read_tls(&mut self, segment: &Segment) -> Result<(), Refusal> {
        let (start, from_file) = (segment.p_vaddr.get(E), segment.p_filesz.get(E));
        let (length, align) = (segment.p_memsz.get(E), segment.p_align.get(E));
        if length == 0 {
            return Ok(());
        }
        if from_file > length {
            return refuse(format!(
                "thread-local segment: {from_file:#x} bytes in the file but {length:#x} in memory"
            ));
        }
        if length > TLS_BYTES_MAX {
            return refuse(format!(
                "thread-local segment of {length:#x} bytes, at most {TLS_BYTES_MAX:#x} make sense"
            ));
        }
        // Zero is a division by zero in glibc when the block is to be static.
        if !align.is_power_of_two() || align > TLS_ALIGN_MAX {
            return refuse(format!("thread-local segment with alignment {align:#x}"));
        }
        // glibc takes an image at address zero for none, and then copies from there.
        if from_file != 0 && (start == 0 || self.read(start, from_file).is_none()) {
            return refuse(format!(
                "thread-local segment at {start:#x} ({from_file:#x} bytes) is not inside a readable load segment"
            ));
        }
        self.tls = Some(Tls { bytes: length });
        Ok(())
    }

    /// After relocation these pages become read-only *and not executable*: they must be data.
    fn check_relro(&self, segment: &Segment) -> Result<(), Refusal> {
        let (start, length) = (segment.p_vaddr.get(E), segment.p_memsz.get(E));
        let inside = length == 0
            || start.checked_add(length).is_some_and(|end| {
                self.loads.iter().any(|load| {
                    load.flags.contains(PF_W)
                        && !load.flags.contains(PF_X)
                        && self.page_start(load.start) <= start
                        && self
                            .page_end(load.end)
                            .is_some_and(|load_end| end <= load_end)
                })
            });
        if !inside {
            return refuse(format!(
                "read-only-after-relocation range at {start:#x} ({length:#x} bytes) is not inside a writable load segment"
            ));
        }
        Ok(())
    }

    fn check_unwind_table(&self, segment: &Segment) -> Result<(), Refusal> {
        let (start, length) = (segment.p_vaddr.get(E), segment.p_memsz.get(E));
        if length != 0 && !self.is_readable(start, length) {
            return refuse(format!(
                "unwind table at {start:#x} ({length:#x} bytes) is not inside a readable load segment"
            ));
        }
        Ok(())
    }
}

fn loads(bytes: &[u8], segments: &[Segment], process: Process) -> Result<Vec<Load>, Refusal> {
    let mut loads: Vec<Load> = Vec::new();
    for segment in segments
        .iter()
        .filter(|segment| segment.p_type.get(E) == PT_LOAD)
    {
        let load = load(segment, loads.len(), process.page_bytes)?;
        check_zero_fill(bytes, &load, process.page_bytes)?;
        if let Some(previous) = loads.last() {
            let free = page_end(previous.end, process.page_bytes);
            if free.is_none_or(|free| page_start(load.start, process.page_bytes) < free) {
                return refuse(format!(
                    "load segment at {:#x} begins before the one at {:#x} ends ({:#x})",
                    load.start, previous.start, previous.end
                ));
            }
        }
        check_file_range(&loads, &load)?;
        loads.push(load);
    }
    let (Some(first), Some(last)) = (loads.first(), loads.last()) else {
        return refuse("not loadable: no load segments");
    };
    for (number, load) in loads.iter().enumerate() {
        check_zeros(load, number)?;
    }
    let span = last.end.saturating_sub(first.start);
    if span > SPAN_BYTES_MAX {
        return refuse(format!(
            "load segments span {span:#x} bytes of address space, at most {SPAN_BYTES_MAX:#x} make sense"
        ));
    }
    Ok(loads)
}

fn load(segment: &Segment, number: usize, page_bytes: u64) -> Result<Load, Refusal> {
    let (start, offset) = (segment.p_vaddr.get(E), segment.p_offset.get(E));
    let (from_file, length) = (segment.p_filesz.get(E), segment.p_memsz.get(E));
    let align = segment.p_align.get(E);
    if from_file > length {
        return refuse(format!(
            "load segment {number}: {from_file:#x} bytes in the file but {length:#x} in memory"
        ));
    }
    if align > ALIGN_MAX || (align > 1 && !align.is_power_of_two()) {
        return refuse(format!("load segment {number}: alignment {align:#x}"));
    }
    // Modulo the page, as the loader demands. Linkers also keep to the alignment; some tools that edit
    // libraries do not, and glibc stopped to mind in 2.35.
    if !start.wrapping_sub(offset).is_multiple_of(page_bytes) {
        return refuse(format!(
            "load segment {number}: address {start:#x} and offset {offset:#x} differ modulo {page_bytes:#x}"
        ));
    }
    let Some(end) = start
        .checked_add(length)
        .filter(|end| page_end(*end, page_bytes).is_some())
    else {
        return refuse(format!(
            "load segment {number}: {length:#x} bytes at {start:#x} overflow"
        ));
    };
    Ok(Load {
        start,
        file_end: start.saturating_add(from_file),
        end,
        offset,
        flags: segment.p_flags.get(E),
    })
}

/// The loader zeroes the rest of the last page that comes from the file. A segment without bytes from
/// the file can name a page beyond the file's end: writing there is SIGBUS.
fn check_zero_fill(bytes: &[u8], load: &Load, page_bytes: u64) -> Result<(), Refusal> {
    if load.end == load.file_end || load.file_end.is_multiple_of(page_bytes) {
        return Ok(());
    }
    let page = page_start(load.file_range().end, page_bytes);
    if u64::try_from(bytes.len()).is_ok_and(|length| page >= length) {
        return refuse(format!(
            "load segment at {:#x} begins in a page of the file that does not exist (offset {page:#x})",
            load.start
        ));
    }
    Ok(())
}

/// No linker maps the same bytes twice.
fn check_file_range(before: &[Load], load: &Load) -> Result<(), Refusal> {
    let range = load.file_range();
    let overlaps = |other: &&Load| {
        let other = other.file_range();
        range.start < other.end && other.start < range.end
    };
    if let Some(other) = before.iter().find(overlaps) {
        return refuse(format!(
            "load segments at {:#x} and {:#x} map the same bytes of the file (offset {:#x})",
            other.start, load.start, range.start
        ));
    }
    Ok(())
}

/// Zeros are for variables. Where they follow what nobody may write, the end of that is missing.
fn check_zeros(load: &Load, number: usize) -> Result<(), Refusal> {
    let zeros = load.end.saturating_sub(load.file_end);
    if !load.flags.contains(PF_W) && zeros != 0 {
        let what = match load.flags.contains(PF_X) {
            true => "code that ends",
            false => "constants that end",
        };
        return refuse(format!(
            "load segment {number}: {what} in {zeros:#x} bytes of zeros"
        ));
    }
    Ok(())
}

/// `page_bytes` is a power of two.
fn page_start(address: u64, page_bytes: u64) -> u64 {
    address & !page_bytes.saturating_sub(1)
}

fn page_end(address: u64, page_bytes: u64) -> Option<u64> {
    address.checked_next_multiple_of(page_bytes)
}
