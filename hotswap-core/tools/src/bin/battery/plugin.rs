//! A plugin's file, and the offsets of the fields that a case may change.
//!
//! This reader does not handle damage: the file comes from our own linker, and an unexpected value in it ends the
//! battery.

use std::{error::Error, ops::Range, path::Path, path::PathBuf};

use object::elf;

/// The sizes of an ELF file's structures.
pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const SEGMENT_BYTES: usize = 56;
pub(crate) const ENTRY_BYTES: usize = 16;
pub(crate) const SYMBOL_BYTES: usize = 24;
pub(crate) const RELOCATION_BYTES: usize = 24;

/// An intact plugin that answers with the number `build`.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) build: u64,
    pub(crate) bytes: Vec<u8>,
}

/// A program header: its offset, and its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) at: usize,
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) address: u64,
    pub(crate) file_bytes: u64,
    pub(crate) memory_bytes: u64,
}

/// An entry of the dynamic table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) at: usize,
    pub(crate) tag: u64,
    pub(crate) value: u64,
}

impl Plugin {
    pub(crate) fn read(folder: &Path, name: &str, build: u64) -> Result<Self, Box<dyn Error>> {
        let path = folder.join(format!("lib{name}.so"));
        let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let profile = folder
            .parent()
            .and_then(Path::file_name)
            .unwrap_or_default();
        Ok(Self {
            name: format!("{} {name}", profile.display()),
            path,
            build,
            bytes,
        })
    }

    /// The little-endian number of `width` bytes at `at`.
    pub(crate) fn number(&self, at: usize, width: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(&self.bytes[at..at + width]);
        u64::from_le_bytes(bytes)
    }

    pub(crate) fn segments(&self) -> Vec<Segment> {
        let (start, count) = (self.number(32, 8) as usize, self.number(56, 2) as usize);
        let segment = |number| {
            let at = start + number * SEGMENT_BYTES;
            Segment {
                at,
                kind: self.number(at, 4) as u32,
                flags: self.number(at + 4, 4) as u32,
                offset: self.number(at + 8, 8),
                address: self.number(at + 16, 8),
                file_bytes: self.number(at + 32, 8),
                memory_bytes: self.number(at + 40, 8),
            }
        };
        (0..count).map(segment).collect()
    }

    /// The parts of the file that are loaded.
    pub(crate) fn loaded(&self) -> Vec<Range<usize>> {
        let segments = self.segments().into_iter();
        segments
            .filter(|segment| segment.kind == elf::PT_LOAD.0)
            .map(|segment| segment.range())
            .collect()
    }

    /// The dynamic table, including its `DT_NULL`.
    pub(crate) fn dynamic(&self) -> Vec<Entry> {
        let segments = self.segments();
        let table = segments
            .iter()
            .find(|it| it.kind == elf::PT_DYNAMIC.0)
            .expect("a dynamic table");
        let entry = |at| Entry {
            at,
            tag: self.number(at, 8),
            value: self.number(at + 8, 8),
        };
        let mut entries: Vec<Entry> = table.range().step_by(ENTRY_BYTES).map(entry).collect();
        let end = entries
            .iter()
            .position(|entry| entry.tag == 0)
            .expect("an end mark");
        entries.truncate(end + 1);
        entries
    }

    pub(crate) fn entry(&self, tag: elf::DynamicTag) -> Option<Entry> {
        let tag = tag.0 as u64;
        self.dynamic().into_iter().find(|entry| entry.tag == tag)
    }

    /// The file offset of the table that this entry points to.
    pub(crate) fn table(&self, tag: elf::DynamicTag) -> Option<usize> {
        self.offset(self.entry(tag)?.value)
    }

    /// The structures of `each` bytes in the table that two entries describe.
    pub(crate) fn items(
        &self,
        table: elf::DynamicTag,
        bytes: elf::DynamicTag,
        each: usize,
    ) -> Vec<usize> {
        let (Some(start), Some(bytes)) = (self.table(table), self.entry(bytes)) else {
            return Vec::new();
        };
        (start..start + bytes.value as usize)
            .step_by(each)
            .collect()
    }

    /// The file offset of the byte that is loaded at this address.
    pub(crate) fn offset(&self, address: u64) -> Option<usize> {
        let segments = self.segments();
        let load = segments.iter().find(|it| {
            it.kind == elf::PT_LOAD.0 && (it.address..it.address + it.file_bytes).contains(&address)
        })?;
        Some((address - load.address + load.offset) as usize)
    }

    /// Whether this address is code.
    pub(crate) fn is_code(&self, address: u64) -> bool {
        self.is_in(elf::PF_X, address)
    }

    /// Whether the loader leaves a function's address at this one: the file has it there (`DT_RELR` adds where the
    /// image is), or a relocation writes it.
    pub(crate) fn holds_function(&self, address: u64) -> bool {
        let in_place = self.offset(address).map(|at| self.number(at, 8));
        let written = self.items(elf::DT_RELA, elf::DT_RELASZ, RELOCATION_BYTES);
        let mut written = written
            .into_iter()
            .filter(|&at| self.number(at, 8) == address)
            .map(|at| self.number(at + 16, 8));
        address.is_multiple_of(8)
            && (in_place.is_some_and(|it| self.is_code(it)) || written.any(|it| self.is_code(it)))
    }

    /// Whether this address is writable.
    pub(crate) fn is_writable(&self, address: u64) -> bool {
        self.is_in(elf::PF_W, address)
    }

    fn is_in(&self, flag: elf::ProgramFlags, address: u64) -> bool {
        self.segments().iter().any(|it| {
            let range = it.address..it.address + it.memory_bytes;
            it.kind == elf::PT_LOAD.0 && it.flags & flag.0 != 0 && range.contains(&address)
        })
    }

    /// The offsets of the symbols. There are as many symbols as versions.
    pub(crate) fn symbols(&self) -> Range<usize> {
        let start = self.table(elf::DT_SYMTAB).expect("symbols");
        let versions = self.entry(elf::DT_VERSYM).expect("versions").value;
        // All linkers put the needed versions behind them.
        let next = self.entry(elf::DT_VERNEED).expect("needed versions").value;
        let count = (next - versions) as usize / 2;
        start..start + count * SYMBOL_BYTES
    }

    /// The name that stands at `offset` in the string table.
    pub(crate) fn string(&self, offset: u64) -> String {
        let start = self.table(elf::DT_STRTAB).expect("strings") + offset as usize;
        let name = self.bytes[start..].split(|byte| *byte == 0).next();
        String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
    }
}

impl Segment {
    /// The segment's bytes in the file.
    pub(crate) fn range(self) -> Range<usize> {
        self.offset as usize..(self.offset + self.file_bytes) as usize
    }
}
