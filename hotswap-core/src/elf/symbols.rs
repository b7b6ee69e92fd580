//! The dynamic symbols: what the file exports and imports, and whether the host will find its own.
//!
//! The file nowhere says how many symbols it has: the count follows from the hash table.

use std::{collections::BTreeSet, mem, ops::Range};

use object::NativeEndian as E;
use object::elf::{
    SHN_ABS, SHN_UNDEF, STB_GLOBAL, STB_GNU_UNIQUE, STB_LOCAL, STB_WEAK, STT_COMMON, STT_FUNC,
    STT_GNU_IFUNC, STT_NOTYPE, STT_OBJECT, STT_TLS, STV_HIDDEN, STV_INTERNAL, Sym64, SymbolInfo,
    SymbolType, Versym,
};

use super::dynamic::{Dynamic, Strings, Table, check_aligned, not_readable};
use super::imports::{self, Imports};
use super::index::Index;
use super::memory::Memory;
use super::versions::Versions;
use super::{Change, Facts, Process, Refusal, refuse};
use crate::escape::excerpt;

pub(super) type Symbol = Sym64<E>;

const SYMBOL_BYTES: u64 = size_of::<Symbol>() as u64;
/// Of those that are listed: how many, and how long their names may be. Each is looked up, in a hash chain that may
/// be as long as the file.
const NAMED_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 256;
/// What the names of the statics in C++'s own namespace begin with, and of the guards of their initialisation: those of
/// classes (`std::locale::id`), not those of functions.
const CPP_STATICS: &[&[u8]] = &[
    b"_ZNSt", b"_ZNSs", b"_ZNSb", b"_ZGVNSt", b"_ZGVNSs", b"_ZGVNSb",
];

/// The symbol table and its index.
pub(super) struct Symbols<'a> {
    strings: Strings<'a>,
    entries: &'a [Symbol],
    /// Where they begin in the file.
    offset: u64,
    /// The count is exact, and every entry a symbol. It is not when nothing is exported, for then the
    /// hash table is empty: the entries then go on to where another table begins.
    exact: bool,
    versym: Option<&'a [Versym<E>]>,
    highest_version: u16,
    index: Index<'a>,
    /// On the machines we know, a function's address is where its code begins.
    functions_are_code: bool,
}

impl<'a> Symbols<'a> {
    pub(super) fn read(
        memory: &Memory<'a>,
        dynamic: &Dynamic<'a>,
        versions: &Versions,
        process: Process,
    ) -> Result<Self, Refusal> {
        let index = Index::read(memory, dynamic)?;
        let address = dynamic.symbols;
        let exact = index.count();
        let count = match exact {
            Some(count) => count,
            None => {
                let to_next = dynamic
                    .next_table(address)
                    .map_or(u64::MAX, |next| next.saturating_sub(address));
                memory.readable_from(address).min(to_next) / SYMBOL_BYTES
            }
        };
        check_aligned("DT_SYMTAB", address, 8)?;
        let Some(entries) = memory.table::<Symbol>(address, count) else {
            let bytes = count.saturating_mul(SYMBOL_BYTES);
            return refuse(not_readable(
                "symbol table (DT_SYMTAB)",
                Table { address, bytes },
            ));
        };
        Ok(Self {
            strings: dynamic.strings,
            entries,
            offset: memory.offset_at(address).unwrap_or(0),
            exact: exact.is_some(),
            versym: versym(memory, dynamic, count)?,
            highest_version: versions.highest,
            index,
            functions_are_code: process.knows_relocations(),
        })
    }

    /// Where its tables lie, as far as their ends are known.
    pub(super) fn ranges(&self, dynamic: &Dynamic<'_>) -> [(&'static str, Range<u64>); 3] {
        let count = if self.exact {
            u64::try_from(self.entries.len()).unwrap_or(0)
        } else {
            0
        };
        let table =
            |address: u64, each: u64| address..address.saturating_add(count.saturating_mul(each));
        [
            ("DT_SYMTAB", table(dynamic.symbols, SYMBOL_BYTES)),
            (
                "DT_VERSYM",
                dynamic.versym.map_or(0..0, |address| table(address, 2)),
            ),
            ("the symbol hash table", self.index.range.clone()),
        ]
    }

    /// Checks every symbol, and notes what is worth knowing of them.
    pub(super) fn check(&self, memory: &Memory<'_>, facts: &mut Facts) -> Result<(), Refusal> {
        let mut imports = Imports::default();
        for (number, symbol) in self.entries.iter().enumerate().skip(1) {
            // Beyond the last symbol may lie anything. Those that are used are checked when they are.
            if self.exact {
                self.check_one(memory, number, symbol)?;
            }
            if symbol.st_shndx.get(E) == SHN_UNDEF {
                let name = symbol.st_name.get(E).into();
                let name = self.strings.get(name, imports::NAME_BYTES_MAX);
                imports.note(name.unwrap_or_default());
                continue;
            }
            facts.ifuncs |= symbol.st_type() == STT_GNU_IFUNC;
            if symbol.st_bind() == STB_GNU_UNIQUE {
                facts.unique_symbols = true;
                facts.unique_in_std |= self.is_cpp_static(symbol);
                facts.without_unique.push(self.weakened(number, symbol));
            }
        }
        imports.tell(facts);
        Ok(())
    }

    /// Whether `dlsym` finds a static of that name.
    pub(super) fn has_static(&self, name: &str) -> bool {
        let found = self.look_up(name.as_bytes());
        found.is_some_and(|symbol| symbol.st_type() == STT_OBJECT)
    }

    fn is_cpp_static(&self, symbol: &Symbol) -> bool {
        let longest = "_ZGVNSt".len();
        let name = self.strings.get(symbol.st_name.get(E).into(), longest);
        CPP_STATICS
            .iter()
            .any(|prefix| name.unwrap_or_default().starts_with(prefix))
    }

    /// The byte of a symbol that says how it is bound, and the one that says the same of a weak symbol.
    fn weakened(&self, number: usize, symbol: &Symbol) -> Change {
        let before = u64::try_from(number).unwrap_or(u64::MAX);
        let table_bytes = before.saturating_mul(SYMBOL_BYTES);
        let field = mem::offset_of!(Symbol, st_info) as u64;
        Change {
            offset: self
                .offset
                .saturating_add(table_bytes)
                .saturating_add(field),
            from: symbol.st_info.0,
            to: SymbolInfo::new(STB_WEAK, symbol.st_type()).0,
        }
    }

    /// The symbol that a relocation refers to.
    pub(super) fn referred(&self, memory: &Memory<'_>, number: u32) -> Result<&'a Symbol, Refusal> {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let Some(symbol) = self.entries.get(number) else {
            return refuse(format!(
                "a relocation refers to symbol {number}, there are {}",
                self.entries.len()
            ));
        };
        if !self.exact && number != 0 {
            self.check_one(memory, number, symbol)?;
        }
        // The loader binds it to this image's first byte.
        if number != 0 && symbol.st_shndx.get(E) == SHN_UNDEF && !is_visible(symbol) {
            return refuse(format!(
                "a relocation refers to symbol {number} ({}), which is local or hidden but undefined",
                self.name(symbol)
            ));
        }
        Ok(symbol)
    }

    /// The name of a symbol, for a message.
    pub(super) fn name(&self, symbol: &Symbol) -> String {
        let name = self.strings.get(u64::from(symbol.st_name.get(E)), 128);
        excerpt(name.unwrap_or_default())
    }

    /// Checks that `dlsym` will find `name`, in this file, and as what it is expected to be: a static of so many
    /// bytes, or a function if no size is given.
    pub(super) fn find(
        &self,
        memory: &Memory<'_>,
        name: &str,
        size: Option<u64>,
    ) -> Result<(), Refusal> {
        let shown = excerpt(name.as_bytes());
        let Some(symbol) = self.look_up(name.as_bytes()) else {
            return refuse(format!(
                "does not export {shown}: {}",
                self.why_not_found(name.as_bytes())
            ));
        };
        if symbol.st_bind() == STB_GNU_UNIQUE {
            return refuse(format!(
                "exports {shown} as unique in the process: the first one loaded would answer for all"
            ));
        }
        let (found, address) = (symbol.st_type(), symbol.st_value.get(E));
        match size {
            Some(_) if found != STT_OBJECT => refuse(format!(
                "exports {shown} as {}, expected a static",
                type_name(found)
            )),
            Some(size) if symbol.st_size.get(E) < size => refuse(format!(
                "exports {shown} with {} bytes, expected at least {size}",
                symbol.st_size.get(E)
            )),
            Some(_) if !memory.is_readable(address, symbol.st_size.get(E)) => refuse(format!(
                "exports {shown} at {address:#x}, which is not readable memory"
            )),
            None if found != STT_FUNC && found != STT_GNU_IFUNC => refuse(format!(
                "exports {shown} as {}, expected a function",
                type_name(found)
            )),
            None if !memory.is_code(address) => refuse(format!(
                "exports {shown} at {address:#x}, which is not executable code"
            )),
            _ => Ok(()),
        }
    }

    /// Finds all statics whose names begin with `prefix`, and gives the rest of the names.
    pub(super) fn find_all(
        &self,
        memory: &Memory<'_>,
        prefix: &str,
        size_min: u64,
    ) -> Result<Vec<String>, Refusal> {
        let mut all = BTreeSet::new();
        // Without an exact count nothing is exported.
        let entries = if self.exact { self.entries } else { &[] };
        for symbol in entries.iter().skip(1).filter(|it| is_definition(it)) {
            let name = self
                .strings
                .get(symbol.st_name.get(E).into(), NAME_BYTES_MAX);
            let name = name.and_then(|name| name.strip_prefix(prefix.as_bytes()));
            let Some(rest) = name.filter(|_| is_visible(symbol)) else {
                continue;
            };
            match str::from_utf8(rest) {
                Ok(rest) if prefix.len() + rest.len() <= NAME_BYTES_MAX => {
                    all.insert(rest.to_owned());
                }
                _ => {
                    return refuse(format!(
                        "exports {prefix}{}, expected a name of at most {NAME_BYTES_MAX} bytes of text",
                        excerpt(rest)
                    ));
                }
            }
            if all.len() > NAMED_MAX {
                return refuse(format!(
                    "exports more than {NAMED_MAX} symbols whose names begin with {prefix}"
                ));
            }
        }
        for rest in &all {
            self.find(memory, &format!("{prefix}{rest}"), Some(size_min))?;
        }
        Ok(all.into_iter().collect())
    }

    fn check_one(
        &self,
        memory: &Memory<'_>,
        number: usize,
        symbol: &Symbol,
    ) -> Result<(), Refusal> {
        let name = symbol.st_name.get(E);
        if !self.strings.has(name) {
            return refuse(format!(
                "symbol {number} names the string at {name:#x}, beyond the string table"
            ));
        }
        if let Some(version) = self.versym.and_then(|versions| versions.get(number)) {
            let version = version.0.get(E).0 & 0x7fff;
            // glibc indexes an array with it, which it does not have when no version is numbered.
            if version > self.highest_version {
                return refuse(format!(
                    "symbol {number} ({}) has version {version}, the highest is {}",
                    self.name(symbol),
                    self.highest_version
                ));
            }
        }
        let section = symbol.st_shndx.get(E);
        if section == SHN_UNDEF || section == SHN_ABS {
            return Ok(());
        }
        self.check_value(memory, number, symbol)
    }

    fn check_value(
        &self,
        memory: &Memory<'_>,
        number: usize,
        symbol: &Symbol,
    ) -> Result<(), Refusal> {
        let (value, kind) = (symbol.st_value.get(E), symbol.st_type());
        let good = match kind {
            STT_TLS => memory.tls.as_ref().is_some_and(|tls| value <= tls.bytes),
            STT_GNU_IFUNC => memory.is_code(value),
            STT_FUNC if self.functions_are_code => memory.is_code(value),
            _ => memory.is_mapped(value),
        };
        if good {
            return Ok(());
        }
        let what = match kind {
            STT_TLS => "outside the thread-local segment",
            STT_GNU_IFUNC => "which is not executable code",
            STT_FUNC if self.functions_are_code => "which is not executable code",
            _ => "outside the image",
        };
        refuse(format!(
            "symbol {number} ({}) has value {value:#x}, {what}",
            self.name(symbol)
        ))
    }

    /// As `dlsym` does it: `do_lookup_x` and `check_match` of glibc.
    fn look_up(&self, name: &[u8]) -> Option<&'a Symbol> {
        // The newest version of several, if none of them is without a version.
        let mut versioned = None;
        for number in self.index.candidates(name) {
            let symbol = self.entries.get(number)?;
            if !self.strings.is(symbol.st_name.get(E), name) || !is_definition(symbol) {
                continue;
            }
            let version = self.versym.and_then(|versions| versions.get(number));
            match version.map_or(0, |version| version.0.get(E).0) {
                version if version & 0x7fff < 2 => {
                    return Some(symbol).filter(|found| is_visible(found));
                }
                version if version & 0x8000 == 0 => versioned = versioned.or(Some(symbol)),
                _ => {}
            }
        }
        versioned.filter(|found| is_visible(found))
    }

    fn why_not_found(&self, name: &[u8]) -> &'static str {
        let same_name = |symbol: &&Symbol| self.strings.is(symbol.st_name.get(E), name);
        let named: Vec<&Symbol> = self
            .entries
            .iter()
            .skip(1)
            .filter(same_name)
            .take(8)
            .collect();
        let any = |test: fn(&Symbol) -> bool| named.iter().any(|symbol| test(symbol));
        if named.is_empty() {
            "no such symbol"
        } else if !any(|symbol| symbol.st_shndx.get(E) != SHN_UNDEF) {
            "it only imports that symbol"
        } else if !any(|symbol| symbol.st_bind() != STB_LOCAL) {
            "the symbol is local"
        } else if !any(is_visible) {
            "the symbol is hidden"
        } else if !any(is_definition) {
            "the symbol has no address"
        } else {
            "the symbol is in no hash table, or only in an old version"
        }
    }
}

fn versym<'a>(
    memory: &Memory<'a>,
    dynamic: &Dynamic<'_>,
    count: u64,
) -> Result<Option<&'a [Versym<E>]>, Refusal> {
    let Some(address) = dynamic.versym else {
        return Ok(None);
    };
    check_aligned("DT_VERSYM", address, 2)?;
    match memory.table::<Versym<E>>(address, count) {
        Some(versions) => Ok(Some(versions)),
        None => {
            let bytes = count.saturating_mul(2);
            refuse(not_readable(
                "symbol versions (DT_VERSYM)",
                Table { address, bytes },
            ))
        }
    }
}

fn is_definition(symbol: &Symbol) -> bool {
    const DEFINING: [SymbolType; 6] = [
        STT_NOTYPE,
        STT_OBJECT,
        STT_FUNC,
        STT_COMMON,
        STT_TLS,
        STT_GNU_IFUNC,
    ];
    let (section, kind) = (symbol.st_shndx.get(E), symbol.st_type());
    let has_value = symbol.st_value.get(E) != 0 || section == SHN_ABS || kind == STT_TLS;
    section != SHN_UNDEF && has_value && DEFINING.contains(&kind)
}

fn is_visible(symbol: &Symbol) -> bool {
    let visibility = symbol.st_visibility();
    let bound = matches!(symbol.st_bind(), STB_GLOBAL | STB_WEAK | STB_GNU_UNIQUE);
    bound && visibility != STV_HIDDEN && visibility != STV_INTERNAL
}

fn type_name(kind: SymbolType) -> String {
    match kind {
        STT_NOTYPE => "something without a type".into(),
        STT_OBJECT | STT_COMMON => "a static".into(),
        STT_FUNC => "a function".into(),
        STT_GNU_IFUNC => "an indirect function".into(),
        STT_TLS => "a thread-local".into(),
        SymbolType(other) => format!("symbol type {other}"),
    }
}
