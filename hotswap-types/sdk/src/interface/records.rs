//! Structs and enums, as [`#[data]`](macro@crate::data) writes them.
//!
//! What leads to a struct is its address and a function of its own side, which writes the views of its fields one behind
//! another, as in a C struct. So one call gives all fields, and a newer struct, which has more of them at its end, has
//! the others at the same places: whoever reads says how many it knows, and is told how many were written.

use super::{
    data::{Data, ReadContext, ReadError},
    sequences::SliceView,
};

/// Writes the views of the first `count` fields to `fields`, or of as many as there are. Gives how many those are.
pub type WriteFieldsFn = unsafe extern "C" fn(value: *const (), fields: *mut (), count: u32) -> u32;

/// What leads to a struct, or to the fields of a variant.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RecordView {
    value: *const (),
    write_fields: WriteFieldsFn,
}

/// What leads to an enum.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct VariantView {
    /// Which variant: its place in the enum, without the one that stands for all others.
    pub index: u32,
    /// Its fields.
    pub fields: RecordView,
}

/// What leads to several structs in a row.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RecordSlice {
    first: *const (),
    count: usize,
    /// From one to the next, in bytes, on their own side.
    stride: usize,
    write_fields: WriteFieldsFn,
}

/// A struct.
///
/// # Safety
///
/// As for [`Data`]; `WRITE_FIELDS` is for values of this type.
pub unsafe trait Record: Data<View = RecordView> {
    /// Writes its fields.
    const WRITE_FIELDS: WriteFieldsFn;
}

impl VariantView {
    /// The number of the variant that stands for all others.
    pub const OTHER: u32 = u32::MAX;
}

impl RecordView {
    /// What leads to `value`, whose fields `write_fields` writes.
    ///
    /// A view that is wrong is found only by who reads it, which is unsafe.
    #[inline]
    pub fn new<T>(value: &T, write_fields: WriteFieldsFn) -> Self {
        Self {
            value: (&raw const *value).cast(),
            write_fields,
        }
    }

    /// Has the fields written to `fields`, the first `count` of them if there are so many. Gives how many there are.
    ///
    /// # Safety
    ///
    /// The value is there, and has fields of these types. `fields` is a place for so many.
    #[inline]
    pub unsafe fn write_fields<F>(self, fields: *mut F, count: u32) -> u32 {
        // SAFETY: the function is for this value; the rest is the caller's promise.
        unsafe { (self.write_fields)(self.value, fields.cast(), count) }
    }
}

/// For a variant without fields.
///
/// # Safety
///
/// None is needed; it is a [`WriteFieldsFn`].
pub unsafe extern "C" fn no_fields(_: *const (), _: *mut (), _: u32) -> u32 {
    0
}

// SAFETY: `write_fields` is the function of the side that has the values, which knows where they lie.
unsafe impl<T: Record> SliceView<T> for RecordSlice {
    type Borrowed<'a> = Vec<T>;

    #[inline]
    fn new(items: &[T]) -> Self {
        Self {
            first: items.as_ptr().cast(),
            count: items.len(),
            stride: size_of::<T>(),
            write_fields: T::WRITE_FIELDS,
        }
    }

    unsafe fn read(self, context: ReadContext<'_>) -> Result<Vec<T>, ReadError> {
        let mut items = Vec::with_capacity(self.count);
        for number in 0..self.count {
            let view = RecordView {
                // SAFETY: there are so many, so far from each other.
                value: unsafe { self.first.byte_add(number * self.stride) },
                write_fields: self.write_fields,
            };
            // SAFETY: the caller's promise.
            items.push(unsafe { T::read(view, context) }?);
        }
        Ok(items)
    }

    unsafe fn borrow<'a>(self, context: ReadContext<'_>) -> Result<Vec<T>, ReadError>
    where
        T: 'a,
    {
        // SAFETY: the caller's promise.
        unsafe { self.read(context) }
    }
}
