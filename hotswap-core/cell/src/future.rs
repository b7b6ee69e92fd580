//! A future that borrows a leased value.

use std::{
    future::Future,
    mem::{self, ManuallyDrop},
    pin::Pin,
};

use crate::cell::Lease;

/// A boxed future that borrows for `'a`.
type BoxFuture<'a, R> = Pin<Box<dyn Future<Output = R> + Send + 'a>>;

/// A future that borrows a value, together with the lease that keeps the value. Dropping it drops the future first.
#[must_use = "a future does nothing unless it is polled"]
pub struct LeasedFuture<T, R> {
    /// Dropped before the lease.
    future: ManuallyDrop<BoxFuture<'static, R>>,
    lease: Lease<T>,
}

impl<T: Send + Sync> Lease<T> {
    /// Makes a future of the leased value that owns the lease.
    pub fn into_future<R>(
        self,
        f: impl for<'a> FnOnce(&'a T) -> BoxFuture<'a, R>,
    ) -> LeasedFuture<T, R> {
        let future = f(&self);
        // SAFETY: this changes only the lifetime. What the future borrows is the leased value, whose address does not
        // change, and which stays until the lease is dropped, which is after the future is. It borrows nothing else
        // that is shorter: `f` works for every `'a`.
        let future = unsafe { mem::transmute::<BoxFuture<'_, R>, BoxFuture<'static, R>>(future) };
        LeasedFuture {
            future: ManuallyDrop::new(future),
            lease: self,
        }
    }
}

impl<T, R> LeasedFuture<T, R> {
    /// The leased value.
    pub fn value(&self) -> &T {
        &self.lease
    }

    /// The leased value, and the future that borrows it, to be polled.
    pub fn parts(&mut self) -> (&T, Pin<&mut (dyn Future<Output = R> + Send + 'static)>) {
        (&self.lease, self.future.as_mut())
    }
}

impl<T, R> Drop for LeasedFuture<T, R> {
    fn drop(&mut self) {
        // SAFETY: it is dropped once, here, and not used after this.
        unsafe { ManuallyDrop::drop(&mut self.future) };
    }
}
