//! Services and updates. A service is a named thread that outlives the generation that started it. With its update, a
//! candidate says which services there should be.
//!
//! # Invariants
//!
//! - What runs changes only when an update is published, and at most one update is open at a time (`Update`).
//! - Of one name, at most one service is in the plugin's code: a service that replaces another one waits until that
//!   has ended, however long that takes.
//! - A service holds its generation from before its code runs until its closure is dropped.
//!
//! Lock order: the state, a service's status, the history. Threads of services take no other lock of this crate.
//!
//! This module does not know when candidates are published, nor what a generation is.

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
    history::{ServiceChange, ServiceEnd, ServiceInfo, ServiceState},
    refs::RefInfo,
};

pub(crate) use self::update::{Update, find_update};
use self::{instance::Instance, watchdog::Watchdog};
use crate::{deadline::deadline, history::History, refs::Names};

/// The settings for services.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// A service that still runs this long after it was asked to stop is reported as stuck. It keeps running: its
    /// generation stays mapped, and the service that is to replace it waits. 5 s unless set.
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
    state: Mutex<ServicesState>,
    history: Arc<History>,
    watchdog: Watchdog,
    stop_deadline: Duration,
}

#[derive(Default)]
struct ServicesState {
    names: Names,
    /// The services that have not ended, and the last of each name, in the order in which they were started.
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

    /// A handle of a value.
    pub(crate) fn get<T: StableAbi>(&self, name: &str) -> Result<Option<Ref<T>>, String> {
        self.0.state().names.get(name)
    }

    /// Asks all services to stop, the last started first, and drops all values. With `latest`, waits for each before
    /// asking the next: until it counts as stuck, and at most until `latest`.
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
        // The values' destructors run here, after the lock is released.
        drop(names);
    }
}

impl Inner {
    fn ask_to_stop(&self, instance: &Arc<Instance>) {
        if instance.ask_to_stop() {
            self.watchdog.watch(Arc::clone(instance));
        }
    }

    /// Under the lock only a failed allocation can panic, and the state is consistent even then.
    fn state(&self) -> MutexGuard<'_, ServicesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServicesState {
    /// The services of this name that have not ended.
    fn not_ended<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Arc<Instance>> {
        let of_name = self.instances.iter().filter(move |it| it.name() == name);
        of_name.filter(|it| !it.has_ended())
    }

    /// Notes that the update that is being published mentions the name.
    fn set_mentioned(&self, name: &str) {
        let of_name = self.instances.iter().filter(|it| it.name() == name);
        of_name.for_each(|it| it.set_mentioned(true));
    }

    /// Removes ended services that need not stay listed.
    fn forget_ended(&mut self) {
        let all = self.instances.clone();
        let is_last = |it: &Arc<Instance>| {
            let last = all.iter().rfind(|other| other.name() == it.name());
            last.is_some_and(|last| Arc::ptr_eq(last, it))
        };
        self.instances
            .retain(|it| !it.has_ended() || (is_last(it) && it.stays_listed()));
    }
}
