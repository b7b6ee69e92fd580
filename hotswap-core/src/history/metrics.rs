//! The figures of a swap point or loader, for the recorder that the host has installed (feature `metrics`).
//!
//! Which event changes which metric is written here and nowhere else: [`Metrics::record_event`] has the counters and
//! histograms of events, [`SideMetrics`] those of calls, [`Pending`] and [`Counts`] the gauges, and [`describe`] the
//! units and the texts.
//!
//! Three invariants:
//!
//! - A recorder is called after all locks are released, on the thread that recorded the event. No other thread waits
//!   for it.
//! - The last value of a gauge is the newest one. Gauges are computed under the history's lock, and recorded by one
//!   thread at a time; another one that comes meanwhile leaves its values to that thread.
//! - No two swap points have the same label at the same time, so none overwrites the gauges of another.
//!
//! It knows nothing of calls: they record nothing, unless one ends with a fault, or a canary's choice counts it.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metrics::{
    Counter, Histogram, Label, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use super::{Event, EventKind, GenerationInfo, State};
use crate::{comparison::Share, error::Stage, holder::Holder, image::PinReason};

const SWAPS: &str = "hotswap_swaps_total";
const REFUSALS: &str = "hotswap_refusals_total";
const ROLLBACKS: &str = "hotswap_rollbacks_total";
const FAULTS: &str = "hotswap_faults_total";
const EVENTS: &str = "hotswap_events_total";
const MISSED_EVENTS: &str = "hotswap_missed_events_total";
const LIVE_GENERATION: &str = "hotswap_live_generation";
const MAPPED_GENERATIONS: &str = "hotswap_mapped_generations";
const PINNED_GENERATIONS: &str = "hotswap_pinned_generations";
const HOLDERS: &str = "hotswap_holders";
const CANARY_SHARE: &str = "hotswap_canary_share_ratio";
const CANARY_CALLS: &str = "hotswap_canary_calls_total";
const CANARY_FAULTS: &str = "hotswap_canary_faults_total";
const CANARY_CALL_DURATION: &str = "hotswap_canary_call_duration_seconds";
const SWAP_DURATION: &str = "hotswap_swap_duration_seconds";
const PHASE_DURATION: &str = "hotswap_swap_phase_duration_seconds";
const UNLOAD_DURATION: &str = "hotswap_unload_duration_seconds";

/// The values of the label `cause` of a rollback.
const REQUEST: &str = "request";
const PROBATION: &str = "probation";

/// Every stage, so that each has a counter from the beginning: a query sees an increase only if there was a value
/// before.
const STAGES: [Stage; 16] = [
    Stage::Open,
    Stage::Trust,
    Stage::Copy,
    Stage::Inspect,
    Stage::Trial,
    Stage::Link,
    Stage::Header,
    Stage::Symbol,
    Stage::Version,
    Stage::Layout,
    Stage::Root,
    Stage::Probe,
    Stage::Update,
    Stage::Canary,
    Stage::Unload,
    Stage::Host,
];
const _: () = assert!(STAGES.len() == Stage::Host as usize + 1);

/// The labels in use in this process.
static LABELS: Mutex<BTreeSet<Arc<str>>> = Mutex::new(BTreeSet::new());

/// The metrics of one swap point or loader. The clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The label `plugin` of each of its metrics.
    plugin: Arc<str>,
    pending: Mutex<Pending>,
}

/// The metrics of one side of a canary. They are looked up once, so that a call looks up nothing.
pub(crate) struct SideMetrics {
    calls: Counter,
    faults: Counter,
    durations: Histogram,
}

impl SideMetrics {
    /// Counts a call.
    pub(crate) fn call(&self, time: Duration) {
        self.calls.increment(1);
        self.durations.record(time);
    }

    /// Counts a fault.
    pub(crate) fn fault(&self) {
        self.faults.increment(1);
    }
}

/// What is to be recorded.
#[derive(Debug, Default)]
struct Pending {
    counts: Counts,
    /// The number of the live generation, or 0. `None` for a loader, which has several.
    live: Option<u64>,
    /// The share of the calls that a canary gets.
    share: Share,
    /// The generations that are pinned, each with the kind of the reason. The list of generations forgets the oldest.
    pinned: BTreeMap<u64, &'static str>,
    /// Events that were missed since the last time.
    missed: u64,
    /// Whether something has changed since the last time.
    is_stale: bool,
    /// Whether a thread is recording; it looks again before it ends.
    is_recording: bool,
}

/// The values of gauges with a label of their own, by name and value of the label. One that was there once stays, with
/// the value 0.
#[derive(Clone, Debug, Default)]
struct Counts(BTreeMap<(&'static str, &'static str), usize>);

/// The thread that records. If the recorder panics, another thread may record later.
struct Turn<'a>(&'a Shared);

impl Metrics {
    /// `name` is that of the swap point or loader. If it is taken, it gets a number: `plugin.so-2`.
    pub(crate) fn new(name: &str) -> Self {
        let mut plugin = Arc::from(name);
        let mut labels = labels();
        for number in 2_u64.. {
            if labels.insert(Arc::clone(&plugin)) {
                break;
            }
            plugin = Arc::from(format!("{name}-{number}"));
        }
        Self(Arc::new(Shared {
            plugin,
            pending: Mutex::default(),
        }))
    }

    /// Computes the gauges after a change of the list. The caller holds the history's lock.
    pub(super) fn note<'a>(
        &self,
        generations: impl Iterator<Item = &'a GenerationInfo>,
        live: Option<u64>,
        events: &[Event],
    ) {
        let mut pending = self.0.pending();
        for event in events {
            let Some(generation) = event.generation else {
                continue;
            };
            match &event.kind {
                EventKind::Pinned { reason } => {
                    pending.pinned.insert(generation, kind_of_reason(reason))
                }
                EventKind::Unloaded { .. } => pending.pinned.remove(&generation),
                _ => None,
            };
        }
        pending.set(generations, live);
    }

    /// Counts an event that a receiver has missed. The caller holds the history's lock.
    pub(super) fn missed(&self, receivers: u64) {
        if receivers > 0 {
            let mut pending = self.0.pending();
            pending.missed += receivers;
            pending.is_stale = true;
        }
    }

    /// Passes events, and what has changed, to the host's recorder.
    pub(super) fn record(&self, events: &[Event]) {
        for event in events {
            self.record_event(event);
        }
        self.record_pending();
    }

    fn record_event(&self, event: &Event) {
        let plugin = || self.0.label();
        match &event.kind {
            EventKind::Accepted { phases, .. } => {
                self.introduce();
                counter!(SWAPS, vec![plugin()]).increment(1);
                histogram!(SWAP_DURATION, vec![plugin()]).record(phases.total());
                for (phase, duration) in phases.named() {
                    // A phase that this swap point does not have.
                    if !duration.is_zero() {
                        let phase = Label::from_static_parts("phase", phase);
                        histogram!(PHASE_DURATION, vec![plugin(), phase]).record(duration);
                    }
                }
            }
            EventKind::Refused { stage, .. } => {
                self.introduce();
                counter!(REFUSALS, vec![plugin(), at(*stage)]).increment(1);
            }
            EventKind::RolledBack { why, .. } => {
                let cause = why.as_ref().map_or(REQUEST, |_| PROBATION);
                counter!(ROLLBACKS, vec![plugin(), by(cause)]).increment(1);
            }
            EventKind::Unloaded { after, .. } => {
                histogram!(UNLOAD_DURATION, vec![plugin()]).record(*after);
            }
            // The others are counted by name alone.
            _ => {}
        }
        let name = Label::from_static_parts("event", event.kind.name());
        counter!(EVENTS, vec![plugin(), name]).increment(1);
    }

    /// Counts a call that has ended with a fault.
    #[cold]
    pub(crate) fn fault(&self) {
        counter!(FAULTS, vec![self.0.label()]).increment(1);
    }

    /// What is recorded of the calls of one side of a canary.
    pub(crate) fn side(&self, side: &'static str) -> SideMetrics {
        let labels = || vec![self.0.label(), Label::from_static_parts("side", side)];
        SideMetrics {
            calls: counter!(CANARY_CALLS, labels()),
            faults: counter!(CANARY_FAULTS, labels()),
            durations: histogram!(CANARY_CALL_DURATION, labels()),
        }
    }

    fn record_pending(&self) {
        let mut pending = self.0.pending();
        if mem::replace(&mut pending.is_recording, true) {
            return;
        }
        let turn = Turn(&self.0);
        while mem::take(&mut pending.is_stale) {
            let missed = mem::take(&mut pending.missed);
            let (live, share) = (pending.live, pending.share);
            let counts = pending.counts.clone();
            drop(pending);
            counter!(MISSED_EVENTS, vec![self.0.label()]).increment(missed);
            if let Some(live) = live {
                gauge!(LIVE_GENERATION, vec![self.0.label()]).set(live as f64);
                gauge!(CANARY_SHARE, vec![self.0.label()]).set(share.ratio());
            }
            for ((name, value), count) in counts.0 {
                let label = Label::from_static_parts(label_of(name), value);
                gauge!(name, vec![self.0.label(), label]).set(count as f64);
            }
            pending = self.0.pending();
        }
        pending.is_recording = false;
        mem::forget(turn);
    }

    /// Describes all metrics, and makes the counters that may stay 0 for long. Done at each candidate, since a host may
    /// install its recorder later than it loads a plugin.
    fn introduce(&self) {
        describe();
        for name in [SWAPS, FAULTS, MISSED_EVENTS] {
            counter!(name, vec![self.0.label()]).increment(0);
        }
        for stage in STAGES {
            counter!(REFUSALS, vec![self.0.label(), at(stage)]).increment(0);
        }
        for cause in [REQUEST, PROBATION] {
            counter!(ROLLBACKS, vec![self.0.label(), by(cause)]).increment(0);
        }
    }
}

impl Shared {
    fn label(&self) -> Label {
        Label::new("plugin", Arc::clone(&self.plugin))
    }

    /// Under the lock only a failed allocation can panic; at worst a gauge is wrong until the next change.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        labels().remove(&self.plugin);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.pending().is_recording = false;
    }
}

impl Pending {
    fn set<'a>(
        &mut self,
        generations: impl Iterator<Item = &'a GenerationInfo>,
        live: Option<u64>,
    ) {
        let counts = &mut self.counts;
        counts.0.values_mut().for_each(|count| *count = 0);
        let unmapped = State::Unloaded.name();
        for state in State::NAMES.iter().filter(|it| **it != unmapped) {
            counts.add(MAPPED_GENERATIONS, state, 0);
        }
        self.share = Share::NONE;
        let mut live_now = 0;
        for generation in generations {
            let state = &generation.state;
            // Those that are pinned are counted below.
            if !state.has_ended() {
                counts.add(MAPPED_GENERATIONS, state.name(), 1);
            }
            match state {
                State::Live => live_now = generation.number,
                State::Canary { share } => self.share = *share,
                State::Draining { held_by } => {
                    for holder in held_by {
                        counts.add(HOLDERS, kind_of_holder(holder), holder.count());
                    }
                }
                _ => {}
            }
        }
        for reason in self.pinned.values() {
            counts.add(MAPPED_GENERATIONS, "pinned", 1);
            counts.add(PINNED_GENERATIONS, reason, 1);
        }
        self.live = live.map(|_| live_now);
        self.is_stale = true;
    }
}

impl Counts {
    fn add(&mut self, name: &'static str, value: &'static str, count: usize) {
        *self.0.entry((name, value)).or_default() += count;
    }
}

fn labels() -> MutexGuard<'static, BTreeSet<Arc<str>>> {
    LABELS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn at(stage: Stage) -> Label {
    Label::new("stage", stage.to_string())
}

fn by(cause: &'static str) -> Label {
    Label::from_static_parts("cause", cause)
}

/// The name of the label that a gauge has beside `plugin`.
fn label_of(name: &str) -> &'static str {
    match name {
        MAPPED_GENERATIONS => "state",
        PINNED_GENERATIONS => "reason",
        _ => "holder",
    }
}

fn kind_of_reason(reason: &PinReason) -> &'static str {
    match reason {
        PinReason::NoDelete => "no-delete",
        PinReason::UniqueSymbols => "unique-symbols",
        PinReason::ThreadLocals => "thread-locals",
        PinReason::MayHaveThreads => "may-have-threads",
        PinReason::MayHaveKeys => "may-have-keys",
        PinReason::Function(_) => "function",
        PinReason::SignalHandler(_) => "signal-handler",
        PinReason::Library(_) => "library",
        PinReason::Callback(_) => "callback",
        PinReason::Unknown => "unknown",
    }
}

/// The name of the holder, except that a lease that is recorded is counted like the others.
fn kind_of_holder(holder: &Holder) -> &'static str {
    match holder {
        Holder::Lease { .. } => "leases",
        other => other.name(),
    }
}

fn describe() {
    let count = Unit::Count;
    describe_counter!(
        SWAPS,
        count,
        "Candidates that were accepted by a load or a swap."
    );
    describe_counter!(REFUSALS, count, "Candidates that were refused, by stage.");
    describe_counter!(
        ROLLBACKS,
        count,
        "Rollbacks: on request, or for faults on probation."
    );
    describe_counter!(
        FAULTS,
        count,
        "Calls that ended with a fault of the plugin."
    );
    describe_counter!(EVENTS, count, "Events, by name.");
    describe_counter!(
        MISSED_EVENTS,
        count,
        "Events that a receiver of the host has missed."
    );
    describe_gauge!(
        LIVE_GENERATION,
        count,
        "The number of the live generation; 0 if there is none."
    );
    describe_gauge!(
        MAPPED_GENERATIONS,
        count,
        "Generations in the address space, by state."
    );
    describe_gauge!(
        PINNED_GENERATIONS,
        count,
        "Pinned generations, by the kind of the reason."
    );
    describe_gauge!(HOLDERS, count, "Holders of draining generations, by kind.");
    describe_gauge!(
        CANARY_SHARE,
        count,
        "The share of the calls that a canary gets, from 0 to 1; 0 without one."
    );
    describe_counter!(
        CANARY_CALLS,
        count,
        "Calls under the choices of canaries, by side."
    );
    describe_counter!(
        CANARY_FAULTS,
        count,
        "Faults of calls under the choices of canaries, by side."
    );
    let seconds = Unit::Seconds;
    describe_histogram!(
        CANARY_CALL_DURATION,
        seconds,
        "The time of calls under the choices of canaries, by side."
    );
    describe_histogram!(
        SWAP_DURATION,
        seconds,
        "From opening the file until calls reach it."
    );
    describe_histogram!(PHASE_DURATION, seconds, "The parts of that, by phase.");
    describe_histogram!(
        UNLOAD_DURATION,
        seconds,
        "From retiring a generation until it is unloaded."
    );
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Barrier, mpsc},
        thread,
    };

    use metrics::{
        Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    };

    use super::*;

    /// Passes on what is set, and lets the first one wait.
    struct Slow {
        set: mpsc::Sender<f64>,
        first: Mutex<Option<Arc<Barrier>>>,
    }

    impl GaugeFn for Slow {
        fn increment(&self, _: f64) {}

        fn decrement(&self, _: f64) {}

        fn set(&self, value: f64) {
            self.set.send(value).unwrap();
            let first = self.first.lock().unwrap().take();
            if let Some(barrier) = first {
                barrier.wait();
                barrier.wait();
            }
        }
    }

    struct OneGauge(Arc<Slow>);

    impl Recorder for OneGauge {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            match key.name() {
                LIVE_GENERATION => Gauge::from_arc(Arc::clone(&self.0)),
                _ => Gauge::noop(),
            }
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn nobody_waits_for_another_ones_recorder_and_the_newest_value_is_the_last() {
        let it = Metrics::new("slow");
        let change = |number| {
            let mut pending = it.0.pending();
            (pending.live, pending.is_stale) = (Some(number), true);
        };
        let barrier = Arc::new(Barrier::new(2));
        let (set, values) = mpsc::channel();
        let slow = OneGauge(Arc::new(Slow {
            set,
            first: Mutex::new(Some(Arc::clone(&barrier))),
        }));
        thread::scope(|scope| {
            change(1);
            scope.spawn(|| metrics::with_local_recorder(&slow, || it.record(&[])));
            // It is in the middle of it.
            barrier.wait();
            for number in [2, 3] {
                change(number);
                it.record(&[]);
            }
            barrier.wait();
        });
        assert_eq!(Vec::from_iter(values.try_iter()), [1.0, 3.0]);
    }

    #[test]
    fn a_name_is_free_again_when_its_owner_is_gone() {
        let named = |name| Metrics::new(name).0;
        let first = named("free again");
        let second = named("free again");
        assert_eq!(&*second.plugin, "free again-2");
        drop(first);
        assert_eq!(&*named("free again").plugin, "free again");
        assert_eq!(&*named("free again-2").plugin, "free again-2-2");
    }
}
