//! The dynamic table, which tells the loader where everything else is.

use std::{collections::HashSet, ops::Range};

use object::elf::{
    DF_1_NODELETE, DF_1_NOOPEN, DF_1_PIE, DF_STATIC_TLS, DF_TEXTREL, DT_AUXILIARY, DT_DEBUG,
    DT_FILTER, DT_FINI, DT_FINI_ARRAY, DT_FINI_ARRAYSZ, DT_FLAGS, DT_FLAGS_1, DT_GNU_HASH, DT_HASH,
    DT_INIT, DT_INIT_ARRAY, DT_INIT_ARRAYSZ, DT_JMPREL, DT_NEEDED, DT_PLTRELSZ, DT_PREINIT_ARRAYSZ,
    DT_REL, DT_RELA, DT_RELACOUNT, DT_RELAENT, DT_RELASZ, DT_RELR, DT_RELRENT, DT_RELRSZ, DT_RELSZ,
    DT_RPATH, DT_RUNPATH, DT_SONAME, DT_STRSZ, DT_STRTAB, DT_SYMENT, DT_SYMTAB, DT_TEXTREL,
    DT_VERDEF, DT_VERNEED, DT_VERSYM, DynamicTag,
};

use crate::{
    entries::{Entries, Table},
    facts::{Change, Facts},
    memory::Memory,
    refusal::{Refusal, excerpt, refuse},
    strings::Strings,
};

/// The loader copies names and search paths onto its stack.
pub(crate) const NAME_BYTES_MAX: usize = 4096;
const PATH_BYTES_MAX: usize = 64 << 10;
/// The loader opens one file for each.
const NEEDED_MAX: usize = 1024;
/// The loader looks into each of them for each library.
const FOLDERS_MAX: usize = 1024;
/// The tags of a library that is asked first for the file's own symbols.
const FILTER_TAGS: &str = "DT_AUXILIARY or DT_FILTER";

/// Tags that hold an address or a size. Linkers write each at most once.
const UNIQUE_TAGS: [DynamicTag; 20] = [
    DT_FINI,
    DT_FINI_ARRAY,
    DT_FINI_ARRAYSZ,
    DT_GNU_HASH,
    DT_HASH,
    DT_INIT,
    DT_INIT_ARRAY,
    DT_INIT_ARRAYSZ,
    DT_JMPREL,
    DT_PLTRELSZ,
    DT_RELA,
    DT_RELASZ,
    DT_RELR,
    DT_RELRSZ,
    DT_STRSZ,
    DT_STRTAB,
    DT_SYMTAB,
    DT_VERDEF,
    DT_VERNEED,
    DT_VERSYM,
];

/// The dynamic table. An address and its size are one `Table`.
pub(crate) struct Dynamic<'a> {
    pub(crate) strings: Strings<'a>,
    pub(crate) symbols: u64,
    pub(crate) gnu_hash: Option<u64>,
    pub(crate) hash: Option<u64>,
    pub(crate) versym: Option<u64>,
    pub(crate) verneed: Option<u64>,
    pub(crate) verdef: Option<u64>,
    pub(crate) rela: Table,
    pub(crate) relative_count: u64,
    pub(crate) plt: Table,
    pub(crate) relr: Table,
    pub(crate) init: Option<u64>,
    pub(crate) fini: Option<u64>,
    pub(crate) init_array: Table,
    pub(crate) fini_array: Table,
    pub(crate) text_relocations: bool,
    pub(crate) static_tls: bool,
    pub(crate) nodelete: bool,
    /// The changes to the file that make `nodelete` false.
    pub(crate) without_nodelete: Vec<Change>,
    pub(crate) strings_range: Range<u64>,
    needed: Vec<u64>,
    filters: Vec<u64>,
    soname: Option<u64>,
    runpath: Option<u64>,
    rpath: Option<u64>,
}

impl<'a> Dynamic<'a> {
    pub(crate) fn read(memory: &Memory<'a>) -> Result<Self, Refusal> {
        let entries = Entries(memory);
        check_loadable(&entries, memory)?;
        entries.check_single(&UNIQUE_TAGS)?;
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
            // If both are given, the loader ignores the older one.
            rpath: match entries.last(DT_RUNPATH) {
                Some(_) => None,
                None => entries.last(DT_RPATH),
            },
        };
        dynamic.check_names()?;
        Ok(dynamic)
    }

    /// Records which libraries the file needs, and where it looks for them.
    pub(crate) fn record_libraries(&self, facts: &mut Facts) {
        // `check_names` has refused what is no text.
        let text = |offset| {
            let name = self.strings.get(offset, PATH_BYTES_MAX)?;
            str::from_utf8(name).ok().map(str::to_owned)
        };
        facts.soname = self.soname.and_then(text);
        facts.runpath = self.runpath.and_then(text);
        facts.rpath = self.rpath.and_then(text);
        facts.needed = self.needed.iter().copied().filter_map(text).collect();
        facts.filters = self.filters.iter().copied().filter_map(text).collect();
    }

    /// The names of the libraries needed.
    pub(crate) fn needed(&self) -> HashSet<&'a [u8]> {
        let names = self.needed.iter().copied();
        names
            .filter_map(|offset| self.strings.get(offset, NAME_BYTES_MAX))
            .collect()
    }

    /// The address of the next table after `address`. It bounds a table whose length is not known.
    pub(crate) fn next_table(&self, address: u64) -> Option<u64> {
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
        let needed = self.needed.iter().map(|offset| ("DT_NEEDED", *offset));
        let filters = self.filters.iter().map(|offset| (FILTER_TAGS, *offset));
        for (tag, offset) in needed.chain(filters) {
            if self.name(tag, offset, NAME_BYTES_MAX)?.is_empty() {
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
            let count = path.split(|byte| *byte == b':').count();
            if count > FOLDERS_MAX {
                return refuse(format!(
                    "{tag} has {count} directories, at most {FOLDERS_MAX} make sense"
                ));
            }
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
                self.strings.bytes()
            )),
            Some(name) if name.len() > bytes_max => refuse(format!(
                "{tag} is a name of more than {bytes_max} bytes: {}",
                excerpt(name)
            )),
            // The names of libraries and folders are texts everywhere else. If one were changed into a text, the
            // loader would load another file than the one that was looked for.
            Some(name) if str::from_utf8(name).is_err() => {
                refuse(format!("{tag} is not UTF-8: {}", excerpt(name)))
            }
            Some(name) => Ok(name),
        }
    }
}

/// Refuses what no shared object has, and what forbids `dlopen`.
fn check_loadable(entries: &Entries<'_, '_>, memory: &Memory<'_>) -> Result<(), Refusal> {
    let flags_1 = entries.last(DT_FLAGS_1).unwrap_or(0);
    let debug = entries.last(DT_DEBUG).is_some();
    // Linkers before 2.26 (and Go's) do not set the flag, but they reserve an entry for the debugger.
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
    // The 64-bit machines that have such relocations (mips) are not among those that we know.
    if entries.last(DT_RELSZ).is_some_and(|bytes| bytes != 0) && entries.last(DT_REL).is_some() {
        return refuse(
            "has relocations without addends (DT_REL), which this machine's loader ignores",
        );
    }
    Ok(())
}
