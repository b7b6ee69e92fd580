//! The receivers of events, each with a queue of its own.

use std::mem;

use crossbeam_channel::{Receiver, Sender};

use super::{Event, EventKind};

#[derive(Debug)]
pub(super) struct Subscribers {
    all: Vec<Subscriber>,
    /// The queue for the first receiver, which gets events from before it asked.
    waiting: Option<Receiver<Event>>,
    events_max: usize,
}

#[derive(Debug)]
struct Subscriber {
    queue: Sender<Event>,
    /// How many events found no room in the queue since the last that did.
    missed: u64,
}

impl Subscribers {
    /// `events_max` is how many events a queue holds, at least 1.
    pub(super) fn new(events_max: usize) -> Self {
        let mut subscribers = Self {
            all: Vec::new(),
            waiting: None,
            events_max: events_max.max(1),
        };
        subscribers.waiting = Some(subscribers.add());
        subscribers
    }

    /// A queue of the events from now on; the first queue also has those from before.
    pub(super) fn subscribe(&mut self) -> Receiver<Event> {
        self.waiting.take().unwrap_or_else(|| self.add())
    }

    fn add(&mut self) -> Receiver<Event> {
        // `tell` bounds it. A bounded channel of crossbeam's would allocate all its room at once.
        let (queue, receiver) = crossbeam_channel::unbounded();
        self.all.push(Subscriber { queue, missed: 0 });
        receiver
    }

    /// Sends an event to every receiver, without waiting. Forgets receivers that were dropped. Returns how many have
    /// missed it; nobody has as long as nobody has asked for events.
    pub(super) fn send(&mut self, event: &Event) -> u64 {
        let mut missed = 0;
        self.all.retain_mut(|it| {
            let missed_before = it.missed;
            let is_there = it.tell(event, self.events_max);
            missed += u64::from(it.missed > missed_before);
            is_there
        });
        if self.waiting.is_some() { 0 } else { missed }
    }
}

impl Subscriber {
    /// Sends an event, or counts it as missed if there is no room. The count is sent right before the next event that
    /// finds room. It needs no room of its own, because with room for one event it would displace that event.
    /// `false`: the receiver was dropped.
    fn tell(&mut self, event: &Event, events_max: usize) -> bool {
        // Only this sends, under the history's lock, so the room is still there below.
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
