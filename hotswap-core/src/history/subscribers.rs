//! Who is told of events: each by a queue of its own.

use std::mem;

use crossbeam_channel::{Receiver, Sender};

use super::{Event, EventKind};

#[derive(Debug)]
pub(super) struct Subscribers {
    all: Vec<Subscriber>,
    /// For the first one.
    waiting: Option<Receiver<Event>>,
    events_max: usize,
}

#[derive(Debug)]
struct Subscriber {
    queue: Sender<Event>,
    /// How many events have found no room since the last that has.
    missed: u64,
}

impl Subscribers {
    /// Each is told at most so many events that it has not received yet, and at least one.
    pub(super) fn new(events_max: usize) -> Self {
        let mut subscribers = Self {
            all: Vec::new(),
            waiting: None,
            events_max: events_max.max(1),
        };
        subscribers.waiting = Some(subscribers.add());
        subscribers
    }

    /// What happens from now on; for the first one, also what happened before.
    pub(super) fn subscribe(&mut self) -> Receiver<Event> {
        self.waiting.take().unwrap_or_else(|| self.add())
    }

    fn add(&mut self) -> Receiver<Event> {
        // Bounded by `tell`: a channel of crossbeam's with a bound has all its room from the beginning.
        let (queue, receiver) = crossbeam_channel::unbounded();
        self.all.push(Subscriber { queue, missed: 0 });
        receiver
    }

    /// Waits for nobody. Those who have dropped their queue are forgotten.
    pub(super) fn send(&mut self, event: &Event) {
        self.all.retain_mut(|it| it.tell(event, self.events_max));
    }
}

impl Subscriber {
    /// What finds no room is counted, and the count is sent right before the next that does. It needs no room of its own,
    /// or with room for one it would keep out what it comes with. `false`: nobody receives any more.
    fn tell(&mut self, event: &Event, events_max: usize) -> bool {
        // Nobody else sends, so that there is room until this does.
        if self.queue.len() >= events_max {
            self.missed += 1;
            return true;
        }
        if self.missed > 0 {
            let events = mem::take(&mut self.missed);
            let missed = Event::now(EventKind::Missed { events });
            drop(self.queue.send(missed));
        }
        self.queue.send(event.clone()).is_ok()
    }
}
