//! Lines that begin with `:`: the name of each command, what follows it, and what it asks for. The demo and the example
//! `ws_server` each have a list of their own.

use hotswap_core::{canary::Share, text::printable};

/// A command that asks for a `T`.
pub(crate) struct Command<T> {
    /// With the `:`. Letters may be typed in either case.
    pub(crate) name: &'static str,
    pub(crate) argument: Argument<T>,
    /// What it does, for the help.
    pub(crate) does: &'static str,
}

/// What follows the name, and what both ask for.
pub(crate) enum Argument<T> {
    Nothing(fn() -> T),
    Share(fn(Share) -> T),
}

/// How much of what was not understood is said again.
const CHARS_MAX: usize = 40;

impl<T> Command<T> {
    /// How to write it, for the help.
    pub(crate) fn usage(&self) -> String {
        let argument = match self.argument {
            Argument::Nothing(_) => "",
            Argument::Share(_) => " SHARE",
        };
        format!("{}{argument}", self.name)
    }
}

/// What a line asks for, or what is wrong with it.
pub(crate) fn parse<T>(commands: &[Command<T>], line: &str) -> Result<T, String> {
    let line = line.trim();
    let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let command = commands
        .iter()
        .find(|it| it.name.eq_ignore_ascii_case(name));
    match command.map(|it| (it.name, &it.argument)) {
        Some((_, Argument::Nothing(ask))) if argument.is_empty() => Ok(ask()),
        Some((name, Argument::Share(ask))) => share(name, argument.trim_start()).map(ask),
        Some((name, _)) => Err(format!("{name} has no argument")),
        None => Err(unknown(commands, name)),
    }
}

fn share(command: &str, text: &str) -> Result<Share, String> {
    text.parse().map_err(|error| match text {
        "" => format!("which share? for example `{command} 10%`"),
        _ => format!("invalid share {}: {error}", shown(text)),
    })
}

fn unknown<T>(commands: &[Command<T>], name: &str) -> String {
    let nearest = nearest(commands, name);
    let name = shown(name);
    match nearest {
        Some(nearest) => format!("unknown command {name}; did you mean {nearest}?"),
        None => format!("unknown command {name}; :help lists the commands"),
    }
}

/// The command that this is most like, if it is like one.
pub(crate) fn nearest<T>(commands: &[Command<T>], name: &str) -> Option<&'static str> {
    let beginning: String = name.chars().take(CHARS_MAX).collect();
    let lower_case = beginning.to_ascii_lowercase();
    let distance = |it: &str| strsim::damerau_levenshtein(it, &lower_case);
    let all = commands.iter().map(|it| (distance(it.name), it.name));
    all.min().filter(|it| it.0 <= 2).map(|it| it.1)
}

fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(CHARS_MAX).collect();
    printable(&beginning)
}
