//! All slots of the process, as a list that only grows.

use std::ptr;

use crate::{
    barrier::Barrier,
    slot::Slot,
    sync::{AtomicPtr, Ordering, fence, process_wide},
};

/// The process's kind of barrier.
pub(crate) fn barrier() -> Barrier {
    REGISTRY.barrier
}

/// All slots of the process.
pub(crate) fn all() -> impl Iterator<Item = &'static Slot> {
    // Acquire: pairs with the Release in `add`, for the initial contents of a slot. It covers older slots too,
    // because every `add` is a read-modify-write of the same variable.
    let mut next = REGISTRY.newest.load(Ordering::Acquire).cast_const();
    std::iter::from_fn(move || {
        // SAFETY: slots are never freed.
        let slot = unsafe { next.as_ref() }?;
        next = slot.next;
        Some(slot)
    })
}

/// Returns whether a thread has a slot that it will give back when it ends, before libc runs what is left for then
/// (destructors of pthread keys). `false` means that it has none, or that it may already have given it back.
pub fn is_registered(thread: u32) -> bool {
    // Pairs with the fence in `chain::GiveBack`. If that fence comes first, this scan sees the slot as exiting or
    // given back. If ours comes first, the thread sees whatever the caller did before it asked.
    fence(Ordering::SeqCst);
    all().any(|slot| slot.is_registered_for(thread))
}

struct Registry {
    barrier: Barrier,
    newest: AtomicPtr<Slot>,
}

process_wide! {
    static REGISTRY: Registry = Registry { barrier: Barrier::detect(), newest: AtomicPtr::new(ptr::null_mut()) };
}

/// Takes a slot that no thread owns, or creates one. `is_exiting`: the calling thread has already run the destructor
/// that would give the slot back.
pub(crate) fn take(is_exiting: bool) -> &'static Slot {
    let slot = all().find(|slot| slot.try_take()).unwrap_or_else(add);
    if is_exiting {
        slot.mark_exiting();
    } else {
        slot.register();
    }
    slot
}

fn add() -> &'static Slot {
    let slot = Box::into_raw(Box::new(Slot::new(REGISTRY.barrier)));
    let mut newest = REGISTRY.newest.load(Ordering::Relaxed);
    loop {
        // SAFETY: the slot is not published yet, so no other thread has a reference to it.
        unsafe { (*slot).next = newest };
        // Release: pairs with the Acquire in `all`. If a scan misses the new slot, then the scanning thread's barrier
        // came before this write, and so before the barrier of the slot's reader: that reader gets the new value.
        match REGISTRY
            .newest
            .compare_exchange(newest, slot, Ordering::AcqRel, Ordering::Relaxed)
        {
            // SAFETY: slots are never freed, and after publishing a slot changes only through its atomics and
            // `Cell`s.
            Ok(_) => return unsafe { &*slot },
            Err(other) => newest = other,
        }
    }
}
