//! The slots of one thread.
//!
//! A thread has a chain of slots, one for each cell that it is inside of at once, linked by `inner`. The chain's head is
//! found through a thread-local without destructor, so that it can be read at any time in a thread's life. A second
//! thread-local gives the chain back when the thread ends. A call that comes even later, from the destructor of another
//! thread-local, takes a chain that is given back when its last call ends.
//!
//! An inline call looks at the head only, and enters through it when it holds null. A call that is made inside of
//! another on the same cell must find that one's slot instead. So the head does not hold null while another slot
//! of its chain is in use: when it is idle, it then holds *inner in use*.
//!
//! # Invariant
//!
//! A chain is given back only when nothing of it is in use, so that a call ends in the chain that it began in.

use std::{
    cell::Cell,
    ptr::{self, NonNull},
    sync::OnceLock,
};

use crate::{
    registry,
    slot::{CellId, Slot},
    sync::{Ordering, fence, per_thread},
};

static QUIESCENCE_CALLBACK: OnceLock<fn()> = OnceLock::new();

/// Sets what every thread runs once, soon after [`request_quiescence_callbacks`]: before its next outermost call, or when
/// it drops a lease. There is one for the whole process; the first one stays.
pub fn set_quiescence_callback(callback: fn()) {
    let _ = QUIESCENCE_CALLBACK.set(callback);
}

/// Asks every thread that has read something, and has not ended, to run the quiescence callback. A thread that reads for
/// the first time later is asked by the next request; one that reads nothing any more does not run it.
pub fn request_quiescence_callbacks() {
    registry::all().for_each(Slot::request_callback);
}

/// Runs the quiescence callback if this thread is asked to, and is inside of nothing.
#[inline]
pub(crate) fn run_quiescence_callback() {
    if let Some(slot) = head()
        && slot.is_null()
        && slot.is_callback_requested()
    {
        run_requested_callback(slot);
    }
}

#[cold]
fn run_requested_callback(slot: &Slot) {
    if slot.take_callback_request()
        && let Some(callback) = QUIESCENCE_CALLBACK.get()
    {
        callback();
    }
}

/// Registers the calling thread, and runs the quiescence callback if the thread is asked to and is inside of no call. For
/// threads that use what other threads retire without reading a cell, and for those that must be known not to be ending
/// ([`is_registered`](crate::is_registered)).
#[inline]
pub fn pass_quiescent_point() {
    match head() {
        Some(slot) if !slot.is_callback_requested() => {}
        _ => give_back_if_late(chain()),
    }
}

/// The head of this thread's chain, if it has one already.
#[inline]
fn head() -> Option<&'static Slot> {
    // SAFETY: slots are never freed.
    unsafe { HEAD.with(Cell::get).as_ref() }
}

/// Whether the calling thread is inside of a [`Cell::with`](crate::Cell::with), of whichever cell.
pub fn is_inside_call() -> bool {
    head().is_some_and(|head| !head.is_null())
}

/// The head of this thread's chain, if an inline call may enter through it: the thread is inside of nothing, has no
/// quiescence callback to run, and is not ending.
#[inline]
pub(crate) fn ready_head() -> Option<&'static Slot> {
    head().filter(|head| head.is_ready())
}

/// Begins a call of this thread that is not inline: gives the slot that it is to rely on until [`end`], and what
/// that slot names already, if it is a value of `cell`. If it names nothing, the caller enters through it at once.
///
/// Runs the quiescence callback before, if the thread is inside of nothing.
#[inline]
pub(crate) fn begin(cell: CellId) -> (&'static Slot, Option<NonNull<()>>) {
    match head() {
        Some(head) if !head.is_null() => match head.named_of(cell) {
            Some(value) => {
                head.nest(value);
                (head, Some(value))
            }
            None => begin_inside(head, cell),
        },
        _ => begin_first(cell),
    }
}

/// The same when nothing of the chain is in use.
#[inline(never)]
fn begin_first(cell: CellId) -> (&'static Slot, Option<NonNull<()>>) {
    let head = chain();
    if head.is_null() {
        return (head, None);
    }
    // The quiescence callback has left a call behind that has not ended.
    begin_deeper_inside(head, cell)
}

/// The same inside of another call, when the head of the chain does not name a value of `cell`.
#[inline(never)]
fn begin_inside(head: &'static Slot, cell: CellId) -> (&'static Slot, Option<NonNull<()>>) {
    // A call inside of the first call, so that only the head is in use.
    if head.inner_in_use.get() == 0
        && let Some(slot) = head.inner_if_made()
    {
        head.inner_begins();
        return (slot, None);
    }
    begin_deeper_inside(head, cell)
}

#[inline(never)]
fn begin_deeper_inside(head: &'static Slot, cell: CellId) -> (&'static Slot, Option<NonNull<()>>) {
    if let Some(value) = head.named_of(cell) {
        head.nest(value);
        return (head, Some(value));
    }
    let mut slot = head;
    for _ in 0..head.inner_in_use.get() {
        slot = next_in_use(slot);
        if let Some(value) = slot.named_of(cell) {
            slot.nest(value);
            return (slot, Some(value));
        }
    }
    (occupy_idle(head), None)
}

/// Begins a call of this thread that is to enter, whatever the thread is inside of.
pub(crate) fn begin_apart() -> &'static Slot {
    occupy_idle(chain())
}

/// An idle slot of the chain, counted as one in use. The chain is made longer if need be.
fn occupy_idle(head: &'static Slot) -> &'static Slot {
    if head.is_idle() {
        return head;
    }
    let mut slot = inner_of(head);
    while !slot.is_idle() {
        slot = inner_of(slot);
    }
    head.inner_begins();
    slot
}

/// The first slot after this one in its chain that is in use. There must be one.
fn next_in_use(slot: &Slot) -> &'static Slot {
    let mut slot = inner_of(slot);
    while slot.is_idle() {
        slot = inner_of(slot);
    }
    slot
}

/// The slot after this one in its chain, which is made longer if need be.
fn inner_of(slot: &Slot) -> &'static Slot {
    slot.inner_if_made().unwrap_or_else(|| {
        let new = registry::take(slot.is_late());
        slot.inner.set(new);
        new
    })
}

/// Ends a call of this thread that relies on `slot`: one that is nested there, or the one that entered.
#[inline]
pub(crate) fn end(slot: &Slot, is_nested: bool) {
    if !is_nested {
        end_entered(slot);
    } else if slot.end_nested() {
        ended_out_of_order(slot);
    }
}

#[cold]
fn ended_out_of_order(slot: &Slot) {
    ended_last(slot);
}

#[inline(never)]
fn end_entered(slot: &Slot) {
    slot.leave();
    if slot.is_idle() {
        ended_last(slot);
    }
}

/// The last call that relied on `slot` has ended.
#[inline]
fn ended_last(slot: &Slot) {
    let head = head().expect("a thread keeps its chain while it is inside of something");
    if !ptr::eq(slot, head) {
        head.inner_ends();
    }
    if head.is_idle() {
        head.now_holds(head.idle_word());
        give_back_if_late(head);
    }
}

/// The head of this thread's chain, which is made if need be. Runs the quiescence callback before that.
fn chain() -> &'static Slot {
    run_quiescence_callback();
    head().unwrap_or_else(new_chain)
}

#[cold]
fn new_chain() -> &'static Slot {
    let new = registry::take(GIVE_BACK.try_with(|_| ()).is_err());
    HEAD.with(|head| head.set(new));
    let _ = GIVE_BACK.try_with(|chain| chain.0.set(new));
    new
}

#[inline]
fn give_back_if_late(head: &Slot) {
    if head.is_null() && head.is_late() {
        give_back(head);
    }
}

/// Gives this thread's chain back, of which nothing is in use.
#[cold]
fn give_back(head: &Slot) {
    // Only the model checker ever takes `HEAD` away, and it makes no calls after that.
    let _ = HEAD.try_with(|head| head.set(ptr::null()));
    slots_of(head).for_each(Slot::give_back);
}

/// The slots of a chain, each before what follows it is looked at no more.
fn slots_of(head: &Slot) -> impl Iterator<Item = &Slot> {
    let mut next = ptr::from_ref(head);
    std::iter::from_fn(move || {
        // SAFETY: slots are never freed.
        let slot = unsafe { next.as_ref() }?;
        next = slot.inner.get();
        Some(slot)
    })
}

/// Gives this thread's chain, named by its head, back when the thread ends.
struct GiveBack(Cell<*const Slot>);

impl Drop for GiveBack {
    fn drop(&mut self) {
        // SAFETY: slots are never freed.
        if let Some(head) = unsafe { self.0.get().as_ref() } {
            // The chain may be in use: somebody called `exit` inside of a call, or a coroutine is suspended in one.
            // Then its slots stay taken and hold what they hold until the last call in it ends, which gives the chain
            // back. (An inline call does not; the chain is then given back by the next call, or stays taken.)
            slots_of(head).for_each(Slot::become_late);
            give_back_if_late(head);
        }
        // Pairs with the fence in `registry::is_registered`.
        fence(Ordering::SeqCst);
    }
}

per_thread! {
    static HEAD: Cell<*const Slot> = Cell::new(ptr::null());
    static GIVE_BACK: GiveBack = GiveBack(Cell::new(ptr::null()));
}

/// To be called by a forked child first: no other thread is there, whatever its slots say, and the calling one has another
/// number. Calls nothing but the system, as a child of several threads must (`fork(2)`).
pub fn reset_after_fork() {
    let is_mine =
        |slot: &Slot| head().is_some_and(|head| slots_of(head).any(|it| ptr::eq(it, slot)));
    for slot in registry::all().filter(|slot| slot.is_taken()) {
        if is_mine(slot) {
            slot.renumber();
        } else {
            slot.abandon();
        }
    }
}
