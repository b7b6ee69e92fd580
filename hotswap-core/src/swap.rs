//! [`Hotswap`]: the whole road of a candidate, and the only file that knows both who reads and what is
//! loaded.
//!
//! Everything that may fail is done before *publish*, which is one atomic store; nothing after it can
//! fail. What follows for the generation before (draining, unloading, looking) is the reaper's.

mod lease;
mod reaper;

use std::{
    fmt, io,
    ops::Deref,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use abi_stable::library::RootModule;
use crossbeam_channel::Receiver;

pub use self::lease::{Bound, Lease};
use self::{lease::Register, reaper::Reaper};
use crate::{
    cell::{self, Cell},
    error::{Error, Result, Stage},
    history::{Event, GenerationInfo, History, Phases, State},
    image::{self, Image, Leaving},
    module::{self, Checked},
    owned::HostOwned,
    stage::{Staged, need_memory},
    trial::Trial,
    trust::Trust,
};

/// A swap point: a plugin that is called by any number of threads, and replaced while it is.
///
/// Share it by reference or in an [`Arc`]. Dropping it retires the live generation and waits for nobody:
/// leases that are still out keep their generations mapped until they are dropped.
/// [`shutdown`](Self::shutdown) does wait.
pub struct Hotswap<M: RootModule + Send + Sync> {
    cell: Cell<Generation<M>>,
    road: Road<M>,
    record_leases: bool,
    history: Arc<History>,
    /// Swaps are serialised. Who calls the plugin never takes this.
    swapping: Mutex<()>,
    /// There until the swap point is shut down or dropped.
    reaper: Option<Reaper<M>>,
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
}

/// What a swap did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swapped {
    /// The generation that is live now.
    pub generation: u64,
    /// The one that was before, and is draining now.
    pub retired: u64,
    /// How long it took.
    pub phases: Phases,
}

/// How a swap point behaves.
#[non_exhaustive]
pub struct Settings<M> {
    /// With it, every candidate is loaded in a child process first. Off unless set.
    pub trial: Option<Trial<M>>,
    /// How long a trial may take, all in all, before the candidate is refused and the child is killed. 10 s
    /// unless set.
    pub trial_deadline: Duration,
    /// After this time a retired generation that is still in use is reported as held. Nothing is ever
    /// ended or unmapped because of it. 5 s unless set.
    pub drain_deadline: Duration,
    /// Whether to record for each lease where in the code it was taken, and when, so that a generation
    /// that is held by leases says by which. Makes leases dearer: a lock and an entry for each. Off unless
    /// set.
    pub record_leases: bool,
    /// How many generations that have ended stay in the list. 64 unless set.
    pub ended_generations_max: usize,
    /// How many events are kept for a listener that does not come. 1,024 unless set.
    pub events_max: usize,
}

impl<M> Default for Settings<M> {
    fn default() -> Self {
        Self {
            trial: None,
            trial_deadline: Duration::from_secs(10),
            drain_deadline: Duration::from_secs(5),
            record_leases: false,
            ended_generations_max: 64,
            events_max: 1024,
        }
    }
}

impl<M> fmt::Debug for Settings<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trial,
            trial_deadline,
            drain_deadline,
            record_leases,
            ended_generations_max,
            events_max,
        } = self;
        f.debug_struct("Settings")
            .field("trial", trial)
            .field("trial_deadline", trial_deadline)
            .field("drain_deadline", drain_deadline)
            .field("record_leases", record_leases)
            .field("ended_generations_max", ended_generations_max)
            .field("events_max", events_max)
            .finish()
    }
}

/// What every candidate of a swap point has to pass.
struct Road<M> {
    trust: Trust,
    trial: Option<Trial<M>>,
    trial_deadline: Duration,
}

impl<M: RootModule + Send + Sync> Hotswap<M> {
    /// Loads the plugin at `path` as generation 1, with the default [`Settings`].
    ///
    /// Costs what [`swap`](Self::swap) costs, and a thread that lives as long as the swap point.
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
        cell::set_errand(image::detach_current_thread_from_retired);
        let path = path.as_ref();
        let history = Arc::new(History::new(
            settings.ended_generations_max,
            settings.events_max,
        ));
        let reaper = Reaper::start(path, Arc::clone(&history), settings.drain_deadline)?;
        let road = Road {
            trust: trust.clone(),
            trial: settings.trial,
            trial_deadline: settings.trial_deadline,
        };
        let (candidate, phases) = road.prepare(path, &reaper)?;

        let number = history.next_number();
        let origin = candidate.image.origin().clone();
        let kit_problem = candidate.image.kit_problem();
        let cell = Cell::new(candidate.numbered(number, settings.record_leases));
        history.published(number, &origin, kit_problem, phases);
        Ok(Self {
            cell,
            road,
            record_leases: settings.record_leases,
            history,
            swapping: Mutex::new(()),
            reaper: Some(reaper),
        })
    }

    /// Calls `f` with the live generation.
    ///
    /// All that `f` does with it is done on one generation. A `with` inside a `with` on the same swap
    /// point and thread reaches the outer one's generation, also when a swap came in between.
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
    /// other swaps of the same swap point, for no call and for no lease; it may be called inside
    /// [`with`](Self::with).
    ///
    /// Costs reading and copying the file and one `dlopen`; [`Swapped::phases`] has the times.
    ///
    /// # Errors
    ///
    /// The candidate was refused. The live generation serves on, as if nothing had happened.
    pub fn swap(&self, path: impl AsRef<Path>) -> Result<Swapped> {
        let reaper = self
            .reaper
            .as_ref()
            .expect("there until the swap point is shut down");
        let _one_at_a_time = self.swapping.lock().unwrap_or_else(PoisonError::into_inner);
        let prepared = self.road.prepare(path.as_ref(), reaper);
        let (candidate, mut phases) = prepared.inspect_err(|error| self.history.refused(error))?;

        let started = Instant::now();
        let number = self.history.next_number();
        let origin = candidate.image.origin().clone();
        let kit_problem = candidate.image.kit_problem();
        let retired = self
            .cell
            .publish(candidate.numbered(number, self.record_leases));
        phases.publish = started.elapsed();

        self.history.published(number, &origin, kit_problem, phases);
        reaper.retire(number - 1, retired);
        Ok(Swapped {
            generation: number,
            retired: number - 1,
            phases,
        })
    }

    /// The generations, oldest first: the live one, those that have not left yet, and the last of those
    /// that have (see [`Settings`]).
    pub fn generations(&self) -> Vec<GenerationInfo> {
        self.history.generations()
    }

    /// What happens from the first generation on. All receivers share one queue: each event goes to one
    /// of them.
    pub fn events(&self) -> Receiver<Event> {
        self.history.events()
    }

    /// Waits until generation `number` has left the address space or is found to be pinned, at most
    /// `timeout`, and gives its state then. `None`: the list does not have it (any more).
    ///
    /// The calling thread leaves retired plugins as with [`detach_current_thread`]. Inside
    /// [`with`](Self::with) it waits in vain for the generation that it is in, until `timeout`.
    pub fn wait(&self, number: u64, timeout: Duration) -> Option<State> {
        wait_detaching(timeout, |turn| match self.history.wait(number, turn) {
            state @ Some(State::Live | State::Draining { .. }) => (false, state),
            ended => (true, ended),
        })
    }

    /// Retires the live generation and waits until all have left, at most `timeout`. Gives those that
    /// are still mapped then: held by leases, or pinned.
    ///
    /// Generations that are still held go on draining, and are unloaded when their leases are dropped.
    pub fn shutdown(mut self, timeout: Duration) -> Vec<GenerationInfo> {
        let reaper = self.retire_live();
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

    /// Hands the live generation to the reaper, which ends when all have left. Once.
    fn retire_live(&mut self) -> Option<reaper::Ending> {
        let reaper = self.reaper.take()?;
        let live = self.history.next_number() - 1;
        self.history.draining(live, Vec::new());
        reaper.retire(live, self.cell.close());
        Some(reaper.end())
    }
}

impl<M: RootModule + Send + Sync> Drop for Hotswap<M> {
    fn drop(&mut self) {
        self.retire_live();
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

impl<M> fmt::Debug for Generation<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("number", &self.number)
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

/// A plugin that can be published.
struct Candidate<M> {
    module: M,
    image: Image,
}

impl<M: RootModule + Send + Sync> Road<M> {
    /// Walks the road up to *publish*. A refused candidate leaves nothing behind.
    ///
    /// On a thread that ends with it: an initialiser that uses a thread-local with a destructor would
    /// otherwise keep its image for as long as the thread lives that has asked for the swap. Costs some 50 µs.
    fn prepare(&self, path: &Path, reaper: &Reaper<M>) -> Result<(Candidate<M>, Phases)> {
        // Before there is a thread: one that finds no memory for its signal stack ends the process.
        need_memory(path, 0)?;
        thread::scope(|scope| {
            let loader = thread::Builder::new().name("hotswap-loader".to_owned());
            let loader = loader
                .spawn_scoped(scope, || self.load(path, reaper))
                .map_err(|error| no_thread(path, error))?;
            loader
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn load(&self, path: &Path, reaper: &Reaper<M>) -> Result<(Candidate<M>, Phases)> {
        let (staged, took) = Staged::prepare(path, module::EXPORT, &self.trust)?;

        let tried = match self.trial {
            Some(trial) => trial.run(&staged, self.trial_deadline)?,
            None => Duration::ZERO,
        };

        let started = Instant::now();
        let image = Image::open(staged)?;
        let link = started.elapsed();

        let started = Instant::now();
        match module::check(&image).and_then(Checked::root_module) {
            Ok(module) => {
                let check = started.elapsed();
                let phases = Phases {
                    copy: took.copy,
                    inspect: took.inspect,
                    trial: tried,
                    link,
                    check,
                    ..Phases::default()
                };
                Ok((Candidate { module, image }, phases))
            }
            Err(error) => {
                reaper.dispose(image.retire());
                Err(error)
            }
        }
    }
}

impl<M> Candidate<M> {
    fn numbered(self, number: u64, record_leases: bool) -> Generation<M> {
        let Self { module, image } = self;
        Generation {
            number,
            module,
            image,
            leases: record_leases.then(Register::default),
        }
    }
}

impl<M> Generation<M> {
    /// Begins the way out. Owning a generation means that it is drained: it was in the cell, and the cell
    /// gives it up when nobody can use it.
    fn retire(self) -> Leaving {
        self.image.retire()
    }
}

/// `path` only says what the thread was for.
fn no_thread(path: &Path, error: io::Error) -> Error {
    Error::new(
        Stage::Host,
        path,
        format!("no thread can be started: {error}"),
    )
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
