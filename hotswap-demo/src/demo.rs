//! The plugin that runs, and what happens to it: ticks, lines, signals, builds and events, one after the other.

use std::{
    cell::{Cell, RefCell},
    env,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, never, select};
use hotswap_core::{
    ErrorKind, Event, EventKind, Hotswap, Swapped,
    canary::{Canary, Decision, Share, Side},
    text::printable,
    watch::Watch,
};
use hotswap_dev::{Build, DevLoop};
use hotswap_types::Plugin;

use crate::{
    console::Console,
    dev,
    lines::{self, Request},
    reports::{Answering, Fault, SideFigures, Told, Versions, told},
    signals::Signals,
};

pub(crate) struct Demo<'a> {
    // Fields are dropped in this order: whatever may swap goes first.
    dev: Option<DevLoop>,
    watch: Option<Watch>,
    /// The candidate that nobody has decided on yet.
    canary: RefCell<Option<Canary<'a, dyn Plugin>>>,
    plugin: &'a Arc<Hotswap<dyn Plugin>>,
    /// With which share of the ticks a candidate begins as a canary. `None`: it is swapped in.
    share: Option<Share>,
    events: Receiver<Event>,
    console: Console,
    /// The last accepted path, as it was given.
    last_given: RefCell<PathBuf>,
    /// How many ticks there were.
    ticks: Cell<u64>,
    /// The generation that the last tick has called.
    answering: Cell<u64>,
    /// The last canary whose beginning was said.
    begun: Cell<u64>,
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

impl<'a> Demo<'a> {
    pub(crate) fn new(
        plugin: &'a Arc<Hotswap<dyn Plugin>>,
        watch: Option<Watch>,
        dev: Option<DevLoop>,
        share: Option<Share>,
        console: Console,
    ) -> Self {
        Self {
            dev,
            watch,
            canary: RefCell::default(),
            events: plugin.events(),
            plugin,
            share,
            console,
            last_given: RefCell::default(),
            ticks: Cell::default(),
            answering: Cell::default(),
            begun: Cell::default(),
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

    /// Everything that a tick says comes from one generation: while there is a canary, from the one that has the tick's
    /// number. A reader that has gone away ends the demo.
    fn tick(&self) -> Result<Next> {
        let number = self.ticks.get() + 1;
        self.ticks.set(number);
        let chosen = self.plugin.choose(&number);
        let answers = QUESTIONS.map(|(method, question)| (method, chosen.call(question)));
        let (generation, side) = (chosen.generation(), chosen.side());
        drop(chosen);
        let before = self.answering.replace(generation);
        if before != generation && self.canary.borrow().is_some() {
            self.console.say(&Answering { generation, side });
        }
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
            Request::Swap(path) => self.swap_as_asked(&path),
            Request::Reload => self.swap_as_asked(&self.last_accepted()),
            Request::Rollback => {
                let back = self.plugin.rollback();
                // What was done, or refused, is an event.
                self.say_events();
                if let Err(error) = &back
                    && matches!(error.kind(), ErrorKind::NoEarlierGeneration)
                {
                    let what_to_do = self
                        .undecided()
                        .unwrap_or_else(|| "give the path of the one that you want".to_owned());
                    self.console.note(&format!(
                        "no rollback: no plugin before this one is kept; {what_to_do}"
                    ));
                }
            }
            Request::Versions => {
                self.say_events();
                self.console.say(&Versions {
                    generations: self.plugin.generations(),
                    refused: self.plugin.refused(),
                });
            }
            Request::Promote => self.decide(Canary::promote),
            Request::Abandon => self.decide(|canary| canary.abandon("by hand")),
            Request::Share(share) => self.with_canary(|canary| self.set_share(canary, share)),
            Request::Figures => self.with_canary(|canary| {
                self.console.say(&SideFigures {
                    generation: canary.generation(),
                    share: canary.share(),
                    candidate: canary.figures(Side::Candidate),
                    live: canary.figures(Side::Live),
                });
            }),
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

    /// A person decides on one candidate before there is the next.
    fn swap_as_asked(&self, path: &Path) {
        match self.undecided() {
            Some(what_to_do) => self.console.note(&what_to_do),
            None => drop(self.swap(path)),
        }
    }

    /// What to do before there can be another plugin, if there is a canary.
    fn undecided(&self) -> Option<String> {
        let canary = self.canary.borrow();
        let generation = canary.as_ref()?.generation();
        Some(format!(
            "generation {generation} is a canary: `:promote` or `:abandon` it first"
        ))
    }

    /// Either way there is an event that says so. `None`: it was refused, or is a canary.
    fn swap(&self, path: &Path) -> Option<Swapped> {
        let swapped = match self.share {
            None => self.plugin.swap(path).ok(),
            Some(share) => {
                self.start_canary(path, share);
                None
            }
        };
        self.say_events();
        swapped
    }

    /// A newer build takes the place of a canary that is undecided.
    fn start_canary(&self, path: &Path, share: Share) {
        // If it is refused, what it would replace stays.
        let Ok(prepared) = self.plugin.prepare(path) else {
            return;
        };
        if let Some(before) = self.canary.take() {
            before.abandon("a newer build replaces it");
        }
        self.canary.replace(prepared.start_canary(share).ok());
    }

    fn decide(&self, decide: impl FnOnce(&Canary<'a, dyn Plugin>) -> Decision) {
        // What has become of it is an event, which is told with the canary's figures.
        self.with_canary(|canary| drop(decide(canary)));
        self.canary.take();
    }

    fn set_share(&self, canary: &Canary<'a, dyn Plugin>, share: Share) {
        if share == canary.share() {
            let generation = canary.generation();
            self.console.note(&format!(
                "generation {generation} gets {share} of the calls already"
            ));
        } else {
            // An event says so.
            canary.set_share(share);
        }
    }

    fn with_canary(&self, act: impl FnOnce(&Canary<'a, dyn Plugin>)) {
        match (&*self.canary.borrow(), self.share) {
            (Some(canary), _) => act(canary),
            (None, Some(_)) => self.console.note("there is no canary"),
            (None, None) => self
                .console
                .note("there is no canary; with `--canary 10%` each next plugin begins as one"),
        }
        self.say_events();
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
        let hints = match &told.event.kind {
            EventKind::Accepted { path, .. } => {
                self.last_given.replace(path.clone());
                [
                    self.what_to_do_first(&told.event),
                    self.earlier_with_same_bytes(&told.event),
                    self.figures_of(generation),
                ]
            }
            EventKind::Canary { share, .. } => {
                let begins = generation != Some(self.begun.replace(generation.unwrap_or_default()));
                let same = begins.then(|| self.earlier_with_same_bytes(&told.event));
                let is_without = *share == Share::NONE;
                let none =
                    is_without.then(|| "it gets none until you type `:share 10%`".to_owned());
                [none, same.flatten(), None]
            }
            _ => return told,
        };
        let hints: Vec<_> = hints.into_iter().flatten().collect();
        let hint = (!hints.is_empty()).then(|| hints.join("; ").into());
        Told { hint, ..told }
    }

    fn what_to_do_first(&self, event: &Event) -> Option<String> {
        let dev = self.dev.as_ref().filter(|_| event.generation == Some(1))?;
        let package = dev.package();
        Some(format!(
            "change {package} and save it; `help` lists the commands"
        ))
    }

    fn earlier_with_same_bytes(&self, event: &Event) -> Option<String> {
        let same = self.plugin.generations().into_iter().rev().find(|it| {
            let is_earlier = event.generation.is_some_and(|number| it.number < number);
            is_earlier && it.sha256.is_some()
        });
        let same = same.filter(|it| it.sha256 == event.sha256)?;
        Some(format!("the same bytes as generation {}", same.number))
    }

    /// What its calls were like, if this generation was a canary.
    fn figures_of(&self, generation: Option<u64>) -> Option<String> {
        let canary = self.canary.borrow();
        let canary = canary
            .as_ref()
            .filter(|it| Some(it.generation()) == generation)?;
        let [candidate, live] = [Side::Candidate, Side::Live].map(|side| canary.figures(side));
        Some(format!("it had {candidate}; the live side had {live}"))
    }

    /// Nothing is asked and nothing is swapped any more, and a canary is given up.
    pub(crate) fn close(mut self) -> (Receiver<Event>, Console) {
        self.console.close();
        drop((self.dev.take(), self.watch.take()));
        self.say_events();
        if let Some(canary) = self.canary.take() {
            canary.abandon("the demo ends");
        }
        (self.events, self.console)
    }
}
