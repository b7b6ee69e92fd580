//! The macros of `hotswap-sdk`, which documents and re-exports them.
//!
//! Their expansions use `hotswap_sdk::expansion`, and no other package. The unsafe code in an expansion only implements
//! and calls what is in that module, which documents the contracts.

mod data;
mod interface;
mod method;
mod plugin;

use proc_macro::TokenStream;
use syn::{DeriveInput, Error, ItemImpl, ItemTrait, parse_macro_input};

/// Makes a trait an interface: what a plugin implements, and what a host calls as `Hotswap<dyn Trait>`.
///
/// The trait stays as it is written. The macro also implements it for a proxy that calls the plugin. So code that is
/// generic over `T: Trait` accepts a plugin, a value of the host's own, or a mock in a test.
///
/// ```
/// #[hotswap_sdk::interface]
/// pub trait Rules {
///     fn judge(&self, order: &str) -> Result<u32, String>;
///     /// New in 0.2: with a plugin that does not have it yet, the host runs this body.
///     fn limit(&self) -> u32 {
///         100
///     }
/// }
/// ```
///
/// A method takes `&self`. Its parameters are `&str`, `&[T]`, `&T` and owned values of types that can be sent
/// (`hotswap_sdk::Data`). Its result is of a type that can be sent, and belongs to the caller. Every implementation
/// must be `Send` and `Sync`.
///
/// What may change: a method with a body may be added at the end. When a plugin is loaded, every other difference is
/// refused, with the path to it.
#[proc_macro_attribute]
pub fn interface(options: TokenStream, input: TokenStream) -> TokenStream {
    if !options.is_empty() {
        return error("`#[interface]` has no options");
    }
    let input = parse_macro_input!(input as ItemTrait);
    interface::expand(input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

/// Makes a struct or an enum a type whose values can be sent to a plugin or a host.
///
/// Its fields are of types that can be sent: numbers, `bool`, `char`, `String`, `Vec`, `Option`, `Result`, `Box`,
/// tuples, arrays, maps, sets, `Duration`, `SystemTime`, and other types with `#[data]`. It may have type parameters,
/// which stand for such types, and any derives.
///
/// ```
/// use hotswap_sdk::data;
///
/// #[data]
/// #[derive(Clone, Debug)]
/// pub struct Order {
///     pub id: u64,
///     pub lines: Vec<Line>,
/// }
///
/// #[data]
/// #[derive(Clone, Debug)]
/// pub struct Line {
///     pub article: String,
///     /// New in 0.2: reads as 1 if the other side does not have it.
///     #[data(default = 1)]
///     pub quantity: u32,
/// }
///
/// #[data]
/// pub enum Verdict {
///     Accept,
///     Refuse { why: String },
///     /// A variant that this side does not know yet.
///     #[data(other)]
///     Other,
/// }
/// ```
///
/// The receiver copies a value field by field, which costs about what `clone` costs. Structs and enums can be nested
/// 128 deep; a deeper value is a fault of the call.
///
/// What may change: a field with `#[data(default)]` or `#[data(default = …)]` may be added at the end of a struct or a
/// variant, and a variant at the end of an enum. A side that receives a variant it does not know reads the variant with
/// `#[data(other)]` instead; if there is none, the call has a fault (`Fault::Unknown`).
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

/// Makes an `impl` of an interface a plugin: exports it, catches every panic, and makes the image unloadable.
///
/// ```
/// # #[hotswap_sdk::interface]
/// # pub trait Rules {
/// #     fn judge(&self, order: &str) -> Result<u32, String>;
/// # }
/// #[derive(Default)]
/// struct MyRules;
///
/// #[hotswap_sdk::plugin]
/// impl Rules for MyRules {
///     fn judge(&self, order: &str) -> Result<u32, String> {
///         order.parse().map_err(|_| format!("{order} is no number"))
///     }
/// }
/// # fn main() {}
/// ```
///
/// Each generation has one value, which all callers share. `Default` makes it, or a function that may fail:
/// `#[plugin(make = MyRules::new)]`, a `fn() -> Result<MyRules, E>` where `E: ToString`. The value is dropped when the
/// plugin is retired and no call or lease uses it any more, before the image is unmapped; stop threads in its `Drop`.
/// `before_unload = function`, `vouch("…")` and `pinned_by("…")` mean what they mean in `hotswap_unload::unloadable!`.
/// The function runs before the value is dropped, and also for a candidate that was refused.
///
/// Use it once in a crate, which must be only a `cdylib`.
#[proc_macro_attribute]
pub fn plugin(options: TokenStream, input: TokenStream) -> TokenStream {
    let options = parse_macro_input!(options as plugin::Options);
    let input = parse_macro_input!(input as ItemImpl);
    plugin::expand(&options, &input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

fn error(message: &str) -> TokenStream {
    Error::new(proc_macro2::Span::call_site(), message)
        .into_compile_error()
        .into()
}
