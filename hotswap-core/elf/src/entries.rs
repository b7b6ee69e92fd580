//! The entries of the dynamic table by their tags, and the tables that pairs of entries describe.
//!
//! If a tag occurs twice, the last one counts, as in the loader. A tag that this crate reads is refused if it occurs
//! twice with different values. An entry without its partner ("a table without its size") would be a null pointer in
//! the loader, so it is refused here. The file that reads a table judges whether a table at its address makes sense.

use std::{mem, ops::Range};

use object::NativeEndian as E;
use object::elf::{
    DF_1_NODELETE, DT_FLAGS_1, DT_JMPREL, DT_PLTREL, DT_PLTRELSZ, DT_RELA, Dyn64, DynamicTag,
};

use crate::{
    facts::Change,
    memory::Memory,
    refusal::{Refusal, refuse},
};

/// The address and length of a table; empty when there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Table {
    pub(crate) address: u64,
    pub(crate) bytes: u64,
}

impl Table {
    pub(crate) fn range(self) -> Range<u64> {
        self.address..self.address.saturating_add(self.bytes)
    }
}

/// The message for a table that is not in a readable, file-backed segment.
pub(crate) fn not_readable(what: &str, table: Table) -> String {
    format!(
        "{what} at {:#x} ({:#x} bytes) is not inside a readable, file-backed segment",
        table.address, table.bytes
    )
}

pub(crate) fn check_aligned(what: &str, address: u64, align: u64) -> Result<(), Refusal> {
    if address.is_multiple_of(align) {
        return Ok(());
    }
    refuse(format!(
        "{what} at {address:#x}, which is not aligned to {align} bytes"
    ))
}

/// The entries of the dynamic table.
pub(crate) struct Entries<'m, 'a>(pub(crate) &'m Memory<'a>);

impl Entries<'_, '_> {
    pub(crate) fn all(&self, tag: DynamicTag) -> Vec<u64> {
        let entries = self.0.dynamic.iter();
        entries
            .filter(|entry| entry.d_tag.get(E) == tag)
            .map(|entry| entry.d_val.get(E))
            .collect()
    }

    /// Refuses a tag that occurs twice with different values. No linker writes that, so one of them is damage.
    pub(crate) fn check_single(&self, tags: &[DynamicTag]) -> Result<(), Refusal> {
        for tag in tags {
            let all = self.all(*tag);
            if all.windows(2).any(|pair| pair[0] != pair[1]) {
                return refuse(format!(
                    "the dynamic table has the tag {:#x} twice, with different values",
                    tag.0
                ));
            }
        }
        Ok(())
    }

    /// The value that counts: the last one.
    pub(crate) fn last(&self, tag: DynamicTag) -> Option<u64> {
        let entry = self
            .0
            .dynamic
            .iter()
            .rfind(|entry| entry.d_tag.get(E) == tag)?;
        Some(entry.d_val.get(E))
    }

    /// The changes that clear `DF_1_NODELETE` in every entry that has it. (Of several entries, only the last counts
    /// today.)
    pub(crate) fn without_nodelete(&self) -> Vec<Change> {
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

    /// The value of an entry that every library must have.
    pub(crate) fn required(&self, name: &str, tag: DynamicTag) -> Result<u64, Refusal> {
        match self.last(tag) {
            Some(value) => Ok(value),
            None => refuse(format!("the dynamic table has no {name}")),
        }
    }

    /// A table that every library must have.
    pub(crate) fn table(
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

    /// A table of 8-byte items, if there is one.
    pub(crate) fn optional(
        &self,
        name: &str,
        tag: DynamicTag,
        size: DynamicTag,
    ) -> Result<Table, Refusal> {
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

    /// A table of relocations, if there is one.
    pub(crate) fn relocations(
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
        // glibc asserts this: exit(127).
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

    /// The relocations in `DT_JMPREL`, a separate table because the loader may defer them.
    pub(crate) fn plt(&self) -> Result<Table, Refusal> {
        let name = "DT_JMPREL";
        match (self.last(DT_JMPREL), self.last(DT_PLTREL)) {
            (None, None) => return Ok(Table::default()),
            // glibc asserts this: exit(127).
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
