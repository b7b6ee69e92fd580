//! Every slot there is, as a list that only grows.

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

/// Every slot there is.
pub(crate) fn all() -> impl Iterator<Item = &'static Slot> {
    // Acquire: pairs with the Release in `add`, for what a slot was made with. Older slots are seen
    // through it too, because every `add` is a read-modify-write of the same variable.
    let mut next = REGISTRY.newest.load(Ordering::Acquire).cast_const();
    std::iter::from_fn(move || {
        // SAFETY: slots are never freed.
        let slot = unsafe { next.as_ref() }?;
        next = slot.next;
        Some(slot)
    })
}

/// Whether a thread has a slot that it will give back when it ends, before libc runs what else is left for then
/// (destructors of pthread keys). `false`: it has not, or it may be past that.
pub fn is_registered(thread: u32) -> bool {
    // Pairs with the fence in `chain::GiveBack`: either the slot is seen to be late or given back, or its thread sees whatever
    // the caller did before it asked.
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

/// A slot that nobody has: one that was given back, or a new one. `is_late`: the calling thread does not give it back by
/// itself when it ends.
pub(crate) fn take(is_late: bool) -> &'static Slot {
    let slot = all().find(|slot| slot.try_take()).unwrap_or_else(add);
    if is_late {
        slot.become_late();
    } else {
        slot.register();
    }
    slot
}

fn add() -> &'static Slot {
    let slot = Box::into_raw(Box::new(Slot::new(REGISTRY.barrier)));
    let mut newest = REGISTRY.newest.load(Ordering::Relaxed);
    loop {
        // SAFETY: the slot is not published yet, so it is ours alone.
        unsafe { (*slot).next = newest };
        // Release: pairs with the Acquire in `all`. If a scan misses the new slot, then its barrier came
        // before this write, and so before the barrier of the slot's reader: that one gets the new value.
        match REGISTRY
            .newest
            .compare_exchange(newest, slot, Ordering::AcqRel, Ordering::Relaxed)
        {
            // SAFETY: slots are never freed, and this one is not written to any more but through its cells.
            Ok(_) => return unsafe { &*slot },
            Err(other) => newest = other,
        }
    }
}
