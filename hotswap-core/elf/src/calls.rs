//! The functions that the loader itself calls: initialisers when it opens the image, finalisers when it closes it.
//! Each must be executable code once relocation is done. What the code does is not checked.

use std::ops::Range;

use object::NativeEndian as E;
use object::U64;

use crate::{
    dynamic::Dynamic,
    entries::{Table, not_readable},
    memory::Memory,
    process::Process,
    refusal::{Refusal, refuse},
    tables::Tables,
};

/// The initialisers and finalisers, as far as the relocations seen so far have filled them in.
pub(crate) struct Calls {
    single: [(&'static str, Option<u64>); 2],
    arrays: [Array; 2],
    /// From the beginning of the first array to the end of the last one.
    all_arrays: Range<u64>,
}

struct Array {
    name: &'static str,
    table: Table,
    slots: Vec<Slot>,
}

/// The content of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// The value in the file; it is not an address yet.
    Raw(u64),
    /// An address inside the image.
    Here(u64),
    /// An address in a library that this crate does not know.
    Elsewhere,
}

/// What a relocation writes to its target.
#[derive(Clone, Copy)]
pub(crate) enum Written {
    /// An address inside the image.
    Here(u64),
    /// The address that the file has at the target, relocated.
    InPlace,
    /// The address of a function of another library.
    Elsewhere,
    /// Another address that depends on another library.
    NotCode,
    /// Something that is not an address.
    Number,
}

impl Calls {
    pub(crate) fn read(memory: &Memory<'_>, dynamic: &Dynamic<'_>) -> Result<Self, Refusal> {
        let ranges = [dynamic.init_array.range(), dynamic.fini_array.range()];
        if ranges[0].start < ranges[1].end && ranges[1].start < ranges[0].end {
            return refuse(format!(
                "DT_INIT_ARRAY at {:#x} and DT_FINI_ARRAY at {:#x} overlap",
                ranges[0].start, ranges[1].start
            ));
        }
        let ranges = ranges.iter().filter(|range| !range.is_empty());
        let start = ranges.clone().map(|range| range.start).min();
        let end = ranges.map(|range| range.end).max();
        Ok(Self {
            single: [("DT_INIT", dynamic.init), ("DT_FINI", dynamic.fini)],
            arrays: [
                Array::read(memory, "DT_INIT_ARRAY", dynamic.init_array)?,
                Array::read(memory, "DT_FINI_ARRAY", dynamic.fini_array)?,
            ],
            all_arrays: start.unwrap_or(0)..end.unwrap_or(0),
        })
    }

    /// Records what a relocation writes, if it writes into an array.
    pub(crate) fn write(
        &mut self,
        target: u64,
        bytes: u64,
        written: Written,
    ) -> Result<(), Refusal> {
        // Few relocations do.
        if target >= self.all_arrays.end || target.saturating_add(bytes) <= self.all_arrays.start {
            return Ok(());
        }
        for array in &mut self.arrays {
            array.write(target, bytes, written)?;
        }
        Ok(())
    }

    /// Checks every function.
    pub(crate) fn check(
        &self,
        memory: &Memory<'_>,
        tables: &Tables,
        process: Process,
    ) -> Result<(), Refusal> {
        for (name, address) in self.single {
            if let Some(address) = address.filter(|address| !is_function(memory, tables, *address))
            {
                return refuse(format!(
                    "{name} is at {address:#x}, which is not executable code"
                ));
            }
        }
        if process.machine.has_known_relocations() {
            for array in &self.arrays {
                array.check(memory, tables)?;
            }
        }
        Ok(())
    }
}

impl Array {
    fn read(memory: &Memory<'_>, name: &'static str, table: Table) -> Result<Self, Refusal> {
        let Some(values) = memory.table::<U64<E>>(table.address, table.bytes / 8) else {
            if table.bytes == 0 {
                return Ok(Self {
                    name,
                    table,
                    slots: Vec::new(),
                });
            }
            return refuse(not_readable(name, table));
        };
        let slots = values.iter().map(|value| Slot::Raw(value.get(E))).collect();
        Ok(Self { name, table, slots })
    }

    fn write(&mut self, target: u64, bytes: u64, written: Written) -> Result<(), Refusal> {
        let range = self.table.range();
        if target >= range.end || target.saturating_add(bytes) <= range.start {
            return Ok(());
        }
        let offset = target
            .checked_sub(range.start)
            .filter(|offset| offset.is_multiple_of(8));
        let slot = offset
            .and_then(|offset| usize::try_from(offset / 8).ok())
            .and_then(|number| self.slots.get_mut(number));
        let Some(slot) = slot.filter(|_| bytes == 8) else {
            return refuse(format!(
                "a relocation at {target:#x} writes across entries of {}",
                self.name
            ));
        };
        let Slot::Raw(raw) = *slot else {
            return refuse(format!(
                "two relocations write {} at {target:#x}",
                self.name
            ));
        };
        *slot = match written {
            Written::Here(address) => Slot::Here(address),
            Written::InPlace => Slot::Here(raw),
            Written::Elsewhere => Slot::Elsewhere,
            Written::Number | Written::NotCode => {
                return refuse(format!(
                    "a relocation at {target:#x} leaves no address of a function in {}",
                    self.name
                ));
            }
        };
        Ok(())
    }

    fn check(&self, memory: &Memory<'_>, tables: &Tables) -> Result<(), Refusal> {
        for (number, slot) in self.slots.iter().enumerate() {
            let name = self.name;
            match slot {
                Slot::Elsewhere => {}
                Slot::Here(address) if is_function(memory, tables, *address) => {}
                Slot::Here(address) => {
                    return refuse(format!(
                        "{name} calls {address:#x} (entry {number}), which is not executable code"
                    ));
                }
                Slot::Raw(value) => {
                    return refuse(format!(
                        "{name} entry {number} ({value:#x}) is not relocated to an address"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Whether a function may begin at `address`. A table is no function; small linkers put tables and code into one
/// segment.
pub(crate) fn is_function(memory: &Memory<'_>, tables: &Tables, address: u64) -> bool {
    memory.is_code(address) && tables.at(address, 1).is_none()
}
