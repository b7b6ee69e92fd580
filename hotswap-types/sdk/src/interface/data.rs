//! Values that are copied when they cross.

use super::{
    description::{TypeIndex, Types},
    fault::Fault,
    object::Leases,
    sequences::SliceView,
};

/// A type whose values can be sent to the other side, where they are copied. For a type of your own:
/// [`#[data]`](macro@crate::data).
///
/// # Safety
///
/// `View` is `repr(C)`, and follows from what [`describe`](Self::describe) says. `view` gives one that
/// [`read`](Self::read) can use on either side.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to a plugin or a host",
    label = "cannot be sent",
    note = "for a type of your own: `#[hotswap_sdk::data]`",
    note = "numbers, `bool`, `char`, `String`, `Vec`, `Option`, `Result`, `Box`, tuples, arrays, maps, sets, `Duration` and \
            `SystemTime` can be sent"
)]
pub unsafe trait Data: Sized + 'static {
    /// What leads to a value.
    type View: Copy;
    /// What leads to several values in a row.
    type Slice: SliceView<Self>;

    /// What leads to this one.
    fn view(&self) -> Self::View;

    /// Copies a value of the other side.
    ///
    /// # Errors
    ///
    /// It has a part that cannot be read here.
    ///
    /// # Safety
    ///
    /// The view is from [`view`](Self::view) of the same type on either side, and its value has neither changed nor ended
    /// since.
    unsafe fn read(view: Self::View, context: ReadContext<'_>) -> Result<Self, ReadError>;

    /// Says what the type is made of.
    fn describe(types: &mut Types) -> TypeIndex;
}

/// What can be sent as `&Self`.
///
/// # Safety
///
/// As for [`Data`].
#[diagnostic::on_unimplemented(
    message = "`&{Self}` cannot be sent to a plugin or a host",
    label = "cannot be sent",
    note = "for a type of your own: `#[hotswap_sdk::data]`"
)]
pub unsafe trait ByRef {
    /// What leads to a value.
    type View: Copy;
    /// What the reader has for the time of the call.
    type Borrowed<'a>;

    /// What leads to this one.
    fn view_ref(&self) -> Self::View;

    /// Copies the value, or borrows it where that costs nothing.
    ///
    /// # Errors
    ///
    /// It has a part that cannot be read here.
    ///
    /// # Safety
    ///
    /// As for [`Data::read`]; the value does not change or end during `'a`.
    unsafe fn borrow<'a>(
        view: Self::View,
        context: ReadContext<'_>,
    ) -> Result<Self::Borrowed<'a>, ReadError>;

    /// What is held.
    fn get<'a>(borrowed: &'a Self::Borrowed<'_>) -> &'a Self;

    /// Says what the type is made of.
    fn describe_ref(types: &mut Types) -> TypeIndex;
}

/// How deep a reader may still go, and how it keeps objects.
#[derive(Clone, Copy)]
pub struct ReadContext<'a> {
    depth: u32,
    leases: &'a Leases,
}

/// Why a value cannot be read. A pointer, for it is rare.
#[derive(Debug)]
pub struct ReadError(Box<Fault>);

impl<'a> ReadContext<'a> {
    /// So many structs and enums may lie within each other. Reading one takes up to some kilobytes of stack.
    const DEPTH_MAX: u32 = 128;

    /// For a whole value.
    #[inline]
    pub(super) fn new(leases: &'a Leases) -> Self {
        Self {
            depth: Self::DEPTH_MAX,
            leases,
        }
    }

    pub(super) fn leases(self) -> &'a Leases {
        self.leases
    }

    /// For what lies within a struct or an enum.
    ///
    /// # Errors
    ///
    /// It lies too deep.
    #[inline]
    pub fn deeper(self) -> Result<Self, ReadError> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(ReadError::new(Fault::TooDeep)),
        }
    }
}

impl ReadError {
    #[cold]
    pub(super) fn new(fault: Fault) -> Self {
        Self(Box::new(fault))
    }

    /// The enum `name` of the other side has a variant more.
    #[cold]
    pub fn variant(name: &str, number: u32) -> Self {
        Self::new(Fault::Unknown(format!("variant {number} of `{name}`")))
    }

    pub(super) fn into_fault(self) -> Fault {
        *self.0
    }
}

// SAFETY: those of `Data`.
unsafe impl<T: Data> ByRef for T {
    type View = T::View;
    type Borrowed<'a> = T;

    #[inline]
    fn view_ref(&self) -> T::View {
        self.view()
    }

    #[inline]
    unsafe fn borrow<'a>(
        view: T::View,
        context: ReadContext<'_>,
    ) -> Result<Self::Borrowed<'a>, ReadError> {
        // SAFETY: the caller's promise.
        unsafe { T::read(view, context) }
    }

    #[inline]
    fn get(borrowed: &T) -> &T {
        borrowed
    }

    fn describe_ref(types: &mut Types) -> TypeIndex {
        T::describe(types)
    }
}
