//! A slot: the value that one thread is reading, where every other thread can look at it.
//!
//! # What a slot holds
//!
//! | word | meaning | calls that use the slot |
//! |---|---|---|
//! | null | idle; in a head: no slot of the chain is in use | 0 |
//! | [`INNER_IN_USE`] | idle, and another slot of the chain is in use; heads only | 0 |
//! | [`ENTERING`] | the thread is about to load a value | the entering call |
//! | a value | the entering call has not ended, or is about to look again | that one, and `nested` |
//! | a value with [`RETURNED`] | the entering call has ended | `nested`, at least 1 |
//!
//! Another thread may add [`MARKED`] to a value. Whatever the owner writes next has no mark, so a mark that is still
//! there is on the call that it was put on: that is how a later look knows a call from the next one on the same value.
//! It costs calls nothing, because a call that begins or ends writes the slot without looking at it.
//!
//! When the entering call ends, it writes `after_exit` to the slot. It tests nothing, because it may be an inline
//! call. Every call that begins or ends meanwhile keeps `after_exit` correct.
//!
//! Only the thread that has taken a slot writes to it, except for [`request_callback`](Slot::request_callback) and
//! [`mark`](Slot::mark). Every thread may call these, [`may_hold`](Slot::may_hold), [`names`](Slot::names),
//! [`inside`](Slot::inside), [`marked_value`](Slot::marked_value) and [`thread`](Slot::thread).
//!
//! # Invariants
//!
//! - A slot is never freed, because another thread may still scan it when its own thread has ended. A later thread
//!   reuses it, so there are only as many slots as were ever in use at once.
//! - `after_exit` is the value with [`RETURNED`] while `nested` is not 0, and otherwise the slot's idle word. It has no
//!   mark.
//! - A slot is in use when it holds neither null nor [`INNER_IN_USE`]. `inner_in_use` of a head is the number of
//!   other slots of its chain that are in use. An idle head holds null if that number is 0, and otherwise
//!   [`INNER_IN_USE`]; other idle slots hold null. ([`chain::begin`](crate::chain::begin) and
//!   [`begin_on_current`](crate::chain::begin_on_current) count a slot just before the caller enters through it.)
//! - A value that a slot names begins with a [`CellId`] and is alive. [`Cell`](crate::Cell) guarantees that: it does
//!   not free a value that a slot names. The one exception is a name that the owner is about to look at again
//!   ([`Cell::with`](crate::Cell::with)): until then the value may be gone, and the owner does nothing else.

use std::{
    cell::Cell,
    ptr::{self, NonNull},
    sync::atomic::AtomicU64,
};

use crate::{
    barrier::Barrier,
    sync::{AtomicBool, AtomicU8, AtomicU32, Ordering, OwnedWord},
    system::thread_number,
};

// Bits that no value's address has.
/// Set in a value's address when the call that named the value has ended and nested calls have not.
const RETURNED: usize = 1;
/// Set in a value's address when another thread has marked the call.
const MARKED: usize = 2;

const _: () = assert!(
    align_of::<CellId>() > RETURNED | MARKED,
    "a value's address leaves these bits free"
);

// Words that name no value: they have no other bits than those.
/// The slot holds this between the announcement and the name.
const ENTERING: *mut () = ptr::without_provenance_mut(RETURNED);
/// An idle head of a chain holds this while another slot of the chain is in use.
const INNER_IN_USE: *mut () = ptr::without_provenance_mut(MARKED);

// Bits of `Slot::flags`.
const CALLBACK_REQUESTED: u8 = 1;
const EXITING: u8 = 2;
const NOT_INLINE: u8 = 4;

/// A bit above all thread numbers (`PID_MAX_LIMIT` of Linux is 2²²).
const DEREGISTERED: u32 = 1 << 31;

/// A cell's id, which is never used twice. (An address is not enough: another cell can get the address of a dropped
/// one while a forgotten call still holds a value of the first.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CellId(u64);

impl CellId {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: it only matters that no id is handed out twice.
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// One thread's announcement, on cache lines of its own (two: x86 fetches them in pairs).
///
/// Only the thread that owns the slot touches the `Cell` fields.
#[repr(align(128))]
pub(crate) struct Slot {
    /// One of the words of the table in the module documentation.
    word: OwnedWord,
    /// The word that the entering call writes to `word` when it ends.
    after_exit: Cell<*mut ()>,
    /// The reasons why the owner must not make an inline call although the slot is idle. They share one byte, so that
    /// an inline call tests them at once.
    ///
    /// - [`CALLBACK_REQUESTED`]: the owner must run the quiescence callback before it enters a cell again.
    /// - [`EXITING`]: the thread has already run the destructor that gives its chain back, so the last call in the
    ///   chain must give it back.
    /// - [`NOT_INLINE`]: the process has another kind of barrier than inline calls. Constant.
    flags: AtomicU8,
    /// A copy of the process's kind of barrier; a reader therefore touches no other cache line.
    pub(crate) barrier: Barrier,
    taken: AtomicBool,
    /// The owner's thread number in the system, with [`DEREGISTERED`] when the owner is exiting; 0 without an owner.
    thread: AtomicU32,
    /// How many calls use the slot besides the entering one.
    nested: Cell<usize>,
    /// In the head of a chain: how many other slots of the chain are in use.
    pub(crate) inner_in_use: Cell<usize>,
    /// The slot for the next cell that the owner enters while it is inside this one.
    pub(crate) inner: Cell<*const Slot>,
    /// The slot created before this one. It is written before the slot is published, and then constant.
    pub(crate) next: *const Slot,
}

// SAFETY: only the thread that has taken the slot touches the `Cell`s: it finds the slot through thread-locals and
// through its calls, which are not `Send`. Taking a slot is an Acquire, which pairs with the Release by which the
// previous thread gave it back. `next` is constant.
unsafe impl Send for Slot {}
// SAFETY: other threads than the owner use only the atomics and `next`, which is constant once the slot is published.
unsafe impl Sync for Slot {}

/// What a thread is inside of, according to its slot.
pub(crate) enum Inside {
    Nothing,
    Value(*const ()),
    /// The thread is about to name a value.
    Unknown,
}

impl Slot {
    /// Creates a slot that belongs to the calling thread.
    pub(crate) fn new(barrier: Barrier) -> Self {
        Self {
            word: OwnedWord::new(ptr::null_mut()),
            after_exit: Cell::new(ptr::null_mut()),
            flags: AtomicU8::new(if barrier == Barrier::INLINE {
                0
            } else {
                NOT_INLINE
            }),
            barrier,
            taken: AtomicBool::new(true),
            thread: AtomicU32::new(0),
            nested: Cell::new(0),
            inner_in_use: Cell::new(0),
            inner: Cell::new(ptr::null()),
            next: ptr::null(),
        }
    }

    /// For the head of a chain: returns whether its owner may enter inline.
    #[inline]
    pub(crate) fn is_ready(&self) -> bool {
        // Relaxed: this only selects the path; the path that runs the callback calls `take_callback_request`.
        self.is_null() && self.flags.load(Ordering::Relaxed) == 0
    }

    /// For the owner: the word that it wrote last. If that names a value, it may have a mark by now; no other word ever
    /// has one.
    #[inline]
    fn own_word(&self) -> *mut () {
        // Relaxed: a thread reads no word older than its own last write (or, before its first, than the last one of the
        // owner before, which `try_take` orders). After that write, others only mark: they replace the word by the same
        // one with the mark (`mark`). If this read comes before such a mark, it finds the word as written; if it comes
        // after, the word with the mark. Callers treat the two alike: they look at the value without the mark, at
        // `RETURNED`, or for an idle word, which neither of the two is. With the mark comes nothing else that the owner
        // would have to see.
        self.word.load(Ordering::Relaxed)
    }

    /// Returns whether the slot holds null. A head that holds null has no slot of its chain in use.
    #[inline]
    pub(crate) fn is_null(&self) -> bool {
        self.own_word().is_null()
    }

    /// Returns whether no call uses the slot.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        let holds = self.own_word();
        holds.is_null() || holds == INNER_IN_USE
    }

    /// Returns whether the owner has been asked to run the quiescence callback.
    #[inline]
    pub(crate) fn is_callback_requested(&self) -> bool {
        // Relaxed: this only selects the path; the path that runs the callback calls `take_callback_request`.
        self.flags.load(Ordering::Relaxed) & CALLBACK_REQUESTED != 0
    }

    /// Returns whether the owner must run the quiescence callback, and clears the request.
    pub(crate) fn take_callback_request(&self) -> bool {
        // Acquire: pairs with the Release in `request_callback`, for what the callback must see.
        self.flags.fetch_and(!CALLBACK_REQUESTED, Ordering::Acquire) & CALLBACK_REQUESTED != 0
    }

    #[inline]
    pub(crate) fn is_exiting(&self) -> bool {
        // Relaxed: only the owner writes this bit.
        self.flags.load(Ordering::Relaxed) & EXITING != 0
    }

    pub(crate) fn mark_exiting(&self) {
        // Relaxed, both: only the owner reads the flag, and the fence in `chain::GiveBack` orders the number for
        // others.
        self.thread
            .store(thread_number() | DEREGISTERED, Ordering::Relaxed);
        self.flags.fetch_or(EXITING, Ordering::Relaxed);
    }

    /// Announces that the owner is about to load a value. No call uses the slot.
    pub(crate) fn announce(&self) {
        // Relaxed: a thread that sees this word concludes nothing from it, and looks again later.
        self.word.store(ENTERING, Ordering::Relaxed);
    }

    /// Names `value`, which was loaded from a cell. No call uses the slot.
    #[inline]
    pub(crate) fn name(&self, value: *const ()) {
        // Release: a thread that sees this value concludes that the owner has left the previous one. Pairs with the
        // Acquire in `may_hold`.
        self.word.store(value.cast_mut(), Ordering::Release);
    }

    /// Ends the entering call.
    #[inline]
    pub(crate) fn leave(&self) {
        self.set_word(self.after_exit.get());
    }

    /// Begins one more call on the value that the slot names.
    #[inline]
    pub(crate) fn nest(&self, value: NonNull<()>) {
        self.nested.set(self.nested.get() + 1);
        let returned = value.as_ptr().map_addr(|address| address | RETURNED);
        self.after_exit.set(returned);
    }

    /// Ends a call begun by [`nest`](Self::nest), before or after the entering call ends. Returns whether no call
    /// uses the slot any more.
    #[inline]
    pub(crate) fn end_nested(&self) -> bool {
        let nested = self.nested.get() - 1;
        self.nested.set(nested);
        if nested != 0 {
            return false;
        }
        self.after_exit.set(self.idle_word());
        let has_returned = self.own_word().addr() & RETURNED != 0;
        if has_returned {
            self.set_word(self.idle_word());
        }
        has_returned
    }

    /// For a head that is in use: another slot of the chain comes into use.
    #[inline]
    pub(crate) fn inner_begins(&self) {
        let others = self.inner_in_use.get();
        self.inner_in_use.set(others + 1);
        if others == 0 && self.nested.get() == 0 {
            self.after_exit.set(INNER_IN_USE);
        }
    }

    /// For the head of a chain: another slot of the chain has become idle.
    #[inline]
    pub(crate) fn inner_ends(&self) {
        let others = self.inner_in_use.get() - 1;
        self.inner_in_use.set(others);
        if others == 0 && self.nested.get() == 0 {
            self.after_exit.set(ptr::null_mut());
        }
    }

    /// The word that the slot holds when it is idle.
    #[inline]
    pub(crate) fn idle_word(&self) -> *mut () {
        if self.inner_in_use.get() == 0 {
            ptr::null_mut()
        } else {
            INNER_IN_USE
        }
    }

    #[inline]
    pub(crate) fn set_word(&self, word: *mut ()) {
        // Release: everything the owner did with the value happens before another thread sees that the slot no longer
        // names it. Pairs with the Acquires in `may_hold` and `names`. A change from one idle word to another is a
        // Release too: a thread that sees only the later word has no other write to pair with.
        self.word.store(word, Ordering::Release);
    }

    /// The value that the slot names, if it is a value of `cell`. `None` also when no call uses the slot.
    #[inline]
    pub(crate) fn named_value_of(&self, cell: CellId) -> Option<NonNull<()>> {
        let address = value_of(self.own_word()).addr();
        // The owner may have loaded the pointer of a value that is gone, and found another value at its address to be
        // current. The cell has exposed the pointers of both.
        let value = NonNull::new(ptr::with_exposed_provenance_mut(address))?;
        // SAFETY: a named value begins with its cell's id and is alive, for the call has begun (invariants of this
        // module): between its two loads of the pointer, the calling thread does not come here. Only the calling thread
        // makes the slot name something else, and it is busy here.
        let owner = unsafe { value.cast::<CellId>().read() };
        (owner == cell).then_some(value)
    }

    /// The next slot of the chain, if it exists already.
    #[inline]
    pub(crate) fn existing_inner(&self) -> Option<&'static Slot> {
        // SAFETY: slots are never freed.
        unsafe { self.inner.get().as_ref() }
    }

    /// Returns whether the slot's thread may be using `value`: it names the value, or it is about to name something.
    pub(crate) fn may_hold(&self, value: *const ()) -> bool {
        // Acquire: pairs with the Releases in `name` and `set_word`.
        let holds = self.word.load(Ordering::Acquire);
        holds == ENTERING || ptr::addr_eq(value_of(holds), value)
    }

    /// Returns whether a call of the slot's thread uses `value`. The caller knows that no thread is about to name it.
    pub(crate) fn names(&self, value: *const ()) -> bool {
        // Acquire: pairs with the Release in `set_word`.
        ptr::addr_eq(value_of(self.word.load(Ordering::Acquire)), value)
    }

    /// What the slot's thread is inside of at this moment.
    pub(crate) fn inside(&self) -> Inside {
        // Acquire: pairs with the Releases in `name` and `set_word`.
        match self.word.load(Ordering::Acquire) {
            ENTERING => Inside::Unknown,
            holds if holds.is_null() || holds == INNER_IN_USE => Inside::Nothing,
            holds => Inside::Value(value_of(holds).cast_const()),
        }
    }

    /// Marks the call that made the slot name `value`. Returns whether it was marked before; `None` if the slot does
    /// not name the value.
    pub(crate) fn mark(&self, value: *const ()) -> Option<bool> {
        // Relaxed, all: nothing is concluded from it but what a report says. Who then sees the marked word pairs with
        // the owner's write all the same, because a read-modify-write continues its release sequence.
        let holds = self.word.load(Ordering::Relaxed);
        if !ptr::addr_eq(value_of(holds), value) {
            return None;
        }
        if holds.addr() & MARKED != 0 {
            return Some(true);
        }
        let marked = holds.map_addr(|address| address | MARKED);
        // If it fails, the call has ended, or its entering call has.
        self.word.change(holds, marked).then_some(false)
    }

    /// The value that the slot names, if its call is marked.
    pub(crate) fn marked_value(&self) -> Option<*const ()> {
        // Relaxed: nothing is concluded from it but what a report says.
        let holds = self.word.load(Ordering::Relaxed);
        let value = value_of(holds).cast_const();
        // `INNER_IN_USE` has the bit of the mark, and names nothing.
        (holds.addr() & MARKED != 0 && !value.is_null()).then_some(value)
    }

    /// The owner's thread number in the system; 0 without an owner.
    pub(crate) fn thread(&self) -> u32 {
        self.thread.load(Ordering::Relaxed) & !DEREGISTERED
    }

    /// Returns whether the thread with this number owns the slot and will give it back when it ends.
    pub(crate) fn is_registered_for(&self, thread: u32) -> bool {
        // Relaxed: this one word is all that is read, and the fence in `registry::is_registered` orders it.
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

    /// Records the calling thread as the owner.
    pub(crate) fn register(&self) {
        self.thread.store(thread_number(), Ordering::Relaxed);
    }

    /// Lets another thread take the slot. No call uses it.
    pub(crate) fn give_back(&self) {
        self.inner.set(ptr::null());
        // Relaxed, both: the next owner reads them after its Acquire in `try_take`.
        self.flags.fetch_and(!EXITING, Ordering::Relaxed);
        self.thread.store(0, Ordering::Relaxed);
        // Release: pairs with the Acquire in `try_take`.
        self.taken.store(false, Ordering::Release);
    }

    /// In a forked child: records the new number of the owner, which is the calling thread.
    pub(crate) fn renumber(&self) {
        // Relaxed, both: the child has no other thread.
        let late = self.thread.load(Ordering::Relaxed) & DEREGISTERED;
        self.thread.store(thread_number() | late, Ordering::Relaxed);
    }

    /// In a forked child: frees the slot of an owner that the child does not have.
    pub(crate) fn abandon(&self) {
        // Relaxed, all of them: the child has no other thread.
        self.word.store(ptr::null_mut(), Ordering::Relaxed);
        self.after_exit.set(ptr::null_mut());
        self.flags.fetch_and(NOT_INLINE, Ordering::Relaxed);
        self.nested.set(0);
        self.inner_in_use.set(0);
        self.inner.set(ptr::null());
        self.thread.store(0, Ordering::Relaxed);
        self.taken.store(false, Ordering::Relaxed);
    }
}

/// The value that the word names; null if it is not a value.
#[inline]
fn value_of(holds: *mut ()) -> *mut () {
    holds.map_addr(|address| address & !(RETURNED | MARKED))
}

#[cfg(not(loom))]
const _: () = assert!(
    size_of::<Slot>() == 128,
    "a slot fits the cache lines it has to itself"
);
