//! A process whose plugin is replaced while it runs.
//!
//! stdout carries what the plugin says, and nothing else; stderr carries what the host says, one event a
//! line. Everything but the swaps of `--watch` happens on one thread, in one `select!` over ticks, lines, signals
//! and events; the threads behind those channels only wait for the system.

mod console;
mod lines;
mod probe;
mod reports;
mod signals;
mod trust;

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use crossbeam_channel::{Receiver, never, select, tick};
use hotswap_core::{
    ErrorKind, Event, EventKind, Hotswap, Limits, Settings, Stage, State, Trial, Trust,
    text::printable,
    watch::{Watch, WatchSettings},
};
use hotswap_types::Plugin;

use crate::{
    console::{Console, Format},
    lines::Request,
    reports::{Fault, Told, Versions},
    signals::Signals,
    trust::TrustOptions,
};

/// Runs a plugin, and replaces it by any other whose path is typed or pasted.
///
/// Each line of standard input is a path, or a command: `:reload`, `:rollback`, `:versions`, `:help`, `:quit`.
/// SIGHUP does what `:reload` does.
#[derive(Parser)]
#[command(name = "hotswap-demo", version, args_override_self = true)]
struct Options {
    /// The plugin to begin with
    plugin: PathBuf,

    /// The time between two ticks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = period)]
    period: Duration,

    /// How long an old plugin may be in use before it is reported; at the end, how long to wait for it
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    drain_deadline: Duration,

    /// Load each plugin in a child process first, and ask it something there
    #[arg(long)]
    trial: bool,

    /// Only say whether the plugin would be accepted, and what is known of it; run nothing of it in this process
    #[arg(long)]
    check: bool,

    /// How long a trial may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    trial_deadline: Duration,

    /// How long a new plugin is on probation: the one before stays loaded, and takes over again after a fault
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    probation: Option<Duration>,

    /// How many faults of a plugin on probation are put up with
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        requires = "probation"
    )]
    faults: u32,

    /// Swap whenever the file at the last accepted path has changed; the end of standard input ends nothing then
    #[arg(long)]
    watch: bool,

    /// Do not read standard input, whose end would end the demo (for a service)
    #[arg(long)]
    no_stdin: bool,

    /// What the host says on standard error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    events: Format,

    #[command(flatten)]
    trust: TrustOptions,
}

fn main() -> Result<ExitCode> {
    let trial = Trial::at_top_of_main(probe::probe);
    let options = Options::parse();
    let trial = trial.with_timeout(options.trial_deadline);
    // SAFETY: whoever runs the demo, and types the paths, vouches for those files: they are plugins for
    // `hotswap-types`, or something that is refused.
    let trust = unsafe { Trust::vouch(options.trust.policy()) };
    if options.check {
        return check(&options, &trust, trial);
    }
    let signals = signals::handle().context("signals cannot be handled")?;
    let lines = if options.no_stdin {
        never()
    } else {
        lines::from_stdin().context("no thread can be started")?
    };
    let console = Console::new(!options.no_stdin, options.events);
    let settings = Settings {
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
    let plugin = match Hotswap::load_with(&options.plugin, &trust, settings) {
        Ok(plugin) => Arc::new(plugin),
        Err(error) => {
            console.say(&told(Event::from(&error)));
            return Ok(ExitCode::FAILURE);
        }
    };
    let watch = options
        .watch
        .then(|| plugin.watch(WatchSettings::default()));

    let demo = Demo {
        events: plugin.events(),
        watch: watch.transpose()?,
        plugin,
        console,
    };
    demo.run(&tick(options.period), lines, &signals)?;
    demo.end(options.drain_deadline);
    Ok(ExitCode::SUCCESS)
}

/// Says what is known of the plugin, or why it would be refused.
fn check(options: &Options, trust: &Trust, trial: Trial<dyn Plugin>) -> Result<ExitCode> {
    match hotswap_core::check::check(&options.plugin, trust, trial) {
        Ok(report) => {
            let printed = writeln!(io::stdout(), "{report}");
            printed.context("standard output cannot be written")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            Console::new(false, options.events).say(&told(Event::from(&error)));
            Ok(ExitCode::FAILURE)
        }
    }
}

struct Demo {
    plugin: Arc<Hotswap<dyn Plugin>>,
    events: Receiver<Event>,
    watch: Option<Watch>,
    console: Console,
}

type Question = fn(&dyn Plugin) -> String;

/// The methods that each tick calls, and the line that it prints of each.
const QUESTIONS: [(&str, Question); 2] = [
    ("some_data", |plugin| {
        format!("some_data = {:?}", plugin.some_data())
    }),
    ("some_fn", |plugin| printable(&plugin.some_fn(7))),
];

/// Whether there is more to do.
enum Next {
    GoOn,
    End,
}

impl Demo {
    fn run(
        &self,
        ticks: &Receiver<std::time::Instant>,
        mut lines: Receiver<Request>,
        signals: &Signals,
    ) -> Result<()> {
        let is_terminal = io::stdin().is_terminal();
        self.say_events();
        self.console.prompt();
        let mut next = self.tick()?;
        while let Next::GoOn = next {
            next = select! {
                recv(ticks) -> _ => self.tick()?,
                recv(lines) -> line => match line {
                    Ok(request) => {
                        self.console.line_was_entered();
                        self.answer(request)
                    }
                    // A terminal that has gone is none any more: there is nobody left to run for.
                    Err(_) if self.watch.is_some() && is_terminal == io::stdin().is_terminal() => {
                        lines = never();
                        Next::GoOn
                    }
                    Err(_) => Next::End,
                },
                recv(signals.stops) -> _ => {
                    self.console.was_interrupted();
                    Next::End
                }
                recv(signals.reloads) -> _ => self.answer(Request::Reload),
                recv(self.events) -> event => {
                    event.into_iter().for_each(|event| self.console.say(&told(event)));
                    self.console.prompt_again();
                    Next::GoOn
                }
            };
        }
        Ok(())
    }

    /// Everything that a tick says comes from one generation. A reader that has gone away ends the demo.
    fn tick(&self) -> Result<Next> {
        let lease = self.plugin.lease();
        let answers = QUESTIONS.map(|(method, question)| (method, lease.call(question)));
        let generation = lease.number();
        drop(lease);
        self.console.make_way();
        let mut text = String::new();
        for (method, answer) in answers {
            match answer {
                Ok(line) => text.extend([&*line, "\n"]),
                Err(fault) => self.report_fault(generation, &format!("{method}: {fault}")),
            }
        }
        match io::stdout().lock().write_all(text.as_bytes()) {
            Ok(()) => Ok(Next::GoOn),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Next::End),
            Err(error) => Err(error).context("standard output cannot be written"),
        }
    }

    fn report_fault(&self, generation: u64, message: &str) {
        self.console.say(&Fault {
            generation,
            message: printable(message),
        });
        // What that may lead to is an event.
        let _ = self.plugin.report_fault(generation, message);
    }

    fn answer(&self, request: Request) -> Next {
        match request {
            Request::Nothing => return Next::GoOn,
            Request::Quit => return Next::End,
            Request::Swap(path) => self.swap(&path),
            Request::Reload => self.swap(&self.plugin.last_accepted()),
            Request::Rollback => {
                let back = self.plugin.rollback();
                // What was done, or refused, is an event.
                self.say_events();
                if let Err(error) = &back
                    && matches!(error.kind(), ErrorKind::NoEarlierGeneration)
                {
                    self.console
                        .note("no rollback: there is no earlier plugin to go back to");
                }
            }
            Request::Versions => {
                self.say_events();
                self.console.say(&Versions {
                    generations: self.plugin.generations(),
                    refused: self.plugin.refused(),
                });
            }
            Request::Help => self.console.note(lines::HELP),
            Request::Unknown(problem) => self.console.note(&problem),
        }
        self.console.prompt();
        Next::GoOn
    }

    fn swap(&self, path: &Path) {
        // Either way there is an event that says so.
        drop(self.plugin.swap(path));
        self.say_events();
    }

    fn say_events(&self) {
        self.events
            .try_iter()
            .for_each(|event| self.console.say(&told(event)));
    }

    /// Lets the last plugin leave, and says what became of it.
    fn end(self, drain_deadline: Duration) {
        self.console.make_way();
        drop(self.watch);
        let plugin = Arc::into_inner(self.plugin).expect("only the watch had it, too");
        let mapped = plugin.shutdown(drain_deadline);
        for event in self
            .events
            .try_iter()
            .filter(|event| !matches!(event.kind, EventKind::Held { .. }))
        {
            self.console.say(&told(event));
        }
        for generation in mapped {
            if let State::Draining { held_by } = generation.state {
                let by: Vec<_> = held_by.iter().map(ToString::to_string).collect();
                let by = by.join(", ");
                self.console
                    .note(&format!("held generation {}: {by}", generation.number));
            }
        }
    }
}

/// As the demo says it: settings are options, and a plugin that is not there may only not have been built yet.
fn told(event: Event) -> Told {
    let hint = match &event.kind {
        EventKind::Refused {
            path,
            stage: Stage::Open,
            ..
        } if !path.exists() => build_hint(path),
        _ => None,
    };
    Told {
        event: trust::with_option(event),
        hint,
    }
}

fn build_hint(path: &Path) -> Option<&'static str> {
    let ends_with = |end| path.ends_with(end);
    if ends_with("target/debug/libplugin.so") {
        Some("build it with `cargo build`")
    } else if ends_with("target/release/libplugin.so") {
        Some("build it with `cargo build --release`")
    } else {
        None
    }
}

fn period(text: &str) -> Result<Duration> {
    let period = humantime::parse_duration(text)?;
    anyhow::ensure!(!period.is_zero(), "ticks need some time between them");
    Ok(period)
}
