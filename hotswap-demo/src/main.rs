//! A process whose plugin is replaced while it runs.
//!
//! stdout carries what the plugin says, and nothing else; stderr carries what the host says, one event a
//! line. Everything but the swaps of `--watch` happens on one thread, in one `select!` over ticks, lines, signals
//! and events; the threads behind those channels only wait for the system.

mod commands;

mod lines;

mod paths;

mod reports;

mod terminal;

mod console;

mod trust;

mod builds;

mod options;

mod probe;

mod signals;

mod dev;

mod demo;

mod shutdown;

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    process::{self, ExitCode},
    sync::Arc,
};

use anyhow::{Context, Result};
use clap::Parser;
use crossbeam_channel::{never, tick};
use hotswap_core::{
    Event, Hotswap, Limits, Settings, Trial, Trust, crash, text::printable, watch::WatchSettings,
};
use hotswap_types::Plugin;

use crate::{
    console::{Console, Format},
    demo::Demo,
    options::Options,
    reports::{Checked, told},
};

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        // `{error:?}` would add a backtrace if `RUST_BACKTRACE` is set. A wrong option or path is no failure of code.
        eprintln!("Error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode> {
    let trial = Trial::at_top_of_main(probe::probe);
    crash::install_handler().context("crashes cannot be reported")?;
    let options = Options::parse();
    let trial = trial.with_timeout(options.trial_deadline);
    // SAFETY: whoever runs the demo, and types the paths, vouches for those files: they are plugins for
    // `hotswap-types`, or something that is refused.
    let trust = unsafe { Trust::vouch(options.trust.policy()) };
    if options.check {
        return check(&options, &trust, trial);
    }
    if let Some(folder) = &options.trust.avoid_crashed {
        check_records(folder).with_context(|| {
            let folder = printable(&folder.to_string_lossy());
            format!("no crash can be recorded in {folder} (--avoid-crashed)")
        })?;
    }
    // Before other threads are started, which block it, too.
    terminal::block_suspension();
    let signals = signals::handle().context("signals cannot be handled")?;
    let is_asked = !options.no_stdin;
    let terminal = (is_asked && options.events == Format::Text).then(terminal::read_lines);
    let (mut lines, mut console) = match terminal.flatten() {
        Some((lines, printer)) => (lines, Console::terminal(printer)),
        None => {
            terminal::unblock_suspension();
            let lines = is_asked.then(lines::from_stdin).transpose();
            let lines = lines.context("no thread can be started")?;
            let console = Console::streams(options.events, is_asked);
            (lines.unwrap_or_else(never), console)
        }
    };
    let settings = || Settings {
        probation: options.probation,
        probation_faults_max: options.faults,
        trial: options.trial.then_some(trial),
        // For `:versions`.
        record_sha256: true,
        limits: Limits {
            drain_deadline: options.drain_deadline,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let load = |path: &Path| Hotswap::load_with(path, &trust, settings());
    let dev = options.dev.start()?;
    let plugin = match &dev {
        None => match load(&options.plugin()) {
            Ok(plugin) => plugin,
            Err(error) => {
                console.close();
                console.say(&told(Event::from(&error)));
                return Ok(ExitCode::FAILURE);
            }
        },
        Some(dev) => match dev::first(dev, &mut lines, &signals, &console, load) {
            Some(plugin) => plugin,
            None => return Ok(ExitCode::SUCCESS),
        },
    };
    let plugin = Arc::new(plugin);
    let watch = options
        .watch
        .then(|| plugin.watch(WatchSettings::default()));

    let demo = Demo::new(&plugin, watch.transpose()?, dev, options.canary, console);
    demo.run(&tick(options.period), lines, &signals)?;
    let (events, console) = demo.close();
    shutdown::shut_down(plugin, &events, &console, options.drain_deadline);
    Ok(ExitCode::SUCCESS)
}

/// Checks that records of crashes can be made in this folder. The handler of a crash could only say that it has failed.
fn check_records(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".writable-{}", process::id()));
    File::create_new(&path)?;
    fs::remove_file(&path)
}

/// Says what is known of the plugin, or why it would be refused.
fn check(options: &Options, trust: &Trust, trial: Trial<dyn Plugin>) -> Result<ExitCode> {
    match hotswap_core::check::check(options.plugin(), trust, trial) {
        Ok(report) => {
            let text = match options.events {
                Format::Text => report.to_string(),
                Format::Json => serde_json::to_string(&Checked { report })?,
            };
            let printed = writeln!(io::stdout(), "{text}");
            printed.context("standard output cannot be written")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            Console::streams(options.events, false).say(&told(Event::from(&error)));
            Ok(ExitCode::FAILURE)
        }
    }
}
