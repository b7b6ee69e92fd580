//! A list that a signal handler may read.
//!
//! A signal handler must not wait for a lock, because the thread that it has interrupted may hold it, and must not
//! allocate. So a [`SignalSafeList`] is read without either. Values may be added and removed at any time; a value that
//! is removed while somebody reads is never freed.
//!
//! # Why a value that is being read is not freed
//!
//! A reader counts itself, passes a full fence, and loads a value. Whoever removes a value clears its place, passes a
//! full fence, and loads the count. One of the fences is the first:
//!
//! - The reader's: the other thread finds it counted, and leaks the value.
//! - The other thread's: the reader finds the place empty.

use std::{ops::Deref, ptr};

use crate::sync::{AtomicPtr, AtomicUsize, Ordering, fence};

/// A list of values that a signal handler may read.
#[derive(Debug)]
pub struct SignalSafeList<T> {
    newest: AtomicPtr<Place<T>>,
    readers: AtomicUsize,
}

/// A place for one value. Places are never freed, and are used again.
#[derive(Debug)]
struct Place<T> {
    /// Null if the place is free.
    value: AtomicPtr<T>,
    next: *const Place<T>,
}

/// A value in a [`SignalSafeList`], which is removed and dropped with this.
#[derive(Debug)]
pub struct Listed<T: 'static> {
    list: &'static SignalSafeList<T>,
    place: &'static Place<T>,
    value: *const T,
}

/// The values of a [`SignalSafeList`], from [`read`](SignalSafeList::read). As long as this exists, values that are
/// removed are leaked.
#[derive(Debug)]
pub struct ListReader<T: 'static>(&'static SignalSafeList<T>);

// SAFETY: it has shared references to values, and values that any thread may drop.
unsafe impl<T: Send + Sync> Sync for SignalSafeList<T> {}
// SAFETY: it has shared references to values, and values that any thread may drop.
unsafe impl<T: Send + Sync> Send for SignalSafeList<T> {}
// SAFETY: it owns the value, and gives shared references to it.
unsafe impl<T: Send + Sync> Send for Listed<T> {}
// SAFETY: it gives shared references to the value.
unsafe impl<T: Send + Sync> Sync for Listed<T> {}

impl<T: Send + Sync> SignalSafeList<T> {
    /// An empty list.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            newest: AtomicPtr::new(ptr::null_mut()),
            readers: AtomicUsize::new(0),
        }
    }

    /// An empty list.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            newest: AtomicPtr::new(ptr::null_mut()),
            readers: AtomicUsize::new(0),
        }
    }

    /// Adds a value. Waits for nobody. Not for signal handlers: it allocates.
    pub fn insert(&'static self, value: T) -> Listed<T> {
        let value = Box::into_raw(Box::new(value));
        let place = self.places().find(|place| place.take(value));
        Listed {
            list: self,
            place: place.unwrap_or_else(|| self.add(value)),
            value,
        }
    }

    /// Reads the list. May be called in a signal handler (async-signal-safe in the sense of signal-safety(7)): it takes
    /// no lock, and allocates nothing.
    pub fn read(&'static self) -> ListReader<T> {
        // Relaxed: the fence orders it.
        self.readers.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in the `Drop` of `Listed`.
        fence(Ordering::SeqCst);
        ListReader(self)
    }

    fn places(&'static self) -> impl Iterator<Item = &'static Place<T>> {
        // Acquire: pairs with the Release in `add`, for the contents of a new place. It covers older places too,
        // because every `add` is a read-modify-write of the same variable.
        let mut next = self.newest.load(Ordering::Acquire).cast_const();
        std::iter::from_fn(move || {
            // SAFETY: places are never freed.
            let place = unsafe { next.as_ref() }?;
            next = place.next;
            Some(place)
        })
    }

    fn add(&'static self, value: *mut T) -> &'static Place<T> {
        let place = Box::leak(Box::new(Place {
            value: AtomicPtr::new(value),
            next: ptr::null(),
        }));
        // Relaxed: nothing is read through it.
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            place.next = newest;
            // Release: pairs with the Acquire in `places`.
            let added =
                self.newest
                    .compare_exchange(newest, place, Ordering::Release, Ordering::Relaxed);
            match added {
                Ok(_) => return place,
                Err(other) => newest = other,
            }
        }
    }
}

impl<T> Place<T> {
    /// Puts a value here, if the place is free.
    fn take(&self, value: *mut T) -> bool {
        // Release: pairs with the Acquire in `ListReader::iter`, for the value's contents.
        let taken = self.value.compare_exchange(
            ptr::null_mut(),
            value,
            Ordering::Release,
            Ordering::Relaxed,
        );
        taken.is_ok()
    }
}

impl<T> Deref for Listed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the value is from `Box::into_raw` in `insert`, and only `drop` frees it.
        unsafe { &*self.value }
    }
}

impl<T> Drop for Listed<T> {
    fn drop(&mut self) {
        // Release: a reader that finds the next value of this place finds its contents by that one's own Release. The
        // fence orders the rest.
        self.place.value.store(ptr::null_mut(), Ordering::Release);
        // Pairs with the fence in `read`.
        fence(Ordering::SeqCst);
        // Acquire: pairs with the Release in the `Drop` of `ListReader`: its reads come before the value is freed.
        if self.list.readers.load(Ordering::Acquire) == 0 {
            // SAFETY: it is from `Box::into_raw` in `insert`, and this frees it once. A reader that has counted itself
            // before the fence above has ended, and one that counts itself after it finds the place empty (*Why a value
            // that is being read is not freed*).
            drop(unsafe { Box::from_raw(self.value.cast_mut()) });
        }
    }
}

impl<T: Send + Sync> ListReader<T> {
    /// The values that are in the list. May be called in a signal handler.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.places().filter_map(|place| {
            // Acquire: pairs with the Releases in `take` and `add`.
            let value = place.value.load(Ordering::Acquire);
            // SAFETY: a value that is loaded after the fence in `read` is not freed before this reader has ended (*Why
            // a value that is being read is not freed*). Nobody has an exclusive reference to it.
            unsafe { value.as_ref() }
        })
    }
}

impl<T> Drop for ListReader<T> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in the `Drop` of `Listed`.
        self.0.readers.fetch_sub(1, Ordering::Release);
    }
}

impl<T: Send + Sync> Default for SignalSafeList<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// What is dropped, when nobody reads.
    #[test]
    fn values_are_added_read_and_dropped() {
        static LIST: SignalSafeList<Arc<u32>> = SignalSafeList::new();
        let all = || {
            let reader = LIST.read();
            let mut all: Vec<u32> = reader.iter().map(|it| **it).collect();
            all.sort_unstable();
            all
        };
        let (one, two) = (Arc::new(1), Arc::new(2));
        let (first, second) = (LIST.insert(Arc::clone(&one)), LIST.insert(Arc::clone(&two)));
        assert_eq!((**first, **second), (1, 2));
        assert_eq!(all(), [1, 2]);
        drop(first);
        assert_eq!(all(), [2]);
        assert_eq!(Arc::strong_count(&one), 1);

        let third = LIST.insert(Arc::new(3));
        assert_eq!(all(), [2, 3]);
        let places = LIST.places().count();
        assert_eq!(places, 2, "the first one's place is used again");

        let reader = LIST.read();
        drop((second, third));
        assert_eq!(reader.iter().count(), 0);
        assert_eq!(Arc::strong_count(&two), 2, "leaked, because somebody reads");
    }
}

#[cfg(all(test, loom))]
mod model;
