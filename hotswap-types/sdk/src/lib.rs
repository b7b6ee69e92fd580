//! What a hotswap host and its plugins must both know, beside the interface that they have agreed on themselves.
//!
//! A plugin gets it with its interface package; a host with `hotswap-core`. Nothing here needs anything of either.
//!
//! # Interfaces
//! A trait with [`interface`](macro@interface) is what a plugin implements ([`plugin`](macro@plugin)) and a host calls;
//! [`data`](macro@data) makes its types such as can be sent.
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
//! Everything that crosses the border is `repr(C)` and called by `extern "C"`. Panics of a plugin's code are
//! caught by code that is compiled into the plugin ([`caught`]).

mod text;

mod calling;
mod channel;

mod fault;
mod handle;
mod interface;
mod lock;
mod refs;
mod service;
mod stop;
mod symbol;
mod update;

pub use self::{
    channel::Channel,
    fault::{Answer, Fault, caught},
    lock::{Guard, Lock},
    refs::Ref,
    service::{Again, Outcome},
    stop::Stop,
    symbol::{SYMBOL_PREFIX, SymbolMark, TypedSymbol},
    text::{one_line, printable},
    update::{Update, UpdateFn},
};

pub use hotswap_macros::{data, interface, plugin};

pub use self::interface::Data;

/// What a host is made with; of no use to a plugin.
pub mod host {
    pub use crate::interface::{
        BuiltIn, Fault, Interface, LeaseSource, PluginRoot, PluginRootRef, Raw, Refused, Trait,
    };
    pub use crate::{
        channel::{Bytes, ChannelHandle, RawChannel},
        handle::Handle,
        refs::{Parcel, RawRef, TypeInfo},
        service::Body,
        stop::Token,
        text::write_printable,
        update::{Host, SYMBOL, Values},
    };
}

/// What the macros expand to; not for use by hand.
#[doc(hidden)]
pub mod expansion {
    pub use abi_stable::{library::LibHeader, std_types::RResult};
    pub use hotswap_unload::unloadable;

    pub use crate::interface::*;
    pub use crate::update::run;
}
