//! Wakers of the other side.
//!
//! The layout of a [`Waker`] is not the same in all versions of the standard library, so a waker crosses as its address
//! and functions of its own side. For `poll`, which only borrows it, that costs nothing. A clone of it is an allocation
//! on each side.
//!
//! A clone may be kept for long: by a timer, or in a list of waiting tasks. If it is a plugin's and the host keeps it,
//! it leases the plugin's generation. If it is the host's and a plugin keeps it, it needs no lease, because the host's
//! code is never unmapped.
//!
//! Whoever wakes or drops a waker of the other side does not get its panics, and often holds a lock: they end on the
//! side of the waker.

use std::{
    mem::ManuallyDrop,
    ptr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, RawWaker, RawWakerVTable, Waker},
};

use super::{
    call::catch,
    data::ReadError,
    fault::FaultKind,
    object::{LeasedBy, Leases, drop_quietly},
    runtime,
};

/// A waker that one side lends to the other for a call of `poll`.
///
/// # Invariants
///
/// `waker` is the address of a [`Waker`] of the side that `vtable` belongs to.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct WakerView {
    waker: *const (),
    vtable: *const WakerVtable,
}

/// The functions for a waker of one side. They are code of that side.
#[derive(Debug)]
#[repr(C)]
struct WakerVtable {
    /// Returns the address of a clone, for `drop`.
    clone: unsafe extern "C" fn(waker: *const ()) -> *const (),
    will_wake: unsafe extern "C" fn(waker: *const (), other: *const ()) -> bool,
    wake_by_ref: unsafe extern "C" fn(waker: *const ()),
    drop: unsafe extern "C" fn(waker: *const ()),
}

/// A waker that the other side has lent, as the data of one with [`LENT`].
struct Lent<'a> {
    view: WakerView,
    leases: &'a Leases,
    /// The first clone.
    kept: OnceLock<Waker>,
    /// Whether a clone got no lease, and so wakes nobody.
    is_retired: AtomicBool,
}

/// A clone of a waker of the other side, as the data of one with [`KEPT`], in an [`Arc`].
///
/// # Invariants
///
/// `view` has a clone, which this owns.
struct Kept {
    view: WakerView,
    /// Keeps the code of the functions mapped. `None` if they are the host's. Dropped last.
    lease: Option<Box<dyn Send + Sync>>,
}

// SAFETY: wakers are `Send`, and so is the lease.
unsafe impl Send for Kept {}
// SAFETY: wakers are `Sync`, and so is the lease.
unsafe impl Sync for Kept {}

/// The functions for wakers of this side. (A static, so that it has one address.)
static OWN: WakerVtable = WakerVtable {
    clone: clone_own,
    will_wake: will_wake_own,
    wake_by_ref: wake_own,
    drop: drop_own,
};

/// The waker with this is on the stack of a `poll`, which lends it: nobody can own it.
static LENT: RawWakerVTable = RawWakerVTable::new(clone_lent, wake_lent, wake_lent, |_| ());

static KEPT: RawWakerVTable =
    RawWakerVTable::new(clone_kept, wake_kept, wake_kept_by_ref, drop_kept);

unsafe extern "C" fn clone_own(waker: *const ()) -> *const () {
    // SAFETY: the other side passes the address of a view, of a waker of this side that lives during this call
    // (contract of `WakerView`).
    let waker = unsafe { &*waker.cast::<Waker>() };
    let clone = catch(|| Ok(waker.clone())).unwrap_or_else(|_| Waker::noop().clone());
    Box::into_raw(Box::new(clone)).cast_const().cast()
}

unsafe extern "C" fn will_wake_own(waker: *const (), other: *const ()) -> bool {
    // SAFETY: the other side passes the addresses of two views, of wakers of this side that live during this call
    // (contract of `WakerView`).
    let waker = unsafe { &*waker.cast::<Waker>() };
    // SAFETY: it is the second of these wakers.
    let other = unsafe { &*other.cast::<Waker>() };
    waker.will_wake(other)
}

unsafe extern "C" fn wake_own(waker: *const ()) {
    // SAFETY: the other side passes the address of a view, of a waker of this side that lives during this call
    // (contract of `WakerView`).
    let waker = unsafe { &*waker.cast::<Waker>() };
    drop(catch(|| {
        // If it is a plugin's, this may be a thread of the host's.
        runtime::wake(waker);
        Ok(())
    }));
}

unsafe extern "C" fn drop_own(waker: *const ()) {
    // SAFETY: the address is from `clone_own`, of a leaked box. Its owner, a `Kept`, calls this once, when it is
    // dropped.
    drop_quietly(unsafe { Box::from_raw(waker.cast_mut().cast::<Waker>()) });
}

impl WakerView {
    /// Lends `waker` to the other side. The view is used only while `waker` is borrowed.
    pub(super) fn new(waker: &Waker) -> Self {
        // What only passes on a waker of the host's is left out, so that a task that is polled through both sides wakes
        // at once. A waker of a plugin's is not passed on: a third side would keep it without a lease.
        let passes_on = if ptr::eq(waker.vtable(), &raw const LENT) {
            // SAFETY: the data of a waker with this vtable is a `Lent`, which lives as long as that.
            let lent = unsafe { &*waker.data().cast::<Lent<'_>>() };
            lent.leases.is_none().then_some(lent.view)
        } else if ptr::eq(waker.vtable(), &raw const KEPT) {
            // SAFETY: the data of a waker with this vtable is a `Kept`, which lives as long as that.
            let kept = unsafe { &*waker.data().cast::<Kept>() };
            kept.lease.is_none().then_some(kept.view)
        } else {
            None
        };
        passes_on.unwrap_or(Self {
            waker: ptr::from_ref(waker).cast(),
            vtable: &raw const OWN,
        })
    }

    /// Polls with a waker of this side that wakes the lent one. If it is a plugin's, a clone gets its lease from
    /// `leases`.
    ///
    /// `kept` is what this has left for the next poll of the same future. With it, a clone of the waker is one that
    /// [`will_wake`](Waker::will_wake) the same task as that of the poll before, and costs a counter. It is only the
    /// host's: one of a plugin's would lease the generation for as long as the future exists.
    ///
    /// # Errors
    ///
    /// The future is pending, and has cloned the waker of a plugin whose generation is retired: nothing would wake the
    /// task.
    ///
    /// # Safety
    ///
    /// The view is from [`new`](Self::new) on either side, whose waker is borrowed during this call. If it is a
    /// plugin's, `leases` are those of that plugin, whose code stays mapped during this call.
    pub(super) unsafe fn poll<R>(
        self,
        leases: &Leases,
        kept: &mut Option<Waker>,
        poll: impl FnOnce(&Waker) -> Poll<R>,
    ) -> Result<Poll<R>, ReadError> {
        if ptr::eq(self.vtable, &raw const OWN) {
            // SAFETY: with this vtable it is a waker of this side (invariant), which is borrowed during this call (`#
            // Safety` of this function).
            return Ok(poll(unsafe { &*self.waker.cast::<Waker>() }));
        }
        if let Some(waker) = kept.as_ref() {
            // SAFETY: `kept` is a clone of a `Lent`, and so has a `Kept`, which lives as long as that.
            let clone = unsafe { &*waker.data().cast::<Kept>() };
            let are_of_one_side = ptr::eq(clone.view.vtable, self.vtable);
            // SAFETY: both are wakers of that side, which live during this call.
            if are_of_one_side && unsafe { (self.vtable().will_wake)(clone.view.waker, self.waker) }
            {
                return Ok(poll(waker));
            }
            *kept = None;
        }
        let lent = Lent {
            view: self,
            leases,
            kept: OnceLock::new(),
            is_retired: AtomicBool::new(false),
        };
        // SAFETY: the functions of the vtable are for the address of a `Lent`, which lives until this returns. Until
        // then the waker is only borrowed, and a clone of it is another one, a `Kept`.
        let waker = unsafe { Waker::new((&raw const lent).cast(), &LENT) };
        // It owns nothing, and its destructor does nothing.
        let polled = poll(&ManuallyDrop::new(waker));
        if polled.is_pending() {
            // Relaxed: a thread that has used the borrowed waker was joined before `poll` returned.
            if lent.is_retired.load(Ordering::Relaxed) {
                return Err(ReadError::new(FaultKind::Retired));
            }
            *kept = lent.kept.into_inner();
        }
        Ok(polled)
    }

    fn vtable(&self) -> &WakerVtable {
        // SAFETY: it is a static of its side (invariant). Whoever has a view uses it only while that is mapped: a
        // `Lent` during the call of `poll`, and a `Kept` as long as it has its lease.
        unsafe { &*self.vtable }
    }
}

unsafe fn clone_lent(data: *const ()) -> RawWaker {
    // SAFETY: a waker with `LENT` has a `Lent`, which lives as long as the waker.
    let lent = unsafe { &*data.cast::<Lent<'_>>() };
    let lease = match lent.leases {
        Some(leases) => {
            let Some(lease) = Arc::clone(leases).lease(LeasedBy::Waker) else {
                // A thread of the plugin polls, or a destructor. A panic here would be one of the host's future.
                lent.is_retired.store(true, Ordering::Relaxed);
                let nobody = Waker::noop();
                return RawWaker::new(nobody.data(), nobody.vtable());
            };
            Some(lease)
        }
        None => None,
    };
    // SAFETY: the view's waker is borrowed while the `Lent` lives.
    let waker = unsafe { (lent.view.vtable().clone)(lent.view.waker) };
    let view = WakerView { waker, ..lent.view };
    let kept = Arc::into_raw(Arc::new(Kept { view, lease }));
    if lent.leases.is_none() {
        // SAFETY: the address is from `Arc::into_raw`, and has a count.
        let another = unsafe { clone_kept(kept.cast()) };
        // SAFETY: the functions are for such an address, of which `another` owns a count.
        drop(lent.kept.set(unsafe { Waker::from_raw(another) }));
    }
    RawWaker::new(kept.cast(), &KEPT)
}

unsafe fn wake_lent(data: *const ()) {
    // SAFETY: a waker with `LENT` has a `Lent`, which lives as long as the waker.
    let lent = unsafe { &*data.cast::<Lent<'_>>() };
    // SAFETY: the view's waker is borrowed while the `Lent` lives.
    unsafe { (lent.view.vtable().wake_by_ref)(lent.view.waker) };
}

unsafe fn clone_kept(data: *const ()) -> RawWaker {
    // SAFETY: a waker with `KEPT` owns a count of an `Arc<Kept>` with this address.
    unsafe { Arc::increment_strong_count(data.cast::<Kept>()) };
    RawWaker::new(data, &KEPT)
}

unsafe fn wake_kept(data: *const ()) {
    // SAFETY: the data is that of a waker with `KEPT`.
    unsafe { wake_kept_by_ref(data) };
    // SAFETY: the data is that of a waker with `KEPT`, which is consumed.
    unsafe { drop_kept(data) };
}

unsafe fn wake_kept_by_ref(data: *const ()) {
    // SAFETY: a waker with `KEPT` owns a count of an `Arc<Kept>` with this address.
    let kept = unsafe { &*data.cast::<Kept>() };
    // SAFETY: the clone lives as long as the `Kept` that owns it.
    unsafe { (kept.view.vtable().wake_by_ref)(kept.view.waker) };
}

unsafe fn drop_kept(data: *const ()) {
    // SAFETY: a waker with `KEPT` owns a count of an `Arc<Kept>` with this address, and is dropped here.
    drop(unsafe { Arc::from_raw(data.cast::<Kept>()) });
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: this owns the clone, which is dropped once, here. The code stays mapped until `lease` is dropped.
        unsafe { (self.view.vtable().drop)(self.view.waker) };
        // Last: no code of the other side runs after this.
        self.lease = None;
    }
}
