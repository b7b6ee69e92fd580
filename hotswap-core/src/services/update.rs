//! An update: what a candidate says of services and values, before it is published.

use std::{collections::BTreeMap, sync::Arc, thread::JoinHandle};

use crossbeam_channel::{Sender, bounded};
use hotswap_sdk::{
    RestartPolicy, UpdateFn,
    host::{Body, Host, SYMBOL},
};

use super::{
    Inner, Services, ServicesState,
    instance::{Instance, Run},
};
use crate::{
    error::{Error, ErrorKind, Result},
    holder::Holder,
    image::Image,
    refs::{Changes, Hold, Names, ReplacedValues},
    symbol, threads,
};

/// What a candidate's update has asked for. Dropping it discards all of that.
///
/// A swap point has at most one. While it exists, nobody else changes which services run and which values have names,
/// although services may end.
pub(crate) struct Update {
    services: Arc<Inner>,
    /// `Some` until it is published.
    requested: Option<Requested>,
}

struct Requested {
    /// Whether the candidate exports an update.
    has_update: bool,
    services: Arc<Inner>,
    // Dropped in this order: the closures may hold handles of values.
    steps: Steps,
    changes: Changes,
}

/// What to do with services, in the order in which the update first mentioned them.
#[derive(Default)]
struct Steps {
    order: Vec<String>,
    by_name: BTreeMap<String, Step>,
}

enum Step {
    LeaveAlone,
    Stop,
    Begin(Begin),
}

struct Begin {
    /// Whether running services of the name are to stop first.
    restart: bool,
    policy: RestartPolicy,
    body: Body,
    thread: ParkedThread,
}

/// A parked thread that has run no code of a plugin. It exits unless the update is published.
struct ParkedThread {
    begin: Option<Sender<Run>>,
    thread: Option<JoinHandle<()>>,
}

impl Services {
    /// Runs the candidate's update on the calling thread, if it has one. The caller must keep the image mapped until
    /// the result is dropped or published. Names in `replaced` mean the values in there again.
    ///
    /// No lock is held while the candidate's code runs.
    pub(crate) fn ask(&self, image: &Image, replaced: Names) -> Result<Update> {
        let path = &image.origin().given;
        // Checked first: the inspection maps the file, and would report a lack of mappings as a fault of the file.
        threads::check().map_err(|error| Error::no_thread(path, error))?;
        let function = find_update(image)?;
        let update = Update::open(&self.0, function.is_some(), replaced);
        let mut update = update.map_err(|kind| Error::new(path, kind))?;
        if let (Some(function), Some(requested)) = (function, &mut update.requested) {
            let answer = function.run(requested);
            answer.map_err(|fault| {
                let reason = fault.to_string();
                Error::new(path, ErrorKind::Update { reason })
            })?;
        }
        Ok(update)
    }
}

/// The function that the candidate exports with `hotswap_sdk::update!`, if any. Runs no code of the candidate.
pub(crate) fn find_update(image: &Image) -> Result<Option<UpdateFn>> {
    symbol::find_optional(image, SYMBOL)
}

impl Update {
    fn open(services: &Arc<Inner>, has_update: bool, replaced: Names) -> Result<Self, ErrorKind> {
        let mut state = services.state();
        if state.updating {
            let what = "the update of another candidate is under way, or waits to be published";
            return Err(ErrorKind::Busy { what });
        }
        state.updating = true;
        Ok(Self {
            services: Arc::clone(services),
            requested: Some(Requested {
                has_update,
                services: Arc::clone(services),
                steps: Steps::default(),
                changes: Changes::new(state.names.clone(), replaced),
            }),
        })
    }

    /// Does what the update asked for, on behalf of generation `generation`. Nothing in here can fail.
    pub(crate) fn publish(
        mut self,
        generation: u64,
        hold: &dyn Fn(Holder) -> Hold,
    ) -> ReplacedValues {
        let requested = self.requested.take().expect("published once");
        let mut state = self.services.state();
        let changes = requested.changes;
        let replaced = changes.publish(&mut state.names, generation, hold);
        if requested.has_update {
            for instance in &state.instances {
                instance.set_mentioned(false);
            }
        }
        let Steps { order, mut by_name } = requested.steps;
        for name in order {
            match by_name.remove(&name) {
                Some(Step::LeaveAlone) => state.set_mentioned(&name),
                Some(Step::Stop) => self.services.stop_all(&state, &name),
                Some(Step::Begin(begin)) => {
                    if begin.restart {
                        self.services.stop_all(&state, &name);
                    }
                    let hold = hold(Holder::Service { name: name.clone() });
                    begin.begin(&self.services, &mut state, name, generation, hold);
                }
                None => {}
            }
        }
        state.forget_ended();
        drop(state);
        replaced
    }
}

impl Drop for Update {
    fn drop(&mut self) {
        // Dropping closures and values may run code of the candidate, so that comes first.
        drop(self.requested.take());
        self.services.state().updating = false;
    }
}

impl Inner {
    fn stop_all(&self, state: &ServicesState, name: &str) {
        state.not_ended(name).for_each(|it| self.ask_to_stop(it));
    }
}

impl Begin {
    fn begin(
        self,
        services: &Arc<Inner>,
        state: &mut ServicesState,
        name: String,
        generation: u64,
        hold: Hold,
    ) {
        let before = state.not_ended(&name).cloned().collect();
        let (instance, ended) = Instance::new(name, generation);
        state.set_mentioned(instance.name());
        state.instances.push(Arc::clone(&instance));
        self.thread.begin(Run {
            body: self.body,
            policy: self.policy,
            before,
            instance,
            services: Arc::downgrade(services),
            history: Arc::clone(&services.history),
            hold,
            ended,
        });
    }
}

impl Host for Requested {
    type Values = Changes;

    fn values(&mut self) -> &mut Changes {
        &mut self.changes
    }

    fn start(
        &mut self,
        name: &str,
        policy: RestartPolicy,
        restart: bool,
        body: Body,
    ) -> Result<(), String> {
        let is_stopped = matches!(self.steps.by_name.get(name), Some(Step::Stop));
        if !restart && self.is_running(name) {
            self.steps.leave_alone_unless_mentioned(name);
            return Ok(());
        }
        let replaces = match self.steps.by_name.get(name) {
            Some(Step::Begin(begin)) => begin.restart,
            _ => is_stopped,
        };
        let begin = Begin {
            restart: restart || replaces,
            policy,
            body,
            thread: ParkedThread::start(name)?,
        };
        self.steps.set(name, Step::Begin(begin));
        Ok(())
    }

    fn stop(&mut self, name: &str) {
        self.steps.set(name, Step::Stop);
    }
}

impl Requested {
    /// Whether it will be running when the update is published, as far as can be known now.
    fn is_running(&self, name: &str) -> bool {
        match self.steps.by_name.get(name) {
            Some(Step::LeaveAlone | Step::Begin(_)) => true,
            Some(Step::Stop) => false,
            None => {
                let state = self.services.state();
                state.not_ended(name).any(|it| it.is_to_run())
            }
        }
    }
}

impl Steps {
    fn set(&mut self, name: &str, step: Step) {
        if self.by_name.insert(name.to_owned(), step).is_none() {
            self.order.push(name.to_owned());
        }
    }

    /// Leaves the service alone, unless the update has said something of it already.
    fn leave_alone_unless_mentioned(&mut self, name: &str) {
        if !self.by_name.contains_key(name) {
            self.set(name, Step::LeaveAlone);
        }
    }
}

impl ParkedThread {
    /// Starts the thread, so that nothing can fail when the update is published.
    fn start(name: &str) -> Result<Self, String> {
        let (begin, begun) = bounded::<Run>(1);
        let thread = threads::start(name, move || begun.into_iter().for_each(Run::run));
        let thread = thread
            .map_err(|error| format!("service {name:?}: no thread can be started: {error}"))?;
        Ok(Self {
            begin: Some(begin),
            thread: Some(thread),
        })
    }

    fn begin(mut self, run: Run) {
        if let Some(begin) = self.begin.take() {
            // The thread waits for exactly this.
            drop(begin.send(run));
        }
        self.thread = None;
    }
}

impl Drop for ParkedThread {
    /// Lets the thread exit, and waits for it.
    fn drop(&mut self) {
        drop(self.begin.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}
