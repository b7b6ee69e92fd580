//! [`Hotswap`]: all that a candidate passes through, and the only file that knows both who reads and what is
//! loaded.
//!
//! Everything that may fail is done before *publish*, which is one atomic store; nothing after it can
//! fail. What follows for the generation before (draining, unloading, looking) is the reaper's.

mod accepted;
mod backlog;
mod draining;
mod holders;
mod lease;
mod retained;

mod settings;
mod succession;

mod reaper;

mod pipeline;

mod rollback;

use std::{
    fmt, mem,
    ops::Deref,
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use abi_stable::{StableAbi, library::RootModule};
use crossbeam_channel::{Receiver, Sender};
use hotswap_cell::Cell;

pub(crate) use self::{
    accepted::Accepted,
    pipeline::{prepare_span, stage_and_load, with_libraries},
    reaper::Reaper,
};
use self::{
    accepted::LastAccepted,
    draining::Draining,
    lease::{NamedLease, NamedLeases, Register},
    pipeline::{Candidate, Pipeline, Source, drop_update},
    succession::{Change, Former, PublishKind, Succession},
};
pub use self::{
    lease::{Bound, Lease},
    rollback::RolledBack,
    settings::{Limits, Probe, Settings},
};
use crate::{
    deadline::deadline,
    digest::Sha256,
    error::{Error, ErrorKind, Result},
    given::GivenPath,
    history::{
        Event, EventKind, GenerationInfo, History, News, Phases, Published, ServiceInfo, State,
    },
    holder::Holder,
    image::{self, Image, Leaving},
    owned::HostOwned,
    refs::{self, Hold, RefInfo},
    services::{Services, Update},
    trust::{Policy, Trust},
};

/// A swap point: a plugin that is called by any number of threads, and replaced while it is.
///
/// In a child that was forked off and goes on without `exec`, calls and leases work, and swaps and rollbacks are
/// refused: it has none of the threads that they need. Nothing is unloaded there, so [`wait`](Self::wait) times out.
/// Load the plugin anew in the child to swap it. (Do not fork while a swap is under way, or while a plugin leaves: a
/// lock that another thread holds at that moment stays locked in the child.)
///
/// Share it by reference or in an [`Arc`]. Dropping it retires the live generation and waits for nobody:
/// leases that are still out keep their generations mapped until they are dropped, and services until they end;
/// those are asked to stop.
/// [`shutdown`](Self::shutdown) does wait.
pub struct Hotswap<M: RootModule + Send + Sync> {
    cell: Cell<Generation<M>>,
    pipeline: Pipeline<M>,
    history: Arc<History>,
    /// Which generation is live; what changes that is serialised here.
    succession: Arc<Succession<M>>,
    accepted: LastAccepted,
    /// If they are turned on.
    services: Option<Services>,
    /// Candidates are prepared one after the other. Taken before the succession is locked.
    swapping: Mutex<()>,
    /// There until the swap point is shut down or dropped.
    reaper: Option<Reaper<M>>,
    /// The process that it was made in. A child that was forked off has none of its threads.
    process: u32,
}

/// One published plugin. It dereferences to its root module.
///
/// [`with`](Hotswap::with) lends it to a closure, so that it cannot outlive the call.
pub struct Generation<M> {
    number: u64,
    module: M,
    image: Image,
    /// If leases are recorded.
    leases: Option<Register>,
    named_leases: NamedLeases,
}

/// What a swap did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swapped {
    /// The generation that is live now.
    pub generation: u64,
    /// The one that was before: draining now, or standby.
    pub retired: u64,
    /// How long it took.
    pub phases: Phases,
}

/// A candidate that can be published, and cannot fail any more. Dropping it unloads it again.
#[must_use = "it is unloaded again if it is not published"]
pub struct Prepared<'a, M: RootModule + Send + Sync> {
    hotswap: &'a Hotswap<M>,
    /// Until it is published.
    candidate: Option<Candidate<M>>,
}

impl<M: RootModule + Send + Sync> Hotswap<M> {
    /// Loads the plugin at `path` as generation 1, with the default [`Settings`].
    ///
    /// Costs what [`swap`](Self::swap) costs, and a thread that lives as long as the swap point (and longer, if
    /// generations are still draining then).
    ///
    /// # Errors
    ///
    /// The candidate was refused, or the thread could not be started; nothing is left behind.
    pub fn load(path: impl AsRef<Path>, trust: &Trust) -> Result<Self> {
        Self::load_with(path, trust, Settings::default())
    }

    /// Like [`load`](Self::load), with settings of one's own.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_with(path: impl AsRef<Path>, trust: &Trust, settings: Settings<M>) -> Result<Self> {
        hotswap_cell::set_quiescence_callback(image::detach_current_thread_from_retired);
        image::prepare_for_forks();
        let given = GivenPath::new(path.as_ref())?;
        let path = &*given;
        let limits = &settings.limits;
        let history = Arc::new(History::new(limits.lengths()));
        let deadline = limits.drain_deadline;
        let reaper = Reaper::start(path, Arc::clone(&history), deadline, limits.bounds())?;
        reaper.admit(path, || ())?;
        let pipeline = Pipeline::new(trust, &settings);
        let services = settings.services.as_ref();
        let services = services.map(|settings| Services::new(settings, &history));
        let services = services
            .transpose()
            .map_err(|error| Error::no_thread(path, error))?;
        let candidate = pipeline.prepare(Source::Path(&given), None, services.as_ref(), &reaper)?;
        let mut candidate = pipeline.keep_serial(candidate, &reaper)?;

        let number = history.next_number();
        let published = Published::of(number, &candidate.image, candidate.phases, None);
        let accepted = LastAccepted::new(Accepted::of(number, &candidate.image));
        let update = candidate.update.take();
        let cell = Cell::new(pipeline.number(candidate, number));
        history.published(published).trace();
        drop(update.map(|update| update.publish(number, &|holder| hold(&cell, holder))));
        Ok(Self {
            cell,
            pipeline,
            history,
            succession: Arc::new(Succession::new(
                settings.probation,
                settings.probation_faults_max,
                settings.rollback_copies_max,
            )),
            accepted,
            services,
            swapping: Mutex::new(()),
            reaper: Some(reaper),
            process: process::id(),
        })
    }

    /// Calls `f` with the live generation.
    ///
    /// All that `f` does with it is done on one generation. A `with` inside a `with` on the same swap
    /// point and thread reaches the outer one's generation, also when a swap came in between.
    ///
    /// Calls of several coroutines (with stacks of their own) of one thread may end in any order. While they overlap
    /// they share the generation of the first, which is held until the last of them has ended; a coroutine must not
    /// move to another thread while it is inside of a call, and one that is leaked there holds its generation for
    /// ever.
    ///
    /// Costs little more than an indirect call. Waits for nobody, and no swap waits for it; the
    /// generation is not unmapped before `f` has returned. Works in destructors of thread-locals too; the
    /// first call of a thread costs some allocations and a look at what other threads left. Not for
    /// signal handlers.
    ///
    /// # Panics
    ///
    /// When `f` does.
    ///
    /// # Examples
    ///
    /// What `f` returns must belong to the host ([`HostOwned`]):
    ///
    /// ```no_run
    /// # use hotswap_core::{Hotswap, Policy, Trust};
    /// # use hotswap_fixtures::FixtureRef;
    /// # let trust = unsafe { Trust::vouch(Policy::default()) };
    /// let plugin: Hotswap<FixtureRef> = Hotswap::load("./libplugin.so", &trust)?;
    /// let (build, generation) = plugin.with(|it| (it.build_a()(), it.number()));
    /// # Ok::<(), hotswap_core::Error>(())
    /// ```
    ///
    /// ```compile_fail,E0277
    /// # use hotswap_core::{Hotswap, Policy, Trust};
    /// # use hotswap_fixtures::FixtureRef;
    /// # let trust = unsafe { Trust::vouch(Policy::default()) };
    /// let plugin: Hotswap<FixtureRef> = Hotswap::load("./libplugin.so", &trust)?;
    /// let function = plugin.with(|it| it.build_a());
    /// # Ok::<(), hotswap_core::Error>(())
    /// ```
    #[inline]
    pub fn with<R: HostOwned>(&self, f: impl FnOnce(&Generation<M>) -> R) -> R {
        self.cell.with(f)
    }

    /// Leases the live generation, also inside a [`with`](Self::with) that is on an older one.
    ///
    /// Waits for nobody, unless leases are recorded ([`Settings::record_leases`]).
    #[track_caller]
    pub fn lease(&self) -> Lease<M> {
        Lease::new(self.cell.lease())
    }

    /// Replaces the plugin by the one at `path`, which may be the same path as before.
    ///
    /// Returns as soon as new calls reach the new generation. The old one drains, and is unloaded,
    /// beside it: [`wait`](Self::wait) for that, or listen to [`events`](Self::events). Waits for
    /// other swaps of the same swap point, and while the thread that unloads is behind
    /// ([`Limits::unload_timeout`]); for no call and for no lease. It may be called inside [`with`](Self::with).
    ///
    /// Costs reading and copying the file, one `dlopen`, and a thread, which is parked for as long as the generation
    /// is mapped: some allocators take the thread that loads them for the process's main one. [`Swapped::phases`] has
    /// the times.
    ///
    /// # Errors
    ///
    /// The candidate was refused. The live generation serves on, as if nothing had happened.
    pub fn swap(&self, path: impl AsRef<Path>) -> Result<Swapped> {
        self.check_process(path.as_ref())?;
        let given = GivenPath::new(path.as_ref());
        let turn = self.admit(path.as_ref());
        self.swap_in_turn(given, turn, |_| {})
    }

    /// The same, unless another candidate was accepted after generation `accepted`. (One that was prepared before
    /// and is published meanwhile is not waited for.) `note` has a refusal before anybody else knows of it.
    pub(crate) fn swap_after(
        &self,
        accepted: u64,
        path: &GivenPath,
        note: impl FnOnce(&Error),
    ) -> Option<Result<Swapped>> {
        let turn = self.admit(path);
        // Also if it has waited in vain: nobody asks for this candidate any more. Another one that is accepted only after
        // this look does not change that this one was asked for, and refused.
        if self.accepted().generation != accepted {
            return None;
        }
        Some(self.swap_in_turn(Ok(path.clone()), turn, note))
    }

    /// Keeps the turn until the candidate is published, so that whoever has it next knows of that.
    fn swap_in_turn(
        &self,
        path: Result<GivenPath>,
        turn: Result<MutexGuard<'_, ()>>,
        note: impl FnOnce(&Error),
    ) -> Result<Swapped> {
        let published = turn.and_then(|_turn| {
            let candidate = self.prepare_from(Source::Path(&path?))?;
            let candidate = self.pipeline.keep_serial(candidate, self.reaper())?;
            Ok(self.publish(candidate, PublishKind::Swap, None))
        });
        let (swapped, news) = published.inspect_err(|error| {
            note(error);
            self.history.refused(error);
        })?;
        news.trace();
        Ok(swapped)
    }

    /// Does all of a [`swap`](Self::swap) that can fail, and leaves the rest, which cannot, for later.
    ///
    /// So several plugins can be swapped as a set, all or none of them: prepare each, and publish them when none
    /// was refused. (They are published one after the other; a caller in between can see the new one of
    /// one swap point and the old one of another.)
    ///
    /// With [services](Settings::services), no other candidate can be prepared before this one is published or
    /// dropped: it would be told of a state that is about to change.
    ///
    /// Waits for other candidates of the same swap point that are being prepared, and while the thread that unloads is
    /// behind ([`Limits::unload_timeout`]); for no call and for no lease.
    /// Costs what [`swap`](Self::swap) costs, and the memory of the candidate for as long as it is kept.
    ///
    /// # Errors
    ///
    /// The candidate was refused.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use hotswap_core::Hotswap;
    /// # use hotswap_types::PluginRef;
    /// fn deploy(api: &Hotswap<PluginRef>, rules: &Hotswap<PluginRef>) -> Result<(), hotswap_core::Error> {
    ///     let api = api.prepare("./plugins/libapi.so")?;
    ///     let rules = rules.prepare("./plugins/librules.so")?;
    ///     api.publish();
    ///     rules.publish();
    ///     Ok(())
    /// }
    /// ```
    pub fn prepare(&self, path: impl AsRef<Path>) -> Result<Prepared<'_, M>> {
        self.check_process(path.as_ref())?;
        let given = GivenPath::new(path.as_ref());
        let turn = self.admit(path.as_ref());
        let prepared = turn.and_then(|_turn| self.prepare_from(Source::Path(&given?)));
        let candidate = prepared.inspect_err(|error| self.history.refused(error))?;
        Ok(Prepared {
            hotswap: self,
            candidate: Some(candidate),
        })
    }

    fn prepare_from(&self, source: Source<'_>) -> Result<Candidate<M>> {
        let services = self.services.as_ref();
        self.pipeline
            .prepare(source, Some(&self.cell), services, self.reaper())
    }

    /// Refuses what needs threads that are not there, before any lock is taken: one of them may have held it.
    fn check_process(&self, path: &Path) -> Result<()> {
        if self.is_inherited() {
            let kind = ErrorKind::Forked {
                made: "loaded the plugin",
                remedy: "load it anew",
            };
            return Err(Error::new(path, kind));
        }
        Ok(())
    }

    /// Whether this is the copy of a swap point of the parent process.
    fn is_inherited(&self) -> bool {
        self.process != process::id()
    }

    /// The turn of a candidate that is given by its path, when the reaper has room for one more image. Whoever waits
    /// for that does not have the turn, so that a rollback can go ahead.
    fn admit(&self, path: &Path) -> Result<MutexGuard<'_, ()>> {
        self.reaper().admit(path, || self.turn())
    }

    /// A panic under the lock is a bug of ours, or no memory; the lock itself guards no data.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.swapping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was prepared becomes the live generation. Nothing in here can fail. The news are to be traced when
    /// no lock is held.
    fn publish(
        &self,
        mut candidate: Candidate<M>,
        kind: PublishKind,
        loaded_again: Option<u64>,
    ) -> (Swapped, News) {
        let started = Instant::now();
        let mut generations = self.succession.lock();
        let number = self.history.next_number();
        let mut published = Published::of(number, &candidate.image, candidate.phases, loaded_again);
        let update = candidate.update.take();
        let accepted = (kind == PublishKind::Swap).then(|| Accepted::of(number, &candidate.image));
        let new = self.pipeline.number(candidate, number);
        let Change {
            before,
            probation,
            retired,
            dropped,
            values,
        } = self
            .succession
            .publish(&mut generations, &self.cell, new, kind);
        published.phases.publish = started.elapsed();
        published.before = Some(before);
        published.on_probation = probation.is_some();
        let phases = published.phases;
        // Before the event: who hears of it asks for the path.
        if let Some(accepted) = accepted {
            self.accepted.set(accepted);
        }
        let news = self.history.published(published);
        for standby in retired.iter().filter(|it| it.number != before) {
            self.history.draining(standby.number, Vec::new());
        }
        // Under the lock, so that the live generation is the one that it is of.
        let replaced = update.map(|update| self.publish_update(update, number));
        let replaced = replaced.and_then(|replaced| generations.keep_values(replaced));
        drop(generations);

        if let Some(until) = probation {
            self.reaper()
                .watch_probation(&self.succession, number, until);
        }
        self.reaper().drop_copies(dropped);
        for former in retired {
            self.reaper().retire(former.number, former.generation);
        }
        refs::drop_elsewhere(replaced.into_iter().chain(values));
        let swapped = Swapped {
            generation: number,
            retired: before,
            phases,
        };
        (swapped, news)
    }

    /// Under the succession's lock, when `number` is live.
    fn publish_update(&self, update: Update, number: u64) -> refs::Former {
        update.publish(number, &|holder| hold(&self.cell, holder))
    }

    /// The path that was accepted last. If it was relative when it was given to [`load`](Self::load) or
    /// [`swap`](Self::swap), it begins in the folder that was the current one then. What a rollback goes back to does
    /// not count.
    pub fn last_accepted(&self) -> PathBuf {
        self.accepted().path.absolute().to_owned()
    }

    pub(crate) fn accepted(&self) -> Arc<Accepted> {
        self.accepted.get()
    }

    /// Sends to `follower` after each candidate that is accepted, and when the swap point has gone.
    pub(crate) fn tell_of_accepted(&self, follower: Sender<()>) {
        self.accepted.tell(follower);
    }

    /// Whether what was refused may be tried again without anybody asking for it.
    pub(crate) fn has_room_to_retry(&self) -> bool {
        self.reaper().has_room_to_retry()
    }

    pub(crate) fn policy(&self) -> &Policy {
        self.pipeline.policy()
    }

    /// The generations, oldest first: the live one, those that have not left yet, and the last of those
    /// that have (see [`Settings`]).
    pub fn generations(&self) -> Vec<GenerationInfo> {
        self.history.generations()
    }

    /// The SHA-256 of the file that generation `number` was loaded from. None: its bytes are there no more, or were never
    /// (there is no such generation).
    ///
    /// They are there of the live generation, of a standby, and of those that a rollback can go back to
    /// ([`Settings::rollback_copies_max`]). What was told once is known for as long as the generation is in the list.
    ///
    /// Costs what [`Sha256::of`] costs, here, unless it is known; waits for nobody.
    pub fn sha256(&self, number: u64) -> Option<Sha256> {
        if let Some(known) = self.history.sha256(number) {
            return Some(known);
        }
        let live = self.cell.lease();
        let copy = if live.number == number {
            live.image.keep().ok()
        } else {
            self.succession.lock().copy_of(number)
        };
        drop(live);
        let sha256 = copy?.sha256().ok()?;
        self.history.hashed(number, sha256);
        Some(sha256)
    }

    /// The candidates that were refused after the first generation was published, oldest first; the last of them
    /// (see [`Settings`]).
    pub fn refused(&self) -> Vec<Event> {
        self.history.refusals()
    }

    /// The services, in the order in which they were started: those that run, and the last of each name that the
    /// latest update has mentioned. Empty unless [`Settings::services`] is set.
    pub fn services(&self) -> Vec<ServiceInfo> {
        self.services.as_ref().map_or_else(Vec::new, Services::list)
    }

    /// The values and channels that outlive generations, by name. Empty unless [`Settings::services`] is set.
    pub fn refs(&self) -> Vec<RefInfo> {
        self.services.as_ref().map_or_else(Vec::new, Services::refs)
    }

    /// Calls `f` with the value of this name. None: there is none.
    ///
    /// Waits for whoever is inside of it, if it has locks of its own, and for nobody else.
    ///
    /// # Errors
    ///
    /// The value is of another type ([`ErrorKind::RefType`]); nothing of it is read. The error's path is that of the live
    /// generation.
    pub fn with_ref<T, R>(&self, name: &str, f: impl FnOnce(&T) -> R) -> Result<Option<R>>
    where
        T: StableAbi + Send + Sync + 'static,
        R: HostOwned,
    {
        let found = self.services.as_ref().map(|services| services.get(name));
        let found = found.transpose().map_err(|problem| {
            let path = self.cell.with(|live| live.path().to_owned());
            let name = name.to_owned();
            Error::new(&path, ErrorKind::RefType { name, problem })
        })?;
        Ok(found.flatten().map(|value| f(&value)))
    }

    /// What happens, by a queue of one's own: each receiver gets every event. The first one begins with what happened
    /// before it was asked for, from the first generation on.
    ///
    /// Nobody waits for a receiver. One that is slow misses events, and is told how many
    /// ([`Limits::events_max`], [`EventKind::Missed`]); one that was dropped is
    /// forgotten with the next event.
    pub fn events(&self) -> Receiver<Event> {
        self.history.events()
    }

    /// Waits until generation `number` has left the address space or is found to be pinned, at most
    /// `timeout`, and gives its state then. `None`: the list does not have it (any more).
    ///
    /// The calling thread leaves retired plugins as with [`detach_current_thread`]. Inside
    /// [`with`](Self::with) it waits in vain for the generation that it is in, until `timeout`.
    pub fn wait(&self, number: u64, timeout: Duration) -> Option<State> {
        wait_for_end(&self.history, number, timeout)
    }

    /// Retires the live generation and waits until all have left, at most `timeout`. Gives those that
    /// are still mapped then: held by leases, or pinned.
    ///
    /// Services are stopped before, the last that was started first; each is waited for until it counts as stuck
    /// ([`ServiceSettings::stop_deadline`](crate::services::ServiceSettings::stop_deadline)). The values are let go of.
    ///
    /// Generations that are still held go on draining, and are unloaded when their leases are dropped.
    pub fn shutdown(mut self, timeout: Duration) -> Vec<GenerationInfo> {
        if self.is_inherited() {
            return Vec::new();
        }
        let started = Instant::now();
        let reaper = self.retire_live(Some(deadline(started, timeout)));
        let timeout = timeout.saturating_sub(started.elapsed());
        let (all_ended, mapped) = wait_detaching(timeout, |turn| {
            let mapped = self.history.wait_for_all(turn);
            let all_ended = mapped.iter().all(|generation| generation.state.has_ended());
            (all_ended, (all_ended, mapped))
        });
        if let Some(reaper) = reaper.filter(|_| all_ended) {
            reaper.join();
        }
        mapped
    }

    /// Stops the services, and lets go of the values: of those that have lost their names first, because a value may
    /// use one that was there before it.
    fn close_services(&self, latest: Option<Instant>) {
        if let Some(services) = &self.services {
            let replaced = self.succession.lock().take_values();
            drop(replaced);
            services.close(latest);
        }
    }

    /// Closes the services, and hands the live generation to the reaper, which ends when all have left. Once.
    fn retire_live(&mut self, latest: Option<Instant>) -> Option<reaper::Ending> {
        self.reaper.as_ref()?;
        // Before the reaper is taken: should this panic, the rest is done when the swap point is dropped.
        self.close_services(latest);
        let reaper = self.reaper.take()?;
        let mut generations = self.succession.lock();
        let standby = generations.close();
        let live = Former {
            number: generations.live(),
            generation: Draining::new(self.cell.close()),
        };
        drop(generations);
        for former in standby.into_iter().chain([live]) {
            self.history.draining(former.number, Vec::new());
            reaper.retire(former.number, former.generation);
        }
        Some(reaper.end())
    }

    fn reaper(&self) -> &Reaper<M> {
        let reaper = self.reaper.as_ref();
        reaper.expect("there until the swap point is shut down")
    }
}

impl<M: RootModule + Send + Sync> Drop for Hotswap<M> {
    fn drop(&mut self) {
        if self.is_inherited() {
            // Nobody is there to be told; what is mapped stays mapped.
            mem::forget((self.reaper.take(), self.services.take()));
            return;
        }
        self.retire_live(None);
    }
}

impl<M: RootModule + Send + Sync> Prepared<'_, M> {
    /// Makes it the live generation, whichever that is by now. Returns as soon as new calls reach it; with
    /// [`Policy::serial_file`], only when its serial number has been kept after that, which may wait for the disk and for
    /// other hosts that write to the file. If the number cannot be kept, there is an event ([`EventKind::SerialNotKept`]).
    ///
    /// # Panics
    ///
    /// In a child that was forked off since it was prepared ([`Hotswap`]).
    pub fn publish(mut self) -> Swapped {
        let is_inherited = self.hotswap.is_inherited();
        assert!(
            !is_inherited,
            "a plugin of the parent process is not published in a child"
        );
        let candidate = self.candidate.take().expect("published once");
        let origin = candidate.image.origin().clone();
        let (swapped, news) = self.hotswap.publish(candidate, PublishKind::Swap, None);
        news.trace();
        // Last: it may wait, and nothing may wait for it.
        if let Err(error) = origin.keep_serial(self.hotswap.policy()) {
            let reason = error.reason();
            let setting = error.setting().map(str::to_owned);
            let not_kept = EventKind::SerialNotKept { reason, setting };
            let generation = Some(swapped.generation);
            self.hotswap.history.happened(generation, not_kept).trace();
        }
        swapped
    }
}

impl<M: RootModule + Send + Sync> Drop for Prepared<'_, M> {
    fn drop(&mut self) {
        if self.hotswap.is_inherited() {
            // Nobody is there to unload it.
            mem::forget(self.candidate.take());
        } else if let Some(mut candidate) = self.candidate.take() {
            drop_update(&candidate.image.origin().given, candidate.update.take());
            self.hotswap.reaper().dispose(candidate.image.retire());
        }
    }
}

impl<M> Generation<M> {
    /// Its number: counted from 1 in the order of publishing, never used twice.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.image.origin().given
    }
}

impl<M> Deref for Generation<M> {
    type Target = M;

    #[inline]
    fn deref(&self) -> &M {
        &self.module
    }
}

impl<M: RootModule + Send + Sync> fmt::Debug for Hotswap<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hotswap")
            .field("generations", &self.generations())
            .finish_non_exhaustive()
    }
}

impl<M: RootModule + Send + Sync> fmt::Debug for Prepared<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.candidate.as_ref().map(|it| it.image.origin());
        f.debug_struct("Prepared")
            .field("path", &origin.map(|it| &it.given))
            .finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for Generation<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("number", &self.number)
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

impl<M> Generation<M> {
    /// Begins the way out. Owning a generation means that it is drained: it was in the cell, and the cell
    /// gives it up when nobody can use it.
    fn retire(self) -> Leaving {
        self.image.retire()
    }
}

/// Keeps the live generation, in the name of one that the list knows.
fn hold<M: RootModule + Send + Sync>(cell: &Cell<Generation<M>>, holder: Holder) -> Hold {
    Box::new(NamedLease::new(cell.lease(), holder))
}

/// Waits until the generation has ended, at most for `timeout`, and gives its state then.
pub(crate) fn wait_for_end(history: &History, number: u64, timeout: Duration) -> Option<State> {
    wait_detaching(timeout, |turn| match history.wait(number, turn) {
        Some(state) if !state.has_ended() => (false, Some(state)),
        ended => (true, ended),
    })
}

/// Waits in short turns, between which the calling thread does what is left for it to do: it may be the one
/// that is waited for.
fn wait_detaching<T>(timeout: Duration, wait: impl Fn(Instant) -> (bool, T)) -> T {
    const TURN: Duration = Duration::from_millis(2);
    let started = Instant::now();
    loop {
        detach_current_thread();
        let left = timeout.saturating_sub(started.elapsed());
        let (has_ended, answer) = wait(Instant::now() + left.min(TURN));
        if has_ended || left.is_zero() {
            return answer;
        }
    }
}

/// Runs, for the calling thread, what retired plugins have left for it to do: the destructors of their
/// thread-locals, which it would otherwise run when it next calls a plugin, drops a lease, or ends.
///
/// For a thread that has called plugins, will not do so for a long time, and lives on. Until it does one of
/// those things, the plugins that it used stay mapped and are reported as held by it. A plugin is left only
/// when all calls and leases on it have ended, whoever has them; calling this earlier does no harm, and no
/// good. Costs a few nanoseconds when there is nothing to do.
///
/// # Panics
///
/// A destructor that panics ends the process, as it does in a thread that ends.
pub fn detach_current_thread() {
    image::detach_current_thread_from_retired();
}
