//! Which types can be sent, as far as their names say it, and what to write instead of the others.
//!
//! The compiler refuses the rest, which do not implement the SDK's traits.

use proc_macro2::{Ident, Span};
use quote::ToTokens;
use syn::{
    Error, GenericArgument, PathArguments, PathSegment, Result, Type, TypeParamBound, TypePath,
    TypeTraitObject, parse_quote, spanned::Spanned,
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    Parameter,
    Result,
    Field,
}

/// Where a type stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    position: Position,
    /// The whole type, of which the messages say how it is to be written.
    whole: &'a Type,
    /// Whether an object can stand here.
    takes_objects: bool,
}

const NOT_CHANGED: &str = "a `&mut` parameter cannot be sent: take `&T`, and return what is new";

/// Refuses types that can never be sent.
pub(crate) fn check_type(ty: &Type, position: Position) -> Result<()> {
    let mut place = Place {
        position,
        whole: ty,
        takes_objects: position != Position::Field,
    };
    let inner = match (position, ty) {
        (Position::Parameter, Type::Reference(reference)) => {
            if let Some(token) = &reference.mutability {
                return Err(Error::new(token.span(), NOT_CHANGED));
            }
            place.takes_objects = false;
            &*reference.elem
        }
        (Position::Parameter, _) => optional_reference(ty).unwrap_or(ty),
        _ => ty,
    };
    place.check(inner)
}

/// The type to write instead of one that borrows, for a parameter that must own its value.
pub(crate) fn owned_parameter(ty: &Type) -> Option<Type> {
    match ty {
        Type::Reference(reference) => Some(owned(&reference.elem)),
        ty => optional_reference(ty).map(|ty| {
            let ty = owned(ty);
            parse_quote!(Option<#ty>)
        }),
    }
}

/// `T` of a parameter that is an `Option<&T>`.
pub(crate) fn optional_reference(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    match &*type_arguments(last) {
        [Type::Reference(reference)]
            if last.ident == "Option" && reference.mutability.is_none() =>
        {
            Some(&reference.elem)
        }
        _ => None,
    }
}

impl Place<'_> {
    fn check(self, ty: &Type) -> Result<()> {
        let what = match ty {
            Type::Reference(reference)
                if self.position == Position::Parameter && reference.mutability.is_some() =>
            {
                NOT_CHANGED.to_owned()
            }
            Type::Reference(_) => {
                let owned = text(&self.owned_whole());
                match self.position {
                    Position::Parameter => {
                        format!(
                            "only a parameter itself, or one in an `Option`, is a reference: write `{owned}`"
                        )
                    }
                    Position::Result => {
                        format!(
                            "a result belongs to the caller, so that it has no references: return `{owned}`"
                        )
                    }
                    Position::Field => format!("what is sent borrows nothing: write `{owned}`"),
                }
            }
            Type::ImplTrait(_) => {
                "`impl Trait` is another type in every plugin: write the type, or `Box<dyn Trait>` of another interface"
                    .to_owned()
            }
            Type::FnPtr(_) => {
                "a function pointer would outlive its plugin: write `Box<dyn Trait>` of another interface".to_owned()
            }
            Type::Ptr(_) => "a pointer means nothing on the other side: send the value".to_owned(),
            Type::Never(_) => "a method of an interface returns".to_owned(),
            Type::Infer(_) => "write the type".to_owned(),
            Type::TraitObject(object) => {
                self.check_object(object)?;
                format!("an object comes in a box: write `{}`", text(&owned(ty)))
            }
            Type::Tuple(tuple) => return tuple.elems.iter().try_for_each(|it| self.check(it)),
            Type::Array(array) => return self.without_objects().check(&array.elem),
            Type::Slice(slice) => return self.check(&slice.elem),
            Type::Paren(paren) => return self.check(&paren.elem),
            Type::Group(group) => return self.check(&group.elem),
            Type::Path(path) => return self.check_path(path),
            _ => return Ok(()),
        };
        Err(Error::new(ty.span(), what))
    }

    fn check_path(self, path: &TypePath) -> Result<()> {
        check_package(path)?;
        for segment in &path.path.segments {
            if segment.ident == "Self" {
                let what = "`Self` is another type in every plugin: write the type";
                return Err(Error::new(segment.span(), what));
            }
            self.check_segment(segment)?;
        }
        Ok(())
    }

    fn check_segment(self, segment: &PathSegment) -> Result<()> {
        let name = segment.ident.to_string();
        let arguments = type_arguments(segment);
        let of_first = || text(&owned(arguments[0]));
        let what = match (&*name, &*arguments) {
            ("Box", [Type::TraitObject(object)]) => return self.check_object(object),
            ("Box", [content]) if is_unsized(content) => {
                format!("a `Box` of this cannot be sent: write `{}`", of_first())
            }
            ("Rc" | "Arc", [Type::TraitObject(object)]) => {
                self.check_object(object)?;
                format!("the two sides share no `{name}`: write `{}`", of_first())
            }
            ("Rc" | "Arc", [_]) => format!(
                "the two sides share no `{name}`: write `{}`, which is copied, or `Box<dyn Trait>` of another interface",
                of_first()
            ),
            ("Mutex" | "RwLock" | "RefCell", [_]) => format!(
                "a `{name}` cannot be sent, because what is sent is copied: write `{}`",
                of_first()
            ),
            ("Cow", [_]) => {
                format!("what is sent borrows nothing: write `{}`", of_first())
            }
            _ => {
                if let Some(lifetime) = lifetime_argument(segment) {
                    let what = "what is sent borrows nothing: write an owned type";
                    return Err(Error::new(lifetime, what));
                }
                let takes_objects = matches!(&*name, "Option" | "Result" | "Vec");
                let place = match takes_objects {
                    true => self,
                    false => self.without_objects(),
                };
                return arguments.iter().try_for_each(|it| place.check(it));
            }
        };
        Err(Error::new(segment.span(), what))
    }

    /// `dyn Trait`.
    fn check_object(self, object: &TypeTraitObject) -> Result<()> {
        let name = object.bounds.iter().find_map(|bound| match bound {
            TypeParamBound::Trait(bound) => bound.path.segments.last(),
            _ => None,
        });
        // No interface has arguments.
        let has_arguments = name.is_some_and(|it| !it.arguments.is_empty());
        let name = name.map_or_else(String::new, |it| it.ident.to_string());
        let what = match &*name {
            "Error" => {
                "an error is sent as its text or as data: write `String`, or an enum with `#[data]`"
            }
            "Fn" | "FnMut" | "FnOnce" if has_arguments => {
                "a closure cannot be sent: write `Box<dyn Trait>` of another interface, which has it as a method"
            }
            "Future" if has_arguments => {
                "a future cannot be sent: write `async fn`, which returns one"
            }
            "Iterator" if has_arguments => {
                "an iterator cannot be sent: write `Vec<T>`, or `Box<dyn Trait>` of another interface"
            }
            _ if object.bounds.len() > 1 => {
                "an object of an interface is `Send` and `Sync`, and borrows nothing: write `Box<dyn Trait>` without more"
            }
            _ => {
                return match self.takes_objects {
                    true => Ok(()),
                    false => Err(Error::new(object.span(), self.no_object_here())),
                };
            }
        };
        Err(Error::new(object.span(), what))
    }

    /// What to write instead of an object that cannot stand here.
    fn no_object_here(self) -> String {
        match (self.position, self.whole) {
            (Position::Field, _) => {
                "an object is no data: let a method return it, or the data and it as a tuple".to_owned()
            }
            (_, Type::Reference(reference)) => format!(
                "an object is passed by value: write `{}`",
                text(&owned(&reference.elem))
            ),
            _ => "objects are sent by themselves or in a `Vec`, an `Option`, a `Result` or a tuple, such as \
                 `Vec<(String, Box<dyn Trait>)>`"
                .to_owned(),
        }
    }

    fn without_objects(self) -> Self {
        Self {
            takes_objects: false,
            ..self
        }
    }

    /// The whole type without the references in it.
    fn owned_whole(self) -> Type {
        match (self.position, self.whole) {
            (Position::Parameter, Type::Reference(reference)) => {
                let inner = owned_content(&reference.elem);
                parse_quote!(&#inner)
            }
            (_, whole) => owned(whole),
        }
    }
}

/// Refuses errors of the standard library and of well-known packages, by paths that an author's own types do not have.
fn check_package(path: &TypePath) -> Result<()> {
    let mut segments = path.path.segments.iter().rev();
    let Some(last) = segments.next() else {
        return Ok(());
    };
    let before: Vec<_> = segments.map(|it| it.ident.to_string()).collect();
    let before: Vec<_> = before.iter().map(String::as_str).collect();
    let is_known = matches!(
        &before[..],
        ["anyhow" | "eyre" | "color_eyre", ..] | ["io" | "fmt", "std" | "core", ..]
    );
    if !is_known
        || !["Error", "Result", "Report"]
            .iter()
            .any(|it| last.ident == it)
    {
        return Ok(());
    }
    let instead = match &*type_arguments(last) {
        _ if last.ident != "Result" => "String".to_owned(),
        [] => "Result<(), String>".to_owned(),
        [value, ..] => text(&parse_quote!(Result<#value, String>)),
    };
    let what = format!(
        "an error is sent as its text or as data: write `{instead}`, or an enum with `#[data]`"
    );
    Err(Error::new(path.span(), what))
}

fn type_arguments(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return Vec::new();
    };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

fn lifetime_argument(segment: &PathSegment) -> Option<Span> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Lifetime(lifetime) => Some(lifetime.span()),
        _ => None,
    })
}

fn is_unsized(ty: &Type) -> bool {
    match ty {
        Type::Slice(_) => true,
        Type::Path(path) => owned_name(path).is_some(),
        _ => false,
    }
}

/// The name of the owned type, if this one has no size.
fn owned_name(path: &TypePath) -> Option<&'static str> {
    match &*path.path.segments.last()?.ident.to_string() {
        "str" => Some("String"),
        "Path" => Some("PathBuf"),
        "OsStr" => Some("OsString"),
        _ => None,
    }
}

/// The type without references in it: `(String, Vec<u8>)` for `(&str, &[u8])`.
fn owned(ty: &Type) -> Type {
    match ty {
        Type::Reference(reference) => owned(&reference.elem),
        Type::Slice(slice) => {
            let item = owned(&slice.elem);
            parse_quote!(Vec<#item>)
        }
        Type::TraitObject(object) => parse_quote!(Box<#object>),
        Type::Path(path) => match (owned_name(path), path.clone()) {
            (None, _) => owned_content(ty),
            (Some(name), mut path) => {
                if let Some(last) = path.path.segments.last_mut() {
                    last.ident = Ident::new(name, last.ident.span());
                }
                Type::Path(path)
            }
        },
        other => owned_content(other),
    }
}

/// The same type, with [`owned`] types in it.
fn owned_content(ty: &Type) -> Type {
    let mut ty = ty.clone();
    match &mut ty {
        Type::Tuple(tuple) => tuple.elems.iter_mut().for_each(|it| *it = owned(it)),
        Type::Array(array) => *array.elem = owned(&array.elem),
        Type::Slice(slice) => *slice.elem = owned(&slice.elem),
        Type::Path(path) => {
            for segment in &mut path.path.segments {
                let PathArguments::AngleBracketed(arguments) = &mut segment.arguments else {
                    continue;
                };
                for argument in &mut arguments.args {
                    match argument {
                        GenericArgument::Type(Type::TraitObject(_)) => {}
                        GenericArgument::Type(ty) => *ty = owned(ty),
                        _ => {}
                    }
                }
            }
        }
        _ => {}
    }
    ty
}

/// A type as its author would write it.
pub(crate) fn text(ty: &Type) -> String {
    let mut text = ty.to_token_stream().to_string();
    for (spaced, plain) in [
        (" :: ", "::"),
        (" < ", "<"),
        (" >", ">"),
        ("< ", "<"),
        ("& ", "&"),
        (" ,", ","),
    ] {
        text = text.replace(spaced, plain);
    }
    text
}
