//! Futures that wait for generations to end, each with its waker.
//!
//! There are as many as futures that were polled and are neither ready nor dropped.

use std::{collections::BTreeMap, task::Waker};

#[derive(Debug, Default)]
pub(super) struct Waiters {
    made: u64,
    all: BTreeMap<u64, Waiter>,
}

/// A future, from its first poll on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WaiterId(u64);

#[derive(Debug)]
struct Waiter {
    /// `None`: it waits for nothing that the list says.
    generation: Option<u64>,
    waker: Waker,
}

impl Waiters {
    /// Has a future woken when it has to be polled. Returns its waker from before, to be dropped without any lock.
    pub(super) fn register(
        &mut self,
        id: &mut Option<WaiterId>,
        generation: Option<u64>,
        waker: Waker,
    ) -> Option<Waker> {
        let id = id.get_or_insert_with(|| {
            self.made += 1;
            WaiterId(self.made)
        });
        let before = self.all.insert(id.0, Waiter { generation, waker });
        before.map(|it| it.waker)
    }

    /// Forgets a future. Returns its waker, to be dropped without any lock.
    pub(super) fn remove(&mut self, id: &WaiterId) -> Option<Waker> {
        self.all.remove(&id.0).map(|it| it.waker)
    }

    /// Takes the wakers of those who wait for a generation of which `has_ended` says so.
    pub(super) fn take_ended(&mut self, has_ended: impl Fn(u64) -> bool) -> Vec<Waker> {
        let is_due = |_: &u64, it: &mut Waiter| it.generation.is_some_and(&has_ended);
        let due = self.all.extract_if(.., is_due);
        due.map(|(_, it)| it.waker).collect()
    }

    /// Takes all wakers.
    pub(super) fn take_all(&mut self) -> Vec<Waker> {
        let all = std::mem::take(&mut self.all);
        all.into_values().map(|it| it.waker).collect()
    }
}
