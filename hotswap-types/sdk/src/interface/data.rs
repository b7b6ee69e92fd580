//! Values that the receiver copies, and parameters that are passed by reference.

use super::{
    description::{TypeIndex, Types},
    fault::{Fault, FaultKind},
    object::Leases,
    sequences::SliceView,
};

/// A type whose values can be sent to the other side, where they are copied. For a type of your own:
/// [`#[data]`](macro@crate::data).
///
/// # Safety
///
/// - `View` and `Slice` are `repr(C)`. Types with equal descriptions ([`describe`](Self::describe)) have the same
///   `View` and the same `Slice`.
/// - A view from [`view`](Self::view) can be read by [`read`](Self::read) of any type with an equal or a compatible
///   description, on either side, as long as the value is neither changed nor dropped.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to a plugin or a host",
    label = "cannot be sent",
    note = "a struct or an enum can be sent if it has `#[hotswap_sdk::data]`, and a `Box<dyn Trait>` if the trait has \
            `#[hotswap_sdk::interface]`",
    note = "in place of another package's type, send its text or its parts: for an error, a `String`",
    note = "of the standard library, numbers, `bool`, `char`, `String`, `PathBuf`, `Option`, `Result`, `Box`, tuples, arrays, \
            `Vec`, maps, sets, `Duration`, `SystemTime` and internet addresses can be sent"
)]
pub unsafe trait Data: Sized + 'static {
    /// By which the other side reads a value: its bytes, or addresses and functions of the side that has it.
    type View: Copy;
    /// By which the other side reads a slice of values.
    type Slice: SliceView<Self>;

    /// The view of this value.
    fn view(&self) -> Self::View;

    /// Copies the value that `view` is of.
    ///
    /// # Errors
    ///
    /// It has a part that this side cannot read: an unknown variant, or one that is nested too deeply.
    ///
    /// # Safety
    ///
    /// `view` is from [`view`](Self::view) of a value on either side whose type has the same description or, in a newer
    /// or older version, a compatible one. Since then, and until this returns, the value is neither changed nor
    /// dropped.
    unsafe fn read(view: Self::View, context: ReadContext<'_>) -> Result<Self, ReadError>;

    /// Adds the description of the type.
    fn describe(types: &mut Types) -> TypeIndex;
}

/// A type that can be a parameter by reference, `&Self`.
///
/// # Safety
///
/// - `View` is `repr(C)`. Types with equal descriptions ([`describe_ref`](Self::describe_ref)) have the same `View`.
/// - A view from [`view_ref`](Self::view_ref) can be read by [`borrow`](Self::borrow) of any type with an equal or a
///   compatible description, on either side, as long as the value is neither changed nor dropped.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to a plugin or a host",
    label = "cannot be sent",
    note = "a struct or an enum can be sent if it has `#[hotswap_sdk::data]`, and a `Box<dyn Trait>` if the trait has \
            `#[hotswap_sdk::interface]`",
    note = "in place of another package's type, send its text or its parts: for an error, a `String`",
    note = "of the standard library, numbers, `bool`, `char`, `String`, `PathBuf`, `Option`, `Result`, `Box`, tuples, arrays, \
            `Vec`, maps, sets, `Duration`, `SystemTime` and internet addresses can be sent"
)]
pub unsafe trait ByRef {
    /// By which the other side reads a value.
    type View: Copy;
    /// What the other side has during the call: a reference, or a copy.
    type Borrowed<'a>;

    /// The view of this value.
    fn view_ref(&self) -> Self::View;

    /// Borrows the value if its bytes are the same on both sides; otherwise copies it.
    ///
    /// # Errors
    ///
    /// It has a part that this side cannot read.
    ///
    /// # Safety
    ///
    /// `view` is from [`view_ref`](Self::view_ref) of a value on either side whose type has the same or a compatible
    /// description. The value is neither changed nor dropped during `'a`.
    unsafe fn borrow<'a>(
        view: Self::View,
        context: ReadContext<'_>,
    ) -> Result<Self::Borrowed<'a>, ReadError>;

    /// The reference that the method is called with.
    fn get<'a>(borrowed: &'a Self::Borrowed<'_>) -> &'a Self;

    /// Adds the description of the type.
    fn describe_ref(types: &mut Types) -> TypeIndex;
}

/// What reading needs to know: how many levels it may still descend, and where objects get their leases.
#[derive(Clone, Copy)]
pub struct ReadContext<'a> {
    depth: u32,
    leases: &'a Leases,
}

/// Why a value cannot be read. Boxed, because it is rare and results should stay small.
#[derive(Debug)]
pub struct ReadError(Box<Fault>);

impl<'a> ReadContext<'a> {
    /// How many structs and enums may be nested. Reading one level takes up to a few kilobytes of stack.
    const DEPTH_MAX: u32 = 128;

    /// For an argument or a result.
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

    /// For the fields of a struct or a variant.
    ///
    /// # Errors
    ///
    /// They are nested too deeply.
    #[inline]
    pub fn deeper(self) -> Result<Self, ReadError> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(ReadError::new(FaultKind::TooDeep)),
        }
    }
}

impl ReadError {
    #[cold]
    pub(super) fn new(fault: impl Into<Fault>) -> Self {
        Self(Box::new(fault.into()))
    }

    /// The enum `name` of this side has no variant `number`.
    #[cold]
    pub fn variant(name: &str, number: u32) -> Self {
        Self::new(FaultKind::Unknown(format!("variant {number} of `{name}`")))
    }

    pub(super) fn into_fault(self) -> Fault {
        *self.0
    }
}

// SAFETY: view and description are those of `T` as `Data`, and `borrow` reads the view by `T::read`.
#[diagnostic::do_not_recommend]
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
        // SAFETY: `view` is from `T::view`, and the value stays unchanged during this call, which is within `'a` (`#
        // Safety` of this function).
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
