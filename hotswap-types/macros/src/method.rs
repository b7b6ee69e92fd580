//! One method of an interface: which signatures are accepted, and what they expand to.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Attribute, Error, FnArg, Ident, Pat, Result, ReturnType, Signature, TraitItemFn, Type,
    TypeParamBound, ext::IdentExt, spanned::Spanned,
};

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
    /// Its type, without `&` if it is passed by reference.
    ty: Type,
    is_by_ref: bool,
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
            let (ty, is_by_ref) = match &*input.ty {
                Type::Reference(reference) => ((*reference.elem).clone(), true),
                ty => (ty.clone(), false),
            };
            parameters.push(Parameter {
                name,
                ident,
                ty,
                is_by_ref,
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
        let outgoing = self.parameters.iter().filter(|it| !it.is_by_ref);
        let outgoing = outgoing.map(|Parameter { ident, ty, .. }| {
            let by_value = as_trait(ty, "ByValue");
            quote! { let #ident = #by_value::into_outgoing(#ident, self.0.leases()); }
        });
        let views = self.parameters.iter().map(Parameter::view);
        let arguments = nested(views);
        quote! {
            #[inline]
            #signature {
                #default
                #(#outgoing)*
                let arguments = #arguments;
                // SAFETY: the other side has an entry with this index: `has` says so, or the method has no default
                // body, and then the comparison of the descriptions has found it. That comparison has also found its
                // types to agree. What the views are of is borrowed, or is outgoing and dropped after the call.
                unsafe { self.0.call::<_, #result>(#number, arguments) }
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
        let views = self.parameters.iter().map(|parameter| {
            let passing_trait = parameter.passing_trait();
            quote!(#passing_trait::View)
        });
        let of_arguments = nested_types(views);
        let patterns = self.parameters.iter().map(|it| &it.ident);
        let pattern = nested(patterns.map(|it| quote!(#it)));
        let decode = self.parameters.iter().map(Parameter::decode);
        let pass = self.parameters.iter().map(Parameter::pass);
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
                // `Entry`). Argument list and result have the types in the description. Each argument's view is read as
                // the type that it is described as, and what it is of stays unchanged until this returns.
                unsafe {
                    ::hotswap_sdk::expansion::dispatch::<__S, #of_arguments, #result>(
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
        let by_value = as_trait(result, "ByValue");
        let parameters = self.parameters.iter().map(Parameter::described);
        quote! {
            methods.method(#name, #has_default, |signature| {
                #(#parameters)*
                signature.result(#by_value::describe_value)
            });
        }
    }
}

impl Parameter {
    /// Its type, as `ByRef` or `ByValue`.
    fn passing_trait(&self) -> TokenStream {
        as_trait(&self.ty, if self.is_by_ref { "ByRef" } else { "ByValue" })
    }

    /// The view that the proxy sends.
    fn view(&self) -> TokenStream {
        let ident = &self.ident;
        let passing_trait = self.passing_trait();
        match self.is_by_ref {
            true => quote!(#passing_trait::view_ref(#ident)),
            false => quote!(#passing_trait::view_outgoing(&#ident)),
        }
    }

    /// What the entry makes of the view.
    fn decode(&self) -> TokenStream {
        let ident = &self.ident;
        let passing_trait = self.passing_trait();
        match self.is_by_ref {
            true => quote!(let #ident = #passing_trait::borrow(#ident, __context)?;),
            false => quote!(let #ident = #passing_trait::take(#ident, __context)?;),
        }
    }

    /// The argument that the entry passes to the method.
    fn pass(&self) -> TokenStream {
        let ident = &self.ident;
        let passing_trait = self.passing_trait();
        match self.is_by_ref {
            true => quote!(#passing_trait::get(&#ident)),
            false => quote!(#ident),
        }
    }

    fn described(&self) -> TokenStream {
        let passing_trait = self.passing_trait();
        let name = &self.name;
        match self.is_by_ref {
            true => quote!(signature.parameter(#name, #passing_trait::describe_ref);),
            false => quote!(signature.parameter(#name, #passing_trait::describe_value);),
        }
    }
}

/// A type as one of the SDK's traits, with the span of the type, so that an error about the trait points there.
pub(crate) fn as_trait(ty: &Type, name: &str) -> TokenStream {
    let span = ty.span().resolved_at(Span::call_site());
    let name = Ident::new(name, span);
    quote_spanned!(span=> <#ty as ::hotswap_sdk::expansion::#name>)
}

/// `Cons(a, Cons(b, Nil))`.
fn nested(parts: impl DoubleEndedIterator<Item = TokenStream>) -> TokenStream {
    parts.rev().fold(
        quote!(::hotswap_sdk::expansion::Nil),
        |rest, part| quote!(::hotswap_sdk::expansion::Cons(#part, #rest)),
    )
}

/// `Cons<A, Cons<B, Nil>>`.
fn nested_types(parts: impl DoubleEndedIterator<Item = TokenStream>) -> TokenStream {
    parts.rev().fold(
        quote!(::hotswap_sdk::expansion::Nil),
        |rest, part| quote!(::hotswap_sdk::expansion::Cons<#part, #rest>),
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
        match &*input.ty {
            Type::Reference(reference) => {
                if let Some(token) = &reference.mutability {
                    let what =
                        "nothing is changed across the border: take `&T`, and return what is new";
                    return Err(Error::new(token.span(), what));
                }
                check_type(&reference.elem, Position::Parameter)?;
            }
            ty => check_type(ty, Position::Parameter)?,
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
            let what = "what crosses is the same whatever a side is compiled with: put the condition before the whole item";
            Err(Error::new(attribute.span(), what))
        }
        None => Ok(()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    Parameter,
    Result,
    Field,
}

/// Refuses types that can never be sent. The compiler refuses those that do not implement the SDK's traits.
pub(crate) fn check_type(ty: &Type, position: Position) -> Result<()> {
    let what = match ty {
        Type::Reference(_) if position == Position::Result => {
            "a result belongs to the caller, so that it has no references: return a `String`, a `Vec` or another owned value"
        }
        Type::Reference(_) if position == Position::Field => {
            "what is sent borrows nothing: write `String`, `Vec` or another owned type"
        }
        Type::Reference(_) => {
            "only a parameter itself is a reference: write `&[T]` or `&Vec<T>` of owned values"
        }
        Type::ImplTrait(_) => {
            "`impl Trait` is another type in every plugin: write the type, or `Box<dyn Trait>` of another interface"
        }
        Type::BareFn(_) => {
            "a function pointer would outlive its plugin: write `Box<dyn Trait>` of another interface"
        }
        Type::Ptr(_) => "a pointer means nothing on the other side: send the value",
        Type::Never(_) => "a method of an interface returns",
        Type::TraitObject(object) if position == Position::Parameter => {
            let is_trait = |bound: &TypeParamBound| matches!(bound, TypeParamBound::Trait(_));
            match object.bounds.iter().any(is_trait) {
                true => "another interface is passed as `Box<dyn Trait>`",
                false => return Ok(()),
            }
        }
        Type::TraitObject(_) => "another interface is returned as `Box<dyn Trait>`",
        Type::Infer(_) => "write the type",
        Type::Tuple(tuple) => {
            return tuple
                .elems
                .iter()
                .try_for_each(|it| check_type(it, position));
        }
        Type::Array(array) => return check_type(&array.elem, position),
        Type::Slice(slice) => return check_type(&slice.elem, position),
        Type::Paren(paren) => return check_type(&paren.elem, position),
        Type::Group(group) => return check_type(&group.elem, position),
        Type::Path(path) => return check_path(path, position),
        _ => return Ok(()),
    };
    Err(Error::new(ty.span(), what))
}

fn check_path(path: &syn::TypePath, position: Position) -> Result<()> {
    for segment in &path.path.segments {
        if segment.ident == "Self" {
            let what = "`Self` is another type in every plugin: write the type";
            return Err(Error::new(segment.span(), what));
        }
        let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments else {
            continue;
        };
        for argument in &arguments.args {
            match argument {
                syn::GenericArgument::Type(Type::TraitObject(_)) if segment.ident == "Box" => {}
                syn::GenericArgument::Type(ty) => check_type(ty, position)?,
                syn::GenericArgument::Lifetime(lifetime) => {
                    let what = "what is sent borrows nothing: write an owned type";
                    return Err(Error::new(lifetime.span(), what));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
