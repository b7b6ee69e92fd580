//! Async methods: a trait with an `async fn` has no `dyn Trait`, so the method becomes one that returns a `BoxFuture`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Block, Error, FnArg, ImplItem, ItemImpl, Pat, Result, Signature, TraitItemFn, Type,
    parse_quote, parse_quote_spanned, spanned::Spanned,
};

use crate::{call::result_type, types::text};

/// Refuses references: the future outlives the call that they are made for.
pub(crate) fn check(signature: &Signature) -> Result<()> {
    for input in &signature.inputs {
        if let FnArg::Typed(input) = input
            && let Some(owned) = crate::types::owned_parameter(&input.ty)
        {
            let what = format!(
                "an async method goes on after the call, when nothing is borrowed any more: write `{}`",
                text(&owned)
            );
            return Err(Error::new(input.ty.span(), what));
        }
    }
    Ok(())
}

/// Makes `async fn f(&self) -> T` a `fn f(&self) -> BoxFuture<'_, T>`. Returns `T`, if it was async.
pub(crate) fn make_sync(signature: &mut Signature) -> Option<Type> {
    signature.asyncness.take()?;
    let result = result_type(&signature.output);
    let span = result.span();
    signature.output = parse_quote_spanned!(span=> -> ::hotswap_sdk::BoxFuture<'_, #result>);
    Some(result)
}

/// The method of a trait, with its default body if it has one.
pub(crate) fn expand_method(method: &mut TraitItemFn) {
    match &mut method.default {
        Some(body) => expand_body(&mut method.sig, body),
        None => drop(make_sync(&mut method.sig)),
    }
}

/// The async methods of an implementation.
pub(crate) fn expand_impl(input: &mut ItemImpl) {
    for item in &mut input.items {
        if let ImplItem::Fn(method) = item {
            expand_body(&mut method.sig, &mut method.block);
        }
    }
}

/// `#[interface]` before an implementation.
pub(crate) fn expand(mut input: ItemImpl) -> Result<TokenStream> {
    if input.trait_.is_none() {
        let what = "`#[interface]` stands before a trait, or before `impl Interface for Type`";
        return Err(Error::new(input.impl_token.span(), what));
    }
    expand_impl(&mut input);
    Ok(quote!(#input))
}

/// All parameters are moved into the future, as those of an `async fn` are, whether or not the body uses them. Their
/// attributes go with them, because the lints that these are for see the patterns there.
fn expand_body(signature: &mut Signature, body: &mut Block) {
    let Some(result) = make_sync(signature) else {
        return;
    };
    let mut moved = Vec::new();
    for (number, input) in signature.inputs.iter_mut().enumerate() {
        let FnArg::Typed(input) = input else { continue };
        let ident = format_ident!("__argument_{number}");
        let pattern = std::mem::replace(&mut *input.pat, parse_quote!(#ident));
        let attributes = input.attrs.clone();
        input.attrs.retain(|it| it.path().is_ident("cfg"));
        let conditions = &input.attrs;
        // What a pattern leaves out is dropped with the rest, and not at once.
        if !matches!(pattern, Pat::Ident(_)) {
            moved.push(quote!(#(#conditions)* let #ident = #ident;));
        }
        if !matches!(pattern, Pat::Wild(_)) {
            moved.push(quote! {
                #[allow(clippy::no_effect_underscore_binding, reason = "it is a parameter")]
                #(#attributes)*
                let #pattern = #ident;
            });
        }
    }
    let written = &*body;
    let body_of_type = match &result {
        Type::Tuple(tuple) if tuple.elems.is_empty() => quote!(#written),
        // So that every `return`, `?` and the last expression are coerced to it.
        result => quote! {
            if let ::core::option::Option::Some(result) = ::core::option::Option::None::<#result> {
                return result;
            }
            #[allow(clippy::diverging_sub_expression, reason = "the body may not return")]
            let result: #result = #written;
            #[allow(unreachable_code, reason = "the body may not return")]
            result
        },
    };
    let span = body.brace_token.span.join();
    *body = parse_quote_spanned! {span=>
        {
            ::hotswap_sdk::expansion::boxed::<#result>(async move {
                #(#moved)*
                #body_of_type
            })
        }
    };
}
