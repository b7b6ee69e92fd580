//! The parameters and the result of a method or a function, and what they expand to on either side.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{
    Attribute, Error, FnArg, Pat, Result, ReturnType, Safety, Signature, Type, ext::IdentExt,
    spanned::Spanned,
};

use crate::types::{Position, check_type, optional_reference};

/// The parameters and the result of a signature that was accepted.
pub(crate) struct Call {
    /// That of the future, if it is async.
    pub(crate) result: Type,
    is_async: bool,
    parameters: Vec<Parameter>,
}

struct Parameter {
    /// Its name in the description.
    name: String,
    /// Its name in the expansion.
    ident: Ident,
    /// Its type, without `&` or `Option<&…>` if it is passed by reference.
    ty: Type,
    passing: Passing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Passing {
    Value,
    Reference,
    /// As an `Option<&T>`.
    OptionalReference,
}

impl Call {
    /// That of a method or a function. Gives the parameters the names that they have in the expansion.
    pub(crate) fn of_signature(signature: &mut Signature) -> Result<Self> {
        let mut parameters = Vec::new();
        for input in &mut signature.inputs {
            let FnArg::Typed(input) = input else {
                continue;
            };
            check_attributes(&input.attrs)?;
            let number = parameters.len() + 1;
            let ident = format_ident!("argument_{number}");
            let name = match &*input.pat {
                Pat::Ident(pattern) => pattern.ident.unraw().to_string(),
                _ => number.to_string(),
            };
            *input.pat = syn::parse_quote!(#ident);
            let (ty, passing) = match &*input.ty {
                Type::Reference(reference) => (&*reference.elem, Passing::Reference),
                ty => match optional_reference(ty) {
                    Some(ty) => (ty, Passing::OptionalReference),
                    None => (ty, Passing::Value),
                },
            };
            parameters.push(Parameter {
                name,
                ident,
                ty: ty.clone(),
                passing,
            });
        }
        Ok(Self {
            result: result_type(&signature.output),
            is_async: signature.asyncness.is_some(),
            parameters,
        })
    }

    /// The names of the parameters in the expansion.
    pub(crate) fn idents(&self) -> impl DoubleEndedIterator<Item = &Ident> {
        self.parameters.iter().map(|it| &it.ident)
    }

    /// `call`, `dispatch` or `describe`, as the result's `ByValue` has it.
    pub(crate) fn item_of_result(&self, item: &str) -> TokenStream {
        let item = match (self.is_async, item) {
            (true, item) => format!("{item}_async"),
            (false, "describe") => "describe_value".to_owned(),
            (false, item) => item.to_owned(),
        };
        item_of(&self.result, "ByValue", &item)
    }

    /// The caller's statements that make the argument list, `arguments`, of the parameters. `self.0` is the handle.
    pub(crate) fn arguments(&self) -> TokenStream {
        let outgoing = self.parameters.iter();
        let outgoing = outgoing.filter(|it| it.passing == Passing::Value);
        let outgoing = outgoing.map(|parameter| {
            let ident = &parameter.ident;
            let begin = parameter.call("into_outgoing", &quote!(#ident, self.0.leases()));
            quote! { let #ident = #begin; }
        });
        let arguments = nested(self.parameters.iter().map(Parameter::view));
        quote! {
            #(#outgoing)*
            let arguments = #arguments;
        }
    }

    /// The pattern of the argument list.
    pub(crate) fn pattern(&self) -> TokenStream {
        nested(self.idents().map(|it| quote!(#it)))
    }

    /// The entry's statements that decode the arguments.
    pub(crate) fn decode(&self) -> TokenStream {
        self.parameters.iter().map(Parameter::decode).collect()
    }

    /// The arguments that the entry passes on.
    pub(crate) fn pass(&self) -> TokenStream {
        let pass = self.parameters.iter().map(Parameter::pass);
        quote!(#(#pass),*)
    }

    /// The statements that describe it to `signature`.
    pub(crate) fn described(&self) -> TokenStream {
        let describe = self.item_of_result("describe");
        let parameters = self.parameters.iter().map(Parameter::described);
        quote! {
            #(#parameters)*
            signature.result(#describe)
        }
    }
}

impl Parameter {
    /// An item of its type's `ByRef` or `ByValue`.
    fn item(&self, item: &str) -> TokenStream {
        let passing_trait = match self.passing {
            Passing::Reference | Passing::OptionalReference => "ByRef",
            Passing::Value => "ByValue",
        };
        item_of(&self.ty, passing_trait, item)
    }

    fn call(&self, function: &str, arguments: &TokenStream) -> TokenStream {
        called(&self.ty, &self.item(function), arguments)
    }

    /// The view that the proxy sends.
    fn view(&self) -> TokenStream {
        let Self { ident, ty, .. } = self;
        match self.passing {
            Passing::Reference => self.call("view_ref", &quote!(#ident)),
            Passing::OptionalReference => {
                let view = quote!(::hotswap_sdk::expansion::view_optional::<#ty>);
                called(ty, &view, &quote!(#ident))
            }
            Passing::Value => self.call("view_outgoing", &quote!(&#ident)),
        }
    }

    /// What the entry makes of the view.
    fn decode(&self) -> TokenStream {
        let Self { ident, ty, .. } = self;
        let arguments = quote!(#ident, __context);
        let decoded = match self.passing {
            Passing::Reference => self.call("borrow", &arguments),
            Passing::OptionalReference => {
                let borrow = quote!(::hotswap_sdk::expansion::borrow_optional::<#ty>);
                called(ty, &borrow, &arguments)
            }
            Passing::Value => self.call("take", &arguments),
        };
        quote!(let #ident = #decoded?;)
    }

    /// The argument that the entry passes to the method.
    fn pass(&self) -> TokenStream {
        let ident = &self.ident;
        match self.passing {
            Passing::Reference => self.call("get", &quote!(&#ident)),
            Passing::OptionalReference => {
                let get = self.call("get", &quote!(it));
                quote!(::core::option::Option::map(#ident.as_ref(), |it| #get))
            }
            Passing::Value => quote!(#ident),
        }
    }

    fn described(&self) -> TokenStream {
        let Self { name, ty, .. } = self;
        let describe = match self.passing {
            Passing::Reference => self.item("describe_ref"),
            Passing::OptionalReference => {
                quote!(::hotswap_sdk::expansion::describe_optional::<#ty>)
            }
            Passing::Value => self.item("describe_value"),
        };
        let is_by_ref = self.passing != Passing::Value;
        quote!(signature.parameter(#name, #is_by_ref, #describe);)
    }
}

/// An item of one of the SDK's traits for a type. It has the span of the type, and so has its call ([`called`]). Then
/// the compiler's errors about the trait point there, and are the same ones, of which it shows one.
pub(crate) fn item_of(ty: &Type, of_trait: &str, item: &str) -> TokenStream {
    let (first, last) = ends(ty);
    let of_trait = Ident::new(of_trait, Span::call_site());
    let of_trait = quote!(::hotswap_sdk::expansion::#of_trait);
    let item = Ident::new(item, last);
    let open = quote_spanned!(first=> <);
    let close = quote_spanned!(last=> >::);
    quote!(#open #ty as #of_trait #close #item)
}

/// The call of such an item.
pub(crate) fn called(ty: &Type, function: &TokenStream, arguments: &TokenStream) -> TokenStream {
    let (_, last) = ends(ty);
    quote_spanned!(last=> #function(#arguments))
}

/// The spans of the first and the last token.
fn ends(ty: &Type) -> (Span, Span) {
    let spans = ty.to_token_stream().into_iter().map(|it| it.span());
    let last = spans.last().unwrap_or_else(Span::call_site);
    (ty.span(), last)
}

/// `Cons(a, Cons(b, Nil))`.
fn nested(parts: impl DoubleEndedIterator<Item = TokenStream>) -> TokenStream {
    parts.rev().fold(
        quote!(::hotswap_sdk::expansion::Nil),
        |rest, part| quote!(::hotswap_sdk::expansion::Cons(#part, #rest)),
    )
}

/// The type that a function returns.
pub(crate) fn result_type(output: &ReturnType) -> Type {
    match output {
        ReturnType::Default => syn::parse_quote!(()),
        ReturnType::Type(_, ty) => (**ty).clone(),
    }
}

pub(crate) const LIFETIME: &str = "a result borrows nothing, so that no lifetime has a meaning: leave it out, and return an owned value";

/// Refuses what a function that is called from another compilation cannot have. The messages call the function `what`,
/// and say to write an ordinary `kind`, because `attribute` adds the ABI.
pub(crate) fn check_plain(
    signature: &Signature,
    what: &str,
    kind: &str,
    attribute: &str,
) -> Result<()> {
    let (span, refusal) = if let Safety::Unsafe(token) = &signature.safety {
        (token.span(), format!("{what} is safe to call"))
    } else if let Some(abi) = &signature.abi {
        let refusal = format!("write an ordinary {kind}: `{attribute}` adds the ABI");
        (abi.span(), refusal)
    } else if let Some(lifetime) = signature.generics.lifetimes().next() {
        (lifetime.span(), LIFETIME.to_owned())
    } else if let Some(parameter) = signature.generics.params.first() {
        let refusal = format!(
            "{what} is not generic: a plugin is compiled before its callers are known; write the type"
        );
        (parameter.span(), refusal)
    } else if let Some(clause) = &signature.generics.where_clause {
        (clause.span(), format!("{what} has no `where` clause"))
    } else {
        return Ok(());
    };
    Err(Error::new(span, refusal))
}

/// Refuses parameters and results that can never be sent.
pub(crate) fn check_types(signature: &Signature) -> Result<()> {
    for input in &signature.inputs {
        if let FnArg::Typed(input) = input {
            check_type(&input.ty, Position::Parameter)?;
        }
    }
    match &signature.output {
        ReturnType::Default => Ok(()),
        ReturnType::Type(_, ty) => check_type(ty, Position::Result),
    }
}

/// Both sides must have the same methods, fields and variants, whatever they are compiled with.
pub(crate) fn check_attributes(attributes: &[Attribute]) -> Result<()> {
    let is_conditional = |it: &&Attribute| it.path().is_ident("cfg");
    match attributes.iter().find(is_conditional) {
        Some(attribute) => {
            let what = "both sides must have the same parts, whatever they are compiled with: put `#[cfg]` before the whole item";
            Err(Error::new(attribute.span(), what))
        }
        None => Ok(()),
    }
}
