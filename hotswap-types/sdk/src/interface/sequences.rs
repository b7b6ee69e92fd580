//! Values in a row: slices, vectors, text.

use std::slice;

use super::{
    data::{ByRef, Data, ReadContext, ReadError},
    description::{TypeIndex, Types},
};

/// What leads to several values of one type in a row.
///
/// # Safety
///
/// As for [`Data`].
pub unsafe trait SliceView<T>: Copy {
    /// What a reader has of them for the time of a call: they themselves if their bytes are the same on both sides,
    /// otherwise copies.
    type Borrowed<'a>: AsRef<[T]>
    where
        T: 'a;

    /// What leads to these.
    fn new(items: &[T]) -> Self;

    /// Copies them.
    ///
    /// # Errors
    ///
    /// One of them has a part that cannot be read here.
    ///
    /// # Safety
    ///
    /// As for [`Data::read`].
    unsafe fn read(self, context: ReadContext<'_>) -> Result<Vec<T>, ReadError>;

    /// Borrows or copies them.
    ///
    /// # Errors
    ///
    /// One of them has a part that cannot be read here.
    ///
    /// # Safety
    ///
    /// As for [`Data::read`]; they do not change or end during `'a`.
    unsafe fn borrow<'a>(self, context: ReadContext<'_>) -> Result<Self::Borrowed<'a>, ReadError>
    where
        T: 'a;
}

/// A number, or another type whose bytes are the same on both sides.
pub(super) trait Plain: Copy + 'static {}

/// Values whose bytes are the same on both sides.
#[derive(Debug)]
#[repr(C)]
pub struct PlainSlice<T> {
    first: *const T,
    count: usize,
}

/// Other values, each of which is looked at by way of its own side.
#[derive(Debug)]
#[repr(C)]
pub struct IndirectSlice<V> {
    first: *const (),
    count: usize,
    /// From one to the next, in bytes, on their own side.
    stride: usize,
    view: unsafe extern "C" fn(item: *const ()) -> V,
}

/// StrView.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct StrView(PlainSlice<u8>);

// SAFETY: plain bytes lead to nothing, and have the same meaning on both sides.
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
        // SAFETY: the caller's promise.
        unsafe { self.borrow(context) }.map(<[T]>::to_vec)
    }

    #[inline]
    unsafe fn borrow<'a>(self, _: ReadContext<'_>) -> Result<&'a [T], ReadError>
    where
        T: 'a,
    {
        // SAFETY: it was made of a slice, which the caller says is still there.
        Ok(unsafe { slice::from_raw_parts(self.first, self.count) })
    }
}

// SAFETY: `view` is the function of the side that has the values, which knows where they lie.
unsafe impl<T: Data> SliceView<T> for IndirectSlice<T::View> {
    type Borrowed<'a> = Vec<T>;

    #[inline]
    fn new(items: &[T]) -> Self {
        unsafe extern "C" fn view<T: Data>(item: *const ()) -> T::View {
            // SAFETY: `read` calls it with the address of an item.
            unsafe { &*item.cast::<T>() }.view()
        }

        Self {
            first: items.as_ptr().cast(),
            count: items.len(),
            stride: size_of::<T>(),
            view: view::<T>,
        }
    }

    unsafe fn read(self, context: ReadContext<'_>) -> Result<Vec<T>, ReadError> {
        let mut items = Vec::with_capacity(self.count);
        for number in 0..self.count {
            // SAFETY: there are so many, so far from each other.
            let item = unsafe { self.first.byte_add(number * self.stride) };
            // SAFETY: the function is for this.
            let view = unsafe { (self.view)(item) };
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

impl StrView {
    #[inline]
    fn new(text: &str) -> Self {
        Self(PlainSlice::new(text.as_bytes()))
    }

    /// # Safety
    ///
    /// The text does not change or end during `'a`.
    #[inline]
    unsafe fn get<'a>(self) -> &'a str {
        // SAFETY: the caller's promise.
        let bytes = unsafe { slice::from_raw_parts(self.0.first, self.0.count) };
        // SAFETY: `of` has made it of a text.
        unsafe { str::from_utf8_unchecked(bytes) }
    }
}

// SAFETY: text is the same bytes on both sides.
unsafe impl Data for String {
    type View = StrView;
    type Slice = IndirectSlice<StrView>;

    #[inline]
    fn view(&self) -> StrView {
        StrView::new(self)
    }

    #[inline]
    unsafe fn read(view: StrView, _: ReadContext<'_>) -> Result<Self, ReadError> {
        // SAFETY: the caller's promise.
        Ok(unsafe { view.get() }.to_owned())
    }

    fn describe(types: &mut Types) -> TypeIndex {
        types.named::<Self>("text", &[])
    }
}

// SAFETY: text is the same bytes on both sides.
unsafe impl ByRef for str {
    type View = StrView;
    type Borrowed<'a> = &'a str;

    #[inline]
    fn view_ref(&self) -> StrView {
        StrView::new(self)
    }

    #[inline]
    unsafe fn borrow<'a>(view: StrView, _: ReadContext<'_>) -> Result<&'a str, ReadError> {
        // SAFETY: the caller's promise.
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

// SAFETY: those of `SliceView`.
unsafe impl<T: Data> Data for Vec<T> {
    type View = T::Slice;
    type Slice = IndirectSlice<T::Slice>;

    #[inline]
    fn view(&self) -> T::Slice {
        T::Slice::new(self)
    }

    #[inline]
    unsafe fn read(view: T::Slice, context: ReadContext<'_>) -> Result<Self, ReadError> {
        // SAFETY: the caller's promise.
        unsafe { view.read(context) }
    }

    fn describe(types: &mut Types) -> TypeIndex {
        let item = T::describe(types);
        types.named::<Self>("Vec", &[item])
    }
}

// SAFETY: those of `SliceView`.
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
        // SAFETY: the caller's promise.
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

        // SAFETY: its bytes have the same meaning on both sides.
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
}
