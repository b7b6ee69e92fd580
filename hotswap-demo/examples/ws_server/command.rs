//! What clients ask the server itself for: messages that begin with `:`. All others are for the plugin.

use hotswap_core::canary::Share;

use crate::commands::{self, Argument, Command};

/// What the server does itself.
#[derive(Clone, Copy)]
pub(crate) enum Request {
    Reload,
    Rollback,
    Canary(Share),
    Share(Share),
    Rollout,
    Promote,
    Abandon,
    Help,
}

const COMMANDS: [Command<Request>; 8] = [
    Command {
        name: ":reload",
        argument: Argument::Nothing(|| Request::Reload),
        does: "loads the plugin's file again",
    },
    Command {
        name: ":rollback",
        argument: Argument::Nothing(|| Request::Rollback),
        does: "puts the previous plugin back",
    },
    Command {
        name: ":canary",
        argument: Argument::Share(Request::Canary),
        does: "lets the plugin's file answer that share of the connections, such as 10%",
    },
    Command {
        name: ":share",
        argument: Argument::Share(Request::Share),
        does: "gives the canary another share",
    },
    Command {
        name: ":rollout",
        argument: Argument::Nothing(|| Request::Rollout),
        does: "lets a rule raise the share and decide",
    },
    Command {
        name: ":promote",
        argument: Argument::Nothing(|| Request::Promote),
        does: "makes the canary live",
    },
    Command {
        name: ":abandon",
        argument: Argument::Nothing(|| Request::Abandon),
        does: "gives the canary up",
    },
    Command {
        name: ":help",
        argument: Argument::Nothing(|| Request::Help),
        does: "lists the commands",
    },
];

/// What a message asks for, or what is wrong with it. `None`: it is for the plugin.
pub(crate) fn parse(message: &str) -> Option<Result<Request, String>> {
    let is_command = message.starts_with(':');
    is_command.then(|| commands::parse(&COMMANDS, message))
}

/// What `:help` says, in one line.
pub(crate) fn help() -> String {
    let each = COMMANDS.map(|it| format!("{} {}", it.usage(), it.does));
    let each = each.join(", ");
    format!("{each}; a message that begins otherwise is answered by the plugin")
}
