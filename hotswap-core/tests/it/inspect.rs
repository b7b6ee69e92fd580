//! What the inspection says of plugins.

use std::fs;

use hotswap_elf::{Machine, Process, Query};

use crate::fixtures;

/// What std itself imports is nothing to report of a plugin.
#[test]
fn a_plugin_in_plain_rust_leaves_nothing_and_shares_nothing() {
    /// They are there to leave something.
    const LEAVE: [&str; 3] = [
        "libfunctions_plain.so",
        "libconstructs_plain.so",
        "libunloadable_unbound.so",
    ];
    let query = Query {
        marker: Some(hotswap_unload::TABLE_SYMBOL),
        ..Query::default()
    };
    let process = Process::new(Machine::NATIVE, 4096);
    let folder = fixtures::plain_plugin("build_1");
    let (mut plugins, mut with_unloadable) = (0, 0);
    for entry in fs::read_dir(folder.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        // Under names with a hash there are also those of earlier builds.
        if !name.ends_with(".so") || name.contains('-') {
            continue;
        }
        let found = hotswap_elf::inspect(&fs::read(entry.path()).unwrap(), query, process);
        let found = found.unwrap();
        let leaves = LEAVE.contains(&&*name);
        assert_eq!(
            !found.keeping_functions.is_empty(),
            leaves,
            "{name}: {:?}",
            found.keeping_functions
        );
        assert_eq!(found.imports_rust, None, "{name}");
        assert!(!found.nodelete && !found.unique_symbols);
        plugins += 1;
        with_unloadable += usize::from(found.has_marker);
    }
    assert!(plugins > 20, "only {plugins} were found");
    assert!(
        (5..plugins).contains(&with_unloadable),
        "{with_unloadable} have `unloadable!`"
    );
}
