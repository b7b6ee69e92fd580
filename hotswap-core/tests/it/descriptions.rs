//! Plugins whose descriptions of their types, or headers of their root modules, are damaged.

use std::{collections::BTreeMap, mem::offset_of};

use abi_stable::library::ROOT_MODULE_LOADER_NAME;
use hotswap_core::{Hotswap, Settings, State, loader::Loader, services::ServiceSettings};
use hotswap_fixtures::rules::Rules;
use hotswap_unload::{PluginTable, TABLE_SYMBOL};
use object::{
    NativeEndian as E, Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _,
    read::elf::{ElfFile64, ElfSegment64},
};

use crate::{
    fixtures::{SOON, build_of, generation_of, load, plugin, refused, trust},
    functions::Greet,
    marks::changed,
};

/// Where the parts of abi_stable's structures are (0.11.3).
const DESCRIPTION_IN_HEADER: u64 = 96;
const INITIALISER_IN_HEADER: u64 = 112;
const SHARED: u64 = 0;
const MONO: u64 = 8;
const TYPE_ID: u64 = 80;
const TEXTS_IN_MONO: u64 = 0;
const NAME_IN_MONO: u64 = 24;
const TYPES_IN_SHARED: u64 = 8;

/// The relocations of a plugin's file that write addresses of its own.
struct Pointers {
    /// By target: what is written, and where in the file that stands.
    all: BTreeMap<u64, (u64, usize)>,
    header: u64,
    /// Where the image ends.
    end: u64,
}

impl Pointers {
    fn of(bytes: &[u8], header: &str) -> Self {
        const RELATIVE: u64 = if cfg!(target_arch = "aarch64") {
            object::elf::R_AARCH64_RELATIVE.0 as u64
        } else {
            object::elf::R_X86_64_RELATIVE.0 as u64
        };
        let file = ElfFile64::<E>::parse(bytes).unwrap();
        let (start, _) = file
            .section_by_name(".rela.dyn")
            .unwrap()
            .file_range()
            .unwrap();
        let entries = file
            .section_by_name(".rela.dyn")
            .unwrap()
            .data()
            .unwrap()
            .chunks_exact(24);
        let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
        let relative = entries
            .enumerate()
            .filter(|(_, it)| word(&it[8..16]) == RELATIVE);
        let at = |number: usize| start as usize + number * 24 + 16;
        let all = relative.map(|(number, it)| (word(&it[..8]), (word(&it[16..]), at(number))));
        let symbol = file
            .dynamic_symbols()
            .find(|symbol| symbol.name() == Ok(header));
        Self {
            all: all.collect(),
            header: symbol.unwrap().address(),
            end: file
                .segments()
                .map(|it| it.address() + it.size())
                .max()
                .unwrap(),
        }
    }

    fn follow(&self, path: &[u64]) -> u64 {
        path.iter()
            .fold(self.header, |at, offset| self.all[&(at + offset)].0)
    }

    /// The pointer at the end of the path leads elsewhere.
    fn damaged(&self, path: &[u64], damage: Damage) -> (usize, Vec<u8>) {
        let (last, path) = path.split_last().unwrap();
        let (was, at) = self.all[&(self.follow(path) + last)];
        let to = match damage {
            Damage::End => self.end,
            Damage::Unaligned => was ^ 4,
            Damage::NoCode => self.header,
        };
        (at, to.to_ne_bytes().to_vec())
    }
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Behind the last byte of the image.
    End,
    /// To the middle of a structure.
    Unaligned,
    /// To data that can be written to. Linkers for AArch64 have all that can only be read in one segment with the code.
    NoCode,
}

#[test]
fn a_damaged_pointer_is_a_refusal() {
    let plugin = load("build_1");
    let description = "layout: its description of its types is damaged";
    let header = "header: its root module's header is damaged";
    let of = DESCRIPTION_IN_HEADER;
    for (path, damages, expected) in [
        (
            &[of][..],
            &[Damage::End, Damage::Unaligned][..],
            description,
        ),
        (
            &[INITIALISER_IN_HEADER],
            &[Damage::End, Damage::NoCode],
            header,
        ),
        (
            &[of, SHARED],
            &[Damage::End, Damage::Unaligned],
            description,
        ),
        (&[of, MONO], &[Damage::End, Damage::Unaligned], description),
        (&[of, TYPE_ID], &[Damage::End, Damage::NoCode], description),
        (&[of, MONO, TEXTS_IN_MONO], &[Damage::End], description),
        (&[of, MONO, NAME_IN_MONO], &[Damage::End], description),
        (
            &[of, SHARED, TYPES_IN_SHARED],
            &[Damage::End, Damage::Unaligned],
            description,
        ),
        (
            &[of, SHARED, TYPES_IN_SHARED, 0],
            &[Damage::End, Damage::NoCode],
            description,
        ),
    ] {
        for damage in damages {
            let file = changed("build_2", |bytes| {
                Pointers::of(bytes, ROOT_MODULE_LOADER_NAME).damaged(path, *damage)
            });
            let (_, why) = refused(&plugin, &file);
            assert_eq!(why, expected, "{path:?}: {damage:?}");
        }
    }
    assert_eq!(build_of(&plugin), 1);
}

/// What leads out of the image is never followed. The plugin stays mapped when it leaves, as one without.
#[test]
fn a_damaged_table_of_unloadable_counts_as_none_and_that_is_said() {
    let it = load("build_1");
    let count = size_of::<usize>();
    for (field, damage) in [
        (offset_of!(PluginTable, attach), Some(Damage::NoCode)),
        (offset_of!(PluginTable, flush), Some(Damage::End)),
        (offset_of!(PluginTable, heap), Some(Damage::NoCode)),
        (offset_of!(PluginTable, name), Some(Damage::End)),
        (offset_of!(PluginTable, name) + count, None),
        (offset_of!(PluginTable, version_of_plugin) + count, None),
        (offset_of!(PluginTable, vouched) + count, None),
        (offset_of!(PluginTable, pinned_by) + count, None),
    ] {
        let file = changed("constructs_unloadable", |bytes| match damage {
            Some(damage) => Pointers::of(bytes, TABLE_SYMBOL).damaged(&[field as u64], damage),
            None => {
                let elf = ElfFile64::<E>::parse(bytes).unwrap();
                let table = Pointers::of(bytes, TABLE_SYMBOL).header + field as u64;
                let holds = |it: &ElfSegment64<'_, '_, E>| {
                    (it.address()..it.address() + it.size()).contains(&table)
                };
                let segment = elf.segments().find(holds).unwrap();
                let at = segment.file_range().0 + (table - segment.address());
                // More than there is room for after the image.
                (at as usize, (1_usize << 48).to_ne_bytes().to_vec())
            }
        });
        let generation = it.swap(&file).unwrap().generation;
        let problem = generation_of(&it, generation).unloadable_problem;
        assert_eq!(
            problem.as_deref(),
            Some("treated as a plugin without `unloadable!`: its `unloadable!` table is damaged"),
            "{field}"
        );
        it.swap(plugin("build_1")).unwrap();
        let left = it.wait(generation, SOON).unwrap();
        assert!(matches!(left, State::Pinned { .. }), "{field}: {left}");
    }
}

/// The functions of a root module are called by the host.
#[test]
fn a_function_of_a_root_module_that_is_not_code_is_a_refusal() {
    let plugin = load("build_1");
    let address = |name: &str, bytes: &[u8]| {
        let file = ElfFile64::<E>::parse(bytes).unwrap();
        let named = |it: &object::read::elf::ElfSymbol64<'_, '_, E>| {
            it.name().is_ok_and(|it| it.contains(name))
        };
        file.symbols().find(named).unwrap().address()
    };
    let data = |at: usize, elsewhere: u64| (at, elsewhere);
    // The pointer stays null, because its relocation writes elsewhere.
    let nothing = |at: usize, elsewhere: u64| (at - 16, elsewhere);
    for damage in [data as fn(usize, u64) -> (usize, u64), nothing] {
        let file = changed("build_2", |bytes| {
            let function = address("build_27build_a", bytes);
            let Pointers { all, .. } = Pointers::of(bytes, ROOT_MODULE_LOADER_NAME);
            let at = all.values().find(|(to, _)| *to == function).unwrap().1;
            let elsewhere = all.keys().rev().map(|target| target - 8);
            let elsewhere = elsewhere.clone().find(|it| !all.contains_key(it)).unwrap();
            let (at, number) = damage(at, elsewhere);
            (at, number.to_ne_bytes().to_vec())
        });
        assert_eq!(
            refused(&plugin, &file).1,
            "root module: its function `build_a` is not code"
        );
    }
}

/// The methods of a trait are called by a table of their addresses.
#[test]
fn a_method_of_a_trait_that_is_not_code_is_a_refusal() {
    let rules = Hotswap::<dyn Rules>::load(plugin("rules_2"), &trust()).unwrap();
    let file = changed("rules_1", |bytes| {
        let elf = ElfFile64::<E>::parse(bytes).unwrap();
        let is_entry = |name: &str| name.contains("5rules") && name.contains("__entry_1");
        let entries = elf
            .symbols()
            .filter(|it| it.name().is_ok_and(is_entry))
            .map(|it| it.address());
        let entries: Vec<_> = entries.collect();
        let Pointers { all, header, .. } = Pointers::of(bytes, ROOT_MODULE_LOADER_NAME);
        let slot = all.values().find(|(to, _)| entries.contains(to));
        (slot.unwrap().1, header.to_ne_bytes().to_vec())
    });
    let error = rules.swap(&file).unwrap_err();
    assert_eq!(
        error.reason(),
        "root module: its function `count` is not code"
    );
    assert_eq!(rules.with(|it| it.build()), 2);
}

#[test]
fn so_it_is_at_an_update() {
    let settings = Settings {
        services: Some(ServiceSettings::default()),
        ..Settings::default()
    };
    let plugin = Hotswap::load_with(plugin("build_1"), &trust(), settings).unwrap();
    let file = changed("services", |bytes| {
        // A mark of 48 bytes, then the description.
        Pointers::of(bytes, "hotswap_symbol_update").damaged(&[48, MONO], Damage::Unaligned)
    });
    assert_eq!(
        refused(&plugin, &file).1,
        "symbol: `update`: its description of its types is damaged"
    );
}

/// The host calls both functions that an exported function consists of.
#[test]
fn an_exported_function_that_is_not_code_is_a_refusal() {
    let loader = Loader::new(&trust()).unwrap();
    for function in [24, 32] {
        let file = changed("functions_1", |bytes| {
            Pointers::of(bytes, "hotswap_function_greet").damaged(&[function], Damage::NoCode)
        });
        let error = loader.function::<Greet>(&file, "greet").unwrap_err();
        assert_eq!(error.reason(), "symbol: `greet` is not code");
        let listed = loader.open(&file).unwrap().functions();
        assert_eq!(listed[3].to_string(), "greet: `greet` is not code");
    }
}
