//! How a swap point behaves.

use std::{fmt, sync::Arc, time::Duration};

use hotswap_sdk::host::Interface;

use super::{
    Generation,
    retained::{Bounds, bytes_max_by_default, images_max_by_default},
};
use crate::{history::Lengths, services::ServiceSettings, trial::Trial};

/// Longer than the unloading of a few debug builds takes on a busy machine.
const UNLOAD_TIMEOUT: Duration = Duration::from_secs(2);

/// What a host asks of a candidate before it is published: its root module, and the generation that is live
/// meanwhile, if there is one. What it answers with `Err` becomes the reason of the refusal.
///
/// It runs on a thread of its own, while other swaps of the same swap point wait: one that asks for such a swap
/// waits for itself.
pub type Probe<I> = Arc<
    dyn Fn(&I, Option<&Generation<<I as Interface>::Live>>) -> Result<(), String> + Send + Sync,
>;

/// How a swap point behaves.
///
/// ```
/// use std::time::Duration;
///
/// use hotswap_core::{Limits, Settings};
/// # use hotswap_types::PluginRef;
///
/// let settings: Settings<PluginRef> = Settings {
///     probation: Some(Duration::from_secs(60)),
///     limits: Limits { events_max: 10_000, ..Limits::default() },
///     ..Settings::default()
/// };
/// ```
pub struct Settings<I: Interface + ?Sized> {
    /// With it, every candidate is loaded in a child process first. Off unless set.
    pub trial: Option<Trial<I>>,
    /// Called with each candidate, in this process, when it is loaded and before any other call reaches it. A
    /// panic refuses the candidate too. It is waited for; callers of the live generation are not kept.
    pub probe: Option<Probe<I>>,
    /// With it, plugins may run services and keep values that outlive them: what they export with
    /// `hotswap_sdk::update!` is run with each candidate, after the probe and before it is published. Off unless
    /// set: then no candidate's update is run.
    pub services: Option<ServiceSettings>,
    /// How long a new generation is on probation after a swap. For that time the one before stays mapped, as
    /// standby, and faults that are reported ([`report_fault`](crate::Hotswap::report_fault)) may bring it
    /// back. With [`services`](Self::services), the values that its update has migrated, written anew or deleted stay in
    /// memory for that time, too, and a rollback gives their names back to them. None unless set.
    pub probation: Option<Duration>,
    /// How many faults of a generation on probation are put up with. The next one brings the generation before
    /// back. None (0) unless set.
    pub probation_faults_max: u32,
    /// Of how many earlier generations the bytes are kept for [`rollback`](crate::Hotswap::rollback), in
    /// memory, at the size of their files. 1 unless set.
    pub rollback_copies_max: usize,
    /// Whether to hash each file before it is published, so that [`generations`](crate::Hotswap::generations) has its
    /// SHA-256, also when it has left. Costs each swap what [`Sha256::of`](crate::Sha256::of) costs. Off unless set:
    /// then a generation is hashed when that is asked for ([`Hotswap::sha256`](crate::Hotswap::sha256)). With pins
    /// ([`Policy::sha256`](crate::Policy::sha256)) the hash is known in any case.
    pub record_sha256: bool,
    /// Whether to record for each lease where in the code it was taken, and when, so that a generation
    /// that is held by leases says by which. Makes leases dearer: a lock and an entry for each. Off unless
    /// set.
    pub record_leases: bool,
    /// What swap points and loaders have in common: bounds, and times.
    pub limits: Limits,
}

/// What swap points and loaders have in common: how much may be kept, and for how long one waits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// After this time a retired generation, or a library that nobody has any more, that cannot leave is reported as held.
    /// Nothing is ever ended or unmapped because of it. 5 s unless set.
    pub drain_deadline: Duration,
    /// How many images may be retired and still mapped, for whatever reason: generations that are held, that are on
    /// their way out, or that are pinned, and refused candidates that have not left. What swap points and loaders that
    /// are gone have left behind counts, too. The live generation, a standby, and candidates that are prepared and not
    /// yet published do not, and of a [`Loader`](crate::loader::Loader) neither do libraries that somebody has.
    ///
    /// Each of them keeps a descriptor and the memory of its copy, and most of them a parked thread. With so many,
    /// [`swap`](crate::Hotswap::swap), [`prepare`](crate::Hotswap::prepare), [`load_with`](crate::Hotswap::load_with),
    /// [`Loader::open`](crate::loader::Loader::open) and [`Loader::load`](crate::loader::Loader::load) are refused before the file is looked at, with a text that names the
    /// first of what is left and why it is; nobody waits. Calls go on. A swap is accepted again as soon as one of them
    /// has left. With half of it there is an event ([`EventKind::Retained`](crate::EventKind::Retained)). A
    /// [`rollback`](crate::Hotswap::rollback) is not refused, unless rollbacks that have failed have made it twice as
    /// many. Threads that load with one loader at the same time may each have one refused file more.
    ///
    /// Unless set, it is a quarter of the soft limit on open descriptors (`RLIMIT_NOFILE`) that holds when the settings
    /// are made; at most what would take up a quarter of the memory mappings of a process (`vm.max_map_count`), some
    /// 1,300, or of the threads of the user (`RLIMIT_NPROC`) or the container (`pids.max`). At least 1.
    pub retired_images_max: usize,
    /// How many bytes their copies may have, which are the sizes of the files; what else an image takes up, such as
    /// memory that it has written to, is not known. At the bound the same happens as with
    /// [`retired_images_max`](Self::retired_images_max). A quarter of the memory of the machine, or of the container
    /// (cgroup v2), unless set.
    pub retired_bytes_max: u64,
    /// How long [`swap`](crate::Hotswap::swap) and [`prepare`](crate::Hotswap::prepare), and a loader, wait, before they look at the
    /// file, while the thread that unloads is behind: then they are refused, with a text that says what is still to be
    /// unloaded. Calls go on. 2 s unless set; with 0 nobody waits.
    ///
    /// It is behind when four images are still to be unloaded and nothing but that thread keeps them: a plugin's
    /// finalisers take long, or the processor is busy. An image that is held by a call, a lease, a hook or a thread is
    /// not waited for, and neither is one that is pinned; those have the bounds above. A candidate is not waited for
    /// inside a call ([`with`](crate::Hotswap::with)) of any swap point, for the call may be what keeps an image, and
    /// not on the thread that unloads (in a finaliser, or a subscriber of `tracing`): there only the bounds above hold.
    /// A [`rollback`](crate::Hotswap::rollback) never waits for unloading.
    pub unload_timeout: Duration,
    /// How many generations, or libraries of a loader, that have ended stay in the list. 64 unless set.
    pub ended_max: usize,
    /// How many refused candidates stay in the list. 64 unless set.
    pub refused_max: usize,
    /// How many events are kept for each receiver of [`events`](crate::Hotswap::events) that does not come. What finds no
    /// room is counted; an [`EventKind::Missed`](crate::EventKind::Missed) with the count comes before the next event
    /// that does. 1,024 unless set, and at least 1.
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
            services: None,
            probation: None,
            probation_faults_max: 0,
            rollback_copies_max: 1,
            record_sha256: false,
            record_leases: false,
            limits: Limits::default(),
        }
    }
}

impl<I: Interface + ?Sized> fmt::Debug for Settings<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("trial", &self.trial)
            .field("probe", &self.probe.as_ref().map(|_| "…"))
            .field("services", &self.services)
            .field("probation", &self.probation)
            .field("probation_faults_max", &self.probation_faults_max)
            .field("rollback_copies_max", &self.rollback_copies_max)
            .field("record_sha256", &self.record_sha256)
            .field("record_leases", &self.record_leases)
            .field("limits", &self.limits)
            .finish()
    }
}
