//! Tests that need a process to themselves.

use std::{env, process::Command};

/// Runs `body` in a process of its own, in which no other test runs beside it. `test` is the full name
/// of the calling test.
#[track_caller]
pub(crate) fn alone(test: &str, body: impl FnOnce()) {
    alone_with(test, &[], body);
}

/// As [`alone`], with more in its environment.
#[track_caller]
pub(crate) fn alone_with(test: &str, environment: &[(&str, &str)], body: impl FnOnce()) {
    const ALONE: &str = "HOTSWAP_TEST_ALONE";
    if env::var_os(ALONE).is_some_and(|name| name == test) {
        return body();
    }
    let output = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, test)
        .envs(environment.iter().copied())
        .output()
        .expect("this test runs again");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert!(
        out.contains("1 passed"),
        "`{test}` is not the name of the test:\n{out}"
    );
    print!("{out}");
}
