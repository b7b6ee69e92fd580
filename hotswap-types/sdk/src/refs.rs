//! Values that outlive the plugin that has made them.

use std::{
    alloc::{self, Layout},
    fmt,
    marker::PhantomData,
    mem,
    ops::Deref,
    ptr,
};

use abi_stable::{StableAbi, type_layout::TypeLayout};

use crate::{fault::discard, handle::Handle};

/// A share of a named value that belongs to no generation: services on old code and on new use it at once.
///
/// The value stays as long as there is a share of it, also when its name has been given to another one
/// ([`Update::write_ref`](crate::Update::write_ref)) or to none.
#[repr(C)]
pub struct Ref<T> {
    data: *const T,
    owner: Handle,
    of: PhantomData<T>,
}

/// The same, before it is known what it is of.
#[repr(C)]
#[derive(StableAbi, Debug)]
pub struct RawRef {
    data: *const (),
    owner: Handle,
}

/// The type of a value.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct TypeInfo {
    /// As abi_stable describes it. It lies in the image of whoever speaks of the type.
    pub layout: &'static TypeLayout,
    /// Whether there is something to do when a value is dropped.
    pub needs_drop: bool,
}

/// A value in the hands of the host.
///
/// # Invariants
///
/// `data` is a value of this size and alignment, in memory that `drop` gives back. It may be used from any thread.
/// What makes one sees to that: [`new`](Self::new) and [`moved`](Self::moved).
#[repr(C)]
#[derive(StableAbi, Debug)]
pub struct Parcel {
    data: *mut (),
    size: usize,
    align: usize,
    drop: unsafe extern "C" fn(*mut (), usize, usize),
}

// SAFETY: `Parcel::new` takes only what may be used from any thread.
unsafe impl Send for Parcel {}
// SAFETY: `Parcel::new` takes only what may be used from any thread, and a shared parcel gives nothing away.
unsafe impl Sync for Parcel {}

// SAFETY: it gives what a shared reference gives, and keeps the value as an `Arc` does.
unsafe impl<T: Send + Sync> Send for Ref<T> {}
// SAFETY: what is shared of it is a shared reference to the value, which is `Sync`.
unsafe impl<T: Send + Sync> Sync for Ref<T> {}

impl TypeInfo {
    /// That of `T`.
    pub const fn of<T: StableAbi>() -> Self {
        Self {
            layout: T::LAYOUT,
            needs_drop: mem::needs_drop::<T>(),
        }
    }
}

impl Parcel {
    /// Hands a value over. Its code stays that of the image that calls this.
    pub fn new<T: Send + Sync + 'static>(value: T) -> Self {
        unsafe extern "C" fn drop<T>(data: *mut (), _: usize, _: usize) {
            // SAFETY: a `Parcel` that is being dropped passes its `data`, the `Box<T>` that is leaked below. Nobody
            // else owns it.
            discard(unsafe { Box::from_raw(data.cast::<T>()) });
        }

        Self {
            data: Box::into_raw(Box::new(value)).cast(),
            size: size_of::<T>(),
            align: align_of::<T>(),
            drop: drop::<T>,
        }
    }

    /// Where the value lies.
    pub fn data(&self) -> *const () {
        self.data
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The same value in memory of the image that calls this, which then has nothing of any other image.
    ///
    /// # Safety
    ///
    /// There is nothing to do when the value is dropped, and nothing in it leads into an image.
    pub unsafe fn moved(self) -> Self {
        unsafe extern "C" fn drop(data: *mut (), size: usize, align: usize) {
            if size > 0 {
                // SAFETY: `moved` has made a `Layout` of this size and alignment before it stored them.
                let layout = unsafe { Layout::from_size_align_unchecked(size, align) };
                // SAFETY: `moved` has allocated this memory with this layout. The parcel that owns it is being dropped.
                unsafe { alloc::dealloc(data.cast(), layout) };
            }
        }

        let Self { size, align, .. } = self;
        let layout = Layout::from_size_align(size, align).expect("that of a type");
        let data = if size == 0 {
            ptr::without_provenance_mut(align)
        } else {
            // SAFETY: the size is not 0.
            let data = unsafe { alloc::alloc(layout) };
            if data.is_null() {
                alloc::handle_alloc_error(layout);
            }
            data
        };
        // SAFETY: both are valid for that many bytes, and what was just allocated overlaps nothing.
        unsafe { ptr::copy_nonoverlapping(self.data.cast::<u8>(), data, size) };
        Self {
            data: data.cast(),
            size,
            align,
            drop,
        }
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        // SAFETY: `drop` is the function for a value of this size and alignment at `data` (invariant of `Parcel`). The
        // parcel owns the value, and this runs once.
        unsafe { (self.drop)(self.data, self.size, self.align) }
    }
}

impl RawRef {
    /// A share of the value in `parcel`, which `owner` keeps.
    pub fn new(parcel: &Parcel, owner: Handle) -> Self {
        Self {
            data: parcel.data(),
            owner,
        }
    }

    /// The share, when it is known what it is of.
    ///
    /// # Safety
    ///
    /// The value is a `T`.
    pub unsafe fn typed<T>(self) -> Ref<T> {
        Ref {
            data: self.data.cast(),
            owner: self.owner,
            of: PhantomData,
        }
    }
}

impl<T> Deref for Ref<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `owner` keeps the value, which is a `T` (`RawRef::typed`), and only ever lent out shared.
        unsafe { &*self.data }
    }
}

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        Self {
            data: self.data,
            owner: self.owner.clone(),
            of: PhantomData,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ref").field(&**self).finish()
    }
}
