//! The description of an interface, which a plugin sends to the host for comparison.
//!
//! It crosses as bytes, without pointers, so that the host can safely read whatever a plugin sends.

use std::{any::TypeId, collections::HashMap};

/// The number of a type in a [`Description`].
pub type TypeIndex = u32;

/// An interface, and every type in its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The package and the name of the trait.
    pub name: String,
    /// The version of that package.
    pub version: String,
    pub(super) types: Vec<Shape>,
    pub(super) root: TypeIndex,
}

/// One type: its kind, its name and its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A type that both sides know by its name, with its arguments.
    Named(String, Vec<TypeIndex>),
    Struct(String, Vec<Field>),
    Enum(String, Vec<Variant>),
    Interface(String, Vec<Method>),
}

/// A field of a struct or a variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, or its index if it has none.
    pub name: String,
    /// Its type.
    pub ty: TypeIndex,
    /// Whether it has a default, which a reader uses if the other side does not have the field.
    pub has_default: bool,
}

/// The name of a variant, and its fields.
pub type Variant = (String, Vec<Field>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Method {
    pub(super) name: String,
    pub(super) has_default: bool,
    pub(super) parameters: Vec<Parameter>,
    pub(super) result: TypeIndex,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    /// Its name, or its index if it has none.
    pub(super) name: String,
    pub(super) ty: TypeIndex,
    /// Whether its author writes `&`. The other side may differ: it only matters for messages.
    pub(super) is_by_ref: bool,
}

/// The types that were described so far.
#[derive(Debug, Default)]
pub struct Types {
    numbers: HashMap<TypeId, TypeIndex>,
    /// `None` while the type is being described.
    types: Vec<Option<Shape>>,
}

/// The methods of an interface that is being described.
#[derive(Debug)]
pub struct Methods<'a> {
    types: &'a mut Types,
    methods: Vec<Method>,
}

/// The parameters and the result of a method or a function that is being described.
#[derive(Debug)]
pub struct Signature<'a> {
    types: &'a mut Types,
    parameters: Vec<Parameter>,
}

impl Types {
    /// A type that both sides know by its name.
    pub fn named<T: ?Sized + 'static>(&mut self, name: &str, arguments: &[TypeIndex]) -> TypeIndex {
        self.intern(TypeId::of::<T>(), |_| {
            Shape::Named(name.to_owned(), arguments.to_vec())
        })
    }

    /// A type that both sides know by its name, and that is not identified by its `TypeId`: with the same arguments, it
    /// is the same type.
    pub(super) fn named_by_shape(&mut self, name: &str, arguments: &[TypeIndex]) -> TypeIndex {
        let shape = Shape::Named(name.to_owned(), arguments.to_vec());
        let known = self.types.iter().position(|it| it.as_ref() == Some(&shape));
        let index = known.unwrap_or_else(|| {
            self.types.push(Some(shape));
            self.types.len() - 1
        });
        number(index)
    }

    /// A struct.
    pub fn structure<T: ?Sized + 'static>(
        &mut self,
        name: &str,
        fields: fn(&mut Self) -> Vec<Field>,
    ) -> TypeIndex {
        self.intern(TypeId::of::<T>(), |types| {
            Shape::Struct(name.to_owned(), fields(types))
        })
    }

    /// An enum.
    pub fn enumeration<T: ?Sized + 'static>(
        &mut self,
        name: &str,
        variants: fn(&mut Self) -> Vec<Variant>,
    ) -> TypeIndex {
        self.intern(TypeId::of::<T>(), |types| {
            Shape::Enum(name.to_owned(), variants(types))
        })
    }

    /// A trait.
    pub fn interface<T: ?Sized + 'static>(
        &mut self,
        name: &str,
        describe: fn(&mut Methods<'_>),
    ) -> TypeIndex {
        self.intern(TypeId::of::<T>(), |types| {
            let mut methods = Methods {
                types,
                methods: Vec::new(),
            };
            describe(&mut methods);
            Shape::Interface(name.to_owned(), methods.methods)
        })
    }

    /// A function, as an interface with one method.
    pub(super) fn function(
        &mut self,
        name: &str,
        describe: fn(&mut Signature<'_>) -> TypeIndex,
    ) -> TypeIndex {
        let mut methods = Methods {
            types: self,
            methods: Vec::new(),
        };
        methods.method(name, false, describe);
        let shape = Shape::Interface("function".to_owned(), methods.methods);
        self.types.push(Some(shape));
        number(self.types.len() - 1)
    }

    /// Describes a type once. It gets its index first, because its description may contain itself.
    fn intern(&mut self, id: TypeId, describe: impl FnOnce(&mut Self) -> Shape) -> TypeIndex {
        if let Some(&known) = self.numbers.get(&id) {
            return known;
        }
        let index = self.types.len();
        self.types.push(None);
        self.numbers.insert(id, number(index));
        let shape = describe(self);
        self.types[index] = Some(shape);
        number(index)
    }

    pub(super) fn finish(self, name: &str, version: &str, root: TypeIndex) -> Description {
        let types = self.types.into_iter();
        Description {
            name: name.to_owned(),
            version: version.to_owned(),
            types: types.map(|it| it.expect("described")).collect(),
            root,
        }
    }
}

impl Methods<'_> {
    /// The next method.
    pub fn method(
        &mut self,
        name: &str,
        has_default: bool,
        describe: fn(&mut Signature<'_>) -> TypeIndex,
    ) {
        let mut signature = Signature {
            types: self.types,
            parameters: Vec::new(),
        };
        let result = describe(&mut signature);
        self.methods.push(Method {
            name: name.to_owned(),
            has_default,
            parameters: signature.parameters,
            result,
        });
    }
}

impl Parameter {
    pub(super) fn has_name(&self) -> bool {
        !self.name.starts_with(|first: char| first.is_ascii_digit())
    }
}

impl Signature<'_> {
    /// The next parameter.
    pub fn parameter(
        &mut self,
        name: &str,
        is_by_ref: bool,
        describe: fn(&mut Types) -> TypeIndex,
    ) {
        let parameter = Parameter {
            name: name.to_owned(),
            ty: describe(self.types),
            is_by_ref,
        };
        self.parameters.push(parameter);
    }

    /// The result.
    pub fn result(&mut self, describe: fn(&mut Types) -> TypeIndex) -> TypeIndex {
        describe(self.types)
    }
}

impl Description {
    pub(super) fn get(&self, index: TypeIndex) -> Option<&Shape> {
        self.types.get(usize::try_from(index).ok()?)
    }

    /// The names of the interface's methods.
    pub(super) fn methods(&self) -> Vec<&str> {
        match self.get(self.root) {
            Some(Shape::Interface(_, methods)) => methods.iter().map(|it| &*it.name).collect(),
            _ => Vec::new(),
        }
    }

    /// Every type index in it.
    pub(super) fn type_indexes(&self) -> impl Iterator<Item = TypeIndex> {
        fn of(fields: &[Field]) -> Vec<TypeIndex> {
            fields.iter().map(|it| it.ty).collect()
        }
        fn of_method(method: &Method) -> impl Iterator<Item = TypeIndex> {
            let parameters = method.parameters.iter().map(|it| it.ty);
            parameters.chain([method.result])
        }
        let of_shape = |shape: &Shape| -> Vec<TypeIndex> {
            match shape {
                Shape::Named(_, arguments) => arguments.clone(),
                Shape::Struct(_, fields) => of(fields),
                Shape::Enum(_, variants) => variants.iter().flat_map(|it| of(&it.1)).collect(),
                Shape::Interface(_, methods) => methods.iter().flat_map(of_method).collect(),
            }
        };
        let all: Vec<_> = self.types.iter().flat_map(of_shape).collect();
        all.into_iter().chain([self.root])
    }
}

/// A length, as it is described.
pub(super) fn number(length: usize) -> u32 {
    u32::try_from(length).expect("far fewer than 4 billion")
}
