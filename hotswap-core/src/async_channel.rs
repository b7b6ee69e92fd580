//! A channel whose receiver waits on a thread, or is polled by any executor.
//!
//! It is a channel of crossbeam's with a waker beside it. [`send`](AsyncSender::send) returns the waker, which the
//! sender wakes when it has released its locks: what a waker does is up to the executor.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};

/// The only sender. When it is dropped, the receiver finds the end.
#[derive(Debug)]
pub(crate) struct AsyncSender<T> {
    // Fields are dropped in this order: whoever is woken finds the end.
    queue: Sender<T>,
    waker: WakeAtEnd,
}

/// The only receiver.
pub(crate) struct AsyncReceiver<T> {
    queue: Receiver<T>,
    waker: Arc<WakerSlot>,
}

/// A channel without a bound: the sender looks at its [length](AsyncSender::len).
pub(crate) fn async_channel<T>() -> (AsyncSender<T>, AsyncReceiver<T>) {
    // A bounded channel of crossbeam's would allocate all its room at once.
    let (sender, receiver) = unbounded();
    let waker = Arc::<WakerSlot>::default();
    let sender = AsyncSender {
        queue: sender,
        waker: WakeAtEnd(Arc::clone(&waker)),
    };
    let receiver = AsyncReceiver {
        queue: receiver,
        waker,
    };
    (sender, receiver)
}

/// The receiver was dropped.
pub(crate) struct Disconnected;

impl<T> AsyncSender<T> {
    /// How many values were sent and not received yet.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Sends a value. The caller has to wake the returned waker.
    pub(crate) fn send(&self, value: T) -> Result<Option<Waker>, Disconnected> {
        self.queue.send(value).map_err(|_| Disconnected)?;
        Ok(self.waker.0.take())
    }
}

impl<T> AsyncReceiver<T> {
    /// The next value. `None`: the sender was dropped, and all that it sent was received.
    pub(crate) fn poll_recv(&self, context: &mut Context<'_>) -> Poll<Option<T>> {
        match self.queue.try_recv() {
            Ok(value) => return Poll::Ready(Some(value)),
            Err(TryRecvError::Disconnected) => return Poll::Ready(None),
            Err(TryRecvError::Empty) => self.waker.set(context.waker()),
        }
        // Again: a sender that did not find the waker has sent before it looked for it, and so before this.
        match self.queue.try_recv() {
            Ok(value) => Poll::Ready(Some(value)),
            Err(TryRecvError::Disconnected) => Poll::Ready(None),
            Err(TryRecvError::Empty) => Poll::Pending,
        }
    }

    /// The same queue, for a thread.
    pub(crate) fn into_blocking(self) -> Receiver<T> {
        self.queue.clone()
    }
}

/// A sender that finds the receiver gone is dropped, possibly under locks. It must not find a waker then.
impl<T> Drop for AsyncReceiver<T> {
    fn drop(&mut self) {
        drop(self.waker.take());
    }
}

impl<T> fmt::Debug for AsyncReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncReceiver")
            .field("waiting", &self.queue.len())
            .finish_non_exhaustive()
    }
}

/// The waker of the last poll that found nothing.
#[derive(Debug, Default)]
struct WakerSlot(Mutex<Option<Waker>>);

impl WakerSlot {
    fn set(&self, waker: &Waker) {
        let before = self.replace(Some(waker.clone()));
        // What dropping it does is up to the executor: not under the lock.
        drop(before);
    }

    fn take(&self) -> Option<Waker> {
        self.replace(None)
    }

    fn replace(&self, waker: Option<Waker>) -> Option<Waker> {
        // Nothing panics under the lock.
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut place, waker)
    }
}

#[derive(Debug)]
struct WakeAtEnd(Arc<WakerSlot>);

impl Drop for WakeAtEnd {
    fn drop(&mut self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, thread};

    use futures_executor::block_on;

    use super::*;

    #[test]
    fn no_wake_is_lost() {
        const VALUES: u32 = 20_000;
        let (sender, receiver) = async_channel();
        let sending = thread::spawn(move || {
            for value in 0..VALUES {
                if let Ok(Some(waker)) = sender.send(value) {
                    waker.wake();
                }
            }
        });
        let next = || block_on(poll_fn(|context| receiver.poll_recv(context)));
        for value in 0..VALUES {
            assert_eq!(next(), Some(value));
        }
        assert_eq!(next(), None);
        sending.join().unwrap();
    }

    #[test]
    fn a_sender_without_a_receiver_wakes_nobody() {
        let (sender, receiver) = async_channel();
        let waker = Arc::new(NeverWoken);
        let polled = receiver.poll_recv(&mut Context::from_waker(&waker.clone().into()));
        assert!(polled.is_pending());
        drop(receiver);
        assert!(sender.send(()).is_err());
        drop(sender);
        assert_eq!(Arc::strong_count(&waker), 1);
    }

    struct NeverWoken;

    impl std::task::Wake for NeverWoken {
        fn wake(self: Arc<Self>) {
            panic!("woken");
        }
    }
}
