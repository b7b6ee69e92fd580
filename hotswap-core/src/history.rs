//! What happened: events, and the bounded list of generations.
//!
//! Every change of a generation's state is made here under one lock, and the event is sent under the same lock. So
//! the list and the events say the same, in the same order. No caller of a plugin ever takes that lock.
//!
//! `event` defines each kind of event with its text and its form for programs, each in one place; `metrics` says of
//! which of them more is counted than their number.

mod generation;
mod services;

mod event;
#[cfg_attr(not(feature = "metrics"), path = "history/no_metrics.rs")]
mod metrics;
mod subscribers;
#[cfg(test)]
mod tests;
mod waiters;

mod published;

mod ledger;

use std::{
    collections::VecDeque,
    iter,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;

pub use self::{
    event::{Event, EventKind},
    generation::{GenerationInfo, Phases, State},
    services::{ServiceChange, ServiceEnd, ServiceInfo, ServiceState},
    subscribers::EventStream,
};
use self::{ledger::Ledger, subscribers::Subscribers, waiters::Waiters};
pub(crate) use self::{
    metrics::{Metrics, SideMetrics},
    published::{PublishKind, Published},
    waiters::WaiterId,
};
use crate::{
    comparison::Share,
    contained::contain,
    digest::Sha256,
    error::Error,
    holder::Holder,
    image::{HeapLeft, Image, PinReason},
};

/// The maximum lengths of the lists and queues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    /// Generations that have ended.
    pub(crate) ended: usize,
    /// Candidates that were refused.
    pub(crate) refused: usize,
    /// Events that a subscriber has not received yet. At least 1.
    pub(crate) events: usize,
}

/// Events that were sent to the receivers, and are still to be passed to [`tracing`] and to the metrics, and futures
/// and streams that are still to be woken. That happens after all locks are released, so that no other swap waits for
/// subscribers, recorders and executors.
#[must_use]
pub(crate) struct Recorded {
    events: Vec<Event>,
    wakers: Vec<Waker>,
    metrics: Metrics,
}

impl Recorded {
    /// Wakes who waits, and passes the events to [`tracing`] and to the metrics, whose subscribers and recorders may
    /// take their time. If one of them panics, the others still run.
    pub(crate) fn deliver(self) {
        wake_all(self.wakers);
        for event in &self.events {
            contain(|| event.kind.trace(event));
        }
        contain(|| self.metrics.record(&self.events));
    }

    /// Has `other` delivered with this, after it.
    pub(crate) fn append(&mut self, other: impl IntoIterator<Item = Self>) {
        for other in other {
            self.events.extend(other.events);
            self.wakers.extend(other.wakers);
        }
    }

    pub(crate) fn deliver_any(recorded: impl IntoIterator<Item = Self>) {
        recorded.into_iter().for_each(Self::deliver);
    }
}

fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        contain(|| waker.wake());
    }
}

/// Something that happened, and the generation that it happened to.
type Happened = (Option<u64>, EventKind);

/// The list of generations of one swap point, and its subscribers.
#[derive(Debug)]
pub(crate) struct History {
    ledger: Mutex<Ledger>,
    changed: Condvar,
    metrics: Metrics,
}

impl History {
    pub(crate) fn new(limits: Lengths, metrics: Metrics) -> Self {
        let ledger = Ledger {
            generations: VecDeque::new(),
            published: 0,
            live: None,
            subscribers: Subscribers::new(limits.events),
            waiters: Waiters::default(),
            refused: VecDeque::new(),
            limits,
        };
        Self {
            ledger: Mutex::new(ledger),
            changed: Condvar::new(),
            metrics,
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A new queue of events. The first one also gets the events from before.
    pub(crate) fn events(&self) -> Receiver<Event> {
        let queue = self.ledger().subscribers.subscribe();
        queue.into_blocking()
    }

    /// The same, to be polled.
    pub(crate) fn event_stream(&self) -> EventStream {
        EventStream::new(self.ledger().subscribers.subscribe())
    }

    pub(crate) fn generations(&self) -> Vec<GenerationInfo> {
        self.ledger().generations.iter().cloned().collect()
    }

    /// The number that the next generation gets. Swaps and canaries are serialised, so it stays the same until
    /// [`published`](Self::published) or [`canary_started`](Self::canary_started).
    pub(crate) fn next_number(&self) -> u64 {
        self.ledger().published + 1
    }

    /// Records that a generation is live, and the previous one draining or standby.
    pub(crate) fn published(&self, new: Published) -> Recorded {
        self.record(|ledger| {
            let generation = new.entry.number;
            let (before, on_probation) = (new.before, new.on_probation);
            ledger.live = Some(generation);
            let mut events = vec![new.event()];
            match ledger.find(generation) {
                // It was a canary.
                Some(entry) => *entry = new.entry,
                None => events.extend(ledger.add(new)),
            }
            match before {
                Some(before) if on_probation => {
                    ledger.set(before, State::Standby);
                    let successor = generation;
                    events.push((Some(before), EventKind::Standby { successor }));
                }
                Some(before) => ledger.set(before, State::draining()),
                None => {}
            }
            events
        })
    }

    /// Records that a generation is mapped beside the live one, as a canary.
    pub(crate) fn canary_started(&self, new: Published, share: Share) -> Recorded {
        self.record(|ledger| {
            let number = new.entry.number;
            let of_note = ledger.add(new);
            let event = ledger.set_share(number, share);
            event.into_iter().chain(of_note).collect()
        })
    }

    /// Records that a canary gets another share of the calls.
    pub(crate) fn canary_share(&self, number: u64, share: Share) -> Recorded {
        self.record(|ledger| ledger.set_share(number, share).into_iter().collect())
    }

    /// Records that a canary is given up, and drains.
    pub(crate) fn abandoned(&self, number: u64, error: &Error) -> Recorded {
        self.record(|ledger| {
            ledger.set(number, State::draining());
            vec![(Some(number), EventKind::refused(error, ledger.live))]
        })
    }

    /// Records that one more plugin is mapped beside the others. Returns its number.
    pub(crate) fn opened(&self, image: &Image, phases: Phases) -> (u64, Recorded) {
        let mut new = Published::of(
            0,
            image.origin(),
            Some(image),
            phases,
            PublishKind::Candidate,
        );
        let mut number = 0;
        let recorded = self.record(|ledger| {
            number = ledger.published + 1;
            new.entry.number = number;
            let event = new.event();
            iter::once(event).chain(ledger.add(new)).collect()
        });
        (number, recorded)
    }

    /// Records that generation `live`, which was still mapped, is live again, and that `replaced`, which was live, is
    /// draining. `why` is the cause, if nobody asked for the rollback.
    pub(crate) fn rolled_back(&self, live: u64, replaced: u64, why: Option<String>) -> Recorded {
        self.record(|ledger| {
            ledger.live = Some(live);
            ledger.set(live, State::Live);
            ledger.set(replaced, State::draining());
            let back = EventKind::RolledBack {
                live,
                loaded_again: None,
                why,
            };
            vec![(Some(replaced), back)]
        })
    }

    pub(crate) fn refused(&self, error: &Error) {
        let recorded = self.record(|ledger| vec![(None, EventKind::refused(error, ledger.live))]);
        recorded.deliver();
    }

    /// The candidates that were refused last, oldest first.
    pub(crate) fn refusals(&self) -> Vec<Event> {
        self.ledger().refused.iter().cloned().collect()
    }

    /// The digest of a generation's bytes, if it is known.
    pub(crate) fn sha256(&self, number: u64) -> Option<Sha256> {
        self.ledger().find(number)?.sha256
    }

    /// Records the digest of a generation's bytes.
    pub(crate) fn hashed(&self, number: u64, sha256: Sha256) {
        if let Some(entry) = self.ledger().find(number) {
            entry.sha256 = Some(sha256);
        }
    }

    /// Records that a generation is draining, without an event.
    pub(crate) fn draining(&self, number: u64, held_by: Vec<Holder>) {
        let mut ledger = self.ledger();
        ledger.set(number, State::Draining { held_by });
        self.note(&ledger, &[]);
    }

    /// Records who holds a generation that is draining.
    pub(crate) fn holders(&self, number: u64, held_by: Vec<Holder>) -> Recorded {
        self.record(|ledger| {
            ledger.set(number, State::Draining { held_by });
            Vec::new()
        })
    }

    /// The same, with the event that it is held.
    pub(crate) fn held(&self, generation: u64, by: Vec<Holder>) -> Recorded {
        self.record(|ledger| {
            let held_by = by.clone();
            ledger.set(generation, State::Draining { held_by });
            vec![(Some(generation), EventKind::Held { by })]
        })
    }

    pub(crate) fn unloaded(&self, generation: u64, after: Duration, heap: Option<HeapLeft>) {
        let recorded = self.record(|ledger| {
            ledger.set(generation, State::Unloaded);
            vec![(Some(generation), EventKind::Unloaded { after, heap })]
        });
        recorded.deliver();
    }

    pub(crate) fn pinned(&self, generation: u64, reason: PinReason) {
        let recorded = self.record(|ledger| {
            let state = State::Pinned {
                reason: reason.clone(),
            };
            ledger.set(generation, state);
            vec![(Some(generation), EventKind::Pinned { reason })]
        });
        recorded.deliver();
    }

    /// Sends an event that changes nothing in the list.
    pub(crate) fn happened(&self, generation: Option<u64>, kind: EventKind) -> Recorded {
        self.record(|_| vec![(generation, kind)])
    }

    /// Changes the list, and sends the events to the receivers.
    fn record(&self, change: impl FnOnce(&mut Ledger) -> Vec<Happened>) -> Recorded {
        let mut ledger = self.ledger();
        let events: Vec<_> = change(&mut ledger)
            .into_iter()
            .map(|(generation, kind)| ledger.event(generation, kind))
            .collect();
        let mut wakers = Vec::new();
        for event in &events {
            self.metrics
                .missed(ledger.subscribers.send(event, &mut wakers));
        }
        ledger.keep_refusals(&events);
        ledger.forget_oldest();
        wakers.extend(ledger.take_waiters());
        self.note(&ledger, &events);
        self.changed.notify_all();
        Recorded {
            events,
            wakers,
            metrics: self.metrics.clone(),
        }
    }

    fn note(&self, ledger: &Ledger, events: &[Event]) {
        let generations = ledger.generations.iter();
        self.metrics.note(generations, ledger.live, events);
    }

    /// Waits until generation `number` has ended, at most until `deadline`, and returns its state then. `None`: the
    /// list does not have it (any more).
    pub(crate) fn wait(&self, number: u64, deadline: Instant) -> Option<State> {
        self.wait_while(
            deadline,
            |ledger| !ledger.has_ended(number),
            |ledger| ledger.state(number).cloned(),
        )
    }

    /// The state of generation `number` once it has ended. Until then, the waker is woken when it has, or when its
    /// thread has to [detach](Self::wake_to_detach) from it. `id` is that of the future, which has to be
    /// [forgotten](Self::forget_waiter) at its end.
    pub(crate) fn poll_end(
        &self,
        number: u64,
        id: &mut Option<WaiterId>,
        waker: &Waker,
    ) -> Poll<Option<State>> {
        let waker = waker.clone();
        let mut ledger = self.ledger();
        if ledger.has_ended(number) {
            return Poll::Ready(ledger.state(number).cloned());
        }
        let before = ledger.waiters.register(id, Some(number), waker);
        drop(ledger);
        drop(before);
        Poll::Pending
    }

    /// Has a future woken when its thread has to [detach](Self::wake_to_detach) from whichever image is next; `id` as
    /// with [`poll_end`](Self::poll_end).
    pub(crate) fn register(&self, id: &mut Option<WaiterId>, waker: &Waker) {
        let waker = waker.clone();
        let before = self.ledger().waiters.register(id, None, waker);
        drop(before);
    }

    /// A future that was registered is dropped.
    pub(crate) fn forget_waiter(&self, id: &WaiterId) {
        let waker = self.ledger().waiters.remove(id);
        drop(waker);
    }

    /// Wakes the futures that wait for an image, which now waits for threads to run its destructors: they are polled on
    /// threads that may have some. Those are the futures of generation `number` (a refused candidate has none), and
    /// those of the end of the swap point.
    pub(crate) fn wake_to_detach(&self, number: Option<u64>) {
        let wakers = self.ledger().waiters.take_of(number);
        wake_all(wakers);
    }

    /// Ends all queues of events. Call it when nothing can happen any more, so that nobody can ask for another queue.
    pub(crate) fn end_events(&self) {
        let ended = self.ledger().subscribers.take_all();
        // Wakes who waits for events: not under the lock.
        contain(|| drop(ended));
    }

    /// Waits until all generations have ended, at most until `deadline`, and returns those that are still mapped.
    pub(crate) fn wait_for_all(&self, deadline: Instant) -> Vec<GenerationInfo> {
        let going_on = |ledger: &Ledger| ledger.generations.iter().any(|it| !it.state.has_ended());
        self.wait_while(deadline, going_on, Ledger::mapped)
    }

    /// The generations that are still mapped.
    pub(crate) fn mapped(&self) -> Vec<GenerationInfo> {
        self.ledger().mapped()
    }

    fn wait_while<T>(
        &self,
        deadline: Instant,
        going_on: impl Fn(&Ledger) -> bool,
        answer: impl FnOnce(&Ledger) -> T,
    ) -> T {
        let left = deadline.saturating_duration_since(Instant::now());
        let (ledger, _) = self
            .changed
            .wait_timeout_while(self.ledger(), left, |ledger| going_on(ledger))
            .unwrap_or_else(PoisonError::into_inner);
        answer(&ledger)
    }

    /// Under the lock only a failed allocation can panic, and the list is consistent even then.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
