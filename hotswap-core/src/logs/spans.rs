//! The spans of a plugin that are open.
//!
//! A span is known to the plugin by the number that the host's subscriber has given it. The plugin may pass any number;
//! what is not in here is nothing, or is the span of the host's that is current.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hotswap_sdk::host::{LogValues, Parent};
use tracing_core::{
    Dispatch, dispatcher,
    span::{Id, Record},
};

use super::{Passing, callsites::PluginCallsite, values};

/// The spans are shared out by their numbers, so that threads rarely wait for one another.
const SHARDS: usize = 8;

/// The spans of one plugin.
#[derive(Default)]
pub(super) struct Spans {
    shards: [Mutex<BTreeMap<u64, OpenSpan>>; SHARDS],
    /// How many spans could not have the number that their subscriber has given them.
    renumbered: AtomicU64,
}

/// A span of the host's subscriber, for which the plugin has handles.
#[derive(Clone)]
pub(super) struct OpenSpan {
    dispatch: Dispatch,
    id: Id,
    /// `None` for a span of the host's.
    site: Option<&'static PluginCallsite>,
    /// What the plugin has made it with, or 0.
    origin: usize,
    handles: usize,
}

/// What a new span or an event belongs to.
pub(super) enum FoundParent {
    /// What is current.
    Current,
    /// Nothing.
    Root,
    /// A span, and the subscriber that knows it.
    Span(Dispatch, Id),
}

impl OpenSpan {
    /// It has one handle.
    pub(super) fn new(
        dispatch: Dispatch,
        id: Id,
        site: Option<&'static PluginCallsite>,
        origin: usize,
    ) -> Self {
        Self {
            dispatch,
            id,
            site,
            origin,
            handles: 1,
        }
    }
}

impl Spans {
    /// Adds one, and returns its number.
    pub(super) fn add(&self, span: OpenSpan) -> u64 {
        let mut number = span.id.into_u64();
        loop {
            match self.shard(number).entry(number) {
                Entry::Vacant(entry) => {
                    entry.insert(span);
                    return number;
                }
                // Of another subscriber, or of one that gives all spans the same number.
                Entry::Occupied(_) => {
                    // Relaxed: no two calls get the same.
                    number = u64::MAX - 1 - self.renumbered.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    pub(super) fn find_parent(&self, parent: Parent) -> FoundParent {
        match parent {
            Parent::Current => FoundParent::Current,
            Parent::Root => FoundParent::Root,
            Parent::Span(number) => match self.find(number) {
                Some(span) => FoundParent::Span(span.dispatch, span.id),
                None => FoundParent::Current,
            },
        }
    }

    pub(super) fn record(&self, number: u64, recorded: LogValues<'_>) {
        let (Some(_passing), Some(span)) = (Passing::begin(), self.find(number)) else {
            return;
        };
        if let Some(site) = span.site.filter(|site| !site.is_generic()) {
            values::with_recorded(site, recorded, |values| {
                span.dispatch.record(&span.id, &Record::new(values));
            });
        }
    }

    pub(super) fn follows_from(&self, number: u64, followed: u64) {
        let Some(_passing) = Passing::begin() else {
            return;
        };
        if let (Some(span), Some(followed)) = (self.find(number), self.find(followed)) {
            span.dispatch.record_follows_from(&span.id, &followed.id);
        }
    }

    pub(super) fn enter(&self, number: u64) {
        if let (Some(_passing), Some(span)) = (Passing::begin(), self.find(number)) {
            span.dispatch.enter(&span.id);
        }
    }

    pub(super) fn exit(&self, number: u64) {
        if let (Some(_passing), Some(span)) = (Passing::begin(), self.find(number)) {
            span.dispatch.exit(&span.id);
        }
    }

    /// One more handle of a span, or the first one of the span of the host's that is current. 0 if it is neither.
    pub(super) fn clone_span(&self, number: u64) -> u64 {
        if let Some(span) = self.shard(number).get_mut(&number) {
            span.handles += 1;
            return number;
        }
        let Some(_passing) = Passing::begin() else {
            return 0;
        };
        dispatcher::get_default(|dispatch| {
            let current = dispatch.current_span();
            let Some(id) = current.id().filter(|id| id.into_u64() == number) else {
                return 0;
            };
            let id = dispatch.clone_span(id);
            self.add(OpenSpan::new(dispatch.clone(), id, None, 0))
        })
    }

    /// One handle less. Closes the span if that was the last.
    pub(super) fn try_close(&self, number: u64) -> bool {
        let mut shard = self.shard(number);
        let Entry::Occupied(mut entry) = shard.entry(number) else {
            return false;
        };
        entry.get_mut().handles -= 1;
        if entry.get().handles > 0 {
            return false;
        }
        let span = entry.remove();
        // The subscriber may give the number away again.
        drop(shard);
        let _passing = Passing::begin_anyway();
        span.dispatch.try_close(span.id);
        true
    }

    /// The number of the span that is current, and its origin.
    pub(super) fn current(&self) -> Option<(u64, usize)> {
        let _passing = Passing::begin()?;
        let current = dispatcher::get_default(Dispatch::current_span);
        let number = current.id()?.into_u64();
        let origin = self.find(number).map_or(0, |span| span.origin);
        Some((number, origin))
    }

    /// Closes what is open.
    pub(super) fn close_all(&self) {
        let _passing = Passing::begin_anyway();
        for shard in &self.shards {
            let spans = std::mem::take(&mut *lock(shard));
            for span in spans.into_values() {
                // Its panic was printed. Unwind-safe: what a subscriber leaves broken is its own.
                drop(panic::catch_unwind(AssertUnwindSafe(|| {
                    span.dispatch.try_close(span.id);
                })));
            }
        }
    }

    fn find(&self, number: u64) -> Option<OpenSpan> {
        self.shard(number).get(&number).cloned()
    }

    fn shard(&self, number: u64) -> MutexGuard<'_, BTreeMap<u64, OpenSpan>> {
        lock(&self.shards[(number % SHARDS as u64) as usize])
    }
}

/// Nothing panics under the lock but a failed allocation.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
