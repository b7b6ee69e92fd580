//! The demo on a pseudo-terminal.

use std::{
    io::{Read, Write},
    process::Child,
    sync::mpsc,
    thread,
};

use pty_process::blocking::Pty;

use crate::demo::{BINARY, SOON, plugin};

/// What a person sees, up to and with `end`.
#[track_caller]
fn see(screen: &mpsc::Receiver<u8>, end: &str) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        match screen.recv_timeout(SOON) {
            Ok(byte) => seen.push(byte),
            Err(_) => panic!(
                "`{end}` does not come after: {}",
                String::from_utf8_lossy(&seen)
            ),
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// A demo on a terminal.
fn start(options: &[&str]) -> (Child, Pty) {
    let (terminal, pts) = pty_process::blocking::open().unwrap();
    terminal.resize(pty_process::Size::new(24, 200)).unwrap();
    let command = pty_process::blocking::Command::new(BINARY);
    let child = command
        .args(["--any-owner", "--period", "1h"])
        .args(options)
        .arg(plugin("shipped"))
        .spawn(pts)
        .unwrap();
    (child, terminal)
}

#[test]
fn a_terminal_that_goes_away_ends_the_demo_cleanly() {
    for options in [&[][..], &["--watch"]] {
        let (mut child, mut terminal) = start(options);
        let mut seen = Vec::new();
        while !seen.ends_with(b"Adding to 10: 17\r\n") {
            let mut byte = [0];
            terminal.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        // SIGHUP, and the end of the lines: a reload, and the end.
        drop(terminal);
        assert_eq!(child.wait().unwrap().code(), Some(0), "{options:?}");
    }
}

#[test]
fn a_person_types_a_path_and_ctrl_c() {
    let (mut child, mut terminal) = start(&[]);
    let mut reader = std::fs::File::from(rustix::io::dup(&terminal).unwrap());
    let (sender, screen) = mpsc::channel();
    thread::spawn(move || {
        let mut byte = [0];
        while reader.read_exact(&mut byte).is_ok() && sender.send(byte[0]).is_ok() {}
    });

    // The tick begins a line of its own, although the prompt was there.
    let seen = see(&screen, "Adding to 10: 17\r\n");
    assert!(seen.contains("Next plugin: \r\nsome_data = "), "{seen:?}");
    let path = plugin("other");
    terminal
        .write_all(format!("{}\n", path.display()).as_bytes())
        .unwrap();
    // The old plugin leaves before or after the prompt; afterwards the prompt is there.
    let seen = see(&screen, "unloaded generation 1 after ");
    let accepted = format!("{0}\r\naccepted generation 2: {0}\r\n", path.display());
    assert!(seen.starts_with(&accepted), "{seen:?}");
    let seen = see(&screen, "Next plugin: ");
    assert_eq!(seen.lines().count(), 2, "{seen:?}");

    terminal.write_all(b"\x03").unwrap();
    let seen = see(&screen, "unloaded generation 2 after ");
    assert!(seen.starts_with("^C\r\n"), "{seen:?}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
