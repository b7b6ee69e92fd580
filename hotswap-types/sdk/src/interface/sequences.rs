//! Values in a row: slices, vectors, text.

use std::slice;

use super::{
    data::{Data, Lent, Reader, Unreadable},
    description::{TypeIndex, Types},
};

/// What leads to several values of one type in a row.
///
/// # Safety
///
/// As for [`Data`].
pub unsafe trait Items<T>: Copy {
    /// What a reader has of them for the time of a call: they themselves if their bytes are the same on both sides,
    /// otherwise copies.
    type Borrowed<'a>: AsRef<[T]>
    where
        T: 'a;

    /// What leads to these.
    fn of(items: &[T]) -> Self;

    /// Copies them.
    ///
    /// # Errors
    ///
    /// One of them has a part that cannot be read here.
    ///
    /// # Safety
    ///
    /// As for [`Data::read`].
    unsafe fn read(self, reader: Reader<'_>) -> Result<Vec<T>, Unreadable>;

    /// Borrows or copies them.
    ///
    /// # Errors
    ///
    /// One of them has a part that cannot be read here.
    ///
    /// # Safety
    ///
    /// As for [`Data::read`]; they do not change or end during `'a`.
    unsafe fn borrow<'a>(self, reader: Reader<'_>) -> Result<Self::Borrowed<'a>, Unreadable>
    where
        T: 'a;
}

/// A number, or another type whose bytes are the same on both sides.
pub(super) trait Plain: Copy + 'static {}

/// Values whose bytes are the same on both sides.
#[derive(Debug)]
#[repr(C)]
pub struct Bare<T> {
    first: *const T,
    count: usize,
}

/// Other values, each of which is looked at by way of its own side.
#[derive(Debug)]
#[repr(C)]
pub struct Viewed<V> {
    first: *const (),
    count: usize,
    /// From one to the next, in bytes, on their own side.
    stride: usize,
    view: unsafe extern "C" fn(item: *const ()) -> V,
}

/// Text.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Text(Bare<u8>);

// SAFETY: plain bytes lead to nothing, and have the same meaning on both sides.
unsafe impl<T: Plain> Items<T> for Bare<T> {
    type Borrowed<'a> = &'a [T];

    #[inline]
    fn of(items: &[T]) -> Self {
        Self {
            first: items.as_ptr(),
            count: items.len(),
        }
    }

    #[inline]
    unsafe fn read(self, reader: Reader<'_>) -> Result<Vec<T>, Unreadable> {
        // SAFETY: the caller's promise.
        unsafe { self.borrow(reader) }.map(<[T]>::to_vec)
    }

    #[inline]
    unsafe fn borrow<'a>(self, _: Reader<'_>) -> Result<&'a [T], Unreadable>
    where
        T: 'a,
    {
        // SAFETY: it was made of a slice, which the caller says is still there.
        Ok(unsafe { slice::from_raw_parts(self.first, self.count) })
    }
}

// SAFETY: `view` is the function of the side that has the values, which knows where they lie.
unsafe impl<T: Data> Items<T> for Viewed<T::View> {
    type Borrowed<'a> = Vec<T>;

    #[inline]
    fn of(items: &[T]) -> Self {
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

    unsafe fn read(self, reader: Reader<'_>) -> Result<Vec<T>, Unreadable> {
        let mut items = Vec::with_capacity(self.count);
        for number in 0..self.count {
            // SAFETY: there are so many, so far from each other.
            let item = unsafe { self.first.byte_add(number * self.stride) };
            // SAFETY: the function is for this.
            let view = unsafe { (self.view)(item) };
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

impl Text {
    #[inline]
    fn of(text: &str) -> Self {
        Self(Bare::of(text.as_bytes()))
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
    type View = Text;
    type Items = Viewed<Text>;

    #[inline]
    fn view(&self) -> Text {
        Text::of(self)
    }

    #[inline]
    unsafe fn read(view: Text, _: Reader<'_>) -> Result<Self, Unreadable> {
        // SAFETY: the caller's promise.
        Ok(unsafe { view.get() }.to_owned())
    }

    fn describe(types: &mut Types) -> TypeIndex {
        types.named::<Self>("text", &[])
    }
}

// SAFETY: text is the same bytes on both sides.
unsafe impl Lent for str {
    type View = Text;
    type Held<'a> = &'a str;

    #[inline]
    fn lend(&self) -> Text {
        Text::of(self)
    }

    #[inline]
    unsafe fn hold<'a>(view: Text, _: Reader<'_>) -> Result<&'a str, Unreadable> {
        // SAFETY: the caller's promise.
        Ok(unsafe { view.get() })
    }

    #[inline]
    fn get<'a>(held: &'a &str) -> &'a str {
        held
    }

    fn describe_lent(types: &mut Types) -> TypeIndex {
        String::describe(types)
    }
}

// SAFETY: those of `Items`.
unsafe impl<T: Data> Data for Vec<T> {
    type View = T::Items;
    type Items = Viewed<T::Items>;

    #[inline]
    fn view(&self) -> T::Items {
        T::Items::of(self)
    }

    #[inline]
    unsafe fn read(view: T::Items, reader: Reader<'_>) -> Result<Self, Unreadable> {
        // SAFETY: the caller's promise.
        unsafe { view.read(reader) }
    }

    fn describe(types: &mut Types) -> TypeIndex {
        let item = T::describe(types);
        types.named::<Self>("Vec", &[item])
    }
}

// SAFETY: those of `Items`.
unsafe impl<T: Data> Lent for [T] {
    type View = T::Items;
    type Held<'a> = <T::Items as Items<T>>::Borrowed<'a>;

    #[inline]
    fn lend(&self) -> T::Items {
        T::Items::of(self)
    }

    #[inline]
    unsafe fn hold<'a>(view: T::Items, reader: Reader<'_>) -> Result<Self::Held<'a>, Unreadable> {
        // SAFETY: the caller's promise.
        unsafe { view.borrow(reader) }
    }

    #[inline]
    fn get<'a>(held: &'a Self::Held<'_>) -> &'a Self {
        held.as_ref()
    }

    fn describe_lent(types: &mut Types) -> TypeIndex {
        Vec::<T>::describe(types)
    }
}

impl<T> Clone for Bare<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Bare<T> {}

impl<V> Clone for Viewed<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Viewed<V> {}

macro_rules! plain {
    ($($type:ty: $name:literal),* $(,)?) => { $(
        impl Plain for $type {}

        // SAFETY: its bytes have the same meaning on both sides.
        unsafe impl Data for $type {
            type View = $type;
            type Items = Bare<$type>;

            #[inline]
            fn view(&self) -> $type {
                *self
            }

            #[inline]
            unsafe fn read(view: $type, _: Reader<'_>) -> Result<$type, Unreadable> {
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
