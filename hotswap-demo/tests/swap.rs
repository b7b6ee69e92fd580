//! The plugin of this workspace, as one builds it: it answers, it is replaced, and the one before it leaves.
//!
//! What it says is not looked at, so that all this stays true when `code.rs` is edited.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use hotswap_core::{Hotswap, Policy, State, Trust, loader::Loader};
use hotswap_types::{Greet, Plugin};
use serde_json::Value;

#[test]
fn the_plugin_is_replaced_and_the_one_before_it_leaves() {
    let path = plugin();
    let plugin: Hotswap<dyn Plugin> = Hotswap::load(&path, &trust()).unwrap();
    // An answer, or the fault of a method that panics.
    let called = || {
        let answer = plugin.call(|it| (it.some_data(), it.some_fn(7), it.process("ping")));
        answer.map_or_else(|fault| fault.generation, |_| Some(plugin.lease().number()))
    };
    assert_eq!(called(), Some(1));

    let swapped = plugin.swap(&path).unwrap();
    assert_eq!(called(), Some(swapped.generation));
    assert_eq!(plugin.wait(swapped.retired, SOON), Some(State::Unloaded));
    let mapped = plugin.shutdown(SOON);
    assert!(mapped.is_empty(), "{mapped:?}");
}

/// If the plugin still has it.
#[test]
fn a_single_function_is_loaded() {
    let code = include_str!("../../hotswap-plugin/src/code.rs");
    let is_there = code.contains("\n#[hotswap_sdk::export]\nfn greet(name: &str) -> String {");
    let loader = Loader::new(&trust()).unwrap();
    let greet = loader.function::<Greet>(plugin(), "greet");
    assert!(greet.is_ok() || !is_there, "{:?}", greet.err());
    // Its answer, or the fault of a panic.
    let _ = greet.map(|greet| greet.call("Rust"));
}

#[test]
fn the_demo_swaps_and_ends_with_its_input() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_hotswap-demo"))
        .args(["--any-owner", "--period", "1h"])
        .arg(plugin())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    demo.stdin.take().unwrap().write_all(b":reload\n").unwrap();
    let output = demo.wait_with_output().unwrap();
    let says = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{says}");
    let beginnings = [
        "accepted generation 1: ",
        "accepted generation 2: ",
        "unloaded generation 1 ",
        "unloaded generation 2 ",
    ];
    for beginning in beginnings {
        assert!(
            says.lines().any(|line| line.starts_with(beginning)),
            "no `{beginning}` in {says}"
        );
    }
}

/// What `--dev` builds has the features that everything has together.
#[test]
fn building_the_plugin_alone_compiles_nothing_again() {
    plugin();
    let mut build = cargo("build");
    build.args(["--lib", "--message-format=json"]);
    build.args(["--package", "hotswap-plugin", "--package"]);
    let output = build.arg(env!("CARGO_PKG_NAME")).output().unwrap();
    let says = String::from_utf8(output.stdout).unwrap();
    let messages = says.lines().map(|it| serde_json::from_str(it).unwrap());
    let artifacts = messages.filter(|it: &Value| it["reason"] == "compiler-artifact");
    let artifacts: Vec<_> = artifacts.collect();
    assert!(artifacts.len() > 10, "{artifacts:?}");
    for artifact in artifacts {
        assert_eq!(artifact["fresh"], true, "{artifact}");
    }
}

/// Long enough for anything that must happen, on any machine.
const SOON: Duration = Duration::from_secs(300);

/// `cargo test` builds no plugins. With `--package` alone it would be built with other features of what it depends on,
/// and all of that anew; this has most likely been done.
fn plugin() -> PathBuf {
    let status = cargo("build").arg("--quiet").status();
    assert!(
        status.expect("cargo runs").success(),
        "the plugin does not build"
    );
    target().join("debug/libplugin.so")
}

/// As a person calls it at the top of the workspace.
fn cargo(command: &str) -> Command {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([command, "--target-dir"]).arg(target());
    cargo.current_dir(package.parent().expect("the workspace"));
    cargo.env_remove("CARGO_BUILD_TARGET");
    cargo
}

fn target() -> &'static Path {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary.parent().expect("cargo makes it `target/tmp`")
}

fn trust() -> Trust {
    let policy = Policy {
        // These are about what the plugin does, whoever owns the folder that all this was checked out into.
        any_owner: true,
        ..Policy::default()
    };
    // SAFETY: the plugin was built just now, from this workspace.
    unsafe { Trust::vouch(policy) }
}
