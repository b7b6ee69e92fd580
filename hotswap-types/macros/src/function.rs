//! `#[export]` and `#[function]`: single functions.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Error, FnArg, Item, ItemType, Pat, Result, Signature, Type, TypeFnPtr, ext::IdentExt,
    parse_quote, spanned::Spanned,
};

use crate::call::{Call, LIFETIME, check_plain, check_types, result_type};

/// `#[export]` on a function of a plugin.
pub(crate) fn export(input: &Item) -> Result<TokenStream> {
    let input = match input {
        Item::Fn(input) => input,
        Item::Const(_) | Item::Static(_) => {
            let what = "a constant is exported by a function that returns it: `fn name() -> Type`";
            return Err(Error::new(input.span(), what));
        }
        _ => {
            let what = "`#[export]` stands before a function";
            return Err(Error::new(input.span(), what));
        }
    };
    check_signature(&input.sig)?;
    let call = Call::of_signature(&mut input.sig.clone())?;
    let function = &input.sig.ident;
    let name = function.unraw().to_string();
    let (pattern, decode, pass) = (call.pattern(), call.decode(), call.pass());
    let (dispatch, described) = (call.item_of_result("dispatch"), call.described());
    let types = input.sig.inputs.iter().filter_map(|it| match it {
        FnArg::Typed(parameter) => Some(&parameter.ty),
        FnArg::Receiver(_) => None,
    });
    let result = &call.result;
    let conditions = input.attrs.iter().filter(|it| it.path().is_ident("cfg"));
    Ok(quote! {
        #input

        #(#conditions)*
        #[allow(
            dead_code,
            deprecated,
            clippy::type_complexity,
            reason = "nothing is exported in tests; whoever uses what is deprecated is told, and not whoever exports it; a \
                      signature is not a type that one reads"
        )]
        const _: () = {
            // It is called in an unsafe block, and must be safe to call whatever other attributes make of it.
            const _: fn(#(#types),*) -> #result = #function;

            struct __Function;

            unsafe extern "C" fn __entry(
                _: *const (),
                arguments: *const (),
                out: *mut (),
                reply: *const ::hotswap_sdk::expansion::ReplyVtable,
            ) -> u32 {
                // SAFETY: this is called as the function's entry (contract of `Entry`). Argument list and result have
                // the types in the description: the list has the views that are read, each as the type that it is
                // described as. What it is of stays unchanged until this returns.
                unsafe {
                    #dispatch::<::hotswap_sdk::expansion::NoValue, _>(
                        ::hotswap_sdk::expansion::NoValue::THIS,
                        arguments,
                        out,
                        reply,
                        |(), #pattern, __context| {
                            #decode
                            ::core::result::Result::Ok(#function(#pass))
                        },
                    )
                }
            }

            // SAFETY: argument list and result of the entry are those of the signature, which is described.
            unsafe impl ::hotswap_sdk::expansion::Exported for __Function {
                const NAME: &'static str = #name;
                const ENTRY: ::hotswap_sdk::expansion::Entry = __entry;

                fn describe_function(
                    signature: &mut ::hotswap_sdk::expansion::Signature<'_>,
                ) -> ::hotswap_sdk::expansion::TypeIndex {
                    #described
                }
            }

            #[cfg(not(test))]
            #[unsafe(export_name = ::core::concat!("hotswap_function_", #name))]
            static __EXPORT: ::hotswap_sdk::expansion::ExportedFunction =
                ::hotswap_sdk::expansion::ExportedFunction::new::<__Function>();
        };
    })
}

fn check_signature(signature: &Signature) -> Result<()> {
    if let Some(token) = &signature.asyncness {
        let what = "an exported function is not async yet: return when the answer is there";
        return Err(Error::new(token.span(), what));
    }
    check_plain(signature, "an exported function", "function", "#[export]")?;
    if !signature.ident.to_string().is_ascii() {
        let what = "an exported function has an ASCII name: the linker takes no other";
        return Err(Error::new(signature.ident.span(), what));
    }
    if let Some(FnArg::Receiver(receiver)) = signature.inputs.first() {
        let what = "an exported function has no `self`: move it out of the `impl`, or make a trait with `#[interface]`";
        return Err(Error::new(receiver.span(), what));
    }
    check_types(signature)
}

const NOT_A_TYPE: &str = "`#[function]` stands before `type Name = fn(parameter: Type) -> Type;`";

/// `#[function]` on a type of functions in a host.
pub(crate) fn function(input: &Item) -> Result<TokenStream> {
    let Item::Type(input) = input else {
        return Err(Error::new(input.span(), NOT_A_TYPE));
    };
    if let Some(parameter) = input.generics.params.first() {
        let what = "a type of exported functions is not generic: write the type";
        return Err(Error::new(parameter.span(), what));
    }
    let Type::FnPtr(of) = &*input.ty else {
        return Err(Error::new(input.ty.span(), NOT_A_TYPE));
    };
    check_fn_pointer(of)?;
    let ItemType {
        attrs, vis, ident, ..
    } = input;
    let mut shown = call_signature(of);
    check_types(&shown)?;
    let mut renamed = shown.clone();
    let call = Call::of_signature(&mut renamed)?;
    for (shown, renamed) in shown.inputs.iter_mut().zip(renamed.inputs) {
        if matches!(shown, FnArg::Typed(shown) if matches!(*shown.pat, Pat::Wild(_))) {
            *shown = renamed;
        }
    }
    let result = &call.result;
    shown.output = parse_quote!(-> ::core::result::Result<#result, ::hotswap_sdk::host::Fault>);
    let parameters = shown.inputs.iter().filter_map(|it| match it {
        FnArg::Typed(parameter) => Some(&parameter.pat),
        FnArg::Receiver(_) => None,
    });
    let (idents, arguments, described) = (call.idents(), call.arguments(), call.described());
    let call = call.item_of_result("call_function");
    let conditions = attrs.iter().filter(|it| it.path().is_ident("cfg"));
    Ok(quote! {
        #(#attrs)*
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #vis struct #ident(::hotswap_sdk::expansion::RemoteFunction<Self>);

        #(#conditions)*
        #[allow(deprecated, reason = "whoever uses what is deprecated is told, and not whoever defines it")]
        const _: () = {
            impl #ident {
                /// Calls the function.
                ///
                /// # Errors
                ///
                /// It has panicked, or a value is one that the receiver cannot read.
                #[inline]
                pub #shown {
                    let (#(#idents,)*) = (#(#parameters,)*);
                    #arguments
                    // SAFETY: the types of the argument list and of the result are those that are described below. What
                    // the views are of is borrowed, or is outgoing and dropped after the call.
                    unsafe { #call(&self.0, arguments) }
                }
            }

            // SAFETY: the description has the types of the argument list and of the result with which `call` calls it.
            #[automatically_derived]
            unsafe impl ::hotswap_sdk::expansion::Function for #ident {
                fn describe_function(
                    signature: &mut ::hotswap_sdk::expansion::Signature<'_>,
                ) -> ::hotswap_sdk::expansion::TypeIndex {
                    #described
                }

                fn from_remote(remote: ::hotswap_sdk::expansion::RemoteFunction<Self>) -> Self {
                    Self(remote)
                }
            }
        };
    })
}

fn check_fn_pointer(of: &TypeFnPtr) -> Result<()> {
    if let Some(lifetimes) = &of.lifetimes {
        return Err(Error::new(lifetimes.span(), LIFETIME));
    }
    if let Some(token) = &of.unsafety {
        let what = "an exported function is safe to call";
        return Err(Error::new(token.span(), what));
    }
    if let Some(abi) = &of.abi {
        let what = "write `fn` alone: `#[function]` adds the ABI";
        return Err(Error::new(abi.span(), what));
    }
    match &of.variadic {
        Some(variadic) => Err(Error::new(variadic.span(), "write each parameter")),
        None => Ok(()),
    }
}

/// The signature of the method that calls the function. A parameter without a name is `_`.
fn call_signature(of: &TypeFnPtr) -> Signature {
    let result = result_type(&of.output);
    let mut signature: Signature = parse_quote! {
        fn call(&self) -> #result
    };
    for input in &of.inputs {
        let pattern: Pat = match &input.name {
            Some((name, _)) if name != "_" => parse_quote!(#name),
            _ => parse_quote!(_),
        };
        let (attrs, ty) = (&input.attrs, &input.ty);
        signature
            .inputs
            .push(parse_quote!(#(#attrs)* #pattern: #ty));
    }
    signature
}
