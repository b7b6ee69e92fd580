//! Damage to the tables that the dynamic table points to: hashes, symbols, versions, relocations, and the lists of
//! functions that the loader calls.

use std::sync::Arc;

use object::elf;

use crate::{
    cases::{Case, Demand, Edit},
    headers::{Field, revealing_values},
    plugin::{Plugin, RELOCATION_BYTES, SYMBOL_BYTES},
};

const SYMBOL: [Field; 6] = [
    ("st_name", 0, 4),
    ("st_info", 4, 1),
    ("st_other", 5, 1),
    ("st_shndx", 6, 2),
    ("st_value", 8, 8),
    ("st_size", 16, 8),
];
const RELOCATION: [Field; 4] = [
    ("r_offset", 0, 8),
    ("type", 8, 4),
    ("symbol", 12, 4),
    ("r_addend", 16, 8),
];
const NEEDED_VERSION: [Field; 5] = [
    ("vn_version", 0, 2),
    ("vn_cnt", 2, 2),
    ("vn_file", 4, 4),
    ("vn_aux", 8, 4),
    ("vn_next", 12, 4),
];
const NEEDED_VERSION_NAME: [Field; 5] = [
    ("vna_hash", 0, 4),
    ("vna_flags", 4, 2),
    ("vna_other", 6, 2),
    ("vna_name", 8, 4),
    ("vna_next", 12, 4),
];

/// The relocation types that the loader accepts in a library for x86-64.
const KNOWN_TYPES: [u64; 15] = [0, 1, 2, 6, 7, 8, 10, 16, 17, 18, 32, 33, 36, 37, 38];
const OTHER_POINTERS: &str = "runs code: other pointers";

/// How many symbols and relocations are damaged, each in all its fields. They are spread over their tables.
const SAMPLES: usize = 24;

pub(crate) fn cases(base: &Arc<Plugin>) -> Vec<Case> {
    let mut cases = gnu_hash(base);
    cases.extend(old_hash(base));
    cases.extend(symbols(base));
    cases.extend(versions(base));
    cases.extend(relocations(base));
    cases.extend(packed_relocations(base));
    cases.extend(called(base));
    cases
}

/// Builds cases that set fields to revealing values.
struct Damage<'a> {
    base: &'a Arc<Plugin>,
    category: &'static str,
    demand: Demand,
    cases: Vec<Case>,
}

impl<'a> Damage<'a> {
    fn new(base: &'a Arc<Plugin>, category: &'static str, demand: Demand) -> Self {
        Self {
            base,
            category,
            demand,
            cases: Vec::new(),
        }
    }

    fn fields(&mut self, title: &str, at: usize, fields: &[Field], more: &[u64]) {
        for &field in fields {
            self.fields_if(title, at, field, more, |_| true);
        }
    }

    /// Sets one field to those values that are `chosen`.
    fn fields_if(
        &mut self,
        title: &str,
        at: usize,
        (name, offset, width): Field,
        more: &[u64],
        chosen: impl Fn(u64) -> bool,
    ) {
        let at = at + offset;
        let mut values = revealing_values(self.base, at, width);
        values.extend(
            more.iter()
                .filter(|it| **it <= u64::MAX >> (64 - 8 * width)),
        );
        values.retain(|value| *value != self.base.number(at, width) && chosen(*value));
        values.sort_unstable();
        values.dedup();
        for value in values {
            let edits = vec![Edit::number(at, width, value)];
            self.add(&format!("{title}: {name} = {value:#x}"), edits);
        }
    }

    fn add(&mut self, name: &str, edits: Vec<Edit>) {
        let case = Case::edited(self.category, name, self.base, edits, self.demand);
        self.cases.push(case);
    }
}

fn gnu_hash(base: &Arc<Plugin>) -> Vec<Case> {
    let mut damage = Damage::new(base, "symbol hash", Demand::Survive);
    let Some(at) = base.table(elf::DT_GNU_HASH) else {
        return damage.cases;
    };
    let header = [
        ("nbuckets", 0, 4),
        ("symoffset", 4, 4),
        ("bloom_size", 8, 4),
        ("bloom_shift", 12, 4),
    ];
    damage.fields("DT_GNU_HASH", at, &header, &[]);
    let (buckets, blooms) = (base.number(at, 4) as usize, base.number(at + 8, 4) as usize);
    let buckets_at = at + 16 + blooms * 8;
    let chains_at = buckets_at + buckets * 4;
    let count = base.symbols().len() / SYMBOL_BYTES - base.number(at + 4, 4) as usize;
    damage.add(
        "DT_GNU_HASH: an empty filter",
        vec![Edit::Fill(at + 16..buckets_at, 0)],
    );
    damage.add(
        "DT_GNU_HASH: a full filter",
        vec![Edit::Fill(at + 16..buckets_at, 0xff)],
    );
    damage.add(
        "DT_GNU_HASH: empty buckets",
        vec![Edit::Fill(buckets_at..chains_at, 0)],
    );
    for number in 0..buckets.min(8) {
        let title = format!("DT_GNU_HASH: bucket {number}");
        damage.fields(&title, buckets_at + number * 4, &[("first", 0, 4)], &[]);
    }
    for number in 0..count.min(8) {
        let title = format!("DT_GNU_HASH: chain word {number}");
        damage.fields(&title, chains_at + number * 4, &[("hash", 0, 4)], &[]);
    }
    let all = chains_at..chains_at + count * 4;
    damage.add(
        "DT_GNU_HASH: every chain word even",
        vec![Edit::Fill(all.clone(), 2)],
    );
    damage.add(
        "DT_GNU_HASH: every chain word odd",
        vec![Edit::Fill(all, 1)],
    );
    damage.cases
}

fn old_hash(base: &Arc<Plugin>) -> Vec<Case> {
    let mut damage = Damage::new(base, "symbol hash", Demand::Survive);
    let Some(at) = base.table(elf::DT_HASH) else {
        return damage.cases;
    };
    damage.fields("DT_HASH", at, &[("nbucket", 0, 4), ("nchain", 4, 4)], &[]);
    let (buckets, chains) = (base.number(at, 4) as usize, base.number(at + 4, 4) as usize);
    let chains_at = at + 8 + buckets * 4;
    for number in 0..buckets {
        let place = at + 8 + number * 4;
        for first in [0, 1, chains - 1, chains, u32::MAX as usize] {
            damage.add(
                &format!("DT_HASH: bucket {number} = {first:#x}"),
                vec![Edit::number(place, 4, first as u64)],
            );
        }
    }
    for number in 0..chains {
        let place = chains_at + number * 4;
        // A loop to itself, the previous symbol, a longer loop, the end, and a symbol that does not exist.
        for next in [
            number,
            number.saturating_sub(1),
            1,
            0,
            chains,
            u32::MAX as usize,
        ] {
            damage.add(
                &format!("DT_HASH: the chain goes on from {number} to {next:#x}"),
                vec![Edit::number(place, 4, next as u64)],
            );
        }
    }
    damage.cases
}

fn symbols(base: &Arc<Plugin>) -> Vec<Case> {
    let mut damage = Damage::new(base, "symbol", Demand::Survive);
    let all: Vec<usize> = base.symbols().step_by(SYMBOL_BYTES).collect();
    let exported = |at: &&usize| base.number(**at + 6, 2) != 0;
    let imported = all.iter().filter(|at| base.number(**at + 6, 2) == 0);
    let count = imported.clone().count();
    // All exported symbols, and some of the imported ones.
    let chosen = all
        .iter()
        .filter(exported)
        .chain(imported.step_by(count.div_ceil(SAMPLES / 2)));
    for &at in chosen {
        let title = format!("symbol {}", base.string(base.number(at, 4)));
        // These values include every binding and type.
        let infos: Vec<u64> = (0..=0x1f).chain([0x20, 0x22, 0xa1, 0xaa]).collect();
        damage.fields(&title, at, &SYMBOL[..1], &[]);
        damage.fields(&title, at, &SYMBOL[1..2], &infos);
        damage.fields(&title, at, &SYMBOL[2..], &[2, 3, 0xfff1, 0xfff2]);
    }
    let strings = base.table(elf::DT_STRTAB).expect("strings");
    let bytes = base.entry(elf::DT_STRSZ).expect("their size").value as usize;
    for percent in (0..100).step_by(2) {
        let at = strings + bytes * percent / 100;
        damage.add(
            &format!("a NUL at {percent} % of the names"),
            vec![Edit::Fill(at..at + 1, 0)],
        );
        damage.add(
            &format!("0xff at {percent} % of the names"),
            vec![Edit::Fill(at..at + 1, 0xff)],
        );
    }
    damage.cases
}

fn versions(base: &Arc<Plugin>) -> Vec<Case> {
    let mut damage = Damage::new(base, "symbol version", Demand::Survive);
    let Some(mut at) = base.table(elf::DT_VERNEED) else {
        return damage.cases;
    };
    loop {
        let library = base.string(base.number(at + 4, 4));
        damage.fields(
            &format!("needed of {library}"),
            at,
            &NEEDED_VERSION,
            &[16, 32],
        );
        let mut name = at + base.number(at + 8, 4) as usize;
        loop {
            let title = format!("{} of {library}", base.string(base.number(name + 8, 4)));
            damage.fields(&title, name, &NEEDED_VERSION_NAME, &[2, 3, 4]);
            match base.number(name + 12, 4) {
                0 => break,
                next => name += next as usize,
            }
        }
        match base.number(at + 12, 4) {
            0 => break,
            next => at += next as usize,
        }
    }
    let table = base.table(elf::DT_VERSYM).expect("versions");
    let count = base.symbols().len() / SYMBOL_BYTES;
    for number in (0..count).step_by(count.div_ceil(SAMPLES)) {
        for version in [0, 1, 2, 7, 0x7fff, 0x8001, 0xffff] {
            damage.add(
                &format!("symbol {number} has version {version:#x}"),
                vec![Edit::number(table + number * 2, 2, version)],
            );
        }
    }
    damage.cases
}

fn relocations(base: &Arc<Plugin>) -> Vec<Case> {
    let all = base.items(elf::DT_RELA, elf::DT_RELASZ, RELOCATION_BYTES);
    let plt = base.items(elf::DT_JMPREL, elf::DT_PLTRELSZ, RELOCATION_BYTES);
    let some = all.iter().step_by(all.len().div_ceil(SAMPLES)).chain(&plt);
    let symbols = (base.symbols().len() / SYMBOL_BYTES) as u64;
    let types: Vec<u64> = (0..=45).collect();
    // A type that no plugin has is refused. Nobody can tell that a type which plugins do have was another type
    // before.
    let mut refused = Damage::new(base, "relocation", Demand::Refuse);
    let mut of_data = Damage::new(base, OTHER_POINTERS, Demand::Anything);
    let mut of_code = Damage::new(base, OTHER_POINTERS, Demand::OtherCode);
    for &at in some {
        let unseen = match base.is_code(base.number(at + 16, 8)) {
            true => &mut of_code,
            false => &mut of_data,
        };
        let title = format!("relocation at {:#x}", base.number(at, 8));
        let [target, kind, symbol, addend] = RELOCATION;
        let cannot_be_written = |to: u64| !base.is_writable(to);
        let is_unknown = |kind: u64| !KNOWN_TYPES.contains(&kind);
        let is_no_symbol = |number: u64| number >= symbols;
        for (field, more, is_refused) in [
            (target, &[][..], &cannot_be_written as &dyn Fn(u64) -> bool),
            (kind, &types, &is_unknown),
            (symbol, &[2, 3], &is_no_symbol),
            (addend, &[], &|_| false),
        ] {
            refused.fields_if(&title, at, field, more, is_refused);
            unseen.fields_if(&title, at, field, more, |value| !is_refused(value));
        }
        let whole = at..at + RELOCATION_BYTES;
        unseen.add(&format!("{title} is zeros"), vec![Edit::Fill(whole, 0)]);
    }
    [refused.cases, of_data.cases, of_code.cases]
        .into_iter()
        .flatten()
        .collect()
}

fn packed_relocations(base: &Arc<Plugin>) -> Vec<Case> {
    let mut damage = Damage::new(base, OTHER_POINTERS, Demand::Anything);
    let all = base.items(elf::DT_RELR, elf::DT_RELRSZ, 8);
    for (number, &at) in all.iter().enumerate() {
        let title = format!("packed relocation {number}");
        damage.fields(&title, at, &[("word", 0, 8)], &[]);
    }
    damage.cases
}

/// The lists of functions that the loader calls point nowhere, or to something else.
fn called(base: &Arc<Plugin>) -> Vec<Case> {
    let mut damage = Damage::new(base, "initialiser", Demand::Refuse);
    let relocations = base.items(elf::DT_RELA, elf::DT_RELASZ, RELOCATION_BYTES);
    for (tag, bytes) in [
        (elf::DT_INIT_ARRAY, elf::DT_INIT_ARRAYSZ),
        (elf::DT_FINI_ARRAY, elf::DT_FINI_ARRAYSZ),
    ] {
        let (Some(array), Some(bytes)) = (base.entry(tag), base.entry(bytes)) else {
            continue;
        };
        for slot in (array.value..array.value + bytes.value).step_by(8) {
            let relocated = relocations.iter().find(|at| base.number(**at, 8) == slot);
            // Packed relocations add to the value in the file.
            let at = relocated.map_or_else(|| base.offset(slot), |at| Some(at + 16));
            let at = at.expect("an entry that is loaded");
            for (what, to) in [
                ("zero", 0),
                ("the file header", 0x40),
                (
                    "the strings",
                    base.entry(elf::DT_STRTAB).expect("strings").value,
                ),
                ("itself", slot),
                ("nowhere", 0x7fff_ffff_0000),
                ("before the image", 0_u64.wrapping_sub(4096)),
            ] {
                let name = format!("the loader calls {what} (entry at {slot:#x})");
                damage.add(&name, vec![Edit::number(at, 8, to)]);
            }
        }
    }
    damage.cases
}
