//! The command line.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, anyhow, ensure};
use clap::Parser;
use hotswap_core::canary::Share;
use humantime::DurationError;

use crate::{
    builds::DevOptions,
    console::Format,
    paths,
    trust::{TrustOptions, whole_number},
};

const USAGE: &str = "\
hotswap-demo [OPTIONS] <PLUGIN>
       hotswap-demo [OPTIONS] --dev [<PACKAGE>] [-- <CARGO_ARGS>...]";

const AFTER_HELP: &str = "\
Exit codes:
  0         It has ended; with --check, the plugin would be accepted
  1         The plugin to begin with was refused, or something else has failed
  2         Wrong usage
  130, 143  A second Ctrl-C or SIGTERM has ended it at once

Examples:
  hotswap-demo target/debug/libplugin.so --watch
  hotswap-demo --dev
  hotswap-demo --check plugins/v42.so && ln -sfn v42.so plugins/current.so";

/// Runs a plugin, and replaces it by any other whose path is typed or pasted.
///
/// Each line of standard input is a path, or a command: `:reload`, `:rollback`, `:versions`, `:help`, `:quit`; for a
/// canary also `:promote`, `:abandon`, `:share`, `:figures`. SIGHUP does what `:reload` does.
#[derive(Parser)]
#[command(
    name = "hotswap-demo",
    version,
    args_override_self = true,
    override_usage = USAGE,
    after_help = AFTER_HELP
)]
pub(crate) struct Options {
    /// The plugin to begin with
    #[arg(required_unless_present = "dev", conflicts_with = "dev")]
    plugin: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) dev: DevOptions,

    /// The time between two ticks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = period)]
    pub(crate) period: Duration,

    /// How long an old plugin may be in use before it is reported; at the end, how long to wait for it
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) drain_deadline: Duration,

    /// Load each plugin in a child process first, and ask it something there
    #[arg(long)]
    pub(crate) trial: bool,

    /// Only say whether the plugin would be accepted, and what is known of it; run nothing of it in this process
    #[arg(long, conflicts_with = "dev")]
    pub(crate) check: bool,

    /// How long a trial may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = trial_deadline)]
    pub(crate) trial_deadline: Duration,

    /// How long a new plugin is on probation: the one before stays loaded, and takes over again after a fault
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) probation: Option<Duration>,

    /// How many faults of a plugin on probation are put up with
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        requires = "probation",
        value_parser = whole_number::<u32>
    )]
    pub(crate) faults: u32,

    /// Swap whenever the file at the last accepted path has changed; the end of standard input ends nothing then
    #[arg(long)]
    pub(crate) watch: bool,

    /// Do not swap the next plugins in at once: each begins as a canary with this share of the ticks, such as 10%,
    /// until `:promote` makes it live or `:abandon` gives it up. With --dev, each build takes the place of an
    /// undecided one
    #[arg(long, value_name = "SHARE", conflicts_with_all = ["watch", "no_stdin"])]
    pub(crate) canary: Option<Share>,

    /// Do not read standard input, whose end would end the demo (for a service)
    #[arg(long)]
    pub(crate) no_stdin: bool,

    /// What the host says on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) events: Format,

    #[command(flatten)]
    pub(crate) trust: TrustOptions,
}

impl Options {
    /// The plugin to begin with, unless it is built.
    pub(crate) fn plugin(&self) -> PathBuf {
        let path = self.plugin.as_deref();
        paths::in_a_folder(path.expect("required unless it is built"))
    }
}

fn duration(text: &str) -> Result<Duration> {
    humantime::parse_duration(text).map_err(|error| match error {
        DurationError::NumberOverflow => anyhow!("this time is too long"),
        _ => anyhow!("expected a time such as 1s or 250ms"),
    })
}

fn period(text: &str) -> Result<Duration> {
    let period = duration(text)?;
    ensure!(!period.is_zero(), "ticks need some time between them");
    Ok(period)
}

fn trial_deadline(text: &str) -> Result<Duration> {
    let deadline = duration(text)?;
    ensure!(!deadline.is_zero(), "a trial needs some time");
    Ok(deadline)
}
