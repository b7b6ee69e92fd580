//! The slots of one thread.
//!
//! A thread has a chain of slots, linked by `inner`: one slot for each cell that it is inside of at the same time. A
//! thread-local without a destructor holds the head of the chain, so that the head can be read at any time in a
//! thread's life. A second thread-local gives the chain back when the thread ends. A call that comes even later, from
//! the destructor of another thread-local, takes a new chain, which the end of its last call gives back.
//!
//! An inline call looks only at the head, and enters through it if the head holds null. A call inside another call on
//! the same cell must instead find the slot of the outer call. Therefore the head does not hold null while another
//! slot of its chain is in use: an idle head then holds *inner in use*.
//!
//! # Invariant
//!
//! A chain is given back only when no slot of it is in use, so a call ends in the chain in which it began.

use std::{
    cell::Cell,
    marker::PhantomData,
    ptr::{self, NonNull},
    sync::OnceLock,
};

use crate::{
    registry,
    slot::{CellId, Slot},
    sync::{Ordering, fence, per_thread},
};

static QUIESCENCE_CALLBACK: OnceLock<fn()> = OnceLock::new();

/// Sets the callback that every thread runs once after [`request_quiescence_callbacks`]: before its next outermost
/// call, or when it drops a lease. The process has one callback; later calls of this function change nothing.
pub fn set_quiescence_callback(callback: fn()) {
    let _ = QUIESCENCE_CALLBACK.set(callback);
}

/// Asks every running thread that has read a cell or dropped a lease to run the quiescence callback. A thread that does
/// so for the first time later is asked by the next request. A thread that never does so again does not run the
/// callback. Waits for nobody.
pub fn request_quiescence_callbacks() {
    registry::all().for_each(Slot::request_callback);
}

std::thread_local! {
    static DEFERRALS: Cell<u32> = const { Cell::new(0) };
}

/// Keeps this thread from running the quiescence callback while it lives: see [`defer_callbacks`].
#[derive(Debug)]
#[must_use]
pub struct CallbackDeferral {
    /// It belongs to its thread.
    thread: PhantomData<*const ()>,
}

/// Defers the quiescence callback of this thread until the first quiescent point after the returned value was dropped.
/// It is for a thread that has locked what the callback may lock, too.
pub fn defer_callbacks() -> CallbackDeferral {
    DEFERRALS.set(DEFERRALS.get() + 1);
    CallbackDeferral {
        thread: PhantomData,
    }
}

impl Drop for CallbackDeferral {
    fn drop(&mut self) {
        DEFERRALS.set(DEFERRALS.get() - 1);
    }
}

/// Runs the quiescence callback if this thread has been asked to, is inside no call and does not defer it.
#[inline]
fn run_quiescence_callback() {
    if let Some(slot) = head()
        && slot.is_null()
        && slot.is_callback_requested()
        && DEFERRALS.get() == 0
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

/// Registers the calling thread, and runs the quiescence callback if the thread has been asked to and is inside no
/// call.
///
/// It is for threads that use retired values without reading a cell, and for threads that others must know not to be
/// ending ([`is_registered`](crate::is_registered)).
#[inline]
pub fn pass_quiescent_point() {
    match head() {
        Some(slot) if !slot.is_callback_requested() => {}
        _ => give_back_if_exiting(chain()),
    }
}

/// The head of this thread's chain, if it exists already.
#[inline]
fn head() -> Option<&'static Slot> {
    // SAFETY: slots are never freed.
    unsafe { HEAD.with(Cell::get).as_ref() }
}

/// Returns whether the calling thread is inside a [`Cell::with`](crate::Cell::with) of any cell.
pub fn is_inside_call() -> bool {
    head().is_some_and(|head| !head.is_null())
}

/// The head of this thread's chain, if an inline call may enter through it: the thread is inside no call, has no
/// quiescence callback to run, and is not ending.
#[inline]
pub(crate) fn ready_head() -> Option<&'static Slot> {
    head().filter(|head| head.is_ready())
}

/// Begins a call of this thread that is not inline. Returns the slot that the call uses until [`end`], and the value
/// of `cell` that the slot already names. If there is none, the caller must enter through the slot at once.
///
/// If the thread is inside no call, this first runs a requested quiescence callback.
#[inline]
pub(crate) fn begin(cell: CellId) -> (&'static Slot, Option<NonNull<()>>) {
    match head() {
        Some(head) if !head.is_null() => match head.named_value_of(cell) {
            Some(value) => {
                head.nest(value);
                (head, Some(value))
            }
            None => begin_inside(head, cell),
        },
        _ => begin_first(cell),
    }
}

/// [`begin`] when no slot of the chain is in use.
#[inline(never)]
fn begin_first(cell: CellId) -> (&'static Slot, Option<NonNull<()>>) {
    let head = chain();
    if head.is_null() {
        return (head, None);
    }
    // The quiescence callback has begun a call that has not ended.
    begin_deeper_inside(head, cell)
}

/// [`begin`] inside another call, when the head of the chain does not name a value of `cell`.
#[inline(never)]
fn begin_inside(head: &'static Slot, cell: CellId) -> (&'static Slot, Option<NonNull<()>>) {
    // Only the head is in use: the thread is inside one call.
    if head.inner_in_use.get() == 0
        && let Some(slot) = head.existing_inner()
    {
        head.inner_begins();
        return (slot, None);
    }
    begin_deeper_inside(head, cell)
}

#[inline(never)]
fn begin_deeper_inside(head: &'static Slot, cell: CellId) -> (&'static Slot, Option<NonNull<()>>) {
    if let Some(value) = head.named_value_of(cell) {
        head.nest(value);
        return (head, Some(value));
    }
    let mut slot = head;
    for _ in 0..head.inner_in_use.get() {
        slot = next_in_use(slot);
        if let Some(value) = slot.named_value_of(cell) {
            slot.nest(value);
            return (slot, Some(value));
        }
    }
    (occupy_idle(head), None)
}

/// Begins a call of this thread that enters through a slot of its own, whatever calls the thread is inside.
pub(crate) fn begin_on_current() -> &'static Slot {
    occupy_idle(chain())
}

/// Finds an idle slot of the chain, and counts it as in use. Extends the chain if there is none.
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

/// The first slot in use after this one in its chain. The caller knows that there is one.
fn next_in_use(slot: &Slot) -> &'static Slot {
    let mut slot = inner_of(slot);
    while slot.is_idle() {
        slot = inner_of(slot);
    }
    slot
}

/// The slot after this one in its chain, which is extended if necessary.
fn inner_of(slot: &Slot) -> &'static Slot {
    slot.existing_inner().unwrap_or_else(|| {
        let new = registry::take(slot.is_exiting());
        slot.inner.set(new);
        new
    })
}

/// Ends a call of this thread that uses `slot`: a nested call, or the entering one.
#[inline]
pub(crate) fn end(slot: &Slot, is_nested: bool) {
    if !is_nested {
        end_entered(slot);
    } else if slot.end_nested() {
        last_nested_call_ended(slot);
    }
}

#[cold]
fn last_nested_call_ended(slot: &Slot) {
    last_call_ended(slot);
}

#[inline(never)]
fn end_entered(slot: &Slot) {
    slot.leave();
    if slot.is_idle() {
        last_call_ended(slot);
    }
}

/// The last call that used `slot` has ended.
#[inline]
fn last_call_ended(slot: &Slot) {
    let head = head().expect("a thread keeps its chain while it is inside of something");
    if !ptr::eq(slot, head) {
        head.inner_ends();
    }
    if head.is_idle() {
        head.set_word(head.idle_word());
        give_back_if_exiting(head);
    }
}

/// The head of this thread's chain, which is created if necessary. First runs a requested quiescence callback.
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
fn give_back_if_exiting(head: &Slot) {
    if head.is_null() && head.is_exiting() {
        give_back(head);
    }
}

/// Gives this thread's chain back. No slot of it is in use.
#[cold]
fn give_back(head: &Slot) {
    // Only the model checker ever destroys `HEAD`, and it makes no calls after that.
    let _ = HEAD.try_with(|head| head.set(ptr::null()));
    slots_of(head).for_each(Slot::give_back);
}

/// The slots of a chain. The iterator reads a slot's successor before it returns the slot, so the caller may give the
/// slot back.
fn slots_of(head: &Slot) -> impl Iterator<Item = &Slot> {
    let mut next = ptr::from_ref(head);
    std::iter::from_fn(move || {
        // SAFETY: slots are never freed.
        let slot = unsafe { next.as_ref() }?;
        next = slot.inner.get();
        Some(slot)
    })
}

/// Gives this thread's chain back when the thread ends. Holds the head of the chain.
struct GiveBack(Cell<*const Slot>);

impl Drop for GiveBack {
    fn drop(&mut self) {
        // SAFETY: slots are never freed.
        if let Some(head) = unsafe { self.0.get().as_ref() } {
            // The chain may be in use: the program called `exit` inside a call, or a coroutine is suspended in one.
            // Then its slots stay taken and keep their words until the last call in the chain ends, which gives the
            // chain back. (An inline call does not give it back; the next call then does, or the chain stays taken.)
            slots_of(head).for_each(Slot::mark_exiting);
            give_back_if_exiting(head);
        }
        // Pairs with the fence in `registry::is_registered`, which argues both cases.
        fence(Ordering::SeqCst);
    }
}

per_thread! {
    static HEAD: Cell<*const Slot> = Cell::new(ptr::null());
    static GIVE_BACK: GiveBack = GiveBack(Cell::new(ptr::null()));
}

/// Frees the slots of the threads that a forked child does not have, and corrects the number of the calling thread.
/// The child must call this first. It calls nothing but the system, as a child of a multi-threaded process must
/// (`fork(2)`).
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
