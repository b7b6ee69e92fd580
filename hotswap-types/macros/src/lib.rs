//! The macros of `hotswap-sdk`, which documents and re-exports them.
//!
//! What they expand to leans on `hotswap_sdk::expansion`, and on no other package. Unsafe code in it is one call of a
//! function of that module for each method, so that whatever has to be argued is argued there.

mod data;
mod interface;
mod method;
mod plugin;

use proc_macro::TokenStream;
use syn::{DeriveInput, Error, ItemImpl, ItemTrait, parse_macro_input};

/// Makes a trait an interface: what a plugin implements, and what a host calls as `Hotswap<dyn Trait>`.
///
/// The trait stays as it is written, and is implemented for the host's side too: whatever works with any `T: Trait` takes
/// a plugin, a value of the host's own, or a mock of a test.
///
/// ```
/// #[hotswap_sdk::interface]
/// pub trait Rules {
///     fn judge(&self, order: &str) -> Result<u32, String>;
///     /// New in 0.2: a plugin that was built before has not got it, and this body is run in the host.
///     fn limit(&self) -> u32 {
///         100
///     }
/// }
/// ```
///
/// A method takes `&self`. Its parameters are `&str`, `&[T]`, `&T` and owned values of types that can be sent
/// (`hotswap_sdk::Data`); its result is a type that can be sent, which the caller gets as a value of its own. `Send` and
/// `Sync` are demanded of every implementation.
///
/// What may change: a method that has a body may be added at the end. Whatever else differs is refused when a plugin is
/// loaded, with the path to it.
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
/// Its fields are of types that can be sent: numbers, `bool`, `char`, `String`, `Vec`, `Option`, `Result`, `Box`, tuples,
/// arrays, maps, sets, `Duration`, `SystemTime`, and other types with `#[data]`. It may have type parameters, which are
/// then of such types, and any derives.
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
///     /// New in 0.2: 1 where the other side does not know it.
///     #[data(default = 1)]
///     pub quantity: u32,
/// }
///
/// #[data]
/// pub enum Verdict {
///     Accept,
///     Refuse { why: String },
///     /// What this side does not know yet.
///     #[data(other)]
///     Other,
/// }
/// ```
///
/// A value is copied by whoever receives it, field by field, which costs about what `clone` costs. Structs and enums lie
/// at most 128 deep within each other; deeper is a fault of the call.
///
/// What may change: a field with `#[data(default)]` or `#[data(default = …)]` may be added at the end of a struct or a
/// variant, and a variant at the end of an enum. A side that does not know a variant has the one with `#[data(other)]`
/// instead; without one it is a fault of the call (`Fault::Unknown`).
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
/// There is one value for each generation, which all callers share. It is made by `Default`, or by a function that may
/// fail: `#[plugin(make = MyRules::new)]`, a `fn() -> Result<MyRules, E>` whose error is a text. It is dropped when the
/// plugin is retired and nobody uses it any more, before the image is closed: its `Drop` is the place to stop threads.
/// `before_unload = function`, `vouch("…")` and `pinned_by("…")` are those of `hotswap_unload::unloadable!`; the function
/// runs before the value is dropped, and also for a candidate that was refused.
///
/// For a crate that is only a `cdylib`, once in it.
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
