//! Other types of the standard library: options, results, boxes, arrays, tuples, collections and times.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    hash::{BuildHasher, Hash},
    mem::MaybeUninit,
    time::{Duration, SystemTime},
};

use super::{
    call::{Cons, Nil, cons, cons_type},
    data::{ByRef, Data, ReadContext, ReadError},
    description::{TypeIndex, Types},
    fault::FaultKind,
    sequences::{IndirectSlice, SliceView},
};

/// The view of an option or a result: a flag, and the view of the part that is there.
///
/// # Invariants
///
/// `first` is initialised if `is_first` is set, and `second` if not.
#[repr(C)]
pub struct Either<A, B> {
    is_first: bool,
    first: MaybeUninit<A>,
    second: MaybeUninit<B>,
}

/// The view of a collection: its address, and a function of its own side that passes each entry to `visit` until that
/// returns `false`.
#[derive(Debug)]
#[repr(C)]
pub struct Entries<K, V> {
    collection: *const (),
    count: usize,
    for_each: unsafe extern "C" fn(
        collection: *const (),
        out: *mut (),
        visit: unsafe extern "C" fn(out: *mut (), key: K, value: V) -> bool,
    ),
}

/// The view of a duration, or of a time as its distance from the Unix epoch.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Time {
    is_negative: bool,
    nanoseconds: u32,
    seconds: u64,
}

impl<A, B> Either<A, B> {
    #[inline]
    pub(super) fn first(value: A) -> Self {
        Self {
            is_first: true,
            first: MaybeUninit::new(value),
            second: MaybeUninit::uninit(),
        }
    }

    #[inline]
    pub(super) fn second(value: B) -> Self {
        Self {
            is_first: false,
            first: MaybeUninit::uninit(),
            second: MaybeUninit::new(value),
        }
    }

    #[inline]
    pub(super) fn get(self) -> Result<A, B> {
        if self.is_first {
            // SAFETY: the flag says that this part is initialised (invariant of `Either`).
            Ok(unsafe { self.first.assume_init() })
        } else {
            // SAFETY: the flag says that this part is initialised (invariant of `Either`).
            Err(unsafe { self.second.assume_init() })
        }
    }
}

// SAFETY: the view is a flag and the view of `T`, in `repr(C)`, and the description has that of `T`. `read` uses only
// the part that the flag names.
unsafe impl<T: Data> Data for Option<T> {
    type View = Either<T::View, Nil>;
    type Slice = IndirectSlice<Self::View>;

    #[inline]
    fn view(&self) -> Self::View {
        match self {
            Some(value) => Either::first(value.view()),
            None => Either::second(Nil),
        }
    }

    #[inline]
    unsafe fn read(view: Self::View, context: ReadContext<'_>) -> Result<Self, ReadError> {
        let view = view.get().ok();
        // SAFETY: `view` is from `T::view` of the value in the option, which stays unchanged during this call (`#
        // Safety` of this function).
        view.map(|view| unsafe { T::read(view, context) })
            .transpose()
    }

    fn describe(types: &mut Types) -> TypeIndex {
        let value = T::describe(types);
        types.named::<Self>("Option", &[value])
    }
}

/// The view of a parameter that is an `Option<&T>`: that of an `Option<T>`.
#[inline]
pub fn view_optional<T: ByRef + ?Sized>(value: Option<&T>) -> Either<T::View, Nil> {
    match value {
        Some(value) => Either::first(value.view_ref()),
        None => Either::second(Nil),
    }
}

/// [`ByRef::borrow`] of a parameter that is an `Option<&T>`.
///
/// # Errors
///
/// It has a part that this side cannot read.
///
/// # Safety
///
/// The view is from [`view_optional`] on either side, of a value whose type has the same description as `T`, or a
/// compatible one. The value is neither changed nor dropped during `'a`.
#[inline]
pub unsafe fn borrow_optional<'a, T: ByRef + ?Sized>(
    view: Either<T::View, Nil>,
    context: ReadContext<'_>,
) -> Result<Option<T::Borrowed<'a>>, ReadError> {
    let view = view.get().ok();
    // SAFETY: the view is of a value that is neither changed nor dropped during `'a` (`# Safety` of this function).
    view.map(|view| unsafe { T::borrow(view, context) })
        .transpose()
}

/// Adds the description of a parameter that is an `Option<&T>`.
pub fn describe_optional<T: ByRef + ?Sized>(types: &mut Types) -> TypeIndex {
    let value = T::describe_ref(types);
    types.named_by_shape("Option", &[value])
}

// SAFETY: the view is a flag and the views of `T` and `E`, in `repr(C)`, and the description has those of both. `read`
// uses only the part that the flag names.
unsafe impl<T: Data, E: Data> Data for Result<T, E> {
    type View = Either<T::View, E::View>;
    type Slice = IndirectSlice<Self::View>;

    #[inline]
    fn view(&self) -> Self::View {
        match self {
            Ok(value) => Either::first(value.view()),
            Err(error) => Either::second(error.view()),
        }
    }

    #[inline]
    unsafe fn read(view: Self::View, context: ReadContext<'_>) -> Result<Self, ReadError> {
        Ok(match view.get() {
            // SAFETY: `value` is from `T::view` of the `Ok`, which stays unchanged during this call (`# Safety` of this
            // function).
            Ok(value) => Ok(unsafe { T::read(value, context) }?),
            // SAFETY: `error` is from `E::view` of the `Err`, which stays unchanged during this call (`# Safety` of
            // this function).
            Err(error) => Err(unsafe { E::read(error, context) }?),
        })
    }

    fn describe(types: &mut Types) -> TypeIndex {
        let arguments = [T::describe(types), E::describe(types)];
        types.named::<Self>("Result", &arguments)
    }
}

// SAFETY: the view is that of `T`, and the description has that of `T`. A slice of boxes, or a result that is one, is
// not viewed as one of `T`, so that a box has a description of its own.
unsafe impl<T: Data> Data for Box<T> {
    type View = T::View;
    type Slice = IndirectSlice<T::View>;

    #[inline]
    fn view(&self) -> T::View {
        T::view(self)
    }

    #[inline]
    unsafe fn read(view: T::View, context: ReadContext<'_>) -> Result<Self, ReadError> {
        // SAFETY: `view` is from `T::view` of the value in the box, which stays unchanged during this call (`# Safety`
        // of this function).
        unsafe { T::read(view, context) }.map(Box::new)
    }

    fn describe(types: &mut Types) -> TypeIndex {
        let content = T::describe(types);
        types.named::<Self>("Box", &[content])
    }
}

// SAFETY: the view is the `SliceView` of `T`, and the description has that of `T`, from which the view follows.
#[diagnostic::do_not_recommend]
unsafe impl<T: Data, const N: usize> Data for [T; N] {
    type View = T::Slice;
    type Slice = IndirectSlice<T::Slice>;

    #[inline]
    fn view(&self) -> T::Slice {
        T::Slice::new(self)
    }

    unsafe fn read(view: T::Slice, context: ReadContext<'_>) -> Result<Self, ReadError> {
        // SAFETY: `view` is of an array's values, which stay unchanged during this call (`# Safety` of this function).
        let items = unsafe { view.read(context) }?;
        let count = items.len();
        // The descriptions agree on the number.
        Self::try_from(items)
            .map_err(|_| ReadError::new(FaultKind::Unknown(format!("an array of {count}"))))
    }

    fn describe(types: &mut Types) -> TypeIndex {
        let item = T::describe(types);
        types.named::<Self>(&format!("array of {N}"), &[item])
    }
}

macro_rules! tuples {
    ($($($type:ident $value:ident),*;)*) => { $(
        // SAFETY: the view is a list of the parts' views, in `repr(C)`, and the description has those of the parts.
        #[diagnostic::do_not_recommend]
        unsafe impl<$($type: Data),*> Data for ($($type,)*) {
            type View = cons_type!($($type::View),*);
            type Slice = IndirectSlice<Self::View>;

            #[inline]
            fn view(&self) -> Self::View {
                let ($($value,)*) = self;
                cons!($({ $value.view() })*)
            }

            #[inline]
            #[allow(clippy::unused_unit, unused_variables, clippy::allow_attributes, reason = "the tuple without parts")]
            unsafe fn read(view: Self::View, context: ReadContext<'_>) -> Result<Self, ReadError> {
                let cons!($($value)*) = view;
                // SAFETY: each part's view is from the part of a tuple that stays unchanged during this call (`#
                // Safety` of this function).
                Ok(($(unsafe { $type::read($value, context) }?,)*))
            }

            fn describe(types: &mut Types) -> TypeIndex {
                let arguments: &[TypeIndex] = &[$($type::describe(types)),*];
                types.named::<Self>("tuple", arguments)
            }
        }
    )* };
}

tuples! {
    ;
    A a;
    A a, B b;
    A a, B b, C c;
    A a, B b, C c, D d;
    A a, B b, C c, D d, E e;
    A a, B b, C c, D d, E e, F f;
    A a, B b, C c, D d, E e, F f, G g;
    A a, B b, C c, D d, E e, F f, G g, H h;
}

/// A collection that the reader builds anew, entry by entry. Sets and queues have values of type `()`.
trait Collection: Sized + 'static {
    type Key: Data;
    type Value: Data;

    fn entries(&self) -> impl Iterator<Item = (&Self::Key, &Self::Value)>;
    fn count(&self) -> usize;
    fn with_capacity(count: usize) -> Self;
    fn insert(&mut self, key: Self::Key, value: Self::Value);
}

type EntriesOf<C> =
    Entries<<<C as Collection>::Key as Data>::View, <<C as Collection>::Value as Data>::View>;
type KeyView<C> = <<C as Collection>::Key as Data>::View;
type ValueView<C> = <<C as Collection>::Value as Data>::View;

/// A collection that is being read: the entries so far, and why reading has stopped.
struct PartialCollection<'a, C> {
    collection: C,
    context: ReadContext<'a>,
    failed: Option<ReadError>,
}

fn view_of<C: Collection>(collection: &C) -> EntriesOf<C> {
    unsafe extern "C" fn for_each<C: Collection>(
        collection: *const (),
        out: *mut (),
        visit: unsafe extern "C" fn(*mut (), KeyView<C>, ValueView<C>) -> bool,
    ) {
        // SAFETY: `read_collection` passes the address from the same view, of a `C` that is neither changed nor dropped
        // meanwhile.
        let collection = unsafe { &*collection.cast::<C>() };
        for (key, value) in collection.entries() {
            // SAFETY: `read_collection` passes `out` and `visit` together. `visit` takes the views of this collection's
            // keys and values, which stay unchanged during the call.
            if !unsafe { visit(out, key.view(), value.view()) } {
                return;
            }
        }
    }

    Entries {
        collection: (&raw const *collection).cast(),
        count: collection.count(),
        for_each: for_each::<C>,
    }
}

/// Copies a collection.
///
/// # Safety
///
/// `view` is from [`view_of`] on either side, of a collection whose type has the same description as `C`, or a
/// compatible one. Until this returns, the collection is neither changed nor dropped.
unsafe fn read_collection<C: Collection>(
    view: EntriesOf<C>,
    context: ReadContext<'_>,
) -> Result<C, ReadError> {
    unsafe extern "C" fn visit<C: Collection>(
        out: *mut (),
        key: KeyView<C>,
        value: ValueView<C>,
    ) -> bool {
        // SAFETY: `for_each` passes the `out` of `read_collection`, which waits for it and does not use `partial`
        // meanwhile.
        let partial = unsafe { &mut *out.cast::<PartialCollection<'_, C>>() };
        // A panic, of a hash or a comparison, must not unwind into the other side's code.
        let read = super::call::catch(|| {
            // SAFETY: `for_each` passes the view of a key in the collection, which stays unchanged until it returns.
            let key = unsafe { C::Key::read(key, partial.context) }?;
            // SAFETY: `for_each` passes the view of a value in the collection, which stays unchanged until it returns.
            let value = unsafe { C::Value::read(value, partial.context) }?;
            partial.collection.insert(key, value);
            Ok(())
        });
        partial.failed = read.err();
        partial.failed.is_none()
    }

    let mut partial = PartialCollection {
        collection: C::with_capacity(view.count),
        context,
        failed: None,
    };
    // SAFETY: function and address are from one view, of a collection that stays unchanged during this call (`# Safety`
    // of this function). `visit` takes the address of `partial`, and the views of the collection's keys and values.
    unsafe { (view.for_each)(view.collection, (&raw mut partial).cast(), visit::<C>) };
    match partial.failed {
        None => Ok(partial.collection),
        Some(failed) => Err(failed),
    }
}

macro_rules! collections {
    ($($name:literal $type:ty: [$($bounds:tt)*] $key:ident => $value:ty, ($($argument:ident),*),
        with $all:ident: $entries:expr, with $count:ident: $new:expr, with $it:ident, $k:ident, $v:ident: $insert:expr;)*) => { $(
        impl<$($bounds)*> Collection for $type {
            type Key = $key;
            type Value = $value;

            fn entries(&self) -> impl Iterator<Item = (&$key, &$value)> {
                let $all = self;
                $entries
            }

            fn count(&self) -> usize {
                self.len()
            }

            fn with_capacity($count: usize) -> Self {
                $new
            }

            fn insert(&mut self, $k: $key, $v: $value) {
                let $it = self;
                $insert;
            }
        }

        // SAFETY: the view has address and function of one side, in `repr(C)`: the function passes the views of this
        // collection's keys and values. The description has those of keys and values.
        #[diagnostic::do_not_recommend]
        unsafe impl<$($bounds)*> Data for $type {
            type View = Entries<<$key as Data>::View, <$value as Data>::View>;
            type Slice = IndirectSlice<Self::View>;

            fn view(&self) -> Self::View {
                view_of(self)
            }

            unsafe fn read(view: Self::View, context: ReadContext<'_>) -> Result<Self, ReadError> {
                // SAFETY: `view` is from `view_of`, and the collection stays unchanged during this call (`# Safety` of
                // this function).
                unsafe { read_collection(view, context) }
            }

            fn describe(types: &mut Types) -> TypeIndex {
                let arguments = [$($argument::describe(types)),*];
                types.named::<Self>($name, &arguments)
            }
        }
    )* };
}

collections! {
    "HashMap" HashMap<K, V, S>: [K: Data + Eq + Hash, V: Data, S: BuildHasher + Default + 'static] K => V, (K, V),
        with all: all.iter(), with count: Self::with_capacity_and_hasher(count, S::default()), with it, k, v: it.insert(k, v);
    "BTreeMap" BTreeMap<K, V>: [K: Data + Ord, V: Data] K => V, (K, V),
        with all: all.iter(), with _count: Self::new(), with it, k, v: it.insert(k, v);
    "HashSet" HashSet<K, S>: [K: Data + Eq + Hash, S: BuildHasher + Default + 'static] K => (), (K),
        with all: all.iter().map(|key| (key, &())), with count: Self::with_capacity_and_hasher(count, S::default()), with it, k, _v: it.insert(k);
    "BTreeSet" BTreeSet<K>: [K: Data + Ord] K => (), (K),
        with all: all.iter().map(|key| (key, &())), with _count: Self::new(), with it, k, _v: it.insert(k);
    "VecDeque" VecDeque<K>: [K: Data] K => (), (K),
        with all: all.iter().map(|key| (key, &())), with count: Self::with_capacity(count), with it, k, _v: it.push_back(k);
}

impl Time {
    fn new(time: Duration, is_negative: bool) -> Self {
        Self {
            is_negative,
            nanoseconds: time.subsec_nanos(),
            seconds: time.as_secs(),
        }
    }

    fn duration(self) -> Duration {
        Duration::new(self.seconds, self.nanoseconds)
    }
}

// SAFETY: the view is numbers, in `repr(C)`.
#[diagnostic::do_not_recommend]
unsafe impl Data for Duration {
    type View = Time;
    type Slice = IndirectSlice<Time>;

    fn view(&self) -> Time {
        Time::new(*self, false)
    }

    unsafe fn read(view: Time, _: ReadContext<'_>) -> Result<Self, ReadError> {
        Ok(view.duration())
    }

    fn describe(types: &mut Types) -> TypeIndex {
        types.named::<Self>("Duration", &[])
    }
}

// SAFETY: the view is numbers, in `repr(C)`.
#[diagnostic::do_not_recommend]
unsafe impl Data for SystemTime {
    type View = Time;
    type Slice = IndirectSlice<Time>;

    fn view(&self) -> Time {
        match self.duration_since(Self::UNIX_EPOCH) {
            Ok(after) => Time::new(after, false),
            Err(before) => Time::new(before.duration(), true),
        }
    }

    unsafe fn read(view: Time, _: ReadContext<'_>) -> Result<Self, ReadError> {
        let distance = view.duration();
        let time = match view.is_negative {
            false => Self::UNIX_EPOCH.checked_add(distance),
            true => Self::UNIX_EPOCH.checked_sub(distance),
        };
        time.ok_or_else(|| ReadError::new(FaultKind::Unknown("a time of this distance".to_owned())))
    }

    fn describe(types: &mut Types) -> TypeIndex {
        types.named::<Self>("SystemTime", &[])
    }
}

impl<K, V> Clone for Entries<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Entries<K, V> {}

impl<A: Copy, B: Copy> Clone for Either<A, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: Copy, B: Copy> Copy for Either<A, B> {}
