//! Random damage: whatever the bytes, `inspect` returns. `HOTSWAP_MUTATIONS` sets how many damages are
//! tried, `HOTSWAP_SEED` from where; a failure names both.

use std::{env, fs, panic};

use hotswap_elf::{Export, Process, build_id};

use crate::{
    ARM, NATIVE, ROOT, X86,
    fixture::{AARCH64, Library, X86_64},
    inspect,
    libraries::own_libraries,
};

const MUTATIONS: u64 = 20_000;

/// Marsaglia's xorshift: the same damages on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap()
    }
}

/// A good library, and where its structures begin.
struct Subject {
    bytes: Vec<u8>,
    parts: Vec<usize>,
    process: Process,
}

impl Subject {
    fn fixture(library: Library, process: Process) -> Self {
        let parts = [vec![0], library.parts()].concat();
        Self {
            parts,
            bytes: library.bytes,
            process,
        }
    }

    /// Of a library that nobody described: wherever its dynamic table points.
    fn real(bytes: Vec<u8>) -> Self {
        let word = |place: usize| {
            bytes
                .get(place..)
                .and_then(|rest| rest.first_chunk())
                .map_or(0, |word| u64::from_ne_bytes(*word))
        };
        let inside = |place: u64| {
            usize::try_from(place)
                .ok()
                .filter(|place| *place < bytes.len())
        };
        let mut parts = vec![0];
        for header in 0..usize::from(u16::from_ne_bytes([bytes[56], bytes[57]])) {
            let place = 64 + header * 56;
            parts.push(place);
            let dynamic = (word(place) & 0xffff_ffff == 2)
                .then(|| inside(word(place + 8)))
                .flatten();
            for entry in (0..40).filter_map(|entry| Some(dynamic? + entry * 16)) {
                parts.push(entry);
                // Tables lie in the first segment, where addresses are offsets.
                parts.extend(inside(word(entry + 8)));
            }
        }
        Self {
            parts,
            bytes,
            process: NATIVE,
        }
    }

    /// Damages the bytes, runs `inspect`, and undoes the damage.
    fn try_one(&mut self, random: &mut Random) {
        let length = self.bytes.len();
        let kind = random.below(16);
        if kind == 0 {
            // Somewhere in each hundredth.
            self.inspect(random.below(length));
            return;
        }
        let changes = if kind == 1 { 1 } else { 1 + random.below(4) };
        let mut undo = Vec::new();
        for _ in 0..changes {
            let (place, new) = self.change(kind, random);
            let end = (place + new.len()).min(length);
            undo.push((place, self.bytes[place..end].to_vec()));
            self.bytes[place..end].copy_from_slice(&new[..end - place]);
        }
        self.inspect(length);
        for (place, old) in undo.into_iter().rev() {
            self.bytes[place..place + old.len()].copy_from_slice(&old);
        }
    }

    fn change(&self, kind: usize, random: &mut Random) -> (usize, Vec<u8>) {
        let length = self.bytes.len();
        match kind {
            // A tail, or a page, of zeros.
            1 => (
                random.below(length),
                vec![0; if length < 1 << 16 { length } else { 4096 }],
            ),
            2 => {
                let from = random.below(length);
                let end = (from + random.below(512)).min(length);
                (random.below(length), self.bytes[from..end].to_vec())
            }
            3 => (random.below(length), vec![random.next().to_ne_bytes()[0]]),
            _ => {
                let part = self.parts[random.below(self.parts.len())];
                let size = [1, 2, 4, 8][random.below(4)];
                let place = (part + random.below(64) * size).min(length - 8);
                let mut word = [0; 8];
                word[..size].copy_from_slice(&self.bytes[place..place + size]);
                let value = interesting(u64::from_le_bytes(word), length, random);
                (place, value.to_le_bytes()[..size].to_vec())
            }
        }
    }

    fn inspect(&self, length: usize) {
        let bytes = &self.bytes[..length];
        let all = Export::Prefixed {
            prefix: "",
            size_min: 1,
        };
        // That there is a result matters, not which.
        let _ = build_id(bytes);
        for export in [ROOT, Export::Function { name: "malloc" }, all] {
            // The result does not matter; that there is one does, and that its changes are of bytes in the file.
            let facts = inspect(bytes, export, self.process).unwrap_or_default();
            let mut changes = facts.without_nodelete.iter().chain(&facts.without_unique);
            assert!(changes.all(|it| bytes.get(it.offset as usize) == Some(&it.from)));
        }
    }
}

fn interesting(old: u64, length: usize, random: &mut Random) -> u64 {
    match random.below(10) {
        0 => 0,
        1 => u64::MAX,
        2 => old.wrapping_add(1),
        3 => old.wrapping_sub(1),
        4 => old ^ 1 << random.below(64),
        5 => old.wrapping_add(0x1000),
        6 => u64::MAX - random.next() % 64,
        7 => random.below(length * 2) as u64,
        8 => random.next() % 64,
        _ => random.next(),
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => otherwise,
    }
}

#[test]
fn random_damage_is_survived() {
    let mutations = number("HOTSWAP_MUTATIONS", MUTATIONS);
    let seed = number("HOTSWAP_SEED", 0x5eed).max(1);
    let mut subjects = vec![
        Subject::fixture(Library::new(&X86_64), X86),
        Subject::fixture(Library::with_old_hash(&X86_64), X86),
        Subject::fixture(Library::new(&AARCH64), ARM),
    ];
    let own = own_libraries()
        .into_iter()
        .map(|path| fs::read(path).unwrap());
    subjects.extend(own.map(Subject::real));
    let mut random = Random(seed);
    for number in 0..mutations {
        // Real libraries are slow to inspect and well described by the fixtures: one turn in eight.
        let fixture = !random.next().is_multiple_of(8);
        let chosen = random.below(if fixture { 3 } else { subjects.len() });
        let subject = &mut subjects[chosen];
        let run = panic::catch_unwind(panic::AssertUnwindSafe(|| subject.try_one(&mut random)));
        assert!(
            run.is_ok(),
            "damage {number} of subject {chosen}, HOTSWAP_SEED={seed}"
        );
    }
}
