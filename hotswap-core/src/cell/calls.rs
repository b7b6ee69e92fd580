//! Which calls there are: for those who want to know who holds a value, not for those who free it.

use std::collections::HashMap;

use super::slots::{self, Inside};

/// Who still uses a retired value, as far as one look can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holders {
    /// The system's numbers of some of the threads that are inside a call, or just entering one.
    pub(crate) threads: Vec<u32>,
    /// How many threads that are in all.
    pub(crate) calls: usize,
    pub(crate) leases: usize,
}

/// Which calls there are, at one look at all slots: so that many retired values cost no more than one.
///
/// A value that is named here was in use a moment ago. That one is not named here proves nothing: only
/// `Retired::try_drain` does.
pub(crate) struct Calls {
    inside: HashMap<*const (), Threads>,
    /// They are about to enter, whatever that will be.
    entering: Threads,
    named_max: usize,
}

/// Some threads by number, and how many there are.
#[derive(Default)]
struct Threads {
    named: Vec<u32>,
    count: usize,
}

impl Calls {
    /// Looks at every slot once, and keeps the numbers of at most so many threads for each value.
    pub(crate) fn now(named_max: usize) -> Self {
        let mut calls = Self {
            inside: HashMap::new(),
            entering: Threads::default(),
            named_max,
        };
        for slot in slots::all() {
            let threads = match slot.inside() {
                Inside::Nothing => continue,
                Inside::Value(value) => calls.inside.entry(value).or_default(),
                Inside::Unknown => &mut calls.entering,
            };
            threads.count += 1;
            if threads.named.len() < named_max {
                threads.named.push(slot.thread());
            }
        }
        calls
    }

    /// Of the value at this address.
    pub(super) fn holders(&self, value: *const (), leases: usize) -> Holders {
        let all = || self.inside.get(&value).into_iter().chain([&self.entering]);
        let named = all().flat_map(|threads| threads.named.iter().copied());
        Holders {
            threads: named.take(self.named_max).collect(),
            calls: all().map(|threads| threads.count).sum(),
            leases,
        }
    }

    /// Whether a call was inside of the value at this address.
    pub(super) fn names(&self, value: *const ()) -> bool {
        self.inside.contains_key(&value)
    }
}
