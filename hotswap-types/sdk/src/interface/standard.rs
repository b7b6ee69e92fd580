//! The standard library's other types.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    hash::Hash,
    mem::MaybeUninit,
    time::{Duration, SystemTime},
};

use super::{
    call::{Cons, Nil},
    data::{Data, ReadContext, ReadError},
    description::{TypeIndex, Types},
    fault::Fault,
    sequences::{IndirectSlice, SliceView},
};

/// One of two: an option or a result.
#[repr(C)]
pub struct Either<A, B> {
    is_first: bool,
    first: MaybeUninit<A>,
    second: MaybeUninit<B>,
}

/// What yields keys and values one by one, by the code of the side that has them.
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

/// Seconds and nanoseconds.
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
            // SAFETY: only `first` sets the flag.
            Ok(unsafe { self.first.assume_init() })
        } else {
            // SAFETY: only `second` clears it.
            Err(unsafe { self.second.assume_init() })
        }
    }
}

// SAFETY: that of `T`.
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
        // SAFETY: the caller's promise.
        view.map(|view| unsafe { T::read(view, context) })
            .transpose()
    }

    fn describe(types: &mut Types) -> TypeIndex {
        let value = T::describe(types);
        types.named::<Self>("Option", &[value])
    }
}

// SAFETY: those of `T` and `E`.
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
            // SAFETY: the caller's promise.
            Ok(value) => Ok(unsafe { T::read(value, context) }?),
            // SAFETY: the caller's promise.
            Err(error) => Err(unsafe { E::read(error, context) }?),
        })
    }

    fn describe(types: &mut Types) -> TypeIndex {
        let arguments = [T::describe(types), E::describe(types)];
        types.named::<Self>("Result", &arguments)
    }
}

// SAFETY: that of `T`.
unsafe impl<T: Data> Data for Box<T> {
    type View = T::View;
    type Slice = IndirectSlice<T::View>;

    #[inline]
    fn view(&self) -> T::View {
        T::view(self)
    }

    #[inline]
    unsafe fn read(view: T::View, context: ReadContext<'_>) -> Result<Self, ReadError> {
        // SAFETY: the caller's promise.
        unsafe { T::read(view, context) }.map(Box::new)
    }

    fn describe(types: &mut Types) -> TypeIndex {
        T::describe(types)
    }
}

// SAFETY: that of `T`.
unsafe impl<T: Data, const N: usize> Data for [T; N] {
    type View = T::Slice;
    type Slice = IndirectSlice<T::Slice>;

    #[inline]
    fn view(&self) -> T::Slice {
        T::Slice::new(self)
    }

    unsafe fn read(view: T::Slice, context: ReadContext<'_>) -> Result<Self, ReadError> {
        // SAFETY: the caller's promise.
        let items = unsafe { view.read(context) }?;
        let count = items.len();
        // The descriptions agree on the number.
        Self::try_from(items)
            .map_err(|_| ReadError::new(Fault::Unknown(format!("an array of {count}"))))
    }

    fn describe(types: &mut Types) -> TypeIndex {
        let item = T::describe(types);
        types.named::<Self>(&format!("array of {N}"), &[item])
    }
}

macro_rules! tuples {
    ($($($type:ident $value:ident),*;)*) => { $(
        // SAFETY: those of its parts.
        unsafe impl<$($type: Data),*> Data for ($($type,)*) {
            type View = tuples!(@type $($type)*);
            type Slice = IndirectSlice<Self::View>;

            #[inline]
            fn view(&self) -> Self::View {
                let ($($value,)*) = self;
                tuples!(@view $($value)*)
            }

            #[inline]
            #[allow(clippy::unused_unit, unused_variables, clippy::allow_attributes, reason = "the tuple without parts")]
            unsafe fn read(view: Self::View, context: ReadContext<'_>) -> Result<Self, ReadError> {
                let tuples!(@pattern $($value)*) = view;
                // SAFETY: the caller's promise.
                Ok(($(unsafe { $type::read($value, context) }?,)*))
            }

            fn describe(types: &mut Types) -> TypeIndex {
                let arguments: &[TypeIndex] = &[$($type::describe(types)),*];
                types.named::<Self>("tuple", arguments)
            }
        }
    )* };
    (@type $first:ident $($rest:ident)*) => { Cons<$first::View, tuples!(@type $($rest)*)> };
    (@type) => { Nil };
    (@view $first:ident $($rest:ident)*) => { Cons($first.view(), tuples!(@view $($rest)*)) };
    (@view) => { Nil };
    (@pattern $first:ident $($rest:ident)*) => { Cons($first, tuples!(@pattern $($rest)*)) };
    (@pattern) => { Nil };
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

/// A collection of keys and values that is rebuilt by the reader.
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

/// What a reader has so far.
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
        // SAFETY: `read_collection` calls it with the address that it was given together with this function.
        let collection = unsafe { &*collection.cast::<C>() };
        for (key, value) in collection.entries() {
            // SAFETY: `visit` is for `out`, and for views of these types.
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

/// # Safety
///
/// As for [`Data::read`].
unsafe fn read_collection<C: Collection>(
    view: EntriesOf<C>,
    context: ReadContext<'_>,
) -> Result<C, ReadError> {
    unsafe extern "C" fn visit<C: Collection>(
        out: *mut (),
        key: KeyView<C>,
        value: ValueView<C>,
    ) -> bool {
        // SAFETY: `for_each` passes on what `read_collection` has given to it, which nobody else uses meanwhile.
        let partial = unsafe { &mut *out.cast::<PartialCollection<'_, C>>() };
        // No panic may go on into the other side's code. (A hash or a comparison may panic.)
        let read = super::call::catch(|| {
            // SAFETY: the promise of who called `read_collection`.
            let key = unsafe { C::Key::read(key, partial.context) }?;
            // SAFETY: as before.
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
    // SAFETY: the function is for this collection, and `visit` is for what it is given.
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

        // SAFETY: those of its parts; where they are, its own side knows.
        unsafe impl<$($bounds)*> Data for $type {
            type View = Entries<<$key as Data>::View, <$value as Data>::View>;
            type Slice = IndirectSlice<Self::View>;

            fn view(&self) -> Self::View {
                view_of(self)
            }

            unsafe fn read(view: Self::View, context: ReadContext<'_>) -> Result<Self, ReadError> {
                // SAFETY: the caller's promise.
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
    "HashMap" HashMap<K, V>: [K: Data + Eq + Hash, V: Data] K => V, (K, V),
        with all: all.iter(), with count: Self::with_capacity(count), with it, k, v: it.insert(k, v);
    "BTreeMap" BTreeMap<K, V>: [K: Data + Ord, V: Data] K => V, (K, V),
        with all: all.iter(), with _count: Self::new(), with it, k, v: it.insert(k, v);
    "HashSet" HashSet<K>: [K: Data + Eq + Hash] K => (), (K),
        with all: all.iter().map(|key| (key, &())), with count: Self::with_capacity(count), with it, k, _v: it.insert(k);
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

// SAFETY: a time is numbers.
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

// SAFETY: a time is numbers.
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
        time.ok_or_else(|| ReadError::new(Fault::Unknown("a time of this distance".to_owned())))
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
