//! Structs and enums, as [`#[data]`](macro@crate::data) writes them.
//!
//! What leads to a struct is its address and a function of its own side, which writes the views of its fields one behind
//! another, as in a C struct. So one call gives all fields, and a newer struct, which has more of them at its end, has
//! the others at the same places: whoever reads says how many it knows, and is told how many were written.

use super::{
    data::{Data, Reader, Unreadable},
    sequences::Items,
};

/// Writes the views of the first `count` fields to `fields`, or of as many as there are. Gives how many those are.
pub type Fill = unsafe extern "C" fn(value: *const (), fields: *mut (), count: u32) -> u32;

/// What leads to a struct, or to the fields of a variant.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RecordView {
    value: *const (),
    fill: Fill,
}

/// What leads to an enum.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct VariantView {
    /// Which variant: its place in the enum, without the one that stands for all others.
    pub number: u32,
    /// Its fields.
    pub fields: RecordView,
}

/// What leads to several structs in a row.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Records {
    first: *const (),
    count: usize,
    /// From one to the next, in bytes, on their own side.
    stride: usize,
    fill: Fill,
}

/// A struct.
///
/// # Safety
///
/// As for [`Data`]; `FILL` is for values of this type.
pub unsafe trait Record: Data<View = RecordView> {
    /// Writes its fields.
    const FILL: Fill;
}

impl VariantView {
    /// The number of the variant that stands for all others.
    pub const OTHER: u32 = u32::MAX;
}

impl RecordView {
    /// What leads to `value`, whose fields `fill` writes.
    ///
    /// A view that is wrong is found only by who reads it, which is unsafe.
    #[inline]
    pub fn new<T>(value: &T, fill: Fill) -> Self {
        Self {
            value: (&raw const *value).cast(),
            fill,
        }
    }

    /// Has the fields written to `fields`, the first `count` of them if there are so many. Gives how many there are.
    ///
    /// # Safety
    ///
    /// The value is there, and has fields of these types. `fields` is a place for so many.
    #[inline]
    pub unsafe fn fill<F>(self, fields: *mut F, count: u32) -> u32 {
        // SAFETY: the function is for this value; the rest is the caller's promise.
        unsafe { (self.fill)(self.value, fields.cast(), count) }
    }
}

/// For a variant without fields.
///
/// # Safety
///
/// None is needed; it is a [`Fill`].
pub unsafe extern "C" fn no_fields(_: *const (), _: *mut (), _: u32) -> u32 {
    0
}

// SAFETY: `fill` is the function of the side that has the values, which knows where they lie.
unsafe impl<T: Record> Items<T> for Records {
    type Borrowed<'a> = Vec<T>;

    #[inline]
    fn of(items: &[T]) -> Self {
        Self {
            first: items.as_ptr().cast(),
            count: items.len(),
            stride: size_of::<T>(),
            fill: T::FILL,
        }
    }

    unsafe fn read(self, reader: Reader<'_>) -> Result<Vec<T>, Unreadable> {
        let mut items = Vec::with_capacity(self.count);
        for number in 0..self.count {
            let view = RecordView {
                // SAFETY: there are so many, so far from each other.
                value: unsafe { self.first.byte_add(number * self.stride) },
                fill: self.fill,
            };
            // SAFETY: the caller's promise.
            items.push(unsafe { T::read(view, reader) }?);
        }
        Ok(items)
    }

    unsafe fn borrow<'a>(self, reader: Reader<'_>) -> Result<Vec<T>, Unreadable>
    where
        T: 'a,
    {
        // SAFETY: the caller's promise.
        unsafe { self.read(reader) }
    }
}
