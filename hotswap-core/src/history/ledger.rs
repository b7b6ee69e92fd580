//! The list of generations itself, which changes under the history's lock.

use std::{collections::VecDeque, mem, task::Waker};

use super::{
    Happened, Lengths,
    event::{Event, EventKind},
    generation::{GenerationInfo, State},
    published::Published,
    subscribers::Subscribers,
    waiters::Waiters,
};
use crate::comparison::Share;

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) generations: VecDeque<GenerationInfo>,
    /// The number of generations so far.
    pub(super) published: u64,
    pub(super) live: Option<u64>,
    pub(super) subscribers: Subscribers,
    pub(super) waiters: Waiters,
    /// Events of the kind [`EventKind::Refused`], oldest first.
    pub(super) refused: VecDeque<Event>,
    pub(super) limits: Lengths,
}

impl Ledger {
    /// Adds a generation, whose number is the next. Returns events of note.
    pub(super) fn add(&mut self, new: Published) -> impl Iterator<Item = Happened> + use<> {
        self.published = new.entry.number;
        let of_note = new.of_note();
        self.generations.push_back(new.entry);
        of_note
    }

    /// Sets the share of a canary. Returns the event of it.
    pub(super) fn set_share(&mut self, number: u64, share: Share) -> Option<Happened> {
        let entry = self.find(number)?;
        entry.state = State::Canary { share };
        let path = entry.path.clone();
        Some((Some(number), EventKind::Canary { path, share }))
    }

    pub(super) fn find(&mut self, number: u64) -> Option<&mut GenerationInfo> {
        self.generations.iter_mut().find(|it| it.number == number)
    }

    /// `None`: the list does not have it (any more).
    pub(super) fn state(&self, number: u64) -> Option<&State> {
        let mut all = self.generations.iter();
        Some(&all.find(|it| it.number == number)?.state)
    }

    /// Whether there is nothing to wait for, or nothing any more.
    pub(super) fn has_ended(&self, number: u64) -> bool {
        self.state(number).is_none_or(State::has_ended)
    }

    pub(super) fn mapped(&self) -> Vec<GenerationInfo> {
        let all = self.generations.iter();
        let mapped = all.filter(|it| it.state != State::Unloaded);
        mapped.cloned().collect()
    }

    /// The wakers of those whose wait is over.
    pub(super) fn take_waiters(&mut self) -> Vec<Waker> {
        let mut waiters = mem::take(&mut self.waiters);
        let wakers = waiters.take_ended(|number| self.has_ended(number));
        self.waiters = waiters;
        wakers
    }

    /// Keeps the events of refused candidates, up to the maximum.
    pub(super) fn keep_refusals(&mut self, events: &[Event]) {
        let is_refusal = |it: &&Event| matches!(it.kind, EventKind::Refused { .. });
        self.refused
            .extend(events.iter().filter(is_refusal).cloned());
        let excess = self.refused.len().saturating_sub(self.limits.refused);
        self.refused.drain(..excess);
    }

    pub(super) fn set(&mut self, number: u64, state: State) {
        if let Some(it) = self.find(number) {
            it.state = state;
        }
    }

    /// An event that contains what the list knows of the generation.
    pub(super) fn event(&self, generation: Option<u64>, kind: EventKind) -> Event {
        let mut all = self.generations.iter();
        let entry = all.find(|it| Some(it.number) == generation);
        Event {
            generation,
            version: entry.and_then(|it| it.version.clone()),
            build_id: entry.and_then(|it| it.build_id.clone()),
            sha256: entry.and_then(|it| it.sha256),
            ..Event::now(kind)
        }
    }

    /// Only those that are gone: what is pinned has a bound of its own, and may still be unloaded.
    pub(super) fn forget_oldest(&mut self) {
        let is_gone = |it: &GenerationInfo| it.state == State::Unloaded;
        let gone = self.generations.iter().filter(|it| is_gone(it)).count();
        let mut excess = gone.saturating_sub(self.limits.ended);
        self.generations.retain(|it| {
            let forget = excess > 0 && is_gone(it);
            excess -= usize::from(forget);
            !forget
        });
    }
}
