//! Futures: what async methods return.
//!
//! A future stays on the side of the method, like an object. The caller has a proxy of it, which is a future, too: each
//! poll is a call, with a [view](super::waker) of the caller's waker. Dropping the proxy drops the future, on the
//! thread that drops it.
//!
//! The future borrows the value whose method it is. So the caller's proxy borrows the handle by which the method was
//! called, as the compiler then checks.

use std::{
    cell::{Cell, UnsafeCell},
    marker::PhantomData,
    mem::{self, MaybeUninit},
    ops::Deref,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::{
    boxed::BoxFuture,
    by_value::ByValue,
    call::{Cons, Entry, Nil, Remote, ReplyVtable, call_entry, dispatch, raise},
    data::{ReadContext, ReadError},
    description::{TypeIndex, Types},
    fault::FaultKind,
    object::{DispatchTarget, Leases, drop_quietly},
    runtime,
    sequences::IndirectSlice,
    waker::WakerView,
};

/// The result of an async method, as it is sent.
pub enum AsyncResult<T> {
    /// On the side of the method.
    Sent(BoxFuture<'static, T>),
    /// On the side of the caller.
    Received(ReceivedFuture<T>),
}

/// The bytes of a value of one side that the other side stores.
type Bytes = [MaybeUninit<*const ()>; 6];

/// A future that the other side has, which stores these bytes of it.
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

/// The view of a future that is being sent: its [`OutgoingFuture`], and the function that takes it out of that.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FutureView {
    outgoing: *const (),
    take: unsafe extern "C" fn(outgoing: *const ()) -> RawFuture,
}

/// A future that is being sent, on the side of the sender. `None` once the receiver has taken it.
pub struct OutgoingFuture<T>(Cell<Option<ExportedFuture<T>>>);

/// A future that the receiver has taken: the bytes of an [`ExportedFuture`], and functions for them.
#[derive(Clone, Copy)]
#[repr(C)]
struct RawFuture {
    /// Not if it was taken before.
    is_there: bool,
    bytes: Bytes,
    poll: Entry,
    drop: unsafe extern "C" fn(bytes: *mut ()),
}

/// A future that the receiver owns.
///
/// # Invariants
///
/// The raw future is there, and belongs to this. Its `poll` is an [`Entry`] for the address of the bytes, which takes a
/// `WakerView` and returns an `Option<T>`: `None` if the future is pending. Its `drop` drops the future.
pub struct ReceivedFuture<T> {
    raw: RawFuture,
    result: PhantomData<fn() -> T>,
}

/// The receiver's proxy of a future.
struct RemoteFuture<'a, T> {
    future: ReceivedFuture<T>,
    /// Where objects in its result get their leases.
    leases: &'a Leases,
}

// SAFETY: it owns a `BoxFuture` of the other side, which is `Send`.
unsafe impl<T> Send for ReceivedFuture<T> {}

impl<T> AsyncResult<T> {
    /// The future of a method of the value at `this`. It is to run on the plugin's runtime, if there is one.
    ///
    /// # Safety
    ///
    /// `this` is the `this` of an entry that is for an `S`. The future borrows that value, which is not dropped before
    /// the result of this is. If it is the plugin's value, it is also not dropped before the plugin's runtime has
    /// ended.
    #[inline]
    pub unsafe fn new<S: DispatchTarget>(future: BoxFuture<'_, T>, this: *const ()) -> Self
    where
        T: Send + 'static,
    {
        // SAFETY: this changes only the lifetime, and what that stands for stays until the future is dropped: as long
        // as the result is there (`# Safety` of this function), and longer because of `keep`, if the future runs on the
        // runtime.
        let future = unsafe { mem::transmute::<BoxFuture<'_, T>, BoxFuture<'static, T>>(future) };
        // SAFETY: the value at `this`, which is an `S`, is not dropped yet (`# Safety` of this function).
        Self::Sent(runtime::sent(future, || unsafe { S::keep(this) }))
    }

    /// The future, which borrows the handle by which the method was called.
    #[inline]
    pub fn into_future(self, remote: &Remote) -> BoxFuture<'_, T>
    where
        T: ByValue + 'static,
    {
        let leases = remote.leases();
        match self {
            Self::Sent(future) => future,
            Self::Received(future) => Box::pin(RemoteFuture { future, leases }),
        }
    }
}

// SAFETY: the view is `repr(C)` and that of every future. The future is sent with functions of its own side, and its
// results cross as those of a method do. The description has that of `T`.
#[diagnostic::do_not_recommend]
unsafe impl<T: ByValue + 'static> ByValue for AsyncResult<T> {
    type View = FutureView;
    type Outgoing = OutgoingFuture<T>;
    type VecView = IndirectSlice<Self::View>;

    #[inline]
    fn into_outgoing(self, leases: &Leases) -> OutgoingFuture<T> {
        let Self::Sent(future) = self else {
            unreachable!("a method makes its future itself")
        };
        OutgoingFuture(Cell::new(Some(ExportedFuture {
            polled: UnsafeCell::new(Polled { future, kept: None }),
            leases: leases.clone(),
        })))
    }

    #[inline]
    fn view_outgoing(outgoing: &OutgoingFuture<T>) -> FutureView {
        FutureView {
            outgoing: (&raw const *outgoing).cast(),
            take: take::<T>,
        }
    }

    #[inline]
    unsafe fn take(view: FutureView, _: ReadContext<'_>) -> Result<Self, ReadError> {
        // SAFETY: address and function are from one view, whose `OutgoingFuture` exists during this call on the
        // sender's thread (`# Safety` of this function).
        let raw = unsafe { (view.take)(view.outgoing) };
        if !raw.is_there {
            let what = FaultKind::Unknown("a future that was taken already".to_owned());
            return Err(ReadError::new(what));
        }
        Ok(Self::Received(ReceivedFuture {
            raw,
            result: PhantomData,
        }))
    }

    fn describe_value(types: &mut Types) -> TypeIndex {
        let result = T::describe_value(types);
        types.named_by_shape("Future", &[result])
    }
}

/// Takes the future out of an [`OutgoingFuture`].
unsafe extern "C" fn take<T: ByValue + 'static>(outgoing: *const ()) -> RawFuture {
    // SAFETY: `AsyncResult::take` passes the address from the view. It does so while the future is being sent, so that
    // the `OutgoingFuture` is not dropped, and on the sender's thread, so that the cell is not shared.
    let outgoing = unsafe { &*outgoing.cast::<OutgoingFuture<T>>() };
    let mut bytes = [MaybeUninit::uninit(); 6];
    let future = outgoing.0.take();
    let is_there = future.is_some();
    if let Some(future) = future {
        // SAFETY: the bytes have the size and the alignment of an `ExportedFuture` of any `T`, which is a box, a waker
        // if any, and an `Arc` if any.
        unsafe { bytes.as_mut_ptr().cast::<ExportedFuture<T>>().write(future) };
    }
    RawFuture {
        is_there,
        bytes,
        poll: poll::<T>,
        drop: drop_exported::<T>,
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
        match unsafe { waker.poll(context.leases(), kept, poll) }? {
            Poll::Ready(value) => Ok(Some(value)),
            Poll::Pending => Ok(None),
        }
    };
    // SAFETY: `RemoteFuture::poll` calls this with the arguments of an entry that takes a `WakerView` and returns an
    // `Option<T>`, and with the address of the bytes of an `ExportedFuture<T>`.
    unsafe {
        dispatch::<ExportedFuture<T>, Cons<WakerView, Nil>, Option<T>>(
            this, arguments, out, reply, poll,
        )
    }
}

unsafe extern "C" fn drop_exported<T>(bytes: *mut ()) {
    // SAFETY: they are those that `take` has written. Their owner, a `ReceivedFuture`, calls this once, when it is
    // dropped.
    let future = unsafe { bytes.cast::<ExportedFuture<T>>().read() };
    drop_quietly(future);
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

impl<T> Drop for OutgoingFuture<T> {
    fn drop(&mut self) {
        drop_quietly(self.0.take());
    }
}

impl<T: ByValue> Future for RemoteFuture<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Self { future, leases } = self.get_mut();
        let raw = &mut future.raw;
        // Exclusively: the entry changes the future that it takes from these bytes.
        let this = (&raw mut raw.bytes).cast_const().cast();
        let arguments = Cons(WakerView::new(context.waker()), Nil);
        // SAFETY: `poll` is an entry for these bytes, which `future` owns, that takes a `WakerView` and returns an
        // `Option<T>` (invariants of `ReceivedFuture`). The waker is borrowed during the call.
        match unsafe { call_entry::<_, Option<T>>(raw.poll, this, &arguments, leases) } {
            Ok(Some(value)) => Poll::Ready(value),
            Ok(None) => Poll::Pending,
            Err(fault) => raise(fault),
        }
    }
}

impl<T> Drop for ReceivedFuture<T> {
    fn drop(&mut self) {
        // SAFETY: this owns the future and is being dropped, so that nobody uses the future any more, and this runs
        // once. Its code stays mapped as long as the handle is there by which its method was called.
        unsafe { (self.raw.drop)(self.raw.bytes.as_mut_ptr().cast()) };
    }
}
