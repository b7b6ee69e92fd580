//! The tables that the loader reads while it relocates and calls: they must not lie on one another, no
//! relocation may write into them, and no function begins in them.
//!
//! A table in the wrong place is often still a readable one. That two of them share bytes gives it away.

use std::ops::Range;

use crate::{
    dynamic::Dynamic,
    memory::Memory,
    refusal::{Refusal, refuse},
    symbols::Symbols,
    versions::Versions,
};

const RELOCATIONS: [&str; 2] = ["DT_RELA", "DT_JMPREL"];

/// Named ranges of addresses, in ascending order.
pub(crate) struct Tables(Vec<(&'static str, Range<u64>)>);

impl Tables {
    pub(crate) fn new(
        memory: &Memory<'_>,
        dynamic: &Dynamic<'_>,
        versions: &Versions,
        symbols: &Symbols<'_>,
    ) -> Result<Self, Refusal> {
        let mut named = vec![
            ("the file header", memory.loads.file_header_range()),
            ("the program headers", memory.headers_range.clone()),
            ("the dynamic table", memory.dynamic_range.clone()),
            ("DT_STRTAB", dynamic.strings_range.clone()),
            ("DT_RELA", dynamic.rela.range()),
            ("DT_JMPREL", dynamic.plt.range()),
            ("DT_RELR", dynamic.relr.range()),
            ("DT_VERNEED", versions.needed_range.clone()),
            ("DT_VERDEF", versions.defined_range.clone()),
        ];
        named.extend(symbols.ranges(dynamic));
        named.retain(|(_, range)| !range.is_empty());
        named.sort_by_key(|(_, range)| range.start);
        let tables = Self(named);
        tables.check_disjoint()?;
        Ok(tables)
    }

    /// The table that has a byte of `bytes` bytes at `address`.
    pub(crate) fn at(&self, address: u64, bytes: u64) -> Option<&'static str> {
        let end = address.saturating_add(bytes);
        let hit = self
            .0
            .iter()
            .find(|(_, range)| address < range.end && range.start < end);
        hit.map(|(name, _)| *name)
    }

    fn check_disjoint(&self) -> Result<(), Refusal> {
        for pair in self.0.windows(2) {
            let [(first, before), (second, after)] = pair else {
                continue;
            };
            // The second kind of relocations may be a part of the first.
            let both_relocations = RELOCATIONS.contains(first) && RELOCATIONS.contains(second);
            if after.start < before.end && !both_relocations {
                return refuse(format!(
                    "{second} at {:#x} lies within {first} ({:#x} to {:#x})",
                    after.start, before.start, before.end
                ));
            }
        }
        Ok(())
    }
}
