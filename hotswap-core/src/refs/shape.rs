//! The structure of a type, in the host's own memory.
//!
//! abi_stable's description of a type lies in the image that uses the type, and is unmapped with that image. A value
//! may live longer. So this module copies the structure of the value's type once, and compares it with the types that
//! others ask for.
//!
//! While it copies, it finds out whether a value of the type can lead into an image; see [`Shape::of`].
//!
//! Two types of the same structure may still have different meanings: a number of hundredths is not a number of
//! ten-thousandths. What a type can say about that through abi_stable (const parameters, marker types, tags, extra
//! checks) counts like a part of the structure.

mod comparison;
mod tag;
#[cfg(test)]
#[expect(
    unsafe_code,
    unreachable_pub,
    reason = "what abi_stable derives, and types that are only described"
)]
mod tests;
mod walk;

use abi_stable::type_layout::TypeLayout;

use self::{comparison::Comparison, walk::Walk};
use crate::layout;

/// The complete structure of a type.
#[derive(Debug)]
pub(super) struct Shape {
    /// The first is the type itself. The others refer to each other by their index in this list, so a type that
    /// contains itself is listed once.
    types: Vec<Type>,
    plain: bool,
}

#[derive(Debug)]
struct Type {
    /// The type's name with its parameters.
    name: String,
    package: String,
    size: usize,
    align: usize,
    /// The representation. In two enums that differ only in this, fields may have different offsets.
    repr: String,
    /// What the type declares with `#[sabi(tag = …)]`.
    tag: Option<String>,
    /// What the type declares with `#[sabi(extra_checks = …)]`. The checks themselves are code, which is unmapped
    /// with the image; this is their description of themselves.
    extra_checks: Option<String>,
    kind: Kind,
    /// Types that no part of a value has, but that distinguish this type from others, such as the parameter of a
    /// `PhantomData`.
    markers: Vec<Field>,
}

#[derive(Debug)]
enum Kind {
    /// A number. Also a marker type whose structure is not recorded.
    Primitive,
    Array(usize),
    /// A container of abi_stable, defined by its name and these parameters.
    Container(Vec<usize>),
    Struct(Vec<Field>),
    Union(Vec<Field>),
    Enum {
        /// The name and the fields of each variant.
        variants: Vec<(String, Vec<Field>)>,
        discriminants: String,
    },
}

#[derive(Debug)]
struct Field {
    name: String,
    of: usize,
}

impl Shape {
    /// Describes a type whose values can be kept, or says why they cannot be.
    ///
    /// A value can be kept if it owns all its parts, in a way that this module knows. Then code can get a pointer
    /// into the image out of a shared value only by borrowing the value. In contrast, a copy of an `RStr<'static>` or
    /// a clone of an `RArc` could be used by code of another generation after its own generation has been unloaded.
    pub(super) fn of(layout: &'static TypeLayout) -> Result<Self, String> {
        Walk::over(layout)
    }

    /// Whether a value consists of nothing but its bytes.
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    /// The name of the type.
    pub(super) fn name(&self) -> &str {
        &self.types[0].name
    }

    pub(super) fn size(&self) -> usize {
        self.types[0].size
    }

    /// The first difference between this type and `found`, if there is one. As in the refusal of a layout, *expected*
    /// is the type that the asking code declares, and *found* is the type of the existing value.
    pub(super) fn difference(&self, found: &Self) -> Option<String> {
        Comparison::of(self, found)
    }
}

/// Names a field from the value down; an empty text for the value itself.
fn place(path: &[String]) -> String {
    layout::place(path.iter().map(String::as_str))
}
