//! Traits that have a description.

use super::call::Remote;
use super::description::{Description, TypeIndex, Types};

/// A trait that has a description and a proxy.
///
/// # Safety
///
/// - The description has all methods of the trait, in their order, with the types of their parameters and results.
/// - A [`proxy`](Self::proxy) calls them as they are described.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an interface",
    label = "not an interface",
    note = "mark the trait with `#[hotswap_sdk::interface]`"
)]
pub unsafe trait Described: 'static {
    /// The name of the package that has the trait.
    const PACKAGE: &'static str;
    /// The name of the trait.
    const NAME: &'static str;
    /// The version of the package.
    const VERSION: &'static str;

    /// Adds the description of the trait.
    fn describe_interface(types: &mut Types) -> TypeIndex;

    /// The value of the other side, as one of this side.
    ///
    /// # Safety
    ///
    /// `remote` has the vtable of this trait, whose description was compared with that of the other side.
    unsafe fn proxy(remote: Remote) -> Box<Self>;
}

/// Describes an interface.
pub(super) fn describe<I: Described + ?Sized>() -> Description {
    let mut types = Types::default();
    let root = I::describe_interface(&mut types);
    types.finish(&name_of::<I>(), I::VERSION, root)
}

/// The name of an interface: its package and its trait.
pub fn name_of<I: Described + ?Sized>() -> String {
    format!("{}::{}", I::PACKAGE, I::NAME)
}
