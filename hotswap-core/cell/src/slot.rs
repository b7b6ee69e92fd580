//! What one thread says that it reads, where every thread may look at it.
//!
//! # What a slot holds
//!
//! | word | meaning | calls that rely on the slot |
//! |---|---|---|
//! | null | idle; of a head: nothing of the chain is in use | 0 |
//! | [`INNER_IN_USE`] | idle, and another slot of the chain is in use; heads only | 0 |
//! | [`ENTERING`] | a value is about to be loaded | the one that enters |
//! | a value | the call that entered has not ended | that one, and `nested` |
//! | a value with [`RETURNED`] | the call that entered has ended | `nested`, at least 1 |
//!
//! When the call that entered ends, it writes what is in `after_exit`, and tests nothing, for it may be an inline
//! call. Whatever begins or ends meanwhile keeps `after_exit` correct.
//!
//! Only the thread that has taken a slot writes to it, but for [`request_callback`](Slot::request_callback). Every thread
//! may call [`may_hold`](Slot::may_hold), [`names`](Slot::names), [`inside`](Slot::inside) and
//! [`thread`](Slot::thread).
//!
//! # Invariants
//!
//! - A slot, once made, is never freed: its thread may be gone, whoever scans it may not be. It is used
//!   again, so that there are as many as were ever needed at once.
//! - `after_exit` is the value with [`RETURNED`] while `nested` is not 0, and otherwise the word that the slot holds
//!   when it is idle.
//! - A slot is in use when it holds neither null nor [`INNER_IN_USE`]. `inner_in_use` of a head is the number of the
//!   other slots of its chain that are in use. A head that is idle holds null if that is 0, and [`INNER_IN_USE`] if
//!   not; other idle slots hold null. ([`chain::begin`](crate::chain::begin) and
//!   [`begin_apart`](crate::chain::begin_apart) count a slot that is entered right after.)
//! - What a slot names begins with a [`CellId`] and is alive. [`Cell`](crate::Cell) guarantees that: it frees nothing
//!   that a slot names.

use std::{
    cell::Cell,
    ptr::{self, NonNull},
    sync::atomic::AtomicU64,
};

use crate::{
    barrier::Barrier,
    sync::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, Ordering},
    system::thread_number,
};

/// What a slot holds between the announcement and the name.
const ENTERING: *mut () = ptr::without_provenance_mut(1);
/// What the head of a chain holds when it is idle while another slot of the chain is in use.
const INNER_IN_USE: *mut () = ptr::without_provenance_mut(2);
/// Set in the address of a value when the call that named it has ended, and nested calls have not.
const RETURNED: usize = 1;

const _: () = assert!(
    align_of::<CellId>() > RETURNED,
    "a value's address leaves that bit free"
);

/// Bits of [`Slot::flags`].
const CALLBACK_REQUESTED: u8 = 1;
const LATE: u8 = 2;

/// Above all numbers of threads (`PID_MAX_LIMIT` of Linux is 2²²).
const DEREGISTERED: u32 = 1 << 31;

/// The number of a cell, which is never used twice. (An address can be used again, by another cell, while a call that
/// was forgotten still holds a value of the first.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CellId(u64);

impl CellId {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: all that matters is that each number is given once.
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// One thread's announcement, on cache lines of its own (two: x86 fetches them in pairs).
///
/// `Cell`s are the owner's.
#[repr(align(128))]
pub(crate) struct Slot {
    /// See the table in the module's description.
    holds: AtomicPtr<()>,
    /// What it will hold when the call that entered ends.
    after_exit: Cell<*mut ()>,
    /// What keeps the owner from an inline call through this slot although it is idle. One word, so that it is one
    /// test.
    ///
    /// - [`CALLBACK_REQUESTED`]: the owner is asked to run the quiescence callback before it enters anything again.
    /// - [`LATE`]: the thread has run the destructor that gives its chain back, so the last call in the chain does
    ///   that.
    flags: AtomicU8,
    /// A copy of the process's kind of barrier, here so that a reader touches no other cache line.
    barrier: Barrier,
    taken: AtomicBool,
    /// The owner's number in the system, with [`DEREGISTERED`] for one that is late; 0 when it is nobody's.
    thread: AtomicU32,
    /// How many calls rely on the slot besides the one that entered.
    nested: Cell<usize>,
    /// In the head of a chain: how many other slots of the chain are in use.
    pub(crate) inner_in_use: Cell<usize>,
    /// The slot for the next swap point that the owner enters while it is inside this one.
    pub(crate) inner: Cell<*const Slot>,
    /// The slot made before this one. Written before the slot is published, then constant.
    pub(crate) next: *const Slot,
}

// SAFETY: the `Cell`s are touched only by the thread that has taken the slot: it finds the slot through thread-locals,
// and through calls, which are not `Send`. Taking it is an Acquire that pairs with the Release by which the thread
// before gave it back. `next` is constant.
unsafe impl Send for Slot {}
// SAFETY: what others than the owner use are the atomics and `next`, which is constant once the slot is published.
unsafe impl Sync for Slot {}

/// What a thread is inside of, as its slot says.
pub(crate) enum Inside {
    Nothing,
    Value(*const ()),
    /// It is about to name something.
    Unknown,
}

impl Slot {
    /// One that the calling thread has taken.
    pub(crate) fn new(barrier: Barrier) -> Self {
        Self {
            holds: AtomicPtr::new(ptr::null_mut()),
            after_exit: Cell::new(ptr::null_mut()),
            flags: AtomicU8::new(0),
            barrier,
            taken: AtomicBool::new(true),
            thread: AtomicU32::new(0),
            nested: Cell::new(0),
            inner_in_use: Cell::new(0),
            inner: Cell::new(ptr::null()),
            next: ptr::null(),
        }
    }

    /// For the head of a chain: whether its owner may enter inline.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        // Relaxed: who runs the quiescence callback asks `take_callback_request`.
        self.is_null() && self.flags.load(Ordering::Relaxed) == 0
    }

    /// Whether it holds null. If it is the head of a chain, then nothing of the chain is in use.
    #[inline]
    pub(crate) fn is_null(&self) -> bool {
        // Relaxed: only the owner writes it.
        self.holds.load(Ordering::Relaxed).is_null()
    }

    /// Whether no call relies on it.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        // Relaxed: only the owner writes it.
        let holds = self.holds.load(Ordering::Relaxed);
        holds.is_null() || holds == INNER_IN_USE
    }

    /// Whether the owner is asked to run the quiescence callback.
    pub(crate) fn is_callback_requested(&self) -> bool {
        // Relaxed: who runs the quiescence callback asks `take_callback_request`.
        self.flags.load(Ordering::Relaxed) & CALLBACK_REQUESTED != 0
    }

    /// Whether the owner is to run the quiescence callback; it is not asked twice for the same request.
    pub(crate) fn take_callback_request(&self) -> bool {
        // Acquire: pairs with the Release in `request_callback`, for what is to be seen in the quiescence callback.
        self.flags.fetch_and(!CALLBACK_REQUESTED, Ordering::Acquire) & CALLBACK_REQUESTED != 0
    }

    #[inline]
    pub(crate) fn is_late(&self) -> bool {
        // Relaxed: only the owner writes this bit.
        self.flags.load(Ordering::Relaxed) & LATE != 0
    }

    pub(crate) fn become_late(&self) {
        // Relaxed, both: only the owner reads the flag, and for others the fence in `chain::GiveBack` orders the number.
        self.thread
            .store(thread_number() | DEREGISTERED, Ordering::Relaxed);
        self.flags.fetch_or(LATE, Ordering::Relaxed);
    }

    /// Says that the owner, whose slot is idle, is about to load a value. The light barrier is included.
    #[inline]
    pub(crate) fn announce(&self) {
        // Relaxed: whoever sees this concludes nothing, but asks again.
        self.holds.store(ENTERING, Ordering::Relaxed);
        self.barrier.light();
    }

    /// `value` begins with the [`CellId`] that it has in `current`, and is alive until the slot has ceased to
    /// name it.
    #[inline]
    pub(crate) fn name(&self, value: *const ()) {
        // Release: whoever sees this value concludes that the owner has left the one before. Pairs with
        // the Acquire in `may_hold`. (Loom does not miss it when it is Relaxed: the full fence in
        // `announce` stands in for it. The asymmetric one does not.)
        self.holds.store(value.cast_mut(), Ordering::Release);
    }

    /// Ends the call that entered.
    #[inline]
    pub(crate) fn leave(&self) {
        self.now_holds(self.after_exit.get());
    }

    /// Begins one more call on what the slot names.
    #[inline]
    pub(crate) fn nest(&self, value: NonNull<()>) {
        self.nested.set(self.nested.get() + 1);
        let returned = value.as_ptr().map_addr(|address| address | RETURNED);
        self.after_exit.set(returned);
    }

    /// Ends a call begun by [`nest`](Self::nest), which may be before or after the call that entered ends. Whether it
    /// was the last that relied on the slot.
    #[inline]
    pub(crate) fn end_nested(&self) -> bool {
        let nested = self.nested.get() - 1;
        self.nested.set(nested);
        if nested != 0 {
            return false;
        }
        self.after_exit.set(self.idle_word());
        // Relaxed: only the owner writes it.
        let has_returned = self.holds.load(Ordering::Relaxed).addr() & RETURNED != 0;
        if has_returned {
            self.now_holds(self.idle_word());
        }
        has_returned
    }

    /// For the head of a chain, when it is in use: another slot of the chain is taken into use.
    #[inline]
    pub(crate) fn inner_begins(&self) {
        let others = self.inner_in_use.get();
        self.inner_in_use.set(others + 1);
        if others == 0 && self.nested.get() == 0 {
            self.after_exit.set(INNER_IN_USE);
        }
    }

    /// For the head of a chain: another slot of the chain is idle again.
    #[inline]
    pub(crate) fn inner_ends(&self) {
        let others = self.inner_in_use.get() - 1;
        self.inner_in_use.set(others);
        if others == 0 && self.nested.get() == 0 {
            self.after_exit.set(ptr::null_mut());
        }
    }

    /// What it holds when it is idle.
    #[inline]
    pub(crate) fn idle_word(&self) -> *mut () {
        if self.inner_in_use.get() == 0 {
            ptr::null_mut()
        } else {
            INNER_IN_USE
        }
    }

    #[inline]
    pub(crate) fn now_holds(&self, word: *mut ()) {
        // Release: what the owner did with the value happens before anybody sees that the slot has ceased to
        // name it. Pairs with the Acquires in `may_hold` and `names`. The same for a change from one idle word to
        // the other: whoever sees only the later one has no other write to pair with.
        self.holds.store(word, Ordering::Release);
    }

    /// The value of `cell` that the owner has named here, while any call relies on it.
    #[inline]
    pub(crate) fn named_of(&self, cell: CellId) -> Option<NonNull<()>> {
        // Relaxed: only the owner writes it.
        let value = NonNull::new(without_returned(self.holds.load(Ordering::Relaxed)))?;
        // All words that are not values are below every value.
        if value.as_ptr() <= INNER_IN_USE {
            return None;
        }
        // SAFETY: what a slot names begins with its cell's number and is alive (invariants of the module), and only
        // this thread, which is here, makes the slot name something else.
        let owner = unsafe { value.cast::<CellId>().read() };
        (owner == cell).then_some(value)
    }

    /// The slot after this one in its chain, if there is one already.
    #[inline]
    pub(crate) fn inner_if_made(&self) -> Option<&'static Slot> {
        // SAFETY: slots are never freed.
        unsafe { self.inner.get().as_ref() }
    }

    /// Whether the slot's thread may be using `value`: it named it, or it is just about to name
    /// something.
    pub(crate) fn may_hold(&self, value: *const ()) -> bool {
        // Acquire: pairs with the Releases in `name` and `now_holds`.
        let holds = self.holds.load(Ordering::Acquire);
        holds == ENTERING || ptr::addr_eq(without_returned(holds), value)
    }

    /// Whether a call of the slot's thread relies on `value`. For a value that nobody can be about to name.
    pub(crate) fn names(&self, value: *const ()) -> bool {
        // Acquire: pairs with the Release in `now_holds`.
        ptr::addr_eq(without_returned(self.holds.load(Ordering::Acquire)), value)
    }

    /// What the slot's thread is inside of, at this moment.
    pub(crate) fn inside(&self) -> Inside {
        // Acquire: pairs with the Releases in `name` and `now_holds`.
        match self.holds.load(Ordering::Acquire) {
            ENTERING => Inside::Unknown,
            holds if holds.is_null() || holds == INNER_IN_USE => Inside::Nothing,
            holds => Inside::Value(without_returned(holds).cast_const()),
        }
    }

    /// The owner's number in the system; 0 when it is nobody's.
    pub(crate) fn thread(&self) -> u32 {
        self.thread.load(Ordering::Relaxed) & !DEREGISTERED
    }

    /// Whether the thread of this number owns the slot, and will give it back when it ends.
    pub(crate) fn is_registered_for(&self, thread: u32) -> bool {
        // Relaxed: one word says it all, and the fences of those who ask order it (`registry::is_registered`).
        self.thread.load(Ordering::Relaxed) == thread
    }

    /// Asks the owner to run the quiescence callback.
    pub(crate) fn request_callback(&self) {
        // Release: pairs with the Acquire in `take_callback_request`.
        self.flags.fetch_or(CALLBACK_REQUESTED, Ordering::Release);
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    pub(crate) fn try_take(&self) -> bool {
        // Acquire: pairs with the Release in `give_back`, for the fields that are the owner's.
        !self.is_taken()
            && self
                .taken
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    /// Notes the calling thread as the owner.
    pub(crate) fn register(&self) {
        self.thread.store(thread_number(), Ordering::Relaxed);
    }

    /// Lets another thread take the slot, of which nothing is in use.
    pub(crate) fn give_back(&self) {
        self.inner.set(ptr::null());
        // Relaxed, both: for the next owner, which reads the flag after its Acquire in `try_take`.
        self.flags.fetch_and(!LATE, Ordering::Relaxed);
        self.thread.store(0, Ordering::Relaxed);
        // Release: pairs with the Acquire in `try_take`.
        self.taken.store(false, Ordering::Release);
    }

    /// In a forked child: the owner, which is the calling thread, has another number.
    pub(crate) fn renumber(&self) {
        // Relaxed, both: there is no other thread.
        let late = self.thread.load(Ordering::Relaxed) & DEREGISTERED;
        self.thread.store(thread_number() | late, Ordering::Relaxed);
    }

    /// In a forked child: the owner is not there.
    pub(crate) fn abandon(&self) {
        // Relaxed, all of them: there is no other thread.
        self.holds.store(ptr::null_mut(), Ordering::Relaxed);
        self.after_exit.set(ptr::null_mut());
        self.flags.store(0, Ordering::Relaxed);
        self.nested.set(0);
        self.inner_in_use.set(0);
        self.inner.set(ptr::null());
        self.thread.store(0, Ordering::Relaxed);
        self.taken.store(false, Ordering::Relaxed);
    }
}

#[inline]
fn without_returned(holds: *mut ()) -> *mut () {
    holds.map_addr(|address| address & !RETURNED)
}

#[cfg(not(loom))]
const _: () = assert!(
    size_of::<Slot>() == 128,
    "a slot fits the cache lines it has to itself"
);
