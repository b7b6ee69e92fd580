//! From lines of standard input to what they ask for.

use std::{
    io::{self, BufRead, Read},
    path::PathBuf,
    thread,
};

use crossbeam_channel::{Receiver, bounded};
use hotswap_core::canary::Share;

use crate::{
    commands::{self, Argument, Command},
    paths,
};

/// The commands.
pub(crate) const COMMANDS: [Command<Request>; 9] = [
    Command {
        name: ":reload",
        argument: Argument::Nothing(|| Request::Reload),
        does: "takes the last accepted path again",
    },
    Command {
        name: ":rollback",
        argument: Argument::Nothing(|| Request::Rollback),
        does: "puts the previous plugin back",
    },
    Command {
        name: ":versions",
        argument: Argument::Nothing(|| Request::Versions),
        does: "lists what was published and what was refused, the newest last",
    },
    Command {
        name: ":promote",
        argument: Argument::Nothing(|| Request::Promote),
        does: "makes the canary live (see --canary)",
    },
    Command {
        name: ":abandon",
        argument: Argument::Nothing(|| Request::Abandon),
        does: "gives the canary up",
    },
    Command {
        name: ":share",
        argument: Argument::Share(Request::Share),
        does: "gives the canary that share of the ticks, such as 50%",
    },
    Command {
        name: ":figures",
        argument: Argument::Nothing(|| Request::Figures),
        does: "says how its calls went, and those of the live plugin",
    },
    Command {
        name: ":help",
        argument: Argument::Nothing(|| Request::Help),
        does: "lists the commands (also `help`)",
    },
    Command {
        name: ":quit",
        argument: Argument::Nothing(|| Request::Quit),
        does: "ends (also `quit`, `exit`)",
    },
];

/// What `:help` says.
pub(crate) fn help() -> String {
    let mut text =
        "help:\n  PATH          replaces the plugin by the one in that file\n".to_owned();
    for command in COMMANDS {
        text += &format!("  {:12}  {}\n", command.usage(), command.does);
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
            "this line is too long: it has more than {LINE_BYTES_MAX} bytes"
        )));
    }
    Some(parse(line.strip_suffix(b"\n").unwrap_or(&line)))
}

/// What a line asks for.
pub(crate) fn parse(line: &[u8]) -> Request {
    let trimmed = line.trim_ascii();
    match &*trimmed.to_ascii_lowercase() {
        b"" => Request::Nothing,
        b"help" => Request::Help,
        b"quit" | b"exit" => Request::Quit,
        command if command.starts_with(b":") => {
            let command = String::from_utf8_lossy(trimmed);
            commands::parse(&COMMANDS, &command).unwrap_or_else(Request::Unknown)
        }
        _ => Request::Swap(paths::path(line)),
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
            Request::Unknown(r"unknown command :what\u{1b}; :help lists the commands".to_owned()),
        );
        check(b"help", Request::Help);
        check(b" quit\r", Request::Quit);
        check(b"exit", Request::Quit);
        check(b"./:x", Request::Swap("./:x".into()));
        check(b"./help", Request::Swap("./help".into()));
        check(b"helper", Request::Swap("./helper".into()));
        check(b"HELP", Request::Help);
        check(b"Quit", Request::Quit);
        check(b":Reload", Request::Reload);
    }

    #[test]
    fn the_nearest_command_is_named() {
        let check_unknown = |line: &str, end: &str| {
            let name = line.split(' ').next().unwrap();
            let expected = format!("unknown command {name}{end}");
            check(line.as_bytes(), Request::Unknown(expected));
        };
        check_unknown(":relaod", "; did you mean :reload?");
        check_unknown(":q", "; :help lists the commands");
        check_unknown(":qit", "; did you mean :quit?");
        check_unknown(":rolback", "; did you mean :rollback?");
        check_unknown(":Rolback", "; did you mean :rollback?");
        check_unknown(":version", "; did you mean :versions?");
        check_unknown(":shrae 50%", "; did you mean :share?");
        check_unknown(":shares", "; did you mean :share?");
        let superfluous = ":promote has no argument".to_owned();
        check(b":promote 2", Request::Unknown(superfluous));
    }

    #[test]
    fn a_share_is_a_percentage() {
        check(b":share 50%", Request::Share(Share::percent(50)));
        check(b" :share\t7 \r", Request::Share(Share::percent(7)));
        let check_refused = |line: &[u8], problem: &str| {
            check(line, Request::Unknown(problem.to_owned()));
        };
        check_refused(b":share", "which share? for example `:share 10%`");
        check_refused(
            b":share half",
            "invalid share half: not a percentage, such as 10%",
        );
        check_refused(
            b":share 101%",
            "invalid share 101%: not between 0% and 100%",
        );
        check_refused(
            b":share 0.5",
            "invalid share 0.5: less than 1 without a sign; write 50% for a half, or 0.5%",
        );
    }

    #[test]
    fn the_help_has_a_line_for_each_command() {
        let help = help();
        assert_eq!(help.lines().count(), COMMANDS.len() + 3);
        assert!(
            help.contains("\n  :rollback     puts the previous plugin back\n"),
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
        let problem = "this line is too long: it has more than 65536 bytes".to_owned();
        assert_eq!(next(&mut input), Some(Request::Unknown(problem)));
        assert_eq!(next(&mut input), Some(Request::Quit));
    }
}
