//! The dynamic symbols: what the file exports and imports.
//!
//! No field of the file says how many symbols it has; the number follows from the hash table.

use std::{mem, ops::Range};

use object::NativeEndian as E;
use object::elf::{
    SHN_ABS, SHN_UNDEF, STB_GNU_UNIQUE, STB_WEAK, STT_FUNC, STT_GNU_IFUNC, STT_TLS, STV_PROTECTED,
    SymbolInfo, Versym,
};

use crate::{
    dynamic::Dynamic,
    entries::{Table, check_aligned, not_readable},
    facts::{Change, Facts},
    imports::{self, Imports},
    index::Index,
    memory::Memory,
    process::Process,
    refusal::{Refusal, excerpt, refuse},
    strings::Strings,
    symbol::{Symbol, is_visible},
    versions::Versions,
};

const SYMBOL_BYTES: u64 = size_of::<Symbol>() as u64;

/// How the names of class statics in namespace `std` (`std::locale::id`), and of the guards of their initialisation,
/// begin. Statics of functions begin otherwise.
const CPP_STATICS: &[&[u8]] = &[
    b"_ZNSt", b"_ZNSs", b"_ZNSb", b"_ZGVNSt", b"_ZGVNSs", b"_ZGVNSb",
];

/// The symbol table and its index.
pub(crate) struct Symbols<'a> {
    pub(crate) strings: Strings<'a>,
    pub(crate) entries: &'a [Symbol],
    /// The file offset of the first entry.
    offset: u64,
    /// Whether the count is exact, so that every entry is a symbol. It is not when the file exports nothing: the hash
    /// table is then empty, and the entries continue up to the next table.
    pub(crate) exact: bool,
    pub(crate) versym: Option<&'a [Versym<E>]>,
    highest_version: u16,
    pub(crate) index: Index<'a>,
    /// Whether it is for a machine whose relocations we know. There, a function's address is where its code begins.
    has_known_machine: bool,
}

impl<'a> Symbols<'a> {
    pub(crate) fn read(
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
            has_known_machine: process.machine.has_known_relocations(),
        })
    }

    /// The address ranges of the tables, as far as their ends are known.
    pub(crate) fn ranges(&self, dynamic: &Dynamic<'_>) -> [(&'static str, Range<u64>); 3] {
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

    /// Checks every symbol, and records the facts that symbols show.
    pub(crate) fn check(&self, memory: &Memory<'_>, facts: &mut Facts) -> Result<(), Refusal> {
        let mut imports = Imports::default();
        for (number, symbol) in self.entries.iter().enumerate().skip(1) {
            // Without an exact count, entries beyond the last symbol may hold anything. `referenced` checks the ones
            // that relocations use.
            if self.exact {
                self.check_one(memory, number, symbol)?;
            }
            if symbol.st_shndx.get(E) == SHN_UNDEF {
                let name = symbol.st_name.get(E).into();
                let name = self.strings.get(name, imports::NAME_BYTES_MAX);
                imports.note(name.unwrap_or_default());
                continue;
            }
            if symbol.st_bind() == STB_GNU_UNIQUE {
                facts.unique_symbols = true;
                facts.unique_in_std |= self.is_cpp_static(symbol);
                facts.without_unique.push(self.as_weak(number, symbol));
            }
        }
        imports.record_in(facts, |text| memory.has_text(text));
        Ok(())
    }

    fn is_cpp_static(&self, symbol: &Symbol) -> bool {
        let longest = "_ZGVNSt".len();
        let name = self.strings.get(symbol.st_name.get(E).into(), longest);
        CPP_STATICS
            .iter()
            .any(|prefix| name.unwrap_or_default().starts_with(prefix))
    }

    /// The change that turns a symbol into a weak symbol: the byte that holds its binding.
    fn as_weak(&self, number: usize, symbol: &Symbol) -> Change {
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

    /// The symbol that a relocation refers to, checked.
    pub(crate) fn referenced(
        &self,
        memory: &Memory<'_>,
        number: u32,
    ) -> Result<&'a Symbol, Refusal> {
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
        // The loader would bind such a symbol to this image's first byte: even a protected one, which it looks up, if
        // another image defines it (glibc 2.36, `_dl_lookup_symbol_x`).
        let is_own = !is_visible(symbol) || symbol.st_visibility() == STV_PROTECTED;
        if number != 0 && symbol.st_shndx.get(E) == SHN_UNDEF && is_own {
            return refuse(format!(
                "a relocation refers to symbol {number} ({}), which is local, hidden or protected but undefined",
                self.name(symbol)
            ));
        }
        Ok(symbol)
    }

    /// The symbol's name, for a message.
    pub(crate) fn name(&self, symbol: &Symbol) -> String {
        let name = self.strings.get(u64::from(symbol.st_name.get(E)), 128);
        excerpt(name.unwrap_or_default())
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
            // glibc uses the version as an array index, and has no array when no version has a number.
            if version > self.highest_version {
                return refuse(format!(
                    "symbol {number} ({}) has version {version}, the highest is {}",
                    self.name(symbol),
                    self.highest_version
                ));
            }
        }
        match symbol.st_shndx.get(E) {
            // In an executable, that is the address of a function of another image. The loader also takes it for a
            // definition where it finds the symbol in a library, as it does by the old hash table.
            SHN_UNDEF if self.has_known_machine && symbol.st_value.get(E) != 0 => refuse(format!(
                "symbol {number} ({}) is undefined, and has value {:#x}",
                self.name(symbol),
                symbol.st_value.get(E)
            )),
            SHN_UNDEF => Ok(()),
            // The loader calls it wherever it is referred to, at an address that is not one of the image.
            SHN_ABS if symbol.st_type() == STT_GNU_IFUNC => refuse(format!(
                "symbol {number} ({}) is an indirect function at an absolute address ({:#x})",
                self.name(symbol),
                symbol.st_value.get(E)
            )),
            SHN_ABS => Ok(()),
            _ => self.check_value(memory, number, symbol),
        }
    }

    fn check_value(
        &self,
        memory: &Memory<'_>,
        number: usize,
        symbol: &Symbol,
    ) -> Result<(), Refusal> {
        let (value, kind) = (symbol.st_value.get(E), symbol.st_type());
        let is_valid = match kind {
            STT_TLS => memory.tls.as_ref().is_some_and(|tls| value <= tls.bytes),
            STT_GNU_IFUNC => memory.is_code(value),
            STT_FUNC if self.has_known_machine => memory.is_code(value),
            _ => memory.loads.is_mapped(value),
        };
        if is_valid {
            return Ok(());
        }
        let what = match kind {
            STT_TLS => "outside the thread-local segment",
            STT_GNU_IFUNC => "which is not executable code",
            STT_FUNC if self.has_known_machine => "which is not executable code",
            _ => "outside the image",
        };
        refuse(format!(
            "symbol {number} ({}) has value {value:#x}, {what}",
            self.name(symbol)
        ))
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
