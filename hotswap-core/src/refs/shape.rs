//! What a type is made of, in words of the host's own.
//!
//! abi_stable's description of a type lies in the image that speaks of the type, and leaves with it. A value may
//! stay for longer; so what its type was is written down here, once, and compared with what others ask for.
//!
//! By the way it is found out what of an image a value of the type can lead to. See [`Shape::of`].
//!
//! Two types of the same parts may still mean something else by them: a number of hundredths is no number of
//! ten-thousandths. What abi_stable lets a type say of that (const parameters, marker types, tags, extra checks) counts
//! like a part.

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

/// All that a type is made of.
#[derive(Debug)]
pub(super) struct Shape {
    /// The first is the type itself; the others are named by their places here. A type that contains itself is here
    /// once.
    types: Vec<Type>,
    plain: bool,
}

#[derive(Debug)]
struct Type {
    /// With its parameters.
    name: String,
    package: String,
    size: usize,
    align: usize,
    /// Of two enums that differ in nothing else, fields may lie at different places.
    repr: String,
    /// What it says of itself with `#[sabi(tag = …)]`.
    tag: Option<String>,
    /// What it says of itself with `#[sabi(extra_checks = …)]`. The checks themselves are code, which leaves with the
    /// image; this is how they describe themselves.
    extra_checks: Option<String>,
    kind: Kind,
    /// Types of which no part is in a value, and that tell it from others, such as that of a `PhantomData`.
    markers: Vec<Field>,
}

#[derive(Debug)]
enum Kind {
    /// A number; of a marker type, also what says no more of itself.
    Primitive,
    Array(usize),
    /// One that is defined by its name: a container of abi_stable, with its parameters.
    Container(Vec<usize>),
    Struct(Vec<Field>),
    Union(Vec<Field>),
    Enum {
        /// With the fields of each.
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
    /// Describes a type whose values can be kept, or says why they cannot.
    ///
    /// They can if they own all that they are made of, in a way that is known here: then nothing that leads into
    /// the image can be taken out of a shared value but by borrowing it. A copy of an `RStr<'static>` or a clone of
    /// an `RArc`, on the other hand, would be used by code of another generation when its own had left.
    pub(super) fn of(layout: &'static TypeLayout) -> Result<Self, String> {
        Walk::over(layout)
    }

    /// Whether a value is nothing but its bytes.
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

    /// The first difference to what was found, if there is one. As in the refusal of a layout, *expected* is the type that
    /// the asking code declares, whoever's that is, and *found* is the type of what is there.
    pub(super) fn difference(&self, found: &Self) -> Option<String> {
        Comparison::of(self, found)
    }
}

/// The field, named from the value down; nothing for the value itself.
fn place(path: &[String]) -> String {
    layout::place(path.iter().map(String::as_str))
}
