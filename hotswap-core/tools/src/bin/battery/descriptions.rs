//! Damage to abi_stable's descriptions of a plugin's types, and to all other constants that contain addresses.

use std::{collections::HashMap, sync::Arc};

use object::elf;

use crate::{
    cases::{Case, Demand, Edit},
    plugin::{Plugin, RELOCATION_BYTES},
};

/// How many words are damaged. They are spread over the constants that contain addresses.
const SAMPLES: usize = 1200;

/// The flipped bits: in a length or an alignment, in an address so that it stays in the image, and so that it does
/// not.
const BITS: [u32; 5] = [0, 2, 9, 17, 41];

pub(crate) fn cases(base: &Arc<Plugin>) -> Vec<Case> {
    let all = base.items(elf::DT_RELA, elf::DT_RELASZ, RELOCATION_BYTES);
    let addends: HashMap<u64, usize> = all
        .iter()
        .map(|at| (base.number(*at, 8), at + 16))
        .collect();
    let segments = base.segments();
    let Some(constants) = segments.iter().find(|it| it.kind == elf::PT_GNU_RELRO.0) else {
        return Vec::new();
    };
    let words = (constants.address..constants.address + constants.file_bytes).step_by(8);
    let words: Vec<u64> = words
        .filter(|address| base.offset(*address).is_some())
        .collect();
    let mut cases = Vec::new();
    for (turn, address) in words
        .iter()
        .step_by(words.len().div_ceil(SAMPLES))
        .enumerate()
    {
        // If a relocation writes the word, its addend is damaged.
        let (what, at) = match addends.get(address) {
            Some(at) => ("the address", *at),
            None => ("the number", base.offset(*address).expect("filtered above")),
        };
        let bit = BITS[turn % BITS.len()];
        let value = base.number(at, 8);
        let damaged = value ^ 1 << bit;
        let demand = match base.is_code(value) {
            true => Demand::OtherCode,
            false => Demand::Anything,
        };
        let name = format!("bit {bit} of {what} at {address:#x}");
        let edits = vec![Edit::number(at, 8, damaged)];
        cases.push(Case::edited(
            "runs code: constants",
            &name,
            base,
            edits,
            demand,
        ));
    }
    cases
}
