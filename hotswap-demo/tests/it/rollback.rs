//! The way back to the plugin before.

use std::fs;

use crate::demo::{Demo, plugin};

#[test]
fn rollback_puts_the_plugin_before_back_whatever_has_become_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.so");
    fs::copy(plugin("shipped"), &path).unwrap();
    let mut demo = Demo::start(&[], &path);
    demo.prints_soon("Adding to 10: 17");
    fs::write(&path, fs::read(plugin("other")).unwrap()).unwrap();
    demo.type_line(":reload");
    demo.says("accepted generation 2: ");
    demo.prints_soon("Adding to 20: 27");
    demo.says("unloaded generation 1 after ");
    fs::remove_file(&path).unwrap();
    demo.type_line(":rollback");
    assert_eq!(
        demo.says("rolled-back"),
        "rolled-back generation 2: generation 1 is live again, as generation 3"
    );
    demo.prints_soon("Adding to 10: 17");
    demo.type_line(":rollback");
    assert_eq!(
        demo.says("no rollback"),
        "no rollback: no plugin before this one is kept; give the path of the one that you want"
    );
    demo.type_line(":versions");
    let line = format!("generation 3 live: {} (generation 1 again)", path.display());
    while !demo.says("").ends_with(&line) {}
}

#[test]
fn a_plugin_that_panics_on_probation_is_rolled_back() {
    let mut demo = Demo::with_options(&["--probation", "1h", "--faults", "1"], "shipped");
    demo.type_line(plugin("faulty"));
    demo.says("accepted generation 2: ");
    assert_eq!(
        demo.says("standby"),
        "standby generation 1: while generation 2 is on probation"
    );
    for _ in 0..2 {
        demo.says("fault generation 2: some_fn: panicked: no answer");
    }
    let line = demo.says("rolled-back");
    let start = "rolled-back generation 2: generation 1 is live again; 2 faults on probation, the last: some_fn: panicked: ";
    assert!(line.starts_with(start), "{line}");
    demo.says("unloaded generation 2 after ");
    demo.prints_soon("Adding to 10: 17");
}
