//! From lines of standard input to what they ask for.

use std::{
    io::{self, BufRead, Read},
    path::PathBuf,
    thread,
};

use crossbeam_channel::{Receiver, bounded};
use hotswap_core::{canary::Share, text::printable};

use crate::paths;

/// The commands, and what they do.
pub(crate) const COMMANDS: [(&str, &str); 9] = [
    (":reload", "takes the last accepted path again"),
    (":rollback", "puts the previous plugin back"),
    (":versions", "lists the generations"),
    (":promote", "makes the canary live (see --canary)"),
    (":abandon", "gives the canary up"),
    (
        ":share",
        "gives it another share of the ticks: `:share 50%`",
    ),
    (
        ":figures",
        "says how its calls went, and those of the live plugin",
    ),
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
    Promote,
    Abandon,
    Share(Share),
    Figures,
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
        b":promote" => Request::Promote,
        b":abandon" => Request::Abandon,
        b":figures" => Request::Figures,
        b":help" | b"help" => Request::Help,
        b":quit" | b"quit" | b"exit" => Request::Quit,
        command if command.starts_with(b":") => match argument(command, b":share") {
            Some(share) => share_of(share),
            None => Request::Unknown(unknown(command)),
        },
        _ => Request::Swap(paths::path(line)),
    }
}

/// What follows the name of a command; nothing, if there is nothing.
fn argument<'a>(line: &'a [u8], command: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(command)?;
    let is_apart = rest.first().is_none_or(u8::is_ascii_whitespace);
    is_apart.then(|| rest.trim_ascii())
}

fn share_of(text: &[u8]) -> Request {
    let text = String::from_utf8_lossy(text);
    match text.parse() {
        Ok(share) => Request::Share(share),
        Err(_) if text.is_empty() => {
            Request::Unknown("which share? for example `:share 50%`".to_owned())
        }
        Err(error) => Request::Unknown(format!("unknown share {}: {error}", printable(&text))),
    }
}

fn unknown(command: &[u8]) -> String {
    let name = command.split(u8::is_ascii_whitespace).next();
    let name = String::from_utf8_lossy(name.unwrap_or_default());
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
        check(b":promote", Request::Promote);
        check(b":abandon\r", Request::Abandon);
        check(b":figures", Request::Figures);
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
        check_unknown(":shrae 50%", "; did you mean :share?");
        check_unknown(":shares", "; did you mean :share?");
        check_unknown(":promote 2", "; did you mean :promote?");
    }

    #[test]
    fn a_share_is_a_percentage() {
        check(b":share 50%", Request::Share(Share::percent(50)));
        check(b" :share\t7 \r", Request::Share(Share::percent(7)));
        let check_refused = |line: &[u8], problem: &str| {
            check(line, Request::Unknown(problem.to_owned()));
        };
        check_refused(b":share", "which share? for example `:share 50%`");
        check_refused(
            b":share half",
            "unknown share half: not a percentage, such as 10%",
        );
        check_refused(
            b":share 101%",
            "unknown share 101%: not between 0% and 100%",
        );
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
