//! Parameters that are passed by value, and results.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZero,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use super::{
    boxed::BoxFuture,
    call::{Cons, Nil, Remote, ReplyVtable, cons, cons_type, dispatch},
    data::{Data, ReadContext, ReadError},
    description::{TypeIndex, Types},
    fault::Fault,
    function::{Function, RemoteFunction},
    future::AsyncResult,
    object::{DispatchTarget, Leases},
    sequences::{IndirectSlice, SliceView},
    standard::Either,
};

/// A type that can be a parameter by value, or a result: [`Data`], which the receiver copies, or an object, which stays
/// on its side and gets a new owner.
///
/// # Safety
///
/// - `View` is `repr(C)`. Types with equal descriptions ([`describe_value`](Self::describe_value)) have the same
///   `View`, the same `VecView` and the same [`IS_PLAIN`](Self::IS_PLAIN).
/// - A view from [`view_outgoing`](Self::view_outgoing) can be read by [`take`](Self::take) of any type with an equal
///   or a compatible description, on either side, as long as the outgoing value is neither changed nor dropped.
/// - If [`IS_PLAIN`](Self::IS_PLAIN), types with equal descriptions have the same size and alignment, and the bytes of
///   a value mean the same on both sides: a value that one side writes is one that the other side owns.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to a plugin or a host",
    label = "cannot be sent",
    note = "a struct or an enum can be sent if it has `#[hotswap_sdk::data]`, and a `Box<dyn Trait>` if the trait has \
            `#[hotswap_sdk::interface]`",
    note = "in place of another package's type, send its text or its parts: for an error, a `String`",
    note = "of the standard library, numbers, `bool`, `char`, `String`, `PathBuf`, `Option`, `Result`, `Box`, tuples, arrays, \
            `Vec`, maps, sets, `Duration`, `SystemTime` and internet addresses can be sent"
)]
pub unsafe trait ByValue: Sized {
    /// Whether a result crosses as its bytes, without a view.
    const IS_PLAIN: bool = false;
    /// By which the other side reads or takes a value.
    type View: Copy;
    /// A value that is being sent. It stays on the sender's side until the receiver has read or taken it.
    type Outgoing;
    /// By which the other side reads or takes a vector of values.
    type VecView: VecView<Self>;

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

    /// [`Remote::call`] of a method with this result.
    ///
    /// # Safety
    ///
    /// That of [`Remote::call`].
    #[inline]
    unsafe fn call<A>(remote: &Remote, method: usize, arguments: A) -> Self {
        // SAFETY: the method is there, has these arguments and returns a `Self` (`# Safety` of this function).
        unsafe { remote.call(method, arguments) }
    }

    /// [`RemoteFunction::call`] of a function with this result.
    ///
    /// # Errors
    ///
    /// Those of [`RemoteFunction::call`].
    ///
    /// # Safety
    ///
    /// That of [`RemoteFunction::call`].
    #[inline]
    unsafe fn call_function<F: Function, A>(
        function: &RemoteFunction<F>,
        arguments: A,
    ) -> Result<Self, Fault> {
        // SAFETY: the function has these arguments and returns a `Self` (`# Safety` of this function).
        unsafe { function.call(arguments) }
    }

    /// [`dispatch`] of a method with this result.
    ///
    /// # Safety
    ///
    /// That of [`dispatch`].
    #[inline]
    unsafe fn dispatch<S: DispatchTarget, A: Copy>(
        this: *const (),
        arguments: *const (),
        out: *mut (),
        reply: *const ReplyVtable,
        method: impl FnOnce(&S::Target, A, ReadContext<'_>) -> Result<Self, ReadError>,
    ) -> u32 {
        // SAFETY: the arguments are those of an entry for an `S`, with the argument list `A` and the result `Self` (`#
        // Safety` of this function).
        unsafe { dispatch::<S, A, Self>(this, arguments, out, reply, method) }
    }

    /// [`Remote::call`] of an async method with this result. The future borrows the handle.
    ///
    /// # Safety
    ///
    /// That of [`Remote::call`].
    #[inline]
    unsafe fn call_async<A>(remote: &Remote, method: usize, arguments: A) -> BoxFuture<'_, Self>
    where
        Self: 'static,
    {
        // SAFETY: the method is there, has these arguments, and is an async one that returns a `Self` (`# Safety` of
        // this function): by its description its result is an `AsyncResult<Self>`.
        unsafe { AsyncResult::call(remote, method, arguments) }
    }

    /// [`dispatch`] of an async method with this result.
    ///
    /// # Safety
    ///
    /// That of [`dispatch`]. The caller drops the future before the value at `this` is dropped. If that is a plugin's
    /// value, it is also not dropped before the plugin's runtime has ended.
    #[inline]
    unsafe fn dispatch_async<S: DispatchTarget, A: Copy>(
        this: *const (),
        arguments: *const (),
        out: *mut (),
        reply: *const ReplyVtable,
        method: impl for<'a> FnOnce(
            &'a S::Target,
            A,
            ReadContext<'_>,
        ) -> Result<BoxFuture<'a, Self>, ReadError>,
    ) -> u32
    where
        Self: Send + 'static,
    {
        let method = |target: &S::Target, arguments, context: ReadContext<'_>| {
            let future = method(target, arguments, context)?;
            // SAFETY: `this` is that of an entry for an `S`, and the future borrows its value, which stays as long as
            // is demanded (`# Safety` of this function).
            Ok(unsafe { AsyncResult::new::<S>(future, this) })
        };
        // SAFETY: the arguments are those of the entry of an async method for an `S`, with the argument list `A` (`#
        // Safety` of this function), which by its description returns an `AsyncResult<Self>`.
        unsafe { dispatch::<S, A, AsyncResult<Self>>(this, arguments, out, reply, method) }
    }

    /// Adds the description of what an async method with this result returns.
    fn describe_async(types: &mut Types) -> TypeIndex
    where
        Self: 'static,
    {
        AsyncResult::<Self>::describe_value(types)
    }
}

/// The view of a vector of `T` that is being sent.
///
/// # Safety
///
/// It is `repr(C)`. A view from [`new`](Self::new) can be taken on either side, as long as the outgoing vector is
/// neither changed nor dropped.
pub unsafe trait VecView<T>: Copy {
    /// A vector that is being sent. It stays on the sender's side until the receiver has read or taken its values.
    type Outgoing;

    /// Begins to send `values`. Objects that the other side later passes to them get their leases from `leases`.
    fn into_outgoing(values: Vec<T>, leases: &Leases) -> Self::Outgoing;

    /// The view of a vector that is being sent.
    fn new(outgoing: &Self::Outgoing) -> Self;

    /// Copies data; takes ownership of objects.
    ///
    /// # Errors
    ///
    /// A value has a part that this side cannot read, or is an object of a retired generation. This side drops the
    /// objects that it has taken before; the sender drops the others.
    ///
    /// # Safety
    ///
    /// The view is from [`new`](Self::new) on either side, of a vector of values whose type has the same description as
    /// `T`, or a compatible one. Until this returns, the outgoing vector is neither changed nor dropped. This is called
    /// on the sender's thread.
    unsafe fn take(self, context: ReadContext<'_>) -> Result<Vec<T>, ReadError>;
}

/// The view of a vector of [`Data`]: that of the slice.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct DataVecView<S>(S);

// SAFETY: the view is a `SliceView` of the outgoing values.
unsafe impl<T: Data, S: SliceView<T>> VecView<T> for DataVecView<S> {
    type Outgoing = Vec<T>;

    #[inline]
    fn into_outgoing(values: Vec<T>, _: &Leases) -> Vec<T> {
        values
    }

    #[inline]
    fn new(outgoing: &Vec<T>) -> Self {
        Self(S::new(outgoing))
    }

    #[inline]
    unsafe fn take(self, context: ReadContext<'_>) -> Result<Vec<T>, ReadError> {
        // SAFETY: the view is of values that stay unchanged during this call (`# Safety` of this function).
        unsafe { self.0.read(context) }
    }
}

// SAFETY: addresses and function are of one side, in `repr(C)`: the function gives the view of any of these outgoing
// values.
unsafe impl<T: ByValue> VecView<T> for IndirectSlice<T::View> {
    type Outgoing = Vec<T::Outgoing>;

    fn into_outgoing(values: Vec<T>, leases: &Leases) -> Self::Outgoing {
        let values = values.into_iter();
        values.map(|value| value.into_outgoing(leases)).collect()
    }

    fn new(outgoing: &Self::Outgoing) -> Self {
        unsafe extern "C" fn view<T: ByValue>(outgoing: *const ()) -> T::View {
            // SAFETY: `take` passes the address of one of the outgoing values, which are neither changed nor dropped
            // meanwhile.
            T::view_outgoing(unsafe { &*outgoing.cast::<T::Outgoing>() })
        }

        Self::of(outgoing, view::<T>)
    }

    unsafe fn take(self, context: ReadContext<'_>) -> Result<Vec<T>, ReadError> {
        // SAFETY: `each` passes the view of an outgoing value that stays unchanged during this call, which is on the
        // sender's thread (`# Safety` of this function).
        let take = |view| unsafe { T::take(view, context) };
        // SAFETY: the view is of outgoing values that stay unchanged during this call (`# Safety` of this function).
        unsafe { self.each(take) }
    }
}

/// Implements [`ByValue`] for a type that is [`Data`]; `#[data]` expands to it.
#[doc(hidden)]
#[macro_export]
macro_rules! by_value_data {
    (
        $(#[$attribute:meta])*
        [$($generics:tt)*] $type:ty $(where [$($clause:tt)*])? $(, plain $plain:literal)?
    ) => {
        $(#[$attribute])*
        // SAFETY: view and description are those of the type as `Data`, and `take` reads the view by `Data::read`. The
        // plain ones are numbers, `bool`, `char` and `()`, which have the same bytes on both sides and no destructor.
        unsafe impl $($generics)* $crate::expansion::ByValue for $type $(where $($clause)*)? {
            $(const IS_PLAIN: bool = $plain;)?
            type View = <Self as $crate::expansion::Data>::View;
            type Outgoing = Self;
            type VecView = $crate::expansion::DataVecView<<Self as $crate::expansion::Data>::Slice>;

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
    };
}

macro_rules! all_by_value {
    ($([$($generics:tt)*] $type:ty $(where [$($clause:tt)*])? $(, plain $plain:literal)?;)*) => { $(
        by_value_data! {
            #[diagnostic::do_not_recommend]
            [$($generics)*] $type $(where [$($clause)*])? $(, plain $plain)?
        }
    )* };
}

all_by_value! {
    [] u8, plain true; [] u16, plain true; [] u32, plain true; [] u64, plain true; [] u128, plain true; [] usize, plain true;
    [] i8, plain true; [] i16, plain true; [] i32, plain true; [] i64, plain true; [] i128, plain true; [] isize, plain true;
    [] f32, plain true; [] f64, plain true; [] bool, plain true; [] char, plain true; [] (), plain true;
    [] NonZero<u8>, plain true; [] NonZero<u16>, plain true; [] NonZero<u32>, plain true; [] NonZero<u64>, plain true;
    [] NonZero<u128>, plain true; [] NonZero<usize>, plain true; [] NonZero<i8>, plain true; [] NonZero<i16>, plain true;
    [] NonZero<i32>, plain true; [] NonZero<i64>, plain true; [] NonZero<i128>, plain true; [] NonZero<isize>, plain true;
    [] String; [] OsString; [] PathBuf; [] Duration; [] SystemTime;
    [] Ipv4Addr; [] Ipv6Addr; [] IpAddr; [] SocketAddr;
    [<T: Data>] Box<T>; [<T: Data, const N: usize>] [T; N];
    [<K: Data, V: Data, S: 'static>] HashMap<K, V, S> where [Self: Data];
    [<K: Data, V: Data>] BTreeMap<K, V> where [Self: Data];
    [<K: Data, S: 'static>] HashSet<K, S> where [Self: Data];
    [<K: Data>] BTreeSet<K> where [Self: Data];
    [<K: Data>] VecDeque<K>;
}

// SAFETY: the view has the flag of an `Either` and the view of `T`, and the description has that of `T`. `take` uses
// only the part that the flag names.
unsafe impl<T: ByValue> ByValue for Option<T> {
    type View = Either<T::View, Nil>;
    type Outgoing = Option<T::Outgoing>;
    type VecView = IndirectSlice<Self::View>;

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
    type VecView = IndirectSlice<Self::View>;

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

// SAFETY: the view is the `VecView` of `T`, and the description has that of `T`, from which the view follows.
unsafe impl<T: ByValue> ByValue for Vec<T> {
    type View = T::VecView;
    type Outgoing = <T::VecView as VecView<T>>::Outgoing;
    type VecView = IndirectSlice<Self::View>;

    #[inline]
    fn into_outgoing(self, leases: &Leases) -> Self::Outgoing {
        T::VecView::into_outgoing(self, leases)
    }

    #[inline]
    fn view_outgoing(outgoing: &Self::Outgoing) -> Self::View {
        T::VecView::new(outgoing)
    }

    #[inline]
    unsafe fn take(view: Self::View, context: ReadContext<'_>) -> Result<Self, ReadError> {
        // SAFETY: `view` is of an outgoing vector that stays unchanged during this call, which is on the sender's
        // thread (`# Safety` of this function).
        unsafe { view.take(context) }
    }

    fn describe_value(types: &mut Types) -> TypeIndex {
        let item = T::describe_value(types);
        types.named_by_shape("Vec", &[item])
    }
}

macro_rules! tuples {
    ($($($type:ident $value:ident),*;)*) => { $(
        // SAFETY: the view is a list of the parts' views, in `repr(C)`, and the description has those of the parts.
        #[diagnostic::do_not_recommend]
        unsafe impl<$($type: ByValue),*> ByValue for ($($type,)*) {
            type View = cons_type!($($type::View),*);
            type Outgoing = ($($type::Outgoing,)*);
            type VecView = IndirectSlice<Self::View>;

            #[inline]
            fn into_outgoing(self, leases: &Leases) -> Self::Outgoing {
                let ($($value,)*) = self;
                ($($value.into_outgoing(leases),)*)
            }

            #[inline]
            fn view_outgoing(outgoing: &Self::Outgoing) -> Self::View {
                let ($($value,)*) = outgoing;
                cons!($({ $type::view_outgoing($value) })*)
            }

            #[inline]
            unsafe fn take(view: Self::View, context: ReadContext<'_>) -> Result<Self, ReadError> {
                let cons!($($value)*) = view;
                // SAFETY: each part's view is from the part of an outgoing tuple that stays unchanged during this call,
                // which is on the sender's thread (`# Safety` of this function).
                Ok(($(unsafe { $type::take($value, context) }?,)*))
            }

            fn describe_value(types: &mut Types) -> TypeIndex {
                let arguments = [$($type::describe_value(types)),*];
                types.named_by_shape("tuple", &arguments)
            }
        }
    )* };
}

tuples! {
    A a;
    A a, B b;
    A a, B b, C c;
    A a, B b, C c, D d;
    A a, B b, C c, D d, E e;
    A a, B b, C c, D d, E e, F f;
    A a, B b, C c, D d, E e, F f, G g;
    A a, B b, C c, D d, E e, F f, G g, H h;
}
