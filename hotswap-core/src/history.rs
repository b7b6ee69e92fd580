//! What happened: events, and the bounded list of generations.
//!
//! Whoever changes a generation's state does it here, under one lock, which also sends the event: so the
//! list and the events tell the same story in the same order. No caller of a plugin ever takes that lock.

#[cfg(feature = "serde")]
mod serial;
mod services;
#[cfg(test)]
mod tests;
mod trace;
mod words;

use std::{
    collections::VecDeque,
    iter, mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use crossbeam_channel::{Receiver, Sender};

pub(crate) use self::words::{Bytes, RetiredPlugins};
pub use self::{
    services::{ServiceEnd, ServiceInfo, ServiceNews, ServiceState},
    words::{Event, GenerationInfo, Holder, Phases, RefusedInfo, State},
};
use crate::{
    digest::Sha256,
    error::Error,
    image::{HeapLeft, Image, PinReason},
};

/// A generation that is live from now on.
pub(crate) struct Published {
    entry: GenerationInfo,
    followed_link: bool,
    pub(crate) phases: Phases,
    /// The generation that was live.
    pub(crate) before: Option<u64>,
    /// Whether that one is standby.
    pub(crate) on_probation: bool,
}

/// The way back to a generation that was still mapped.
pub(crate) struct Return {
    pub(crate) live: u64,
    pub(crate) left: u64,
    pub(crate) why: Option<String>,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Generations that have ended.
    pub(crate) ended: usize,
    /// Candidates that were refused.
    pub(crate) refused: usize,
    /// Events that nobody has received. At least 1.
    pub(crate) events: usize,
}

/// What the listeners were told, and the subscribers of [`tracing`] are told when no lock is held any more:
/// whatever they do is not waited for by other swaps.
#[must_use]
pub(crate) struct News(Vec<Event>);

/// The list of generations of one swap point, and its listeners.
#[derive(Debug)]
pub(crate) struct History {
    ledger: Mutex<Ledger>,
    changed: Condvar,
    listeners: Receiver<Event>,
}

#[derive(Debug)]
struct Ledger {
    generations: VecDeque<GenerationInfo>,
    /// How many there were.
    published: u64,
    live: Option<u64>,
    events: Sender<Event>,
    missed: u64,
    refused: VecDeque<RefusedInfo>,
    limits: Limits,
}

impl History {
    pub(crate) fn new(limits: Limits) -> Self {
        // Bounded by `send`: a channel of crossbeam's with a bound has all its room from the beginning.
        let (events, listeners) = crossbeam_channel::unbounded();
        let ledger = Ledger {
            generations: VecDeque::new(),
            published: 0,
            live: None,
            events,
            missed: 0,
            refused: VecDeque::new(),
            limits,
        };
        Self {
            ledger: Mutex::new(ledger),
            changed: Condvar::new(),
            listeners,
        }
    }

    pub(crate) fn events(&self) -> Receiver<Event> {
        self.listeners.clone()
    }

    pub(crate) fn generations(&self) -> Vec<GenerationInfo> {
        self.ledger().generations.iter().cloned().collect()
    }

    /// The number that the next published generation gets. Swaps are serialised, so it stays the same
    /// until [`published`](Self::published).
    pub(crate) fn next_number(&self) -> u64 {
        self.ledger().published + 1
    }

    /// A generation is live, and the one before it is draining or standby.
    pub(crate) fn published(&self, new: Published) -> News {
        self.record(|ledger| {
            let generation = new.entry.number;
            ledger.published = generation;
            ledger.live = Some(generation);
            let mut events = vec![match (new.entry.loaded_again, new.before) {
                (loaded_again @ Some(_), Some(left)) => Event::RolledBack {
                    generation: left,
                    live: generation,
                    loaded_again,
                    why: None,
                },
                _ => new.accepted(),
            }];
            events.extend(new.of_note());
            ledger.generations.push_back(new.entry);
            match new.before {
                Some(before) if new.on_probation => {
                    ledger.set(before, State::Standby);
                    events.push(Event::Standby {
                        generation: before,
                        successor: generation,
                    });
                }
                Some(before) => ledger.set(before, State::draining()),
                None => {}
            }
            events
        })
    }

    /// One more is mapped, beside those that are. Gives its number.
    pub(crate) fn opened(&self, image: &Image, phases: Phases) -> (u64, News) {
        let mut new = Published::of(0, image, phases, None);
        let mut number = 0;
        let news = self.record(|ledger| {
            ledger.published += 1;
            number = ledger.published;
            new.entry.number = number;
            let events = iter::once(new.accepted()).chain(new.of_note()).collect();
            ledger.generations.push_back(new.entry);
            events
        });
        (number, news)
    }

    /// A generation that was still mapped is live again, and the one that was is draining.
    pub(crate) fn rolled_back(&self, back: Return) -> News {
        let Return { live, left, why } = back;
        self.record(|ledger| {
            ledger.live = Some(live);
            ledger.set(live, State::Live);
            ledger.set(left, State::draining());
            vec![Event::RolledBack {
                generation: left,
                live,
                loaded_again: None,
                why,
            }]
        })
    }

    pub(crate) fn refused(&self, error: &Error) {
        let news = self.record(|ledger| {
            let refused = RefusedInfo::new(error, ledger.live);
            ledger.refused.push_back(refused.clone());
            if ledger.refused.len() > ledger.limits.refused {
                ledger.refused.pop_front();
            }
            vec![refused.into()]
        });
        news.trace();
    }

    /// The candidates that were refused last, oldest first.
    pub(crate) fn refusals(&self) -> Vec<RefusedInfo> {
        self.ledger().refused.iter().cloned().collect()
    }

    /// What the bytes of a generation are, if that was asked for.
    pub(crate) fn sha256(&self, number: u64) -> Option<Sha256> {
        self.ledger().find(number)?.sha256
    }

    /// What the bytes of a generation are.
    pub(crate) fn hashed(&self, number: u64, sha256: Sha256) {
        if let Some(entry) = self.ledger().find(number) {
            entry.sha256 = Some(sha256);
        }
    }

    pub(crate) fn draining(&self, number: u64, held_by: Vec<Holder>) {
        self.ledger().set(number, State::Draining { held_by });
    }

    pub(crate) fn held(&self, generation: u64, by: Vec<Holder>) -> News {
        self.record(|ledger| {
            let held_by = by.clone();
            ledger.set(generation, State::Draining { held_by });
            vec![Event::Held { generation, by }]
        })
    }

    pub(crate) fn hook_panicked(&self, generation: u64, message: String) {
        let event = Event::HookPanicked {
            generation,
            message,
        };
        self.record(|_| vec![event]).trace();
    }

    pub(crate) fn unloaded(&self, generation: u64, after: Duration, heap: Option<HeapLeft>) {
        let news = self.record(|ledger| {
            ledger.set(generation, State::Unloaded);
            vec![Event::Unloaded {
                generation,
                after,
                heap,
            }]
        });
        news.trace();
    }

    pub(crate) fn pinned(&self, generation: u64, reason: PinReason) {
        let news = self.record(|ledger| {
            ledger.set(generation, State::Pinned(reason.clone()));
            vec![Event::Pinned { generation, reason }]
        });
        news.trace();
    }

    /// So much is retired and still mapped that half of a bound is reached.
    pub(crate) fn retained(
        &self,
        images: usize,
        bytes: u64,
        images_max: usize,
        bytes_max: u64,
    ) -> News {
        let event = Event::Retained {
            images,
            bytes,
            images_max,
            bytes_max,
        };
        self.record(|_| vec![event])
    }

    pub(crate) fn serial_not_kept(&self, generation: u64, error: &Error) {
        let reason = error.reason();
        let event = Event::SerialNotKept { generation, reason };
        self.record(|_| vec![event]).trace();
    }

    pub(crate) fn service(&self, name: &str, generation: u64, news: ServiceNews) -> News {
        let name = name.to_owned();
        let event = Event::Service {
            name,
            generation,
            news,
        };
        self.record(|_| vec![event])
    }

    /// Changes the list, and tells the listeners.
    fn record(&self, change: impl FnOnce(&mut Ledger) -> Vec<Event>) -> News {
        let mut ledger = self.ledger();
        let events = change(&mut ledger);
        events.iter().for_each(|event| ledger.send(event.clone()));
        ledger.forget_oldest();
        self.changed.notify_all();
        News(events)
    }

    /// Waits until generation `number` has ended, at most until `deadline`, and says how it stands then.
    /// `None`: the list does not have it (any more).
    pub(crate) fn wait(&self, number: u64, deadline: Instant) -> Option<State> {
        let state = |ledger: &Ledger| {
            let mut all = ledger.generations.iter();
            Some(all.find(|it| it.number == number)?.state.clone())
        };
        self.wait_while(
            deadline,
            |ledger| state(ledger).is_some_and(|state| !state.has_ended()),
            state,
        )
    }

    /// Waits until all generations have ended, at most until `deadline`, and gives those still mapped.
    pub(crate) fn wait_for_all(&self, deadline: Instant) -> Vec<GenerationInfo> {
        let going_on = |ledger: &Ledger| ledger.generations.iter().any(|it| !it.state.has_ended());
        let mapped = |ledger: &Ledger| {
            ledger
                .generations
                .iter()
                .filter(|it| it.state != State::Unloaded)
                .cloned()
                .collect()
        };
        self.wait_while(deadline, going_on, mapped)
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

    /// A panic under the lock could only come from a failed allocation; the list is whole even then.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Published {
    /// Without one before it.
    pub(crate) fn of(
        number: u64,
        image: &Image,
        phases: Phases,
        loaded_again: Option<u64>,
    ) -> Self {
        let origin = image.origin();
        let (name, version) = image.package().unzip();
        let entry = GenerationInfo {
            number,
            path: origin.given.to_path_buf(),
            real_path: origin.real.clone(),
            file_bytes: origin.bytes,
            build_id: image.facts().build_id.clone(),
            sha256: origin.sha256,
            name,
            version,
            published: SystemTime::now(),
            loaded_again,
            kit_problem: image.kit_problem(),
            static_tls_bytes: image.facts().static_tls_bytes(),
            serial: origin.claims.serial,
            expires: origin.claims.expires,
            old_libraries: image.old_libraries().to_vec(),
            state: State::Live,
        };
        Self {
            entry,
            followed_link: origin.followed_link,
            phases,
            before: None,
            on_probation: false,
        }
    }

    fn accepted(&self) -> Event {
        Event::Accepted {
            generation: self.entry.number,
            path: self.entry.path.clone(),
            real_path: self.entry.real_path.clone(),
            followed_link: self.followed_link,
            phases: self.phases,
        }
    }

    /// What somebody may want to look into.
    fn of_note(&self) -> impl Iterator<Item = Event> + use<> {
        let generation = self.entry.number;
        let bytes = self.entry.static_tls_bytes;
        let static_tls = bytes.map(|bytes| Event::StaticTls { generation, bytes });
        let libraries = self.entry.old_libraries.clone().into_iter();
        let libraries = libraries.map(move |library| Event::OldLibrary {
            generation,
            library,
        });
        static_tls.into_iter().chain(libraries)
    }
}

impl Ledger {
    fn find(&mut self, number: u64) -> Option<&mut GenerationInfo> {
        self.generations.iter_mut().find(|it| it.number == number)
    }

    fn set(&mut self, number: u64, state: State) {
        if let Some(it) = self.find(number) {
            it.state = state;
        }
    }

    /// Never waits: what finds no room is counted, and the count is sent right before the next that does. It needs no
    /// room of its own, or with room for one it would keep out what it comes with.
    fn send(&mut self, event: Event) {
        if self.events.len() >= self.limits.events.max(1) {
            self.missed += 1;
            return;
        }
        // The listeners are there as long as this is.
        if self.missed > 0 {
            let events = mem::take(&mut self.missed);
            drop(self.events.send(Event::Missed { events }));
        }
        drop(self.events.send(event));
    }

    fn forget_oldest(&mut self) {
        let ended = self
            .generations
            .iter()
            .filter(|it| it.state.has_ended())
            .count();
        let mut excess = ended.saturating_sub(self.limits.ended);
        self.generations.retain(|it| {
            let forget = excess > 0 && it.state.has_ended();
            excess -= usize::from(forget);
            !forget
        });
    }
}
