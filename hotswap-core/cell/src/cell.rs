//! The cell: publish, read, lease, retire, drain.
//!
//! # How it works
//!
//! Every thread that reads owns a [`Slot`], which every other thread may look at. To enter, a thread
//!
//! 1. loads the cell's current value,
//! 2. names it: the slot holds the value,
//! 3. passes the light half of a [`Barrier`],
//! 4. loads the current value again. If it is still the named one, the call begins.
//!
//! Otherwise a swap has come in between, and the named value may be gone. The thread, which has not used it, then
//!
//! 5. announces itself: the slot holds *entering*,
//! 6. passes the light half of the barrier again,
//! 7. loads the current value, names it, and begins the call.
//!
//! When the call ends, the thread clears the slot. Readers write nothing that another reader writes. A reader never
//! waits and never loops: steps 5 to 7 end whatever swaps there are meanwhile. (Hazard pointers have steps 1 to 4
//! alone, and repeat them; a storm of swaps can make that go on for ever. Steps 5 to 7 alone would do, and cost one
//! write more.)
//!
//! A thread that retires a value first replaces it, then passes the heavy half of the barrier, then looks at all slots.
//! Whichever of its two light halves a reader has passed last, it wrote its slot before that: the name in step 2, or
//! the announcement in step 5. There are two cases:
//!
//! - If that write comes before our barrier, we see it, or something later. A name counts as holding the value that it
//!   names. An announcement counts as holding ours, because the reader may be about to name it.
//! - If our barrier comes before that write, the reader's load in step 4 or 7 comes after our replacement. In step 7
//!   the reader gets the new value. In step 4 it gets the new value, too, and therefore does not use the one that it
//!   has named, if that was ours. Either way it was right to treat its slot as idle.
//!
//! The second load of step 4 may find the named value although there was a swap: the value was put back
//! ([`Cell::restore`]), or another one has its address. Both are in the cell at that moment. Whoever retires such a
//! value later replaces it after that load, and passes a barrier of its own: the first case.
//!
//! One heavy barrier per retired value is therefore enough; after it, the slots are polled. Naming and clearing are
//! `Release` writes: a thread that sees one knows that everything the reader did with the previous value has
//! happened.
//!
//! # Processors that reorder more than x86-64
//!
//! On AArch64, other threads may see two stores of one thread in either order, a load may come before an earlier one,
//! and a store before an earlier load. Nothing here relies on the opposite:
//!
//! - What a value points to is written before the `Release` that publishes it (`replace`), and read after the
//!   `Acquire` of step 4 or 7.
//! - All that a call does with a value comes before the `Release` that clears the slot or names the next value. A
//!   thread that retires a value concludes that a reader has left it only from an `Acquire` that has read such a word,
//!   or from a slot that was idle all along.
//! - That a thread that scans sees the name before the reader loads in step 4, and the announcement before it loads in
//!   step 7, follows from no `Release` and no `Acquire`, on x86-64 as little as elsewhere. The barrier gives it.
//!
//! Loom explores these orderings by the memory model of the language, which is as weak. `scripts/loom weakened` makes
//! them weaker one by one, and the model fails for each. It does not fail where a fence of the full barrier has the
//! same effect: for the `Acquire` in [`Slot::names`], and the `Acquire` half of `replace`.
//!
//! # Several calls of one thread
//!
//! A thread may be inside several calls at once: because a call makes another call, or because the thread runs
//! several coroutines, each with its own stack. Nested calls end last in, first out; calls of coroutines end in any
//! order. Nothing tells the two apart. So all overlapping calls of one thread on one cell use the value of the first
//! one and share one slot: one call entered through the slot, and the slot counts the others as nested. `after_exit`
//! is the word that the entering call writes to the slot when it ends. While there are nested calls, `after_exit` is
//! the value with a mark. There are two cases:
//!
//! - If the entering call ends first, the slot then holds the value with the mark, which still names the value. The
//!   last nested call finds the mark and clears the slot.
//! - If the last nested call ends first, it finds no mark. It leaves the slot as it is and resets `after_exit`. The
//!   entering call clears the slot when it ends.
//!
//! Either way the slot names the value without a gap from the beginning of the first call to the end of the last. All
//! these calls run on the thread that clears the slot, so a thread that sees the slot cleared knows that all of them
//! have ended. This relies on each call ending on the thread on which it began; only unsafe code can move a suspended
//! call to another thread.
//!
//! A call on another cell uses another slot of the thread's chain. Slots are independent with one exception: an
//! inline call looks only at the first slot of the chain, so the first slot also records whether others are in use.
//!
//! A call never ends if its coroutine is leaked. Its slot then names its value for ever, and the value is never
//! freed. Other values and the calls of other threads are not affected. The cell may meanwhile be moved or dropped,
//! and another cell may take its address, so a nested call recognises its cell by an id and not by its address.
//!
//! # Invariants
//!
//! - `Cell::current` is null or a pointer from `Arc::into_raw` whose one count belongs to the cell. The value carries
//!   the id of that cell.
//! - A slot names a value from the moment a call enters through it until the last call that uses the slot has ended.
//! - A value is not freed while a slot names it, except between steps 2 and 5, in which the value is not used. The last
//!   count of a value belongs to the cell or to a [`Retired`], and both look at the slots before they give up that
//!   count.
//! - A [`Retired`] value is in no cell, so no new call can reach it. Its holders only become fewer, except for leases
//!   that its owner takes or that a handle of it gives ([`SelfLease::lease`] says why that is no race), and for nested
//!   calls, which begin only while another call on the value has not ended. [`Cell::restore`] consumes the `Retired`.

use std::{marker::PhantomData, mem::ManuallyDrop, ops::Deref, ptr};

use crate::{
    barrier::Barrier,
    calls::{Calls, Holders, ValueId},
    chain, registry,
    slot::{CellId, Slot},
    sync::{Arc, AtomicPtr, Ordering},
};

/// A value that threads can read while another thread replaces it.
///
/// Dropping the cell drops the value, unless a lease holds it; then dropping the last lease drops it. A value that a
/// forgotten call holds is leaked. So is a value at the address of an earlier one of another cell, if the cell is
/// dropped in the few instructions in which a thread that begins a call there still names that one.
pub struct Cell<T> {
    current: AtomicPtr<Tagged<T>>,
    id: CellId,
    owns: PhantomData<Arc<T>>,
}

/// A value and the id of its cell, by which a nested call recognises the cell. The id is the first field, so that it
/// can be read without knowing the type of the value. Every lease changes the count of the [`Arc`]; the alignment
/// keeps that count off the cache lines that calls read. It is two cache lines, because processors fetch lines in
/// pairs.
#[repr(C, align(128))]
struct Tagged<T> {
    cell: CellId,
    value: T,
}

const _: () = assert!(align_of::<Tagged<()>>() == 128);

/// The right to use one value for as long as one likes, on any thread. Taking and dropping one changes a shared
/// counter.
pub struct Lease<T>(Arc<Tagged<T>>);

/// The handle of a value with which it can lease itself, or be leased while it is in no cell. It does not keep the
/// value.
#[cfg(not(loom))]
#[derive(Clone)]
pub struct SelfLease<T>(std::sync::Weak<Tagged<T>>);

/// A value that is not in its cell: it was replaced, or is yet to be put in ([`Cell::stage`]). New readers cannot reach
/// it, and earlier readers may still use it.
///
/// Dropping a `Retired` leaks the value, because nobody can then find out that it is unused.
#[must_use = "a retired value that is dropped is leaked"]
pub struct Retired<T> {
    value: ManuallyDrop<Arc<Tagged<T>>>,
    /// Whether a heavy barrier has passed since the value left its cell.
    fenced: bool,
}

impl<T: Send + Sync> Cell<T> {
    /// Creates a cell that holds `value`.
    pub fn new(value: T) -> Self {
        let id = CellId::new();
        let value = Arc::into_raw(Arc::new(id.tag(value))).cast_mut();
        // For `Slot::named_value_of`.
        value.expose_provenance();
        Self {
            current: AtomicPtr::new(value),
            id,
            owns: PhantomData,
        }
    }

    /// Calls `f` with the current value. If this thread is already inside a call on this cell, `f` gets the value of
    /// that call. Waits for nobody. Not for signal handlers.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        match chain::ready_head() {
            Some(head) => f(&self.begin_at_head(head)),
            None => self.with_slow_path(f),
        }
    }

    /// Handles the calls that are not inline: a call inside another call, the first call of a thread, a call while
    /// the thread ends, a call that must run the quiescence callback first, and all calls of a process whose barrier is
    /// not that of inline calls.
    #[cold]
    fn with_slow_path<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        f(&self.begin())
    }

    /// Leases the current value, even inside a [`with`](Self::with) that uses an older one. Waits for nobody.
    pub fn lease(&self) -> Lease<T> {
        self.lease_at_head_or(Self::begin_on_current)
    }

    /// Leases the value that a [`with`](Self::with) at this place would read: that of the call that this thread is
    /// inside of, or else the current one. Waits for nobody.
    pub fn lease_of_call(&self) -> Lease<T> {
        self.lease_at_head_or(Self::begin)
    }

    /// Leases the value of a call that begins now: an inline call if this thread is inside of none, or else `begin`.
    #[inline]
    fn lease_at_head_or<'a>(&'a self, begin: impl FnOnce(&'a Self) -> Call<'a, T>) -> Lease<T> {
        match chain::ready_head() {
            Some(head) => {
                let call = self.begin_at_head(head);
                // SAFETY: `call` is a call on `call.value`, and lives until after this block.
                unsafe { lease_during_call(call.value) }
            }
            None => {
                let call = begin(self);
                // SAFETY: `call` is a call on `call.value`, and lives until after this block.
                unsafe { lease_during_call(call.value) }
            }
        }
    }

    /// Replaces the value, and returns the previous one. New readers get the new value from here on. Waits for
    /// nobody.
    ///
    /// Costs an allocation and an atomic exchange.
    pub fn publish(&self, value: T) -> Retired<T> {
        self.restore(self.stage(value))
    }

    /// Makes a value that this cell can hold and does not hold yet. Until [`restore`](Self::restore) puts it in, it is
    /// reached by leases alone ([`Retired::lease`]). Waits for nobody.
    pub fn stage(&self, value: T) -> Retired<T> {
        Retired {
            value: ManuallyDrop::new(Arc::new(self.id.tag(value))),
            fenced: false,
        }
    }

    /// Puts in a value that was [staged](Self::stage), or puts a replaced value back, whether or not it is still in
    /// use, and returns the value that was in its place. Waits for nobody.
    ///
    /// Nothing of an earlier retirement carries over: when the value is retired again, that begins with a heavy
    /// barrier of its own. Readers from before the first retirement count like all others.
    ///
    /// # Panics
    ///
    /// If `retired` comes from another cell.
    pub fn restore(&self, retired: Retired<T>) -> Retired<T> {
        assert_eq!(retired.value.cell, self.id, "a value belongs to one cell");
        let value = ManuallyDrop::into_inner(retired.value);
        self.replace(Arc::into_raw(value).cast_mut())
    }

    /// Which value the cell holds, for [`mark_calls`](crate::mark_calls).
    pub fn value_id(&self) -> ValueId {
        // Relaxed: the address alone is read.
        ValueId::new(self.current.load(Ordering::Relaxed).cast_const().cast())
    }

    /// Takes the value out for good. The exclusive borrow shows that no `with` is under way, so only leases and
    /// forgotten calls can still hold the value.
    ///
    /// # Safety
    ///
    /// Afterwards the cell is only dropped. [`with`](Self::with) and [`lease`](Self::lease) would find no value, and do
    /// not check for that, because a check would cost every call.
    pub unsafe fn close(&mut self) -> Retired<T> {
        self.replace(ptr::null_mut())
    }

    fn replace(&self, new: *mut Tagged<T>) -> Retired<T> {
        // For `Slot::named_value_of`.
        new.expose_provenance();
        // Release: pairs with the Acquires in `enter` and `enter_announced`, for what `new` points to. Acquire: pairs
        // with the Release of the `replace` that put the old value here; the old value is about to be ours.
        let old = self.current.swap(new, Ordering::AcqRel);
        assert!(!old.is_null(), "a closed cell has no value");
        // SAFETY: `old` is from `Arc::into_raw` (invariant of `current`), and the swap took the cell's count out with
        // it, so the count is now ours.
        let value = unsafe { Arc::from_raw(old) };
        Retired {
            value: ManuallyDrop::new(value),
            fenced: false,
        }
    }

    /// Begins a call through the head of this thread's chain. The head must be [ready](chain::ready_head).
    #[inline]
    fn begin_at_head<'a>(&'a self, head: &'a Slot) -> HeadCall<'a, T> {
        HeadCall {
            value: self.enter(head, Barrier::INLINE),
            slot: head,
            cell: PhantomData,
        }
    }

    /// Begins a call. If this thread is inside a call on this cell, the new call uses the value of that call;
    /// otherwise it uses the current value.
    #[inline]
    fn begin(&self) -> Call<'_, T> {
        let (slot, named) = chain::begin(self.id);
        Call {
            value: match named {
                // The value carries this cell's id, so it came from this cell's `current` and is a `Tagged<T>`.
                Some(value) => value.as_ptr().cast(),
                None => self.enter(slot, slot.barrier),
            },
            slot,
            is_nested: named.is_some(),
            cell: PhantomData,
        }
    }

    /// Begins a call on the current value, even if this thread is inside another call on this cell.
    fn begin_on_current(&self) -> Call<'_, T> {
        let slot = chain::begin_on_current();
        Call {
            value: self.enter(slot, slot.barrier),
            slot,
            is_nested: false,
            cell: PhantomData,
        }
    }

    /// Makes an idle slot of this thread name the current value. `barrier` is the process's kind.
    #[inline]
    fn enter(&self, slot: &Slot, barrier: Barrier) -> *const Tagged<T> {
        // Relaxed: this only selects the value. If it is the current one, the second load finds it, too.
        let value = self.current.load(Ordering::Relaxed).cast_const();
        slot.name(value.cast());
        barrier.light();
        // Acquire: pairs with the Release in `replace`.
        let current = self.current.load(Ordering::Acquire).cast_const();
        if ptr::eq(current, value) {
            current
        } else {
            self.enter_announced(slot, barrier)
        }
    }

    /// [`enter`](Self::enter) when a swap has come in between.
    #[cold]
    fn enter_announced(&self, slot: &Slot, barrier: Barrier) -> *const Tagged<T> {
        slot.announce();
        barrier.light();
        // Acquire: pairs with the Release in `replace`.
        let value = self.current.load(Ordering::Acquire).cast_const();
        slot.name(value.cast());
        value
    }
}

/// # Safety
///
/// `value` is from [`Cell::current`], and a call on it has not ended.
unsafe fn lease_during_call<T>(value: *const Tagged<T>) -> Lease<T> {
    // SAFETY: the pointer is from `Arc::into_raw` (invariant of `current`), and the value is not freed while the
    // caller's call names it in a slot.
    unsafe { Arc::increment_strong_count(value) };
    // SAFETY: the pointer is from `Arc::into_raw`, and the count that this takes is the one just added.
    Lease(unsafe { Arc::from_raw(value) })
}

impl CellId {
    fn tag<T>(self, value: T) -> Tagged<T> {
        Tagged { cell: self, value }
    }
}

impl<T> Drop for Cell<T> {
    fn drop(&mut self) {
        let current = self.current.swap(ptr::null_mut(), Ordering::AcqRel);
        // A running call borrows the cell, but a forgotten call does not, and a value that a slot names must not be
        // freed. The forgotten call named the value before the cell became exclusively ours, so this scan sees it. (A
        // thread that enters another cell may name a value that is gone, and this one may have its address: then this
        // one is leaked, too.)
        let is_named = || registry::all().any(|slot| slot.names(current.cast_const().cast()));
        if !current.is_null() && !is_named() {
            // SAFETY: the pointer is from `Arc::into_raw` and carries the cell's count, which nobody else takes:
            // `current` is now null.
            drop(unsafe { Arc::from_raw(current) });
        }
    }
}

#[cfg(not(loom))]
impl<T> Lease<T> {
    /// The handle of the leased value.
    pub fn self_lease(&self) -> SelfLease<T> {
        SelfLease(Arc::downgrade(&self.0))
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        // A thread that has only leases gets its slot here, before the value can be drained: whoever requests callbacks
        // then asks it, too.
        chain::pass_quiescent_point();
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

#[cfg(not(loom))]
impl<T> SelfLease<T> {
    /// Which value it is.
    pub fn value_id(&self) -> ValueId {
        ValueId::new(self.0.as_ptr().cast())
    }

    /// Leases the value. `None`: it was drained, which cannot be while a call or another lease uses it.
    ///
    /// [`Retired::try_drain`] takes the last count in one step, after it has seen no call. If that comes first, this
    /// finds no count; if this comes first, that finds a lease.
    pub fn lease(&self) -> Option<Lease<T>> {
        self.0.upgrade().map(Lease)
    }
}

impl<T> Retired<T> {
    /// Looks once, and returns the value if nobody can use it any more. Never waits; the caller asks again.
    ///
    /// The first look costs a heavy barrier. Every look reads all slots.
    ///
    /// # Errors
    ///
    /// Returns the `Retired` if a reader may still use the value, or if the system refuses the barrier.
    pub fn try_drain(mut self) -> Result<T, Self> {
        if !self.fence() || registry::all().any(|slot| slot.may_hold(self.address())) {
            return Err(self);
        }
        // Slots first, leases second: a reader that takes a lease counts it before it clears its slot, so a thread
        // that saw the slot idle also sees the lease. `try_unwrap` takes the last count with an Acquire, which pairs
        // with the Release of every lease's drop.
        let Self { value, fenced } = self;
        match Arc::try_unwrap(ManuallyDrop::into_inner(value)) {
            Ok(tagged) => Ok(tagged.value),
            Err(value) => Err(Self {
                value: ManuallyDrop::new(value),
                fenced,
            }),
        }
    }

    /// Borrows the value, which readers may be using too.
    pub fn peek(&self) -> &T {
        &self.value.value
    }

    /// Leases the value, for a caller that may still put it in with [`Cell::restore`].
    pub fn lease(&self) -> Lease<T> {
        Lease(Arc::clone(&self.value))
    }

    /// The handle of the value.
    #[cfg(not(loom))]
    pub fn self_lease(&self) -> SelfLease<T> {
        SelfLease(Arc::downgrade(&self.value))
    }

    /// Lists the readers of the value: the calls of the snapshot `calls`, and the leases that exist now. If there are
    /// none, lists the readers that were just entering any cell.
    pub fn holders(&self, calls: &Calls) -> Holders {
        calls.holders(self.address(), self.leases())
    }

    /// Returns whether the value had a lease now or a call at the time of the snapshot; then
    /// [`try_drain`](Self::try_drain) is not worth its cost yet.
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
        ptr::from_ref::<Tagged<T>>(&self.value).cast()
    }
}

/// A call that entered through the head of its thread's chain while no slot of the chain was in use. Dropping it ends
/// the call, also during a panic. Ending it is one write, whatever has begun since. It is not `Send`, because it
/// holds a raw pointer.
struct HeadCall<'a, T> {
    value: *const Tagged<T>,
    slot: &'a Slot,
    cell: PhantomData<&'a Cell<T>>,
}

impl<T> Deref for HeadCall<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot has named the value since this call was created, and ceases to name it only when this call
        // is dropped. A named value is not freed.
        let tagged = unsafe { &*self.value };
        &tagged.value
    }
}

impl<T> Drop for HeadCall<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.slot.leave();
    }
}

/// A call that is not inline. Dropping it ends the call, also during a panic. It is not `Send`, because it holds a
/// raw pointer.
struct Call<'a, T> {
    value: *const Tagged<T>,
    slot: &'static Slot,
    /// Whether another call entered through the slot.
    is_nested: bool,
    cell: PhantomData<&'a Cell<T>>,
}

impl<T> Deref for Call<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot names the value at least until this call is dropped, and a named value is not freed. If
        // this call entered, only its own end can clear the slot. Otherwise the slot counts this call in `nested`,
        // which keeps the slot from being cleared.
        let tagged = unsafe { &*self.value };
        &tagged.value
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
