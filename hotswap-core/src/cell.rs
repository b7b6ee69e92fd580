//! The swap point itself: publish, read, lease, retire, drain.
//!
//! It knows threads and memory; it knows no files and no plugins. What orders reclamation is here and in
//! [`slots`], and nowhere else.
//!
//! # How it works
//!
//! Every thread that reads owns a [`Slot`], which anybody may look at. To enter, a thread
//!
//! 1. announces itself: the slot holds *entering*,
//! 2. passes the light half of a [`Barrier`](crate::sync::Barrier),
//! 3. loads the cell's current value,
//! 4. names it: the slot holds the value,
//!
//! and on its way out it clears the slot. Readers share nothing that is written, and nothing is retried:
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
//! # Invariants
//!
//! - `Cell::current` is a pointer from `Arc::into_raw`, and that one count is the cell's.
//! - A slot names a value only between an entry and its exit.
//! - A [`Retired`] value is in no cell, so that its holders only become fewer, but for leases that its owner takes.
//!   To put it back takes it.

mod slots;

use std::{marker::PhantomData, mem::ManuallyDrop, ops::Deref, ptr};

use self::slots::Slot;
pub(crate) use self::slots::{
    come_by, forget_other_threads, is_before_its_end, nudge_all as nudge, set_errand,
};
use crate::sync::{Arc, AtomicPtr, Ordering};

/// A value that can be replaced while it is read.
pub(crate) struct Cell<T> {
    current: AtomicPtr<T>,
    owns: PhantomData<Arc<T>>,
}

/// The right to use one value for as long as one likes, on any thread. Costs a counter.
pub(crate) struct Lease<T>(Arc<T>);

/// A value that new readers cannot reach any more, and old ones may still use.
///
/// Dropping it leaks the value: it can then never be known to be unused.
pub(crate) struct Retired<T> {
    value: ManuallyDrop<Arc<T>>,
    /// Whether a heavy barrier has passed since the value left its cell.
    fenced: bool,
}

/// Who still uses a retired value, as far as one look can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holders {
    /// The system's numbers of the threads that are inside a call, or just entering one.
    pub(crate) threads: Vec<u32>,
    pub(crate) leases: usize,
}

impl<T: Send + Sync> Cell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            current: AtomicPtr::new(Arc::into_raw(Arc::new(value)).cast_mut()),
            owns: PhantomData,
        }
    }

    /// Calls `f` with the current value; inside another `with` on the same cell and thread, with the
    /// value of that one. Waits for nobody.
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        match slots::head() {
            Some(slot) if slot.is_ready() => f(&self.enter(slot)),
            _ => self.with_nested_or_first(f),
        }
    }

    /// Leases the current value, also inside a `with` that is on an older one.
    pub(crate) fn lease(&self) -> Lease<T> {
        slots::with_head(|mut slot| {
            while !slot.is_idle() {
                slot = slot.inner();
            }
            let entered = self.enter(slot);
            // SAFETY: the pointer is from `Arc::into_raw` (invariant of `current`), and the value is not
            // drained while it is entered.
            unsafe { Arc::increment_strong_count(entered.value) };
            // SAFETY: the pointer is from `Arc::into_raw`, and the count is the one just added.
            Lease(unsafe { Arc::from_raw(entered.value) })
        })
    }

    /// Replaces the value. New readers reach the new one from here on; nobody is waited for.
    pub(crate) fn publish(&self, value: T) -> Retired<T> {
        self.replace(Arc::into_raw(Arc::new(value)).cast_mut())
    }

    /// Puts a value back that was replaced, whether or not it is still in use from then, and takes out the one
    /// that has replaced it.
    ///
    /// Nothing of the retirement carries over: when the value is retired again, that begins with a heavy
    /// barrier of its own. Readers from before are readers like any other.
    pub(crate) fn restore(&self, retired: Retired<T>) -> Retired<T> {
        let value = ManuallyDrop::into_inner(retired.value);
        self.replace(Arc::into_raw(value).cast_mut())
    }

    /// Takes the value out for good; the cell must not be read any more. The exclusive borrow says that
    /// no `with` is under way, so that only leases can hold the value.
    pub(crate) fn close(&mut self) -> Retired<T> {
        self.replace(ptr::null_mut())
    }

    fn replace(&self, new: *mut T) -> Retired<T> {
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

    /// Enters through an idle slot of this thread.
    #[inline]
    fn enter<'a>(&'a self, slot: &'a Slot) -> Entered<'a, T> {
        slot.announce(self.address());
        // Acquire: pairs with the Release in `replace`.
        let value = self.current.load(Ordering::Acquire).cast_const();
        slot.name(value.cast());
        Entered {
            value,
            slot,
            cell: PhantomData,
        }
    }

    /// The rarer ways in: a call inside a call, the first call of a thread, a call while a thread ends.
    #[cold]
    fn with_nested_or_first<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        slots::with_head(|mut slot| {
            while !slot.is_idle() {
                if let Some(outer) = slot.named_by(self.address()) {
                    // SAFETY: this thread named `outer` for this very cell, in a `with` further up its
                    // stack, so the value stays alive until after `f`. It is a `T`: no other cell can
                    // have this one's address while that `with` borrows it.
                    return f(unsafe { &*outer.cast::<T>() });
                }
                slot = slot.inner();
            }
            f(&self.enter(slot))
        })
    }

    fn address(&self) -> *const () {
        ptr::from_ref(self).cast()
    }
}

impl<T> Drop for Cell<T> {
    fn drop(&mut self) {
        let current = self.current.swap(ptr::null_mut(), Ordering::AcqRel);
        if !current.is_null() {
            // SAFETY: the pointer is from `Arc::into_raw` and the count is the cell's. No `with` can be
            // under way, for it would borrow the cell.
            drop(unsafe { Arc::from_raw(current) });
        }
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        slots::run_errand();
    }
}

impl<T> Deref for Lease<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
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
    pub(crate) fn try_drain(mut self) -> Result<T, Self> {
        if !self.fence() || slots::all().any(|slot| slot.may_hold(self.address())) {
            return Err(self);
        }
        // Slots first, leases second: a reader that takes a lease counts it before it clears its slot,
        // so that whoever saw the slot idle sees the lease. `try_unwrap` takes the last count with an
        // Acquire that pairs with the Release of every lease's drop.
        let Self { value, fenced } = self;
        Arc::try_unwrap(ManuallyDrop::into_inner(value)).map_err(|value| Self {
            value: ManuallyDrop::new(value),
            fenced,
        })
    }

    /// The value, which others may be using too.
    pub(crate) fn peek(&self) -> &T {
        &self.value
    }

    /// Leases it, while it is not decided whether it will be put back.
    pub(crate) fn lease(&self) -> Lease<T> {
        Lease(Arc::clone(&self.value))
    }

    /// Who holds it at this moment; readers that are just entering are among them.
    pub(crate) fn holders(&self) -> Holders {
        let inside = slots::all().filter(|slot| slot.may_hold(self.address()));
        Holders {
            threads: inside.map(Slot::thread).collect(),
            leases: Arc::strong_count(&self.value) - 1,
        }
    }

    fn fence(&mut self) -> bool {
        self.fenced = self.fenced || slots::barrier().heavy();
        self.fenced
    }

    fn address(&self) -> *const () {
        ptr::from_ref::<T>(&self.value).cast()
    }
}

/// A reader inside a value; it leaves when this is dropped, also by a panic.
struct Entered<'a, T> {
    value: *const T,
    slot: &'a Slot,
    cell: PhantomData<&'a Cell<T>>,
}

impl<T> Deref for Entered<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot names the value until this is dropped, so that it is not drained before.
        unsafe { &*self.value }
    }
}

impl<T> Drop for Entered<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.slot.clear();
    }
}

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
