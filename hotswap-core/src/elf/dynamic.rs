//! The dynamic table: where the loader finds everything else.
//!
//! A tag given twice counts as it does in the loader: the last one. Missing partners ("a table
//! without its size") are null pointers in the loader, so they are refused here. Whether a table at an
//! address makes sense is judged by the file that reads it.

use std::collections::HashSet;
use std::mem;
use std::ops::Range;

use object::NativeEndian as E;
use object::elf::{
    DF_1_NODELETE, DF_1_NOOPEN, DF_1_PIE, DF_STATIC_TLS, DF_TEXTREL, DT_AUXILIARY, DT_DEBUG,
    DT_FILTER, DT_FINI, DT_FINI_ARRAY, DT_FINI_ARRAYSZ, DT_FLAGS, DT_FLAGS_1, DT_GNU_HASH, DT_HASH,
    DT_INIT, DT_INIT_ARRAY, DT_INIT_ARRAYSZ, DT_JMPREL, DT_NEEDED, DT_PLTREL, DT_PLTRELSZ,
    DT_PREINIT_ARRAYSZ, DT_REL, DT_RELA, DT_RELACOUNT, DT_RELAENT, DT_RELASZ, DT_RELR, DT_RELRENT,
    DT_RELRSZ, DT_RELSZ, DT_RPATH, DT_RUNPATH, DT_SONAME, DT_STRSZ, DT_STRTAB, DT_SYMENT,
    DT_SYMTAB, DT_TEXTREL, DT_VERDEF, DT_VERNEED, DT_VERSYM, Dyn64, DynamicTag,
};

use super::memory::Memory;
use super::{Change, Facts, Refusal, refuse};
use crate::escape::excerpt;

/// The loader copies names and search paths onto its stack.
pub(super) const NAME_BYTES_MAX: usize = 4096;
const PATH_BYTES_MAX: usize = 64 << 10;
/// Each is a file to be opened.
const NEEDED_MAX: usize = 1024;

/// The dynamic table, its parts in pairs.
pub(super) struct Dynamic<'a> {
    pub(super) strings: Strings<'a>,
    pub(super) symbols: u64,
    pub(super) gnu_hash: Option<u64>,
    pub(super) hash: Option<u64>,
    pub(super) versym: Option<u64>,
    pub(super) verneed: Option<u64>,
    pub(super) verdef: Option<u64>,
    pub(super) rela: Table,
    pub(super) relative_count: u64,
    pub(super) plt: Table,
    pub(super) relr: Table,
    pub(super) init: Option<u64>,
    pub(super) fini: Option<u64>,
    pub(super) init_array: Table,
    pub(super) fini_array: Table,
    pub(super) text_relocations: bool,
    pub(super) static_tls: bool,
    pub(super) nodelete: bool,
    /// What to change so that `nodelete` is not true.
    pub(super) without_nodelete: Vec<Change>,
    pub(super) strings_range: Range<u64>,
    needed: Vec<u64>,
    filters: Vec<u64>,
    soname: Option<u64>,
    runpath: Option<u64>,
    rpath: Option<u64>,
}

/// Where a table lies, in bytes. Empty when there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Table {
    pub(super) address: u64,
    pub(super) bytes: u64,
}

/// The string table. Its last byte is zero, so every offset inside begins a terminated name.
#[derive(Clone, Copy)]
pub(super) struct Strings<'a>(&'a [u8]);

impl<'a> Dynamic<'a> {
    pub(super) fn read(memory: &Memory<'a>) -> Result<Self, Refusal> {
        let entries = Entries(memory);
        check_loadable(&entries, memory)?;
        let strings = entries.table("DT_STRTAB", DT_STRTAB, DT_STRSZ, 1)?;
        if let Some(size) = entries.last(DT_SYMENT).filter(|size| *size != 24) {
            return refuse(format!("symbols of {size} bytes (DT_SYMENT), expected 24"));
        }
        let flags = entries.last(DT_FLAGS).unwrap_or(0);
        let flags_1 = entries.last(DT_FLAGS_1).unwrap_or(0);
        let dynamic = Self {
            strings: Strings::read(memory, strings)?,
            strings_range: strings.range(),
            symbols: entries.required("DT_SYMTAB", DT_SYMTAB)?,
            gnu_hash: entries.last(DT_GNU_HASH),
            hash: entries.last(DT_HASH),
            versym: entries.last(DT_VERSYM),
            verneed: entries.last(DT_VERNEED),
            verdef: entries.last(DT_VERDEF),
            rela: entries.relocations("DT_RELA", DT_RELA, DT_RELASZ, (DT_RELAENT, 24))?,
            relative_count: entries.last(DT_RELACOUNT).unwrap_or(0),
            plt: entries.plt()?,
            relr: entries.relocations("DT_RELR", DT_RELR, DT_RELRSZ, (DT_RELRENT, 8))?,
            init: entries.last(DT_INIT),
            fini: entries.last(DT_FINI),
            init_array: entries.optional("DT_INIT_ARRAY", DT_INIT_ARRAY, DT_INIT_ARRAYSZ)?,
            fini_array: entries.optional("DT_FINI_ARRAY", DT_FINI_ARRAY, DT_FINI_ARRAYSZ)?,
            text_relocations: entries.last(DT_TEXTREL).is_some() || flags & DF_TEXTREL.0 != 0,
            static_tls: flags & DF_STATIC_TLS.0 != 0,
            nodelete: flags_1 & DF_1_NODELETE.0 != 0,
            without_nodelete: entries.without_nodelete(),
            needed: entries.all(DT_NEEDED),
            filters: [entries.all(DT_AUXILIARY), entries.all(DT_FILTER)].concat(),
            soname: entries.last(DT_SONAME),
            runpath: entries.last(DT_RUNPATH),
            // Both given, the older one is ignored.
            rpath: match entries.last(DT_RUNPATH) {
                Some(_) => None,
                None => entries.last(DT_RPATH),
            },
        };
        dynamic.check_names()?;
        Ok(dynamic)
    }

    /// Fills in the names of the file and of what it needs.
    pub(super) fn name_libraries(&self, facts: &mut Facts) {
        let text = |offset| {
            let name = self.strings.get(offset, PATH_BYTES_MAX)?;
            Some(String::from_utf8_lossy(name).into_owned())
        };
        facts.soname = self.soname.and_then(text);
        facts.runpath = self.runpath.and_then(text);
        facts.rpath = self.rpath.and_then(text);
        facts.needed = self.needed.iter().copied().filter_map(text).collect();
    }

    /// The names of the libraries needed.
    pub(super) fn needed(&self) -> HashSet<&'a [u8]> {
        let names = self.needed.iter().copied();
        names
            .filter_map(|offset| self.strings.get(offset, NAME_BYTES_MAX))
            .collect()
    }

    /// The address of the next table after `address`, which bounds a table without a length.
    pub(super) fn next_table(&self, address: u64) -> Option<u64> {
        let addresses = [
            self.gnu_hash,
            self.hash,
            self.versym,
            self.verneed,
            self.verdef,
        ];
        let tables = [
            self.rela,
            self.plt,
            self.relr,
            self.init_array,
            self.fini_array,
        ];
        let tables = tables
            .into_iter()
            .filter(|table| table.bytes != 0)
            .map(|table| table.address);
        let all = addresses
            .into_iter()
            .flatten()
            .chain(tables)
            .chain([self.strings_range.start]);
        all.filter(|other| *other > address).min()
    }

    fn check_names(&self) -> Result<(), Refusal> {
        let count = self.needed.len().saturating_add(self.filters.len());
        if count > NEEDED_MAX {
            return refuse(format!(
                "needs {count} libraries (DT_NEEDED), at most {NEEDED_MAX} make sense"
            ));
        }
        for offset in self.needed.iter().chain(&self.filters) {
            if self.name("DT_NEEDED", *offset, NAME_BYTES_MAX)?.is_empty() {
                // The empty name stands for the main program.
                return refuse("needs a library with an empty name (DT_NEEDED)");
            }
        }
        if let Some(offset) = self.soname {
            self.name("DT_SONAME", offset, NAME_BYTES_MAX)?;
        }
        for (tag, path) in [("DT_RUNPATH", self.runpath), ("DT_RPATH", self.rpath)] {
            let Some(offset) = path else { continue };
            let path = self.name(tag, offset, PATH_BYTES_MAX)?;
            if let Some(long) = path
                .split(|byte| *byte == b':')
                .find(|dir| dir.len() > NAME_BYTES_MAX)
            {
                return refuse(format!(
                    "{tag} has a directory of more than {NAME_BYTES_MAX} bytes: {}",
                    excerpt(long)
                ));
            }
        }
        Ok(())
    }

    fn name(&self, tag: &str, offset: u64, bytes_max: usize) -> Result<&'a [u8], Refusal> {
        match self.strings.get(offset, bytes_max) {
            None => refuse(format!(
                "{tag} names the string at {offset:#x}, but the string table has {:#x} bytes",
                self.strings.0.len()
            )),
            Some(name) if name.len() > bytes_max => refuse(format!(
                "{tag} is a name of more than {bytes_max} bytes: {}",
                excerpt(name)
            )),
            Some(name) => Ok(name),
        }
    }
}

impl Table {
    pub(super) fn range(self) -> Range<u64> {
        self.address..self.address.saturating_add(self.bytes)
    }
}

impl<'a> Strings<'a> {
    fn read(memory: &Memory<'a>, table: Table) -> Result<Self, Refusal> {
        let Some(bytes) = memory.read(table.address, table.bytes) else {
            return refuse(not_readable("string table (DT_STRTAB)", table));
        };
        match bytes.last() {
            Some(0) => Ok(Self(bytes)),
            Some(_) => refuse("the string table (DT_STRTAB) does not end with a zero"),
            None => refuse("the string table (DT_STRTAB) is empty"),
        }
    }

    /// The name at `offset`, without its zero; of one longer than `bytes_max` the beginning, which is
    /// longer than that too. Names may overlap and be as long as the file: nobody asks without a bound.
    pub(super) fn get(self, offset: u64, bytes_max: usize) -> Option<&'a [u8]> {
        let rest = self
            .0
            .get(usize::try_from(offset).ok()?..)
            .filter(|rest| !rest.is_empty())?;
        let rest = rest.get(..=bytes_max).unwrap_or(rest);
        rest.split(|byte| *byte == 0).next()
    }

    /// Whether a name begins at `offset`, in constant time.
    pub(super) fn has(self, offset: u32) -> bool {
        usize::try_from(offset).is_ok_and(|offset| offset < self.0.len())
    }

    /// Whether exactly `name` stands at `offset`; costs no more than `name`'s length.
    pub(super) fn is(self, offset: u32, name: &[u8]) -> bool {
        usize::try_from(offset)
            .ok()
            .and_then(|offset| self.0.get(offset..)?.strip_prefix(name)?.first())
            == Some(&0)
    }
}

/// The line for a table that is not where it should be.
pub(super) fn not_readable(what: &str, table: Table) -> String {
    format!(
        "{what} at {:#x} ({:#x} bytes) is not inside a readable, file-backed segment",
        table.address, table.bytes
    )
}

pub(super) fn check_aligned(what: &str, address: u64, align: u64) -> Result<(), Refusal> {
    if address.is_multiple_of(align) {
        return Ok(());
    }
    refuse(format!(
        "{what} at {address:#x}, which is not aligned to {align} bytes"
    ))
}

/// What no shared object has, or what forbids `dlopen`.
fn check_loadable(entries: &Entries<'_, '_>, memory: &Memory<'_>) -> Result<(), Refusal> {
    let flags_1 = entries.last(DT_FLAGS_1).unwrap_or(0);
    let debug = entries.last(DT_DEBUG).is_some();
    // Linkers before 2.26 (and Go's) do not set the flag; they do reserve the debugger's entry.
    if flags_1 & DF_1_PIE.0 != 0 || (memory.interpreter && debug) {
        return refuse("a position-independent executable, expected a shared object");
    }
    if flags_1 & DF_1_NOOPEN.0 != 0 {
        return refuse("marked as not to be opened at run time (DF_1_NOOPEN)");
    }
    if entries
        .last(DT_PREINIT_ARRAYSZ)
        .is_some_and(|bytes| bytes != 0)
    {
        return refuse(
            "has pre-initialisers (DT_PREINIT_ARRAY), which only an executable may have",
        );
    }
    // The 64-bit machines with such relocations (mips) are not among those we know.
    if entries.last(DT_RELSZ).is_some_and(|bytes| bytes != 0) && entries.last(DT_REL).is_some() {
        return refuse(
            "has relocations without addends (DT_REL), which this machine's loader ignores",
        );
    }
    Ok(())
}

struct Entries<'m, 'a>(&'m Memory<'a>);

impl Entries<'_, '_> {
    fn all(&self, tag: DynamicTag) -> Vec<u64> {
        let entries = self.0.dynamic.iter();
        entries
            .filter(|entry| entry.d_tag.get(E) == tag)
            .map(|entry| entry.d_val.get(E))
            .collect()
    }

    fn last(&self, tag: DynamicTag) -> Option<u64> {
        let entry = self
            .0
            .dynamic
            .iter()
            .rfind(|entry| entry.d_tag.get(E) == tag)?;
        Some(entry.d_val.get(E))
    }

    /// The byte with `DF_1_NODELETE`, wherever there is one: of several entries the last counts today.
    fn without_nodelete(&self) -> Vec<Change> {
        const FLAG: u8 = DF_1_NODELETE.0 as u8;
        // The flag is in the lowest byte of the value.
        const LOWEST: usize = if cfg!(target_endian = "little") { 0 } else { 7 };
        let table = self.0.offset_at(self.0.dynamic_range.start).unwrap_or(0);
        let entries = self.0.dynamic.iter().enumerate();
        let marked = entries.filter(|(_, entry)| {
            entry.d_tag.get(E) == DT_FLAGS_1 && entry.d_val.get(E) & u64::from(FLAG) != 0
        });
        let change = |(number, entry): (usize, &Dyn64<E>)| {
            let field = mem::offset_of!(Dyn64<E>, d_val) + LOWEST;
            let within = number
                .saturating_mul(size_of::<Dyn64<E>>())
                .saturating_add(field);
            let from = entry.d_val.get(E).to_le_bytes()[0];
            Change {
                offset: table.saturating_add(u64::try_from(within).unwrap_or(u64::MAX)),
                from,
                to: from & !FLAG,
            }
        };
        marked.map(change).collect()
    }

    fn required(&self, name: &str, tag: DynamicTag) -> Result<u64, Refusal> {
        match self.last(tag) {
            Some(value) => Ok(value),
            None => refuse(format!("the dynamic table has no {name}")),
        }
    }

    fn table(
        &self,
        name: &str,
        tag: DynamicTag,
        size: DynamicTag,
        align: u64,
    ) -> Result<Table, Refusal> {
        let address = self.required(name, tag)?;
        let Some(bytes) = self.last(size) else {
            return refuse(format!("the dynamic table has {name} but not its size"));
        };
        check_aligned(name, address, align)?;
        Ok(Table { address, bytes })
    }

    /// A table of 8-byte things, if there is one.
    fn optional(&self, name: &str, tag: DynamicTag, size: DynamicTag) -> Result<Table, Refusal> {
        if self.last(tag).is_none() {
            return Ok(Table::default());
        }
        let table = self.table(name, tag, size, 8)?;
        if !table.bytes.is_multiple_of(8) {
            return refuse(format!(
                "{name} has {:#x} bytes, expected a multiple of 8",
                table.bytes
            ));
        }
        Ok(if table.bytes == 0 {
            Table::default()
        } else {
            table
        })
    }

    fn relocations(
        &self,
        name: &str,
        tag: DynamicTag,
        size: DynamicTag,
        (entry, expected): (DynamicTag, u64),
    ) -> Result<Table, Refusal> {
        let table = self.optional(name, tag, size)?;
        if self.last(tag).is_none() {
            return Ok(table);
        }
        // glibc asserts it: exit(127).
        match self.last(entry) {
            Some(each) if each == expected => {}
            Some(each) => {
                return refuse(format!(
                    "{name} entries of {each} bytes, expected {expected}"
                ));
            }
            None => {
                return refuse(format!(
                    "the dynamic table has {name} but not its entry size"
                ));
            }
        }
        check_entries(name, table, expected)
    }

    fn plt(&self) -> Result<Table, Refusal> {
        let name = "DT_JMPREL";
        match (self.last(DT_JMPREL), self.last(DT_PLTREL)) {
            (None, None) => return Ok(Table::default()),
            // glibc asserts it: exit(127).
            (Some(_), Some(kind)) if kind == DT_RELA.0.unsigned_abs() => {}
            (Some(_), Some(kind)) => {
                return refuse(format!(
                    "relocations of type {kind} (DT_PLTREL), expected {}",
                    DT_RELA.0
                ));
            }
            _ => {
                return refuse(
                    "the dynamic table has one of DT_JMPREL and DT_PLTREL, expected both",
                );
            }
        }
        check_entries(name, self.optional(name, DT_JMPREL, DT_PLTRELSZ)?, 24)
    }
}

fn check_entries(name: &str, table: Table, each: u64) -> Result<Table, Refusal> {
    if !table.bytes.is_multiple_of(each) {
        return refuse(format!(
            "{name} has {:#x} bytes, expected a multiple of {each}",
            table.bytes
        ));
    }
    Ok(table)
}
