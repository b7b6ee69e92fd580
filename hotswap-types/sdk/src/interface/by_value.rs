//! Parameters that are passed by value, and results.

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

/// A type that can be a parameter by value, or a result: [`Data`], which the receiver copies, or an object, which stays
/// on its side and gets a new owner.
///
/// # Safety
///
/// - `View` is `repr(C)`. Types with equal descriptions ([`describe_value`](Self::describe_value)) have the same `View`
///   and the same [`IS_PLAIN`](Self::IS_PLAIN).
/// - A view from [`view_outgoing`](Self::view_outgoing) can be read by [`take`](Self::take) of any type with an equal
///   or a compatible description, on either side, as long as the outgoing value is neither changed nor dropped.
/// - If [`IS_PLAIN`](Self::IS_PLAIN), types with equal descriptions have the same size and alignment, the bytes of a
///   value mean the same on both sides, and dropping it does nothing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to a plugin or a host",
    label = "cannot be sent",
    note = "for a type of your own: `#[hotswap_sdk::data]`",
    note = "numbers, `bool`, `char`, `String`, `Vec`, `Option`, `Result`, `Box`, tuples, arrays, maps, sets, `Duration`, \
            `SystemTime`, and a `Box` of another interface can be sent"
)]
pub unsafe trait ByValue: Sized {
    /// Whether a result crosses as its bytes, without a view.
    const IS_PLAIN: bool = false;
    /// By which the other side reads or takes a value.
    type View: Copy;
    /// A value that is being sent. It stays on the sender's side until the receiver has read or taken it.
    type Outgoing;

    /// Begins to send it. Objects that the other side later passes to it get their leases from `leases`.
    fn into_outgoing(self, leases: &Leases) -> Self::Outgoing;

    /// The view of a value that is being sent.
    fn view_outgoing(outgoing: &Self::Outgoing) -> Self::View;

    /// Copies data; takes ownership of objects.
    ///
    /// # Errors
    ///
    /// It has a part that this side cannot read, or an object of a retired generation.
    ///
    /// # Safety
    ///
    /// `view` is from [`view_outgoing`](Self::view_outgoing) of a value on either side whose type has the same or a
    /// compatible description. Until this returns, the outgoing value is neither changed nor dropped. This is called on
    /// the sender's thread.
    unsafe fn take(view: Self::View, context: ReadContext<'_>) -> Result<Self, ReadError>;

    /// Adds the description of the type.
    fn describe_value(types: &mut Types) -> TypeIndex;
}

/// Implements [`ByValue`] for types that are [`Data`]; not for use by hand.
#[doc(hidden)]
#[macro_export]
macro_rules! by_value_data {
    ($([$($bounds:tt)*] $type:ty $(where [$($clause:tt)*])? $(, plain $plain:literal)?;)*) => { $(
        // SAFETY: view and description are those of the type as `Data`, and `take` reads the view by `Data::read`. The
        // plain ones are numbers, `bool`, `char` and `()`, which have the same bytes on both sides and no destructor.
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
                // SAFETY: `view` is from `Data::view` of an outgoing value that stays unchanged during this call (`#
                // Safety` of this function).
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

// SAFETY: the view has the flag of an `Either` and the view of `T`, and the description has that of `T`. `take` uses
// only the part that the flag names.
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
        // SAFETY: `view` is from `T::view_outgoing` of the value in the outgoing option, which stays unchanged during
        // this call (`# Safety` of this function).
        view.map(|view| unsafe { T::take(view, context) })
            .transpose()
    }

    fn describe_value(types: &mut Types) -> TypeIndex {
        let value = T::describe_value(types);
        types.named_by_shape("Option", &[value])
    }
}

// SAFETY: the view has the flag of an `Either` and the view of `T` or `E`, and the description has those of both.
// `take` uses only the part that the flag names.
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
            // SAFETY: `value` is from `T::view_outgoing` of the outgoing `Ok`, which stays unchanged during this call
            // (`# Safety` of this function).
            Ok(value) => Ok(unsafe { T::take(value, context) }?),
            // SAFETY: `error` is from `E::view_outgoing` of the outgoing `Err`, which stays unchanged during this call
            // (`# Safety` of this function).
            Err(error) => Err(unsafe { E::take(error, context) }?),
        })
    }

    fn describe_value(types: &mut Types) -> TypeIndex {
        let arguments = [T::describe_value(types), E::describe_value(types)];
        types.named_by_shape("Result", &arguments)
    }
}
