//! A lock that code of several generations can use at once.
//!
//! Locks of std cannot cross the border, and those of abi_stable run in the plugin that has made them, so that they
//! would keep it. This one is plain data: whoever has it works with the same few bytes, and waits in the kernel.

use std::{
    cell::UnsafeCell,
    fmt,
    ops::{Deref, DerefMut},
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use abi_stable::StableAbi;

const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// And somebody waits, or has.
const CONTENDED: u32 = 2;

/// Plain data that one thread at a time may look at and change, whichever generation its code is of.
///
/// ```
/// use hotswap_sdk::Lock;
///
/// let pair = Lock::new([1, 2]);
/// pair.lock().swap(0, 1);
/// assert_eq!(*pair.lock(), [2, 1]);
/// ```
///
/// It is not poisoned by a panic: what was written until then is what others see. It is not for long: to be asked
/// to stop wakes nobody who waits for it.
#[repr(C)]
#[derive(StableAbi)]
pub struct Lock<T> {
    state: AtomicU32,
    value: UnsafeCell<T>,
}

/// The right to what is behind a [`Lock`], until it is dropped.
#[must_use = "the lock is free again when it is dropped"]
pub struct Guard<'a, T> {
    lock: &'a Lock<T>,
}

// SAFETY: of all threads that share it, one at a time has the value.
unsafe impl<T: Send> Sync for Lock<T> {}

// SAFETY: it gives others a shared reference to the value, and no more.
unsafe impl<T: Sync> Sync for Guard<'_, T> {}

impl<T> Lock<T> {
    /// Puts a value behind a lock.
    pub const fn new(value: T) -> Self {
        Self {
            state: AtomicU32::new(FREE),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits until nobody else has it. A thread that has it already waits for ever.
    pub fn lock(&self) -> Guard<'_, T> {
        // Acquire, here and below: pairs with the Release of the guard's drop.
        let free = self.state.compare_exchange(FREE, TAKEN, Acquire, Relaxed);
        if free.is_err() {
            while self.state.swap(CONTENDED, Acquire) != FREE {
                atomic_wait::wait(&self.state, CONTENDED);
            }
        }
        Guard { lock: self }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `lock`.
        if self.lock.state.swap(FREE, Release) == CONTENDED {
            atomic_wait::wake_one(&self.lock.state);
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: there is one guard at a time.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: there is one guard at a time, and it is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").finish_non_exhaustive()
    }
}

impl<T: fmt::Debug> fmt::Debug for Guard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time_has_it() {
        let both = Lock::new((0_u64, 0_u64));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let mut both = both.lock();
                        both.0 += 1;
                        both.1 += 1;
                    }
                });
            }
        });
        assert_eq!(*both.lock(), (40_000, 40_000));
    }
}
