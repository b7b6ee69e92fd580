//! Values that change sides: what is sent by value, and what a call gives.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    time::{Duration, SystemTime},
};

use super::{
    call::Nil,
    data::{Data, Reader, Unreadable},
    description::{TypeIndex, Types},
    object::Keeper,
    standard::Either,
};

/// What can be sent by value, and what a method can return: [`Data`], which is copied, and objects, which stay on their
/// side and change their owner.
///
/// # Safety
///
/// As for [`Data`]. If [`IS_BARE`](Self::IS_BARE), a value's bytes have the same meaning on both sides, and there is
/// nothing to drop.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to a plugin or a host",
    label = "cannot be sent",
    note = "for a type of your own: `#[hotswap_sdk::data]`",
    note = "numbers, `bool`, `char`, `String`, `Vec`, `Option`, `Result`, `Box`, tuples, arrays, maps, sets, `Duration`, \
            `SystemTime`, and a `Box` of another interface can be sent"
)]
pub unsafe trait Owned: Sized {
    /// Whether an answer is written to where the caller wants it, without a view.
    const IS_BARE: bool = false;
    /// What leads to a value.
    type View: Copy;
    /// What keeps the value while it is read.
    type Parked;

    /// Begins to send it, to where objects are kept by `keeper` when they come back.
    fn park(self, keeper: &Keeper) -> Self::Parked;

    /// What leads to it.
    fn view_parked(parked: &Self::Parked) -> Self::View;

    /// Copies the value, or takes it over.
    ///
    /// # Errors
    ///
    /// It has a part that cannot be read here.
    ///
    /// # Safety
    ///
    /// As for [`Data::read`], of a value that is [parked](Self::park). Once for each view.
    unsafe fn take(view: Self::View, reader: Reader<'_>) -> Result<Self, Unreadable>;

    /// Says what the type is made of.
    fn describe_owned(types: &mut Types) -> TypeIndex;
}

/// [`Owned`] of a type that is [`Data`]; not for use by hand.
#[doc(hidden)]
#[macro_export]
macro_rules! owned_data {
    ($([$($bounds:tt)*] $type:ty $(where [$($clause:tt)*])? $(, bare $bare:literal)?;)*) => { $(
        // SAFETY: those of `Data`, whose view it is.
        unsafe impl<$($bounds)*> $crate::expansion::Owned for $type $(where $($clause)*)? {
            $(const IS_BARE: bool = $bare;)?
            type View = <Self as $crate::expansion::Data>::View;
            type Parked = Self;

            #[inline]
            fn park(self, _: &$crate::expansion::Keeper) -> Self {
                self
            }

            #[inline]
            fn view_parked(parked: &Self) -> Self::View {
                $crate::expansion::Data::view(parked)
            }

            #[inline]
            unsafe fn take(
                view: Self::View,
                reader: $crate::expansion::Reader<'_>,
            ) -> ::core::result::Result<Self, $crate::expansion::Unreadable> {
                // SAFETY: the caller's promise.
                unsafe { $crate::expansion::Data::read(view, reader) }
            }

            fn describe_owned(
                types: &mut $crate::expansion::Types,
            ) -> $crate::expansion::TypeIndex {
                <Self as $crate::expansion::Data>::describe(types)
            }
        }
    )* };
}

owned_data! {
    [] u8, bare true; [] u16, bare true; [] u32, bare true; [] u64, bare true; [] u128, bare true; [] usize, bare true;
    [] i8, bare true; [] i16, bare true; [] i32, bare true; [] i64, bare true; [] i128, bare true; [] isize, bare true;
    [] f32, bare true; [] f64, bare true; [] bool, bare true; [] char, bare true; [] (), bare true;
    [] String; [] Duration; [] SystemTime;
    [T: Data] Vec<T>; [T: Data] Box<T>; [T: Data, const N: usize] [T; N];
    [A: Data] (A,); [A: Data, B: Data] (A, B); [A: Data, B: Data, C: Data] (A, B, C);
    [A: Data, B: Data, C: Data, D: Data] (A, B, C, D);
    [A: Data, B: Data, C: Data, D: Data, E: Data] (A, B, C, D, E);
    [A: Data, B: Data, C: Data, D: Data, E: Data, F: Data] (A, B, C, D, E, F);
    [A: Data, B: Data, C: Data, D: Data, E: Data, F: Data, G: Data] (A, B, C, D, E, F, G);
    [A: Data, B: Data, C: Data, D: Data, E: Data, F: Data, G: Data, H: Data] (A, B, C, D, E, F, G, H);
    [K: Data, V: Data] HashMap<K, V> where [Self: Data];
    [K: Data, V: Data] BTreeMap<K, V> where [Self: Data];
    [K: Data] HashSet<K> where [Self: Data];
    [K: Data] BTreeSet<K> where [Self: Data];
    [K: Data] VecDeque<K>;
}

// SAFETY: that of `T`.
unsafe impl<T: Owned> Owned for Option<T> {
    type View = Either<T::View, Nil>;
    type Parked = Option<T::Parked>;

    #[inline]
    fn park(self, keeper: &Keeper) -> Self::Parked {
        self.map(|value| value.park(keeper))
    }

    #[inline]
    fn view_parked(parked: &Self::Parked) -> Self::View {
        match parked {
            Some(value) => Either::first(T::view_parked(value)),
            None => Either::second(Nil),
        }
    }

    #[inline]
    unsafe fn take(view: Self::View, reader: Reader<'_>) -> Result<Self, Unreadable> {
        let view = view.get().ok();
        // SAFETY: the caller's promise.
        view.map(|view| unsafe { T::take(view, reader) })
            .transpose()
    }

    fn describe_owned(types: &mut Types) -> TypeIndex {
        let value = T::describe_owned(types);
        types.unnamed("Option", &[value])
    }
}

// SAFETY: those of `T` and `E`.
unsafe impl<T: Owned, E: Owned> Owned for Result<T, E> {
    type View = Either<T::View, E::View>;
    type Parked = Result<T::Parked, E::Parked>;

    #[inline]
    fn park(self, keeper: &Keeper) -> Self::Parked {
        match self {
            Ok(value) => Ok(value.park(keeper)),
            Err(error) => Err(error.park(keeper)),
        }
    }

    #[inline]
    fn view_parked(parked: &Self::Parked) -> Self::View {
        match parked {
            Ok(value) => Either::first(T::view_parked(value)),
            Err(error) => Either::second(E::view_parked(error)),
        }
    }

    #[inline]
    unsafe fn take(view: Self::View, reader: Reader<'_>) -> Result<Self, Unreadable> {
        Ok(match view.get() {
            // SAFETY: the caller's promise.
            Ok(value) => Ok(unsafe { T::take(value, reader) }?),
            // SAFETY: the caller's promise.
            Err(error) => Err(unsafe { E::take(error, reader) }?),
        })
    }

    fn describe_owned(types: &mut Types) -> TypeIndex {
        let arguments = [T::describe_owned(types), E::describe_owned(types)];
        types.unnamed("Result", &arguments)
    }
}
