//! Which calls there are, for reports on who holds a value. Nothing that frees a value relies on this module.
//!
//! A thread that begins a call names a value before it knows whether that is still current (module `cell`). If a swap
//! comes in between, a look may list a call on a value that the thread will not use, until the thread runs on.

use std::{collections::HashMap, ptr};

use crate::{
    registry,
    slot::{Inside, Slot},
};

/// Who still uses a retired value, as far as one look at the slots can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// The system's numbers of some of the threads that are inside a call on the value. If there is neither such a
    /// thread nor a lease: of those that are just entering a call on any cell, since one of them may get the value.
    pub threads: Vec<u32>,
    /// The number of these threads in all. Calls inside another call on the same cell are not counted.
    pub calls: usize,
    /// The number of leases.
    pub leases: usize,
}

/// Which value it is, for as long as it exists. It is only compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValueId(usize);

/// A call that [`mark_calls`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkedCall {
    /// The place of the call: no two calls have the same one at the same time. A later call may get it.
    pub place: usize,
    /// The system's number of the thread that is inside the call; 0 if it is just ending.
    pub thread: u32,
    /// Whether an earlier look has marked this same call.
    pub was_marked: bool,
}

/// Marks the calls on a value that are under way, and lists them. A later look knows each of them from any other call,
/// also from the next one of the same thread on the same value.
///
/// Calls inside another call on the same cell are not listed: the outer one is. A call that is just beginning may be
/// found by the next look only, or be listed although it then gets another value. Waits for nobody, and costs those
/// that call nothing but a cache miss. If several threads look at one value, each sees the marks of the others.
pub fn mark_calls(value: ValueId) -> impl Iterator<Item = MarkedCall> {
    let value = ptr::without_provenance(value.0);
    registry::all().filter_map(move |slot| {
        Some(MarkedCall {
            was_marked: slot.mark(value)?,
            place: ptr::from_ref::<Slot>(slot).addr(),
            thread: slot.thread(),
        })
    })
}

/// The calls that have a mark, on whichever value: the place of each ([`MarkedCall::place`]), and its value. Waits for
/// nobody.
pub fn marked_calls() -> impl Iterator<Item = (usize, ValueId)> {
    registry::all().filter_map(|slot| {
        let place = ptr::from_ref::<Slot>(slot).addr();
        Some((place, ValueId::new(slot.marked_value()?)))
    })
}

/// The values whose calls a thread is inside of, as far as its slots name them. May be called in a signal handler, once
/// it was called outside of one: it takes no lock, and allocates nothing. Waits for nobody.
pub fn values_of_thread(thread: u32) -> impl Iterator<Item = ValueId> {
    let slots = registry::all().filter(move |slot| slot.thread() == thread);
    slots.filter_map(|slot| match slot.inside() {
        Inside::Value(value) => Some(ValueId::new(value)),
        Inside::Unknown | Inside::Nothing => None,
    })
}

impl ValueId {
    pub(crate) fn new(value: *const ()) -> Self {
        Self(value.addr())
    }
}

/// The calls on all cells at one moment. One snapshot serves many retired values.
///
/// A value that the snapshot shows in use was in use at that moment, or a thread was about to use it. A value that it
/// does not show may be in use all the same; only [`Retired::try_drain`](crate::Retired::try_drain) proves that it is
/// not.
pub struct Calls {
    inside: HashMap<*const (), Threads>,
    /// Threads that were about to enter; the value that they will load is not known.
    entering: Threads,
}

/// The numbers of some threads, and how many threads there are.
#[derive(Default)]
struct Threads {
    named: Vec<u32>,
    count: usize,
}

impl Calls {
    /// Looks at every slot once. Keeps at most `named_max` thread numbers for each value. Waits for nobody.
    pub fn snapshot(named_max: usize) -> Self {
        let mut calls = Self {
            inside: HashMap::new(),
            entering: Threads::default(),
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

    /// The holders of the value at this address.
    pub(crate) fn holders(&self, value: *const (), leases: usize) -> Holders {
        // A thread that is entering most likely enters another cell, or gets a newer value. It is listed where nothing
        // else explains why the value is in use.
        let otherwise = (leases == 0).then_some(&self.entering);
        let threads = self.inside.get(&value).or(otherwise);
        Holders {
            threads: threads.map_or_else(Vec::new, |it| it.named.clone()),
            calls: threads.map_or(0, |it| it.count),
            leases,
        }
    }

    /// Returns whether a call was inside the value at this address.
    pub(crate) fn names(&self, value: *const ()) -> bool {
        self.inside.contains_key(&value)
    }
}
