//! Futures: what async methods return.
//!
//! A future stays on the side of the method, like an object. The caller has a proxy of it, which is a future, too: each
//! poll is a call, with a [view](super::waker) of the caller's waker. Dropping the proxy drops the future, on the
//! thread that drops it.
//!
//! The future borrows the value whose method it is. So the caller's proxy borrows the handle by which the method was
//! called, as the compiler then checks.

use std::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::{self, MaybeUninit},
    ops::Deref,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::{
    boxed::BoxFuture,
    by_value::ByValue,
    call::{Cons, Entry, Nil, Remote, ReplyVtable, catch, dispatch_poll, poll_entry, raise},
    data::{ReadContext, ReadError},
    description::{TypeIndex, Types},
    object::{DispatchTarget, Leases},
    runtime,
    sequences::IndirectSlice,
    waker::WakerView,
};

/// The result of an async method: a future of the method's side, which the caller polls and drops. It crosses as its
/// bytes.
///
/// # Invariants
///
/// `bytes` has an `ExportedFuture<T>` of the method's side, which belongs to this. `poll` is the [`Entry`] for its
/// address, which takes a `WakerView`, returns a `T`, and may be pending. `drop` drops it.
#[repr(C)]
pub(super) struct AsyncResult<T> {
    bytes: Bytes,
    poll: Entry,
    drop: unsafe extern "C" fn(bytes: *mut ()),
    result: PhantomData<fn() -> T>,
}

/// The bytes of a value of one side that the other side stores.
type Bytes = [MaybeUninit<*const ()>; 6];

/// A future that the caller has, which stores these bytes of it.
struct ExportedFuture<T> {
    /// Used by whoever has the only proxy.
    polled: UnsafeCell<Polled<T>>,
    leases: Leases,
}

/// A future, and the waker that is left for its next poll ([`WakerView::poll`]).
struct Polled<T> {
    future: BoxFuture<'static, T>,
    kept: Option<Waker>,
}

const _: () = assert!(size_of::<ExportedFuture<()>>() == size_of::<Bytes>());
const _: () = assert!(align_of::<ExportedFuture<()>>() == align_of::<Bytes>());

/// The caller's proxy of a future.
struct RemoteFuture<'a, T> {
    future: AsyncResult<T>,
    /// Where objects in its result get their leases.
    leases: &'a Leases,
}

// SAFETY: it owns a `BoxFuture`, a `Waker` and `Leases`, which are `Send`.
unsafe impl<T> Send for AsyncResult<T> {}

impl<T: ByValue + 'static> AsyncResult<T> {
    /// The future of a method of the value at `this`. It is to run on the plugin's runtime, if there is one.
    ///
    /// # Safety
    ///
    /// `this` is the `this` of an entry that is for an `S`. The future borrows that value, which is not dropped before
    /// the result of this is. If it is the plugin's value, it is also not dropped before the plugin's runtime has
    /// ended.
    #[inline]
    pub(super) unsafe fn new<S: DispatchTarget>(future: BoxFuture<'_, T>, this: *const ()) -> Self
    where
        T: Send,
    {
        // SAFETY: this changes only the lifetime, and what that stands for stays until the future is dropped: as long
        // as the result is there (`# Safety` of this function), and longer because of `keep`, if the future runs on the
        // runtime.
        let future = unsafe { mem::transmute::<BoxFuture<'_, T>, BoxFuture<'static, T>>(future) };
        // SAFETY: the value at `this`, which is an `S`, is not dropped yet (`# Safety` of this function).
        let future = runtime::sent(future, || unsafe { S::keep(this) });
        // SAFETY: `this` is an `S` that is not dropped yet (`# Safety` of this function).
        let leases = unsafe { &*this.cast::<S>() }.leases().clone();
        let polled = UnsafeCell::new(Polled { future, kept: None });
        let mut bytes = [MaybeUninit::uninit(); 6];
        let exported = bytes.as_mut_ptr().cast::<ExportedFuture<T>>();
        // SAFETY: the bytes have the size and the alignment of an `ExportedFuture` of any `T`, which is a box, a waker
        // if any, and an `Arc` if any.
        unsafe { exported.write(ExportedFuture { polled, leases }) };
        Self {
            bytes,
            poll: poll::<T>,
            drop: drop_exported::<T>,
            result: PhantomData,
        }
    }

    /// [`Remote::call`] of an async method. The future borrows the handle.
    ///
    /// # Panics
    ///
    /// As there.
    ///
    /// # Safety
    ///
    /// The other side [has](Remote::has) the method, and by the descriptions of both sides its argument list is an `A`
    /// and its result an `AsyncResult<T>`. The values that the arguments view are neither changed nor dropped during
    /// the call.
    #[inline]
    pub(super) unsafe fn call<A>(remote: &Remote, method: usize, arguments: A) -> BoxFuture<'_, T> {
        let mut boxed = Box::<RemoteFuture<'_, T>>::new_uninit();
        let proxy = boxed.as_mut_ptr();
        // SAFETY: `proxy` is in the box.
        let future = unsafe { &raw mut (*proxy).future };
        // SAFETY: the method is there, has these arguments, and returns an `AsyncResult<T>` (`# Safety` of this
        // function), for which this is the room in the box.
        unsafe { remote.call_in_place(method, arguments, future) };
        // SAFETY: `proxy` is in the box.
        let leases = unsafe { &raw mut (*proxy).leases };
        // SAFETY: this is the room for the leases in the box.
        unsafe { leases.write(remote.leases()) };
        // SAFETY: both fields were written just now.
        Box::into_pin(unsafe { boxed.assume_init() })
    }
}

const NO_VIEW: &str = "it crosses as its bytes, and is part of nothing else";

// SAFETY: it is `repr(C)`, with bytes of one size and functions for them, whatever `T` is: those of the side that has
// made it. Its results cross as those of a method do, and the description has that of `T`. There are no views.
unsafe impl<T: ByValue + 'static> ByValue for AsyncResult<T> {
    const IS_PLAIN: bool = true;
    type View = Nil;
    type Outgoing = Self;
    type VecView = IndirectSlice<Nil>;

    fn into_outgoing(self, _: &Leases) -> Self {
        unreachable!("{NO_VIEW}")
    }

    fn view_outgoing(_: &Self) -> Nil {
        unreachable!("{NO_VIEW}")
    }

    unsafe fn take(_: Nil, _: ReadContext<'_>) -> Result<Self, ReadError> {
        unreachable!("{NO_VIEW}")
    }

    fn describe_value(types: &mut Types) -> TypeIndex {
        let result = T::describe_value(types);
        types.named_by_shape("AsyncResult", &[result])
    }
}

/// The [`Entry`] that polls.
unsafe extern "C" fn poll<T: ByValue + 'static>(
    this: *const (),
    arguments: *const (),
    out: *mut (),
    reply: *const ReplyVtable,
) -> u32 {
    let poll = |polled: &UnsafeCell<Polled<T>>,
                Cons(waker, Nil): Cons<WakerView, Nil>,
                context: ReadContext<'_>| {
        // SAFETY: the caller has borrowed its proxy exclusively, and there is only one.
        let Polled { future, kept } = unsafe { &mut *polled.get() };
        let poll = |waker: &Waker| future.as_mut().poll(&mut Context::from_waker(waker));
        // SAFETY: the caller lends the waker for this call. If it is a plugin's, the leases are those of the generation
        // that was given this future, and that runs this call.
        unsafe { waker.poll(context.leases(), kept, poll) }
    };
    // SAFETY: `RemoteFuture::poll` calls this with the arguments of an entry that takes a `WakerView` and returns a
    // `T`, and with the address of the bytes of an `ExportedFuture<T>`.
    unsafe {
        dispatch_poll::<ExportedFuture<T>, Cons<WakerView, Nil>, T>(
            this, arguments, out, reply, poll,
        )
    }
}

unsafe extern "C" fn drop_exported<T>(bytes: *mut ()) {
    // Quietly, as with `drop_quietly`, but in its place: that saves a copy.
    drop(catch(|| {
        // SAFETY: the bytes are those that `AsyncResult::new` has written. Their owner, an `AsyncResult`, calls this
        // once, when it is dropped.
        unsafe { bytes.cast::<ExportedFuture<T>>().drop_in_place() };
        Ok(())
    }));
}

impl<T> Deref for ExportedFuture<T> {
    type Target = UnsafeCell<Polled<T>>;

    fn deref(&self) -> &Self::Target {
        &self.polled
    }
}

impl<T> DispatchTarget for ExportedFuture<T> {
    fn leases(&self) -> &Leases {
        &self.leases
    }
}

impl<T: ByValue> Future for RemoteFuture<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Self { future, leases } = self.get_mut();
        // Exclusively: the entry changes the future that it takes from these bytes.
        let this = (&raw mut future.bytes).cast_const().cast();
        let arguments = Cons(WakerView::new(context.waker()), Nil);
        // SAFETY: `poll` is an entry for these bytes, which `future` owns, that takes a `WakerView` and returns a `T`
        // (invariants of `AsyncResult`). The waker is borrowed during the call.
        unsafe { poll_entry(future.poll, this, &arguments, leases) }
            .unwrap_or_else(|fault| raise(fault))
    }
}

impl<T> Drop for AsyncResult<T> {
    fn drop(&mut self) {
        // SAFETY: this owns the future and is being dropped, so that nobody uses the future any more, and this runs
        // once. Its code stays mapped as long as the handle is there by which its method was called.
        unsafe { (self.drop)(self.bytes.as_mut_ptr().cast()) };
    }
}
