//! What `dlsym` finds in the file, and whether that is what the caller expects.

use std::collections::BTreeSet;

use object::NativeEndian as E;
use object::elf::{
    SHN_ABS, SHN_UNDEF, STB_GNU_UNIQUE, STB_LOCAL, STT_FUNC, STT_GNU_IFUNC, STT_OBJECT,
};

use crate::{
    memory::Memory,
    refusal::{NotExported, Refusal, excerpt, refuse},
    symbol::{Symbol, is_definition, is_visible, type_name},
    symbols::Symbols,
};

/// How many prefixed names a file may export, and how long each may be. Each is looked up in a hash chain that may be
/// as long as the file.
const NAMED_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 256;

/// The symbols, as `dlsym` sees them.
pub(crate) struct Exports<'s, 'a> {
    memory: &'s Memory<'a>,
    symbols: &'s Symbols<'a>,
}

impl<'s, 'a> Exports<'s, 'a> {
    pub(crate) fn new(memory: &'s Memory<'a>, symbols: &'s Symbols<'a>) -> Self {
        Self { memory, symbols }
    }

    /// Whether `dlsym` finds a static with this name.
    pub(crate) fn has_static(&self, name: &str) -> bool {
        let found = self.look_up(name.as_bytes());
        found.is_some_and(|it| it.st_type() == STT_OBJECT && it.st_shndx.get(E) != SHN_ABS)
    }

    /// Checks that `name` is a static of at least `size_min` bytes.
    pub(crate) fn check_static(&self, name: &str, size_min: u64) -> Result<(), Refusal> {
        self.check(name, Some(size_min))
    }

    /// Checks that `name` is a function.
    pub(crate) fn check_function(&self, name: &str) -> Result<(), Refusal> {
        self.check(name, None)
    }

    /// Checks that all symbols whose names begin with `prefix` are statics of at least `size_min` bytes. Returns the
    /// rest of each name.
    pub(crate) fn check_prefixed(
        &self,
        prefix: &str,
        size_min: u64,
    ) -> Result<Vec<String>, Refusal> {
        let mut all = BTreeSet::new();
        // Without an exact count the file exports nothing.
        let entries = if self.symbols.exact {
            self.symbols.entries
        } else {
            &[]
        };
        for symbol in entries.iter().skip(1).filter(|it| is_definition(it)) {
            let name = self
                .symbols
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
            self.check(&format!("{prefix}{rest}"), Some(size_min))?;
        }
        Ok(all.into_iter().collect())
    }

    /// Checks for a static of at least `size` bytes, or for a function if `size` is `None`.
    fn check(&self, name: &str, size: Option<u64>) -> Result<(), Refusal> {
        let shown = excerpt(name.as_bytes());
        let Some(symbol) = self.look_up(name.as_bytes()) else {
            let why = self.why_not_found(name.as_bytes());
            return Err(Refusal::not_exported(&shown, why));
        };
        if symbol.st_bind() == STB_GNU_UNIQUE {
            return refuse(format!(
                "exports {shown} as unique in the process: the first one loaded would answer for all"
            ));
        }
        let (found, address) = (symbol.st_type(), symbol.st_value.get(E));
        if symbol.st_shndx.get(E) == SHN_ABS {
            return refuse(format!(
                "exports {shown} at an absolute address ({address:#x}), expected one in the image"
            ));
        }
        match size {
            Some(_) if found != STT_OBJECT => refuse(format!(
                "exports {shown} as {}, expected a static",
                type_name(found)
            )),
            Some(size) if symbol.st_size.get(E) < size => refuse(format!(
                "exports {shown} with {} bytes, expected at least {size}",
                symbol.st_size.get(E)
            )),
            Some(_) if !self.memory.is_readable(address, symbol.st_size.get(E)) => refuse(format!(
                "exports {shown} at {address:#x}, which is not readable memory"
            )),
            None if found != STT_FUNC && found != STT_GNU_IFUNC => refuse(format!(
                "exports {shown} as {}, expected a function",
                type_name(found)
            )),
            None if !self.memory.is_code(address) => refuse(format!(
                "exports {shown} at {address:#x}, which is not executable code"
            )),
            _ => Ok(()),
        }
    }

    /// Finds a symbol in the same way as `dlsym` (`do_lookup_x` and `check_match` of glibc).
    fn look_up(&self, name: &[u8]) -> Option<&'a Symbol> {
        // If no symbol of this name is unversioned, `dlsym` takes the default version.
        let mut versioned = None;
        for number in self.symbols.index.candidates(name) {
            let symbol = self.symbols.entries.get(number)?;
            if !self.symbols.strings.is(symbol.st_name.get(E), name) || !is_definition(symbol) {
                continue;
            }
            let version = self
                .symbols
                .versym
                .and_then(|versions| versions.get(number));
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

    fn why_not_found(&self, name: &[u8]) -> NotExported {
        let same_name = |symbol: &&Symbol| self.symbols.strings.is(symbol.st_name.get(E), name);
        let named: Vec<&Symbol> = self
            .symbols
            .entries
            .iter()
            .skip(1)
            .filter(same_name)
            .take(8)
            .collect();
        let any = |test: fn(&Symbol) -> bool| named.iter().any(|symbol| test(symbol));
        if named.is_empty() {
            NotExported::Absent
        } else if !any(|symbol| symbol.st_shndx.get(E) != SHN_UNDEF) {
            NotExported::Imported
        } else if !any(|symbol| symbol.st_bind() != STB_LOCAL) {
            NotExported::Local
        } else if !any(is_visible) {
            NotExported::Hidden
        } else if !any(is_definition) {
            NotExported::WithoutAddress
        } else {
            NotExported::NotIndexed
        }
    }
}
