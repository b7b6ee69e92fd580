//! Sets every field of the file header, of the program headers and of the dynamic table to revealing values.

use std::sync::Arc;

use object::elf::{self, DynamicTag};

use crate::{
    cases::{Case, Demand, Edit},
    plugin::{ENTRY_BYTES, Plugin, SEGMENT_BYTES},
};

/// A field of a structure: its name, its offset, and its size in bytes.
pub(crate) type Field = (&'static str, usize, usize);

const FILE_HEADER: [Field; 18] = [
    ("magic number", 0, 4),
    ("class", 4, 1),
    ("byte order", 5, 1),
    ("ident version", 6, 1),
    ("OS ABI", 7, 1),
    ("ABI version", 8, 1),
    ("e_type", 16, 2),
    ("e_machine", 18, 2),
    ("e_version", 20, 4),
    ("e_entry", 24, 8),
    ("e_phoff", 32, 8),
    ("e_shoff", 40, 8),
    ("e_flags", 48, 4),
    ("e_ehsize", 52, 2),
    ("e_phentsize", 54, 2),
    ("e_phnum", 56, 2),
    ("e_shentsize", 58, 2),
    ("e_shnum", 60, 2),
];
/// Fields that say what the file is. Only the one correct value is accepted.
const SAYS_WHAT_IT_IS: [&str; 8] = [
    "magic number",
    "class",
    "byte order",
    "ident version",
    "e_type",
    "e_machine",
    "e_version",
    "e_phentsize",
];
/// Fields that nobody reads.
const UNREAD: [&str; 3] = ["e_entry", "e_flags", "e_ehsize"];

const SEGMENT: [Field; 8] = [
    ("p_type", 0, 4),
    ("p_flags", 4, 4),
    ("p_offset", 8, 8),
    ("p_vaddr", 16, 8),
    ("p_paddr", 24, 8),
    ("p_filesz", 32, 8),
    ("p_memsz", 40, 8),
    ("p_align", 48, 8),
];

const SEGMENT_TYPES: [(u32, &str); 9] = [
    (elf::PT_LOAD.0, "PT_LOAD"),
    (elf::PT_DYNAMIC.0, "PT_DYNAMIC"),
    (elf::PT_NOTE.0, "PT_NOTE"),
    (elf::PT_PHDR.0, "PT_PHDR"),
    (elf::PT_TLS.0, "PT_TLS"),
    (elf::PT_GNU_EH_FRAME.0, "PT_GNU_EH_FRAME"),
    (elf::PT_GNU_STACK.0, "PT_GNU_STACK"),
    (elf::PT_GNU_RELRO.0, "PT_GNU_RELRO"),
    (elf::PT_GNU_PROPERTY.0, "PT_GNU_PROPERTY"),
];

const TAGS: [(DynamicTag, &str); 36] = [
    (elf::DT_NULL, "DT_NULL"),
    (elf::DT_NEEDED, "DT_NEEDED"),
    (elf::DT_PLTRELSZ, "DT_PLTRELSZ"),
    (elf::DT_PLTGOT, "DT_PLTGOT"),
    (elf::DT_HASH, "DT_HASH"),
    (elf::DT_STRTAB, "DT_STRTAB"),
    (elf::DT_SYMTAB, "DT_SYMTAB"),
    (elf::DT_RELA, "DT_RELA"),
    (elf::DT_RELASZ, "DT_RELASZ"),
    (elf::DT_RELAENT, "DT_RELAENT"),
    (elf::DT_STRSZ, "DT_STRSZ"),
    (elf::DT_SYMENT, "DT_SYMENT"),
    (elf::DT_INIT, "DT_INIT"),
    (elf::DT_FINI, "DT_FINI"),
    (elf::DT_SONAME, "DT_SONAME"),
    (elf::DT_RPATH, "DT_RPATH"),
    (elf::DT_SYMBOLIC, "DT_SYMBOLIC"),
    (elf::DT_REL, "DT_REL"),
    (elf::DT_PLTREL, "DT_PLTREL"),
    (elf::DT_DEBUG, "DT_DEBUG"),
    (elf::DT_TEXTREL, "DT_TEXTREL"),
    (elf::DT_JMPREL, "DT_JMPREL"),
    (elf::DT_INIT_ARRAY, "DT_INIT_ARRAY"),
    (elf::DT_FINI_ARRAY, "DT_FINI_ARRAY"),
    (elf::DT_INIT_ARRAYSZ, "DT_INIT_ARRAYSZ"),
    (elf::DT_FINI_ARRAYSZ, "DT_FINI_ARRAYSZ"),
    (elf::DT_RUNPATH, "DT_RUNPATH"),
    (elf::DT_FLAGS, "DT_FLAGS"),
    (elf::DT_RELRSZ, "DT_RELRSZ"),
    (elf::DT_RELR, "DT_RELR"),
    (elf::DT_RELRENT, "DT_RELRENT"),
    (elf::DT_GNU_HASH, "DT_GNU_HASH"),
    (elf::DT_VERSYM, "DT_VERSYM"),
    (elf::DT_RELACOUNT, "DT_RELACOUNT"),
    (elf::DT_FLAGS_1, "DT_FLAGS_1"),
    (elf::DT_VERNEED, "DT_VERNEED"),
];

const DYNAMIC: &str = "dynamic table";

pub(crate) fn cases(base: &Arc<Plugin>) -> Vec<Case> {
    let mut cases = file_header(base);
    cases.extend(program_headers(base));
    cases.extend(dynamic_table(base));
    cases
}

fn file_header(base: &Arc<Plugin>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, at, width) in FILE_HEADER {
        let demand = if SAYS_WHAT_IT_IS.contains(&name) {
            Demand::Refuse
        } else if UNREAD.contains(&name) {
            Demand::Accept
        } else {
            Demand::Survive
        };
        for value in revealing_values(base, at, width) {
            let name = format!("{name} = {value:#x}");
            let edits = vec![Edit::number(at, width, value)];
            cases.push(Case::edited("file header", &name, base, edits, demand));
        }
    }
    cases
}

fn program_headers(base: &Arc<Plugin>) -> Vec<Case> {
    let segments = base.segments();
    let mut cases = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        let kind = SEGMENT_TYPES.iter().find(|(kind, _)| *kind == segment.kind);
        let title = format!(
            "program header {number} ({})",
            kind.map_or("?", |(_, name)| name)
        );
        let mut add = |what: String, edits| {
            let name = format!("{title}{what}");
            cases.push(Case::edited(
                "program header",
                &name,
                base,
                edits,
                Demand::Survive,
            ));
        };
        for (name, at, width) in SEGMENT {
            let at = segment.at + at;
            let mut values = revealing_values(base, at, width);
            match name {
                "p_type" => values.extend(SEGMENT_TYPES.map(|(kind, _)| u64::from(kind))),
                "p_flags" => values.extend(0..8),
                _ => {}
            }
            values.retain(|value| *value != base.number(at, width));
            values.sort_unstable();
            values.dedup();
            for value in values {
                add(
                    format!(": {name} = {value:#x}"),
                    vec![Edit::number(at, width, value)],
                );
            }
        }
        let header = |segment: usize| base.bytes[segment..segment + SEGMENT_BYTES].to_vec();
        add(
            " is gone".into(),
            vec![Edit::Fill(segment.at..segment.at + SEGMENT_BYTES, 0)],
        );
        if let Some(next) = segments.get(number + 1) {
            add(
                " is also the next".into(),
                vec![Edit::Write(next.at, header(segment.at))],
            );
            add(
                " and the next have changed places".into(),
                vec![
                    Edit::Write(next.at, header(segment.at)),
                    Edit::Write(segment.at, header(next.at)),
                ],
            );
        }
    }
    cases
}

fn dynamic_table(base: &Arc<Plugin>) -> Vec<Case> {
    // A tag that the loader does not know and skips.
    const UNKNOWN: u64 = 0x6000_0fff;
    let entries = base.dynamic();
    let mut cases = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let tag = TAGS.iter().find(|(tag, _)| tag.0 as u64 == entry.tag);
        let title = tag.map_or(format!("tag {:#x}", entry.tag), |(_, name)| {
            (*name).to_owned()
        });
        let mut set = |what: String, tag: u64, value: u64| {
            let name = format!("dynamic entry {number} ({title}){what}");
            let edits = vec![
                Edit::number(entry.at, 8, tag),
                Edit::number(entry.at + 8, 8, value),
            ];
            let (category, demand) = demand(base, tag, value);
            cases.push(Case::edited(category, &name, base, edits, demand));
        };
        for value in revealing_values(base, entry.at + 8, 8) {
            set(format!(" = {value:#x}"), entry.tag, value);
        }
        // The entry with the value of another entry.
        for other in entries.iter().filter(|other| other.value != entry.value) {
            let what = format!(" = {:#x}, as of tag {:#x}", other.value, other.tag);
            set(what, entry.tag, other.value);
        }
        set(" is gone".into(), UNKNOWN, entry.value);
        for (tag, name) in TAGS.iter().filter(|(tag, _)| tag.0 as u64 != entry.tag) {
            set(format!(" is {name}"), tag.0 as u64, entry.value);
        }
        if let Some(next) = entries.get(number + 1) {
            let name = format!("dynamic entry {number} ({title}) is also the next");
            let bytes = base.bytes[entry.at..entry.at + ENTRY_BYTES].to_vec();
            let edits = vec![Edit::Write(next.at, bytes)];
            cases.push(Case::edited(DYNAMIC, &name, base, edits, Demand::Survive));
        }
    }
    cases
}

/// The demand if an entry has this value. If the entry tells the loader to call another function, or to leave
/// relocations out, the loader does that, and anything may happen.
fn demand(base: &Plugin, tag: u64, value: u64) -> (&'static str, Demand) {
    let is = |those: &[DynamicTag]| those.iter().any(|it| it.0 as u64 == tag);
    let before = base.dynamic().into_iter().find(|entry| entry.tag == tag);
    let calls_another = is(&[elf::DT_INIT, elf::DT_FINI]) && base.is_code(value)
        || is(&[elf::DT_INIT_ARRAY, elf::DT_FINI_ARRAY]) && base.holds_function(value);
    if calls_another {
        ("runs code: other functions", Demand::Anything)
    } else if is(&[elf::DT_PLTRELSZ, elf::DT_RELASZ, elf::DT_RELRSZ])
        && before.is_some_and(|before| value < before.value)
    {
        ("runs code: not relocated", Demand::Anything)
    } else {
        (DYNAMIC, Demand::Survive)
    }
}

/// Values for a field, each wrong in its own way.
pub(crate) fn revealing_values(base: &Plugin, at: usize, width: usize) -> Vec<u64> {
    let now = base.number(at, width);
    let max = u64::MAX >> (64 - 8 * width);
    let mut values: Vec<u64> = [
        0,
        1,
        8,
        now.wrapping_sub(1),
        now.wrapping_add(1),
        now.wrapping_add(8),
        now.wrapping_sub(8),
        now.wrapping_add(4096),
        now.wrapping_sub(4096),
        now.wrapping_mul(2),
        now / 2,
        base.bytes.len() as u64,
        1 << 31,
        1 << 40,
        max / 2,
        max / 2 + 1,
        max.wrapping_sub(4095),
        max,
    ]
    .into_iter()
    .map(|value| value & max)
    .filter(|value| *value != now)
    .collect();
    values.sort_unstable();
    values.dedup();
    values
}
