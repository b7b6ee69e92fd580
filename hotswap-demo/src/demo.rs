//! The plugin that runs, and what happens to it: ticks, lines, signals, builds and events, one after the other.

use std::{
    cell::RefCell,
    env,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, never, select};
use hotswap_core::{
    ErrorKind, Event, EventKind, Hotswap, State, Swapped, text::printable, watch::Watch,
};
use hotswap_dev::{Build, DevLoop};
use hotswap_types::Plugin;

use crate::{
    console::Console,
    dev,
    lines::{self, Request},
    reports::{Fault, Told, Versions, told},
    signals::Signals,
};

pub(crate) struct Demo {
    // Fields are dropped in this order: whatever may swap goes first.
    dev: Option<DevLoop>,
    watch: Option<Watch>,
    plugin: Arc<Hotswap<dyn Plugin>>,
    events: Receiver<Event>,
    console: Console,
    /// The last accepted path, as it was given.
    last_given: RefCell<PathBuf>,
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
    pub(crate) fn new(
        plugin: Arc<Hotswap<dyn Plugin>>,
        watch: Option<Watch>,
        dev: Option<DevLoop>,
        console: Console,
    ) -> Self {
        Self {
            dev,
            watch,
            events: plugin.events(),
            plugin,
            console,
            last_given: RefCell::default(),
        }
    }

    pub(crate) fn run(
        &self,
        ticks: &Receiver<Instant>,
        mut lines: Receiver<Request>,
        signals: &Signals,
    ) -> Result<()> {
        let is_terminal = io::stdin().is_terminal();
        let builds = self
            .dev
            .as_ref()
            .map_or_else(never, |it| it.builds().clone());
        let swaps_by_itself = self.dev.is_some() || self.watch.is_some();
        self.say_events();
        self.console.prompt();
        let mut next = self.tick()?;
        while let Next::GoOn = next {
            next = select! {
                recv(ticks) -> _ => self.tick()?,
                recv(lines) -> line => match line {
                    Ok(request) => self.answer(request),
                    // A terminal that has gone is none any more: there is nobody left to run for.
                    Err(_) if swaps_by_itself && is_terminal == io::stdin().is_terminal() => {
                        lines = never();
                        Next::GoOn
                    }
                    Err(_) => Next::End,
                },
                recv(signals.stops) -> _ => Next::End,
                recv(signals.reloads) -> _ => self.answer(Request::Reload),
                recv(builds) -> build => match build {
                    Ok(build) => self.take(build),
                    Err(_) => Next::End,
                },
                recv(self.events) -> event => {
                    event.into_iter().for_each(|event| self.console.say(&self.told(event)));
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
        let mut text = String::new();
        for (method, answer) in answers {
            match answer {
                Ok(line) => text.extend([&*line, "\n"]),
                Err(fault) => self.report_fault(generation, &format!("{method}: {}", fault.kind)),
            }
        }
        match self.console.print(text) {
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
            Request::Swap(path) => drop(self.swap(&path)),
            Request::Reload => drop(self.swap(&self.last_accepted())),
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
            Request::Help => self.console.note(&lines::help()),
            Request::Unknown(problem) => self.console.note(&problem),
        }
        self.console.prompt();
        Next::GoOn
    }

    fn take(&self, build: Build) -> Next {
        let live = self.plugin.lease().number();
        let dev = self.dev.as_ref().expect("it has built");
        if let Some(mut built) = dev::built(build, dev, Some(live), &self.console) {
            let begin = Instant::now();
            let swapped = self.swap(&built.path);
            built.swapped_in = swapped.map(|_| begin.elapsed());
            self.console.say(&built);
        }
        Next::GoOn
    }

    /// Either way there is an event that says so.
    fn swap(&self, path: &Path) -> Option<Swapped> {
        let swapped = self.plugin.swap(path);
        self.say_events();
        swapped.ok()
    }

    /// As it was given, if that still leads there.
    fn last_accepted(&self) -> PathBuf {
        let accepted = self.plugin.last_accepted();
        let given = self.last_given.borrow();
        let absolute = env::current_dir().map(|here| here.join(&*given));
        match absolute {
            Ok(absolute) if absolute == accepted => given.clone(),
            _ => accepted,
        }
    }

    fn say_events(&self) {
        self.events
            .try_iter()
            .for_each(|event| self.console.say(&self.told(event)));
    }

    fn told(&self, event: Event) -> Told {
        let generation = event.generation;
        let told = match &self.dev {
            Some(_) => dev::told_of_build(event),
            None => told(event),
        };
        let EventKind::Accepted { path, .. } = &told.event.kind else {
            return told;
        };
        self.last_given.replace(path.clone());
        let same = self.plugin.generations().into_iter().rev().find(|it| {
            let is_earlier = generation.is_some_and(|number| it.number < number);
            is_earlier && it.sha256.is_some()
        });
        let same = same.filter(|it| it.sha256 == told.event.sha256);
        let hint = same.map(|it| format!("the same bytes as generation {}", it.number).into());
        Told { hint, ..told }
    }

    /// Lets the last plugin leave, and says what became of it.
    pub(crate) fn end(mut self, drain_deadline: Duration) {
        self.console.close();
        drop((self.dev.take(), self.watch.take()));
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
