//! `#[plugin]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{
    Error, ExprPath, Ident, ItemImpl, LitInt, LitStr, Path, Result, Token, meta::ParseNestedMeta,
    parenthesized, punctuated::Punctuated, spanned::Spanned,
};

use crate::async_method;

/// The name of the static by which abi_stable finds a root module.
const ROOT_MODULE: &str = "_1as_0lib_1header_0root_bmodule_bloader";

/// The options in the brackets.
#[derive(Default)]
pub(crate) struct Options {
    make: Option<ExprPath>,
    before_unload: Option<Path>,
    runtime: Option<LitStr>,
    runtime_threads: Option<LitInt>,
    vouch: Vec<LitStr>,
    pinned_by: Vec<LitStr>,
}

/// How many workers a runtime has unless it is said. A plugin is one of many things in its process.
const WORKERS: usize = 2;

impl Options {
    /// Reads one option.
    pub(crate) fn read(&mut self, option: &ParseNestedMeta<'_>) -> Result<()> {
        let strings = || -> Result<Vec<LitStr>> {
            let list;
            parenthesized!(list in option.input);
            let list = Punctuated::<LitStr, Token![,]>::parse_terminated(&list)?;
            Ok(list.into_iter().collect())
        };
        let name = option.path.get_ident().map(Ident::to_string);
        match name.as_deref() {
            Some("make") => self.make = Some(option.value()?.parse()?),
            Some("before_unload") => self.before_unload = Some(option.value()?.parse()?),
            Some("runtime") => self.runtime = Some(option.value()?.parse()?),
            Some("runtime_threads") => self.runtime_threads = Some(option.value()?.parse()?),
            Some("vouch") => self.vouch = strings()?,
            Some("pinned_by") => self.pinned_by = strings()?,
            _ => {
                let what = "`#[plugin]` knows `make`, `before_unload`, `runtime`, `runtime_threads`, `vouch` and `pinned_by`";
                return Err(option.error(what));
            }
        }
        Ok(())
    }

    /// How many threads run async methods; 0 if it is tokio's current-thread scheduler. `None`: the host's threads do.
    fn workers(&self) -> Result<Option<usize>> {
        let Some(runtime) = &self.runtime else {
            return match &self.runtime_threads {
                None => Ok(None),
                Some(threads) => {
                    let what =
                        "`runtime_threads` says how many threads a `runtime = \"tokio\"` has";
                    Err(Error::new(threads.span(), what))
                }
            };
        };
        match (&*runtime.value(), &self.runtime_threads) {
            ("tokio", None) => Ok(Some(WORKERS)),
            ("tokio", Some(threads)) => match threads.base10_parse()? {
                0 => {
                    let what = "a runtime has at least one thread";
                    Err(Error::new(threads.span(), what))
                }
                threads => Ok(Some(threads)),
            },
            ("tokio_current_thread", None) => Ok(Some(0)),
            ("tokio_current_thread", Some(threads)) => {
                let what =
                    "this runtime has one thread: leave it out, or write `runtime = \"tokio\"`";
                Err(Error::new(threads.span(), what))
            }
            _ => {
                let what = "the runtimes are `\"tokio\"` and `\"tokio_current_thread\"`";
                Err(Error::new(runtime.span(), what))
            }
        }
    }
}

pub(crate) fn expand(options: &Options, mut input: ItemImpl) -> Result<TokenStream> {
    async_method::expand_impl(&mut input);
    let Some((interface, _)) = &input.trait_ else {
        let what = "`#[plugin]` stands before `impl Interface for Type`";
        return Err(Error::new(input.impl_token.span(), what));
    };
    if let Some(parameter) = input.generics.params.first() {
        let what = "a plugin's type is not generic: write the type";
        return Err(Error::new(parameter.span(), what));
    }
    let ty = &input.self_ty;
    let constructor = match &options.make {
        Some(make) => quote_spanned! {make.span()=>
            ::hotswap_sdk::expansion::constructor::<#ty, _, _>(#make)
        },
        None => quote! {
            ::hotswap_sdk::expansion::constructor::<#ty, _, _>(
                || <#ty as ::core::default::Default>::default()
            )
        },
    };
    let before_unload = options.before_unload.iter();
    let has_before_unload = options.before_unload.is_some();
    let workers = options.workers()?;
    let has_runtime = workers.is_some();
    let runtime = workers.map(|workers| {
        quote! {
            fn runtime() -> ::core::option::Option<&'static dyn ::hotswap_sdk::expansion::Runtime> {
                ::core::option::Option::Some(::hotswap_sdk::expansion::tokio_runtime!(#workers))
            }
        }
    });
    let (vouch, pinned_by) = (&options.vouch, &options.pinned_by);
    let root_module = proc_macro2::Ident::new(ROOT_MODULE, proc_macro2::Span::call_site());
    Ok(quote! {
        #input

        const _: () = {
            static VALUE_SLOT: ::hotswap_sdk::expansion::ValueSlot<#ty> =
                ::hotswap_sdk::expansion::ValueSlot::new();

            impl ::hotswap_sdk::expansion::Plugin for #ty {
                type Interface = dyn #interface;

                fn constructor() -> ::std::boxed::Box<dyn ::hotswap_sdk::expansion::AnyConstructor<Self>> {
                    #constructor
                }

                fn slot() -> &'static ::hotswap_sdk::expansion::ValueSlot<Self> {
                    &VALUE_SLOT
                }

                fn before_unload() {
                    #(#before_unload();)*
                }

                #runtime
            }

            #[cfg(not(test))]
            #[unsafe(no_mangle)]
            static #root_module: ::hotswap_sdk::expansion::LibHeader =
                ::hotswap_sdk::expansion::header::<#ty>();
        };

        /// # Safety
        ///
        /// No call uses the plugin's value, and none will.
        // A function with a path, as `unloadable!` needs one. If there are two plugins, the compiler's error has this
        // name.
        #[doc(hidden)]
        #[allow(dead_code, reason = "nothing is exported in tests")]
        unsafe fn __only_one_plugin_in_a_crate() {
            // SAFETY: no call uses the value, and none will (`# Safety` of this function).
            unsafe { ::hotswap_sdk::expansion::end::<#ty>() };
        }

        ::hotswap_sdk::expansion::unloadable!(
            before_unload = if (
                #has_before_unload || #has_runtime || ::hotswap_sdk::expansion::needs_drop::<#ty>()
            ) unsafe __only_one_plugin_in_a_crate,
            vouch(#(#vouch),*),
            pinned_by(#(#pinned_by),*)
        );
    })
}
