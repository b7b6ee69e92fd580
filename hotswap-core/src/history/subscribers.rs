//! The receivers of events, each with a queue of its own.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use super::{Event, EventKind};
use crate::async_channel::{AsyncReceiver, AsyncSender, async_channel};

#[derive(Debug)]
pub(super) struct Subscribers {
    all: Vec<Subscriber>,
    /// The queue for the first receiver, which also gets the events from before it asked. `None`: it has asked.
    first: Option<AsyncReceiver<Event>>,
    events_max: usize,
}

#[derive(Debug)]
pub(super) struct Subscriber {
    queue: AsyncSender<Event>,
    /// How many events found no room in the queue since the last that did.
    missed: u64,
}

/// A queue of the events ([`Hotswap::event_stream`](crate::Hotswap::event_stream)), for any executor.
#[must_use = "it receives nothing once it is dropped"]
pub struct EventStream(AsyncReceiver<Event>);

impl Subscribers {
    /// `events_max` is how many events a queue holds, at least 1.
    pub(super) fn new(events_max: usize) -> Self {
        let mut subscribers = Self {
            all: Vec::new(),
            first: None,
            events_max: events_max.max(1),
        };
        subscribers.first = Some(subscribers.add());
        subscribers
    }

    /// A queue of the events from now on; the first queue also has those from before.
    pub(super) fn subscribe(&mut self) -> AsyncReceiver<Event> {
        self.first.take().unwrap_or_else(|| self.add())
    }

    fn add(&mut self) -> AsyncReceiver<Event> {
        // `tell` bounds it.
        let (queue, receiver) = async_channel();
        self.all.push(Subscriber { queue, missed: 0 });
        receiver
    }

    /// Sends an event to every receiver, without waiting, and adds the wakers of those that wait for one to `wakers`.
    /// Forgets receivers that were dropped. Returns how many receivers had no room for it: none as long as nobody has
    /// asked for events.
    pub(super) fn send(&mut self, event: &Event, wakers: &mut Vec<Waker>) -> u64 {
        let mut missed = 0;
        self.all.retain_mut(|it| {
            let missed_before = it.missed;
            let is_there = it.tell(event, self.events_max, wakers);
            missed += u64::from(it.missed > missed_before);
            is_there
        });
        if self.first.is_some() { 0 } else { missed }
    }

    /// Takes all receivers' queues, so that each receiver finds the end after what was sent. Dropping them wakes who
    /// waits.
    pub(super) fn take_all(&mut self) -> Vec<Subscriber> {
        mem::take(&mut self.all)
    }
}

impl Subscriber {
    /// Sends an event, or counts it as missed if there is no room. The count is sent right before the next event that
    /// finds room. It needs no room of its own, because with room for one event it would displace that event.
    /// `false`: the receiver was dropped.
    fn tell(&mut self, event: &Event, events_max: usize, wakers: &mut Vec<Waker>) -> bool {
        // Only this sends, under the history's lock, so the room is still there below.
        if self.queue.len() >= events_max {
            self.missed += 1;
            return true;
        }
        if self.missed > 0 {
            let events = mem::take(&mut self.missed);
            let missed = Event::now(EventKind::Missed { events });
            wakers.extend(self.queue.send(missed).ok().flatten());
        }
        let sent = self.queue.send(event.clone());
        sent.map(|waker| wakers.extend(waker)).is_ok()
    }
}

impl EventStream {
    pub(super) fn new(queue: AsyncReceiver<Event>) -> Self {
        Self(queue)
    }
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll_recv(context)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EventStream").field(&self.0).finish()
    }
}
