//! The macros of `hotswap-sdk`, which documents and re-exports them.
//!
//! Their expansions use `hotswap_sdk::expansion`, and no other package. The unsafe code in an expansion only implements
//! and calls what is in that module, which documents the contracts.

#![expect(
    missing_docs,
    reason = "`hotswap-sdk` documents each macro where it re-exports it, and its tests run the examples"
)]

mod async_method;
mod call;
mod data;
mod function;
mod interface;
mod method;
mod plugin;
mod types;

use proc_macro::TokenStream;
use syn::{DeriveInput, Error, Item, ItemImpl, parse_macro_input};

#[proc_macro_attribute]
pub fn interface(options: TokenStream, input: TokenStream) -> TokenStream {
    if !options.is_empty() {
        return error("`#[interface]` has no options");
    }
    let expansion = match parse_macro_input!(input as Item) {
        Item::Trait(input) => interface::expand(input),
        Item::Impl(input) => async_method::expand(input),
        _ => {
            return error(
                "`#[interface]` stands before a trait, or before `impl Interface for Type`",
            );
        }
    };
    expansion.unwrap_or_else(Error::into_compile_error).into()
}

#[proc_macro_attribute]
pub fn data(options: TokenStream, input: TokenStream) -> TokenStream {
    if !options.is_empty() {
        return error("`#[data]` has no options here: they stand before fields and variants");
    }
    let input = parse_macro_input!(input as DeriveInput);
    data::expand(input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

#[proc_macro_attribute]
pub fn plugin(arguments: TokenStream, input: TokenStream) -> TokenStream {
    let mut options = plugin::Options::default();
    let parser = syn::meta::parser(|option| options.read(&option));
    parse_macro_input!(arguments with parser);
    let input = parse_macro_input!(input as ItemImpl);
    plugin::expand(&options, input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

#[proc_macro_attribute]
pub fn export(options: TokenStream, input: TokenStream) -> TokenStream {
    if !options.is_empty() {
        return error("`#[export]` has no options");
    }
    let input = parse_macro_input!(input as Item);
    function::export(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

#[proc_macro_attribute]
pub fn function(options: TokenStream, input: TokenStream) -> TokenStream {
    if !options.is_empty() {
        return error("`#[function]` has no options");
    }
    let input = parse_macro_input!(input as Item);
    function::function(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

fn error(message: &str) -> TokenStream {
    Error::new(proc_macro2::Span::call_site(), message)
        .into_compile_error()
        .into()
}
