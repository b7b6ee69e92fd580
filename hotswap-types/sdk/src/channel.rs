//! Queues between services, also between those of different generations.

use std::{
    marker::PhantomData,
    mem::{self, MaybeUninit},
    slice,
    sync::Arc,
};

use abi_stable::StableAbi;

use crate::{Stop, handle::Handle};

/// A named queue of plain data that belongs to no generation. What is in it stays when services come and go.
///
/// Any number may send and receive; each value goes to one receiver.
#[repr(C)]
pub struct Channel<T> {
    raw: ChannelHandle,
    of: PhantomData<fn(T) -> T>,
}

/// The same, before it is known what goes through it.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct ChannelHandle {
    queue: Handle,
    send: unsafe extern "C" fn(*const (), *const MaybeUninit<u8>, usize, &Stop) -> bool,
    receive: unsafe extern "C" fn(*const (), *mut MaybeUninit<u8>, usize, &Stop) -> bool,
}

/// The bytes of a value, with gaps where it has some.
pub type Bytes = [MaybeUninit<u8>];

/// The host's side of a [`Channel`].
pub trait RawChannel: Send + Sync + 'static {
    /// See [`Channel::send`]. `false`: the service is to stop.
    fn send(&self, value: &Bytes, stop: &Stop) -> bool;

    /// See [`Channel::receive`]. `false`: the service is to stop, and nothing was written.
    fn receive(&self, value: &mut Bytes, stop: &Stop) -> bool;
}

impl<T: Send + 'static> Channel<T> {
    /// # Safety
    ///
    /// What goes through the channel is of the type `T`, and plain data: there is nothing to do when it is dropped,
    /// and nothing in it leads into an image.
    pub(crate) unsafe fn new(raw: ChannelHandle) -> Self {
        Self {
            raw,
            of: PhantomData,
        }
    }

    /// Puts a value in, when there is room. Gives it back if the service is to stop before there is.
    ///
    /// # Errors
    ///
    /// The value.
    pub fn send(&self, value: T, stop: &Stop) -> Result<(), T> {
        let (data, size) = ((&raw const value).cast(), size_of::<T>());
        // SAFETY: the function and the queue were put together by `ChannelHandle::new`; a value may be read as
        // bytes that need not be initialised.
        let sent = unsafe { (self.raw.send)(self.raw.queue.address(), data, size, stop) };
        if sent {
            mem::forget(value);
            Ok(())
        } else {
            Err(value)
        }
    }

    /// Takes the next value out, when there is one. None: the service is to stop.
    pub fn receive(&self, stop: &Stop) -> Option<T> {
        let mut value = MaybeUninit::<T>::uninit();
        let data = value.as_mut_ptr().cast();
        // SAFETY: the function and the queue were put together by `ChannelHandle::new`; there is room for a `T`.
        let received =
            unsafe { (self.raw.receive)(self.raw.queue.address(), data, size_of::<T>(), stop) };
        // SAFETY: a value was received, so that it is initialised. All values in the channel are `T`s (`# Safety` of
        // `new`).
        received.then(|| unsafe { value.assume_init() })
    }
}

impl<T> Clone for Channel<T> {
    fn clone(&self) -> Self {
        Self {
            raw: self.raw.clone(),
            of: PhantomData,
        }
    }
}

impl<T> std::fmt::Debug for Channel<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

impl ChannelHandle {
    /// A share of the host's queue.
    pub fn new<C: RawChannel>(queue: Arc<C>) -> Self {
        unsafe extern "C" fn send<C: RawChannel>(
            queue: *const (),
            data: *const MaybeUninit<u8>,
            size: usize,
            stop: &Stop,
        ) -> bool {
            // SAFETY: `Channel` calls its functions with the queue that they were made for.
            let queue = unsafe { &*queue.cast::<C>() };
            // SAFETY: it calls with a value of this size.
            queue.send(unsafe { slice::from_raw_parts(data, size) }, stop)
        }

        unsafe extern "C" fn receive<C: RawChannel>(
            queue: *const (),
            data: *mut MaybeUninit<u8>,
            size: usize,
            stop: &Stop,
        ) -> bool {
            // SAFETY: `Channel` calls its functions with the queue that they were made for.
            let queue = unsafe { &*queue.cast::<C>() };
            // SAFETY: it calls with room of this size.
            queue.receive(unsafe { slice::from_raw_parts_mut(data, size) }, stop)
        }

        Self {
            queue: Handle::new(queue),
            send: send::<C>,
            receive: receive::<C>,
        }
    }
}
