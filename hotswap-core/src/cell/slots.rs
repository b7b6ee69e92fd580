//! Every reading thread's announcement of what it reads, where all may look at it.
//!
//! The words behind the verbs, and who may use which:
//!
//! - the thread that has a slot: [`is_idle`](Slot::is_idle), [`announce`](Slot::announce),
//!   [`name`](Slot::name), [`clear`](Slot::clear), [`named_by`](Slot::named_by), [`inner`](Slot::inner);
//! - anybody: [`all`], [`may_hold`](Slot::may_hold), [`thread`](Slot::thread), [`nudge_all`].
//!
//! A thread has a chain of slots, one for each swap point that it is inside of at once, linked by
//! `inner`. The chain's head is found through a thread-local without destructor, so that it can be read
//! at any time in a thread's life. A second thread-local gives the chain back when the thread ends. A
//! call that comes even later, from the destructor of another thread-local, takes a chain for itself and
//! gives it back when it returns.
//!
//! # Invariants
//!
//! - A slot, once made, is never freed: its thread may be gone, whoever scans it may not be. It is used
//!   again, so that there are as many as were ever needed at once.
//! - A slot that is given back is idle.

use std::{cell::Cell, ptr, sync::OnceLock};

use crate::sync::{
    AtomicBool, AtomicPtr, AtomicU32, Barrier, Ordering, fence, per_thread, process_wide,
};

/// What a slot holds between the announcement and the name.
const ENTERING: *mut () = ptr::without_provenance_mut(1);

/// One thread's announcement, on cache lines of its own (two: x86 fetches them in pairs).
#[repr(align(128))]
pub(super) struct Slot {
    /// Null when idle, [`ENTERING`], or the value.
    holds: AtomicPtr<()>,
    /// The cell that `holds` came from. The owner's.
    cell: Cell<*const ()>,
    /// The slot for the next swap point that the owner enters while it is inside this one. The owner's.
    inner: Cell<*const Slot>,
    /// A copy of the process's kind of barrier, here so that a reader touches no other cache line.
    barrier: Barrier,
    taken: AtomicBool,
    /// Whether the owner is asked to run the [`Errand`] before it enters anything again.
    nudged: AtomicBool,
    /// Whether the owner's thread-locals are destroyed: it gives the slot back when its call returns.
    late: AtomicBool,
    /// The owner's number in the system, for reports.
    thread: AtomicU32,
    /// The slot made before this one. Written before the slot is published, then constant.
    next: *const Slot,
}

// SAFETY: `cell` and `inner` are touched only by the thread that has taken the slot; taking it is an
// Acquire that pairs with the Release by which the thread before gave it back. `next` is constant.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Slot {
    /// For the head of a chain: whether its owner may enter through it without further ado.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        // Relaxed: what the nudge is about is read by `is_nudged`.
        self.is_idle() && !self.nudged.load(Ordering::Relaxed)
    }

    /// Whether the owner is to run the errand; it is not asked twice for the same nudge.
    fn is_nudged(&self) -> bool {
        // Acquire: pairs with the Release in `nudge_all`, for what is to be seen in the errand.
        self.nudged.load(Ordering::Relaxed) && self.nudged.swap(false, Ordering::Acquire)
    }

    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        // Relaxed: only the owner writes it.
        self.holds.load(Ordering::Relaxed).is_null()
    }

    /// Says that the owner is about to load a value from `cell`. The light barrier is included.
    #[inline]
    pub(super) fn announce(&self, cell: *const ()) {
        self.cell.set(cell);
        // Relaxed: whoever sees this concludes nothing, but asks again.
        self.holds.store(ENTERING, Ordering::Relaxed);
        self.barrier.light();
    }

    #[inline]
    pub(super) fn name(&self, value: *const ()) {
        // Release: whoever sees this value concludes that the owner has left the one before. Pairs with
        // the Acquire in `may_hold`. (Loom does not miss it when it is Relaxed: the full fence in
        // `announce` stands in for it. The asymmetric one does not.)
        self.holds.store(value.cast_mut(), Ordering::Release);
    }

    #[inline]
    pub(super) fn clear(&self) {
        // Release: what the owner did with the value happens before anybody sees the slot idle. Pairs
        // with the Acquire in `may_hold`.
        self.holds.store(ptr::null_mut(), Ordering::Release);
    }

    /// The value that the owner named here, if it came from `cell`.
    pub(super) fn named_by(&self, cell: *const ()) -> Option<*const ()> {
        let value = self.holds.load(Ordering::Relaxed);
        (self.cell.get() == cell && value != ENTERING).then_some(value.cast_const())
    }

    /// The slot for one level further in.
    pub(super) fn inner(&self) -> &Slot {
        if self.inner.get().is_null() {
            self.inner.set(take(self.is_late()));
        }
        // SAFETY: slots are never freed.
        unsafe { &*self.inner.get() }
    }

    /// Whether the slot's thread may be using `value`: it named it, or it is just about to name
    /// something.
    pub(super) fn may_hold(&self, value: *const ()) -> bool {
        // Acquire: pairs with the Releases in `name` and `clear`.
        let holds = self.holds.load(Ordering::Acquire);
        holds == ENTERING || ptr::eq(holds, value)
    }

    pub(super) fn thread(&self) -> u32 {
        self.thread.load(Ordering::Relaxed)
    }

    fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether it was taken by a thread that had given its slots back before.
    fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    fn try_take(&self) -> bool {
        // Acquire: pairs with the Release in `GiveBack`, for the fields that are the owner's.
        !self.taken.load(Ordering::Relaxed)
            && self
                .taken
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }
}

/// The process's kind of barrier.
pub(super) fn barrier() -> Barrier {
    REGISTRY.barrier
}

/// Every slot there is.
pub(super) fn all<'a>() -> impl Iterator<Item = &'a Slot> {
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
pub(crate) fn is_before_its_end(thread: u32) -> bool {
    // Pairs with the fence in `GiveBack`: either the slot is seen to be given back, or its thread sees whatever the
    // caller did before it asked.
    fence(Ordering::SeqCst);
    // Acquire, for the number: pairs with the Release in `take`, which comes last.
    all().any(|slot| {
        slot.thread.load(Ordering::Acquire) == thread && slot.is_taken() && !slot.is_late()
    })
}

/// For a child that the calling thread has forked: no other thread is there, whatever its slot says, and this one has
/// another number. Calls nothing but the system.
pub(crate) fn forget_other_threads() {
    for slot in all() {
        // Relaxed: there is no other thread.
        if is_mine(slot) {
            slot.thread.store(this_thread(), Ordering::Relaxed);
        } else if slot.is_taken() {
            slot.holds.store(ptr::null_mut(), Ordering::Relaxed);
            slot.inner.set(ptr::null());
            slot.thread.store(0, Ordering::Relaxed);
            slot.taken.store(false, Ordering::Relaxed);
        }
    }
}

/// Whether it is in the calling thread's chain.
fn is_mine(slot: &Slot) -> bool {
    let mut mine = head();
    while let Some(own) = mine {
        if ptr::eq(own, slot) {
            return true;
        }
        // SAFETY: slots are never freed.
        mine = unsafe { own.inner.get().as_ref() };
    }
    false
}

/// What every thread does once, soon after a [`nudge_all`]: before its next outermost entry, or when it
/// drops a lease.
pub(crate) type Errand = fn();

static ERRAND: OnceLock<Errand> = OnceLock::new();

/// Sets the errand, for the whole process; the first one stays.
pub(crate) fn set_errand(errand: Errand) {
    let _ = ERRAND.set(errand);
}

/// Asks every thread that has a slot to run the errand. One that gets its first slot later is asked by the next
/// nudge; one that enters nothing any more does not come.
pub(crate) fn nudge_all() {
    for slot in all() {
        // Release: pairs with the Acquire in `is_nudged`.
        slot.nudged.store(true, Ordering::Release);
    }
}

/// Runs the errand if this thread is asked to, and is inside of nothing.
pub(super) fn run_errand() {
    if let Some(slot) = head()
        && slot.is_idle()
        && slot.is_nudged()
        && let Some(errand) = ERRAND.get()
    {
        errand();
    }
}

/// Runs the errand like one who enters something, and sees to it that this thread will be asked again. For those
/// who read what cannot be retired meanwhile, and so enter nothing.
#[inline]
pub(crate) fn come_by() {
    match head() {
        Some(slot) if !slot.nudged.load(Ordering::Relaxed) => {}
        _ => with_head(|_| ()),
    }
}

/// The head of this thread's chain, if it has one already.
#[inline]
pub(super) fn head<'a>() -> Option<&'a Slot> {
    // SAFETY: slots are never freed.
    unsafe { HEAD.with(Cell::get).as_ref() }
}

/// Calls `f` with the head of this thread's chain, which is made if need be. Runs the errand before that.
pub(super) fn with_head<R>(f: impl FnOnce(&Slot) -> R) -> R {
    if let Some(head) = head() {
        run_errand();
        return f(head);
    }
    let is_late = GIVE_BACK.try_with(|_| ()).is_err();
    let new = take(is_late);
    HEAD.with(|head| head.set(new));
    // When the thread is past the destructor of its thread-local, this call gives back what it took.
    let _give_back = GIVE_BACK
        .try_with(|chain| chain.0.set(new))
        .err()
        .map(|_| GiveBack(Cell::new(new)));
    // SAFETY: slots are never freed.
    f(unsafe { &*new })
}

/// Gives this thread's chain, named by its head, back when dropped.
struct GiveBack(Cell<*const Slot>);

impl Drop for GiveBack {
    fn drop(&mut self) {
        // Only the model checker ever takes `HEAD` away, and it makes no calls after that.
        let _ = HEAD.try_with(|head| head.set(ptr::null()));
        let mut next = self.0.get();
        // SAFETY: slots are never freed.
        while let Some(slot) = unsafe { next.as_ref() } {
            next = slot.inner.replace(ptr::null());
            // A slot in use here means that somebody called `exit` inside `with`: the frames below
            // stay where they are, so the slot stays taken and keeps holding its value.
            if slot.is_idle() {
                // No thread's any more, also for this one if it takes the slot once more.
                slot.thread.store(0, Ordering::Relaxed);
                // Release: pairs with the Acquire in `try_take`.
                slot.taken.store(false, Ordering::Release);
            }
        }
        // Pairs with the fence in `is_before_its_end`.
        fence(Ordering::SeqCst);
    }
}

per_thread! {
    static HEAD: Cell<*const Slot> = Cell::new(ptr::null());
    static GIVE_BACK: GiveBack = GiveBack(Cell::new(ptr::null()));
}

struct Registry {
    barrier: Barrier,
    newest: AtomicPtr<Slot>,
}

process_wide! {
    static REGISTRY: Registry = Registry { barrier: Barrier::detect(), newest: AtomicPtr::new(ptr::null_mut()) };
}

/// A slot that nobody has: one that was given back, or a new one.
fn take(is_late: bool) -> *const Slot {
    let slot = all()
        .find(|slot| slot.try_take())
        .map_or_else(add, ptr::from_ref);
    // SAFETY: slots are never freed.
    let taken = unsafe { &*slot };
    taken.late.store(is_late, Ordering::Relaxed);
    // Release: pairs with the Acquire in `is_before_its_end`, for `late`.
    taken.thread.store(this_thread(), Ordering::Release);
    slot
}

fn add() -> *const Slot {
    let slot = Box::into_raw(Box::new(Slot {
        holds: AtomicPtr::new(ptr::null_mut()),
        cell: Cell::new(ptr::null()),
        inner: Cell::new(ptr::null()),
        barrier: REGISTRY.barrier,
        taken: AtomicBool::new(true),
        nudged: AtomicBool::new(false),
        late: AtomicBool::new(false),
        thread: AtomicU32::new(0),
        next: ptr::null(),
    }));
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
            Ok(_) => return slot,
            Err(other) => newest = other,
        }
    }
}

fn this_thread() -> u32 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .cast_unsigned()
}

#[cfg(not(loom))]
const _: () = assert!(
    size_of::<Slot>() == 128,
    "a slot fits the cache lines it has to itself"
);
