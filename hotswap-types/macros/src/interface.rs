//! `#[interface]`.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{
    Error, ItemTrait, Result, TraitItem, TypeParamBound, ext::IdentExt, parse_quote,
    spanned::Spanned,
};

use crate::{async_method, method::Method};

pub(crate) fn expand(mut input: ItemTrait) -> Result<TokenStream> {
    let methods = methods(&input)?;
    // Also if it says so itself: its `Send` may be another trait of this name.
    for bound in ["Send", "Sync"] {
        let bound = proc_macro2::Ident::new(bound, input.ident.span());
        input.supertraits.push(parse_quote!(::core::marker::#bound));
    }
    input.colon_token.get_or_insert_default();
    for item in &mut input.items {
        if let TraitItem::Fn(method) = item {
            async_method::expand_method(method);
        }
    }
    let interface = &input.ident;
    let name = interface.unraw().to_string();

    let proxy = methods.iter().map(|it| it.proxy(interface));
    let entry_fns = methods.iter().map(|it| it.entry_fn(interface));
    let entry_names = methods.iter().map(Method::entry_name);
    let described = methods.iter().map(Method::described);
    let default_receivers = methods.iter().filter(|it| it.has_default).map(|left_out| {
        let receiver = left_out.default_receiver();
        let others = methods.iter().filter(|it| it.name != left_out.name);
        let others = others.map(|it| it.forwarded(interface));
        quote! {
            struct #receiver<'a>(&'a __Proxy);

            impl #interface for #receiver<'_> {
                #(#others)*
            }
        }
    });
    Ok(quote! {
        #input

        #[allow(deprecated, reason = "whoever uses what is deprecated is told, and not whoever defines it")]
        const _: () = {
            /// A proxy: every method calls the method on the other side.
            pub struct __Proxy(::hotswap_sdk::expansion::Remote);

            #[diagnostic::do_not_recommend]
            #[automatically_derived]
            impl #interface for __Proxy {
                #(#proxy)*
            }

            #(#default_receivers)*

            #(#entry_fns)*

            // SAFETY: the vtable has an entry for each method in the description below, in the same order. Its target
            // is a `__S`, and its views are those of the described parameters and result.
            #[automatically_derived]
            unsafe impl<__S> ::hotswap_sdk::expansion::Dispatch<__S> for dyn #interface
            where
                __S: ::hotswap_sdk::expansion::DispatchTarget,
                __S::Target: #interface,
            {
                const VTABLE: &'static [::hotswap_sdk::expansion::Entry] = &[#(#entry_names::<__S>),*];
            }

            // SAFETY: the macro describes all methods of the trait in their order, each with the types in its
            // signature. The proxy calls them by that order and these types.
            #[automatically_derived]
            unsafe impl ::hotswap_sdk::expansion::Described for dyn #interface {
                const PACKAGE: &'static str = ::core::env!("CARGO_PKG_NAME");
                const NAME: &'static str = #name;
                const VERSION: &'static str = ::core::env!("CARGO_PKG_VERSION");

                fn describe_interface(
                    types: &mut ::hotswap_sdk::expansion::Types,
                ) -> ::hotswap_sdk::expansion::TypeIndex {
                    types.interface::<dyn #interface>(#name, |methods| { #(#described)* })
                }

                unsafe fn proxy(remote: ::hotswap_sdk::expansion::Remote) -> ::std::boxed::Box<Self> {
                    ::std::boxed::Box::new(__Proxy(remote))
                }
            }

            // SAFETY: `View` is `repr(C)` and that of every object. The object is sent with the vtable of this trait,
            // which is described, and the receiver makes a proxy of the same trait of it.
            #[diagnostic::do_not_recommend]
            #[automatically_derived]
            unsafe impl ::hotswap_sdk::expansion::ByValue for ::std::boxed::Box<dyn #interface> {
                type View = ::hotswap_sdk::expansion::ObjectView;
                type Outgoing = ::hotswap_sdk::expansion::OutgoingObject<dyn #interface>;
                type VecView = ::hotswap_sdk::expansion::IndirectSlice<Self::View>;

                fn into_outgoing(self, leases: &::hotswap_sdk::expansion::Leases) -> Self::Outgoing {
                    ::hotswap_sdk::expansion::OutgoingObject::new(self, leases)
                }

                fn view_outgoing(outgoing: &Self::Outgoing) -> Self::View {
                    outgoing.view()
                }

                unsafe fn take(
                    view: Self::View,
                    context: ::hotswap_sdk::expansion::ReadContext<'_>,
                ) -> ::core::result::Result<Self, ::hotswap_sdk::expansion::ReadError> {
                    // SAFETY: `view` is from `view_outgoing` of an object of this trait that is being sent, and this is
                    // called on the sender's thread (`# Safety` of this function).
                    let remote = unsafe { view.take(context, #name) }?;
                    ::core::result::Result::Ok(::std::boxed::Box::new(__Proxy(remote)))
                }

                fn describe_value(
                    types: &mut ::hotswap_sdk::expansion::Types,
                ) -> ::hotswap_sdk::expansion::TypeIndex {
                    <dyn #interface as ::hotswap_sdk::expansion::Described>::describe_interface(types)
                }
            }

            // SAFETY: the handle is a proxy of this trait, whose description was compared with the plugin's.
            #[automatically_derived]
            unsafe impl<'a> ::hotswap_sdk::expansion::Interface for dyn #interface + 'a {
                type Kind = ::hotswap_sdk::expansion::Trait;
                type Module = ::hotswap_sdk::expansion::PluginRootRef;
                type Live = __Proxy;
                type Borrowed<'b> = dyn #interface + 'b;

                fn name() -> ::std::string::String {
                    ::hotswap_sdk::expansion::name_of::<dyn #interface>()
                }

                unsafe fn accept(
                    module: ::hotswap_sdk::expansion::PluginRootRef,
                    memory: &dyn ::hotswap_sdk::expansion::ImageMemory,
                    offer: ::hotswap_sdk::expansion::Offer<'_>,
                ) -> ::core::result::Result<
                    (__Proxy, ::core::option::Option<::std::string::String>),
                    ::hotswap_sdk::expansion::Refused,
                > {
                    // SAFETY: the module's layout was checked, its image stays mapped while the proxy is used, what is
                    // offered is for that image, and this is called once for it (`# Safety` of this function).
                    let (remote, version) =
                        unsafe { ::hotswap_sdk::expansion::accept::<dyn #interface>(module, memory, offer) }?;
                    ::core::result::Result::Ok((__Proxy(remote), version))
                }

                #[inline]
                fn as_interface(live: &__Proxy) -> &Self {
                    live
                }

                #[inline]
                fn borrow(live: &__Proxy) -> &Self::Borrowed<'_> {
                    live
                }
            }

            // SAFETY: the handle is a proxy of this trait, with the vtable of this trait for such a value.
            #[automatically_derived]
            unsafe impl<__T> ::hotswap_sdk::expansion::BuiltIn<__T> for dyn #interface
            where
                __T: #interface + 'static,
            {
                fn built_in(
                    value: __T,
                    leases: ::std::sync::Arc<dyn ::hotswap_sdk::expansion::LeaseSource>,
                ) -> __Proxy {
                    __Proxy(::hotswap_sdk::expansion::built_in::<dyn #interface, __T>(value, leases))
                }
            }
        };
    })
}

fn methods(input: &ItemTrait) -> Result<Vec<Method>> {
    if let Some(parameter) = input.generics.params.first() {
        let what = "an interface is not generic: a plugin is compiled before its host is known; write the type";
        return Err(Error::new(parameter.span(), what));
    }
    if let Some(token) = &input.unsafety {
        return Err(Error::new(token.span(), "an interface is a safe trait"));
    }
    let allowed = ["Send", "Sync"];
    let other = |it: &&TypeParamBound| !allowed.iter().any(|name| is_named(it, name));
    if let Some(bound) = input.supertraits.iter().find(other) {
        let what = "an interface has no supertraits but `Send` and `Sync`: list the methods here";
        return Err(Error::new(bound.span(), what));
    }
    let mut methods = Vec::new();
    for item in &input.items {
        match item {
            TraitItem::Fn(method) => methods.push(Method::new(methods.len(), method)?),
            TraitItem::Type(item) => {
                let what = "an interface has no associated types: write the type";
                return Err(Error::new(item.span(), what));
            }
            TraitItem::Const(item) => {
                let what = "an interface has no constants: write a method that returns it";
                return Err(Error::new(item.span(), what));
            }
            other => return Err(Error::new(other.span(), "an interface has only methods")),
        }
    }
    Ok(methods)
}

fn is_named(bound: &TypeParamBound, name: &str) -> bool {
    match bound {
        TypeParamBound::Trait(bound) => {
            let last = bound.path.segments.last();
            last.is_some_and(|it| it.to_token_stream().to_string() == name)
        }
        _ => false,
    }
}
