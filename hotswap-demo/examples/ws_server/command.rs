//! What clients ask the server itself for: messages that begin with `:`. All others are for the plugin.

use hotswap_core::{canary::Share, text::printable};

/// What the server does itself.
#[derive(Clone, Copy)]
pub(crate) enum Command {
    Reload,
    Rollback,
    Canary(Share),
    Rollout,
    Promote,
    Abandon,
    Help,
}

/// Their names, what follows the name, and what they do.
const COMMANDS: [(&str, &str, &str); 7] = [
    (":reload", "", "loads the plugin's file again"),
    (":rollback", "", "puts the previous plugin back"),
    (
        ":canary",
        " SHARE",
        "lets the plugin's file answer that share of the connections, such as 10%",
    ),
    (":rollout", "", "lets a rule raise the share and decide"),
    (":promote", "", "makes the canary live"),
    (":abandon", "", "gives the canary up"),
    (":help", "", "lists the commands"),
];

/// How much of what was not understood is said again.
const CHARS_MAX: usize = 40;

/// The command that a message is, or what is wrong with it. `None`: it is for the plugin.
pub(crate) fn parse(message: &str) -> Option<Result<Command, String>> {
    if !message.starts_with(':') {
        return None;
    }
    let message = message.trim_end();
    let (name, argument) = message
        .split_once(char::is_whitespace)
        .unwrap_or((message, ""));
    Some(match (name, argument.trim_start()) {
        (":reload", "") => Ok(Command::Reload),
        (":rollback", "") => Ok(Command::Rollback),
        (":canary", share) => share_of(share).map(Command::Canary),
        (":rollout", "") => Ok(Command::Rollout),
        (":promote", "") => Ok(Command::Promote),
        (":abandon", "") => Ok(Command::Abandon),
        (":help", "") => Ok(Command::Help),
        _ => {
            let names = COMMANDS.map(|(name, ..)| name);
            let names = names.join(", ");
            Err(format!(
                "unknown command {}; expected one of {names}",
                shown(name)
            ))
        }
    })
}

fn share_of(text: &str) -> Result<Share, String> {
    text.parse().map_err(|error| match text {
        "" => "which share? for example `:canary 10%`".to_owned(),
        _ => format!("unknown share {}: {error}", shown(text)),
    })
}

fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(CHARS_MAX).collect();
    printable(&beginning)
}

/// What `:help` says, in one line.
pub(crate) fn help() -> String {
    let each = COMMANDS.map(|(name, argument, does)| format!("{name}{argument} {does}"));
    let each = each.join(", ");
    format!("{each}; a message that begins otherwise is answered by the plugin")
}
