//! What clients ask the server itself for: messages that begin with `:`. All others are for the plugin.

use hotswap_core::text::printable;

/// What the server does itself.
#[derive(Clone, Copy)]
pub(crate) enum Command {
    Reload,
    Rollback,
    Help,
}

/// Their names, and what they do.
const COMMANDS: [(&str, Command, &str); 3] = [
    (":reload", Command::Reload, "loads the plugin's file again"),
    (
        ":rollback",
        Command::Rollback,
        "puts the previous plugin back",
    ),
    (":help", Command::Help, "lists the commands"),
];

/// How much of an unknown command is said again.
const CHARS_MAX: usize = 40;

/// The command that a message is, or what is wrong with it. `None`: it is for the plugin.
pub(crate) fn parse(message: &str) -> Option<Result<Command, String>> {
    if !message.starts_with(':') {
        return None;
    }
    let message = message.trim_end();
    let known = COMMANDS.iter().find(|(name, ..)| *name == message);
    Some(known.map(|(_, command, _)| *command).ok_or_else(|| {
        let word = message.split_whitespace().next().unwrap_or_default();
        let word: String = word.chars().take(CHARS_MAX).collect();
        let names = COMMANDS.map(|(name, ..)| name);
        let names = names.join(", ");
        format!(
            "unknown command {}; expected one of {names}",
            printable(&word)
        )
    }))
}

/// What `:help` says, in one line.
pub(crate) fn help() -> String {
    let each = COMMANDS.map(|(name, _, does)| format!("{name} {does}"));
    let each = each.join(", ");
    format!("{each}; a message that begins otherwise is answered by the plugin")
}
