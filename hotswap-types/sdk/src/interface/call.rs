//! One call: the proxy's half ([`Remote::call`]) and the half of the entry that it calls ([`dispatch`]).

use std::{
    mem::MaybeUninit,
    panic::{self, AssertUnwindSafe},
    ptr, slice,
    task::Poll,
};

use abi_stable::StableAbi;

use super::{
    by_value::ByValue,
    data::{ReadContext, ReadError},
    fault::{Fault, FaultKind},
    object::{DispatchTarget, Leases, RawObject},
};
use crate::{calling, fault::caught_message};

/// An entry of a vtable: one method. Returns 0 if the method has returned; its result is then in the caller's reply
/// slot. A future has an entry, too, which polls it.
///
/// # Safety
///
/// The caller of an entry guarantees:
/// - `this` points to a value of the type that the vtable is for, which is not dropped during the call.
/// - `arguments` points to the method's argument list: the views of its arguments, in a [`Cons`]. The values that they
///   view are neither changed nor dropped during the call.
/// - `out` points to the [`ReplySlot`] for the method's result, which nobody else uses during the call. `reply` points
///   to the functions of that slot.
///
/// The entry guarantees:
/// - It uses these pointers only until it returns, on the caller's thread. If the result is a future, that uses `this`
///   until it is dropped, which the caller does before the value is dropped.
/// - If it returns 0, it has written the result to `out`, if that [is plain](ByValue::IS_PLAIN), or else has passed a
///   view of the result to [`set_value`](ReplyVtable). If it returns `PENDING`, which only the entry of a future does,
///   it has done nothing of that. Otherwise it has called [`set_fault`](ReplyVtable).
pub type Entry = unsafe extern "C" fn(
    this: *const (),
    arguments: *const (),
    out: *mut (),
    reply: *const ReplyVtable,
) -> u32;

/// What an entry returns that has polled a pending future.
const PENDING: u32 = 2;

/// The functions by which an entry fills the caller's [`ReplySlot`]. They are the caller's code.
#[derive(Debug, StableAbi)]
#[repr(C)]
pub struct ReplyVtable {
    /// Stores the result that `view` points to a view of. That result stays unchanged until this returns.
    set_value: unsafe extern "C" fn(out: *mut (), view: *const ()),
    /// Stores the fault because of which there is no result: its number and its text, of `length` bytes.
    set_fault: unsafe extern "C" fn(out: *mut (), fault: u32, text: *const u8, length: usize),
}

/// A list of values of different types: the first one and the rest, `Cons(a, Cons(b, Nil))`. Argument lists and tuples
/// cross in this form.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Cons<A, B>(pub A, pub B);

/// `Cons(a, Cons(b, Nil))`, as an expression or as a pattern.
macro_rules! cons {
    ($first:tt $($rest:tt)*) => { Cons($first, cons!($($rest)*)) };
    () => { Nil };
}

/// `Cons<A, Cons<B, Nil>>`.
macro_rules! cons_type {
    ($first:ty $(, $rest:ty)*) => { Cons<$first, cons_type!($($rest),*)> };
    () => { Nil };
}

pub(super) use {cons, cons_type};

/// The end of a [`Cons`] list.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Nil;

/// A trait that has a vtable for targets of type `S`.
///
/// # Safety
///
/// [`VTABLE`](Self::VTABLE) has an entry for each method in the trait's description, in the same order. Its `this` is
/// an `S`, and its arguments and result have the types in the description.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an interface",
    label = "not an interface",
    note = "mark the trait with `#[hotswap_sdk::interface]`"
)]
pub unsafe trait Dispatch<S> {
    /// The entries.
    const VTABLE: &'static [Entry];
}

/// A handle on a value of the other side. Proxies call its methods.
///
/// # Invariants
///
/// - `entries` points to a vtable of `count` entries, and `this` to a value that they are for. Both are valid
///   whenever this handle is used or dropped.
/// - The value is `Send` and `Sync`, as `#[interface]` demands of every implementation.
/// - If `drop` is set, this handle owns the value, and `drop` is the function that drops it.
pub struct Remote {
    this: *const (),
    entries: *const Entry,
    count: usize,
    /// Where objects that it returns get their leases.
    leases: Leases,
    drop: Option<unsafe extern "C" fn(this: *const ())>,
    /// Keeps the code of `drop` and of the entries mapped. Dropped last.
    lease: Option<Box<dyn Send + Sync>>,
}

// SAFETY: the value behind `this` is `Send`, and so are the vtable (constants), the leases and the lease.
unsafe impl Send for Remote {}
// SAFETY: a shared handle only calls entries, with a shared reference to the value, which is `Sync`. `lease` is `Sync`,
// too.
unsafe impl Sync for Remote {}

/// The parts of a [`Remote`], as one side sends them to the other.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RawRemote {
    pub(super) this: *const (),
    pub(super) entries: *const Entry,
    pub(super) count: usize,
}

/// Where an entry puts its result for the caller.
///
/// # Invariants
///
/// - If the result [is plain](ByValue::IS_PLAIN), the entry writes it to `plain`, which therefore is the first field.
/// - Otherwise the caller initialises `decoded`, and `set_value` overwrites it.
/// - `fault` is initialised by `set_fault`, which an entry calls if and only if it returns neither 0 nor `PENDING`.
#[repr(C)]
pub struct ReplySlot<'a, R> {
    plain: MaybeUninit<R>,
    decoded: MaybeUninit<Option<Result<R, ReadError>>>,
    leases: &'a Leases,
    fault: MaybeUninit<FaultKind>,
}

impl Remote {
    /// # Safety
    ///
    /// `raw` points to a vtable and to a `Send` and `Sync` value for it. Both are valid whenever the handle
    /// is used or dropped.
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
    /// `raw` points to a vtable and to a `Send` and `Sync` value for it. The value now belongs to the handle, which
    /// drops it by `raw.drop`. The vtable and the code stay mapped until `lease` is dropped.
    pub(super) unsafe fn object(
        raw: RawObject,
        leases: Leases,
        lease: Option<Box<dyn Send + Sync>>,
    ) -> Self {
        // SAFETY: the value stays until the handle drops it, and the vtable until the handle drops `lease` (`# Safety`
        // of this function).
        let mut object = unsafe { Self::new(raw.remote, leases) };
        object.drop = Some(raw.drop);
        object.lease = lease;
        object
    }

    /// Where objects that come from the other side get their leases.
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
    /// With a [`Fault`], if the method does not return a result.
    ///
    /// # Safety
    ///
    /// The other side [has](Self::has) the method, and by the descriptions of both sides its argument list is an `A`
    /// and its result an `R`. The values that the arguments view are neither changed nor dropped during the call.
    #[inline]
    pub unsafe fn call<A, R: ByValue>(&self, method: usize, arguments: A) -> R {
        // SAFETY: the other side has the method (`# Safety` of this function).
        let entry = unsafe { self.entry(method) };
        // SAFETY: `this` is a value for this entry that stays while `self` is borrowed (invariant of `Remote`). The
        // argument list and the result are those of the method, and the arguments stay unchanged (`# Safety` of this
        // function).
        match unsafe { call_entry(entry, self.this, &arguments, &self.leases) } {
            Ok(answer) => answer,
            Err(fault) => raise(fault),
        }
    }

    /// [`call`](Self::call) of a method whose result [is plain](ByValue::IS_PLAIN), and is written to `result`. That
    /// saves a large one some copies.
    ///
    /// # Panics
    ///
    /// As there. Then nothing is written.
    ///
    /// # Safety
    ///
    /// That of [`call`](Self::call), and there is room for an `R` at `result`.
    #[inline]
    pub(super) unsafe fn call_in_place<A, R: ByValue>(
        &self,
        method: usize,
        arguments: A,
        result: *mut R,
    ) {
        const { assert!(R::IS_PLAIN) };
        // SAFETY: the other side has the method (`# Safety` of this function).
        let entry = unsafe { self.entry(method) };
        let mut slot = ReplySlot::<R>::new(&self.leases);
        // SAFETY: `this` is a value for this entry that stays while `self` is borrowed (invariant of `Remote`). The
        // argument list and the result are those of the method, and the arguments stay unchanged (`# Safety` of this
        // function). The slot is new.
        let code = unsafe { slot.enter(entry, self.this, &arguments) };
        if code != 0 {
            // SAFETY: the entry has returned `code`, and this is called once.
            raise(unsafe { slot.fault(code) });
        }
        // SAFETY: the result is plain, and the entry has returned 0: it has written the result there. It is taken once.
        let answer = unsafe { slot.plain.assume_init() };
        // SAFETY: there is room for it (`# Safety` of this function).
        unsafe { result.write(answer) };
    }

    /// # Safety
    ///
    /// The other side [has](Self::has) the method.
    #[inline]
    unsafe fn entry(&self, method: usize) -> Entry {
        // SAFETY: the vtable has more than `method` entries (`# Safety` of this function), so that the address is in
        // it.
        let entry = unsafe { self.entries.add(method) };
        // SAFETY: the vtable is valid whenever this handle is used (invariant of `Remote`).
        unsafe { *entry }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: this handle owns the value and is being dropped, so that nobody uses the value any more, and this
            // runs once. `lease` keeps the code mapped; it is dropped below.
            unsafe { drop(self.this) };
        }
        // Last: no code of the value runs after this.
        self.lease = None;
    }
}

/// Calls the entry of a method.
///
/// # Safety
///
/// `this` is what the entry is for, and stays valid during the call. The entry's argument list is an `A`, and its
/// result an `R`. The values that the arguments view are neither changed nor dropped during the call.
#[inline]
pub(super) unsafe fn call_entry<A, R: ByValue>(
    entry: Entry,
    this: *const (),
    arguments: &A,
    leases: &Leases,
) -> Result<R, Fault> {
    let mut slot = ReplySlot::new(leases);
    // SAFETY: the slot is new. `this` is what the entry is for, and argument list and result have the entry's types (`#
    // Safety` of this function).
    let code = unsafe { slot.enter(entry, this, arguments) };
    // SAFETY: the entry has returned `code`, and this is called once.
    match unsafe { slot.answer(code) } {
        Some(answer) => Ok(answer),
        // SAFETY: the entry has returned `code`, and this is called once.
        None => Err(unsafe { slot.fault(code) }),
    }
}

/// Calls the entry of a future.
///
/// # Safety
///
/// `this` is what the entry is for, and stays valid during the call. The entry's argument list is an `A`, and its
/// result an `R`. The values that the arguments view are neither changed nor dropped during the call.
#[inline]
pub(super) unsafe fn poll_entry<A, R: ByValue>(
    entry: Entry,
    this: *const (),
    arguments: &A,
    leases: &Leases,
) -> Result<Poll<R>, Fault> {
    let mut slot = ReplySlot::new(leases);
    // SAFETY: the slot is new. `this` is what the entry is for, and argument list and result have the entry's types (`#
    // Safety` of this function).
    let code = unsafe { slot.enter(entry, this, arguments) };
    // SAFETY: the entry has returned `code`, and this is called once.
    match unsafe { slot.answer(code) } {
        Some(answer) => Ok(Poll::Ready(answer)),
        None if code == PENDING => Ok(Poll::Pending),
        // SAFETY: the entry has returned `code`, and this is called once.
        None => Err(unsafe { slot.fault(code) }),
    }
}

impl<'a, R: ByValue> ReplySlot<'a, R> {
    const VTABLE: ReplyVtable = ReplyVtable {
        set_value: Self::set_value,
        set_fault: Self::set_fault,
    };

    #[inline]
    fn new(leases: &'a Leases) -> Self {
        let mut slot = Self {
            plain: MaybeUninit::uninit(),
            decoded: MaybeUninit::uninit(),
            leases,
            fault: MaybeUninit::uninit(),
        };
        if !R::IS_PLAIN {
            slot.decoded.write(None);
        }
        slot
    }

    /// Calls an entry with this slot, which is new. Returns what the entry returns.
    ///
    /// # Safety
    ///
    /// `this` is what the entry is for, and stays valid during the call. The entry's argument list is an `A`, and its
    /// result an `R`. The values that the arguments view are neither changed nor dropped during the call.
    #[inline]
    unsafe fn enter<A>(&mut self, entry: Entry, this: *const (), arguments: &A) -> u32 {
        let out = (&raw mut *self).cast();
        let arguments = ptr::from_ref(arguments).cast();
        let reply = const { &ReplySlot::<'static, R>::VTABLE };
        let calling = calling::begin();
        // SAFETY: `this` and the arguments are valid for this entry (`# Safety` of this function). `out` is a slot for
        // an `R` that only this function has, and `reply` has the functions for it.
        let code = unsafe { entry(this, arguments, out, reply) };
        drop(calling);
        code
    }

    /// Takes the result, if there is one.
    ///
    /// # Safety
    ///
    /// The entry that this slot was lent to has returned `code`, and this is called once.
    #[inline]
    unsafe fn answer(&mut self, code: u32) -> Option<R> {
        if code != 0 {
            return None;
        }
        if R::IS_PLAIN {
            // SAFETY: the result is plain, and the entry has returned 0: it has written the result here. It is taken
            // once (`# Safety` of this function).
            return Some(unsafe { self.plain.assume_init_read() });
        }
        // SAFETY: `decoded` was initialised by `new`, because the result is not plain. `set_value` leaves it
        // initialised.
        let decoded = unsafe { self.decoded.assume_init_mut() };
        decoded.take_if(|it| it.is_ok())?.ok()
    }

    /// What `set_value` has stored.
    fn take_decoded(&mut self) -> Option<Result<R, ReadError>> {
        if R::IS_PLAIN {
            return None;
        }
        // SAFETY: `decoded` was initialised by `new`, because the result is not plain. `set_value` leaves it
        // initialised.
        unsafe { self.decoded.assume_init_mut() }.take()
    }

    /// Why there is no result.
    ///
    /// # Safety
    ///
    /// The entry that this slot was lent to has returned `code`, and this is called once.
    #[cold]
    unsafe fn fault(&mut self, code: u32) -> Fault {
        let fault = match (code, self.take_decoded()) {
            (0 | PENDING, Some(Err(error))) => error.into_fault(),
            // An entry that breaks its contract.
            (0 | PENDING, _) => FaultKind::Panicked("no answer was given".to_owned()).into(),
            // SAFETY: the entry has returned neither 0 nor `PENDING`: it has called `set_fault`, which initialises
            // this. It is taken once (`# Safety` of this function).
            (_, _) => unsafe { self.fault.assume_init_read() }.into(),
        };
        fault.in_call(self.leases)
    }

    unsafe extern "C" fn set_value(out: *mut (), view: *const ()) {
        // SAFETY: `out` points to the slot in `call_entry`, which waits for the entry and does not use the slot
        // meanwhile.
        let slot = unsafe { &mut *out.cast::<Self>() };
        // SAFETY: the entry passes the address of a view of its result, which is an `R` by the descriptions of both
        // sides.
        let view = unsafe { view.cast::<R::View>().read() };
        let leases = slot.leases;
        // A panic must not unwind into the other side's code.
        let decoded = catch(|| {
            // SAFETY: the view is of an outgoing result that the entry keeps unchanged until this returns, and this
            // runs on the entry's thread.
            unsafe { R::take(view, ReadContext::new(leases)) }
        });
        slot.decoded.write(Some(decoded));
    }

    unsafe extern "C" fn set_fault(out: *mut (), fault: u32, text: *const u8, length: usize) {
        // SAFETY: `out` points to the slot in `call_entry`, which waits for the entry and does not use the slot
        // meanwhile.
        let slot = unsafe { &mut *out.cast::<Self>() };
        // SAFETY: the entry passes the address and the length of a text that it keeps until this returns.
        let text = unsafe { slice::from_raw_parts(text, length) };
        slot.fault
            .write(FaultKind::from_code(fault, &String::from_utf8_lossy(text)));
    }
}

/// The body of a method's entry: decodes the arguments, calls `method` on the value, and sends its result or its fault
/// to the caller.
///
/// # Safety
///
/// This is called with the arguments of an [`Entry`] that is for an `S`, whose argument list is an `A` and whose result
/// is an `R`.
#[inline]
pub unsafe fn dispatch<S: DispatchTarget, A: Copy, R: ByValue>(
    this: *const (),
    arguments: *const (),
    out: *mut (),
    reply: *const ReplyVtable,
    method: impl FnOnce(&S::Target, A, ReadContext<'_>) -> Result<R, ReadError>,
) -> u32 {
    let method = |this: &S::Target, arguments, context: ReadContext<'_>| {
        method(this, arguments, context).map(Poll::Ready)
    };
    // SAFETY: the arguments are those of an entry for an `S`, with the argument list `A` and the result `R` (`# Safety`
    // of this function).
    unsafe { dispatch_poll::<S, A, R>(this, arguments, out, reply, method) }
}

/// The body of an entry, which may be that of a future.
///
/// # Safety
///
/// That of [`dispatch`].
#[inline]
pub(super) unsafe fn dispatch_poll<S: DispatchTarget, A: Copy, R: ByValue>(
    this: *const (),
    arguments: *const (),
    out: *mut (),
    reply: *const ReplyVtable,
    method: impl FnOnce(&S::Target, A, ReadContext<'_>) -> Result<Poll<R>, ReadError>,
) -> u32 {
    let replied = catch(|| {
        // SAFETY: `this` points to an `S` that is not dropped during the call (contract of `Entry`).
        let this = unsafe { &*this.cast::<S>() };
        // SAFETY: `arguments` points to the argument list, an `A` (contract of `Entry`), which may be copied.
        let arguments = unsafe { arguments.cast::<A>().read() };
        let Poll::Ready(answer) = method(this, arguments, ReadContext::new(this.leases()))? else {
            return Ok(PENDING);
        };
        if R::IS_PLAIN {
            // SAFETY: `out` points to a slot for an `R` (contract of `Entry`), which begins with room for a plain one.
            unsafe { out.cast::<R>().write(answer) };
        } else {
            let outgoing = answer.into_outgoing(this.leases());
            let view = R::view_outgoing(&outgoing);
            // SAFETY: `reply` points to the functions of the caller's slot during the call (contract of `Entry`).
            let set_value = unsafe { (*reply).set_value };
            // SAFETY: `out` is the slot that the function is for (contract of `Entry`). The view is of `outgoing`,
            // which stays unchanged until the function returns.
            unsafe { set_value(out, (&raw const view).cast()) };
        }
        Ok(0)
    });
    match replied {
        Ok(code) => code,
        // SAFETY: `out` is the caller's slot, and `reply` has the functions for it (contract of `Entry`).
        Err(error) => unsafe { reply_fault(error, out, reply) },
    }
}

/// Sends a fault to the caller of an entry. Returns what the entry returns then.
///
/// # Safety
///
/// `out` points to the caller's [`ReplySlot`], and `reply` to the functions for it.
#[cold]
unsafe fn reply_fault(error: ReadError, out: *mut (), reply: *const ReplyVtable) -> u32 {
    let fault = error.into_fault();
    let text = fault.kind.text();
    // SAFETY: `reply` points to the functions of the caller's slot (`# Safety` of this function).
    let set_fault = unsafe { (*reply).set_fault };
    // SAFETY: `out` is the slot that the function is for (`# Safety` of this function). `fault`, which has the text, is
    // dropped after the function returns.
    unsafe { set_fault(out, fault.kind.code(), text.as_ptr(), text.len()) };
    1
}

/// Runs `body`, and returns its panic as an error, so that it does not unwind into the other side's code.
#[inline]
pub(super) fn catch<T>(body: impl FnOnce() -> Result<T, ReadError>) -> Result<T, ReadError> {
    // Unwind-safe: what the body leaves broken belongs to its own side, as after a panic of one of its threads.
    panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let fault = match payload.downcast::<Fault>() {
            Ok(fault) => *fault,
            Err(payload) => FaultKind::Panicked(caught_message(payload)).into(),
        };
        Err(ReadError::new(fault))
    })
}

/// Panics with a fault, as if the method had been called directly. The panic hook does not run: the other side has
/// recorded the panic's message and place.
#[cold]
pub(super) fn raise(fault: Fault) -> ! {
    panic::resume_unwind(Box::new(fault))
}
