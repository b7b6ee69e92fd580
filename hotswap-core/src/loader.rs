//! [`Loader`]: single symbols out of any file, without a root module and without a swap point.
//!
//! A library that was opened is numbered and listed like a generation of a swap point; but several are live at once,
//! each for as long as somebody has it or a symbol of it. The road there and the way out are the same.

use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use abi_stable::StableAbi;
use crossbeam_channel::Receiver;

use crate::{
    cell,
    error::{Result, Stage},
    history::{Event, GenerationInfo, History, Limits, Phases, RefusedInfo, State},
    image::{self, Image},
    owned::HostOwned,
    stage::Staged,
    swap::{Reaper, on_loader_thread, wait_for_end},
    symbol::{self, SymbolInfo},
    trial::{self, Trial},
    trust::Trust,
};

/// Loads libraries, and single symbols of them.
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
/// A plugin exports `greet: Greet` with one line (`hotswap_types::export_symbol`):
///
/// ```no_run
/// use hotswap_core::{Loader, Policy, Trust};
/// use hotswap_types::Greet;
///
/// // SAFETY: we build these plugins ourselves, and nobody else can write to that folder.
/// let trust = unsafe { Trust::vouch(Policy::default()) };
/// let loader = Loader::new(&trust)?;
/// let greet = loader.load::<Greet>("./plugins/libplugin.so", "greet")?;
/// let text = greet.with(|greet| greet.0("Rust".into()).into_result().map(String::from).ok());
/// assert_eq!(text.as_deref(), Some("Hello Rust"));
/// # Ok::<(), hotswap_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Loader {
    shared: Arc<Shared>,
}

/// A library that is mapped for as long as this, a clone of it, or one of its symbols is there.
///
/// When the last of those is dropped, it is unloaded: beside whoever drops it, who only runs what the library
/// has left for the dropping thread to do (see [`detach_current_thread`](crate::detach_current_thread)).
#[derive(Clone)]
pub struct Library {
    opened: Arc<Opened>,
}

/// A value that a library exports, and the library with it.
pub struct Symbol<T> {
    value: T,
    library: Library,
}

/// How a loader behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoaderSettings {
    /// With it, every library is opened in a child process first. Off unless set.
    pub trial: Option<Trial<Library>>,
    /// How long a trial may take, all in all, before the file is refused and the child is killed. 10 s unless
    /// set.
    pub trial_deadline: Duration,
    /// After this time a library that nobody has any more, and that still cannot leave, is reported as held.
    /// Nothing is ever ended or unmapped because of it. 5 s unless set.
    pub drain_deadline: Duration,
    /// How many libraries that have left stay in the list. 64 unless set.
    pub ended_libraries_max: usize,
    /// How many refused files stay in the list. 64 unless set.
    pub refused_max: usize,
    /// How many events are kept for a listener that does not come. 1,024 unless set.
    pub events_max: usize,
}

struct Shared {
    trust: Trust,
    trial: Option<Trial<Library>>,
    trial_deadline: Duration,
    history: Arc<History>,
    /// It has no generations to drain: it is given images that nobody uses any more.
    reaper: Reaper<()>,
}

struct Opened {
    /// There until this is dropped, or a trial takes it back.
    image: Option<Image>,
    number: u64,
    /// Where it goes then. In a trial's child it goes nowhere.
    home: Option<Arc<Shared>>,
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
        cell::set_errand(image::detach_current_thread_from_retired);
        let history = Arc::new(History::new(Limits {
            ended: settings.ended_libraries_max,
            refused: settings.refused_max,
            events: settings.events_max,
        }));
        // No path is known yet.
        let nothing = Path::new("");
        let reaper = Reaper::start(nothing, Arc::clone(&history), settings.drain_deadline)?;
        let shared = Arc::new(Shared {
            trust: trust.clone(),
            trial: settings.trial,
            trial_deadline: settings.trial_deadline,
            history,
            reaper,
        });
        Ok(Self { shared })
    }

    /// Loads the symbol that the file at `path` exports as `name` with the type `T`.
    ///
    /// The type is compared down to the last field, by the layouts that host and library carry. Costs reading and
    /// copying the file, one `dlopen`, and a thread for the time that takes; waits for nobody. The library is
    /// loaded anew each time: for several symbols of one, [`open`](Self::open) it.
    ///
    /// # Errors
    ///
    /// The file was refused: also when it does not export the name, which is found out before anything of it runs
    /// in this process, or exports it with another type.
    pub fn load<T: StableAbi + Copy>(
        &self,
        path: impl AsRef<Path>,
        name: &str,
    ) -> Result<Symbol<T>> {
        let path = path.as_ref();
        let (library, value) = self.road(path, Some(name), |image| symbol::find(image, name))?;
        Ok(Symbol { value, library })
    }

    /// Opens the library at `path`, whatever it exports. Costs what [`load`](Self::load) costs.
    ///
    /// # Errors
    ///
    /// The file was refused.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Library> {
        let (library, ()) = self.road(path.as_ref(), None, |_| Ok(()))?;
        Ok(library)
    }

    /// The road of a candidate; `name` is looked for before anything of the file runs, and `take` is the last that
    /// may refuse it.
    fn road<T>(
        &self,
        path: &Path,
        name: Option<&str>,
        take: impl FnOnce(&Image) -> Result<T>,
    ) -> Result<(Library, T)> {
        let Shared {
            history, reaper, ..
        } = &*self.shared;
        let opened = self.link(path, name).and_then(|(image, phases)| {
            let started = Instant::now();
            match take(&image) {
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
        let (number, news) = history.opened(&image, phases);
        reaper.hash(number, image.keep());
        news.trace();
        let opened = Opened {
            image: Some(image),
            number,
            home: Some(Arc::clone(&self.shared)),
        };
        Ok((Library::new(opened), value))
    }

    fn link(&self, path: &Path, name: Option<&str>) -> Result<(Image, Phases)> {
        let Shared {
            trust,
            trial,
            trial_deadline,
            ..
        } = &*self.shared;
        on_loader_thread(path, || {
            let (staged, took) = Staged::prepare(path, symbol::EXPORTS, trust)?;
            if let Some(name) = name {
                symbol::check_name(path, &staged.facts().named, name)?;
            }
            let tried = match trial {
                Some(trial) => trial.run(&staged, *trial_deadline)?.took,
                None => Duration::ZERO,
            };
            let started = Instant::now();
            let image = Image::open(staged)?;
            let phases = Phases {
                copy: took.copy,
                inspect: took.inspect,
                trial: tried,
                link: started.elapsed(),
                ..Phases::default()
            };
            Ok((image, phases))
        })
    }

    /// The libraries, oldest first: those that are mapped, and the last of those that have left (see
    /// [`LoaderSettings`]).
    pub fn libraries(&self) -> Vec<GenerationInfo> {
        self.shared.history.generations()
    }

    /// The files that were refused, oldest first; the last of them (see [`LoaderSettings`]).
    pub fn refused(&self) -> Vec<RefusedInfo> {
        self.shared.history.refusals()
    }

    /// What happens. All receivers share one queue: each event goes to one of them.
    pub fn events(&self) -> Receiver<Event> {
        self.shared.history.events()
    }

    /// Waits until library `number` has left the address space or is found to be pinned, at most `timeout`, and gives
    /// its state then. `None`: the list does not have it (any more).
    ///
    /// The calling thread leaves retired libraries as with
    /// [`detach_current_thread`](crate::detach_current_thread).
    pub fn wait(&self, number: u64, timeout: Duration) -> Option<State> {
        wait_for_end(&self.shared.history, number, timeout)
    }
}

impl Library {
    /// The symbol that the library exports as `name` with the type `T`.
    ///
    /// # Errors
    ///
    /// It does not, or with another type.
    pub fn symbol<T: StableAbi + Copy>(&self, name: &str) -> Result<Symbol<T>> {
        let value = symbol::find(self.image(), name)?;
        Ok(self.symbol_of(value))
    }

    /// The function that the library exports as `name`, as whatever `F` says it is: a C function, of which nothing is
    /// known but its address.
    ///
    /// The library may be any. One without the kit is unloaded where that is known to be safe, and stays mapped
    /// where it is not.
    ///
    /// # Errors
    ///
    /// The library itself (not one that it depends on) exports no function of that name.
    ///
    /// # Safety
    ///
    /// `F` is the type of a function pointer, with the calling convention, the parameters and the result of that
    /// function; what the function asks of its callers is kept. A name that is not exported, or that
    /// is no function, is refused all the same.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use hotswap_core::{Loader, Policy, Trust};
    /// # let trust = unsafe { Trust::vouch(Policy::default()) };
    /// let maths = Loader::new(&trust)?.open("/lib/x86_64-linux-gnu/libm.so.6")?;
    /// // SAFETY: `double cos(double)`, which asks nothing of its callers (man 3 cos).
    /// let cos = unsafe { maths.c_function::<extern "C" fn(f64) -> f64>("cos") }?;
    /// assert_eq!(cos.with(|cos| cos(0.0)), 1.0);
    /// # Ok::<(), hotswap_core::Error>(())
    /// ```
    pub unsafe fn c_function<F: Copy>(&self, name: &str) -> Result<Symbol<F>> {
        // SAFETY: the caller's promise is passed on.
        let function = unsafe { symbol::c_function(self.image(), name) }?;
        Ok(self.symbol_of(function))
    }

    /// The static that the library exports as `name`, as whatever `T` says it is.
    ///
    /// # Errors
    ///
    /// The library itself exports no static of that name, one that is smaller than a `T`, or one at an address that a
    /// `T` cannot have.
    ///
    /// # Safety
    ///
    /// The static holds a valid `T`, and nobody changes it but as a `T` allows that.
    pub unsafe fn c_static<T: Sync>(&self, name: &str) -> Result<Symbol<&'static T>> {
        // SAFETY: the caller's promise is passed on. The image is mapped as long as the symbol is there, which lends
        // out its value for no longer.
        let value = unsafe { symbol::c_static(self.image(), name) }?;
        Ok(self.symbol_of(value))
    }

    /// The typed symbols that the library exports, by name.
    pub fn symbols(&self) -> Vec<SymbolInfo> {
        symbol::list(self.image())
    }

    /// Its number: counted from 1 in the order of opening, never used twice by a loader.
    pub fn number(&self) -> u64 {
        self.opened.number
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.image().origin().given
    }

    fn new(opened: Opened) -> Self {
        Self {
            opened: Arc::new(opened),
        }
    }

    fn image(&self) -> &Image {
        let image = self.opened.image.as_ref();
        image.expect("there until the last of these is dropped")
    }

    fn symbol_of<T>(&self, value: T) -> Symbol<T> {
        Symbol {
            value,
            library: self.clone(),
        }
    }
}

impl<T> Symbol<T> {
    /// Calls `f` with the value.
    ///
    /// What `f` returns must belong to the host ([`HostOwned`]): what the value leads to is there only as long as the
    /// symbol is. Costs a look at a thread-local beside the call; waits for nobody. Before the call the
    /// thread does what libraries that were dropped have left for it to do.
    ///
    /// # Panics
    ///
    /// When `f` does.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use hotswap_core::Symbol;
    /// # use hotswap_types::Greet;
    /// fn greeting(greet: &Symbol<Greet>) -> Option<String> {
    ///     greet.with(|greet| greet.0("Rust".into()).into_result().map(String::from).ok())
    /// }
    /// ```
    ///
    /// The text as the plugin gives it would outlive the code by which it is dropped:
    ///
    /// ```compile_fail,E0277
    /// # use hotswap_core::Symbol;
    /// # use hotswap_types::{Answer, Greet};
    /// fn greeting(greet: &Symbol<Greet>) -> Answer {
    ///     greet.with(|greet| greet.0("Rust".into()))
    /// }
    /// ```
    #[inline]
    pub fn with<R: HostOwned>(&self, f: impl FnOnce(&T) -> R) -> R {
        cell::come_by();
        f(&self.value)
    }

    /// The library that it is from: for another symbol of the same one.
    pub fn library(&self) -> &Library {
        &self.library
    }
}

impl Trial<Library> {
    /// [`at_top_of_main`](Self::at_top_of_main) for the libraries of a [`Loader`]: everything that is said there holds
    /// here.
    ///
    /// The probe takes symbols out of the library, and calls them. It must not keep any of them, or the library.
    pub fn of_libraries_at_top_of_main(
        probe: fn(&Library) -> std::result::Result<(), String>,
    ) -> Self {
        Self::or_child(symbol::EXPORTS, &|image, reached| {
            let mut library = Library::new(Opened {
                image: Some(image),
                number: 0,
                home: None,
            });
            reached(Stage::Probe)?;
            trial::ask(|| {
                probe(&library)?;
                let opened = Arc::get_mut(&mut library.opened);
                opened
                    .map(|_| ())
                    .ok_or_else(|| "the probe has kept the library".to_owned())
            })?;
            let opened = Arc::get_mut(&mut library.opened);
            let image = opened.and_then(|opened| opened.image.take());
            Ok((image.expect("was there just now"), String::new()))
        })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let (Some(image), Some(home)) = (self.image.take(), &self.home) else {
            return;
        };
        home.history.draining(self.number, Vec::new());
        let leaving = image.retire();
        image::detach_current_thread_from_retired();
        home.reaper.leave(self.number, leaving);
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("libraries", &self.libraries())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library")
            .field("number", &self.number())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Symbol<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Symbol")
            .field("library", &self.library)
            .finish_non_exhaustive()
    }
}

impl Default for LoaderSettings {
    fn default() -> Self {
        Self {
            trial: None,
            trial_deadline: Duration::from_secs(10),
            drain_deadline: Duration::from_secs(5),
            ended_libraries_max: 64,
            refused_max: 64,
            events_max: 1024,
        }
    }
}
