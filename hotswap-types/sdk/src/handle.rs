//! Shares of the host's objects in a plugin's hands.

use std::sync::Arc;

use abi_stable::StableAbi;

/// A share of an object of the host, whose code is the host's wherever the share is.
///
/// # Invariants
///
/// `object` is from `Arc::into_raw`, one count of it is this handle's, and `clone` and `drop` are those for its
/// type: [`new`](Self::new) is the only maker.
#[repr(C)]
#[derive(StableAbi, Debug)]
pub struct Handle {
    object: *const (),
    clone: unsafe extern "C" fn(*const ()),
    drop: unsafe extern "C" fn(*const ()),
}

// SAFETY: `new` takes only what may be shared between threads and sent to them.
unsafe impl Send for Handle {}
// SAFETY: `new` takes only what is `Sync`, and a shared handle lends nothing else.
unsafe impl Sync for Handle {}

impl Handle {
    /// A share of `object`.
    pub fn new<T: Send + Sync + 'static>(object: Arc<T>) -> Self {
        unsafe extern "C" fn clone<T>(object: *const ()) {
            // SAFETY: a `Handle` passes its `object`, which is from `Arc::<T>::into_raw` and has the count of that
            // handle.
            unsafe { Arc::increment_strong_count(object.cast::<T>()) }
        }

        unsafe extern "C" fn drop<T>(object: *const ()) {
            // SAFETY: a `Handle` that is being dropped passes its `object`, which is from `Arc::<T>::into_raw`, and
            // gives up its own count.
            unsafe { Arc::decrement_strong_count(object.cast::<T>()) }
        }

        Self {
            object: Arc::into_raw(object).cast(),
            clone: clone::<T>,
            drop: drop::<T>,
        }
    }

    /// The object.
    ///
    /// # Safety
    ///
    /// The handle was made of an `Arc<T>` by the image that calls this.
    pub unsafe fn object<T>(&self) -> &T {
        // SAFETY: the object stays because this handle has a count of it. It is a `T` (`# Safety` of this function).
        unsafe { &*self.object.cast() }
    }

    /// For the functions of a table that was made together with this handle.
    pub(crate) fn address(&self) -> *const () {
        self.object
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        // SAFETY: `clone` is the function for `object` (invariant of `Handle`). The count that it adds is that of the
        // new handle.
        unsafe { (self.clone)(self.object) };
        Self { ..*self }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: `drop` is the function for `object` (invariant of `Handle`). It gives up the count of this handle,
        // once.
        unsafe { (self.drop)(self.object) }
    }
}
