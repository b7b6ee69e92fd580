//! The demo on a pseudo-terminal.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::Path,
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
    let options = [&["--period", "1h"], options].concat();
    start_with(&options, &plugin("shipped"), Path::new("."))
}

fn start_with(options: &[&str], plugin: &Path, folder: &Path) -> (Child, Pty) {
    let (terminal, pts) = pty_process::blocking::open().unwrap();
    terminal.resize(pty_process::Size::new(24, 200)).unwrap();
    let command = pty_process::blocking::Command::new(BINARY);
    let child = command
        .arg("--any-owner")
        .args(options)
        .arg(plugin)
        .current_dir(folder)
        .spawn(pts)
        .unwrap();
    (child, terminal)
}

/// What comes to the screen, byte by byte.
fn screen_of(terminal: &Pty) -> mpsc::Receiver<u8> {
    let mut reader = File::from(rustix::io::dup(terminal).unwrap());
    let (sender, screen) = mpsc::channel();
    thread::spawn(move || {
        let mut byte = [0];
        while reader.read_exact(&mut byte).is_ok() && sender.send(byte[0]).is_ok() {}
    });
    screen
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
    let screen = screen_of(&terminal);

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

/// The lines that README shows, in the order in which things happen; which of them comes first of those that follow one
/// path may differ.
#[test]
fn the_transcript_of_the_readme() {
    let readme = include_str!("../../../README.md");
    let transcript = readme.split("```text\n").nth(1).unwrap();
    let transcript: Vec<&str> = transcript.split("```").next().unwrap().lines().collect();
    let path = Path::new("target/debug/libplugin.so");
    let typed = transcript.iter().position(|line| Path::new(line) == path);
    let (before, after) = transcript.split_at(typed.expect("somebody types the path"));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let bytes = fs::read(plugin("shipped")).unwrap();
    fs::write(&file, &bytes).unwrap();
    let (mut child, mut terminal) = start_with(&["--period", "100ms"], path, folder.path());
    let screen = screen_of(&terminal);
    all_are_seen(&screen, before, &[]);

    // As if it had been built again, with another text in it.
    let text = b"the plugin as shipped";
    let place = bytes.windows(text.len()).position(|it| it == text).unwrap();
    let mut changed = bytes;
    changed[place..place + text.len()].copy_from_slice(b"the plugin as changed");
    fs::write(&file, &changed).unwrap();
    terminal
        .write_all(format!("{}\n", path.display()).as_bytes())
        .unwrap();
    all_are_seen(&screen, after, before);
    terminal.write_all(b"\x03").unwrap();
    see(&screen, "unloaded generation 2 after ");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Waits for each of the lines, in any order, and for no other than these and those `before`; times may differ, and
/// prompts do not count.
#[track_caller]
fn all_are_seen(screen: &mpsc::Receiver<u8>, lines: &[&str], before: &[&str]) {
    let plain = |line: &str| {
        let line = line.trim_end().trim_start_matches("Next plugin: ");
        match line.split_once(" after ") {
            Some((what, _)) => format!("{what} after TIME"),
            None => line.to_owned(),
        }
    };
    let is_prompt = |line: &String| line.is_empty() || line == "Next plugin:";
    let known: Vec<String> = [lines, before].concat().into_iter().map(plain).collect();
    let mut missing = known[..lines.len()].to_vec();
    missing.retain(|line| !is_prompt(line));
    while !missing.is_empty() {
        let seen = plain(&see(screen, "\n"));
        assert!(is_prompt(&seen) || known.contains(&seen), "{seen:?}");
        missing.retain(|line| *line != seen);
    }
}
