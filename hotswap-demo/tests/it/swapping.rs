//! Paths and commands typed into a running demo.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt};

use hotswap_core::Sha256;

use crate::demo::{Demo, plugin};

#[test]
fn the_plugin_as_shipped_ticks_at_once() {
    let mut demo = Demo::start(&["--period", "1h"], &plugin("shipped"));
    assert_eq!(demo.prints(), r#"some_data = "the plugin as shipped""#);
    assert_eq!(demo.prints(), "Adding to 10: 17");
    demo.end_input();
    assert_eq!(demo.ends().0, Some(0));
}

#[test]
fn another_path_is_swapped_in_and_the_old_one_is_unloaded() {
    let mut demo = Demo::with("shipped");
    assert_eq!(demo.says("Next plugin"), "Next plugin: ");
    demo.type_line(plugin("other"));
    demo.says(&format!(
        "accepted generation 2: {}",
        plugin("other").display()
    ));
    demo.says("unloaded generation 1 after ");
    demo.prints_soon(r#"some_data = "the other \"plugin\"\n""#);
    assert_eq!(demo.prints(), "Adding to 20: 27");
}

#[test]
fn the_same_path_with_new_content_is_new_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a plugin.so");
    fs::copy(plugin("shipped"), &path).unwrap();
    let mut demo = Demo::start(&[], &path);
    demo.prints_soon("Adding to 10: 17");
    fs::remove_file(&path).unwrap();
    fs::copy(plugin("other"), &path).unwrap();
    demo.type_line(&path);
    demo.says("accepted generation 2: ");
    demo.prints_soon("Adding to 20: 27");
    fs::copy(plugin("shipped"), &path).unwrap();
    demo.type_line(":reload");
    demo.says("accepted generation 3: ");
    demo.prints_soon("Adding to 10: 17");
}

#[test]
fn a_refused_path_changes_nothing_and_reload_takes_the_last_accepted_one() {
    let mut demo = Demo::with("shipped");
    demo.type_line("/no/such\tplugin.so");
    assert_eq!(
        demo.says("refused"),
        r"refused /no/such\tplugin.so: open: no such file; generation 1 stays live"
    );
    demo.prints_soon("Adding to 10: 17");
    demo.type_line(OsStr::from_bytes(b"/no/\xff"));
    assert_eq!(
        demo.says("refused"),
        r"refused /no/\xff: open: no such file; generation 1 stays live"
    );
    demo.type_line(":reload");
    demo.says(&format!(
        "accepted generation 2: {}",
        plugin("shipped").display()
    ));
}

#[test]
fn what_pasting_adds_is_forgiven() {
    let mut demo = Demo::with("shipped");
    demo.type_line("");
    demo.type_line(format!("  '{}'\r", plugin("other").display()));
    demo.says(&format!(
        "accepted generation 2: {}",
        plugin("other").display()
    ));
}

#[test]
fn a_path_may_begin_with_a_colon() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(plugin("other"), folder.path().join(":x")).unwrap();
    let mut demo = Demo::with("shipped");
    demo.type_line(":x");
    assert_eq!(
        demo.says("unknown"),
        "unknown command :x; :help lists the commands"
    );
    demo.type_line(folder.path().join("./:x"));
    demo.says("accepted generation 2: ");
}

#[test]
fn versions_are_listed() {
    let mut demo = Demo::with("shipped");
    demo.type_line(plugin("other"));
    demo.says("unloaded generation 1");
    demo.type_line("/no/such.so");
    demo.says("refused");
    demo.type_line(plugin("shipped"));
    demo.says("unloaded generation 2");
    demo.type_line(":versions");
    let hash_of = |name| Sha256::of(&fs::read(plugin(name)).unwrap()).to_string();
    let check = |line: &str, below: &str| {
        assert_eq!(demo.says(line.split(' ').next().unwrap()), line);
        let time = demo.says("  20");
        assert!(time.ends_with(below), "{line}: {time}");
    };
    let bytes = fs::metadata(plugin("shipped")).unwrap().len();
    let hash = &hash_of("shipped")[..8];
    let shipped = format!("Z, {bytes} bytes, sha256 {hash}, hotswap-demo-fixtures 0.1.0");
    let path = plugin("shipped").display().to_string();
    check(&format!("generation 1 unloaded: {path}"), &shipped);
    let other = plugin("other").display().to_string();
    let hash = &hash_of("other")[..8];
    let below = format!(" bytes, sha256 {hash}, hotswap-demo-fixtures 0.1.0");
    check(&format!("generation 2 unloaded: {other}"), &below);
    // In the order in which it happened.
    let refused = "refused /no/such.so: open: no such file; generation 2 stays live";
    check(refused, "Z");
    check(&format!("generation 3 live: {path}"), &shipped);
    demo.type_line(":help");
    demo.says("help:");
    demo.says("  :rollback     puts the previous plugin back");
}

#[test]
fn a_call_that_panics_is_a_fault_of_its_generation_and_the_demo_goes_on() {
    let mut demo = Demo::with("shipped");
    demo.type_line(plugin("faulty"));
    demo.says("accepted generation 2");
    let fault = demo.says("fault");
    assert!(
        fault.starts_with(r"fault generation 2: some_fn: panicked: no answer\nto 7 ("),
        "{fault}"
    );
    assert!(fault.contains("faulty.rs:5:"), "{fault}");
    demo.prints_soon(r#"some_data = "faulty""#);
    assert_eq!(
        demo.prints(),
        r#"some_data = "faulty""#,
        "the failing call prints nothing"
    );
}

#[test]
fn a_first_plugin_that_cannot_be_loaded_ends_the_demo() {
    let demo = Demo::start(&[], "/no/target/debug/libplugin.so".as_ref());
    let (code, err) = demo.ends();
    assert_eq!(code, Some(1));
    assert_eq!(
        err,
        ["refused /no/target/debug/libplugin.so: open: no such file; build it with `cargo build`"]
    );
    let (code, err) = Demo::start(&[], "target/release/libplugin.so".as_ref()).ends();
    assert_eq!(code, Some(1));
    assert!(
        err[0].ends_with("build it with `cargo build --release`"),
        "{err:?}"
    );
}

#[test]
fn wrong_usage_exits_with_2() {
    for options in [
        &["--period", "0s"][..],
        &["--period", "soon"],
        &["--unknown"],
    ] {
        let (code, err) = Demo::start(options, &plugin("shipped")).ends();
        assert_eq!(code, Some(2), "{options:?}");
        if options == ["--unknown"] {
            let both = ["Usage: hotswap-demo [OPTIONS] <PLUGIN>", "--dev"];
            let both = both.map(|usage| err.iter().any(|line| line.contains(usage)));
            assert_eq!(both, [true, true], "{err:?}");
        }
    }
}
