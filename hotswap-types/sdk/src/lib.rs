//! What a hotswap host and its plugins must both know, beside the interface that they have agreed on themselves.
//!
//! A plugin gets it with its interface package; a host with `hotswap-core`. Nothing here needs anything of either.
//!
//! # Interfaces
//! A trait with [`interface`](macro@interface) is what a plugin implements ([`plugin`](macro@plugin)) and a host calls;
//! [`data`](macro@data) makes its types such as can be sent. A library may also export single functions
//! ([`export`](macro@export)), which a host finds by their names and types ([`function`](macro@function)).
//!
//! # Services and values
//! A plugin that exports [`update`](macro@update) says which services should run, and makes, takes over and
//! changes the values that outlive it. The host gives it an [`Update`] for that; what is said with it takes
//! effect when the plugin becomes the one that is called, or not at all.
//!
//! ```
//! use std::{sync::atomic::{AtomicU64, Ordering}, time::Duration};
//! use hotswap_sdk::Update;
//!
//! fn update(update: &mut Update<'_>) -> Result<(), String> {
//!     let counter = update.create_ref("counter", || AtomicU64::new(0))?;
//!     update.start("producer", move |stop| {
//!         while stop.sleep(Duration::from_secs(1)) {
//!             counter.fetch_add(1, Ordering::Relaxed);
//!         }
//!     })
//! }
//! ```
//!
//! # Features
//! None is on by default. A plugin turns on what it needs; in a host they do nothing.
//!
//! - `tracing`: spans and events of the plugin, and of what it depends on, go to the host's subscriber.
//! - `log`: so do records of `log`.
//! - `tokio`: async methods can run on a runtime of the plugin's own ([`plugin`](macro@plugin)).
//!
//! Everything that crosses the border is `repr(C)` and called by `extern "C"`. Panics of a plugin's code are
//! caught by code that is compiled into the plugin ([`caught`]).

mod text;

mod calling;
mod channel;
mod config;

mod fault;
mod handle;
mod interface;
mod lock;
mod logs;
mod refs;
mod service;
mod stop;
mod symbol;
mod update;

#[cfg(feature = "tokio")]
mod tokio_runtime;

pub use self::{
    channel::Channel,
    config::Config,
    fault::{Answer, Fault, caught},
    lock::{Guard, Lock},
    refs::Ref,
    service::{Outcome, RestartPolicy},
    stop::Stop,
    text::{one_line, printable},
    update::{Update, UpdateFn},
};

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
/// A method takes `&self`. Its parameters are `&str`, `&[T]`, `&T`, `Option<&T>` and owned values of types that can be
/// sent ([`Data`]). Its result is of a type that can be sent, and belongs to the caller. A parameter by value and a
/// result may also be a `Box<dyn Trait>` of another interface, by itself or in a `Vec`, an `Option`, a `Result` or a
/// tuple. Every implementation must be `Send` and `Sync`.
///
/// A method may be an `async fn`. Its parameters are then owned values, and the trait has a method that returns a
/// [`BoxFuture`]. An `impl` of a trait with async methods has `#[interface]`, too, or [`plugin`](macro@plugin):
///
/// ```
/// # use hotswap_sdk::interface;
/// #[interface]
/// pub trait Prices {
///     async fn price(&self, article: String) -> Option<u64>;
/// }
///
/// struct Fixed(u64);
///
/// #[interface]
/// impl Prices for Fixed {
///     async fn price(&self, _article: String) -> Option<u64> {
///         Some(self.0)
///     }
/// }
/// ```
///
/// What may change: a method with a body may be added at the end. When a plugin is loaded, every other difference is
/// refused, with the path to it.
pub use hotswap_macros::interface;

/// Makes a struct or an enum a type whose values can be sent to a plugin or a host.
///
/// Its fields are of types that can be sent: numbers, `NonZero`, `bool`, `char`, `String`, `PathBuf`, `OsString`,
/// `Option`, `Result`, `Box`, tuples, arrays, `Vec`, `VecDeque`, maps, sets, `Duration`, `SystemTime`, `IpAddr`,
/// `SocketAddr`, and other types with `#[data]`. It may have type parameters, which stand for such types, and any
/// derives.
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
/// `#[data(other)]` instead; if there is none, the call has a fault ([`Unknown`](host::FaultKind::Unknown)).
pub use hotswap_macros::data;

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
/// Each generation has one value, which all callers share. `Default` makes it, or a function: with `#[plugin(make =
/// MyRules::new)]` one that returns a `MyRules`, or a `Result<MyRules, E>` where `E: ToString`. It may have up to eight
/// parameters, each of which it takes from the host: a service of the host with the interface `Trait` as a `Box<dyn
/// Trait>`, or as an `Option<Box<dyn Trait>>` if the plugin can do without it; and a [`Config`]. The value is dropped
/// when the plugin is retired and no call or lease uses it any more, before the image is unmapped; stop threads in its
/// `Drop`. `before_unload = function`, `vouch("…")` and `pinned_by("…")` mean what they mean in
/// `hotswap_unload::unloadable!`. The function runs before the value is dropped, and never for a candidate that was
/// refused before its value was made.
///
/// With `runtime = "tokio"`, async methods run on a tokio runtime of the generation's own, which starts at the first
/// such call and ends before the value is dropped. It has two workers, or as many as `runtime_threads = 4` says; with
/// `runtime = "tokio_current_thread"` one thread runs all. That needs the feature `tokio` of this package.
///
/// With the features `tracing` and `log` of this package, what the plugin says through these crates goes to the host's
/// subscriber, from the making of the value on.
///
/// Use it once in a crate, which must be only a `cdylib`.
pub use hotswap_macros::plugin;

/// Exports a function, by its name and with its types, and catches every panic.
///
/// ```
/// hotswap_sdk::unloadable!();
///
/// #[hotswap_sdk::export]
/// fn greet(name: &str) -> String {
///     format!("Hello {name}")
/// }
/// # fn main() {
/// #     assert_eq!(greet("Rust"), "Hello Rust");
/// # }
/// ```
///
/// Parameters and result are those that a method of an [`interface`](macro@interface) can have. The function itself
/// stays as it is written. A host finds it by its name and by a type with [`function`](macro@function).
///
/// A crate that exports functions needs [`unloadable!`](unloadable) once, so that its image can be unmapped.
/// [`#[plugin]`](macro@plugin) includes it. The crate must be only a `cdylib`, and exports a name once, whatever module
/// the function is in.
pub use hotswap_macros::export;

/// Declares the type of a function that a library [exports](macro@export), as a host calls it.
///
/// ```
/// #[hotswap_sdk::function]
/// pub type Greet = fn(name: &str) -> String;
///
/// fn greeting(greet: &Greet) -> Result<String, hotswap_sdk::host::Fault> {
///     greet.call("Rust")
/// }
/// ```
///
/// The alias becomes a type of its own, whose values are functions of libraries (`Loader::function` in
/// `hotswap-core`). Its method `call` has these parameters and returns the result, or why there is none
/// ([`Fault`](host::Fault)). A value can be cloned and sent to other threads; the library stays mapped as long as one
/// of its functions exists.
///
/// When a function is found, its types are compared with these, by the rules for an interface. Names of parameters may
/// differ, and one side may write `&T` where the other writes `T`.
pub use hotswap_macros::function;

pub use hotswap_unload::unloadable;

pub use self::interface::{BoxFuture, Data};

/// What a host is made with; of no use to a plugin.
pub mod host {
    pub use crate::interface::{
        AcceptedFunction, BuiltIn, CheckedFunction, ExportedFunction, Fault, FaultKind, Function,
        FunctionHost, HostService, HostServices, ImageMemory, Interface, LeaseSource, LeasedBy,
        LentService, Offer, PluginRoot, PluginRootRef, Raw, Refused, Trait,
    };
    pub use crate::{
        channel::{Bytes, ChannelHandle, RawChannel},
        handle::Handle,
        logs::{
            CallsiteKind, CallsiteView, Interest, Level, LogHandle, LogHost, LogValue, LogValues,
            MaxLevel, Parent, Refresh,
        },
        refs::{Parcel, RawRef, TypeInfo},
        service::Body,
        stop::Token,
        symbol::{SYMBOL_PREFIX, SymbolMark, TypedSymbol},
        text::write_printable,
        update::{Host, SYMBOL, Values},
    };
}

/// What the macros expand to; not for use by hand.
#[doc(hidden)]
pub mod expansion {
    pub use core::mem::needs_drop;

    pub use crate::unloadable;
    pub use abi_stable::{library::LibHeader, std_types::RResult};

    pub use crate::interface::*;
    pub use crate::logs::LogHandle;
    pub use crate::symbol::TypedSymbol;
    pub use crate::tokio_runtime;
    #[cfg(feature = "tokio")]
    pub use crate::tokio_runtime::TokioRuntime;
    pub use crate::update::run;
}

/// The runtime of a plugin with so many workers.
#[cfg(feature = "tokio")]
#[doc(hidden)]
#[macro_export]
macro_rules! tokio_runtime {
    ($workers:literal) => {{
        static RUNTIME: $crate::expansion::TokioRuntime =
            $crate::expansion::TokioRuntime::new(::core::env!("CARGO_PKG_NAME"), $workers);
        &RUNTIME
    }};
}

#[cfg(not(feature = "tokio"))]
#[doc(hidden)]
#[macro_export]
macro_rules! tokio_runtime {
    ($workers:literal) => {
        ::core::compile_error!("a `runtime` needs the feature `tokio` of `hotswap-sdk`, in the Cargo.toml of the plugin")
    };
}
