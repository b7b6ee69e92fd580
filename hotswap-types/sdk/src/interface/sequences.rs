//! Slices, vectors and text.

use std::{
    ffi::{OsStr, OsString},
    num::NonZero,
    path::{Path, PathBuf},
    slice,
};

use super::{
    data::{ByRef, Data, ReadContext, ReadError},
    description::{TypeIndex, Types},
};

/// The view of a slice of `T`.
///
/// # Safety
///
/// It is `repr(C)`. A view from [`new`](Self::new) can be read on either side, as long as the values are neither
/// changed nor dropped.
pub unsafe trait SliceView<T>: Copy {
    /// What the other side has during the call: a reference if the bytes are the same on both sides, otherwise copies.
    type Borrowed<'a>: AsRef<[T]>
    where
        T: 'a;

    /// The view of `items`.
    fn new(items: &[T]) -> Self;

    /// Copies the values.
    ///
    /// # Errors
    ///
    /// One of them has a part that this side cannot read.
    ///
    /// # Safety
    ///
    /// The view is from [`new`](Self::new) on either side, of values whose type has the same description as `T`, or a
    /// compatible one. Until this returns, the values are neither changed nor dropped.
    unsafe fn read(self, context: ReadContext<'_>) -> Result<Vec<T>, ReadError>;

    /// Borrows or copies the values.
    ///
    /// # Errors
    ///
    /// One of them has a part that this side cannot read.
    ///
    /// # Safety
    ///
    /// The view is from [`new`](Self::new) on either side, of values whose type has the same description as `T`, or a
    /// compatible one. The values are neither changed nor dropped during `'a`.
    unsafe fn borrow<'a>(self, context: ReadContext<'_>) -> Result<Self::Borrowed<'a>, ReadError>
    where
        T: 'a;
}

/// A number, or another type whose bytes mean the same on both sides.
pub(super) trait Plain: Copy + 'static {}

/// The view of a slice of values whose bytes mean the same on both sides.
#[derive(Debug)]
#[repr(C)]
pub struct PlainSlice<T> {
    first: *const T,
    count: usize,
}

/// The view of a slice of other values: their addresses, and a function of their own side that gives the view of one.
#[derive(Debug)]
#[repr(C)]
pub struct IndirectSlice<V> {
    items: Addresses,
    /// Gives the view of the value at an address.
    view: unsafe extern "C" fn(item: *const ()) -> V,
}

/// The addresses of the values of a slice.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Addresses {
    first: *const (),
    count: usize,
    /// From one value to the next, in bytes. (The other side's version of the type may have another size.)
    stride: usize,
}

/// The view of text.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct StrView(PlainSlice<u8>);

// SAFETY: the view is address and length of a slice, in `repr(C)`. The bytes of a `Plain` type mean the same on both
// sides.
unsafe impl<T: Plain> SliceView<T> for PlainSlice<T> {
    type Borrowed<'a> = &'a [T];

    #[inline]
    fn new(items: &[T]) -> Self {
        Self {
            first: items.as_ptr(),
            count: items.len(),
        }
    }

    #[inline]
    unsafe fn read(self, context: ReadContext<'_>) -> Result<Vec<T>, ReadError> {
        // SAFETY: the values stay unchanged until this returns (`# Safety` of this function). The reference is not used
        // after that.
        unsafe { self.borrow(context) }.map(<[T]>::to_vec)
    }

    #[inline]
    unsafe fn borrow<'a>(self, _: ReadContext<'_>) -> Result<&'a [T], ReadError>
    where
        T: 'a,
    {
        // SAFETY: address and length are from `new`, of a slice of the same plain type. It is neither changed nor
        // dropped during `'a` (`# Safety` of this function).
        Ok(unsafe { slice::from_raw_parts(self.first, self.count) })
    }
}

// SAFETY: addresses and function are of one side, in `repr(C)`: the function gives the view of any of these values.
unsafe impl<T: Data> SliceView<T> for IndirectSlice<T::View> {
    type Borrowed<'a> = Vec<T>;

    #[inline]
    fn new(items: &[T]) -> Self {
        unsafe extern "C" fn view<T: Data>(item: *const ()) -> T::View {
            // SAFETY: `each` passes the address of one of the items, which are `T`s and are neither changed nor dropped
            // meanwhile.
            unsafe { &*item.cast::<T>() }.view()
        }

        Self::of(items, view::<T>)
    }

    unsafe fn read(self, context: ReadContext<'_>) -> Result<Vec<T>, ReadError> {
        // SAFETY: `each` passes the view of a value that stays unchanged during this call (`# Safety` of this
        // function).
        let read = |view| unsafe { T::read(view, context) };
        // SAFETY: the view is of values that stay unchanged during this call (`# Safety` of this function).
        unsafe { self.each(read) }
    }

    unsafe fn borrow<'a>(self, context: ReadContext<'_>) -> Result<Vec<T>, ReadError>
    where
        T: 'a,
    {
        // SAFETY: the values stay unchanged during this call, which is within `'a` (`# Safety` of this function).
        unsafe { self.read(context) }
    }
}

impl<V> IndirectSlice<V> {
    /// The view of `items`, each of which `view` gives the view of.
    ///
    /// Safe even if `view` is for other values, because only reading the view uses it, which is unsafe.
    #[inline]
    pub(super) fn of<I>(items: &[I], view: unsafe extern "C" fn(item: *const ()) -> V) -> Self {
        Self {
            items: Addresses::new(items),
            view,
        }
    }

    /// What `read` makes of the view of each value.
    ///
    /// # Errors
    ///
    /// The first one of `read`.
    ///
    /// # Safety
    ///
    /// The view is from [`of`](Self::of) on either side, of values that the function is for and that are neither
    /// changed nor dropped until this returns.
    pub(super) unsafe fn each<T>(
        self,
        read: impl Fn(V) -> Result<T, ReadError>,
    ) -> Result<Vec<T>, ReadError> {
        let read = |item| {
            // SAFETY: `Addresses::each` passes the address of one of the values, which the function is for (`# Safety`
            // of this function).
            read(unsafe { (self.view)(item) })
        };
        // SAFETY: the addresses are of values that are not dropped during this call (`# Safety` of this function).
        unsafe { self.items.each(read) }
    }
}

impl Addresses {
    #[inline]
    pub(super) fn new<T>(items: &[T]) -> Self {
        Self {
            first: items.as_ptr().cast(),
            count: items.len(),
            stride: size_of::<T>(),
        }
    }

    /// What `read` makes of each address.
    ///
    /// # Errors
    ///
    /// The first one of `read`.
    ///
    /// # Safety
    ///
    /// The addresses are from [`new`](Self::new) on either side, of values that are not dropped until this returns.
    pub(super) unsafe fn each<T>(
        self,
        read: impl Fn(*const ()) -> Result<T, ReadError>,
    ) -> Result<Vec<T>, ReadError> {
        let mut items = Vec::with_capacity(self.count);
        for index in 0..self.count {
            // SAFETY: the slice has `count` values, each `stride` bytes from the one before it, so that the address is
            // in it.
            items.push(read(unsafe { self.first.byte_add(index * self.stride) })?);
        }
        Ok(items)
    }
}

impl StrView {
    #[inline]
    fn new(text: &str) -> Self {
        Self(PlainSlice::new(text.as_bytes()))
    }

    /// # Safety
    ///
    /// The view is from [`new`](Self::new) on either side, and its text is neither changed nor dropped during `'a`.
    #[inline]
    unsafe fn get<'a>(self) -> &'a str {
        // SAFETY: address and length are from `new`, of a text that is neither changed nor dropped during `'a` (`#
        // Safety` of this function).
        let bytes = unsafe { slice::from_raw_parts(self.0.first, self.0.count) };
        // SAFETY: `new` has viewed a `str`, so that the bytes are UTF-8.
        unsafe { str::from_utf8_unchecked(bytes) }
    }
}

// SAFETY: the view is address and length of text, in `repr(C)`. UTF-8 means the same on both sides.
#[diagnostic::do_not_recommend]
unsafe impl Data for String {
    type View = StrView;
    type Slice = IndirectSlice<StrView>;

    #[inline]
    fn view(&self) -> StrView {
        StrView::new(self)
    }

    #[inline]
    unsafe fn read(view: StrView, _: ReadContext<'_>) -> Result<Self, ReadError> {
        // SAFETY: `view` is of a text that stays unchanged during this call (`# Safety` of this function). The
        // reference is not used after that.
        Ok(unsafe { view.get() }.to_owned())
    }

    fn describe(types: &mut Types) -> TypeIndex {
        types.named::<Self>("text", &[])
    }
}

// SAFETY: view and description are those of `String`, and UTF-8 means the same on both sides.
#[diagnostic::do_not_recommend]
unsafe impl ByRef for str {
    type View = StrView;
    type Borrowed<'a> = &'a str;

    #[inline]
    fn view_ref(&self) -> StrView {
        StrView::new(self)
    }

    #[inline]
    unsafe fn borrow<'a>(view: StrView, _: ReadContext<'_>) -> Result<&'a str, ReadError> {
        // SAFETY: `view` is of a text that is neither changed nor dropped during `'a` (`# Safety` of this function).
        Ok(unsafe { view.get() })
    }

    #[inline]
    fn get<'a>(borrowed: &'a &str) -> &'a str {
        borrowed
    }

    fn describe_ref(types: &mut Types) -> TypeIndex {
        String::describe(types)
    }
}

/// Texts of the system, from the bytes that the other side has viewed.
#[cfg(unix)]
mod os_text {
    use std::{
        ffi::{OsStr, OsString},
        os::unix::ffi::{OsStrExt, OsStringExt},
    };

    use super::ReadError;

    pub(super) fn owned(bytes: Vec<u8>) -> Result<OsString, ReadError> {
        Ok(OsString::from_vec(bytes))
    }

    pub(super) fn borrowed(bytes: &[u8]) -> Result<&OsStr, ReadError> {
        Ok(OsStr::from_bytes(bytes))
    }
}

/// Texts of the system, from the bytes that the other side has viewed. Where they are no UTF-8, they are in an encoding
/// of std's own, which the std of the other side may not have.
#[cfg(not(unix))]
mod os_text {
    use std::ffi::{OsStr, OsString};

    use super::ReadError;
    use crate::interface::fault::FaultKind;

    pub(super) fn owned(bytes: Vec<u8>) -> Result<OsString, ReadError> {
        String::from_utf8(bytes)
            .map(OsString::from)
            .map_err(|_| not_text())
    }

    pub(super) fn borrowed(bytes: &[u8]) -> Result<&OsStr, ReadError> {
        str::from_utf8(bytes)
            .map(OsStr::new)
            .map_err(|_| not_text())
    }

    fn not_text() -> ReadError {
        ReadError::new(FaultKind::Unknown(
            "a path or name that is not Unicode".to_owned(),
        ))
    }
}

macro_rules! system_text {
    ($($borrowed:ty, $owned:ty: $name:literal;)*) => { $(
        // SAFETY: the view is of the bytes that `os_text` reads. On Unix they are any; elsewhere it refuses what is not
        // UTF-8, so that whatever is accepted means the same on both sides.
        #[diagnostic::do_not_recommend]
        unsafe impl Data for $owned {
            type View = PlainSlice<u8>;
            type Slice = IndirectSlice<PlainSlice<u8>>;

            fn view(&self) -> PlainSlice<u8> {
                <$borrowed>::view_ref(self)
            }

            unsafe fn read(view: PlainSlice<u8>, context: ReadContext<'_>) -> Result<Self, ReadError> {
                // SAFETY: `view` is of bytes that stay unchanged during this call (`# Safety` of this function).
                let bytes = unsafe { view.read(context) }?;
                Ok(os_text::owned(bytes)?.into())
            }

            fn describe(types: &mut Types) -> TypeIndex {
                types.named::<Self>($name, &[])
            }
        }

        // SAFETY: view and description are those of the owned type. `os_text` refuses bytes that mean something else
        // here.
        #[diagnostic::do_not_recommend]
        unsafe impl ByRef for $borrowed {
            type View = PlainSlice<u8>;
            type Borrowed<'a> = &'a Self;

            fn view_ref(&self) -> PlainSlice<u8> {
                PlainSlice::new(AsRef::<OsStr>::as_ref(self).as_encoded_bytes())
            }

            unsafe fn borrow<'a>(
                view: PlainSlice<u8>,
                context: ReadContext<'_>,
            ) -> Result<&'a Self, ReadError> {
                // SAFETY: `view` is of bytes that are neither changed nor dropped during `'a` (`# Safety` of this
                // function).
                let bytes = unsafe { view.borrow(context) }?;
                Ok(os_text::borrowed(bytes)?.as_ref())
            }

            fn get<'a>(borrowed: &'a &Self) -> &'a Self {
                borrowed
            }

            fn describe_ref(types: &mut Types) -> TypeIndex {
                <$owned>::describe(types)
            }
        }
    )* };
}

system_text! {
    OsStr, OsString: "OsString";
    Path, PathBuf: "PathBuf";
}

// SAFETY: the view is the `SliceView` of `T`, and the description has that of `T`, from which the view follows.
unsafe impl<T: Data> Data for Vec<T> {
    type View = T::Slice;
    type Slice = IndirectSlice<T::Slice>;

    #[inline]
    fn view(&self) -> T::Slice {
        T::Slice::new(self)
    }

    #[inline]
    unsafe fn read(view: T::Slice, context: ReadContext<'_>) -> Result<Self, ReadError> {
        // SAFETY: `view` is of a vector's values, which stay unchanged during this call (`# Safety` of this function).
        unsafe { view.read(context) }
    }

    fn describe(types: &mut Types) -> TypeIndex {
        let item = T::describe(types);
        types.named::<Self>("Vec", &[item])
    }
}

// SAFETY: view and description are those of `Vec<T>`.
#[diagnostic::do_not_recommend]
unsafe impl<T: Data> ByRef for [T] {
    type View = T::Slice;
    type Borrowed<'a> = <T::Slice as SliceView<T>>::Borrowed<'a>;

    #[inline]
    fn view_ref(&self) -> T::Slice {
        T::Slice::new(self)
    }

    #[inline]
    unsafe fn borrow<'a>(
        view: T::Slice,
        context: ReadContext<'_>,
    ) -> Result<Self::Borrowed<'a>, ReadError> {
        // SAFETY: `view` is of values that are neither changed nor dropped during `'a` (`# Safety` of this function).
        unsafe { view.borrow(context) }
    }

    #[inline]
    fn get<'a>(borrowed: &'a Self::Borrowed<'_>) -> &'a Self {
        borrowed.as_ref()
    }

    fn describe_ref(types: &mut Types) -> TypeIndex {
        Vec::<T>::describe(types)
    }
}

impl<T> Clone for PlainSlice<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for PlainSlice<T> {}

impl<V> Clone for IndirectSlice<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for IndirectSlice<V> {}

macro_rules! plain {
    ($($type:ty: $name:literal),* $(,)?) => { $(
        impl Plain for $type {}

        // SAFETY: the view is the value, whose bytes mean the same on both sides. The description is its name.
        #[diagnostic::do_not_recommend]
        unsafe impl Data for $type {
            type View = $type;
            type Slice = PlainSlice<$type>;

            #[inline]
            fn view(&self) -> $type {
                *self
            }

            #[inline]
            unsafe fn read(view: $type, _: ReadContext<'_>) -> Result<$type, ReadError> {
                Ok(view)
            }

            fn describe(types: &mut Types) -> TypeIndex {
                types.named::<$type>($name, &[])
            }
        }
    )* };
}

plain! {
    u8: "u8", u16: "u16", u32: "u32", u64: "u64", u128: "u128", usize: "usize",
    i8: "i8", i16: "i16", i32: "i32", i64: "i64", i128: "i128", isize: "isize",
    f32: "f32", f64: "f64", bool: "bool", char: "char",
    NonZero<u8>: "NonZero<u8>", NonZero<u16>: "NonZero<u16>", NonZero<u32>: "NonZero<u32>",
    NonZero<u64>: "NonZero<u64>", NonZero<u128>: "NonZero<u128>", NonZero<usize>: "NonZero<usize>",
    NonZero<i8>: "NonZero<i8>", NonZero<i16>: "NonZero<i16>", NonZero<i32>: "NonZero<i32>",
    NonZero<i64>: "NonZero<i64>", NonZero<i128>: "NonZero<i128>", NonZero<isize>: "NonZero<isize>",
}
