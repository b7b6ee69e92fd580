//! What an agent drives: a swap point, or what stands for one.

use std::{
    path::Path,
    pin::pin,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, UNIX_EPOCH},
};

use futures_util::StreamExt as _;
use hotswap_core::{
    Event, EventKind, GenerationInfo, Hotswap, Interface, Settings, State, Trust,
    canary::{Decision, Progress, Rollout, Rule, Share},
    future::EventStream,
};
use hotswap_sdk::host::Trait;
use tokio::sync::{Mutex, Notify, watch};

use super::calls::Calls;
use crate::status::{BuildFigures, Live, Mapped, Nack};

/// What an agent drives: a swap point, or what stands for one in a simulation.
#[expect(async_fn_in_trait, reason = "an agent's futures stay on its thread")]
pub trait Target {
    /// Does with the file what a swap does, up to publishing.
    async fn check(&self, path: &Path) -> Result<(), Nack>;

    /// Makes a new build live, unless it is told to stop before.
    async fn run(&self, path: &Path, sha256: &str, stop: &StopSignal) -> Result<(), Nack>;

    /// Makes a build live at once that a roll-out goes back to.
    async fn go_back(&self, path: &Path, sha256: &str) -> Result<(), Nack>;

    /// What is live.
    fn live(&self) -> Option<Live>;

    /// Earlier code that is still mapped.
    fn mapped(&self) -> Vec<Mapped>;

    /// Calls of the builds that were live.
    fn figures(&self) -> Vec<BuildFigures>;

    /// Counts the calls of a build from 0 again: another attempt to bring it here begins.
    fn reset_figures(&self, sha256: &str);

    /// The next event. Ends only when none will come any more. May be dropped and called again.
    async fn event(&self) -> Option<TargetEvent>;
}

/// Something that has happened at a target.
#[derive(Clone, Debug)]
pub struct TargetEvent {
    /// One line.
    pub text: String,
    /// The event, for programs.
    pub event: serde_json::Value,
    /// The SHA-256 of the build that the target has gone back from by itself, and why.
    pub went_back: Option<(String, String)>,
}

/// Tells a [`Target::run`] that its build is not wanted any more.
#[derive(Clone, Debug, Default)]
pub struct StopSignal(Arc<watch::Sender<bool>>);

impl StopSignal {
    pub(super) fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is told to stop.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }
}

/// A swap point, which is made when its first file is there.
pub(super) struct SwapPoint<I: Interface + ?Sized> {
    pub(super) plugin: OnceLock<Arc<Hotswap<I>>>,
    pub(super) is_loaded: Notify,
    pub(super) trust: Trust,
    pub(super) settings: Box<dyn Fn() -> Settings<I> + Send + Sync>,
    pub(super) canary: Option<Rule>,
    pub(super) calls: Calls,
    pub(super) events: Mutex<Option<EventStream>>,
}

impl<I: Interface<Kind = Trait> + ?Sized + 'static> SwapPoint<I> {
    /// Loads the first file.
    pub(super) fn load(&self, path: &Path) -> Result<(), hotswap_core::Error> {
        let plugin = Arc::new(self.open(path)?);
        let is_first = self.plugin.set(plugin).is_ok();
        assert!(is_first, "an agent loads its first file once");
        self.is_loaded.notify_waiters();
        Ok(())
    }

    async fn load_async(self: &Arc<Self>, path: &Path) -> Result<(), Nack> {
        let (it, path) = (Arc::clone(self), path.to_owned());
        let loaded = tokio::task::spawn_blocking(move || it.load(&path)).await;
        let loaded = loaded.map_err(|error| Nack::new("host", error.to_string()))?;
        loaded.map_err(|error| Nack::from(&error))
    }

    fn open(&self, path: &Path) -> Result<Hotswap<I>, hotswap_core::Error> {
        let settings = Settings {
            record_sha256: true,
            ..(self.settings)()
        };
        Hotswap::load_with(path, &self.trust, settings)
    }

    fn list(&self) -> Vec<GenerationInfo> {
        self.plugin
            .get()
            .map_or_else(Vec::new, |it| it.generations())
    }

    /// Whether the last generation before the live one has these bytes, so that a rollback leads to it.
    fn leads_back_to(&self, sha256: &str) -> bool {
        let list = self.list();
        let is_live = |it: &&GenerationInfo| it.state == State::Live;
        let Some(live) = list.iter().find(is_live).map(|it| it.number) else {
            return false;
        };
        let before = list.iter().filter(|it| it.number < live);
        let before = before.max_by_key(|it| it.number);
        before.and_then(hash_of).is_some_and(|it| it == sha256)
    }

    /// Gives the file a share of the calls, and more by and by.
    async fn run_as_canary(
        &self,
        plugin: &Arc<Hotswap<I>>,
        path: &Path,
        rule: &Rule,
        stop: &StopSignal,
    ) -> Result<(), Nack> {
        const PAUSE: Duration = Duration::from_millis(50);
        let prepared = plugin.prepare_async(path).await;
        let canary = prepared
            .and_then(|it| it.start_canary(Share::NONE))
            .map_err(|error| Nack::from(&error))?;
        let mut rollout = Rollout::new(rule.clone());
        let decision = loop {
            if stop.is_stopped() {
                break canary.abandon("the roll-out was changed");
            }
            if let Progress::Decided(decision) = rollout.advance(&canary, Instant::now()) {
                break decision;
            }
            tokio::time::sleep(PAUSE).await;
        };
        match decision {
            Decision::Promoted(_) => Ok(()),
            Decision::Abandoned(error) => Err(Nack::from(&error)),
        }
    }
}

impl<I: Interface<Kind = Trait> + ?Sized + 'static> Target for Arc<SwapPoint<I>> {
    async fn check(&self, path: &Path) -> Result<(), Nack> {
        let Some(plugin) = self.plugin.get() else {
            // There is nothing beside which it could be prepared. It is loaded, and unloaded again.
            let (it, path) = (Arc::clone(self), path.to_owned());
            let loaded = tokio::task::spawn_blocking(move || it.open(&path).map(drop)).await;
            let loaded = loaded.map_err(|error| Nack::new("host", error.to_string()))?;
            return loaded.map_err(|error| Nack::from(&error));
        };
        let prepared = plugin.prepare_async(path).await;
        prepared.map(drop).map_err(|error| Nack::from(&error))
    }

    async fn run(&self, path: &Path, _: &str, stop: &StopSignal) -> Result<(), Nack> {
        match (self.plugin.get(), &self.canary) {
            (None, _) => self.load_async(path).await,
            (Some(plugin), Some(rule)) => self.run_as_canary(plugin, path, rule, stop).await,
            (Some(plugin), None) => swap(plugin, path).await,
        }
    }

    async fn go_back(&self, path: &Path, sha256: &str) -> Result<(), Nack> {
        let Some(plugin) = self.plugin.get() else {
            return self.load_async(path).await;
        };
        // Nothing can refuse it: it was accepted before. Otherwise, what a swap says is worth more.
        if self.leads_back_to(sha256) && plugin.rollback_async().await.is_ok() {
            let is_live = self.live().and_then(|it| it.sha256);
            if is_live.as_deref() == Some(sha256) {
                return Ok(());
            }
        }
        swap(plugin, path).await
    }

    fn live(&self) -> Option<Live> {
        let list = self.list();
        let live = list.into_iter().find(|it| it.state == State::Live)?;
        let since = live.published.duration_since(UNIX_EPOCH).ok();
        Some(Live {
            sha256: hash_of(&live),
            generation: live.number,
            since_ms: since.map_or(0, |it| it.as_millis() as u64),
        })
    }

    fn mapped(&self) -> Vec<Mapped> {
        let list = self.list();
        let is_mapped = |it: &GenerationInfo| !matches!(it.state, State::Live | State::Unloaded);
        let mapped = list.into_iter().filter(is_mapped);
        let mapped = mapped.map(|it| Mapped {
            sha256: hash_of(&it),
            generation: it.number,
            is_pinned: matches!(it.state, State::Pinned { .. }),
            state: it.state.to_string(),
        });
        mapped.collect()
    }

    fn figures(&self) -> Vec<BuildFigures> {
        self.calls.figures()
    }

    fn reset_figures(&self, sha256: &str) {
        self.calls.reset(sha256);
    }

    async fn event(&self) -> Option<TargetEvent> {
        let loaded = pin!(self.is_loaded.notified());
        let Some(plugin) = self.plugin.get() else {
            loaded.await;
            return Box::pin(self.event()).await;
        };
        let mut events = self.events.lock().await;
        let events = events.get_or_insert_with(|| plugin.event_stream());
        events.next().await.map(|event| target_event(&event))
    }
}

async fn swap<I: Interface<Kind = Trait> + ?Sized + 'static>(
    plugin: &Arc<Hotswap<I>>,
    path: &Path,
) -> Result<(), Nack> {
    let swapped = plugin.swap_async(path).await;
    swapped.map(drop).map_err(|error| Nack::from(&error))
}

fn target_event(event: &Event) -> TargetEvent {
    let went_back = match &event.kind {
        EventKind::RolledBack { why, .. } => {
            let why = why.clone();
            let why = why.unwrap_or_else(|| "the host has gone back".to_owned());
            event.sha256.map(|it| (it.to_string(), why))
        }
        _ => None,
    };
    TargetEvent {
        text: event.to_string(),
        event: serde_json::to_value(event).unwrap_or_default(),
        went_back,
    }
}

fn hash_of(generation: &GenerationInfo) -> Option<String> {
    generation.sha256.map(|it| it.to_string())
}
