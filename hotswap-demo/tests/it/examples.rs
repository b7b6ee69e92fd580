//! The examples, as one runs them.

mod library;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Instant};

use rustix::process::Signal;

use crate::demo::{BINARY, Demo, SOON, plugin, without_backtraces};

/// An example beside the demo's binary, built now.
pub(crate) fn example(name: &str) -> Command {
    let status = cargo(&["build", "--quiet", "--example", name]).status();
    assert!(
        status.expect("cargo runs").success(),
        "the example does not build"
    );
    without_backtraces(Path::new(BINARY).with_file_name("examples").join(name))
}

/// Cargo, with the target folder of this test. For the whole workspace: with `--package`, what an example depends on
/// would be built with other features, and all of that anew.
fn cargo(arguments: &[&str]) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(arguments).arg("--target-dir");
    cargo.arg(target.expect("cargo makes it `target/tmp`"));
    cargo.current_dir(workspace.expect("the package is in it"));
    cargo.env_remove("CARGO_BUILD_TARGET");
    cargo
}

#[test]
fn all_calls_of_a_request_are_on_one_version() {
    let (one, other) = (plugin("shipped"), plugin("other"));
    let begin = Instant::now();
    loop {
        let output = example("requests").args([&one, &other]).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{out}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let lines: Vec<_> = out.lines().collect();
        assert!(
            lines[0].starts_with("one with: ") && lines[0].ends_with(" 0 of them mixed"),
            "{out}"
        );
        assert!(
            lines[1].starts_with("one lease: ") && lines[1].ends_with(" 0 of them mixed"),
            "{out}"
        );
        // It would be seen. On a busy machine, there may have been no swap during a request.
        if !lines[2].ends_with(" 0 of them mixed") {
            break;
        }
        assert!(begin.elapsed() < SOON, "{out}");
    }

    let output = example("requests").args([&one, &one]).output().unwrap();
    assert!(!output.status.success());
    let says = String::from_utf8(output.stderr).unwrap();
    assert_eq!(says, "Error: the two plugins give the same answers\n");
}

/// `module_loader` on a path of its own, with what it has said up to the first prompt.
fn module_loader(options: &[&str], path: &Path, function: &str) -> (Demo, Vec<String>) {
    let mut command = example("module_loader");
    command.args(options).arg("--any-owner").arg(path);
    command.arg(function);
    let it = Demo::of(command);
    let said = up_to_prompt(&it);
    (it, said)
}

#[track_caller]
fn up_to_prompt(it: &Demo) -> Vec<String> {
    let mut said = Vec::new();
    loop {
        match it.prints() {
            prompt if prompt == "Press Enter to load it again" => return said,
            line => said.push(line),
        }
    }
}

#[test]
fn a_function_is_loaded_again_at_each_enter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libplugin.so");
    let shown = path.display().to_string();
    fs::copy(plugin("shipped"), &path).unwrap();
    let (mut it, said) = module_loader(&[], &path, "greet");
    assert_eq!(said, [format!("Loading: {shown}"), "Hello Rust".to_owned()]);
    let mut next = || {
        it.type_line("");
        let mut said = up_to_prompt(&it);
        assert_eq!(said.remove(0), format!("Loading: {shown}"));
        assert_eq!(said.len(), 1, "{said:?}");
        said.remove(0)
    };

    fs::copy(plugin("other"), &path).unwrap();
    assert_eq!(next(), "Hallo Rust");
    fs::remove_file(&path).unwrap();
    assert_eq!(next(), format!("cannot load {shown:?}: open: no such file"));
    fs::write(&path, "").unwrap();
    let empty = next();
    assert!(
        empty.starts_with(&format!("cannot load {shown:?}: inspect: ")),
        "{empty}"
    );
    fs::copy(plugin("faulty"), &path).unwrap();
    assert_eq!(
        next(),
        format!(
            "cannot load {shown:?}: symbol: no `greet`; it exports no functions with `#[export]`"
        )
    );
    fs::copy(plugin("shipped"), &path).unwrap();
    assert_eq!(next(), "Hello Rust");
    it.end_input();
    let (code, said) = it.ends();
    assert_eq!((code, said), (Some(0), Vec::new()));
}

#[test]
fn what_is_not_the_function_is_refused_or_reported() {
    let other = plugin("other");
    let last = |options: &[&str], path: &Path, function: &str| {
        let (_, mut said) = module_loader(options, path, function);
        said.pop().unwrap()
    };
    assert_eq!(
        last(&[], &plugin("shipped"), "some_data"),
        format!(
            "cannot load {:?}: layout: some_data: expected 1 parameter, found 0",
            plugin("shipped")
        )
    );
    assert_eq!(
        last(&[], &other, "gret"),
        format!("cannot load {other:?}: symbol: no `gret`; it exports `fail`, `greet`")
    );
    let fault = last(&[], &other, "fail");
    assert!(
        fault.starts_with(
            "fail: panicked: not Rust (hotswap-demo/tests/fixtures/examples/other.rs:"
        ),
        "{fault}"
    );
    // The probe calls whatever can be called.
    let refused = last(&["--trial"], &other, "greet");
    let beginning = format!("cannot load {other:?}: probe: panicked: not probe (");
    assert!(refused.starts_with(&beginning), "{refused}");
    assert_eq!(
        last(&["--trial"], &plugin("shipped"), "greet"),
        "Hello Rust"
    );
}

#[test]
fn the_functions_of_a_file_are_listed() {
    let list = |options: &[&str], path: &Path| {
        let mut command = example("module_loader");
        let output = command.args(options).arg("--any-owner").arg(path);
        let output = output.arg("--list").output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let expected = "greet: fn(name: &str) -> String\nsome_data: fn() -> String\n";
    let shipped = plugin("shipped");
    assert_eq!(list(&[], &shipped), (Some(0), expected.to_owned()));
    assert_eq!(list(&["--trial"], &shipped), (Some(0), expected.to_owned()));
    assert_eq!(list(&[], &plugin("faulty")), (Some(0), String::new()));
    assert_eq!(
        list(&[], Path::new("/no/such.so")),
        (Some(1), String::new())
    );
}

#[test]
fn a_library_that_crashes_is_refused_after_a_trial() {
    let orders = tempfile::NamedTempFile::new().unwrap();
    fs::write(orders.path(), "link: segfault").unwrap();
    let path = plugin("misbehaving");
    let mut command = example("module_loader");
    command.env("MISBEHAVE", orders.path());
    command
        .args(["--any-owner", "--trial", "--list"])
        .arg(&path);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        said.lines().next().unwrap_or_default(),
        format!("Error: cannot load {path:?}: link: killed by SIGSEGV, in a trial")
    );
}

/// What `$ORIGIN` is, only the host knows, which has the path.
#[test]
fn a_library_beside_the_file_is_there_in_a_trial_too() {
    // So that no group can write to what the test makes, whatever the user who runs it prefers.
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let compile = |name: &str, source: &str, options: &[&str]| {
        fs::write(at("source.c"), source).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o", name, "source.c", "-L."]);
        let status = compiler.args(options).current_dir(folder.path()).status();
        assert!(status.unwrap().success());
    };
    compile("libdep.so", "int dep(void) { return 7; }", &[]);
    let source = "int dep(void); int answer(void) { return dep(); }";
    compile("plugin.so", source, &["-ldep", "-Wl,-rpath,$ORIGIN"]);
    let list = || {
        let mut command = example("module_loader");
        command.args(["--trial", "--list"]).arg(at("plugin.so"));
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    assert_eq!(list(), (Some(0), String::new()));
    let library = at("libdep.so");
    fs::set_permissions(&library, fs::Permissions::from_mode(0o666)).unwrap();
    let (code, said) = list();
    let expected = format!(
        "Error: cannot load {:?}: trust: needs libdep.so: {} is writable by everybody; `chmod o-w` it",
        at("plugin.so"),
        library.canonicalize().unwrap().display()
    );
    assert_eq!((code, said.lines().next()), (Some(1), Some(&*expected)));
}

#[test]
fn services_go_on_while_their_plugin_is_replaced() {
    let (shipped, word, grown) = (
        plugin("shipped"),
        plugin("services_word"),
        plugin("services_grown"),
    );
    let mut command = example("services");
    command.arg("--any-owner").arg(&shipped);
    let mut it = Demo::of(command);
    it.says("accepted generation 1");
    let table = it.prints();
    assert!(table.starts_with("table: "), "{table}");
    let mut next = 0;
    let mut count_to = |it: &Demo, word: &str| {
        loop {
            let line = it.prints();
            if !line.starts_with('(') {
                continue;
            }
            let new = line == format!("({next}, {word:?})");
            // Numbers go on, whoever prints them.
            assert!(
                line.starts_with(&format!("({next}, ")),
                "{line} after {next}"
            );
            next += 1;
            if new {
                return;
            }
        }
    };
    count_to(&it, "blah");

    it.type_line(&word);
    it.says("accepted generation 2");
    count_to(&it, "another word");

    // What the value was is told by the migration.
    it.type_line(&grown);
    while it.prints() != "migrated: 500" {}
    it.says("unloaded generation 2");

    it.type_line(&shipped);
    it.says(&format!(
        "refused {}: update: ref \"pace\": another type: the fields of `Pace` differ: expected `pause_ms`, found \
         `pause_ms`, `step`; generation 3 stays live",
        shipped.display()
    ));

    it.type_line(":services");
    it.says("service \"producer\" on generation 1: running");
    it.signal(Signal::INT);
    let (code, said) = it.ends();
    assert_eq!(code, Some(0), "{said:?}");
    let place = |beginning: &str| {
        let found = said.iter().position(|line| line.starts_with(beginning));
        found.unwrap_or_else(|| panic!("no {beginning:?} in {said:?}"))
    };
    let consumer = place("service generation 3: \"consumer\" stopped");
    assert!(consumer < place("service generation 1: \"producer\" stopped"));
    place("unloaded generation 1");
    place("unloaded generation 3");
}
