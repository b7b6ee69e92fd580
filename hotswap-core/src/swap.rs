//! [`Hotswap`]: swaps, rollbacks and calls. The only file that knows both who reads and what is loaded.
//!
//! Every step that can fail comes before *publish*, which is one atomic store; nothing after it can fail. The reaper
//! then drains and unloads the previous generation, and verifies that it is gone.

mod backlog;
mod call;
mod code;
mod draining;
mod lease;
mod retained;

mod accepted;
mod holders;
mod hung_calls;

mod settings;
mod succession;

mod successor;

mod call_future;

mod candidacy;

mod choice;

mod reaper;

mod pipeline;

mod empty;
mod publishing;
mod reports;
mod shutdown;

mod prepared;

mod canary;

mod rollout;

mod rollback;

mod futures;

mod built_in;

use std::{
    fmt,
    ops::Deref,
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hotswap_cell::{Cell, SelfLease, ValueId};
use hotswap_sdk::{Config, host::Interface};

pub(crate) use self::{
    accepted::Accepted,
    pipeline::{finish_staging, prepare_span, stage_and_load},
    reaper::Reaper,
    shutdown::wait_for_end,
};
use self::{
    accepted::LastAccepted,
    call::{CallTarget, Returns, Target},
    call_future::FutureCount,
    candidacy::ActiveCanary,
    code::Code,
    empty::EmptySwapPoint,
    hung_calls::HungCallWatchdog,
    lease::{NamedLease, Register, Taken},
    pipeline::{Pipeline, Publishable, Source},
    prepared::SwapPoint,
    succession::Succession,
};
pub use self::{
    call_future::CallFuture,
    canary::Canary,
    candidacy::{Decision, Side},
    choice::{Choice, ChoiceFuture},
    futures::{ShutdownFuture, WaitFuture},
    lease::{Bound, Lease},
    prepared::Prepared,
    rollback::RolledBack,
    rollout::{Progress, Rollout},
    settings::{Limits, Probe, Settings},
    shutdown::detach_current_thread,
};
use crate::{
    candidate::{Candidate, GivenCandidate},
    error::{Error, ErrorKind, Result},
    given::GivenPath,
    history::{History, Metrics, Phases, PublishKind},
    holder::Holder,
    image::Leaving,
    objects::Objects,
    refs::Hold,
    services::Services,
    stage::Kept,
    trust::Trust,
};

/// A swap point: a plugin that any number of threads call, and that is replaced meanwhile.
///
/// Share it by reference or in an [`Arc`]. Dropping it retires the live generation and waits for nobody. Leases that
/// are still held keep their generations mapped until they are dropped. Services are asked to stop, and keep theirs
/// until they end. [`shutdown`](Self::shutdown) does wait, and so does the process when it ends, for up to five seconds
/// ([*When the process ends*](crate::docs::plugins#when-the-process-ends)).
///
/// In a forked child that goes on without `exec`, calls and leases work, but swaps and rollbacks are refused: the
/// child has none of the threads that they need. Nothing is unloaded there, so [`wait`](Self::wait) times out. To
/// swap the plugin in the child, load it anew there. (Do not fork while a swap is under way or while a plugin is
/// being unloaded: a lock that another thread holds at that moment stays locked in the child.)
pub struct Hotswap<I: Interface + ?Sized> {
    cell: Cell<Generation<I::Live>>,
    pipeline: Pipeline<I>,
    history: Arc<History>,
    /// Which generation is live. Its lock serialises every change of that.
    succession: Arc<Succession<I::Live>>,
    accepted: LastAccepted,
    /// The canary beside the live generation, if there is one.
    canary: ActiveCanary<I::Live>,
    /// `Some` if services are turned on.
    services: Option<Services>,
    /// Held while a candidate is prepared, so that candidates are prepared one after the other. Lock order: before
    /// the succession.
    swapping: Mutex<()>,
    /// `Some` until the swap point is shut down or dropped.
    reaper: Option<Reaper<I::Live>>,
    /// `Some` if hung calls are reported, until the swap point is shut down or dropped.
    hung_calls: Option<HungCallWatchdog>,
    /// The process in which it was made. A forked child has none of its threads.
    process: u32,
}

/// One published plugin, or a built-in value. It dereferences to what is called: a proxy, or the root module.
///
/// [`with`](Hotswap::with) lends it to a closure, so that it cannot outlive the call.
pub struct Generation<M> {
    number: u64,
    module: M,
    image: Code,
    /// `Some` if leases are recorded.
    leases: Option<Register<Taken>>,
    /// Holders other than the host's calls and leases.
    named_leases: Register<Holder>,
    objects: Arc<Objects>,
    futures: FutureCount,
    /// What futures enter while they are polled, if hung calls are reported.
    polls: Option<Cell<()>>,
    metrics: Metrics,
}

/// What a swap did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swapped {
    /// The generation that is live now.
    pub generation: u64,
    /// The generation that was live before: it is draining now, or standby.
    pub retired: u64,
    /// How long each phase took.
    pub phases: Phases,
}

impl<I: Interface + ?Sized> Hotswap<I> {
    /// Loads a plugin as generation 1, with the default [`Settings`].
    ///
    /// Costs what [`swap`](Self::swap) costs, and a thread that lives as long as the swap point (longer if
    /// generations are still draining then).
    ///
    /// # Errors
    ///
    /// The candidate was refused, or the thread could not be started; nothing is left behind.
    pub fn load(candidate: impl Into<Candidate>, trust: &Trust) -> Result<Self> {
        Self::load_with(candidate, trust, Settings::default())
    }

    /// Like [`load`](Self::load), with your own settings.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_with(
        candidate: impl Into<Candidate>,
        trust: &Trust,
        settings: Settings<I>,
    ) -> Result<Self> {
        let Candidate { path, config } = candidate.into();
        let given = GivenPath::new(&path)?;
        let config = config.unwrap_or_default();
        let path = &*given;
        let empty = EmptySwapPoint::start(path, Some(trust), &settings)?;
        let EmptySwapPoint {
            pipeline,
            history,
            services,
            reaper,
            ..
        } = &empty;
        reaper.admit(path, || ())?;
        let source = Source::Path(&given, &config);
        let candidate = pipeline.prepare(source, None, services.as_ref(), reaper)?;
        let mut candidate = pipeline.keep_serial(candidate, reaper)?;

        let number = history.next_number();
        let phases = candidate.phases;
        let update = candidate.update.take();
        let logs = Arc::clone(&candidate.logs);
        let first = pipeline.number(candidate, number);
        let it = empty.publish(first, phases);
        logs.published();
        drop(update.map(|update| it.publish_update(update, number)));
        Ok(it)
    }

    /// Calls `f` with the live generation.
    ///
    /// `f` runs on one generation throughout. A `with` inside a `with` on the same swap point and thread reaches the
    /// outer one's generation, even if a swap came in between.
    ///
    /// Calls by several coroutines (with stacks of their own) on one thread may end in any order. While they overlap,
    /// they share the generation of the first, which is held until the last of them has ended. A coroutine must not
    /// move to another thread while it is inside a call, and one that is leaked inside a call holds its generation
    /// for ever.
    ///
    /// Costs little more than an indirect call. Waits for nobody, and no swap waits for it; the generation is not
    /// unmapped before `f` has returned. The first call of a thread also costs some allocations, and a look for slots
    /// that other threads have left. Works in destructors of thread-locals too. Not for signal handlers.
    ///
    /// # Panics
    ///
    /// If `f` panics.
    ///
    /// # Examples
    ///
    /// What `f` returns must belong to the host ([`HostOwned`](crate::HostOwned)):
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
    pub fn with<R>(&self, f: impl for<'a> FnOnce(&'a Target<'a, I>) -> R) -> R
    where
        I::Kind: CallTarget<I> + Returns<R>,
    {
        self.cell.with(|live| f(I::Kind::target(live)))
    }

    /// Leases the live generation, even inside a [`with`](Self::with) that runs on an older one.
    ///
    /// Waits for nobody, unless leases are recorded ([`Settings::record_leases`]).
    #[track_caller]
    pub fn lease(&self) -> Lease<I> {
        Lease::new(self.cell.lease())
    }

    /// Leases the generation of the call that the calling thread is inside of, so that work that goes on after the call
    /// uses the code that began it. Outside of calls, this is [`lease`](Self::lease).
    ///
    /// A call is a [`with`](Self::with) or `call` on this swap point. One on a [`Lease`] does not count: clone that.
    ///
    /// Waits for whom [`lease`](Self::lease) waits.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use hotswap_core::Hotswap;
    /// # use hotswap_types::Plugin;
    /// # fn example(plugin: &Hotswap<dyn Plugin>) {
    /// let (first, lease) = plugin.with(|it| (it.some_fn(1), plugin.lease_of_call()));
    /// // Swaps may come meanwhile.
    /// let second = lease.with(|it| it.some_fn(2));
    /// # }
    /// ```
    #[track_caller]
    pub fn lease_of_call(&self) -> Lease<I> {
        Lease::new(self.cell.lease_of_call())
    }

    /// Replaces the plugin by another one, which may have the same path as before. Unless the [`Candidate`] has a
    /// configuration of its own, it gets that of the live generation.
    ///
    /// Returns as soon as new calls reach the new generation. The old one is drained and unloaded in the background:
    /// use [`wait`](Self::wait) to wait for that, or listen to [`events`](Self::events).
    ///
    /// Waits for other swaps of the same swap point, and while the thread that unloads is behind
    /// ([`Limits::unload_timeout`]); for no call and for no lease. May be called inside [`with`](Self::with). Tasks of
    /// an executor use [`swap_async`](Self::swap_async).
    ///
    /// Costs reading and copying the file, one `dlopen`, and a thread, which stays parked for as long as the
    /// generation is mapped because some allocators take the thread that loads them for the process's main thread.
    /// [`Swapped::phases`] has the times.
    ///
    /// # Errors
    ///
    /// The candidate was refused. The live generation keeps serving, as if nothing had happened.
    #[doc(alias("hot reload", "reload"))]
    pub fn swap(&self, candidate: impl Into<Candidate>) -> Result<Swapped> {
        self.swap_given(GivenCandidate::new(candidate.into()))
    }

    fn swap_given(&self, candidate: GivenCandidate) -> Result<Swapped> {
        self.check_process(&candidate.path)?;
        let turn = self.admit(&candidate.path);
        self.swap_in_turn(candidate.given, candidate.config, turn, |_| {})
    }

    /// Replaces the plugin by one of the same file with another configuration. The file is not read again: the new
    /// generation is loaded from the bytes of the live one, and passes all checks but those of the file.
    ///
    /// What the plugin's constructor refuses, and what the trial or the probe refuse, changes nothing: the live
    /// generation keeps serving with its own configuration. A [`rollback`](Self::rollback) goes back to the earlier
    /// configuration. Waits for whom [`swap`](Self::swap) waits, and costs what that costs, but for reading the file.
    /// Tasks of an executor use [`swap_config_async`](Self::swap_config_async).
    ///
    /// # Errors
    ///
    /// The new generation was refused, the live one is a built-in value ([`ErrorKind::NothingToConfigure`]), or another
    /// one has become live meanwhile ([`ErrorKind::Busy`]).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use hotswap_core::Hotswap;
    /// # use hotswap_types::Plugin;
    /// # fn example(plugin: &Hotswap<dyn Plugin>) -> std::io::Result<()> {
    /// let text = std::fs::read_to_string("plugin.toml")?;
    /// if let Err(refused) = plugin.swap_config(text) {
    ///     eprintln!("{refused}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn swap_config(&self, config: impl Into<Config>) -> Result<Swapped> {
        let config = config.into();
        let path = self.path_of_live();
        self.check_process(&path)?;
        let turn = self.admit(&path);
        let published = turn.and_then(|_turn| {
            let (number, kept) = self.keep_live()?;
            let candidate = self.prepare_from(Source::Reconfigured(&kept, &config))?;
            self.publish_after(number, candidate, PublishKind::Configuration { of: number })
        });
        self.delivered(published)
    }

    /// The number of the live generation, and its bytes.
    fn keep_live(&self) -> Result<(u64, Kept)> {
        let live = self.cell.lease();
        let refuse = |kind| Error::new(live.path(), kind);
        let image = live.image.image();
        let image = image.ok_or_else(|| refuse(ErrorKind::NothingToConfigure))?;
        let kept = image.keep();
        let kept = kept.map_err(|error| refuse(ErrorKind::cannot_copy(error)))?;
        Ok((live.number, kept))
    }

    fn path_of_live(&self) -> PathBuf {
        self.cell.with(|live| live.path().to_owned())
    }

    fn config_of_live(&self) -> Config {
        self.cell.with(|live| live.image.origin().config.clone())
    }

    /// Like [`swap`](Self::swap), unless another candidate was accepted after generation `accepted`; then it returns
    /// `None`. (It does not wait for a candidate that was prepared earlier and is still to be published.) `note` gets
    /// a refusal before anybody else learns of it.
    pub(crate) fn swap_after(
        &self,
        accepted: u64,
        path: &GivenPath,
        note: impl FnOnce(&Error),
    ) -> Option<Result<Swapped>> {
        let turn = self.admit(path);
        // Checked even if `admit` timed out: if another candidate was accepted, nobody asks for this one any more. A
        // candidate that is accepted only after this check does not change that: this one was asked for, and refused.
        if self.accepted().generation != accepted {
            return None;
        }
        Some(self.swap_in_turn(Ok(path.clone()), None, turn, note))
    }

    /// Holds the turn until the candidate is published, so that whoever takes it next finds the result.
    fn swap_in_turn(
        &self,
        path: Result<GivenPath>,
        config: Option<Config>,
        turn: Result<MutexGuard<'_, ()>>,
        note: impl FnOnce(&Error),
    ) -> Result<Swapped> {
        let published = turn.and_then(|_turn| {
            let config = config.unwrap_or_else(|| self.config_of_live());
            let candidate = self.prepare_from(Source::Path(&path?, &config))?;
            let candidate = self.pipeline.keep_serial(candidate, self.reaper())?;
            Ok(self.publish(candidate, PublishKind::Candidate))
        });
        self.delivered(published.inspect_err(note))
    }

    /// Does every part of a [`swap`](Self::swap) that can fail; [`Prepared::publish`] later does the rest, which
    /// cannot.
    ///
    /// With it, several plugins can be swapped as a set, all or none of them: prepare each, and publish them if none
    /// was refused. (They are published one after the other; in between, a caller can see the new generation of one
    /// swap point and the old one of another.)
    ///
    /// With [services](Settings::services), no other candidate can be prepared until this one is published or
    /// dropped, because its update would see a state that is about to change.
    ///
    /// Waits for other candidates of the same swap point that are being prepared, and while the thread that unloads is
    /// behind ([`Limits::unload_timeout`]); for no call and for no lease. Tasks of an executor use
    /// [`prepare_async`](Self::prepare_async).
    ///
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
    /// # use hotswap_types::Plugin;
    /// fn deploy(api: &Hotswap<dyn Plugin>, rules: &Hotswap<dyn Plugin>) -> Result<(), hotswap_core::Error> {
    ///     let api = api.prepare("./plugins/libapi.so")?;
    ///     let rules = rules.prepare("./plugins/librules.so")?;
    ///     api.publish();
    ///     rules.publish();
    ///     Ok(())
    /// }
    /// ```
    pub fn prepare(&self, candidate: impl Into<Candidate>) -> Result<Prepared<'_, I>> {
        let candidate = self.prepare_given(GivenCandidate::new(candidate.into()))?;
        Ok(Prepared::new(candidate, SwapPoint::Borrowed(self)))
    }

    /// Like [`prepare`](Self::prepare), with a share of the swap point instead of a borrow: what it returns, and a
    /// [`Canary`] made of it, can be stored anywhere, such as beside the swap point.
    ///
    /// # Errors
    ///
    /// As [`prepare`](Self::prepare).
    pub fn prepare_shared(
        self: &Arc<Self>,
        candidate: impl Into<Candidate>,
    ) -> Result<Prepared<'static, I>> {
        let candidate = self.prepare_given(GivenCandidate::new(candidate.into()))?;
        Ok(Prepared::new(
            candidate,
            SwapPoint::Shared(Arc::clone(self)),
        ))
    }

    fn prepare_given(&self, candidate: GivenCandidate) -> Result<Publishable<I::Live>> {
        self.check_process(&candidate.path)?;
        let turn = self.admit(&candidate.path);
        let prepared = turn.and_then(|_turn| {
            let config = candidate.config.unwrap_or_else(|| self.config_of_live());
            self.prepare_from(Source::Path(&candidate.given?, &config))
        });
        prepared.inspect_err(|error| self.history.refused(error))
    }

    fn prepare_from(&self, source: Source<'_>) -> Result<Publishable<I::Live>> {
        let services = self.services.as_ref();
        self.pipeline
            .prepare(source, Some(&self.cell), services, self.reaper())
    }

    /// Refuses to work in a forked child, which lacks the threads. Call it before taking any lock: such a thread may
    /// have held it at the fork.
    fn check_process(&self, path: &Path) -> Result<()> {
        if self.is_inherited() {
            let is_of_loader = false;
            return Err(Error::new(path, ErrorKind::Forked { is_of_loader }));
        }
        Ok(())
    }

    /// Whether this is a forked child's copy of the parent's swap point.
    fn is_inherited(&self) -> bool {
        self.process != process::id()
    }

    /// Takes the turn for a candidate that is given by its path, once the reaper has room for one more image. The
    /// turn is not held while waiting for room, so that a rollback can go ahead.
    fn admit(&self, path: &Path) -> Result<MutexGuard<'_, ()>> {
        self.reaper().admit(path, || self.turn())
    }

    /// Only a bug in hotswap or a failed allocation can panic under the lock, which protects no data.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.swapping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reaper(&self) -> &Reaper<I::Live> {
        let reaper = self.reaper.as_ref();
        reaper.expect("there until the swap point is shut down")
    }
}

impl<M> Generation<M> {
    fn polls_id(&self) -> Option<ValueId> {
        self.polls.as_ref().map(Cell::value_id)
    }

    /// Its number, counted from 1 in the order of publishing and never used twice.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The path that the host gave.
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

impl<I: Interface + ?Sized> fmt::Debug for Hotswap<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hotswap")
            .field("generations", &self.generations())
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

impl<M: Send + Sync + 'static> Generation<M> {
    /// Call it before the generation is published: from then on `lease` leases the generation for each of its objects.
    fn set_self_lease(&self, lease: SelfLease<Self>) {
        if let Some(image) = self.image.image() {
            image.published(self.number, lease.value_id(), self.polls_id());
        }
        self.objects.publish(move || {
            let lease = lease.lease()?;
            Some(Box::new(lease))
        });
    }
}

impl<M> Generation<M> {
    /// Begins the way out, if its code is in an image. Owning a generation means that it is drained: it was in the
    /// cell, and the cell gives it up only when nobody can use it.
    fn retire(self) -> Option<Leaving> {
        self.image.retire()
    }
}

/// Leases the live generation for `holder`, which is listed as long as the lease lives.
fn hold<M: Send + Sync + 'static>(cell: &Cell<Generation<M>>, holder: Holder) -> Hold {
    Box::new(NamedLease::new(cell.lease(), holder))
}
