//! Structs and enums, as [`#[data]`](macro@crate::data) writes them.
//!
//! The view of a struct is its address and a function of its own side, which writes the views of the fields one after
//! another, as in a C struct. So one call gives all fields. A newer version of the struct has more fields at its end,
//! and the others at the same offsets. The reader passes how many fields it knows, and the function returns how many it
//! has written.

use super::{
    data::{Data, ReadContext, ReadError},
    sequences::{Addresses, SliceView},
};

/// Writes the views of the first `count` fields to `fields`, or of all if there are fewer. Returns how many it has
/// written.
///
/// # Safety
///
/// `value` is the address of a value of the type, or in the variant, that the function is for. `fields` has room for
/// the views of the first `count` fields, laid out as a C struct.
pub type WriteFieldsFn = unsafe extern "C" fn(value: *const (), fields: *mut (), count: u32) -> u32;

/// The view of a struct, or of the fields of a variant.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RecordView {
    value: *const (),
    write_fields: WriteFieldsFn,
}

/// The view of an enum.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct VariantView {
    /// The index of the variant in the enum, not counting the one with `#[data(other)]`.
    pub index: u32,
    /// Its fields.
    pub fields: RecordView,
}

/// The view of a slice of structs.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RecordSlice {
    items: Addresses,
    write_fields: WriteFieldsFn,
}

/// A struct.
///
/// # Safety
///
/// `WRITE_FIELDS` is for values of this type.
pub unsafe trait Record: Data<View = RecordView> {
    /// Writes the views of its fields.
    const WRITE_FIELDS: WriteFieldsFn;
}

impl VariantView {
    /// The index of the variant with `#[data(other)]`.
    pub const OTHER: u32 = u32::MAX;
}

impl RecordView {
    /// The view of `value`, whose fields `write_fields` writes.
    ///
    /// Safe even if `write_fields` is for another type, because only reading the view uses it, which is unsafe.
    #[inline]
    pub fn new<T>(value: &T, write_fields: WriteFieldsFn) -> Self {
        Self {
            value: (&raw const *value).cast(),
            write_fields,
        }
    }

    /// Writes the views of the first `count` fields to `fields`, or of all if there are fewer. Returns how many it has
    /// written.
    ///
    /// # Safety
    ///
    /// The view is from [`new`](Self::new) with the function for the value's type, and the value is neither changed nor
    /// dropped during the call. `F` is the C struct of the views of its first `count` fields, and `fields` has room for
    /// it.
    #[inline]
    pub unsafe fn write_fields<F>(self, fields: *mut F, count: u32) -> u32 {
        // SAFETY: the function is for this value, and `fields` has room for `count` views (`# Safety` of this
        // function).
        unsafe { (self.write_fields)(self.value, fields.cast(), count) }
    }
}

/// The [`WriteFieldsFn`] of a variant without fields.
///
/// # Safety
///
/// It has no conditions. It is unsafe because a `WriteFieldsFn` is.
pub unsafe extern "C" fn no_fields(_: *const (), _: *mut (), _: u32) -> u32 {
    0
}

// SAFETY: addresses and function are of one side, in `repr(C)`: the function writes the fields of any of these values.
unsafe impl<T: Record> SliceView<T> for RecordSlice {
    type Borrowed<'a> = Vec<T>;

    #[inline]
    fn new(items: &[T]) -> Self {
        Self {
            items: Addresses::new(items),
            write_fields: T::WRITE_FIELDS,
        }
    }

    unsafe fn read(self, context: ReadContext<'_>) -> Result<Vec<T>, ReadError> {
        let read = |value| {
            let view = RecordView {
                value,
                write_fields: self.write_fields,
            };
            // SAFETY: `each` passes the address of a struct that stays unchanged during this call (`# Safety` of this
            // function). `write_fields` is for it, so that this is its view.
            unsafe { T::read(view, context) }
        };
        // SAFETY: the addresses are of structs that are not dropped during this call (`# Safety` of this function).
        unsafe { self.items.each(read) }
    }

    unsafe fn borrow<'a>(self, context: ReadContext<'_>) -> Result<Vec<T>, ReadError>
    where
        T: 'a,
    {
        // SAFETY: the values stay unchanged during this call, which is within `'a` (`# Safety` of this function).
        unsafe { self.read(context) }
    }
}
