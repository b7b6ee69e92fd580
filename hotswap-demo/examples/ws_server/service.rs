//! What there is for all connections: the plugin, a canary beside it, and what outlives each of its generations.
//!
//! The host owns the count of messages and the history of the plot, so no swap can lose them: a generation that
//! wanted to keep such things itself would take them with it. Knows no sockets.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crossbeam_channel::Receiver;
use hotswap_core::{
    Error, ErrorKind, Event, GenerationInfo, Hotswap, State,
    canary::{Choice, Share},
    detach_current_thread,
    event::RolledBack,
    text::printable,
    watch::Watch,
};
use hotswap_types::Plugin;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::{
    runtime::Handle,
    sync::broadcast,
    task::{self, spawn_blocking},
    time::{self, MissedTickBehavior, timeout},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    building::Builds,
    builds,
    canary::{CanaryForm, CanarySlot},
    guide::{Guide, Swaps},
    trust::with_option,
};

/// How long a message may be. Answers are as long as the plugin makes them.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// How many generations that have ended, and how many refused candidates, are listed.
pub(crate) const HISTORY_MAX: usize = 16;

/// How often what has changed is pushed.
const TICK: Duration = Duration::from_millis(100);

/// How many ticks a page that has just been opened is told of.
const TICKS_KEPT: usize = 300;

/// How many pushes may wait for a page that is slow; if it misses one, it is told everything anew.
const PUSHES_WAITING_MAX: usize = 64;

/// One for the process.
pub(crate) struct Service {
    plugin: Arc<Hotswap<dyn Plugin>>,
    watch: Option<Watch>,
    canary: CanarySlot,
    may_reload: bool,
    swaps: Swaps,
    metrics: PrometheusHandle,
    /// How many there were.
    connections: AtomicU64,
    counts: Mutex<Counts>,
    log: Mutex<Log>,
}

/// What the plugin has answered, by which generation. The choice keeps that generation mapped.
pub(crate) struct Answer {
    pub(crate) chosen: Choice<dyn Plugin>,
    /// Or the plugin's error.
    pub(crate) text: Result<String, String>,
}

/// What is pushed, from now on, and what came before it.
pub(crate) struct Subscription {
    pub(crate) hello: Utf8Bytes,
    pub(crate) pushes: broadcast::Receiver<Utf8Bytes>,
}

/// Messages that were answered.
#[derive(Default)]
struct Counts {
    total: u64,
    /// Since the last tick, by generation.
    recent: BTreeMap<u64, u64>,
}

/// What was said of swaps, and of messages in the last ticks.
struct Log {
    events: Receiver<Event>,
    /// Whether candidates are what was built.
    builds: bool,
    /// For how many ticks the history is pushed: the one after an event, and one more for the hash, which is known a
    /// little later.
    news: u32,
    total: u64,
    ticks: VecDeque<Tick>,
    pushes: broadcast::Sender<Utf8Bytes>,
}

/// The messages of one tick, by generation.
#[derive(Serialize)]
struct Tick {
    at_ms: u64,
    answered: BTreeMap<u64, u64>,
}

/// What a page is told.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Push<'a> {
    /// Everything.
    Hello {
        may_reload: bool,
        guide: Guide,
        message_bytes_max: usize,
        patience_ms: u128,
        tick_ms: u128,
        now_ms: u64,
        total: u64,
        ticks: &'a VecDeque<Tick>,
        canary: Option<CanaryForm>,
        #[serde(flatten)]
        history: HistoryForm,
    },
    /// What has changed.
    Tick {
        total: u64,
        #[serde(flatten)]
        tick: &'a Tick,
        canary: Option<CanaryForm>,
        #[serde(flatten)]
        history: Option<HistoryForm>,
    },
}

#[derive(Serialize)]
struct HistoryForm {
    generations: Vec<GenerationInfo>,
    refused: Vec<Event>,
}

impl Service {
    pub(crate) fn new(
        plugin: Arc<Hotswap<dyn Plugin>>,
        watch: Option<Watch>,
        swaps: Swaps,
        may_reload: bool,
        metrics: PrometheusHandle,
    ) -> Self {
        let log = Log {
            events: plugin.events(),
            builds: swaps == Swaps::Dev,
            news: 0,
            total: 0,
            ticks: VecDeque::new(),
            pushes: broadcast::Sender::new(PUSHES_WAITING_MAX),
        };
        Self {
            plugin,
            watch,
            canary: CanarySlot::default(),
            may_reload,
            swaps,
            metrics,
            connections: AtomicU64::default(),
            counts: Mutex::default(),
            log: Mutex::new(log),
        }
    }

    /// A number that no other connection has.
    pub(crate) fn number_connection(&self) -> u64 {
        // Relaxed: nothing but the number depends on it.
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Has a message of a connection answered by the live generation, or by the canary, if its share has the
    /// connection. The plugin may take its time, and other messages are answered meanwhile, by other generations, too.
    /// After `patience` the call is cancelled.
    pub(crate) async fn answer(
        &self,
        connection: u64,
        message: String,
        patience: Duration,
    ) -> Answer {
        let chosen = self.plugin.choose(&connection);
        let call = chosen.call_async(|plugin| plugin.answer(message));
        let text = match timeout(patience, call).await {
            Ok(Ok(text)) => text,
            Ok(Err(fault)) => Err(fault.kind.to_string()),
            Err(_) => {
                // A call that is cancelled does not count by itself.
                chosen.report_fault();
                Err(format!("no answer within {patience:?}"))
            }
        };
        let mut counts = lock(&self.counts);
        counts.total += 1;
        *counts.recent.entry(chosen.generation()).or_default() += 1;
        Answer { chosen, text }
    }

    /// Takes the file again that was accepted last, and says what became of that. Waits for whoever else swaps;
    /// meanwhile all connections are served, because loading is done on a thread of its own.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<String, String> {
        self.check_may_change(":reload")?;
        self.swap(self.plugin.last_accepted()).await
    }

    /// Puts the previous plugin back, in the same way.
    pub(crate) async fn roll_back(self: &Arc<Self>) -> Result<String, String> {
        self.check_may_change(":rollback")?;
        self.change(|service| {
            let rolled_back = service.plugin.rollback();
            let RolledBack {
                generation,
                retired,
                loaded_again,
                ..
            } = rolled_back.map_err(|error| service.refusal(&error))?;
            let live = match loaded_again {
                None => format!("generation {generation} is live again"),
                Some(earlier) => {
                    format!("generation {earlier} is live again, as generation {generation}")
                }
            };
            Ok(format!("rolled-back generation {retired}: {live}"))
        })
        .await
    }

    /// Lets the file that was accepted last answer this share of the connections.
    pub(crate) async fn start_canary(self: &Arc<Self>, share: Share) -> Result<String, String> {
        self.check_may_change(":canary")?;
        self.change(move |service| {
            let Self { plugin, canary, .. } = service;
            canary.check_none()?;
            let begun = canary.start(plugin, &plugin.last_accepted(), share);
            begun.map_err(|error| service.refusal(&error))
        })
        .await
    }

    /// Gives the canary this share of the connections.
    pub(crate) async fn give_share(self: &Arc<Self>, share: Share) -> Result<String, String> {
        self.check_may_change(":share")?;
        self.change(move |service| service.canary.give_share(share))
            .await
    }

    /// Leaves the decision on the canary to a rule; without a canary, the file that was accepted last becomes one.
    pub(crate) async fn roll_out(self: &Arc<Self>) -> Result<String, String> {
        self.check_may_change(":rollout")?;
        self.change(|service| {
            let Self { plugin, canary, .. } = service;
            let begun = canary.roll_out(plugin, &plugin.last_accepted());
            begun.map_err(|error| service.refusal(&error))
        })
        .await
    }

    /// Makes the canary live.
    pub(crate) async fn promote(self: &Arc<Self>) -> Result<String, String> {
        self.check_may_change(":promote")?;
        self.change(|service| service.canary.promote()).await
    }

    /// Gives the canary up.
    pub(crate) async fn abandon(self: &Arc<Self>) -> Result<String, String> {
        self.check_may_change(":abandon")?;
        self.change(|service| service.canary.abandon("on request"))
            .await
    }

    /// Swaps in whatever is built, for as long as anything is.
    pub(crate) async fn take_builds(self: Arc<Self>, mut builds: Builds) {
        let live = || Some(self.plugin.lease().number());
        while let Some(mut built) = builds.next(live).await {
            let begin = Instant::now();
            let swapped = self.swap(built.path.clone()).await;
            built.swapped_in = swapped.is_ok().then(|| begin.elapsed());
            eprintln!("{built}");
        }
    }

    fn check_may_change(&self, command: &str) -> Result<(), String> {
        if self.may_reload {
            return Ok(());
        }
        Err(format!(
            "refused {command}: others than this machine could ask for it; --allow-remote-reload allows it"
        ))
    }

    async fn swap(self: &Arc<Self>, path: PathBuf) -> Result<String, String> {
        let shown = printable(&path.to_string_lossy());
        self.change(move |service| match service.plugin.swap(&path) {
            Ok(swapped) => Ok(format!(
                "accepted generation {}: {shown}",
                swapped.generation
            )),
            Err(error) => Err(service.refusal(&error)),
        })
        .await
    }

    /// Changes something on a thread that may block, and says what was done, or why not. If there is an event of it,
    /// that is said before this returns.
    async fn change(
        self: &Arc<Self>,
        change: impl FnOnce(&Self) -> Result<String, String> + Send + 'static,
    ) -> Result<String, String> {
        let service = Arc::clone(self);
        let done = spawn_blocking(move || change(&service)).await;
        let done = done.unwrap_or_else(|error| Err(error.to_string()));
        lock(&self.log).take_in();
        done
    }

    /// As the event says it.
    fn refusal(&self, error: &Error) -> String {
        if let ErrorKind::NoEarlierGeneration = error.kind() {
            return "no rollback: no plugin before this one is kept; load the file that you want"
                .to_owned();
        }
        let live = self.plugin.lease().number();
        let event = with_option(Event::from(error));
        format!("{event}; generation {live} stays live")
    }

    /// The library's figures, as Prometheus reads them.
    pub(crate) fn metrics(&self) -> String {
        self.metrics.render()
    }

    /// All that a page needs to know to follow the pushes, and those.
    pub(crate) fn subscribe(&self, patience: Duration) -> Subscription {
        // Under the log's lock, so that no push falls between.
        let log = lock(&self.log);
        let hello = Push::Hello {
            may_reload: self.may_reload,
            guide: self.guide(),
            message_bytes_max: MESSAGE_BYTES_MAX,
            patience_ms: patience.as_millis(),
            tick_ms: TICK.as_millis(),
            now_ms: now_ms(),
            total: log.total,
            ticks: &log.ticks,
            canary: self.canary.form(),
            history: self.history(),
        };
        Subscription {
            hello: json(&hello),
            pushes: log.pushes.subscribe(),
        }
    }

    /// Tells those who have subscribed, ten times a second, what has changed if anything has.
    pub(crate) async fn tick_for_ever(self: Arc<Self>) {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let service = Arc::clone(&self);
            // It may promote the canary.
            let advanced = spawn_blocking(move || service.canary.advance()).await;
            advanced.unwrap_or_else(|failed| eprintln!("{failed}"));
            self.tick();
            self.wake_workers();
        }
    }

    /// Lets the last plugin leave, and says what became of it.
    pub(crate) fn end(self, deadline: Duration) {
        drop(self.watch);
        // Without one, there is nothing to say.
        let _ = self.canary.abandon("the server ends");
        drop(self.canary);
        let plugin = Arc::into_inner(self.plugin);
        let plugin = plugin.expect("only the watch and a canary had it, too");
        let mut log = self
            .log
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        log.take_in();
        let mapped = plugin.shutdown(deadline);
        log.take_in();
        for generation in mapped {
            eprintln!("{generation}");
        }
    }

    fn tick(&self) {
        // Durations, of which there is one for each call beside a canary, would pile up if nobody scraped them.
        self.metrics.run_upkeep();
        let mut log = lock(&self.log);
        log.take_in();
        let mut counts = lock(&self.counts);
        let answered = mem::take(&mut counts.recent);
        log.total = counts.total;
        drop(counts);
        let has_news = log.news > 0;
        log.news = log.news.saturating_sub(1);
        if answered.is_empty() && !has_news {
            return;
        }
        let tick = Tick {
            at_ms: now_ms(),
            answered,
        };
        if log.pushes.receiver_count() > 0 {
            let push = json(&Push::Tick {
                total: log.total,
                tick: &tick,
                canary: self.canary.form(),
                history: has_news.then(|| self.history()),
            });
            // It is only for those who are there.
            let _ = log.pushes.send(push);
        }
        if log.ticks.len() == TICKS_KEPT {
            log.ticks.pop_front();
        }
        log.ticks.push_back(tick);
    }

    /// A plugin may have left destructors of thread-locals on workers that then went to sleep, and is not unloaded
    /// before they have run them. So workers are woken while there is such a plugin. Which of them gets a task cannot
    /// be chosen: as many tasks as there are workers keep one each busy for a moment, which is a hundredth of their
    /// time until the plugin has left.
    fn wake_workers(&self) {
        let is_draining = |it: &GenerationInfo| matches!(it.state, State::Draining { .. });
        if self.plugin.generations().iter().any(is_draining) {
            for _ in 0..Handle::current().metrics().num_workers() {
                task::spawn(async {
                    detach_current_thread();
                    thread::sleep(Duration::from_millis(1));
                });
            }
        }
    }

    fn guide(&self) -> Guide {
        let live = self.plugin.lease().number();
        let generations = self.plugin.generations();
        let live = generations.into_iter().find(|it| it.number == live);
        Guide::new(live.and_then(|it| it.name), self.swaps)
    }

    fn history(&self) -> HistoryForm {
        HistoryForm {
            generations: self.plugin.generations(),
            refused: self.plugin.refused(),
        }
    }
}

impl Log {
    /// Says what has happened.
    fn take_in(&mut self) {
        for event in self.events.try_iter() {
            self.news = 2;
            let hint = builds::hint(&event).filter(|_| self.builds);
            let event = with_option(event);
            match hint {
                Some(hint) => eprintln!("{event}; {hint}"),
                None => eprintln!("{event}"),
            }
        }
    }
}

/// What is pushed and answered on a connection of a page.
pub(crate) fn json(value: &impl Serialize) -> Utf8Bytes {
    let text = serde_json::to_string(value);
    text.expect("texts and numbers").into()
}

/// As the library's reports have it, so that a page can hold them side by side.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// What is locked here is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
