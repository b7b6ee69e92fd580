//! The wakers of futures that wait for the end of a generation, or for that of the swap point.
//!
//! There are as many as futures that were polled and were neither woken nor dropped since.

use std::{collections::BTreeMap, task::Waker};

#[derive(Debug, Default)]
pub(super) struct Waiters {
    /// How many ids were given.
    made: u64,
    /// Those of each generation, by their ids. `None`: those of the end of the swap point.
    wakers: BTreeMap<Option<u64>, Wakers>,
}

type Wakers = BTreeMap<u64, Waker>;

/// A future, from its first poll on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WaiterId {
    id: u64,
    /// `None`: it waits for the end of the swap point.
    generation: Option<u64>,
}

impl Waiters {
    /// Has a future woken when it has to be polled. Returns its waker from before, to be dropped without any lock.
    pub(super) fn register(
        &mut self,
        id: &mut Option<WaiterId>,
        generation: Option<u64>,
        waker: Waker,
    ) -> Option<Waker> {
        let WaiterId { id, generation } = id.get_or_insert_with(|| {
            self.made += 1;
            let id = self.made;
            WaiterId { id, generation }
        });
        self.wakers
            .entry(*generation)
            .or_default()
            .insert(*id, waker)
    }

    /// Forgets a future. Returns its waker, to be dropped without any lock.
    pub(super) fn remove(&mut self, waiter: &WaiterId) -> Option<Waker> {
        let wakers = self.wakers.get_mut(&waiter.generation)?;
        let waker = wakers.remove(&waiter.id);
        if wakers.is_empty() {
            self.wakers.remove(&waiter.generation);
        }
        waker
    }

    /// Takes the wakers of those who wait for a generation of which `has_ended` says so.
    pub(super) fn take_ended(&mut self, has_ended: impl Fn(u64) -> bool) -> Vec<Waker> {
        let is_due = |number: &Option<u64>, _: &mut Wakers| number.is_some_and(&has_ended);
        let due = self.wakers.extract_if(.., is_due);
        due.flat_map(|(_, wakers)| wakers.into_values()).collect()
    }

    /// Takes the wakers of those who wait for generation `number`, if there is one, and for the end of the swap point.
    pub(super) fn take_of(&mut self, number: Option<u64>) -> Vec<Waker> {
        let due = [number, None].into_iter();
        let due = due.filter_map(|it| self.wakers.remove(&it));
        due.flat_map(Wakers::into_values).collect()
    }
}
