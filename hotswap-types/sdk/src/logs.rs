//! Logs across the border: what a plugin says through `tracing` or `log` arrives at the host's subscriber.
//!
//! A plugin has its own copies of these crates, with statics of its own. The host hands it a table of functions before
//! it makes the plugin's value ([`LogHandle`]); with the features `tracing` and `log`, the plugin then installs a
//! subscriber and a logger that call this table. What the host does with a call is its [`LogHost`].
//!
//! # Invariants
//! - A callsite is described to the host once, and from then on known by a handle that the host has made. The handle of
//!   a callsite stays valid for ever, so that a plugin may keep it and the host may answer without a lock.
//! - All that a plugin passes is read during the call, and copied if it is kept. All that it gets are numbers, and
//!   handles that it only passes on.
//! - No panic of the host's leaves a function of the table. A panic while a value is formatted is the plugin's own, and
//!   comes before the host is called.
//! - A function of the table may be called on any thread, as long as the plugin's image is mapped.

// From the ground up. (The empty lines keep rustfmt from sorting them.)

mod table;

mod host;

mod handle;

#[cfg(any(feature = "tracing", feature = "log"))]
mod values;

#[cfg(any(feature = "tracing", feature = "log"))]
mod connection;

#[cfg(feature = "tracing")]
mod sites;

#[cfg(feature = "tracing")]
mod subscriber;

#[cfg(feature = "log")]
mod records;

#[cfg(any(feature = "tracing", feature = "log"))]
mod plugin;

#[cfg(not(any(feature = "tracing", feature = "log")))]
mod plugin {
    //! Without the features, a plugin logs to nobody.

    /// # Safety
    ///
    /// None.
    pub(crate) unsafe fn connect(_: *const (), _: *const ()) {}
}

pub(crate) use self::plugin::connect;
pub use self::{
    handle::LogHandle,
    host::{CallsiteView, LogHost, LogValue, LogValues, Parent, Refresh},
    table::{CallsiteKind, Interest, Level, MaxLevel},
};

/// The same task, in the span that is current now.
#[cfg(feature = "tracing")]
pub(crate) fn in_current_span<F: Future>(task: F) -> impl Future<Output = F::Output> {
    tracing::Instrument::in_current_span(task)
}

/// The same task.
#[cfg(not(feature = "tracing"))]
pub(crate) fn in_current_span<F: Future>(task: F) -> F {
    task
}
