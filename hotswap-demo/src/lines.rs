//! From lines of standard input to what they ask for.

use std::{
    io::{self, BufRead, Read},
    path::PathBuf,
    thread,
};

use crossbeam_channel::{Receiver, bounded};

use crate::paths;

/// The commands, and what they do.
pub(crate) const COMMANDS: [(&str, &str); 5] = [
    (":reload", "takes the last accepted path again"),
    (":rollback", "puts the previous plugin back"),
    (":versions", "lists the generations"),
    (":help", "lists the commands (also `help`)"),
    (":quit", "ends (also `quit`, `exit`)"),
];

/// What `:help` says.
pub(crate) fn help() -> String {
    let mut text = "help:\n  PATH       replaces the plugin by the one in that file\n".to_owned();
    for (command, does) in COMMANDS {
        text += &format!("  {command:9}  {does}\n");
    }
    text + "A file whose name is a command, or begins with `:`, is given as `./NAME`."
}

/// Longer than any path (`PATH_MAX` is 4,096), so that input without line ends does not fill the memory.
const LINE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Nothing,
    Swap(PathBuf),
    Reload,
    Rollback,
    Versions,
    Help,
    Quit,
    /// Not understood; what to say.
    Unknown(String),
}

/// Reads standard input until it ends, on a thread that is never joined: it may wait for ever.
pub(crate) fn from_stdin() -> io::Result<Receiver<Request>> {
    let (requests, received) = bounded(1);
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut input = io::stdin().lock();
            while let Some(request) = next(&mut input) {
                if requests.send(request).is_err() {
                    return;
                }
            }
        })?;
    Ok(received)
}

/// The next line's request. An input that cannot be read has ended.
fn next(input: &mut impl BufRead) -> Option<Request> {
    let mut line = Vec::new();
    input
        .by_ref()
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut line)
        .ok()?;
    if line.is_empty() {
        return None;
    }
    if line.len() as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
        input.skip_until(b'\n').ok()?;
        return Some(Request::Unknown(format!(
            "unknown line: longer than {LINE_BYTES_MAX} bytes"
        )));
    }
    Some(parse(line.strip_suffix(b"\n").unwrap_or(&line)))
}

/// What a line asks for.
pub(crate) fn parse(line: &[u8]) -> Request {
    match line.trim_ascii() {
        b"" => Request::Nothing,
        b":reload" => Request::Reload,
        b":rollback" => Request::Rollback,
        b":versions" => Request::Versions,
        b":help" | b"help" => Request::Help,
        b":quit" | b"quit" | b"exit" => Request::Quit,
        command if command.starts_with(b":") => Request::Unknown(unknown(command)),
        _ => Request::Swap(paths::path(line)),
    }
}

fn unknown(command: &[u8]) -> String {
    let name = String::from_utf8_lossy(command);
    let distance = |it: &str| strsim::damerau_levenshtein(it, &name);
    let nearest = COMMANDS.iter().map(|(it, _)| (distance(it), it)).min();
    let command = command.escape_ascii();
    match nearest {
        Some((0..=2, nearest)) => format!("unknown command {command}; did you mean {nearest}?"),
        _ => format!("unknown command {command}; :help lists them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &[u8], expected: Request) {
        assert_eq!(parse(line), expected);
    }

    #[test]
    fn commands() {
        check(b":reload", Request::Reload);
        check(b"  :versions \r", Request::Versions);
        check(b":rollback", Request::Rollback);
        check(b":help", Request::Help);
        check(b":quit", Request::Quit);
        check(
            b":what\x1b",
            Request::Unknown(r"unknown command :what\x1b; :help lists them".to_owned()),
        );
        check(b"help", Request::Help);
        check(b" quit\r", Request::Quit);
        check(b"exit", Request::Quit);
        check(b"./:x", Request::Swap("./:x".into()));
        check(b"./help", Request::Swap("./help".into()));
        check(b"helper", Request::Swap("./helper".into()));
    }

    #[test]
    fn the_nearest_command_is_named() {
        let check_unknown = |line: &str, end: &str| {
            let expected = format!("unknown command {line}{end}");
            check(line.as_bytes(), Request::Unknown(expected));
        };
        check_unknown(":relaod", "; did you mean :reload?");
        check_unknown(":q", "; :help lists them");
        check_unknown(":qit", "; did you mean :quit?");
        check_unknown(":rolback", "; did you mean :rollback?");
        check_unknown(":version", "; did you mean :versions?");
    }

    #[test]
    fn the_help_has_a_line_for_each_command() {
        let help = help();
        assert_eq!(help.lines().count(), COMMANDS.len() + 3);
        assert!(
            help.contains("\n  :rollback  puts the previous plugin back\n"),
            "{help}"
        );
    }

    #[test]
    fn blank_lines_ask_for_nothing() {
        check(b"", Request::Nothing);
        check(b" \t\r", Request::Nothing);
    }

    #[test]
    fn lines_are_read_to_the_end_of_the_input() {
        let mut input = &b":quit\n\n/no/such"[..];
        assert_eq!(next(&mut input), Some(Request::Quit));
        assert_eq!(next(&mut input), Some(Request::Nothing));
        assert_eq!(next(&mut input), Some(Request::Swap("/no/such".into())));
        assert_eq!(next(&mut input), None);
    }

    #[test]
    fn a_line_without_end_is_one_error() {
        let mut input = vec![b'x'; 3 * LINE_BYTES_MAX as usize];
        input.extend(b"\n:quit\n");
        let mut input = &input[..];
        let problem = "unknown line: longer than 65536 bytes".to_owned();
        assert_eq!(next(&mut input), Some(Request::Unknown(problem)));
        assert_eq!(next(&mut input), Some(Request::Quit));
    }
}
