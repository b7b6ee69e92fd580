//! The load segments: which bytes of the file the loader will map at which addresses, and the zeros after them.
//!
//! Load segments ascend and share no page. Therefore no segment covers another's bytes, in whatever order the loader
//! maps them, and a list describes them all.

use std::{
    ops::{Range, RangeInclusive},
    slice,
};

use object::NativeEndian as E;
use object::elf::{PF_R, PF_W, PF_X, PT_LOAD, ProgramFlags};

use crate::{
    header::Segment,
    process::Process,
    refusal::{Refusal, refuse},
};

/// The address space that one image may ask for. Code models end at 2 GiB; a large `static mut` may need more.
const SPAN_BYTES_MAX: u64 = 16 << 30;
/// The largest huge page of any machine we know; linkers write 4 KiB to 64 KiB.
const ALIGN_MAX: u64 = 1 << 30;
/// How far outside the image an address of the image may lie: `&table[-1]`, or `&table[i - 'A']`.
const BIAS_BYTES_MAX: u64 = 4096;

/// All load segments, in ascending order; at least one.
pub(crate) struct Loads {
    all: Vec<Load>,
    page_bytes: u64,
    /// From the first page to the end of the last one, extended by [`BIAS_BYTES_MAX`] on both sides.
    near: RangeInclusive<u64>,
}

/// A load segment.
pub(crate) struct Load {
    pub(crate) start: u64,
    /// The end of the bytes that come from the file; zeros follow up to `end`.
    pub(crate) file_end: u64,
    end: u64,
    pub(crate) offset: u64,
    flags: ProgramFlags,
}

impl Load {
    pub(crate) fn is_readable(&self) -> bool {
        self.flags.contains(PF_R)
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.flags.contains(PF_W)
    }

    pub(crate) fn is_executable(&self) -> bool {
        self.flags.contains(PF_X)
    }

    fn file_range(&self) -> Range<u64> {
        let length = self.file_end.saturating_sub(self.start);
        self.offset..self.offset.saturating_add(length)
    }

    pub(crate) fn overlaps(&self, range: &Range<u64>) -> bool {
        self.start < range.end && range.start < self.end
    }

    /// The file offset of the byte that is mapped at `address`.
    pub(crate) fn offset_of(&self, address: u64) -> Option<u64> {
        self.offset.checked_add(address.checked_sub(self.start)?)
    }

    /// The file offset of the `length` bytes mapped at `address`, if all of them come from the file.
    pub(crate) fn offset_in_file(&self, address: u64, length: u64) -> Option<u64> {
        let is_from_file = address.checked_add(length)? <= self.file_end;
        is_from_file.then(|| self.offset_of(address)).flatten()
    }
}

impl Loads {
    pub(crate) fn read(
        bytes: &[u8],
        segments: &[Segment],
        process: Process,
    ) -> Result<Self, Refusal> {
        let page_bytes = process.page_bytes;
        let all = loads(bytes, segments, process)?;
        let start = all
            .first()
            .map_or(0, |load| page_start(load.start, page_bytes));
        let end = all.last().map_or(0, |load| load.end);
        let end = page_end(end, page_bytes).unwrap_or(end);
        Ok(Self {
            all,
            page_bytes,
            near: start.saturating_sub(BIAS_BYTES_MAX)..=end.saturating_add(BIAS_BYTES_MAX),
        })
    }

    pub(crate) fn iter(&self) -> slice::Iter<'_, Load> {
        self.all.iter()
    }

    /// The load segment that contains all `length` bytes at `address`.
    pub(crate) fn at(&self, address: u64, length: u64) -> Option<&Load> {
        let end = address.checked_add(length)?;
        self.all
            .iter()
            .find(|load| load.start <= address && end <= load.end)
    }

    /// The load segment whose pages contain this file offset, even if the segment itself begins after or ends before
    /// it.
    pub(crate) fn near_offset(&self, offset: u64) -> Option<&Load> {
        self.all.iter().find(|load| {
            let range = load.file_range();
            let end = self.page_end(range.end);
            self.page_start(range.start) <= offset && end.is_some_and(|end| offset < end)
        })
    }

    /// Whether the pages of one data segment contain all these bytes.
    pub(crate) fn has_data(&self, start: u64, length: u64) -> bool {
        let is_inside = |end: u64| {
            self.all.iter().any(|load| {
                load.is_writable()
                    && !load.is_executable()
                    && self.page_start(load.start) <= start
                    && self
                        .page_end(load.end)
                        .is_some_and(|load_end| end <= load_end)
            })
        };
        start.checked_add(length).is_some_and(is_inside)
    }

    /// Whether the page of `address` is mapped, or `address` is the end of a mapped page: symbols such as `_end` name
    /// the end.
    pub(crate) fn is_mapped(&self, address: u64) -> bool {
        self.all.iter().any(|load| {
            let end = self.page_end(load.end);
            self.page_start(load.start) <= address && end.is_some_and(|end| address <= end)
        })
    }

    /// Whether an address can belong to the image. It lies between the image's first page and the end of its last one
    /// (an end is an address too), or so little outside that a compiler may have added a constant to it.
    pub(crate) fn is_near(&self, address: u64) -> bool {
        self.near.contains(&address)
    }

    /// The addresses of the file header, if it is mapped.
    pub(crate) fn file_header_range(&self) -> Range<u64> {
        const HEADER_BYTES: u64 = 64;
        let first = self.all.iter().find(|load| load.file_range().contains(&0));
        first.map_or(0..0, |load| {
            load.start..load.start.saturating_add(HEADER_BYTES)
        })
    }

    fn page_start(&self, address: u64) -> u64 {
        page_start(address, self.page_bytes)
    }

    fn page_end(&self, address: u64) -> Option<u64> {
        page_end(address, self.page_bytes)
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
    // The loader demands equality modulo the page size. Linkers also respect the alignment; some tools that edit
    // libraries do not, and glibc no longer checks it since 2.35.
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

/// The loader zeroes the rest of the last page that comes from the file. A segment without bytes from the file can
/// name a page beyond the file's end; writing to that page is a SIGBUS.
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

/// Refuses two segments that map the same bytes; no linker does that.
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

/// Zeros are for variables. If zeros follow bytes that are not writable, the end of those bytes is missing.
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
    let last = page_bytes.saturating_sub(1);
    Some(address.checked_add(last)? & !last)
}
