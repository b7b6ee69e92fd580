//! Tests that need a process to themselves.

use std::{
    env,
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// Some take a minute; on a machine with much else to do, several.
const HANGS_AFTER: Duration = Duration::from_secs(900);

/// Runs `body` in a process of its own, in which no other test runs beside it. `test` is the full name
/// of the calling test.
#[track_caller]
pub(crate) fn alone(test: &str, body: impl FnOnce()) {
    alone_with(test, &[], body);
}

/// As [`alone`], with more in its environment.
#[track_caller]
pub(crate) fn alone_with(test: &str, environment: &[(&str, &str)], body: impl FnOnce()) {
    let Some(output) = run(test, environment, body) else {
        return;
    };
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert!(
        out.contains("1 passed"),
        "`{test}` is not the name of the test:\n{out}"
    );
    print!("{out}");
}

/// As [`alone`], for a `body` that ends its process with this exit code. Returns what the process has said on standard
/// error; `None` in that process.
#[track_caller]
pub(crate) fn exits(test: &str, code: i32, body: impl FnOnce()) -> Option<String> {
    let output = run(test, &[], body)?;
    let (out, err) = texts(&output);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}\n{out}\n{err}",
        output.status
    );
    Some(err)
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Runs the test in a process of its own. `None`: this is that process, and `body` has returned.
fn run(test: &str, environment: &[(&str, &str)], body: impl FnOnce()) -> Option<Output> {
    const ALONE: &str = "HOTSWAP_TEST_ALONE";
    if env::var_os(ALONE).is_some_and(|name| name == test) {
        body();
        return None;
    }
    let child = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, test)
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test runs again");
    let process = Pid::from_child(&child);
    let (ended, wait_ended) = mpsc::channel::<()>();
    // One that hangs fails, and says what it has said until then.
    let watchdog = thread::spawn(move || {
        if wait_ended.recv_timeout(HANGS_AFTER).is_err() {
            let _ = kill_process(process, Signal::KILL);
        }
    });
    let output = child.wait_with_output().expect("a child of ours");
    let _ = ended.send(());
    watchdog.join().expect("it does not panic");
    Some(output)
}
