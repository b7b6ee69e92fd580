//! The cell: publish, read, lease, retire, drain.
//!
//! # How it works
//!
//! Every thread that reads owns a [`Slot`], which anybody may look at. To enter, a thread
//!
//! 1. announces itself: the slot holds *entering*,
//! 2. passes the light half of a [`Barrier`](crate::barrier::Barrier),
//! 3. loads the cell's current value,
//! 4. names it: the slot holds the value,
//!
//! and when the call ends it clears the slot. Readers share nothing that is written, and nothing is retried:
//! a reader never waits and never loops. (With hazard pointers, step 3 is repeated until it agrees with
//! step 4, which a storm of swaps can make go on for ever.)
//!
//! Whoever retires a value first replaces it, then passes the heavy half of the barrier, then looks at
//! all slots. For each reader there are two cases:
//!
//! - If the reader's announcement comes before our barrier, we see it, or the value's name, or something
//!   later. An announcement may turn out to be for the old value, so it counts as holding it.
//! - If our barrier comes before the reader's announcement, the reader's load in step 3 comes after our
//!   replacement: it gets the new value, and to have seen its slot idle was right.
//!
//! So one heavy barrier per retired value is enough; afterwards the slots are polled. Naming and clearing
//! are `Release` writes, so that whoever sees one knows that everything the reader did with the value
//! before it has happened.
//!
//! # Several calls of one thread
//!
//! A thread may be inside of several calls at once: because a call makes a call, or because it runs several
//! coroutines that have a stack each. The first kind ends last in, first out, and the second kind in any order.
//! Nothing tells the two kinds apart, so all calls of one thread on one cell that overlap use the value of the
//! first, and rely on one slot: the call that has entered through it, and others that are counted in the slot as
//! nested. While there are nested calls, the slot's `after_exit`, which is what the end of the call that entered
//! writes, is the value with a mark. There are two cases:
//!
//! - If the call that entered ends first, the slot holds the value with the mark, which still names it. The last
//!   nested call to end finds the mark, and clears the slot.
//! - If the last nested call ends first, it finds no mark: it leaves the slot as it is and puts back `after_exit`.
//!   The end of the call that entered clears the slot.
//!
//! Either way the slot names the value without a gap from the beginning of the first call to the end of the last.
//! All of them run on the thread that clears the slot, so whoever sees it cleared knows that all have ended. That
//! a call ends on the thread on which it began is relied on; only unsafe code can move a suspended call to another
//! thread.
//!
//! Calls on another cell rely on another slot of the thread's chain. Slots do not depend on each other, but for one
//! thing: an inline call looks at the first slot of the chain only, so that one says whether others are in use.
//!
//! A call may never end, because its coroutine is leaked. Its slot then names its value for ever, and the value is
//! never freed; other values, and calls of other threads, are not concerned. The cell itself may be moved or dropped
//! meanwhile, and another cell may take its place, so a nested call knows its cell by a number and not by its
//! address.
//!
//! # Invariants
//!
//! - `Cell::current` is null or a pointer from `Arc::into_raw`, and that one count is the cell's. The value has the
//!   number of the cell.
//! - A slot names a value from when a call enters through it until the last call that relies on it has ended.
//! - What a slot names is not freed. The last count of a value is the cell's or that of a [`Retired`], and both look
//!   at the slots before they let go of it.
//! - A [`Retired`] value is in no cell, so that its holders only become fewer, but for leases that its owner takes,
//!   and for nested calls, which begin only while another call on the value has not ended. To put it back takes it.

use std::{marker::PhantomData, mem::ManuallyDrop, ops::Deref, ptr};

use crate::{
    calls::{Calls, Holders},
    chain, registry,
    slot::{CellId, Slot},
    sync::{Arc, AtomicPtr, Ordering},
};

/// A value that can be replaced while it is read.
///
/// Dropping it drops the value, unless a lease holds it, which then does.
pub struct Cell<T> {
    current: AtomicPtr<Numbered<T>>,
    id: CellId,
    owns: PhantomData<Arc<T>>,
}

/// A value and the number of its cell, by which a nested call recognises it. The number comes first, so that it can
/// be read without knowing the type of the value. The alignment keeps the count of an [`Arc`], which every lease
/// changes, off the cache lines that calls read: two of them, for processors fetch lines in pairs.
#[repr(C, align(128))]
struct Numbered<T> {
    cell: CellId,
    value: T,
}

const _: () = assert!(align_of::<Numbered<()>>() == 128);

/// The right to use one value for as long as one likes, on any thread. Costs a counter.
pub struct Lease<T>(Arc<Numbered<T>>);

/// A value that new readers cannot reach any more, and old ones may still use.
///
/// Dropping it leaks the value: it can then never be known to be unused.
#[must_use = "a retired value that is dropped is leaked"]
pub struct Retired<T> {
    value: ManuallyDrop<Arc<Numbered<T>>>,
    /// Whether a heavy barrier has passed since the value left its cell.
    fenced: bool,
}

impl<T: Send + Sync> Cell<T> {
    /// A cell with this value.
    pub fn new(value: T) -> Self {
        let id = CellId::new();
        Self {
            current: AtomicPtr::new(id.number(value)),
            id,
            owns: PhantomData,
        }
    }

    /// Calls `f` with the current value or, if this thread is inside of a call on this cell already, with the value
    /// of that call. Waits for nobody.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        match chain::ready_head() {
            Some(head) => f(&self.begin_at_head(head)),
            None => self.with_outlined(f),
        }
    }

    /// The calls that are not made inline: a call inside of a call, the first call of a thread, one while a thread
    /// ends, and one that has to run the quiescence callback first.
    #[cold]
    fn with_outlined<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        f(&self.begin())
    }

    /// Leases the current value, also inside a `with` that is on an older one.
    pub fn lease(&self) -> Lease<T> {
        match chain::ready_head() {
            Some(head) => {
                let call = self.begin_at_head(head);
                // SAFETY: the call has not ended.
                unsafe { lease_during_call(call.value) }
            }
            None => {
                let call = self.begin_apart();
                // SAFETY: the call has not ended.
                unsafe { lease_during_call(call.value) }
            }
        }
    }

    /// Replaces the value. New readers reach the new one from here on; nobody is waited for.
    pub fn publish(&self, value: T) -> Retired<T> {
        self.replace(self.id.number(value))
    }

    /// Puts a value back that was replaced, whether or not it is still in use from then, and takes out the one
    /// that has replaced it.
    ///
    /// Nothing of the retirement carries over: when the value is retired again, that begins with a heavy
    /// barrier of its own. Readers from before are readers like any other.
    pub fn restore(&self, retired: Retired<T>) -> Retired<T> {
        assert_eq!(retired.value.cell, self.id, "a value is for one cell");
        let value = ManuallyDrop::into_inner(retired.value);
        self.replace(Arc::into_raw(value).cast_mut())
    }

    /// Takes the value out for good; the cell must not be read any more. The exclusive borrow says that
    /// no `with` is under way, so that only leases, and calls that were forgotten, can hold the value.
    pub fn close(&mut self) -> Retired<T> {
        self.replace(ptr::null_mut())
    }

    fn replace(&self, new: *mut Numbered<T>) -> Retired<T> {
        // Release: pairs with the Acquire in `enter`, for what `new` points to. Acquire: pairs with the
        // Release of the `replace` that put the old value here; it is about to be ours.
        let old = self.current.swap(new, Ordering::AcqRel);
        assert!(!old.is_null(), "a closed cell has no value");
        // SAFETY: `old` is from `Arc::into_raw`, and taking it out of the cell makes its count ours.
        let value = unsafe { Arc::from_raw(old) };
        Retired {
            value: ManuallyDrop::new(value),
            fenced: false,
        }
    }

    /// A call through the head of this thread's chain, which is [ready](chain::ready_head).
    #[inline]
    fn begin_at_head<'a>(&'a self, head: &'a Slot) -> HeadCall<'a, T> {
        HeadCall {
            value: self.enter(head),
            slot: head,
            cell: PhantomData,
        }
    }

    /// A call on the value of a call on this cell that this thread is inside of, or on the current value if there is
    /// none.
    #[inline]
    fn begin(&self) -> Call<'_, T> {
        let (slot, named) = chain::begin(self.id);
        Call {
            value: match named {
                // It has this cell's number, so it is from this cell's `current`, and points to a `Numbered<T>`.
                Some(value) => value.as_ptr().cast(),
                None => self.enter(slot),
            },
            slot,
            is_nested: named.is_some(),
            cell: PhantomData,
        }
    }

    /// A call on the current value, whatever this thread is inside of.
    fn begin_apart(&self) -> Call<'_, T> {
        let slot = chain::begin_apart();
        Call {
            value: self.enter(slot),
            slot,
            is_nested: false,
            cell: PhantomData,
        }
    }

    /// Names the current value in an idle slot of this thread.
    #[inline]
    fn enter(&self, slot: &Slot) -> *const Numbered<T> {
        slot.announce();
        // Acquire: pairs with the Release in `replace`.
        let value = self.current.load(Ordering::Acquire).cast_const();
        slot.name(value.cast());
        value
    }
}

/// # Safety
///
/// A call on `value`, which is from [`Cell::current`], has not ended.
unsafe fn lease_during_call<T>(value: *const Numbered<T>) -> Lease<T> {
    // SAFETY: the pointer is from `Arc::into_raw` (invariant of `current`), and the value is not drained while the
    // call lasts.
    unsafe { Arc::increment_strong_count(value) };
    // SAFETY: the pointer is from `Arc::into_raw`, and the count is the one just added.
    Lease(unsafe { Arc::from_raw(value) })
}

impl CellId {
    /// A value for the cell with this number, which owns it from here on.
    fn number<T>(self, value: T) -> *mut Numbered<T> {
        Arc::into_raw(Arc::new(Numbered { cell: self, value })).cast_mut()
    }
}

impl<T> Drop for Cell<T> {
    fn drop(&mut self) {
        let current = self.current.swap(ptr::null_mut(), Ordering::AcqRel);
        // A call that is under way borrows the cell, but one that was forgotten does not, and what a slot names is not
        // freed. The slot has named it since before the cell became ours alone, so this look at the slots sees it.
        let is_named = || registry::all().any(|slot| slot.names(current.cast_const().cast()));
        if !current.is_null() && !is_named() {
            // SAFETY: the pointer is from `Arc::into_raw` and the count is the cell's, which is gone after this.
            drop(unsafe { Arc::from_raw(current) });
        }
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        chain::run_quiescence_callback();
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Clone for Lease<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Retired<T> {
    /// Looks once, and gives the value back if nobody can use it any more.
    ///
    /// Costs a heavy barrier the first time, and a look at every slot each time.
    pub fn try_drain(mut self) -> Result<T, Self> {
        if !self.fence() || registry::all().any(|slot| slot.may_hold(self.address())) {
            return Err(self);
        }
        // Slots first, leases second: a reader that takes a lease counts it before it clears its slot,
        // so that whoever saw the slot idle sees the lease. `try_unwrap` takes the last count with an
        // Acquire that pairs with the Release of every lease's drop.
        let Self { value, fenced } = self;
        match Arc::try_unwrap(ManuallyDrop::into_inner(value)) {
            Ok(numbered) => Ok(numbered.value),
            Err(value) => Err(Self {
                value: ManuallyDrop::new(value),
                fenced,
            }),
        }
    }

    /// The value, which others may be using too.
    pub fn peek(&self) -> &T {
        &self.value.value
    }

    /// Leases it, while it is not decided whether it will be put back.
    pub fn lease(&self) -> Lease<T> {
        Lease(Arc::clone(&self.value))
    }

    /// Who held it when the slots were looked at, and who has leases now; readers that were just entering are among
    /// them.
    pub fn holders(&self, calls: &Calls) -> Holders {
        calls.holders(self.address(), self.leases())
    }

    /// Whether [`try_drain`](Self::try_drain) would only find that it is in use, as it was when the slots were looked
    /// at.
    pub fn was_in_use(&self, calls: &Calls) -> bool {
        self.leases() > 0 || calls.names(self.address())
    }

    fn leases(&self) -> usize {
        Arc::strong_count(&self.value) - 1
    }

    fn fence(&mut self) -> bool {
        self.fenced = self.fenced || registry::barrier().heavy();
        self.fenced
    }

    fn address(&self) -> *const () {
        ptr::from_ref::<Numbered<T>>(&self.value).cast()
    }
}

/// A call that entered through the head of its thread's chain, when nothing of the chain was in use. It ends when this
/// is dropped, also by a panic. Its end is one write, whatever has begun since. Not `Send`, because of the pointer.
struct HeadCall<'a, T> {
    value: *const Numbered<T>,
    slot: &'a Slot,
    cell: PhantomData<&'a Cell<T>>,
}

impl<T> Deref for HeadCall<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot has named the value since this was made, and nothing but dropping this makes it cease to,
        // so the value is not freed before.
        let numbered = unsafe { &*self.value };
        &numbered.value
    }
}

impl<T> Drop for HeadCall<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.slot.leave();
    }
}

/// Any other call. It ends when this is dropped, also by a panic. Not `Send`, because of the pointer.
struct Call<'a, T> {
    value: *const Numbered<T>,
    slot: &'static Slot,
    /// Whether it relies on a slot that another call has entered through.
    is_nested: bool,
    cell: PhantomData<&'a Cell<T>>,
}

impl<T> Deref for Call<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot names the value at least until this is dropped, so the value is not freed before: if this
        // call has entered, only its own end can clear the slot, and otherwise it is counted in `nested`, which keeps
        // the slot from being cleared.
        let numbered = unsafe { &*self.value };
        &numbered.value
    }
}

impl<T> Drop for Call<'_, T> {
    #[inline]
    fn drop(&mut self) {
        chain::end(self.slot, self.is_nested);
    }
}

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
