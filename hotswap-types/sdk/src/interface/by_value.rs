//! Values that change sides: what is sent by value, and what a call gives.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    time::{Duration, SystemTime},
};

use super::{
    call::Nil,
    data::{Data, ReadContext, ReadError},
    description::{TypeIndex, Types},
    object::Leases,
    standard::Either,
};

/// What can be sent by value, and what a method can return: [`Data`], which is copied, and objects, which stay on their
/// side and change their owner.
///
/// # Safety
///
/// As for [`Data`]. If [`IS_PLAIN`](Self::IS_PLAIN), a value's bytes have the same meaning on both sides, and there is
/// nothing to drop.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to a plugin or a host",
    label = "cannot be sent",
    note = "for a type of your own: `#[hotswap_sdk::data]`",
    note = "numbers, `bool`, `char`, `String`, `Vec`, `Option`, `Result`, `Box`, tuples, arrays, maps, sets, `Duration`, \
            `SystemTime`, and a `Box` of another interface can be sent"
)]
pub unsafe trait ByValue: Sized {
    /// Whether an answer is written to where the caller wants it, without a view.
    const IS_PLAIN: bool = false;
    /// What leads to a value.
    type View: Copy;
    /// What keeps the value while it is read.
    type Outgoing;

    /// Begins to send it, to where objects get their lease from `leases` when they come back.
    fn into_outgoing(self, leases: &Leases) -> Self::Outgoing;

    /// What leads to it.
    fn view_outgoing(outgoing: &Self::Outgoing) -> Self::View;

    /// Copies the value, or takes it over.
    ///
    /// # Errors
    ///
    /// It has a part that cannot be read here.
    ///
    /// # Safety
    ///
    /// As for [`Data::read`], of a value that is [outgoing](Self::into_outgoing). Once for each view.
    unsafe fn take(view: Self::View, context: ReadContext<'_>) -> Result<Self, ReadError>;

    /// Says what the type is made of.
    fn describe_value(types: &mut Types) -> TypeIndex;
}

/// [`ByValue`] of a type that is [`Data`]; not for use by hand.
#[doc(hidden)]
#[macro_export]
macro_rules! by_value_data {
    ($([$($bounds:tt)*] $type:ty $(where [$($clause:tt)*])? $(, plain $plain:literal)?;)*) => { $(
        // SAFETY: those of `Data`, whose view it is.
        unsafe impl<$($bounds)*> $crate::expansion::ByValue for $type $(where $($clause)*)? {
            $(const IS_PLAIN: bool = $plain;)?
            type View = <Self as $crate::expansion::Data>::View;
            type Outgoing = Self;

            #[inline]
            fn into_outgoing(self, _: &$crate::expansion::Leases) -> Self {
                self
            }

            #[inline]
            fn view_outgoing(outgoing: &Self) -> Self::View {
                $crate::expansion::Data::view(outgoing)
            }

            #[inline]
            unsafe fn take(
                view: Self::View,
                context: $crate::expansion::ReadContext<'_>,
            ) -> ::core::result::Result<Self, $crate::expansion::ReadError> {
                // SAFETY: the caller's promise.
                unsafe { $crate::expansion::Data::read(view, context) }
            }

            fn describe_value(
                types: &mut $crate::expansion::Types,
            ) -> $crate::expansion::TypeIndex {
                <Self as $crate::expansion::Data>::describe(types)
            }
        }
    )* };
}

by_value_data! {
    [] u8, plain true; [] u16, plain true; [] u32, plain true; [] u64, plain true; [] u128, plain true; [] usize, plain true;
    [] i8, plain true; [] i16, plain true; [] i32, plain true; [] i64, plain true; [] i128, plain true; [] isize, plain true;
    [] f32, plain true; [] f64, plain true; [] bool, plain true; [] char, plain true; [] (), plain true;
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
unsafe impl<T: ByValue> ByValue for Option<T> {
    type View = Either<T::View, Nil>;
    type Outgoing = Option<T::Outgoing>;

    #[inline]
    fn into_outgoing(self, leases: &Leases) -> Self::Outgoing {
        self.map(|value| value.into_outgoing(leases))
    }

    #[inline]
    fn view_outgoing(outgoing: &Self::Outgoing) -> Self::View {
        match outgoing {
            Some(value) => Either::first(T::view_outgoing(value)),
            None => Either::second(Nil),
        }
    }

    #[inline]
    unsafe fn take(view: Self::View, context: ReadContext<'_>) -> Result<Self, ReadError> {
        let view = view.get().ok();
        // SAFETY: the caller's promise.
        view.map(|view| unsafe { T::take(view, context) })
            .transpose()
    }

    fn describe_value(types: &mut Types) -> TypeIndex {
        let value = T::describe_value(types);
        types.named_by_shape("Option", &[value])
    }
}

// SAFETY: those of `T` and `E`.
unsafe impl<T: ByValue, E: ByValue> ByValue for Result<T, E> {
    type View = Either<T::View, E::View>;
    type Outgoing = Result<T::Outgoing, E::Outgoing>;

    #[inline]
    fn into_outgoing(self, leases: &Leases) -> Self::Outgoing {
        match self {
            Ok(value) => Ok(value.into_outgoing(leases)),
            Err(error) => Err(error.into_outgoing(leases)),
        }
    }

    #[inline]
    fn view_outgoing(outgoing: &Self::Outgoing) -> Self::View {
        match outgoing {
            Ok(value) => Either::first(T::view_outgoing(value)),
            Err(error) => Either::second(E::view_outgoing(error)),
        }
    }

    #[inline]
    unsafe fn take(view: Self::View, context: ReadContext<'_>) -> Result<Self, ReadError> {
        Ok(match view.get() {
            // SAFETY: the caller's promise.
            Ok(value) => Ok(unsafe { T::take(value, context) }?),
            // SAFETY: the caller's promise.
            Err(error) => Err(unsafe { E::take(error, context) }?),
        })
    }

    fn describe_value(types: &mut Types) -> TypeIndex {
        let arguments = [T::describe_value(types), E::describe_value(types)];
        types.named_by_shape("Result", &arguments)
    }
}
