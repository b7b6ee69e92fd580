//! The demo on a pseudo-terminal: what a person sees and types.

use std::{
    fs::{self, File},
    io::{Read, Write},
    num::NonZero,
    path::Path,
    process::Child,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use pty_process::blocking::{Command, Pty};
use rustix::termios::{Action, LocalModes, tcgetattr};
use vt100::Parser;

use crate::demo::{BINARY, SOON, plugin, signal_until_it_ends};

/// A terminal, and the demo that runs on it.
struct Terminal {
    demo: Child,
    keys: Pty,
    output: Receiver<Vec<u8>>,
    screen: Parser,
}

const ROWS: NonZero<u16> = NonZero::new(40).unwrap();
const COLUMNS: NonZero<u16> = NonZero::new(200).unwrap();

impl Terminal {
    fn start(options: &[&str]) -> Self {
        let options = [&["--period", "1h"], options].concat();
        Self::start_in(Path::new("."), &options, &plugin("shipped"))
    }

    fn start_in(folder: &Path, options: &[&str], plugin: &Path) -> Self {
        Self::of(spawn(folder, options, plugin))
    }

    fn of((demo, keys): (Child, Pty)) -> Self {
        let mut reader = File::from(rustix::io::dup(&keys).unwrap());
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(1..) = reader.read(&mut bytes).inspect(|&count| {
                // Nobody may want to know any more.
                drop(sender.send(bytes[..count].to_owned()));
            }) {}
        });
        Self {
            demo,
            keys,
            output,
            screen: Parser::new(ROWS, COLUMNS, 0),
        }
    }

    fn press(&mut self, keys: impl AsRef<[u8]>) {
        self.keys.write_all(keys.as_ref()).unwrap();
    }

    /// The lines that are not empty.
    fn lines(&self) -> Vec<String> {
        let contents = self.screen.screen().contents();
        let lines = contents.lines().map(|it| it.trim_end().to_owned());
        lines.filter(|it| !it.is_empty()).collect()
    }

    /// Waits until the screen is as wanted.
    #[track_caller]
    fn wait(&mut self, what: &str, is_there: impl Fn(&[String]) -> bool) -> Vec<String> {
        let begin = Instant::now();
        loop {
            let lines = self.lines();
            if is_there(&lines) {
                return lines;
            }
            let left = SOON.saturating_sub(begin.elapsed());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.screen.process(&bytes),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("not {what}:\n{}", lines.join("\n"))
                }
            }
        }
    }

    /// Waits until the lowest line is this one.
    #[track_caller]
    fn shows_at_the_end(&mut self, line: &str) -> Vec<String> {
        self.wait(line, |lines| lines.last().is_some_and(|it| it == line))
    }

    /// Waits for a line that begins so, with the prompt below it.
    #[track_caller]
    fn says(&mut self, beginning: &str) -> Vec<String> {
        let is_there = |lines: &[String]| {
            lines.iter().any(|it| it.starts_with(beginning))
                && lines.last().is_some_and(|it| it == "Next plugin:")
        };
        self.wait(beginning, is_there)
    }

    /// The code with which the demo ends, and what is left on the screen.
    #[track_caller]
    fn ends(mut self) -> (Option<i32>, Vec<String>) {
        let code = self.demo.wait().unwrap().code();
        // The pty is closed when the last process that has it open has ended.
        while let Ok(bytes) = self.output.recv_timeout(SOON) {
            self.screen.process(&bytes);
        }
        (code, self.lines())
    }
}

fn spawn(folder: &Path, options: &[&str], plugin: &Path) -> (Child, Pty) {
    let command = Command::new(BINARY).arg("--any-owner").args(options);
    spawn_command(command.arg(plugin).current_dir(folder))
}

fn spawn_command(command: Command) -> (Child, Pty) {
    let (keys, pts) = pty_process::blocking::open().unwrap();
    let size = pty_process::Size::new(ROWS.get(), COLUMNS.get());
    keys.resize(size).unwrap();
    // Lines are shown above the prompt also where colours are unwanted.
    let command = command.env("TERM", "xterm").env("NO_COLOR", "1");
    (command.spawn(pts).unwrap(), keys)
}

/// Whether the terminal is in the editor's mode.
fn is_edited(keys: &Pty) -> bool {
    let modes = tcgetattr(keys).unwrap().local_modes;
    !modes.contains(LocalModes::ICANON)
}

#[test]
fn a_terminal_that_goes_away_ends_the_demo_cleanly() {
    for options in [&[][..], &["--watch"]] {
        let options = [&["--period", "1h"], options].concat();
        let (mut demo, mut keys) = spawn(Path::new("."), &options, &plugin("shipped"));
        let mut seen = Vec::new();
        while !seen.ends_with(b"Adding to 10: 17\r\n") {
            let mut byte = [0];
            keys.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        // SIGHUP, and the end of the lines: a reload, and the end.
        drop(keys);
        assert_eq!(demo.wait().unwrap().code(), Some(0), "{options:?}");
    }
}

#[test]
fn a_path_is_swapped_in_with_one_prompt_and_ctrl_c_ends_it() {
    let mut terminal = Terminal::start(&[]);
    let seen = terminal.says("Adding to 10: 17");
    let accepted = format!("accepted generation 1: {}", plugin("shipped").display());
    let ticks = [r#"some_data = "the plugin as shipped""#, "Adding to 10: 17"];
    assert_eq!(seen, [&accepted, ticks[0], ticks[1], "Next plugin:"]);

    let path = plugin("other");
    terminal.press(format!("{}\r", path.display()));
    let seen = terminal.says("unloaded generation 1 after ");
    assert_eq!(seen[3], format!("Next plugin: {}", path.display()));
    assert_eq!(
        seen[4],
        format!("accepted generation 2: {}", path.display())
    );
    assert_eq!(seen.len(), 7, "{seen:#?}");

    terminal.press("\x03");
    let (code, seen) = terminal.ends();
    assert_eq!(code, Some(0));
    assert_eq!(seen[6], "Next plugin:");
    assert!(
        seen[7].starts_with("unloaded generation 2 after "),
        "{seen:#?}"
    );
}

/// What is being typed stays whole and below everything else.
#[test]
fn ticks_do_not_tear_what_is_typed() {
    let mut terminal = Terminal::start(&["--period", "20ms"]);
    let path = plugin("other").display().to_string();
    terminal.says("Adding to 10: 17");
    for (index, key) in path.char_indices() {
        terminal.press(key.to_string());
        let typed = format!("Next plugin: {}", &path[..=index]);
        let seen = terminal.shows_at_the_end(&typed);
        let prompts = seen.iter().filter(|it| it.contains("Next plugin"));
        assert_eq!(prompts.count(), 1, "{seen:#?}");
    }
    terminal.press("\r");
    terminal.says("Adding to 20: 27");
    terminal.press("quit\r");
    assert_eq!(terminal.ends().0, Some(0));
}

#[test]
fn arrows_bring_lines_back_and_tab_completes_paths_and_commands() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("my plugins")).unwrap();
    fs::create_dir(folder.path().join(".hidden")).unwrap();
    fs::copy(plugin("other"), folder.path().join("my plugins/other.so")).unwrap();
    // One name would set the terminal's title, the other would begin a new line.
    for name in ["\x1b]0;x\x07.so", "a\nb.so"] {
        fs::write(folder.path().join("my plugins").join(name), "").unwrap();
    }
    let first = plugin("shipped");
    let mut terminal = Terminal::start_in(folder.path(), &["--period", "1h"], &first);
    terminal.says("accepted generation 1");
    terminal.press(".\t");
    terminal.shows_at_the_end("Next plugin: .hidden/");
    // Clears the line.
    terminal.press("\x15\t");
    terminal.shows_at_the_end(r"Next plugin: my\ plugins/");
    terminal.press("\t");
    terminal.shows_at_the_end(r"Next plugin: my\ plugins/other.so");
    terminal.press("\r");
    terminal.says("accepted generation 2: my plugins/other.so");
    terminal.press(":he\t\r");
    terminal.says("  :rollback     puts the previous plugin back");
    terminal.press("\x1b[A\x1b[A");
    terminal.shows_at_the_end(r"Next plugin: my\ plugins/other.so");
    terminal.press("\r");
    let same = "accepted generation 3: my plugins/other.so; the same bytes as generation 2";
    terminal.says(same);
    // As it was given.
    terminal.press(":reload\r");
    terminal.says("accepted generation 4: my plugins/other.so; the same bytes as generation 3");
    terminal.press("\x04");
    assert_eq!(terminal.ends().0, Some(0));
}

/// Each of them is answered, and the prompt is below the answers, however a terminal passes them on.
#[test]
fn several_lines_may_be_pasted() {
    let pasted = ":relaod\n/no/such.so\n~/no/such.so\n";
    for (begin, end) in [("", ""), ("\x1b[200~", "\x1b[201~\r")] {
        let mut terminal = Terminal::start(&[]);
        terminal.says("Adding to 10: 17");
        terminal.press(format!("{begin}{}{end}", pasted.replace('\n', "\r")));
        let home = std::env::var("HOME").unwrap();
        let last =
            format!("refused {home}/no/such.so: open: no such file; generation 1 stays live");
        let seen = terminal.says(&last);
        let place = |line: &str| seen.iter().position(|it| it == line);
        let unknown = place("unknown command :relaod; did you mean :reload?");
        let refused = place("refused /no/such.so: open: no such file; generation 1 stays live");
        assert!(unknown.is_some() && unknown < refused, "{seen:#?}");
        assert!(refused < place(&last), "{seen:#?}");
        terminal.press("exit\r");
        assert_eq!(terminal.ends().0, Some(0));
    }
}

/// What is said while the editor is between two lines stands below what was said before.
#[test]
fn many_lines_typed_ahead_are_answered_in_their_order() {
    let mut terminal = Terminal::start(&[]);
    terminal.says("Adding to 10: 17");
    let typed: Vec<_> = (0..15).map(|number| format!(":x{number}")).collect();
    let answers: Vec<_> = typed
        .iter()
        .map(|it| format!("unknown command {it}; :help lists the commands"))
        .collect();
    for _ in 0..10 {
        // Clears the screen, which has no room for two rounds.
        terminal.press("\x0c");
        terminal.shows_at_the_end("Next plugin:");
        terminal.press(typed.join("\r") + "\r");
        let seen = terminal.says(&answers[14]);
        let seen: Vec<_> = seen.iter().filter(|it| it.starts_with("unknown")).collect();
        assert_eq!(seen, answers.iter().collect::<Vec<_>>());
    }
    terminal.press("quit\r");
    let (code, seen) = terminal.ends();
    assert_eq!(code, Some(0), "{seen:#?}");
}

/// Its modes are those from before also when it ends while a line is edited.
#[test]
fn the_terminal_is_given_back() {
    let mut terminal = Terminal::start(&[]);
    terminal.says("Adding to 10: 17");
    terminal.press("half a li");
    terminal.shows_at_the_end("Next plugin: half a li");
    assert!(is_edited(&terminal.keys));
    let demo = rustix::process::Pid::from_child(&terminal.demo);
    rustix::process::kill_process(demo, rustix::process::Signal::TERM).unwrap();
    let seen = terminal.wait("unloaded", |lines| {
        lines
            .last()
            .is_some_and(|it| it.starts_with("unloaded generation 1 after "))
    });
    assert_eq!(seen.len(), 4, "{seen:#?}");
    assert!(!is_edited(&terminal.keys));
    assert_eq!(terminal.ends().0, Some(0));
}

/// The editor may be about to go into its mode when the demo ends.
#[test]
fn the_terminal_is_given_back_when_the_first_plugin_is_refused() {
    for _ in 0..30 {
        let (mut demo, mut keys) = spawn(Path::new("."), &[], Path::new("/no/such.so"));
        let mut seen = Vec::new();
        // An error: the demo has ended.
        let _ = keys.read_to_end(&mut seen);
        assert_eq!(demo.wait().unwrap().code(), Some(1));
        let seen = String::from_utf8(seen).unwrap();
        assert!(seen.contains("refused /no/such.so"), "{seen:?}");
        assert!(!is_edited(&keys), "{seen:?}");
    }
}

/// The first asks for the end, and the demo waits for the terminal.
#[test]
fn a_second_signal_ends_it_when_the_terminal_is_stopped() {
    let mut terminal = Terminal::start(&["--period", "1ms"]);
    terminal.says("Adding to 10: 17");
    let pts = File::open(format!("/proc/{}/fd/0", terminal.demo.id())).unwrap();
    rustix::termios::tcflow(&pts, Action::OOff).unwrap();
    let status = signal_until_it_ends(&mut terminal.demo, rustix::process::Signal::TERM);
    assert_eq!(status.code(), Some(128 + 15));
    assert!(!is_edited(&terminal.keys));
}

/// The editor may still read a line when the demo waits for a plugin.
#[test]
fn a_second_ctrl_c_ends_it_whatever_is_typed_meanwhile() {
    let options = ["--period", "1h", "--drain-deadline", "1h"];
    let mut terminal = Terminal::start_in(Path::new("."), &options, &plugin("stubborn"));
    terminal.says("Stubbornly: 7");
    // In the middle of a line, a key has the editor draw the line.
    terminal.press("half\x02\x02");
    terminal.shows_at_the_end("Next plugin: half");
    let pid = rustix::process::Pid::from_child(&terminal.demo);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    while is_edited(&terminal.keys) {
        thread::yield_now();
    }
    terminal.press("x\n");
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = terminal.demo.try_wait().unwrap() {
            break status;
        }
        assert!(begin.elapsed() < SOON, "it waits for its plugin");
        thread::sleep(Duration::from_millis(20));
        terminal.press("\x03");
    };
    assert_eq!(status.code(), Some(128 + 2));
    assert!(!is_edited(&terminal.keys));
}

/// The editor (rustyline 19) panics at these keys, in builds with debug assertions.
#[test]
#[cfg(debug_assertions)]
fn a_panic_of_the_editor_ends_one_line() {
    let mut terminal = Terminal::start(&[]);
    terminal.says("Adding to 10: 17");
    terminal.press("\x16\x1b[1;5C\x1f\x17/");
    terminal.says("the line editor has failed, and this line was dropped");
    terminal.press(":relaod\r");
    terminal.says("unknown command :relaod; did you mean :reload?");
    terminal.press("quit\r");
    let (code, seen) = terminal.ends();
    assert_eq!(code, Some(0), "{seen:#?}");
}

/// The editor has to leave its mode before the process is stopped, and to take it when the process goes on.
#[test]
fn a_line_is_edited_again_after_ctrl_z() {
    let shell = Command::new("bash").args(["--norc", "--noprofile", "-i"]);
    let mut terminal = Terminal::of(spawn_command(shell.env("PS1", "$ ")));
    terminal.shows_at_the_end("$");
    let path = plugin("shipped");
    terminal.press(format!(
        "{BINARY} --any-owner --period 100ms {}\r",
        path.display()
    ));
    terminal.says("Adding to 10: 17");
    for round in ["once", "again"] {
        terminal.press("\x1a");
        terminal.shows_at_the_end("$");
        terminal.press("fg\r");
        terminal.shows_at_the_end("Next plugin:");
        terminal.press(round);
        terminal.shows_at_the_end(&format!("Next plugin: {round}"));
        assert!(is_edited(&terminal.keys), "{round}");
        terminal.press("\x15");
        terminal.shows_at_the_end("Next plugin:");
    }
    terminal.press("\x03");
    terminal.shows_at_the_end("$");
    terminal.press("exit\r");
    let (code, seen) = terminal.ends();
    assert_eq!(code, Some(0), "{seen:#?}");
}

#[test]
fn a_byte_that_is_no_text_does_not_end_the_lines() {
    let mut terminal = Terminal::start(&[]);
    terminal.press(b"/no/\xff");
    terminal.says("this line is no text: a byte of it is not UTF-8");
    terminal.press("quit\r");
    let (code, seen) = terminal.ends();
    assert_eq!(code, Some(0), "{seen:#?}");
}

#[test]
fn a_terminal_without_editing_has_lines() {
    let (keys, pts) = pty_process::blocking::open().unwrap();
    let command = Command::new(BINARY);
    let options = ["--any-owner", "--period", "1h"];
    let command = command.args(options).arg(plugin("shipped"));
    let mut demo = command.env("TERM", "dumb").spawn(pts).unwrap();
    let mut reader = File::from(rustix::io::dup(&keys).unwrap());
    (&keys).write_all(b":relaod\nquit\n").unwrap();
    let mut seen = Vec::new();
    // An error: all of it was read.
    let _ = reader.read_to_end(&mut seen);
    let seen = String::from_utf8(seen).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(0));
    assert!(seen.contains("\r\nNext plugin: \r\n"), "{seen:?}");
    assert!(
        seen.contains("\r\nunknown command :relaod; did you mean :reload?\r\n"),
        "{seen:?}"
    );
    assert!(!seen.contains('\x1b'), "{seen:?}");
}

/// The lines that README shows. Of those that follow a path, the last may come before the ticks or after.
#[test]
fn the_transcript_of_the_readme() {
    let readme = include_str!("../../../README.md");
    let transcript = readme.split("```text\n").nth(2).unwrap();
    let transcript: Vec<&str> = transcript.split("```").next().unwrap().lines().collect();
    let path = Path::new("target/debug/libplugin.so");
    let typed = format!("Next plugin: {}", path.display());
    let (before, after) = {
        let at = transcript.iter().position(|line| *line == typed);
        transcript.split_at(at.expect("somebody types the path") + 1)
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let bytes = fs::read(plugin("shipped")).unwrap();
    fs::write(&file, &bytes).unwrap();
    let mut terminal = Terminal::start_in(folder.path(), &["--period", "100ms"], path);
    terminal.says(before[before.len() - 2]);

    // As if it had been built again, with another text in it.
    let text = b"the plugin as shipped";
    let place = bytes.windows(text.len()).position(|it| it == text).unwrap();
    let mut changed = bytes;
    changed[place..place + text.len()].copy_from_slice(b"the plugin as changed");
    fs::write(&file, &changed).unwrap();
    terminal.press(format!("{}\r", path.display()));
    let plain = |line: &str| line.split(" after ").next().unwrap().to_owned();
    let mut missing: Vec<String> = transcript.iter().map(|line| plain(line)).collect();
    missing.sort();
    missing.dedup();
    let changed = after.iter().find(|line| line.contains("as changed"));
    let seen = terminal.says(changed.expect("the new plugin answers"));
    for line in seen.iter().map(|line| plain(line)) {
        assert!(missing.contains(&line), "{line:?}: {seen:#?}");
    }
    missing.retain(|line| !seen.iter().any(|it| plain(it) == *line));
    // It may leave later than the first answer comes.
    assert!(
        missing.iter().all(|it| it.starts_with("unloaded")),
        "{missing:?}: {seen:#?}"
    );
    terminal.says("unloaded generation 1 after ");
    terminal.press("\x03");
    assert_eq!(terminal.ends().0, Some(0));
}
