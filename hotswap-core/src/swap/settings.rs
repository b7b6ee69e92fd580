//! The settings of a swap point.

use std::{fmt, sync::Arc, time::Duration};

use hotswap_sdk::host::{HostServices, Interface};

use super::{
    Generation,
    retained::{Bounds, bytes_max_by_default, images_max_by_default},
};
use crate::{history::Lengths, services::ServiceSettings, trial::Trial};

/// Longer than the unloading of a few debug builds takes on a busy machine.
const UNLOAD_TIMEOUT: Duration = Duration::from_secs(2);

/// The host's own check of a candidate before it is published. It gets the candidate and the live generation, if there
/// is one. If it returns an error, the candidate is refused with that text.
///
/// It runs on a thread of its own. Other swaps of the same swap point wait for it, so a probe that requests such a swap
/// waits for itself for ever.
pub type Probe<I> = Arc<
    dyn for<'a> Fn(
            &'a <I as Interface>::Borrowed<'a>,
            Option<&Generation<<I as Interface>::Live>>,
        ) -> Result<(), String>
        + Send
        + Sync,
>;

/// The settings of a swap point.
///
/// ```
/// use std::time::Duration;
///
/// use hotswap_core::{Limits, Settings};
/// # use hotswap_types::Plugin;
///
/// let settings: Settings<dyn Plugin> = Settings {
///     probation: Some(Duration::from_secs(60)),
///     limits: Limits { events_max: 10_000, ..Limits::default() },
///     ..Settings::default()
/// };
/// ```
pub struct Settings<I: Interface + ?Sized> {
    /// If set, every candidate is first loaded in a child process. By default, none is.
    pub trial: Option<Trial<I>>,
    /// Called with each candidate, in this process, after it was loaded and before any other call reaches it. If it
    /// panics, the candidate is refused, too. A swap waits for it; calls of the live generation do not.
    pub probe: Option<Probe<I>>,
    /// The services that the constructors of plugins can take: see
    /// [`docs::traits`](crate::docs::traits#services-of-the-host). By default, there are none.
    pub host_services: HostServices,
    /// If set, plugins may run services and keep values that outlive them: the function that a plugin exports with
    /// `hotswap_sdk::update!` runs for each candidate, after the probe and before the candidate is published. By
    /// default, no such function runs.
    pub services: Option<ServiceSettings>,
    /// How long a new generation is on probation after a swap. During that time the previous generation stays mapped,
    /// as standby, and reported faults ([`report_fault`](crate::Hotswap::report_fault)) can roll back to it. With
    /// [`services`](Self::services), the values that the new generation's update has migrated, overwritten or deleted
    /// also stay in memory, and a rollback restores them under their names. By default, there is no probation.
    pub probation: Option<Duration>,
    /// Faults tolerated on probation; one more rolls back. The default is 0.
    pub probation_faults_max: u32,
    /// How many earlier generations' files are kept in memory for [`rollback`](crate::Hotswap::rollback). The default
    /// is 1.
    pub rollback_copies_max: usize,
    /// Whether each file is hashed before it is published, so that [`generations`](crate::Hotswap::generations) lists
    /// its SHA-256, even after the generation has ended. Each swap then costs what [`Sha256::of`](crate::Sha256::of)
    /// costs. By default, a generation is hashed when [`Hotswap::sha256`](crate::Hotswap::sha256) is called. With pins
    /// ([`Policy::sha256`](crate::Policy::sha256)) the hash is always known.
    pub record_sha256: bool,
    /// Whether each lease records where in the code it was taken, and when, so that the leases that hold a generation
    /// can be listed. Each lease then costs a lock and an entry in a list. The default is `false`.
    pub record_leases: bool,
    /// If set, a call on the live generation that has not returned after this time is reported, once
    /// ([`EventKind::HungCall`](crate::EventKind::HungCall)). The report has no other effect. By default, no call
    /// is reported: only the host knows how long its calls may take.
    ///
    /// Reported are calls through [`with`](crate::Hotswap::with) and [`call`](crate::Hotswap::call), and polls of a
    /// future of [`call_async`](crate::Hotswap::call_async) (also of one on a lease) that do not return; a future that
    /// waits is not polled, and does not hang. Calls inside another call on the same swap point count as part of that
    /// one. Other calls on a [`Lease`](crate::Lease) or under a [`Choice`](crate::canary::Choice), calls of objects,
    /// polls of a candidate that is a canary, and functions of a
    /// [`Loader`](crate::loader::Loader) are not seen. A call on a retired generation is reported as what holds it
    /// ([`Limits::drain_deadline`]).
    ///
    /// Costs a thread, which looks at the threads that have called a plugin four times in this time, but at least once
    /// a second and at most every millisecond. A call is reported at the first look at which it was seen for so long,
    /// so up to two pauses later. Calls through `with` and `call` cost what they cost without it. Each poll of an async
    /// call costs a `with` more: an async call that is ready at once takes 939 instructions instead of 916
    /// (x86-64, `scripts/instructions`).
    pub hung_call_timeout: Option<Duration>,
    /// The name of the swap point in what its plugins log (the field `plugin`: see *Logs* in
    /// [`docs::plugins`](crate::docs::plugins)), and in its metrics (the label `plugin`: see *Metrics* in
    /// [`docs::deploying`](crate::docs::deploying)). By default, it is the name of the file that is loaded first. It
    /// has no other effect.
    pub name: Option<String>,
    /// Limits, which swap points and loaders have in common.
    pub limits: Limits,
}

/// Limits of a swap point or a loader: how many images, bytes and list entries it keeps, and how long it waits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a retired generation, or a library that has no owner any more, may stay mapped before it is reported as
    /// held. The report has no other effect: nothing is ended or unmapped. The default is 5 s.
    pub drain_deadline: Duration,
    /// How many images may be retired and still mapped: generations that are held, pinned or being unloaded, and
    /// refused candidates that are not unloaded yet. Images left behind by swap points and loaders that were dropped
    /// count, too. The live generation, a standby generation and prepared candidates do not count, nor do libraries of
    /// a [`Loader`](crate::loader::Loader) that still have an owner.
    ///
    /// Each of these images keeps a descriptor and its copy in memory, and most keep a parked thread. At the limit,
    /// [`swap`](crate::Hotswap::swap), [`prepare`](crate::Hotswap::prepare), [`load_with`](crate::Hotswap::load_with),
    /// [`Loader::open`](crate::loader::Loader::open) and [`Loader::function`](crate::loader::Loader::function) are
    /// refused at once, before they open the file. The error names the first of these images and why it is still
    /// mapped. Calls go on. A swap is accepted again as soon as one image is unloaded. At half of the limit there is
    /// an event ([`EventKind::Retained`](crate::EventKind::Retained)). A [`rollback`](crate::Hotswap::rollback) is
    /// refused only if failed rollbacks have doubled the number. Threads that load with one loader at the same time
    /// can each exceed the limit by one refused file.
    ///
    /// The default is a quarter of the soft limit on open descriptors (`RLIMIT_NOFILE`) at the time when the settings
    /// are made, but at least 1. It is at most the number that would use a quarter of a process's memory mappings
    /// (`vm.max_map_count`; some 1,300 images), or a quarter of the threads of the user (`RLIMIT_NPROC`) or of the
    /// container (`pids.max`).
    pub retired_images_max: usize,
    /// How many bytes the copies of the images in [`retired_images_max`](Self::retired_images_max) may have in total. A
    /// copy is as large as its file. Other memory of an image, such as pages that it has written to, is not known and
    /// not counted. At this limit, the same calls are refused. The default is a quarter of the memory of the machine,
    /// or of the container (cgroup v2).
    pub retired_bytes_max: u64,
    /// How long [`swap`](crate::Hotswap::swap), [`prepare`](crate::Hotswap::prepare) and a loader wait for the thread
    /// that unloads if it is behind. After that they are refused, before they open the file, and the error says what is
    /// still to be unloaded. Calls go on. The default is 2 s; with 0 nothing waits.
    ///
    /// The thread is behind if four images are still to be unloaded and wait only for it, or if the finalisers of one,
    /// of any swap point, take long: the system's linker opens nothing meanwhile. Images that are pinned, or held by a
    /// call, a lease, a hook or a thread, are not waited for; the limits above apply to them. Nothing waits inside a
    /// call ([`with`](crate::Hotswap::with)) of any swap point, because that call may be what holds an image, nor on
    /// the thread that unloads (in a finaliser, or in a subscriber of `tracing`). A
    /// [`rollback`](crate::Hotswap::rollback) never waits for unloading.
    pub unload_timeout: Duration,
    /// How many unloaded generations, or libraries of a loader, stay in the list. Those that are still mapped stay in
    /// any case. The default is 64.
    pub ended_max: usize,
    /// How many refused candidates stay in the list. The default is 64.
    pub refused_max: usize,
    /// How many events are queued for a receiver of [`events`](crate::Hotswap::events), or for an
    /// [`event_stream`](crate::Hotswap::event_stream), that does not read them. Further events are dropped and counted;
    /// an [`EventKind::Missed`](crate::EventKind::Missed) with the count comes before the next event that fits. The
    /// default is 1,024, and the least is 1.
    pub events_max: usize,
}

impl Limits {
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            images_max: self.retired_images_max,
            bytes_max: self.retired_bytes_max,
            unload_timeout: self.unload_timeout,
        }
    }

    pub(crate) fn lengths(&self) -> Lengths {
        Lengths {
            ended: self.ended_max,
            refused: self.refused_max,
            events: self.events_max,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            drain_deadline: Duration::from_secs(5),
            retired_images_max: images_max_by_default(),
            retired_bytes_max: bytes_max_by_default(),
            unload_timeout: UNLOAD_TIMEOUT,
            ended_max: 64,
            refused_max: 64,
            events_max: 1024,
        }
    }
}

impl<I: Interface + ?Sized> Default for Settings<I> {
    fn default() -> Self {
        Self {
            trial: None,
            probe: None,
            host_services: HostServices::new(),
            services: None,
            probation: None,
            probation_faults_max: 0,
            rollback_copies_max: 1,
            record_sha256: false,
            record_leases: false,
            hung_call_timeout: None,
            name: None,
            limits: Limits::default(),
        }
    }
}

impl<I: Interface + ?Sized> fmt::Debug for Settings<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("trial", &self.trial)
            .field("probe", &self.probe.as_ref().map(|_| "…"))
            .field("host_services", &self.host_services)
            .field("services", &self.services)
            .field("probation", &self.probation)
            .field("probation_faults_max", &self.probation_faults_max)
            .field("rollback_copies_max", &self.rollback_copies_max)
            .field("record_sha256", &self.record_sha256)
            .field("record_leases", &self.record_leases)
            .field("hung_call_timeout", &self.hung_call_timeout)
            .field("name", &self.name)
            .field("limits", &self.limits)
            .finish()
    }
}
