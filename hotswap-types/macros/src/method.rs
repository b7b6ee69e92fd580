//! One method of an interface: which signatures are accepted, and what they expand to.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Attribute, Error, FnArg, Ident, Pat, Result, ReturnType, Signature, TraitItemFn, Type,
    ext::IdentExt, spanned::Spanned,
};

use crate::types::{Position, check_type, optional_reference};

/// A method whose signature was accepted.
pub(crate) struct Method {
    pub(crate) signature: Signature,
    pub(crate) name: Ident,
    pub(crate) has_default: bool,
    parameters: Vec<Parameter>,
    result: Type,
    number: usize,
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

impl Method {
    pub(crate) fn new(number: usize, method: &TraitItemFn) -> Result<Self> {
        let mut signature = method.sig.clone();
        check(&signature)?;
        check_attributes(&method.attrs)?;
        // With the hygiene of this expansion, even if another macro has written the trait.
        signature.inputs[0] = syn::parse_quote!(&self);
        let mut parameters = Vec::new();
        for (index, input) in signature.inputs.iter_mut().enumerate().skip(1) {
            let FnArg::Typed(input) = input else {
                continue;
            };
            check_attributes(&input.attrs)?;
            let ident = format_ident!("argument_{index}");
            let name = match &*input.pat {
                Pat::Ident(pattern) => pattern.ident.unraw().to_string(),
                _ => index.to_string(),
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
        let result = match &signature.output {
            ReturnType::Default => syn::parse_quote!(()),
            ReturnType::Type(_, ty) => (**ty).clone(),
        };
        Ok(Self {
            name: signature.ident.clone(),
            signature,
            has_default: method.default.is_some(),
            parameters,
            result,
            number,
        })
    }

    /// The name of its vtable entry.
    pub(crate) fn entry_name(&self) -> Ident {
        format_ident!("__entry_{}", self.number)
    }

    /// The name of the receiver of its default body: a type that implements the other methods by the proxy, but not
    /// this one, so that the trait's default body is what runs.
    pub(crate) fn default_receiver(&self) -> Ident {
        format_ident!("__DefaultReceiver{}", self.number)
    }

    /// The method of the proxy: builds the argument list and calls the entry.
    pub(crate) fn proxy(&self, interface: &Ident) -> TokenStream {
        let Self {
            signature,
            name,
            number,
            result,
            ..
        } = self;
        let idents: Vec<_> = self.parameters.iter().map(|it| &it.ident).collect();
        let receiver = self.default_receiver();
        let default = self.has_default.then(|| {
            quote! {
                if !self.0.has(#number) {
                    return #interface::#name(&#receiver(self), #(#idents),*);
                }
            }
        });
        let outgoing = self.parameters.iter();
        let outgoing = outgoing.filter(|it| it.passing == Passing::Value);
        let outgoing = outgoing.map(|parameter| {
            let ident = &parameter.ident;
            let begin = parameter.call("into_outgoing", &quote!(#ident, self.0.leases()));
            quote! { let #ident = #begin; }
        });
        let views = self.parameters.iter().map(Parameter::view);
        let arguments = nested(views);
        let call = item_of(result, "ByValue", "call");
        quote! {
            #[inline]
            #signature {
                #default
                #(#outgoing)*
                let arguments = #arguments;
                // SAFETY: the other side has an entry with this index: `has` says so, or the method has no default
                // body, and then the comparison of the descriptions has found it. That comparison has also found its
                // types to agree. What the views are of is borrowed, or is outgoing and dropped after the call.
                unsafe { #call(&self.0, #number, arguments) }
            }
        }
    }

    /// The method, forwarded to the proxy.
    pub(crate) fn forwarded(&self, interface: &Ident) -> TokenStream {
        let Self {
            signature, name, ..
        } = self;
        let idents = self.parameters.iter().map(|it| &it.ident);
        quote! {
            #[inline]
            #signature {
                #interface::#name(self.0, #(#idents),*)
            }
        }
    }

    /// The vtable entry: decodes the arguments and calls the method.
    pub(crate) fn entry_fn(&self, interface: &Ident) -> TokenStream {
        let Self { name, result, .. } = self;
        let entry = self.entry_name();
        let patterns = self.parameters.iter().map(|it| &it.ident);
        let pattern = nested(patterns.map(|it| quote!(#it)));
        let decode = self.parameters.iter().map(Parameter::decode);
        let pass = self.parameters.iter().map(Parameter::pass);
        let dispatch = item_of(result, "ByValue", "dispatch");
        quote! {
            unsafe extern "C" fn #entry<__S>(
                this: *const (),
                arguments: *const (),
                out: *mut (),
                reply: *const ::hotswap_sdk::expansion::ReplyVtable,
            ) -> u32
            where
                __S: ::hotswap_sdk::expansion::DispatchTarget,
                __S::Target: #interface,
            {
                // SAFETY: this is the method's entry in the vtable for an `__S`, and is called as one (contract of
                // `Entry`). Argument list and result have the types in the description: the list has the views that are
                // read, each as the type that it is described as. What it is of stays unchanged until this returns.
                unsafe {
                    #dispatch::<__S, _>(
                        this,
                        arguments,
                        out,
                        reply,
                        |__this, #pattern, __context| {
                            #(#decode)*
                            ::core::result::Result::Ok(#interface::#name(__this, #(#pass),*))
                        },
                    )
                }
            }
        }
    }

    /// The description of its parameters and its result.
    pub(crate) fn described(&self) -> TokenStream {
        let Self {
            name,
            has_default,
            result,
            ..
        } = self;
        let name = name.unraw().to_string();
        let describe = item_of(result, "ByValue", "describe_value");
        let parameters = self.parameters.iter().map(Parameter::described);
        quote! {
            methods.method(#name, #has_default, |signature| {
                #(#parameters)*
                signature.result(#describe)
            });
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
        quote!(signature.parameter(#name, #describe);)
    }
}

/// An item of one of the SDK's traits for a type. All of it has the span of the type, so that the compiler's errors
/// about the trait point there, and are the same ones, of which it shows one.
pub(crate) fn item_of(ty: &Type, of_trait: &str, item: &str) -> TokenStream {
    let span = ty.span().resolved_at(Span::call_site());
    let of_trait = Ident::new(of_trait, span);
    let item = Ident::new(item, span);
    quote_spanned!(span=> <#ty as ::hotswap_sdk::expansion::#of_trait>::#item)
}

/// The call of such an item, all of it with the span of the type, too.
pub(crate) fn called(ty: &Type, function: &TokenStream, arguments: &TokenStream) -> TokenStream {
    let span = ty.span().resolved_at(Span::call_site());
    quote_spanned!(span=> #function(#arguments))
}

/// `Cons(a, Cons(b, Nil))`.
fn nested(parts: impl DoubleEndedIterator<Item = TokenStream>) -> TokenStream {
    parts.rev().fold(
        quote!(::hotswap_sdk::expansion::Nil),
        |rest, part| quote!(::hotswap_sdk::expansion::Cons(#part, #rest)),
    )
}

/// Refuses signatures that no interface can have, and says what to write instead.
fn check(signature: &Signature) -> Result<()> {
    if let Some(token) = &signature.asyncness {
        let what = "an interface has no async methods yet: return when the answer is there";
        return Err(Error::new(token.span(), what));
    }
    if let Some(token) = &signature.unsafety {
        return Err(Error::new(
            token.span(),
            "a method of an interface is safe to call",
        ));
    }
    if let Some(abi) = &signature.abi {
        let what = "write an ordinary method: `#[interface]` adds the ABI";
        return Err(Error::new(abi.span(), what));
    }
    if let Some(lifetime) = signature.generics.lifetimes().next() {
        let what = "a result borrows nothing, so that no lifetime has a meaning: leave it out, and return an owned value";
        return Err(Error::new(lifetime.span(), what));
    }
    if let Some(parameter) = signature.generics.params.first() {
        let what = "a method of an interface is not generic: a plugin is compiled before its callers are known; write the \
                    type";
        return Err(Error::new(parameter.span(), what));
    }
    if let Some(clause) = &signature.generics.where_clause {
        let what = "a method of an interface has no `where` clause";
        return Err(Error::new(clause.span(), what));
    }
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver)) if receiver.reference.is_some() => {
            if let Some(token) = &receiver.mutability {
                let what = "a plugin's value is shared by all callers: take `&self`, and put what changes into a `Mutex` or an \
                            atomic";
                return Err(Error::new(token.span(), what));
            }
        }
        Some(input) => {
            let what = "a method of an interface takes `&self`";
            return Err(Error::new(input.span(), what));
        }
        None => {
            let what =
                "a method of an interface takes `&self`: without it there is no value to call";
            return Err(Error::new(signature.ident.span(), what));
        }
    }
    for input in signature.inputs.iter().skip(1) {
        let FnArg::Typed(input) = input else {
            continue;
        };
        check_type(&input.ty, Position::Parameter)?;
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
            let what = "what crosses is the same whatever a side is compiled with: put the condition before the whole item";
            Err(Error::new(attribute.span(), what))
        }
        None => Ok(()),
    }
}
