//! The examples, as one runs them.

use std::{path::Path, process::Command};

use crate::demo::{BINARY, plugin};

/// An example beside the demo's binary, built now.
fn example(name: &str) -> Command {
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package",
            "hotswap-demo",
            "--example",
            name,
            "--target-dir",
        ])
        .arg(
            Path::new(env!("CARGO_TARGET_TMPDIR"))
                .parent()
                .expect("cargo makes it `target/tmp`"),
        )
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("CARGO_BUILD_TARGET")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the example does not build");
    Command::new(Path::new(BINARY).with_file_name("examples").join(name))
}

#[test]
fn all_calls_of_a_request_are_on_one_version() {
    let (one, other) = (plugin("shipped"), plugin("other"));
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
    // It would be seen.
    assert!(!lines[2].ends_with(" 0 of them mixed"), "{out}");

    let status = example("requests").args([&one, &one]).status().unwrap();
    assert!(!status.success(), "the same plugin twice shows nothing");
}
