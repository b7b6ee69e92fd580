//! A swap point before its first generation.

use std::{
    path::Path,
    process,
    sync::{Arc, Mutex},
};

use hotswap_cell::Cell;
use hotswap_sdk::host::Interface;

use super::{
    Generation, Hotswap,
    accepted::{Accepted, LastAccepted},
    candidacy::ActiveCanary,
    hung_calls::HungCallWatchdog,
    pipeline::Pipeline,
    reaper::Reaper,
    settings::Settings,
    succession::Succession,
};
use crate::{
    error::{Error, Result},
    history::{History, Metrics, Phases, PublishKind, Published},
    image,
    services::Services,
    trust::Trust,
};

/// A swap point that has its threads, and no generation yet.
pub(super) struct EmptySwapPoint<I: Interface + ?Sized> {
    pub(super) pipeline: Pipeline<I>,
    pub(super) history: Arc<History>,
    pub(super) succession: Succession<I::Live>,
    pub(super) services: Option<Services>,
    pub(super) reaper: Reaper<I::Live>,
    pub(super) hung_calls: Option<HungCallWatchdog>,
}

impl<I: Interface + ?Sized> EmptySwapPoint<I> {
    /// Starts the threads. `path` is for the error, and for the name if the settings have none. Without a trust,
    /// nothing is ever loaded.
    pub(super) fn start(
        path: &Path,
        trust: Option<&Trust>,
        settings: &Settings<I>,
    ) -> Result<Self> {
        hotswap_cell::set_quiescence_callback(image::detach_current_thread_from_retired);
        image::prepare_for_forks();
        let limits = &settings.limits;
        let file = path.file_name().unwrap_or(path.as_os_str());
        let name = settings.name.as_deref();
        let name = name.map_or_else(|| file.to_string_lossy(), Into::into);
        let metrics = Metrics::new(&name);
        let pipeline = Pipeline::new(trust, settings, &name, &metrics);
        let history = Arc::new(History::new(limits.lengths(), metrics));
        let reaper = Reaper::start(path, Arc::clone(&history), limits)?;
        let services = settings.services.as_ref();
        let services = services.map(|settings| Services::new(settings, &history));
        let services = services.transpose();
        let hung_calls = settings.hung_call_timeout;
        let hung_calls =
            hung_calls.map(|timeout| HungCallWatchdog::start(Arc::clone(&history), timeout));
        let hung_calls = hung_calls.transpose();
        Ok(Self {
            pipeline,
            history,
            succession: Succession::new(
                settings.probation,
                settings.probation_faults_max,
                settings.rollback_copies_max,
            ),
            services: services.map_err(|error| Error::no_thread(path, error))?,
            reaper,
            hung_calls: hung_calls.map_err(|error| Error::no_thread(path, error))?,
        })
    }

    /// Makes `first` the live generation. Nothing in here can fail.
    pub(super) fn publish(self, first: Generation<I::Live>, phases: Phases) -> Hotswap<I> {
        let (number, polls) = (first.number, first.polls_id());
        let (origin, image) = (first.image.origin(), first.image.image());
        let published = Published::of(number, origin, image, phases, PublishKind::Candidate);
        let accepted = Accepted::new(number, &first.image);
        let cell = Cell::new(first);
        let first = cell.lease();
        first.set_self_lease(first.self_lease());
        drop(first);
        self.history.published(published).deliver();
        let it = Hotswap {
            cell,
            pipeline: self.pipeline,
            history: self.history,
            succession: Arc::new(self.succession),
            accepted: LastAccepted::new(accepted),
            canary: ActiveCanary::default(),
            services: self.services,
            swapping: Mutex::new(()),
            reaper: Some(self.reaper),
            hung_calls: self.hung_calls,
            process: process::id(),
        };
        it.watch_calls(number, polls);
        it
    }
}
