//! The image as the loader will lay it out: which address is which byte of the file, and which access the segment
//! allows. All later reads at an address go through [`Memory`].
//!
//! Besides the load segments, [`Memory`] holds what the other program headers say.

use std::ops::Range;

use memchr::memmem;
use object::NativeEndian as E;
use object::elf::{
    DT_NULL, Dyn64, PF_W, PF_X, PT_DYNAMIC, PT_GNU_EH_FRAME, PT_GNU_RELRO, PT_GNU_STACK, PT_INTERP,
    PT_NOTE, PT_PHDR, PT_TLS, ProgramType,
};
use object::pod::{self, Pod};

use crate::{
    header::{Segment, Segments},
    load::{Load, Loads},
    process::{Machine, Process},
    refusal::{Refusal, refuse},
};

/// If a thread-local cannot be allocated, the thread's first use of it aborts the process (glibc 2.36).
const TLS_BYTES_MAX: u64 = 256 << 20;
const TLS_ALIGN_MAX: u64 = 1 << 20;

/// The laid-out image.
pub(crate) struct Memory<'a> {
    bytes: &'a [u8],
    pub(crate) loads: Loads,
    /// The dynamic table, up to its `DT_NULL`.
    pub(crate) dynamic: &'a [Dyn64<E>],
    pub(crate) dynamic_range: Range<u64>,
    pub(crate) tls: Option<Tls>,
    /// The program headers in memory. The loader and unwinders read them as long as the image lives.
    pub(crate) headers_range: Range<u64>,
    /// Whether the file has a `PT_INTERP`, as executables and the C library do.
    pub(crate) interpreter: bool,
    pub(crate) executable_stack: bool,
}

/// What `PT_TLS` asks for.
pub(crate) struct Tls {
    pub(crate) bytes: u64,
}

impl<'a> Memory<'a> {
    pub(crate) fn new(
        bytes: &'a [u8],
        segments: Segments<'a>,
        process: Process,
    ) -> Result<Self, Refusal> {
        let mut memory = Self {
            bytes,
            loads: Loads::read(bytes, segments.all, process)?,
            dynamic: &[],
            dynamic_range: 0..0,
            tls: None,
            headers_range: 0..0,
            interpreter: false,
            // What glibc takes for granted in a file that does not say (`DEFAULT_STACK_PERMS` in
            // `sysdeps/x86/stackinfo.h` and `sysdeps/aarch64/stackinfo.h`).
            executable_stack: process.machine == Machine::X86_64,
        };
        memory.find_headers(segments)?;
        for segment in segments.all {
            memory.check_offset(segment)?;
            match segment.p_type.get(E) {
                PT_GNU_STACK => memory.executable_stack = segment.p_flags.get(E).contains(PF_X),
                PT_DYNAMIC => memory.read_dynamic(segment)?,
                PT_TLS => memory.read_tls(segment)?,
                PT_GNU_RELRO => memory.check_relro(segment)?,
                PT_GNU_EH_FRAME => memory.check_unwind_table(segment)?,
                PT_INTERP => memory.interpreter = true,
                _ => {}
            }
        }
        if memory.dynamic_range.is_empty() {
            return refuse("no dynamic table (PT_DYNAMIC): static, or a detached debug file");
        }
        Ok(memory)
    }

    /// The bytes that the loader will read at `address`, if they come from the file and are readable.
    pub(crate) fn read(&self, address: u64, length: u64) -> Option<&'a [u8]> {
        self.read_in(self.load(address, length)?, address, length)
    }

    fn read_in(&self, load: &Load, address: u64, length: u64) -> Option<&'a [u8]> {
        if !load.is_readable() {
            return None;
        }
        let start = load.offset_in_file(address, length)?;
        let end = start.checked_add(length)?;
        self.bytes
            .get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    /// Whether these bytes are in a readable segment.
    pub(crate) fn has_text(&self, text: &[u8]) -> bool {
        let readable = self.loads.iter().filter(|load| load.is_readable());
        let mut contents = readable.filter_map(|load| {
            let length = load.file_end.checked_sub(load.start)?;
            self.read_in(load, load.start, length)
        });
        contents.any(|bytes| memmem::find(bytes, text).is_some())
    }

    /// The word at `address`, which lies in `load`.
    pub(crate) fn word_in(&self, load: &Load, address: u64) -> Option<u64> {
        let bytes = self.read_in(load, address, 8)?;
        Some(u64::from_ne_bytes(*bytes.first_chunk()?))
    }

    /// [`Self::read`], as a table of structures.
    pub(crate) fn table<T: Pod>(&self, address: u64, count: u64) -> Option<&'a [T]> {
        let each = u64::try_from(size_of::<T>()).ok()?;
        let bytes = self.read(address, count.checked_mul(each)?)?;
        Some(
            pod::slice_from_bytes(bytes, usize::try_from(count).ok()?)
                .ok()?
                .0,
        )
    }

    /// One structure at `address`.
    pub(crate) fn item<T: Pod>(&self, address: u64) -> Option<&'a T> {
        self.table(address, 1)?.first()
    }

    /// How many readable bytes from the file follow `address` without a gap.
    pub(crate) fn readable_from(&self, address: u64) -> u64 {
        match self.load(address, 0) {
            Some(load) if load.is_readable() => load.file_end.saturating_sub(address),
            _ => 0,
        }
    }

    /// Whether the process may read these bytes; they may be zeros that do not come from the file.
    pub(crate) fn is_readable(&self, address: u64, length: u64) -> bool {
        self.load(address, length)
            .is_some_and(|load| load.is_readable())
    }

    /// Whether a function may begin at `address`: the byte is executable and comes from the file.
    pub(crate) fn is_code(&self, address: u64) -> bool {
        self.load(address, 1)
            .is_some_and(|load| load.is_executable() && address < load.file_end)
    }

    /// The length of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }

    /// The file offset of the byte that is mapped at `address`.
    pub(crate) fn offset_at(&self, address: u64) -> Option<u64> {
        self.load(address, 1)?.offset_of(address)
    }

    pub(crate) fn load(&self, address: u64, length: u64) -> Option<&Load> {
        self.loads.at(address, length)
    }

    /// Finds the address at which the loader will look for the program headers: at `PT_PHDR`, or where a load segment
    /// happens to cover them. The loader and every unwinder read them there without a check.
    fn find_headers(&mut self, segments: Segments<'_>) -> Result<(), Refusal> {
        let length = u64::try_from(size_of_val(segments.all)).unwrap_or(u64::MAX);
        let expected = segments.offset;
        // If there are several, glibc uses the last one.
        let named = segments
            .all
            .iter()
            .rfind(|segment| segment.p_type.get(E) == PT_PHDR);
        let address = match named {
            Some(segment) => segment.p_vaddr.get(E),
            None => match self.loads.near_offset(expected) {
                Some(load) => load.start.wrapping_add(expected.wrapping_sub(load.offset)),
                // The loader then keeps a copy of its own.
                None => return Ok(()),
            },
        };
        let found = self.read(address, length).and(self.offset_at(address));
        // The loader takes an address of zero to mean that there are none.
        if address == 0 || found != Some(expected) {
            return refuse(format!(
                "program headers are at offset {expected:#x}, but not mapped at {address:#x}"
            ));
        }
        self.headers_range = address..address.saturating_add(length);
        Ok(())
    }

    /// A segment gives its place twice: as an offset and as an address. The loader uses only the address; a
    /// difference shows damage. (Some linkers write no offset for relro.)
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
        // The loader reads up to `DT_NULL`, whatever length the segment has.
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
        // If this flag is set, the loader adds the base address to entries in place.
        let is_written = segment.p_flags.get(E).contains(PF_W);
        let is_writable = self.load(address, length).is_some_and(Load::is_writable);
        if is_written && !is_writable {
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
        // When the block is to be static, glibc divides by the alignment.
        if !align.is_power_of_two() || align > TLS_ALIGN_MAX {
            return refuse(format!("thread-local segment with alignment {align:#x}"));
        }
        // glibc takes address zero to mean that there is no image, and then copies from address zero.
        if from_file != 0 && (start == 0 || self.read(start, from_file).is_none()) {
            return refuse(format!(
                "thread-local segment at {start:#x} ({from_file:#x} bytes) is not inside a readable load segment"
            ));
        }
        self.tls = Some(Tls { bytes: length });
        Ok(())
    }

    /// After relocation these pages become read-only *and not executable*, so they must be data.
    fn check_relro(&self, segment: &Segment) -> Result<(), Refusal> {
        let (start, length) = (segment.p_vaddr.get(E), segment.p_memsz.get(E));
        if length != 0 && !self.loads.has_data(start, length) {
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
