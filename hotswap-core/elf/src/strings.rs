//! The string table. All other tables name strings by their offset in it.

use crate::{
    entries::{Table, not_readable},
    memory::Memory,
    refusal::{Refusal, refuse},
};

/// The string table. Its last byte is zero, so every offset inside it begins a terminated name.
#[derive(Clone, Copy)]
pub(crate) struct Strings<'a>(&'a [u8]);

impl<'a> Strings<'a> {
    pub(crate) fn read(memory: &Memory<'a>, table: Table) -> Result<Self, Refusal> {
        let Some(bytes) = memory.read(table.address, table.bytes) else {
            return refuse(not_readable("string table (DT_STRTAB)", table));
        };
        match bytes.last() {
            Some(0) => Ok(Self(bytes)),
            Some(_) => refuse("the string table (DT_STRTAB) does not end with a zero"),
            None => refuse("the string table (DT_STRTAB) is empty"),
        }
    }

    /// The size of the table in bytes.
    pub(crate) fn bytes(self) -> usize {
        self.0.len()
    }

    /// The name at `offset`, without its zero. For a name longer than `bytes_max`, the first `bytes_max + 1` bytes.
    /// Names may overlap and be as long as the file, so every caller sets a bound.
    pub(crate) fn get(self, offset: u64, bytes_max: usize) -> Option<&'a [u8]> {
        let rest = self
            .0
            .get(usize::try_from(offset).ok()?..)
            .filter(|rest| !rest.is_empty())?;
        let rest = rest.get(..=bytes_max).unwrap_or(rest);
        rest.split(|byte| *byte == 0).next()
    }

    /// Whether a name begins at `offset`, in constant time.
    pub(crate) fn has(self, offset: u32) -> bool {
        usize::try_from(offset).is_ok_and(|offset| offset < self.0.len())
    }

    /// Whether exactly `name` stands at `offset`. The cost is at most proportional to the length of `name`.
    pub(crate) fn is(self, offset: u32, name: &[u8]) -> bool {
        usize::try_from(offset)
            .ok()
            .and_then(|offset| self.0.get(offset..)?.strip_prefix(name)?.first())
            == Some(&0)
    }
}
