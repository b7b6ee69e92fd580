//! Which calls there are: for those who want to know who holds a value, not for those who free it.

use std::collections::HashMap;

use crate::{registry, slot::Inside};

/// Who still uses a retired value, as far as one look can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// The system's numbers of some of the threads that are inside a call, or just entering one.
    pub threads: Vec<u32>,
    /// How many calls there are in all, not counting those inside of others on the same cell.
    pub calls: usize,
    /// How many leases there are.
    pub leases: usize,
}

/// Which calls there were at one moment, of all cells: one look serves many retired values.
///
/// A value that is in use here was in use then. That one is not proves nothing: only
/// [`Retired::try_drain`](crate::Retired::try_drain) does.
pub struct Calls {
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
    pub fn snapshot(named_max: usize) -> Self {
        let mut calls = Self {
            inside: HashMap::new(),
            entering: Threads::default(),
            named_max,
        };
        for slot in registry::all() {
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
    pub(crate) fn holders(&self, value: *const (), leases: usize) -> Holders {
        let all = || self.inside.get(&value).into_iter().chain([&self.entering]);
        let named = all().flat_map(|threads| threads.named.iter().copied());
        Holders {
            threads: named.take(self.named_max).collect(),
            calls: all().map(|threads| threads.count).sum(),
            leases,
        }
    }

    /// Whether a call was inside of the value at this address.
    pub(crate) fn names(&self, value: *const ()) -> bool {
        self.inside.contains_key(&value)
    }
}
