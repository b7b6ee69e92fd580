//! Every reading thread's announcement of what it reads, where all may look at it.
//!
//! The words behind the verbs, and who may use which:
//!
//! - the thread that has a slot: [`announce`](Slot::announce), [`name`](Slot::name), [`leave`](Slot::leave), and
//!   [`ready_head`], [`begin`], [`begin_apart`] and [`end`], which know its chain;
//! - anybody: [`all`], [`may_hold`](Slot::may_hold), [`names`](Slot::names), [`thread`](Slot::thread),
//!   [`is_before_its_end`], [`nudge_all`].
//!
//! A thread has a chain of slots, one for each swap point that it is inside of at once, linked by
//! `inner`. The chain's head is found through a thread-local without destructor, so that it can be read
//! at any time in a thread's life. A second thread-local gives the chain back when the thread ends. A
//! call that comes even later, from the destructor of another thread-local, takes a chain that is given
//! back when its last call ends.
//!
//! An inline call looks at the head only, and enters through it when it holds null. A call that is made inside of
//! another on the same cell must find that one's slot instead. So the head does not hold null while another slot
//! of its chain is in use: when it is idle, it then holds [`INNER_IN_USE`].
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
//! # Invariants
//!
//! - A slot, once made, is never freed: its thread may be gone, whoever scans it may not be. It is used
//!   again, so that there are as many as were ever needed at once.
//! - A chain is given back only when nothing of it is in use, so that a call ends in the chain that it began in.
//! - `after_exit` is the value with [`RETURNED`] while `nested` is not 0, and otherwise the word that the slot holds
//!   when it is idle.
//! - A slot is in use when it holds neither null nor [`INNER_IN_USE`]. `inner_in_use` of a head is the number of the
//!   other slots of its chain that are in use. A head that is idle holds null if that is 0, and [`INNER_IN_USE`] if
//!   not; other idle slots hold null. ([`begin`] and [`begin_apart`] count a slot that is entered right after.)
//! - What a slot names begins with a [`CellId`] and is alive. `cell` guarantees that: it frees nothing that a slot
//!   names.

use std::{
    cell::Cell,
    ptr::{self, NonNull},
    sync::{OnceLock, atomic::AtomicU64},
};

use crate::sync::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, Barrier, Ordering, fence, per_thread, process_wide,
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
const NUDGED: u8 = 1;
const LATE: u8 = 2;

/// Above all numbers of threads (`PID_MAX_LIMIT` of Linux is 2²²).
const PAST_ITS_END: u32 = 1 << 31;

/// The number of a cell, which is never used twice. (An address can be used again, by another cell, while a call that
/// was forgotten still holds a value of the first.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CellId(u64);

impl CellId {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: all that matters is that each number is given once.
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// One thread's announcement, on cache lines of its own (two: x86 fetches them in pairs).
///
/// `Cell`s are the owner's.
#[repr(align(128))]
pub(super) struct Slot {
    /// See the table in the module's description.
    holds: AtomicPtr<()>,
    /// What it will hold when the call that entered ends.
    after_exit: Cell<*mut ()>,
    /// What keeps the owner from an inline call through this slot although it is idle. One word, so that it is one
    /// test.
    ///
    /// - [`NUDGED`]: the owner is asked to run the [`Errand`] before it enters anything again.
    /// - [`LATE`]: the thread has run the destructor that gives its chain back, so the last call in the chain does
    ///   that.
    flags: AtomicU8,
    /// A copy of the process's kind of barrier, here so that a reader touches no other cache line.
    barrier: Barrier,
    taken: AtomicBool,
    /// The owner's number in the system, with [`PAST_ITS_END`] for one that is late; 0 when it is nobody's.
    thread: AtomicU32,
    /// How many calls rely on the slot besides the one that entered.
    nested: Cell<usize>,
    /// In the head of a chain: how many other slots of the chain are in use.
    inner_in_use: Cell<usize>,
    /// The slot for the next swap point that the owner enters while it is inside this one.
    inner: Cell<*const Slot>,
    /// The slot made before this one. Written before the slot is published, then constant.
    next: *const Slot,
}

// SAFETY: the `Cell`s are touched only by the thread that has taken the slot: it finds the slot through thread-locals,
// and through calls, which are not `Send`. Taking it is an Acquire that pairs with the Release by which the thread
// before gave it back. `next` is constant.
unsafe impl Send for Slot {}
// SAFETY: what others than the owner use are the atomics and `next`, which is constant once the slot is published.
unsafe impl Sync for Slot {}

/// What a thread is inside of, as its slot says.
pub(super) enum Inside {
    Nothing,
    Value(*const ()),
    /// It is about to name something.
    Unknown,
}

impl Slot {
    /// For the head of a chain: whether its owner may enter inline.
    #[inline]
    fn is_ready(&self) -> bool {
        // Relaxed: who runs the errand asks `take_nudge`.
        self.is_null() && self.flags.load(Ordering::Relaxed) == 0
    }

    /// Whether it holds null. If it is the head of a chain, then nothing of the chain is in use.
    #[inline]
    fn is_null(&self) -> bool {
        // Relaxed: only the owner writes it.
        self.holds.load(Ordering::Relaxed).is_null()
    }

    /// Whether no call relies on it.
    #[inline]
    fn is_idle(&self) -> bool {
        // Relaxed: only the owner writes it.
        let holds = self.holds.load(Ordering::Relaxed);
        holds.is_null() || holds == INNER_IN_USE
    }

    /// Whether the owner is asked to run the errand.
    fn is_nudged(&self) -> bool {
        // Relaxed: who runs the errand asks `take_nudge`.
        self.flags.load(Ordering::Relaxed) & NUDGED != 0
    }

    /// Whether the owner is to run the errand; it is not asked twice for the same nudge.
    fn take_nudge(&self) -> bool {
        // Acquire: pairs with the Release in `nudge_all`, for what is to be seen in the errand.
        self.flags.fetch_and(!NUDGED, Ordering::Acquire) & NUDGED != 0
    }

    #[inline]
    fn is_late(&self) -> bool {
        // Relaxed: only the owner writes this bit.
        self.flags.load(Ordering::Relaxed) & LATE != 0
    }

    fn become_late(&self) {
        // Relaxed, both: only the owner reads the flag, and for others the fence in `GiveBack` orders the number.
        self.thread
            .store(this_thread() | PAST_ITS_END, Ordering::Relaxed);
        self.flags.fetch_or(LATE, Ordering::Relaxed);
    }

    /// Says that the owner, whose slot is idle, is about to load a value. The light barrier is included.
    #[inline]
    pub(super) fn announce(&self) {
        // Relaxed: whoever sees this concludes nothing, but asks again.
        self.holds.store(ENTERING, Ordering::Relaxed);
        self.barrier.light();
    }

    /// `value` begins with the [`CellId`] that it has in `current`, and is alive until the slot has ceased to
    /// name it.
    #[inline]
    pub(super) fn name(&self, value: *const ()) {
        // Release: whoever sees this value concludes that the owner has left the one before. Pairs with
        // the Acquire in `may_hold`. (Loom does not miss it when it is Relaxed: the full fence in
        // `announce` stands in for it. The asymmetric one does not.)
        self.holds.store(value.cast_mut(), Ordering::Release);
    }

    /// Ends the call that entered.
    #[inline]
    pub(super) fn leave(&self) {
        self.now_holds(self.after_exit.get());
    }

    /// Begins one more call on what the slot names.
    #[inline]
    fn nest(&self, value: NonNull<()>) {
        self.nested.set(self.nested.get() + 1);
        let returned = value.as_ptr().map_addr(|address| address | RETURNED);
        self.after_exit.set(returned);
    }

    /// Ends a call begun by [`nest`](Self::nest), which may be before or after the call that entered ends. Whether it
    /// was the last that relied on the slot.
    #[inline]
    fn end_nested(&self) -> bool {
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
    fn inner_begins(&self) {
        let others = self.inner_in_use.get();
        self.inner_in_use.set(others + 1);
        if others == 0 && self.nested.get() == 0 {
            self.after_exit.set(INNER_IN_USE);
        }
    }

    /// For the head of a chain: another slot of the chain is idle again.
    #[inline]
    fn inner_ends(&self) {
        let others = self.inner_in_use.get() - 1;
        self.inner_in_use.set(others);
        if others == 0 && self.nested.get() == 0 {
            self.after_exit.set(ptr::null_mut());
        }
    }

    /// What it holds when it is idle.
    #[inline]
    fn idle_word(&self) -> *mut () {
        if self.inner_in_use.get() == 0 {
            ptr::null_mut()
        } else {
            INNER_IN_USE
        }
    }

    #[inline]
    fn now_holds(&self, word: *mut ()) {
        // Release: what the owner did with the value happens before anybody sees that the slot has ceased to
        // name it. Pairs with the Acquires in `may_hold` and `names`. The same for a change from one idle word to
        // the other: whoever sees only the later one has no other write to pair with.
        self.holds.store(word, Ordering::Release);
    }

    /// The value of `cell` that the owner has named here, while any call relies on it.
    #[inline]
    fn named_of(&self, cell: CellId) -> Option<NonNull<()>> {
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

    /// The first after this one in its chain that is in use. There must be one.
    fn next_in_use(&self) -> &'static Slot {
        let mut slot = self.inner();
        while slot.is_idle() {
            slot = slot.inner();
        }
        slot
    }

    /// The slot after this one in its chain, which is made longer if need be.
    fn inner(&self) -> &'static Slot {
        self.inner_if_made().unwrap_or_else(|| {
            let new = take(self.is_late());
            self.inner.set(new);
            new
        })
    }

    #[inline]
    fn inner_if_made(&self) -> Option<&'static Slot> {
        // SAFETY: slots are never freed.
        unsafe { self.inner.get().as_ref() }
    }

    /// Whether the slot's thread may be using `value`: it named it, or it is just about to name
    /// something.
    pub(super) fn may_hold(&self, value: *const ()) -> bool {
        // Acquire: pairs with the Releases in `name` and `now_holds`.
        let holds = self.holds.load(Ordering::Acquire);
        holds == ENTERING || ptr::addr_eq(without_returned(holds), value)
    }

    /// Whether a call of the slot's thread relies on `value`. For a value that nobody can be about to name.
    pub(super) fn names(&self, value: *const ()) -> bool {
        // Acquire: pairs with the Release in `now_holds`.
        ptr::addr_eq(without_returned(self.holds.load(Ordering::Acquire)), value)
    }

    /// What the slot's thread is inside of, at this moment.
    pub(super) fn inside(&self) -> Inside {
        // Acquire: pairs with the Releases in `name` and `now_holds`.
        match self.holds.load(Ordering::Acquire) {
            ENTERING => Inside::Unknown,
            holds if holds.is_null() || holds == INNER_IN_USE => Inside::Nothing,
            holds => Inside::Value(without_returned(holds).cast_const()),
        }
    }

    pub(super) fn thread(&self) -> u32 {
        self.thread.load(Ordering::Relaxed) & !PAST_ITS_END
    }

    fn try_take(&self) -> bool {
        // Acquire: pairs with the Release in `give_back`, for the fields that are the owner's.
        !self.taken.load(Ordering::Relaxed)
            && self
                .taken
                .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }
}

#[inline]
fn without_returned(holds: *mut ()) -> *mut () {
    holds.map_addr(|address| address & !RETURNED)
}

/// The process's kind of barrier.
pub(super) fn barrier() -> Barrier {
    REGISTRY.barrier
}

/// Every slot there is.
pub(super) fn all() -> impl Iterator<Item = &'static Slot> {
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
    // Pairs with the fence in `GiveBack`: either the slot is seen to be late or given back, or its thread sees whatever
    // the caller did before it asked.
    fence(Ordering::SeqCst);
    // Relaxed: one word says it all, and the fences order it.
    all().any(|slot| slot.thread.load(Ordering::Relaxed) == thread)
}

/// For a child that the calling thread has forked: no other thread is there, whatever its slots say, and this one has
/// another number. Calls nothing but the system.
pub(crate) fn forget_other_threads() {
    let is_mine =
        |slot: &Slot| head().is_some_and(|head| slots_of(head).any(|it| ptr::eq(it, slot)));
    for slot in all().filter(|slot| slot.taken.load(Ordering::Relaxed)) {
        // Relaxed, all of them: there is no other thread.
        if is_mine(slot) {
            let late = slot.thread.load(Ordering::Relaxed) & PAST_ITS_END;
            slot.thread.store(this_thread() | late, Ordering::Relaxed);
            continue;
        }
        slot.holds.store(ptr::null_mut(), Ordering::Relaxed);
        slot.after_exit.set(ptr::null_mut());
        slot.flags.store(0, Ordering::Relaxed);
        slot.nested.set(0);
        slot.inner_in_use.set(0);
        slot.inner.set(ptr::null());
        slot.thread.store(0, Ordering::Relaxed);
        slot.taken.store(false, Ordering::Relaxed);
    }
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
        // Release: pairs with the Acquire in `take_nudge`.
        slot.flags.fetch_or(NUDGED, Ordering::Release);
    }
}

/// Runs the errand if this thread is asked to, and is inside of nothing.
#[inline]
pub(super) fn run_errand() {
    if let Some(slot) = head()
        && slot.is_null()
        && slot.is_nudged()
    {
        run_errand_of(slot);
    }
}

#[cold]
fn run_errand_of(slot: &Slot) {
    if slot.take_nudge()
        && let Some(errand) = ERRAND.get()
    {
        errand();
    }
}

/// Makes sure that this thread has a slot, and runs the errand if the thread is asked to and is inside of nothing.
/// For threads that use a plugin without entering a cell, and for those that must be known not to be ending
/// ([`is_before_its_end`]).
#[inline]
pub(crate) fn come_by() {
    match head() {
        Some(slot) if !slot.is_nudged() => {}
        _ => give_back_if_late(chain()),
    }
}

/// The head of this thread's chain, if it has one already.
#[inline]
fn head() -> Option<&'static Slot> {
    // SAFETY: slots are never freed.
    unsafe { HEAD.with(Cell::get).as_ref() }
}

/// Whether this thread is inside of a call, of whichever cell.
pub(crate) fn is_inside_call() -> bool {
    head().is_some_and(|head| !head.is_null())
}

/// The head of this thread's chain, if an inline call may enter through it: the thread is inside of nothing, has no
/// errand to run, and is not ending.
#[inline]
pub(super) fn ready_head() -> Option<&'static Slot> {
    head().filter(|head| head.is_ready())
}

/// Begins a call of this thread that is not inline: gives the slot that it is to rely on until [`end`], and what
/// that slot names already, if it is a value of `cell`. If it names nothing, the caller enters through it at once.
///
/// Runs the errand before, if the thread is inside of nothing.
#[inline]
pub(super) fn begin(cell: CellId) -> (&'static Slot, Option<NonNull<()>>) {
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
    // The errand has left a call behind that has not ended.
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
        slot = slot.next_in_use();
        if let Some(value) = slot.named_of(cell) {
            slot.nest(value);
            return (slot, Some(value));
        }
    }
    (occupy_idle(head), None)
}

/// Begins a call of this thread that is to enter, whatever the thread is inside of.
pub(super) fn begin_apart() -> &'static Slot {
    occupy_idle(chain())
}

/// An idle slot of the chain, counted as one in use. The chain is made longer if need be.
fn occupy_idle(head: &'static Slot) -> &'static Slot {
    if head.is_idle() {
        return head;
    }
    let mut slot = head.inner();
    while !slot.is_idle() {
        slot = slot.inner();
    }
    head.inner_begins();
    slot
}

/// Ends a call of this thread that relies on `slot`: one that is nested there, or the one that entered.
#[inline]
pub(super) fn end(slot: &Slot, is_nested: bool) {
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

/// The head of this thread's chain, which is made if need be. Runs the errand before that.
fn chain() -> &'static Slot {
    run_errand();
    head().unwrap_or_else(new_chain)
}

#[cold]
fn new_chain() -> &'static Slot {
    let new = take(GIVE_BACK.try_with(|_| ()).is_err());
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
    for slot in slots_of(head) {
        slot.inner.set(ptr::null());
        // Relaxed, both: for the next owner, which reads the flag after its Acquire in `try_take`.
        slot.flags.fetch_and(!LATE, Ordering::Relaxed);
        slot.thread.store(0, Ordering::Relaxed);
        // Release: pairs with the Acquire in `try_take`.
        slot.taken.store(false, Ordering::Release);
    }
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
fn take(is_late: bool) -> &'static Slot {
    let slot = all().find(|slot| slot.try_take()).unwrap_or_else(add);
    if is_late {
        slot.become_late();
    } else {
        slot.thread.store(this_thread(), Ordering::Relaxed);
    }
    slot
}

fn add() -> &'static Slot {
    let slot = Box::into_raw(Box::new(Slot {
        holds: AtomicPtr::new(ptr::null_mut()),
        after_exit: Cell::new(ptr::null_mut()),
        flags: AtomicU8::new(0),
        barrier: REGISTRY.barrier,
        taken: AtomicBool::new(true),
        thread: AtomicU32::new(0),
        nested: Cell::new(0),
        inner_in_use: Cell::new(0),
        inner: Cell::new(ptr::null()),
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
            // SAFETY: slots are never freed, and this one is not written to any more but through its cells.
            Ok(_) => return unsafe { &*slot },
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
