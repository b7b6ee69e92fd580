//! Builds, and waits for the next change.
//!
//! No change is missed: the state that a build is compared with is that from before the build, so that what is saved
//! during a build causes another one.

use std::{
    convert::Infallible,
    env,
    ffi::OsString,
    io::{self, IsTerminal},
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use crate::{
    cargo::{Cargo, Outcome, Processes},
    error::DevError,
    notices::Notices,
    packages::{Packages, Places},
    sources::{FileState, Sources},
    system::NOT_SUPPORTED,
};

/// Builds a plugin now, and whenever its sources have changed, for as long as this value lives.
///
/// Dropping it ends a build that is running, with all processes of it, and waits for them.
#[must_use = "building ends when this is dropped"]
#[derive(Debug)]
pub struct DevLoop {
    package: String,
    builds: Receiver<Build>,
    processes: Arc<Processes>,
    /// Dropped before the thread is waited for, which ends it.
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

/// What to build, and how.
#[derive(Clone, Debug)]
pub struct DevSettings {
    /// The package of the plugin. `None`: the only one of the workspace whose library is a `cdylib`.
    pub package: Option<String>,
    /// The package of the host, as a rule `env!("CARGO_PKG_NAME")`. It is not built, but what host and plugin both
    /// depend on gets the features that it has in the host, so that nothing is compiled twice. A package that is not in
    /// the workspace counts as none.
    pub host: Option<String>,
    /// A folder of the workspace, in which cargo runs. The current one unless set.
    pub folder: PathBuf,
    /// More arguments for `cargo build`, such as `--release`.
    pub cargo_args: Vec<OsString>,
    /// Whether the compiler's messages have colours. Unless set, they have if standard error is a terminal.
    pub color: bool,
    /// A change counts as complete when nothing has changed for this long. 50 ms unless set.
    pub settle: Duration,
}

/// A step of a [`DevLoop`]. [`Started`](Self::Started) comes first, and one of the others follows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Build {
    /// Cargo begins.
    Started,
    /// There is a new plugin.
    #[non_exhaustive]
    Built {
        /// Its file, which is absolute. The next build replaces it.
        path: PathBuf,
        /// The compiler's warnings, as cargo shows them.
        rendered: String,
        /// How long it took.
        took: Duration,
    },
    /// The plugin is the one that was built last: what has changed is not a part of it.
    #[non_exhaustive]
    Unchanged {
        /// How long it took to find out.
        took: Duration,
    },
    /// There is no new plugin.
    #[non_exhaustive]
    Failed {
        /// The errors of the compiler and of cargo, as cargo shows them. At most some megabytes.
        rendered: String,
        /// How long it took.
        took: Duration,
    },
}

impl Default for DevSettings {
    fn default() -> Self {
        Self {
            package: None,
            host: None,
            folder: PathBuf::from("."),
            cargo_args: Vec::new(),
            color: io::stderr().is_terminal(),
            settle: Duration::from_millis(50),
        }
    }
}

/// Builds a plugin once, and returns its file, which is absolute. For tests: `cargo test` builds no plugins, because no
/// test links to them.
///
/// Waits for cargo, and for whoever else builds in the same target folder. The next build replaces the file.
/// [`settle`](DevSettings::settle) does not matter.
///
/// # Errors
///
/// It is not clear which package is the plugin, or the plugin does not build.
///
/// # Examples
///
/// ```no_run
/// use hotswap_dev::{DevSettings, build};
///
/// let path = build(DevSettings {
///     package: Some("my-rules".to_owned()),
///     ..DevSettings::default()
/// })?;
/// println!("{}", path.display());
/// # Ok::<(), hotswap_dev::DevError>(())
/// ```
pub fn build(settings: DevSettings) -> Result<PathBuf, DevError> {
    let (_, cargo) = find(settings)?;
    let outcome = cargo.build(&Processes::default());
    let outcome = outcome.map_err(|error| DevError::NoCargo { error })?;
    outcome.path.ok_or(DevError::NotBuilt {
        package: cargo.plugin.name,
        rendered: outcome.rendered,
    })
}

/// The packages of the workspace, and how its plugin is built.
fn find(settings: DevSettings) -> Result<(Packages, Cargo), DevError> {
    if let Some(why) = NOT_SUPPORTED {
        return Err(DevError::NotSupported { why });
    }
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let program = PathBuf::from(program);
    let packages = Packages::read(&program, &settings.folder)?;
    let plugin = packages.plugin(settings.package.as_deref())?;
    let cargo = Cargo {
        program,
        folder: settings.folder,
        host: settings.host.filter(|it| packages.has(it)),
        plugin,
        arguments: settings.cargo_args,
        color: settings.color,
    };
    Ok((packages, cargo))
}

impl DevLoop {
    /// Starts to build. Costs a call of `cargo metadata`, which takes 10 ms.
    ///
    /// It costs two threads (one of them `notify`'s), and an inotify watch for each folder of the sources. While
    /// nothing changes, it looks at all files every second, which takes less than a millisecond for some hundred files.
    ///
    /// The environment variable `CARGO` names the cargo to run, as in what `cargo run` starts.
    ///
    /// # Errors
    ///
    /// `cargo metadata` fails, it is not clear which package is the plugin, or the system starts no thread. That the
    /// plugin does not build is no error: it is a [`Build::Failed`].
    pub fn start(settings: DevSettings) -> Result<Self, DevError> {
        let settle = settings.settle;
        let (packages, cargo) = find(settings)?;
        let package = cargo.plugin.name.clone();
        // A build waits for the receiver of the one before.
        let (sender, builds) = bounded(1);
        let (stop, stopped) = bounded(0);
        let (wake, wakes) = bounded(1);
        let processes = Arc::<Processes>::default();
        let builder = Builder {
            places: packages.places(&cargo.plugin),
            cargo,
            settle,
            notices: Notices::new(wake),
            wakes,
            stopped,
            builds: sender,
            processes: Arc::clone(&processes),
        };
        let thread = thread::Builder::new().name("hotswap-dev".to_owned());
        let thread = thread.spawn(move || {
            builder.run();
        });
        let thread = thread.map_err(|error| DevError::NoThread { error })?;
        Ok(Self {
            package,
            builds,
            processes,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The name of the plugin's package.
    pub fn package(&self) -> &str {
        &self.package
    }

    /// The builds, in order. While one waits here to be received, there is no other one.
    pub fn builds(&self) -> &Receiver<Build> {
        &self.builds
    }
}

impl Drop for DevLoop {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.processes.end();
        // If it panicked, the message was printed then.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// How often to look without a notice: some file systems send none, and the system has a limit for them.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The state of the thread.
struct Builder {
    places: Places,
    cargo: Cargo,
    settle: Duration,
    notices: Notices,
    wakes: Receiver<()>,
    stopped: Receiver<Infallible>,
    builds: Sender<Build>,
    processes: Arc<Processes>,
}

impl Builder {
    /// `None`: it was stopped.
    fn run(mut self) -> Option<Infallible> {
        let mut sources = self.settled(&Sources::default())?;
        let mut last_built = None;
        loop {
            self.send(Build::Started)?;
            let build = self.build(&mut last_built);
            self.send(build)?;
            let changed = self.settled(&sources)?;
            if !changed.have_manifests_of(&sources) {
                self.read_packages();
            }
            sources = changed;
        }
    }

    fn build(&self, last_built: &mut Option<(PathBuf, FileState)>) -> Build {
        let begin = Instant::now();
        let outcome = self.cargo.build(&self.processes);
        let took = begin.elapsed();
        let (path, rendered) = match outcome {
            Ok(Outcome { path, rendered }) => (path, rendered),
            Err(error) => {
                let program = self.cargo.program.display();
                (None, format!("error: {program} does not run: {error}\n"))
            }
        };
        let built = path.and_then(|path| {
            let state = FileState::of(&path)?;
            Some((path, state))
        });
        let Some(built) = built else {
            return Build::Failed { rendered, took };
        };
        if last_built.as_ref() == Some(&built) {
            return Build::Unchanged { took };
        }
        let path = built.0.clone();
        *last_built = Some(built);
        Build::Built {
            path,
            rendered,
            took,
        }
    }

    /// A manifest has changed. If it is wrong, the next build says so.
    fn read_packages(&mut self) {
        let packages = Packages::read(&self.cargo.program, &self.cargo.folder);
        if let Ok(packages) = packages {
            self.places = packages.places(&self.cargo.plugin);
        }
    }

    /// Waits until the sources are others than these, and have settled.
    fn settled(&mut self, before: &Sources) -> Option<Sources> {
        let mut seen = None;
        loop {
            // What came before this look is seen by it.
            let _ = self.wakes.try_recv();
            let now = Sources::look(&self.places);
            let is_new_place = self.notices.follow(&now.folders);
            if !is_new_place && now == *before {
                self.wait()?;
                continue;
            }
            if !is_new_place && seen.as_ref() == Some(&now) {
                return Some(now);
            }
            seen = Some(now);
            self.pause()?;
        }
    }

    /// Waits for a notice, or for the time of the next look.
    fn wait(&self) -> Option<()> {
        select! {
            recv(self.stopped) -> _ => None,
            recv(self.wakes) -> _ => Some(()),
            default(LOOK_EVERY) => Some(()),
        }
    }

    /// Waits for the settle time, whatever notices come.
    fn pause(&self) -> Option<()> {
        select! {
            recv(self.stopped) -> _ => None,
            default(self.settle) => Some(()),
        }
    }

    fn send(&self, build: Build) -> Option<()> {
        select! {
            recv(self.stopped) -> _ => None,
            send(self.builds, build) -> sent => sent.ok(),
        }
    }
}
