//! One call: the caller's half and the half of who is called.

use std::{
    mem::MaybeUninit,
    panic::{self, AssertUnwindSafe},
    ptr, slice,
};

use abi_stable::StableAbi;

use super::{
    by_value::ByValue,
    data::{ReadContext, ReadError},
    fault::Fault,
    object::{DispatchTarget, Leases, RawObject},
};
use crate::{calling, fault::caught_message};

/// One method of a value. Gives 0 if the answer was put where the caller wants it.
///
/// `this` is the address of the value, `arguments` leads to the views of the arguments, and `out` is for the functions of
/// `reply`.
pub type Entry = unsafe extern "C" fn(
    this: *const (),
    arguments: *const (),
    out: *mut (),
    reply: *const ReplyVtable,
) -> u32;

/// How a caller is given an answer. Its code is the caller's.
#[derive(Debug, StableAbi)]
#[repr(C)]
pub struct ReplyVtable {
    /// Reads the answer that a view leads to.
    set_value: unsafe extern "C" fn(out: *mut (), view: *const ()),
    /// Says why there is none.
    set_fault: unsafe extern "C" fn(out: *mut (), fault: u32, text: *const u8, length: usize),
}

/// The first argument, and those after it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Cons<A, B>(pub A, pub B);

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
pub unsafe trait Dispatch<S> {
    /// One for each.
    const VTABLE: &'static [Entry];
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
    leases: Leases,
    /// If it is an object of its own.
    drop: Option<unsafe extern "C" fn(this: *const ())>,
    /// The code of `drop` and of the entries. Gone last.
    lease: Option<Box<dyn Send + Sync>>,
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
/// A plain answer is written to `plain`, which is therefore the first. For others `decoded` is initialised, and `set_value` sets it.
/// `set_fault` initialises `fault` when the entry does not give 0, and nothing else does.
#[repr(C)]
pub struct ReplySlot<'a, R> {
    plain: MaybeUninit<R>,
    decoded: MaybeUninit<Option<Result<R, ReadError>>>,
    leases: &'a Leases,
    fault: MaybeUninit<Fault>,
}

impl Remote {
    /// # Safety
    ///
    /// The invariants hold for `raw`.
    pub(super) unsafe fn new(raw: RawRemote, leases: Leases) -> Self {
        let RawRemote {
            this,
            entries,
            count,
        } = raw;
        Self {
            this,
            entries,
            count,
            leases,
            drop: None,
            lease: None,
        }
    }

    /// # Safety
    ///
    /// The invariants hold for `raw` until it is dropped, which is left to this, and until `lease` is.
    pub(super) unsafe fn object(
        raw: RawObject,
        leases: Leases,
        lease: Option<Box<dyn Send + Sync>>,
    ) -> Self {
        // SAFETY: the caller's promise.
        let mut object = unsafe { Self::new(raw.remote, leases) };
        object.drop = Some(raw.drop);
        object.lease = lease;
        object
    }

    /// How objects are kept that it makes, or that it is given and gives back.
    #[inline]
    pub fn leases(&self) -> &Leases {
        &self.leases
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
    pub unsafe fn call<A, R: ByValue>(&self, method: usize, arguments: A) -> R {
        // SAFETY: there are more.
        let entry = unsafe { self.entries.add(method) };
        // SAFETY: the invariants.
        let entry = unsafe { *entry };
        // SAFETY: the caller's promise.
        match unsafe { call_entry(entry, self.this, &arguments, &self.leases) } {
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
        self.lease = None;
    }
}

/// Calls an entry.
///
/// # Safety
///
/// As for [`Remote::call`].
#[inline]
pub(super) unsafe fn call_entry<A, R: ByValue>(
    entry: Entry,
    this: *const (),
    arguments: &A,
    leases: &Leases,
) -> Result<R, Fault> {
    let mut slot = ReplySlot::<R> {
        plain: MaybeUninit::uninit(),
        decoded: MaybeUninit::uninit(),
        leases,
        fault: MaybeUninit::uninit(),
    };
    if !R::IS_PLAIN {
        slot.decoded.write(None);
    }
    let out = (&raw mut slot).cast();
    let arguments = ptr::from_ref(arguments).cast();
    let reply = const { &ReplySlot::<'static, R>::VTABLE };
    let calling = calling::begin();
    // SAFETY: the caller's promise.
    let failed = unsafe { entry(this, arguments, out, reply) };
    drop(calling);
    if !R::IS_PLAIN {
        // SAFETY: the invariants of `ReplySlot`.
        let read = unsafe { slot.decoded.assume_init() };
        if let Some(read) = read
            && failed == 0
        {
            return read.map_err(ReadError::into_fault);
        }
    } else if failed == 0 {
        // SAFETY: the invariants of `ReplySlot`.
        return Ok(unsafe { slot.plain.assume_init() });
    }
    if failed == 0 {
        return Err(Fault::Panicked("no answer was given".to_owned()));
    }
    // SAFETY: the invariants of `ReplySlot`.
    Err(unsafe { slot.fault.assume_init() })
}

impl<R: ByValue> ReplySlot<'_, R> {
    const VTABLE: ReplyVtable = ReplyVtable {
        set_value: Self::set_value,
        set_fault: Self::set_fault,
    };

    unsafe extern "C" fn set_value(out: *mut (), view: *const ()) {
        // SAFETY: the entry passes on what `call_entry` has given to it, which nobody else uses meanwhile.
        let slot = unsafe { &mut *out.cast::<Self>() };
        // SAFETY: the entry gives a view of its answer.
        let view = unsafe { view.cast::<R::View>().read() };
        let leases = slot.leases;
        // No panic may go on into the other side's code.
        let read = catch(|| {
            // SAFETY: the entry keeps its answer until this returns.
            unsafe { R::take(view, ReadContext::new(leases)) }
        });
        slot.decoded.write(Some(read));
    }

    unsafe extern "C" fn set_fault(out: *mut (), fault: u32, text: *const u8, length: usize) {
        // SAFETY: as in `set_value`.
        let slot = unsafe { &mut *out.cast::<Self>() };
        // SAFETY: the entry gives a text.
        let text = unsafe { slice::from_raw_parts(text, length) };
        slot.fault
            .write(Fault::from_code(fault, &String::from_utf8_lossy(text)));
    }
}

/// The half of who is called: finds the value, calls `method`, and gives its answer to the caller.
///
/// # Safety
///
/// The arguments are those of an [`Entry`] that serves values that an `S` leads to, and takes what an `A` is of and
/// gives an `R`.
#[inline]
pub unsafe fn dispatch<S: DispatchTarget, A: Copy, R: ByValue>(
    this: *const (),
    arguments: *const (),
    out: *mut (),
    reply: *const ReplyVtable,
    method: impl FnOnce(&S::Target, A, ReadContext<'_>) -> Result<R, ReadError>,
) -> u32 {
    let replied = catch(|| {
        // SAFETY: the value is there for as long as the caller may call.
        let this = unsafe { &*this.cast::<S>() };
        // SAFETY: the caller's views lie there.
        let arguments = unsafe { arguments.cast::<A>().read() };
        let answer = method(this, arguments, ReadContext::new(this.leases()))?;
        if R::IS_PLAIN {
            // SAFETY: the caller's place for it, which comes first.
            unsafe { out.cast::<R>().write(answer) };
        } else {
            let outgoing = answer.into_outgoing(this.leases());
            let view = R::view_outgoing(&outgoing);
            // SAFETY: the caller's is there until this returns.
            let set_value = unsafe { (*reply).set_value };
            // SAFETY: it is for this place and for such a view.
            unsafe { set_value(out, (&raw const view).cast()) };
        }
        Ok(())
    });
    match replied {
        Ok(()) => 0,
        // SAFETY: the caller's own function and place.
        Err(error) => unsafe { reply_fault(error, out, reply) },
    }
}

/// # Safety
///
/// As for [`dispatch`].
#[cold]
unsafe fn reply_fault(error: ReadError, out: *mut (), reply: *const ReplyVtable) -> u32 {
    let fault = error.into_fault();
    let text = fault.text();
    // SAFETY: the caller's is there until this returns.
    let set_fault = unsafe { (*reply).set_fault };
    // SAFETY: it is for this place; the text is there until it returns.
    unsafe { set_fault(out, fault.code(), text.as_ptr(), text.len()) };
    1
}

/// Runs what must not panic into the other side's code.
#[inline]
pub(super) fn catch<T>(body: impl FnOnce() -> Result<T, ReadError>) -> Result<T, ReadError> {
    // Unwind-safe: what the body may leave broken is its side's own, as in a thread of it.
    panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let fault = match payload.downcast::<Fault>() {
            Ok(fault) => *fault,
            Err(payload) => Fault::Panicked(caught_message(payload)),
        };
        Err(ReadError::new(fault))
    })
}

/// The caller panics as it would if the method were its own. The panic hook is not called: whoever was called has noted
/// what happened.
#[cold]
fn raise(fault: Fault) -> ! {
    panic::resume_unwind(Box::new(fault))
}
