//! The agent: brings a host to run what the roll-out says.

mod calls;
mod folder;
mod link;
mod target;

mod runner;

use std::{
    fmt,
    hash::Hash,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use async_nats::{ConnectOptions, ServerAddr};
use hotswap_core::{
    Hotswap, Interface, Policy, PublicKey, Settings, Sha256, Trust,
    canary::{Choice, Rule},
    reasons::Fault,
};
use hotswap_sdk::host::Trait;
use tokio::sync::{Mutex, Notify, watch};

pub use self::target::{StopSignal, Target, TargetEvent};
use self::{calls::Calls, folder::Folder, runner::Runner, target::SwapPoint};
use crate::{
    error::{FleetError, FleetErrorKind, Result},
    manifest::Manifest,
    names,
    status::HEARTBEAT_MAX,
    store::Store,
};

/// What an agent needs to know.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// The plugin's name, as in the manifest: letters, digits, `-` and `_`.
    pub plugin: String,
    /// The host's name: the same letters. No two processes of a fleet have the same one.
    pub host: String,
    /// A folder of this process alone, for fetched plugins and what is known of them. It is made if it is not there.
    pub folder: PathBuf,
    /// The key that plugins are signed with.
    pub public_key: PublicKey,
    /// If set, the `interface=` that a manifest must have. (Whether a plugin fits, hotswap finds out when it is
    /// loaded.)
    pub interface: Option<String>,
    /// A file to begin with when nothing was fetched yet. It needs a signature, too.
    pub initial: Option<PathBuf>,
    /// If set, each new build is a canary of this host first, and this rule decides. What a roll-out goes back to is
    /// made live at once.
    pub canary: Option<Rule>,
    /// How long a build has to run before the process begins with it after a restart. A process that ends before,
    /// other than by [`Agent::stop`], has refused the build. 30 s unless set.
    pub good_after: Duration,
    /// The time between two heartbeats, at most an hour. A host that misses three counts as lost. 10 s unless set.
    pub heartbeat: Duration,
    /// How long the server may not answer while a plugin is fetched, before that is begun again. 2 min unless set.
    pub fetch_timeout: Duration,
    /// How long [`Agent::start`] waits for a first plugin if it has none. 1 min unless set.
    pub start_timeout: Duration,
    /// The largest plugin that is fetched, in bytes. 1 GiB unless set.
    pub plugin_bytes_max: u64,
}

impl AgentSettings {
    /// Settings with these names, this folder, and this key.
    pub fn new(
        plugin: impl Into<String>,
        host: impl Into<String>,
        folder: impl Into<PathBuf>,
        public_key: PublicKey,
    ) -> Self {
        Self {
            plugin: plugin.into(),
            host: host.into(),
            folder: folder.into(),
            public_key,
            interface: None,
            initial: None,
            canary: None,
            good_after: Duration::from_secs(30),
            heartbeat: Duration::from_secs(10),
            fetch_timeout: Duration::from_secs(120),
            start_timeout: Duration::from_secs(60),
            plugin_bytes_max: 1 << 30,
        }
    }

    /// What the host trusts: files that are signed with the key, whoever owns them.
    pub fn policy(&self) -> Policy {
        Policy {
            public_key: Some(self.public_key.clone()),
            file_bytes_max: self.plugin_bytes_max,
            ..Policy::default()
        }
    }

    fn check(&self) -> Result<()> {
        names::check_name("plugin", &self.plugin).map_err(FleetError::invalid)?;
        names::check_name("host", &self.host).map_err(FleetError::invalid)?;
        if self.heartbeat.is_zero() {
            return Err(FleetError::invalid(
                "the time between two heartbeats is zero",
            ));
        }
        if self.heartbeat > HEARTBEAT_MAX {
            return Err(FleetError::invalid(
                "the time between two heartbeats is more than an hour",
            ));
        }
        Ok(())
    }
}

/// Brings a host to run what the roll-out says, on a thread of its own.
///
/// Dropping it is like [`stop`](Self::stop).
pub struct Agent<I: Interface<Kind = Trait> + ?Sized> {
    plugin: Arc<Hotswap<I>>,
    point: Arc<SwapPoint<I>>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl<I: Interface<Kind = Trait> + ?Sized + 'static> Agent<I> {
    /// Loads the last plugin that has run here for a while, and follows the roll-out from then on. If there is none, it
    /// loads [`AgentSettings::initial`]; without that, it waits for the server.
    ///
    /// `server` is an address such as `nats://nats-1:4222,nats://nats-2:4222`, and `options` has what is needed to
    /// connect: credentials, certificates. The server may be away: then the agent connects when it is there.
    ///
    /// `settings_of` gives the settings of the swap point; it may be asked more than once.
    ///
    /// Costs a thread, and a connection.
    ///
    /// # Errors
    ///
    /// A setting is wrong, the folder cannot be used, or there is no plugin to begin with ([`FleetErrorKind::Load`]).
    pub fn start(
        settings: AgentSettings,
        server: &str,
        options: ConnectOptions,
        trust: &Trust,
        settings_of: impl Fn() -> Settings<I> + Send + Sync + 'static,
    ) -> Result<Self> {
        settings.check()?;
        let folder = Folder::open(&settings.folder)?;
        let point = Arc::new(SwapPoint {
            plugin: OnceLock::new(),
            is_loaded: Notify::new(),
            trust: trust.clone(),
            settings: Box::new(settings_of),
            canary: settings.canary.clone(),
            calls: Calls::default(),
            events: Mutex::default(),
        });
        let (begun, why_not) = match load_here(&settings, &folder, &point) {
            Ok(begun) => (begun, String::new()),
            Err(why_not) => (None, why_not),
        };
        let (stop, stopped) = watch::channel(false);
        let (start_timeout, name) = (settings.start_timeout, settings.plugin.clone());
        let server = servers(server)?;
        let work = {
            let point = Arc::clone(&point);
            async move || {
                let options = options
                    .name(format!("hotswap {} {}", settings.plugin, settings.host))
                    .custom_inbox_prefix(format!("_INBOX_{}", settings.host))
                    .retry_on_initial_connect()
                    .max_reconnects(None);
                match options.connect(server).await {
                    Ok(client) => {
                        let runner =
                            Runner::new(settings, point, Store::new(client), folder, begun);
                        runner.run(stopped).await;
                    }
                    Err(error) => {
                        tracing::error!(target: "hotswap_fleet", %error, "cannot connect, and will not try again");
                    }
                }
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let thread = runtime.and_then(|runtime| {
            thread::Builder::new()
                .name("hotswap-fleet".to_owned())
                .spawn(move || runtime.block_on(work()))
        });
        let thread = thread.map_err(|error| {
            FleetError::caused(
                FleetErrorKind::Load,
                "cannot start the agent's thread",
                error,
            )
        })?;
        let begun = Instant::now();
        let plugin = loop {
            if let Some(plugin) = point.plugin.get() {
                break Arc::clone(plugin);
            }
            if begun.elapsed() > start_timeout || thread.is_finished() {
                stop.send_replace(true);
                let _ = thread.join();
                let what = format!(
                    "no plugin `{name}` to begin with: {why_not}, and none came from the server in {start_timeout:?}"
                );
                return Err(FleetError::new(FleetErrorKind::Load, what));
            }
            thread::sleep(Duration::from_millis(10));
        };
        Ok(Self {
            plugin,
            point,
            stop,
            thread: Some(thread),
        })
    }

    /// The swap point. Its calls are not counted, so roll-outs do not see their faults: [`call`](Self::call) does that.
    pub fn plugin(&self) -> &Arc<Hotswap<I>> {
        &self.plugin
    }

    /// Calls the plugin, and counts the call, its time and its fault for the build that has answered. A fault is also
    /// reported to the swap point ([`Hotswap::report_fault`]), which may go back if it is on probation.
    ///
    /// During a canary of this host, the call is one of the candidate's with the probability of its share.
    ///
    /// Costs what [`Hotswap::choose_at_random`] costs, two looks at the clock, and a few counters.
    ///
    /// # Errors
    ///
    /// The plugin has panicked, or a value could not cross.
    pub fn call<R>(&self, f: impl for<'a> FnOnce(&'a I::Borrowed<'a>) -> R) -> Result<R, Fault> {
        self.counted(self.plugin.choose_at_random(), f)
    }

    /// Like [`call`](Self::call); during a canary, calls with the same key go to the same side.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub fn call_for<K: Hash + ?Sized, R>(
        &self,
        key: &K,
        f: impl for<'a> FnOnce(&'a I::Borrowed<'a>) -> R,
    ) -> Result<R, Fault> {
        self.counted(self.plugin.choose(key), f)
    }

    /// Counts a call that was made in another way, such as an async one.
    pub fn count(&self, generation: u64, time: Duration, is_fault: bool) {
        let sha256 = || self.plugin.sha256(generation).map(|it| it.to_string());
        self.point.calls.count(generation, sha256, time, is_fault);
    }

    /// Stops following the roll-out, and says at the server that the host has left, which takes at most a second. The
    /// plugin stays as it is.
    pub fn stop(self) {
        drop(self);
    }

    fn counted<R>(
        &self,
        choice: Choice<I>,
        f: impl for<'a> FnOnce(&'a I::Borrowed<'a>) -> R,
    ) -> Result<R, Fault> {
        let begun = Instant::now();
        let result = choice.call(f);
        self.count(choice.generation(), begun.elapsed(), result.is_err());
        if let Err(fault) = &result {
            self.plugin
                .report_fault(choice.generation(), &fault.to_string());
        }
        result
    }
}

impl<I: Interface<Kind = Trait> + ?Sized> Drop for Agent<I> {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // It has said itself why, if it has panicked.
            let _ = thread.join();
        }
    }
}

impl<I: Interface<Kind = Trait> + ?Sized> fmt::Debug for Agent<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").finish_non_exhaustive()
    }
}

/// Follows the roll-out with something else than a swap point, such as a stub in a simulation, until `stop` is ready.
/// What must be signed, what is refused and what is said at the server is as with an [`Agent`]. It has to run in a
/// [`LocalSet`](tokio::task::LocalSet), or as the future that blocks a thread.
///
/// # Errors
///
/// A setting is wrong, or the folder cannot be used.
pub async fn follow(
    settings: AgentSettings,
    target: impl Target + 'static,
    store: Store,
    stop: watch::Receiver<bool>,
) -> Result<()> {
    settings.check()?;
    let folder = Folder::open(&settings.folder)?;
    Runner::new(settings, target, store, folder, None)
        .run(stop)
        .await;
    Ok(())
}

/// Loads what has run here before, or what the host has brought along. Returns its SHA-256 and its floor, if it has
/// one.
///
/// # Errors
///
/// Why nothing was loaded, in words.
fn load_here<I: Interface<Kind = Trait> + ?Sized + 'static>(
    settings: &AgentSettings,
    folder: &Folder,
    point: &SwapPoint<I>,
) -> Result<Option<(String, u64)>, String> {
    let good = folder.state().good.as_ref();
    let good = good.map(|sha256| folder.builds().path_of(sha256));
    let mut why_not = None;
    for path in good.iter().chain(&settings.initial) {
        match point.load(path) {
            Ok(()) => return Ok(floor_of(path, settings)),
            Err(error) => {
                tracing::error!(target: "hotswap_fleet", %error, "cannot begin with this file");
                why_not.get_or_insert(error.to_string());
            }
        }
    }
    Err(why_not.unwrap_or_else(|| "none was fetched before".to_owned()))
}

/// The SHA-256 of a build and the floor in its manifest, if it has one.
fn floor_of(path: &Path, settings: &AgentSettings) -> Option<(String, u64)> {
    let build = folder::read(path).ok()?;
    let manifest = Manifest::verified(&settings.public_key, &build.bytes, &build.signature).ok()?;
    let floor = manifest
        .floor
        .filter(|_| manifest.name == settings.plugin)?;
    Some((Sha256::of(&build.bytes).to_string(), floor))
}

fn servers(text: &str) -> Result<Vec<ServerAddr>> {
    let parse = |it: &str| {
        it.trim().parse().map_err(|error| {
            FleetError::caused(
                FleetErrorKind::Invalid,
                format!("{it:?} is no address of a server"),
                error,
            )
        })
    };
    text.split(',').map(parse).collect()
}
