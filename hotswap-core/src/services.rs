//! Services: named threads that outlive the generation that has started them; and the update, by which a candidate
//! says which of them there should be.
//!
//! # Invariants
//!
//! - What runs changes only when an update is published, of which no two are open at once (`Update`).
//! - Of one name, at most one service is in the plugin's code: one that takes the place of another waits until that
//!   has ended, however long that takes.
//! - A service has a hold on its generation from before its code runs until its closure is dropped.
//!
//! Locks are taken in this order: the state, a service's status, the history. Threads of services take no other
//! of ours.
//!
//! It does not know when candidates are published, nor what a generation is.

mod instance;
mod update;
mod watchdog;

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use abi_stable::StableAbi;
use hotswap_sdk::Ref;

pub use crate::{
    history::{ServiceEnd, ServiceInfo, ServiceNews, ServiceState},
    refs::RefInfo,
};

pub(crate) use self::update::{Update, find_update};
use self::{instance::Instance, watchdog::Watchdog};
use crate::{deadline::deadline, history::History, refs::Names};

/// How services are dealt with.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// After this time a service that was asked to stop and still runs is reported as stuck. It is left to run:
    /// its generation stays mapped, and what is to take its place waits. 5 s unless set.
    pub stop_deadline: Duration,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            stop_deadline: Duration::from_secs(5),
        }
    }
}

/// The services and values of one swap point.
pub(crate) struct Services(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    history: Arc<History>,
    watchdog: Watchdog,
    stop_deadline: Duration,
}

#[derive(Default)]
struct State {
    names: Names,
    /// In the order in which they were started: those that have not ended, and the last of each name.
    instances: Vec<Arc<Instance>>,
    /// Whether an update is open.
    updating: bool,
}

impl Services {
    pub(crate) fn new(settings: &ServiceSettings, history: &Arc<History>) -> std::io::Result<Self> {
        let stop_deadline = settings.stop_deadline;
        Ok(Self(Arc::new(Inner {
            state: Mutex::default(),
            history: Arc::clone(history),
            watchdog: Watchdog::start(Arc::clone(history), stop_deadline)?,
            stop_deadline,
        })))
    }

    /// The services, in the order in which they were started.
    pub(crate) fn list(&self) -> Vec<ServiceInfo> {
        let state = self.0.state();
        state.instances.iter().filter_map(|it| it.info()).collect()
    }

    /// The values and channels, by name.
    pub(crate) fn refs(&self) -> Vec<RefInfo> {
        self.0.state().names.list()
    }

    /// A share of a value.
    pub(crate) fn get<T: StableAbi>(&self, name: &str) -> Result<Option<Ref<T>>, String> {
        self.0.state().names.get(name)
    }

    /// Asks all to stop, the last that was started first, and lets go of all values. With a latest time,
    /// each is waited for before the next is asked, until it counts as stuck, and at most until then.
    pub(crate) fn close(&self, latest: Option<Instant>) {
        let instances = self.0.state().instances.clone();
        for instance in instances.iter().rev() {
            self.0.ask_to_stop(instance);
            if let Some(latest) = latest {
                let until = latest.min(deadline(Instant::now(), self.0.stop_deadline));
                instance.wait(until, &self.0.history);
            }
        }
        let names = mem::take(&mut self.0.state().names);
        // Their destructors run here, when the lock is free again.
        drop(names);
    }
}

impl Inner {
    fn ask_to_stop(&self, instance: &Arc<Instance>) {
        if instance.ask_to_stop() {
            self.watchdog.watch(Arc::clone(instance));
        }
    }

    /// A panic under the lock could only come from a failed allocation; the state is whole even then.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Those of the name that have not ended.
    fn going_on<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Arc<Instance>> {
        let of_name = self.instances.iter().filter(move |it| it.name() == name);
        of_name.filter(|it| !it.has_ended())
    }

    /// The update that is being published has something to say of the name.
    fn set_mentioned(&self, name: &str) {
        let of_name = self.instances.iter().filter(|it| it.name() == name);
        of_name.for_each(|it| it.set_mentioned(true));
    }

    /// Forgets what has ended and is of no interest any more.
    fn forget_ended(&mut self) {
        let all = self.instances.clone();
        let is_last = |it: &Arc<Instance>| {
            let last = all.iter().rfind(|other| other.name() == it.name());
            last.is_some_and(|last| Arc::ptr_eq(last, it))
        };
        self.instances
            .retain(|it| !it.has_ended() || (is_last(it) && it.is_worth_a_line()));
    }
}
