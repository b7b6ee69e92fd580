//! The macros of `hotswap-core`: `#[derive(HostOwned)]`, which it documents and re-exports, and `#[report]` and
//! `#[derive(FromBytes)]`, which only it uses.

mod report;

use proc_macro::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, parse_macro_input, parse_quote};

/// For `hotswap-core` only: gives its reports their text, their form for programs and their `tracing` fields.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn report(arguments: TokenStream, input: TokenStream) -> TokenStream {
    let mut options = report::Options::default();
    let parser = syn::meta::parser(|option| options.read(&option));
    parse_macro_input!(arguments with parser);
    let input = parse_macro_input!(input as DeriveInput);
    report::expand(&options, input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

/// For `hotswap-core` only: reads a struct out of bytes, each field at its offset.
#[doc(hidden)]
#[proc_macro_derive(FromBytes)]
pub fn derive_from_bytes(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let Data::Struct(data) = &input.data else {
        return Error::new(input.ident.span(), "it is not a struct")
            .into_compile_error()
            .into();
    };
    let name = &input.ident;
    let members: Vec<_> = data.fields.members().collect();
    quote! {
        impl FromBytes for #name {
            fn from_bytes(bytes: &[u8]) -> Self {
                Self {
                    #(#members: FromBytes::from_bytes(&bytes[::std::mem::offset_of!(Self, #members)..]),)*
                }
            }
        }
    }
    .into()
}

/// Derives `hotswap_core::HostOwned` for a struct or enum whose fields are all host-owned.
#[proc_macro_derive(HostOwned)]
pub fn derive_host_owned(input: TokenStream) -> TokenStream {
    let mut input = parse_macro_input!(input as DeriveInput);
    let fields: Vec<&Fields> = match &input.data {
        Data::Struct(data) => vec![&data.fields],
        Data::Enum(data) => data
            .variants
            .iter()
            .map(|variant| &variant.fields)
            .collect(),
        Data::Union(data) => {
            let message = "a union may hold anything, so that it cannot be known to be host-owned";
            return Error::new(data.union_token.span, message)
                .into_compile_error()
                .into();
        }
    };
    let types: Vec<_> = fields
        .iter()
        .flat_map(|fields| fields.iter())
        .map(|field| field.ty.clone())
        .collect();
    let bounds = input.generics.make_where_clause();
    for field in types {
        bounds
            .predicates
            .push(parse_quote!(#field: ::hotswap_core::HostOwned));
    }
    let name = &input.ident;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    quote! {
        // SAFETY: the bounds say that every field is host-owned, and there is nothing beside the fields.
        unsafe impl #impl_generics ::hotswap_core::HostOwned for #name #type_generics #where_clause {}
    }
    .into()
}
