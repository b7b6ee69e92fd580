//! Tells plugins that the host's filter has changed.
//!
//! Whoever changes a filter of `tracing` has all callsites asked for their interest again. One of them is ours. It is
//! asked under locks of `tracing`, on any thread; so it only starts a thread, if none is running, which tells the
//! plugins. That thread first has the host compute everything anew: the most verbose level is known only when that is
//! done.

use std::{
    cell::Cell,
    panic,
    sync::{
        Mutex, MutexGuard, Once, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing_core::{
    Kind, Level, Metadata,
    callsite::{self, Callsite},
    field::FieldSet,
    identify_callsite,
    subscriber::Interest,
};

use super::Logs;
use crate::threads;

/// The plugins that log, and whether they are being told.
struct Plugins {
    all: Vec<Weak<Logs>>,
    /// Whether a thread is telling them.
    is_telling: bool,
    /// Whether there is a change that no thread has begun to tell of.
    has_changed: bool,
}

static PLUGINS: Mutex<Plugins> = Mutex::new(Plugins {
    all: Vec::new(),
    is_telling: false,
    has_changed: false,
});

/// Counts the changes that plugins were told of.
static LATEST: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread registers the filter's callsite, or tells of changes. What it has the host compute is no
    /// change.
    static IS_COMPUTING: Cell<bool> = const { Cell::new(false) };
}

/// The number of the latest change. Whoever reads it before the filter has seen that change, or is told of it.
pub(super) fn latest() -> u64 {
    // Acquire: pairs with the AcqRel in `tell_all`.
    LATEST.load(Ordering::Acquire)
}

/// From now on the plugin is told of changes.
pub(super) fn add(plugin: Weak<Logs>) {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        IS_COMPUTING.set(true);
        // A subscriber's panic was printed.
        drop(panic::catch_unwind(|| callsite::register(&FILTER_SITE)));
        IS_COMPUTING.set(false);
    });
    let mut plugins = lock();
    plugins.all.push(plugin);
    // A change that has come meanwhile may not be computed yet when the plugin looks.
    start_telling(plugins);
}

/// It is gone.
pub(super) fn remove(plugin: &Weak<Logs>) {
    lock().all.retain(|it| !it.ptr_eq(plugin));
}

/// The filter has changed. If no thread can be started, plugins learn of it at the next change.
pub(super) fn changed() {
    if IS_COMPUTING.get() {
        return;
    }
    let mut plugins = lock();
    plugins.has_changed = true;
    start_telling(plugins);
}

/// Starts a thread that tells the plugins of a change, if there are any, and none is running.
fn start_telling(mut plugins: MutexGuard<'_, Plugins>) {
    if plugins.all.is_empty() || !plugins.has_changed || plugins.is_telling {
        return;
    }
    plugins.is_telling = true;
    drop(plugins);
    if threads::start("hotswap-filter", tell_all).is_err() {
        lock().is_telling = false;
    }
}

/// Tells the plugins until there is no new change.
fn tell_all() {
    IS_COMPUTING.set(true);
    loop {
        let mut plugins = lock();
        if !plugins.has_changed {
            plugins.is_telling = false;
            return;
        }
        plugins.has_changed = false;
        drop(plugins);
        // A subscriber's panic was printed.
        drop(panic::catch_unwind(callsite::rebuild_interest_cache));
        // AcqRel: whoever reads the number sees what was computed before.
        let latest = LATEST.fetch_add(1, Ordering::AcqRel) + 1;
        // Read after the number was counted: who comes later has that number.
        let all = lock().all.clone();
        for plugin in all.iter().filter_map(Weak::upgrade) {
            plugin.refresh(latest);
        }
    }
}

/// Nothing panics under the lock but a failed allocation.
fn lock() -> MutexGuard<'static, Plugins> {
    PLUGINS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A callsite that makes nothing, and is told when the filter changes. It has a size, so that nothing else is at
/// its address.
struct FilterSite(#[expect(dead_code, reason = "it is never read")] u8);

static FILTER_SITE: FilterSite = FilterSite(0);

static METADATA: Metadata<'static> = Metadata::new(
    "a change of the filter",
    "hotswap",
    Level::TRACE,
    None,
    None,
    None,
    FieldSet::new(&[], identify_callsite!(&FILTER_SITE)),
    Kind::HINT,
);

impl Callsite for FilterSite {
    fn set_interest(&self, _: Interest) {
        changed();
    }

    fn metadata(&self) -> &Metadata<'_> {
        &METADATA
    }
}
