//! Files with an intact structure and damaged or harmful code. A process that opens them runs that code.

use std::{error::Error, fs, sync::Arc};

use object::elf;

use crate::{
    cases::{Candidate, Case, Demand, Edit, Fixtures},
    plugin::{Plugin, RELOCATION_BYTES},
};

const DAMAGED: &str = "runs code: damaged";
const HARMFUL: &str = "runs code: means harm";

/// Instructions that replace the first ones of a function.
const INSTRUCTIONS: [(&str, &[u8]); 8] = [
    ("ud2", &[0x0f, 0x0b]),
    ("int3", &[0xcc]),
    ("hlt", &[0xf4]),
    ("a jump to itself", &[0xeb, 0xfe]),
    ("ret", &[0xc3]),
    ("a jump to zero", &[0x31, 0xc0, 0xff, 0xe0]),
    ("a call without end", &[0xe8, 0xfb, 0xff, 0xff, 0xff]),
    ("exit(0)", &[0xb8, 0xe7, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]),
];

/// A plugin whose code is damaged where it is certain to run.
pub(crate) fn damaged(base: &Arc<Plugin>) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, edits| {
        cases.push(Case::edited(DAMAGED, &name, base, edits, Demand::Anything));
    };
    let relocations = base.items(elf::DT_RELA, elf::DT_RELASZ, RELOCATION_BYTES);
    let array = base.entry(elf::DT_INIT_ARRAY).expect("initialisers").value;
    let single = base.entry(elf::DT_INIT).map(|entry| entry.value);
    let first = relocations
        .iter()
        .find(|at| base.number(**at, 8) == array)
        .map(|at| base.number(at + 16, 8));
    for address in single.into_iter().chain(first) {
        let at = base.offset(address).expect("code");
        for (what, bytes) in INSTRUCTIONS {
            add(
                format!("the initialiser at {address:#x} is {what}"),
                vec![Edit::Write(at, bytes.to_vec())],
            );
        }
    }
    // Pointers to functions that the plugin itself or its host will call.
    let to_code = relocations
        .iter()
        .filter(|at| base.is_code(base.number(**at + 16, 8)));
    for &at in to_code.step_by(8) {
        let (place, function) = (base.number(at, 8), base.number(at + 16, 8));
        for (what, to) in [
            ("one byte further", function + 1),
            ("to the first code", single.unwrap_or(function + 64)),
        ] {
            add(
                format!("the function pointer at {place:#x} leads {what}"),
                vec![Edit::number(at + 16, 8, to)],
            );
        }
        let indirect = u64::from(elf::R_X86_64_IRELATIVE.0);
        add(
            format!("the function pointer at {place:#x} is asked of the function"),
            vec![Edit::number(at + 8, 4, indirect)],
        );
    }
    cases
}

/// Plugins that were written to do harm, and damage to what a plugin depends on.
pub(crate) fn harmful(fixtures: &Fixtures) -> Result<Vec<Case>, Box<dyn Error>> {
    let mut cases = Vec::new();
    for (name, build, host, tried) in [
        ("constructor_segfaults", 0, Demand::Anything, Demand::Refuse),
        ("constructor_aborts", 0, Demand::Anything, Demand::Refuse),
        ("constructor_exits_0", 0, Demand::Anything, Demand::Refuse),
        ("constructor_hangs", 0, Demand::Anything, Demand::Refuse),
        ("root_module_segfaults", 0, Demand::Anything, Demand::Refuse),
        ("call_segfaults", 0, Demand::Anything, Demand::Refuse),
        ("wrong_answer", 0, Demand::Anything, Demand::Refuse),
        ("leaks_a_descriptor", 25, Demand::Accept, Demand::Survive),
        ("closes_a_descriptor", 26, Demand::Anything, Demand::Survive),
        ("destructor_segfaults", 0, Demand::Anything, Demand::Refuse),
    ] {
        let candidate = Candidate::Path(fixtures.plugin(name));
        let case = Case::new(HARMFUL, format!("the plugin {name}"), candidate, host);
        cases.push(case.of_build(build).tried(tried));
    }
    let base = &fixtures.bases[0];
    // An entry that the loader can do without becomes a needed library, with the name of a symbol.
    let spare = base.entry(elf::DT_RELACOUNT).expect("an entry that may go");
    let symbols = base.symbols();
    for (number, (what, plugin)) in [
        ("is missing", None),
        (
            "is an initialiser that segfaults",
            Some("constructor_segfaults"),
        ),
        ("is an initialiser that exits", Some("constructor_exits_0")),
    ]
    .into_iter()
    .enumerate()
    {
        let name = base.number(
            symbols.start + (number + 1) * crate::plugin::SYMBOL_BYTES,
            4,
        );
        let demand = if let Some(plugin) = plugin {
            fs::copy(
                fixtures.plugin(plugin),
                fixtures.libraries.join(base.string(name)),
            )?;
            (Demand::Anything, Demand::Refuse)
        } else {
            (Demand::Refuse, Demand::Refuse)
        };
        let needed = elf::DT_NEEDED.0 as u64;
        let edits = vec![
            Edit::number(spare.at, 8, needed),
            Edit::number(spare.at + 8, 8, name),
        ];
        let text = format!("what it depends on {what}");
        cases.push(Case::edited(HARMFUL, &text, base, edits, demand.0).tried(demand.1));
    }
    Ok(cases)
}
