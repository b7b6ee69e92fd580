//! What a user is told of mistakes with the macros. `TRYBUILD=overwrite cargo test -p hotswap-sdk --test ui` writes it
//! anew.

use std::{env, process::Command};

/// In `ui` the macros say it, in `ui/compiler` the compiler says it, by what the traits tell it to. Its own words
/// change with its version, so those are compared only with the version that the packages name.
#[test]
fn mistakes_are_explained() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
    let (version, expected) = (compiler_version(), env!("CARGO_PKG_RUST_VERSION"));
    if version.starts_with(&format!("rustc {expected}.")) {
        cases.compile_fail("tests/ui/compiler/*.rs");
    } else {
        println!(
            "tests/ui/compiler is left out: it has the words of rustc {expected}, and this is {version}"
        );
    }
}

fn compiler_version() -> String {
    let compiler = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(compiler).arg("--version").output();
    let output = output.expect("cargo has found a compiler");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
