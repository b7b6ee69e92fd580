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

#[test]
fn the_plugin_is_replaced_and_the_one_before_it_leaves() {
    let path = plugin();
    let plugin: Hotswap<dyn Plugin> = Hotswap::load(&path, &trust()).unwrap();
    let answer = || plugin.call(|it| (it.some_data(), it.some_fn(7), it.process("ping").is_ok()));
    assert!(answer().is_ok());

    let swapped = plugin.swap(&path).unwrap();
    assert_eq!(plugin.lease().number(), swapped.generation);
    assert!(answer().is_ok());
    assert_eq!(plugin.wait(swapped.retired, SOON), Some(State::Unloaded));
    let mapped = plugin.shutdown(SOON);
    assert!(mapped.is_empty(), "{mapped:?}");
}

#[test]
fn a_single_function_is_loaded() {
    let loader = Loader::new(&trust()).unwrap();
    let greet = loader.function::<Greet>(plugin(), "greet").unwrap();
    greet.call("Rust").unwrap();
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

/// Long enough for anything that must happen, on any machine.
const SOON: Duration = Duration::from_secs(60);

/// `cargo test` builds no plugins. With `--package` it would be built with other features of what it depends on, and
/// all of that anew; this has most likely been done.
fn plugin() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("cargo makes it `target/tmp`");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--target-dir"])
        .arg(target)
        .current_dir(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .parent()
                .expect("the workspace"),
        )
        .env_remove("CARGO_BUILD_TARGET")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the plugin does not build");
    target.join("debug/libplugin.so")
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
