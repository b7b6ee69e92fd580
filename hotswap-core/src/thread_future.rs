//! A future for the result of work that a thread does.

use std::{
    fmt, io,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    task::{Context, Poll},
    thread,
};

use crate::{
    async_channel::{AsyncReceiver, async_channel},
    threads,
};

/// The result of work that was begun on a thread of its own, for any executor.
///
/// The work has begun when the future is returned, whether or not it is ever polled. When the future is dropped, the
/// work goes on, and its result is dropped, too. If the work panics, whoever awaits it panics.
#[must_use = "the work goes on, but its result is lost"]
pub struct ThreadFuture<T>(AsyncReceiver<thread::Result<T>>);

impl<T: Send + 'static> ThreadFuture<T> {
    /// Begins the work on a thread of this name. What `work` owns is dropped before its result is there.
    ///
    /// # Errors
    /// The thread cannot be started. `work` is dropped.
    pub(crate) fn start(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = async_channel();
        threads::start(name, move || {
            // Unwind-safe: whoever awaits it panics, as if it had done the work itself.
            let result = panic::catch_unwind(AssertUnwindSafe(work));
            if let Ok(Some(waker)) = sender.send(result) {
                waker.wake();
            }
        })?;
        Ok(Self(receiver))
    }

    /// A result that is there already.
    pub(crate) fn ready(result: T) -> Self {
        let (sender, receiver) = async_channel();
        // Nobody waits yet.
        drop(sender.send(Ok(result)));
        Self(receiver)
    }
}

impl<T> Future for ThreadFuture<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.0.poll_recv(context).map(|result| match result {
            Some(Ok(result)) => result,
            Some(Err(panicked)) => panic::resume_unwind(panicked),
            None => panic!("`ThreadFuture` polled after completion"),
        })
    }
}

impl<T> fmt::Debug for ThreadFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_executor::block_on;

    use super::*;

    #[test]
    fn what_the_work_owns_is_dropped_before_its_result_is_there() {
        for _ in 0..100 {
            let shared = Arc::new(7);
            let owned = Arc::clone(&shared);
            let future = ThreadFuture::start("test", move || *owned).unwrap();
            assert_eq!(block_on(future), 7);
            assert_eq!(Arc::strong_count(&shared), 1);
        }
        assert_eq!(block_on(ThreadFuture::ready(8)), 8);
    }

    #[test]
    fn a_panic_of_the_work_is_one_of_who_awaits_it() {
        let work = || -> u32 { panic::panic_any("no answer") };
        let future = ThreadFuture::start("test", work).unwrap();
        let awaited = panic::catch_unwind(AssertUnwindSafe(|| block_on(future)));
        assert_eq!(
            *awaited.unwrap_err().downcast::<&str>().unwrap(),
            "no answer"
        );
    }
}
