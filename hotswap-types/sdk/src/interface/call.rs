//! One call: the caller's half and the half of who is called.

use std::{
    mem::MaybeUninit,
    panic::{self, AssertUnwindSafe},
    ptr, slice,
};

use abi_stable::StableAbi;

use super::{
    data::{Reader, Unreadable},
    fault::Fault,
    object::{Keeper, RawObject, Servable},
    owned::Owned,
};
use crate::{calling, fault::caught_message};

/// One method of a value. Gives 0 if the answer was put where the caller wants it.
///
/// `this` is the address of the value, `arguments` leads to the views of the arguments, and `out` is for the functions of
/// `caller`.
pub type Entry = unsafe extern "C" fn(
    this: *const (),
    arguments: *const (),
    out: *mut (),
    caller: *const Caller,
) -> u32;

/// How a caller is given an answer. Its code is the caller's.
#[derive(Debug, StableAbi)]
#[repr(C)]
pub struct Caller {
    /// Reads the answer that a view leads to.
    put: unsafe extern "C" fn(out: *mut (), view: *const ()),
    /// Says why there is none.
    fail: unsafe extern "C" fn(out: *mut (), fault: u32, text: *const u8, length: usize),
}

/// The first argument, and those after it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Pair<A, B>(pub A, pub B);

/// No argument.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Nil;

/// The methods of a trait for values that `S` leads to, in the trait's order.
///
/// # Safety
///
/// There is an entry for each method that the trait's description has, and it takes and gives what that says.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an interface",
    label = "not an interface",
    note = "mark the trait with `#[hotswap_sdk::interface]`"
)]
pub unsafe trait Serve<S> {
    /// One for each.
    const ENTRIES: &'static [Entry];
}

/// A value of the other side.
///
/// # Invariants
///
/// `this` is an address for the entries, of which there are `count`. All are there for as long as this is. The value
/// may be used by several threads at once.
pub struct Remote {
    this: *const (),
    entries: *const Entry,
    count: usize,
    /// For objects that it makes.
    keeper: Keeper,
    /// If it is an object of its own.
    drop: Option<unsafe extern "C" fn(this: *const ())>,
    /// The code of `drop` and of the entries. Gone last.
    kept: Option<Box<dyn Send + Sync>>,
}

// SAFETY: the invariants of `Remote`.
unsafe impl Send for Remote {}
// SAFETY: the invariants of `Remote`.
unsafe impl Sync for Remote {}

/// The parts of a [`Remote`], as they cross.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RawRemote {
    pub(super) this: *const (),
    pub(super) entries: *const Entry,
    pub(super) count: usize,
}

/// Where a caller wants its answer.
///
/// # Invariants
///
/// A bare answer is written to `bare`, which is therefore the first. For others `read` is initialised, and `put` sets it.
/// `fail` initialises `fault` when the entry does not give 0, and nothing else does.
#[repr(C)]
pub struct Answered<'a, R> {
    bare: MaybeUninit<R>,
    read: MaybeUninit<Option<Result<R, Unreadable>>>,
    keeper: &'a Keeper,
    fault: MaybeUninit<Fault>,
}

impl Remote {
    /// # Safety
    ///
    /// The invariants hold for `raw`.
    pub(super) unsafe fn new(raw: RawRemote, keeper: Keeper) -> Self {
        let RawRemote {
            this,
            entries,
            count,
        } = raw;
        Self {
            this,
            entries,
            count,
            keeper,
            drop: None,
            kept: None,
        }
    }

    /// # Safety
    ///
    /// The invariants hold for `raw` until it is dropped, which is left to this, and until `kept` is.
    pub(super) unsafe fn object(
        raw: RawObject,
        keeper: Keeper,
        kept: Option<Box<dyn Send + Sync>>,
    ) -> Self {
        // SAFETY: the caller's promise.
        let mut object = unsafe { Self::new(raw.remote, keeper) };
        object.drop = Some(raw.drop);
        object.kept = kept;
        object
    }

    /// How objects are kept that it makes, or that it is given and gives back.
    #[inline]
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Whether the other side has this method.
    #[inline]
    pub fn has(&self, method: usize) -> bool {
        method < self.count
    }

    /// Calls a method.
    ///
    /// # Panics
    ///
    /// With a [`Fault`], if there is no answer.
    ///
    /// # Safety
    ///
    /// The other side [has](Self::has) the method, which takes these arguments and gives an `R`; the descriptions of both
    /// sides agree on that. What the arguments lead to stays as it is meanwhile.
    #[inline]
    pub unsafe fn call<A, R: Owned>(&self, method: usize, arguments: A) -> R {
        // SAFETY: there are more.
        let entry = unsafe { self.entries.add(method) };
        // SAFETY: the invariants.
        let entry = unsafe { *entry };
        // SAFETY: the caller's promise.
        match unsafe { ask(entry, self.this, &arguments, &self.keeper) } {
            Ok(answer) => answer,
            Err(fault) => raise(fault),
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: the object is ours, and nobody uses it any more. Its code is kept until this has returned.
            unsafe { drop(self.this) };
        }
        // Now that nothing of it is called any more.
        self.kept = None;
    }
}

/// Calls an entry.
///
/// # Safety
///
/// As for [`Remote::call`].
#[inline]
pub(super) unsafe fn ask<A, R: Owned>(
    entry: Entry,
    this: *const (),
    arguments: &A,
    keeper: &Keeper,
) -> Result<R, Fault> {
    let mut answered = Answered::<R> {
        bare: MaybeUninit::uninit(),
        read: MaybeUninit::uninit(),
        keeper,
        fault: MaybeUninit::uninit(),
    };
    if !R::IS_BARE {
        answered.read.write(None);
    }
    let out = (&raw mut answered).cast();
    let arguments = ptr::from_ref(arguments).cast();
    let caller = const { &Answered::<'static, R>::CALLER };
    let calling = calling::begin();
    // SAFETY: the caller's promise.
    let failed = unsafe { entry(this, arguments, out, caller) };
    drop(calling);
    if !R::IS_BARE {
        // SAFETY: the invariants of `Answered`.
        let read = unsafe { answered.read.assume_init() };
        if let Some(read) = read
            && failed == 0
        {
            return read.map_err(Unreadable::into_fault);
        }
    } else if failed == 0 {
        // SAFETY: the invariants of `Answered`.
        return Ok(unsafe { answered.bare.assume_init() });
    }
    if failed == 0 {
        return Err(Fault::Panicked("no answer was given".to_owned()));
    }
    // SAFETY: the invariants of `Answered`.
    Err(unsafe { answered.fault.assume_init() })
}

impl<R: Owned> Answered<'_, R> {
    const CALLER: Caller = Caller {
        put: Self::put,
        fail: Self::fail,
    };

    unsafe extern "C" fn put(out: *mut (), view: *const ()) {
        // SAFETY: the entry passes on what `ask` has given to it, which nobody else uses meanwhile.
        let answered = unsafe { &mut *out.cast::<Self>() };
        // SAFETY: the entry gives a view of its answer.
        let view = unsafe { view.cast::<R::View>().read() };
        let keeper = answered.keeper;
        // No panic may go on into the other side's code.
        let read = catch(|| {
            // SAFETY: the entry keeps its answer until this returns.
            unsafe { R::take(view, Reader::new(keeper)) }
        });
        answered.read.write(Some(read));
    }

    unsafe extern "C" fn fail(out: *mut (), fault: u32, text: *const u8, length: usize) {
        // SAFETY: as in `put`.
        let answered = unsafe { &mut *out.cast::<Self>() };
        // SAFETY: the entry gives a text.
        let text = unsafe { slice::from_raw_parts(text, length) };
        answered
            .fault
            .write(Fault::of(fault, &String::from_utf8_lossy(text)));
    }
}

/// The half of who is called: finds the value, calls `method`, and gives its answer to the caller.
///
/// # Safety
///
/// The arguments are those of an [`Entry`] that serves values that an `S` leads to, and takes what an `A` is of and
/// gives an `R`.
#[inline]
pub unsafe fn serve<S: Servable, A: Copy, R: Owned>(
    this: *const (),
    arguments: *const (),
    out: *mut (),
    caller: *const Caller,
    method: impl FnOnce(&S::Target, A, Reader<'_>) -> Result<R, Unreadable>,
) -> u32 {
    let served = catch(|| {
        // SAFETY: the value is there for as long as the caller may call.
        let this = unsafe { &*this.cast::<S>() };
        // SAFETY: the caller's views lie there.
        let arguments = unsafe { arguments.cast::<A>().read() };
        let answer = method(this, arguments, Reader::new(this.keeper()))?;
        if R::IS_BARE {
            // SAFETY: the caller's place for it, which comes first.
            unsafe { out.cast::<R>().write(answer) };
        } else {
            let parked = answer.park(this.keeper());
            let view = R::view_parked(&parked);
            // SAFETY: the caller's is there until this returns.
            let put = unsafe { (*caller).put };
            // SAFETY: it is for this place and for such a view.
            unsafe { put(out, (&raw const view).cast()) };
        }
        Ok(())
    });
    match served {
        Ok(()) => 0,
        // SAFETY: the caller's own function and place.
        Err(unreadable) => unsafe { give_up(unreadable, out, caller) },
    }
}

/// # Safety
///
/// As for [`serve`].
#[cold]
unsafe fn give_up(unreadable: Unreadable, out: *mut (), caller: *const Caller) -> u32 {
    let fault = unreadable.into_fault();
    let text = fault.text();
    // SAFETY: the caller's is there until this returns.
    let fail = unsafe { (*caller).fail };
    // SAFETY: it is for this place; the text is there until it returns.
    unsafe { fail(out, fault.code(), text.as_ptr(), text.len()) };
    1
}

/// Runs what must not panic into the other side's code.
#[inline]
pub(super) fn catch<T>(body: impl FnOnce() -> Result<T, Unreadable>) -> Result<T, Unreadable> {
    // Unwind-safe: what the body may leave broken is its side's own, as in a thread of it.
    panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let fault = match payload.downcast::<Fault>() {
            Ok(fault) => *fault,
            Err(payload) => Fault::Panicked(caught_message(payload)),
        };
        Err(Unreadable::new(fault))
    })
}

/// The caller panics as it would if the method were its own. The panic hook is not called: whoever was called has noted
/// what happened.
#[cold]
fn raise(fault: Fault) -> ! {
    panic::resume_unwind(Box::new(fault))
}
