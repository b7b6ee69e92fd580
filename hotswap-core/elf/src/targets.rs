//! Where relocations write: each at an aligned address whose bytes come from the file, and no two at the same
//! address.
//!
//! The loader writes without a check. A word written to the wrong place is used much later, by code that takes it for
//! something else. ELF demands none of the three rules, but linkers keep them (`scripts/libraries`), except for
//! pointers in packed structures.

use crate::{
    load::Load,
    memory::Memory,
    refusal::{Refusal, refuse},
};

/// Linkers write words of 8 bytes, and halves of words.
const UNIT_BYTES: u64 = 4;

/// The addresses that relocations have written to so far.
pub(crate) struct Targets {
    /// One bit for each unit of the file.
    written: Vec<u64>,
}

impl Targets {
    pub(crate) fn new(memory: &Memory<'_>) -> Self {
        let units = memory.file_bytes() / UNIT_BYTES + 1;
        let words = usize::try_from(units / 64 + 1).unwrap_or(0);
        Self {
            written: vec![0; words],
        }
    }

    /// Records a relocation that writes `bytes` bytes at `target`, which lies in `load`. Refuses one that breaks a
    /// rule.
    pub(crate) fn write(&mut self, load: &Load, target: u64, bytes: u64) -> Result<(), Refusal> {
        let is_aligned = match bytes {
            4 => target.is_multiple_of(4),
            _ => target.is_multiple_of(8),
        };
        if !is_aligned {
            return refuse(format!(
                "relocation at {target:#x} would write {bytes} bytes at an unaligned address"
            ));
        }
        let nowhere = || {
            Refusal::new(format!(
                "relocation at {target:#x} would write where the image has only zeros"
            ))
        };
        let offset = load.offset_in_file(target, bytes).ok_or_else(nowhere)?;
        for unit in offset / UNIT_BYTES..(offset + bytes) / UNIT_BYTES {
            let word = usize::try_from(unit / 64).ok();
            let word = word.and_then(|index| self.written.get_mut(index));
            let word = word.ok_or_else(nowhere)?;
            let bit = 1 << (unit % 64);
            if *word & bit != 0 {
                return refuse(format!("two relocations write at {target:#x}"));
            }
            *word |= bit;
        }
        Ok(())
    }
}
