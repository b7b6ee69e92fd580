//! The pipeline of a candidate, up to *publish*. Every step that can fail is here; a refused candidate leaves nothing
//! behind.

use std::{
    panic,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use hotswap_cell::Cell;
use hotswap_sdk::{
    Config,
    host::{HostServices, Interface},
};
use tracing::{debug_span, info_span};

use super::{
    Generation, Probe, call_future::FutureCount, code::Code, lease::Register, reaper::Reaper,
    settings::Settings,
};
use crate::{
    contained::ContainedSpan,
    error::{Error, ErrorKind, Result},
    escape::Escaped,
    given::GivenPath,
    history::{Metrics, Phases},
    image::{Image, Opener, find_libraries},
    interface,
    logs::Logs,
    module,
    objects::Objects,
    refs::Names,
    services::{Services, Update},
    stage::{Kept, Staged, StagingTimes},
    threads,
    trial::{self, Trial},
    trust::{Policy, Trust},
};

/// The checks that every candidate of a swap point has to pass.
pub(super) struct Pipeline<I: Interface + ?Sized> {
    /// None: nothing is loaded.
    trust: Option<Trust>,
    no_policy: Policy,
    trial: Option<Trial<I>>,
    probe: Option<Probe<I>>,
    host_services: HostServices,
    record_leases: bool,
    record_sha256: bool,
    watch_calls: bool,
    /// The name of the swap point in what its plugins log.
    name: Arc<str>,
    metrics: Metrics,
}

/// Where a candidate comes from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// A file, and the configuration that its plugin gets.
    Path(&'a GivenPath, &'a Config),
    /// A copy of a generation that was live, with the configuration that it had.
    Kept(&'a Kept),
    /// The same, with another configuration.
    Reconfigured(&'a Kept, &'a Config),
}

/// A plugin that can be published.
pub(super) struct Publishable<M> {
    module: M,
    pub(super) image: Image,
    /// Its update, if services are turned on. Dropped before the image is retired.
    pub(super) update: Option<Update>,
    /// How long each phase took so far.
    pub(super) phases: Phases,
    objects: Arc<Objects>,
    pub(super) logs: Arc<Logs>,
}

impl<I: Interface + ?Sized> Pipeline<I> {
    pub(super) fn new(
        trust: Option<&Trust>,
        settings: &Settings<I>,
        name: &str,
        metrics: &Metrics,
    ) -> Self {
        Self {
            name: Arc::from(name),
            trust: trust.cloned(),
            no_policy: Policy::default(),
            trial: settings.trial,
            probe: settings.probe.clone(),
            host_services: settings.host_services.clone(),
            record_leases: settings.record_leases,
            record_sha256: settings.record_sha256,
            watch_calls: settings.hung_call_timeout.is_some(),
            metrics: metrics.clone(),
        }
    }

    pub(super) fn policy(&self) -> &Policy {
        self.trust.as_ref().map_or(&self.no_policy, Trust::policy)
    }

    /// Runs a candidate through the pipeline. `live` holds the running generation, if there is one.
    pub(super) fn prepare(
        &self,
        source: Source<'_>,
        live: Option<&Cell<Generation<I::Live>>>,
        services: Option<&Services>,
        reaper: &Reaper<I::Live>,
    ) -> Result<Publishable<I::Live>> {
        let path = source.path();
        let span = prepare_span(path);
        let stage = || {
            ContainedSpan::new(|| debug_span!(target: "hotswap", "stage"))
                .in_scope(|| self.stage(source))
        };
        let opener = || reaper.opener(path);
        let opened = stage_and_load(&span, stage, opener, |staged, opener| {
            self.open(staged, opener, reaper)
        })?;
        if self.probe.is_none() && services.is_none() {
            return Ok(opened);
        }
        let mut opened = Some(opened);
        let asked = on_short_thread(path, || {
            let candidate = opened.take().expect("nobody else takes it");
            span.in_scope(|| self.probe_and_update(path, candidate, live, services, reaper))
        });
        if let Some(candidate) = opened {
            // No thread was started. The image has run code by now.
            candidate.discard(reaper);
        }
        asked?
    }

    /// Opens the image and checks its root module. This runs code of the candidate alone, on the thread of `opener`.
    fn open(
        &self,
        (staged, phases): (Staged, Phases),
        opener: &Opener,
        reaper: &Reaper<I::Live>,
    ) -> Result<Publishable<I::Live>> {
        let started = Instant::now();
        let mut image = ContainedSpan::new(|| debug_span!(target: "hotswap", "link"))
            .in_scope(|| Image::open(staged, opener, self.policy()))?;
        let link = started.elapsed();

        let started = Instant::now();
        let span = ContainedSpan::new(|| debug_span!(target: "hotswap", "check"));
        let checked = span.in_scope(|| {
            image
                .check_libraries()
                .and_then(|()| interface::open::<I>(&image, &self.host_services, &self.name))
        });
        let opened = match checked {
            Ok(opened) => opened,
            Err(error) => {
                reaper.dispose(image.retire());
                return Err(error);
            }
        };
        let check = started.elapsed();
        Ok(Publishable {
            module: opened.live,
            objects: opened.objects,
            logs: opened.logs,
            image,
            update: None,
            phases: Phases {
                link,
                check,
                ..phases
            },
        })
    }

    /// Runs the host's probe, then the candidate's update. Both may call other plugins.
    fn probe_and_update(
        &self,
        path: &Path,
        mut candidate: Publishable<I::Live>,
        live: Option<&Cell<Generation<I::Live>>>,
        services: Option<&Services>,
        reaper: &Reaper<I::Live>,
    ) -> Result<Publishable<I::Live>> {
        let started = Instant::now();
        candidate.objects.begin_probe();
        let answer = ContainedSpan::new(|| debug_span!(target: "hotswap", "probe"))
            .in_scope(|| self.probe(&candidate.module, live));
        if let Err(reason) = interface::check_objects(&candidate.objects) {
            // Whoever has the objects may use them at any time.
            reaper.keep(candidate.image);
            return Err(Error::new(path, ErrorKind::Probe { reason }));
        }
        if let Err(kind) = answer {
            candidate.discard(reaper);
            return Err(Error::new(path, kind));
        }
        candidate.phases.probe = started.elapsed();

        let started = Instant::now();
        let span = ContainedSpan::new(|| debug_span!(target: "hotswap", "update"));
        let update = span.in_scope(|| {
            services
                .map(|it| it.ask(&candidate.image, Names::default()))
                .transpose()
        });
        match update {
            Ok(update) => candidate.update = update,
            Err(error) => {
                candidate.discard(reaper);
                return Err(error);
            }
        }
        candidate.phases.update = started.elapsed();
        Ok(candidate)
    }

    /// Runs the steps before any code of the candidate runs in this process.
    fn stage(&self, source: Source<'_>) -> Result<(Staged, Phases)> {
        let (mut staged, mut times) = match source {
            Source::Path(path, _) => {
                let no_trust = || Error::new(path, ErrorKind::NoTrust);
                let trust = self.trust.as_ref().ok_or_else(no_trust)?;
                Staged::prepare(path, module::EXPORT, trust)?
            }
            Source::Kept(kept) | Source::Reconfigured(kept, _) => {
                Staged::again(kept, module::EXPORT)?
            }
        };
        if let Source::Path(_, config) | Source::Reconfigured(_, config) = source {
            staged.set_config(config.clone());
        }
        if self.record_sha256 {
            let started = Instant::now();
            staged.hash()?;
            times.inspect += started.elapsed();
        }
        // A generation that was live has run here already; a trial of the same would add nothing.
        let trial = self.trial.filter(|_| !matches!(source, Source::Kept(_)));
        finish_staging(staged, times, self.policy(), trial)
    }

    /// Saves the serial number of a candidate that is about to be published. The last step that can refuse it.
    pub(super) fn keep_serial(
        &self,
        candidate: Publishable<I::Live>,
        reaper: &Reaper<I::Live>,
    ) -> Result<Publishable<I::Live>> {
        match candidate.image.origin().keep_serial(self.policy()) {
            Ok(()) => Ok(candidate),
            Err(error) => {
                candidate.discard(reaper);
                Err(error)
            }
        }
    }

    /// Calls the host's probe.
    fn probe(
        &self,
        module: &I::Live,
        live: Option<&Cell<Generation<I::Live>>>,
    ) -> std::result::Result<(), ErrorKind> {
        let Some(probe) = &self.probe else {
            return Ok(());
        };
        trial::ask(|| match live {
            Some(cell) => cell.with(|live| probe(I::borrow(module), Some(live))),
            None => probe(I::borrow(module), None),
        })
    }

    pub(super) fn number(
        &self,
        candidate: Publishable<I::Live>,
        number: u64,
    ) -> Generation<I::Live> {
        let Publishable {
            module,
            image,
            objects,
            logs,
            ..
        } = candidate;
        logs.number(number);
        self.generation(number, module, Code::Image(image), objects)
    }

    pub(super) fn generation(
        &self,
        number: u64,
        module: I::Live,
        image: Code,
        objects: Arc<Objects>,
    ) -> Generation<I::Live> {
        objects.number(number);
        Generation {
            number,
            module,
            image,
            leases: self.record_leases.then(Register::default),
            named_leases: Register::default(),
            objects,
            futures: FutureCount::default(),
            polls: self.watch_calls.then(|| Cell::new(())),
            metrics: self.metrics.clone(),
        }
    }
}

impl<M: Send + Sync + 'static> Publishable<M> {
    /// Unloads a candidate that is not published. Waits for its update to be dropped, if it has one.
    pub(super) fn discard(self, reaper: &Reaper<M>) {
        let Self { image, update, .. } = self;
        drop_update(&image.origin().given, update);
        reaper.dispose(image.retire());
    }
}

impl Source<'_> {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Path(path, _) => path,
            Self::Kept(kept) | Self::Reconfigured(kept, _) => &kept.origin().given,
        }
    }
}

/// Finds the libraries that a candidate needs, which counts as inspection, and runs the trial, if there is one. After
/// that, code of the candidate may run in this process.
pub(crate) fn finish_staging<T: ?Sized>(
    mut staged: Staged,
    times: StagingTimes,
    policy: &Policy,
    trial: Option<Trial<T>>,
) -> Result<(Staged, Phases)> {
    let started = Instant::now();
    find_libraries(&mut staged, policy)?;
    let inspect = times.inspect + started.elapsed();
    let trial = match trial {
        Some(trial) => {
            ContainedSpan::new(|| debug_span!(target: "hotswap", "trial"))
                .in_scope(|| trial.run(&staged))?
                .duration
        }
        None => Duration::ZERO,
    };
    let phases = Phases {
        copy: times.copy,
        inspect,
        trial,
        ..Phases::default()
    };
    Ok((staged, phases))
}

/// The span of everything that is done with a candidate before it can be published.
pub(crate) fn prepare_span(path: &Path) -> ContainedSpan {
    ContainedSpan::new(|| info_span!(target: "hotswap", "prepare", path = %Escaped(path)))
}

/// Stages a file on the calling thread, and loads it on the thread of an opener, which the image then keeps.
pub(crate) fn stage_and_load<S: Send, T: Send>(
    span: &ContainedSpan,
    stage: impl FnOnce() -> Result<S>,
    opener: impl FnOnce() -> Result<Opener>,
    load: impl FnOnce(S, &Opener) -> Result<T> + Send,
) -> Result<T> {
    let staged = span.in_scope(stage)?;
    let opener = opener()?;
    opener.run(|| span.in_scope(|| load(staged, &opener)))
}

/// Does work that may call several plugins on a thread that ends afterwards, and waits for it. The end of the thread
/// runs what the plugins' thread-locals left on it; on an image's own thread, that would hold the other plugins for
/// as long as that image is mapped. Costs some 50 µs.
pub(super) fn on_short_thread<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let asking = threads::start_scoped(scope, "hotswap-asking", work);
        let asking = asking.map_err(|error| Error::no_thread(path, error))?;
        Ok(asking
            .join()
            .unwrap_or_else(|panic| panic::resume_unwind(panic)))
    })
}

/// Drops the update of a candidate that is not published, on a thread that ends afterwards, since that may run code
/// of the candidate. Waits for it, because the image is retired next.
pub(super) fn drop_update(path: &Path, update: Option<Update>) {
    if let Some(update) = update {
        // If no thread can be started, the update is dropped here, with the closure.
        drop(on_short_thread(path, move || drop(update)));
    }
}
