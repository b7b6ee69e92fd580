//! The tables that the loader reads while it relocates and calls functions. They must not overlap, no relocation may
//! write into them, and no function may begin in them.
//!
//! A damaged address often leads to bytes that are still a readable table. Such a table shares bytes with another
//! one, and so is found out.

use std::ops::Range;

use crate::{
    dynamic::Dynamic,
    load::Load,
    memory::Memory,
    refusal::{Refusal, refuse},
    symbols::Symbols,
    versions::Versions,
};

const RELOCATIONS: [&str; 2] = ["DT_RELA", "DT_JMPREL"];

type Named = (&'static str, Range<u64>);

/// Named ranges of addresses, in ascending order. None is empty, and no two share an address.
pub(crate) struct Tables(Vec<Named>);

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
        Ok(Self(disjoint(named)?))
    }

    /// The tables that have a byte in one of `loads`.
    pub(crate) fn within<'l>(&self, loads: impl Iterator<Item = &'l Load> + Clone) -> Self {
        let is_within = |range: &Range<u64>| loads.clone().any(|load| load.overlaps(range));
        let named = self.0.iter().filter(|(_, range)| is_within(range));
        Self(named.cloned().collect())
    }

    /// The table that contains one of the `bytes` bytes at `address`.
    pub(crate) fn at(&self, address: u64, bytes: u64) -> Option<&'static str> {
        let before = self.0.partition_point(|(_, range)| range.end <= address);
        let (name, range) = self.0.get(before)?;
        (range.start < address.saturating_add(bytes)).then_some(*name)
    }
}

/// Refuses tables that overlap. There is one exception: `DT_JMPREL` may be a part of `DT_RELA`. Then the shared bytes
/// count only as a part of `DT_RELA`.
fn disjoint(named: Vec<Named>) -> Result<Vec<Named>, Refusal> {
    let mut all: Vec<Named> = Vec::new();
    for (name, mut range) in named {
        if let Some((other, before)) = all.last().filter(|(_, it)| range.start < it.end) {
            if !(RELOCATIONS.contains(other) && RELOCATIONS.contains(&name)) {
                return refuse(format!(
                    "{name} at {:#x} lies within {other} ({:#x} to {:#x})",
                    range.start, before.start, before.end
                ));
            }
            range.start = before.end;
        }
        if !range.is_empty() {
            all.push((name, range));
        }
    }
    Ok(all)
}
