//! [`Loader`]: single functions out of any file, without an interface and without a swap point.
//!
//! A library that was opened is numbered and listed like a generation of a swap point; but several are live at once,
//! each for as long as somebody has it or a function of it. The pipeline and the way out are the same.

mod library;

use std::{
    fmt,
    path::Path,
    process,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use hotswap_sdk::host::Function;

use self::library::Opened;
pub use self::library::{Library, Symbol};
pub use crate::function::FunctionInfo;
use crate::{
    error::{Error, ErrorKind, Result},
    function,
    given::GivenPath,
    history::{Event, EventStream, GenerationInfo, History, Metrics, Phases, State},
    image::{self, Image},
    stage::Staged,
    swap::{
        Limits, Reaper, WaitFuture, finish_staging, prepare_span, stage_and_load, wait_for_end,
    },
    trial::Trial,
    trust::Trust,
};

/// Loads libraries, and single functions of them.
///
/// What it is for: one function of a file that is known by its path, checked, without an interface of
/// many. Whoever wants to replace what is called takes a [`Hotswap`](crate::Hotswap).
///
/// Loading the same path again gives what the file has by then, beside what was loaded before.
///
/// Dropping it unloads nothing, and waits for nobody.
///
/// # Examples
///
/// A plugin exports a function with [`#[export]`](hotswap_sdk::export):
///
/// ```
/// hotswap_sdk::unloadable!();
///
/// #[hotswap_sdk::export]
/// fn greet(name: &str) -> String {
///     format!("Hello {name}")
/// }
/// # fn main() {}
/// ```
///
/// The host says which type it expects ([`#[function]`](hotswap_sdk::function)):
///
/// ```no_run
/// use hotswap_core::{Policy, Trust, loader::Loader};
///
/// #[hotswap_sdk::function]
/// type Greet = fn(name: &str) -> String;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // SAFETY: we build these plugins ourselves, and nobody else can write to that folder.
/// let trust = unsafe { Trust::vouch(Policy::default()) };
/// let loader = Loader::new(&trust)?;
/// let greet: Greet = loader.function("./plugins/libplugin.so", "greet")?;
/// // An error if the function has panicked.
/// assert_eq!(greet.call("Rust")?, "Hello Rust");
/// # Ok(())
/// # }
/// ```
#[doc(alias("dlopen", "dlsym"))]
#[derive(Clone)]
pub struct Loader {
    shared: Arc<Shared>,
}

/// How a loader behaves.
#[derive(Clone, Debug, Default)]
pub struct LoaderSettings {
    /// With it, every library is opened in a child process first. Off unless set.
    pub trial: Option<Trial<Library>>,
    /// The name of the loader in its metrics ([`Settings::name`](crate::Settings::name)). By default, it is `loader`.
    pub name: Option<String>,
    /// What swap points and loaders have in common: bounds, and times.
    pub limits: Limits,
}

struct Shared {
    trust: Trust,
    trial: Option<Trial<Library>>,
    history: Arc<History>,
    /// It has no generations to drain: it is given images that nobody uses any more.
    reaper: Reaper<()>,
    /// The process that it was made in. A child that was forked off has none of its threads.
    process: u32,
}

impl Loader {
    /// A loader with the default [`LoaderSettings`]. Costs a thread that lives as long as the loader and all that it
    /// has loaded.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn new(trust: &Trust) -> Result<Self> {
        Self::with_settings(trust, LoaderSettings::default())
    }

    /// Like [`new`](Self::new), with settings of one's own.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_settings(trust: &Trust, settings: LoaderSettings) -> Result<Self> {
        hotswap_cell::set_quiescence_callback(image::detach_current_thread_from_retired);
        image::prepare_for_forks();
        let LoaderSettings {
            trial,
            name,
            limits,
        } = settings;
        let metrics = Metrics::new(name.as_deref().unwrap_or("loader"));
        let history = Arc::new(History::new(limits.lengths(), metrics));
        // No path is known yet.
        let nothing = Path::new("");
        let reaper = Reaper::start(nothing, Arc::clone(&history), &limits)?;
        let shared = Arc::new(Shared {
            trust: trust.clone(),
            trial,
            history,
            reaper,
            process: process::id(),
        });
        Ok(Self { shared })
    }

    /// Loads the function that the file at `path` exports as `name` with the types of `F`
    /// ([`#[function]`](hotswap_sdk::function)).
    ///
    /// The types are compared down to the last field. Costs reading and copying the file, one `dlopen`, and a thread,
    /// which is parked for as long as the library is mapped; waits for nobody but the thread that unloads
    /// ([`Limits::unload_timeout`]). The library is loaded anew each time: for several functions of one,
    /// [`open`](Self::open) it.
    ///
    /// # Errors
    ///
    /// The file was refused: also when it does not export the name, which is found out before anything of it runs
    /// in this process, or exports it with other types.
    pub fn function<F: Function>(&self, path: impl AsRef<Path>, name: &str) -> Result<F> {
        let path = path.as_ref();
        let find = |image: &Image| function::find(image, name);
        let (library, function) = self.admit(path, Some(name), find)?;
        Ok(library.bind(function))
    }

    /// Opens the library at `path`, whatever it exports. Costs what [`function`](Self::function) costs.
    ///
    /// # Errors
    ///
    /// The file was refused.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Library> {
        let (library, ()) = self.admit(path.as_ref(), None, |_| Ok(()))?;
        Ok(library)
    }

    /// The pipeline of a candidate; `name` is looked for before anything of the file runs, and `take` is the last that
    /// may refuse it.
    fn admit<T>(
        &self,
        path: &Path,
        name: Option<&str>,
        take: impl FnOnce(&Image) -> Result<T>,
    ) -> Result<(Library, T)> {
        let Shared {
            history, reaper, ..
        } = &*self.shared;
        if self.shared.process != process::id() {
            let kind = ErrorKind::Forked { is_of_loader: true };
            return Err(Error::new(path, kind));
        }
        let linked = GivenPath::new(path).and_then(|given| {
            reaper.admit(path, || ())?;
            self.link(&given, name)
        });
        let opened = linked.and_then(|(mut image, phases)| {
            let started = Instant::now();
            let checked = image.check_libraries();
            let kept = |value| {
                let policy = self.shared.trust.policy();
                image.origin().keep_serial(policy).map(|()| value)
            };
            match checked.and_then(|()| take(&image)).and_then(kept) {
                Ok(value) => {
                    let check = started.elapsed();
                    Ok((image, value, Phases { check, ..phases }))
                }
                Err(error) => {
                    reaper.dispose(image.retire());
                    Err(error)
                }
            }
        });
        let (image, value, phases) = opened.inspect_err(|error| history.refused(error))?;
        let (number, recorded) = history.opened(&image, phases);
        recorded.deliver();
        let opened = Opened {
            image: Some(image),
            number,
            home: Some(Arc::clone(&self.shared)),
        };
        Ok((Library::new(opened), value))
    }

    fn link(&self, path: &GivenPath, name: Option<&str>) -> Result<(Image, Phases)> {
        let Shared { trust, trial, .. } = &*self.shared;
        let stage = || {
            let (staged, times) = Staged::prepare(path, function::EXPORTS, trust)?;
            if let Some(name) = name {
                function::check_name(path, &staged.facts().exported_names, name)?;
            }
            finish_staging(staged, times, trust.policy(), *trial)
        };
        stage_and_load(
            &prepare_span(path),
            stage,
            || self.shared.reaper.opener(path),
            |(staged, phases), opener| {
                let started = Instant::now();
                let image = Image::open(staged, opener, trust.policy())?;
                let link = started.elapsed();
                Ok((image, Phases { link, ..phases }))
            },
        )
    }

    /// The libraries, oldest first: those that are mapped, and the last of those that have left (see
    /// [`Limits`]). Their bytes are hashed only if there are pins ([`Policy::sha256`](crate::Policy::sha256)).
    pub fn libraries(&self) -> Vec<GenerationInfo> {
        self.shared.history.generations()
    }

    /// The files that were refused, oldest first; the last of them (see [`Limits`]).
    pub fn refused(&self) -> Vec<Event> {
        self.shared.history.refusals()
    }

    /// A queue of the events. Every receiver gets every event. The first receiver also gets those from before it was
    /// asked for.
    ///
    /// Nobody waits for a receiver. A slow one misses events, and is told how many ([`Limits::events_max`],
    /// [`EventKind::Missed`](crate::EventKind::Missed)). One that was dropped is forgotten at the next event. The
    /// queues end when the loader and all that it has loaded are dropped, and each library is unloaded or pinned.
    pub fn events(&self) -> Receiver<Event> {
        self.shared.history.events()
    }

    /// Waits at most `timeout` until library `number` is gone from the address space or is found to be pinned, and
    /// returns its state then. `None`: the list does not have it (any more).
    ///
    /// The calling thread leaves retired libraries, as with
    /// [`detach_current_thread`](crate::detach_current_thread).
    pub fn wait(&self, number: u64, timeout: Duration) -> Option<State> {
        wait_for_end(&self.shared.history, number, timeout)
    }

    /// The [`events`](Self::events) as a stream ([`Hotswap::event_stream`](crate::Hotswap::event_stream)).
    pub fn event_stream(&self) -> EventStream {
        self.shared.history.event_stream()
    }

    /// Like [`wait`](Self::wait), for tasks of an executor, and without a timeout
    /// ([`Hotswap::wait_async`](crate::Hotswap::wait_async)).
    pub fn wait_async(&self, number: u64) -> WaitFuture {
        WaitFuture::new(&self.shared.history, number)
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("libraries", &self.libraries())
            .finish_non_exhaustive()
    }
}
