//! What a plugin logs, for the host's subscriber of `tracing`.
//!
//! A plugin that was built with the feature `tracing` or `log` of `hotswap-sdk` passes spans, events and records to the
//! [`Logs`] of its generation. They become spans and events of the host's own: of the dispatcher that is current on the
//! calling thread, at a [`callsite`](callsites) that the host has made, with values that it has copied or borrows for
//! the call. Each has two more fields: `plugin`, the name of the swap point, and `generation`, once there is a number.
//!
//! # Invariants
//! - Nothing here leads into an image, but the function by which a plugin is told of a change of the filter
//!   ([`filter`]), and that is called under a lease.
//! - No lock of this module is held while a subscriber or a plugin is called.
//! - A subscriber that is called for a plugin may call a plugin. What that plugin logs is left out, because otherwise
//!   there would be no end to it. Only the closing of a span is passed on, because no span can be made meanwhile.
//! - Bounds: [`CALLSITES_MAX`](callsites::CALLSITES_MAX), [`RECORDS_MAX`](callsites::RECORDS_MAX),
//!   [`FIELDS_MAX`](callsites::FIELDS_MAX), [`TEXT_BYTES_MAX`](callsites::TEXT_BYTES_MAX).
//! - What is open of a generation's spans is closed when its image is gone.

mod callsites;

mod values;

mod spans;

mod filter;

use std::{
    cell::Cell,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use hotswap_sdk::host::{
    CallsiteView, Interest, LogHandle, LogHost, LogValues, MaxLevel, Parent, Refresh,
};
use tracing_core::{Dispatch, Event, LevelFilter, dispatcher, span::Attributes};

use self::{
    callsites::{LEVELS, PluginCallsite},
    spans::{FoundParent, OpenSpan, Spans},
};
use crate::objects::Objects;

/// What one generation, or one candidate, logs to.
pub(crate) struct Logs {
    /// The name of the swap point.
    plugin: Arc<str>,
    /// 0 until it is published.
    generation: AtomicU64,
    spans: Spans,
    objects: Arc<Objects>,
    refresh: OnceLock<Refresh>,
    /// The last change of the filter that the plugin has seen for certain ([`filter::latest`]).
    seen: AtomicU64,
    this: Weak<Self>,
}

/// Keeps the [`Logs`] for as long as the plugin's image is mapped. Dropping it closes the spans that are left.
pub(crate) struct LogsUntilGone(Arc<Logs>);

/// Marks the calling thread as one that calls the host's subscriber for a plugin, until this is dropped.
struct Passing {
    was_passing: bool,
}

thread_local! {
    /// Whether there is a [`Passing`] on this thread. It has no destructor, and so can be asked at any time.
    static IS_PASSING: Cell<bool> = const { Cell::new(false) };
}

impl Logs {
    /// `objects` leases the generation once it is published.
    pub(crate) fn new(plugin: Arc<str>, objects: Arc<Objects>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            plugin,
            generation: AtomicU64::new(0),
            spans: Spans::default(),
            objects,
            refresh: OnceLock::new(),
            seen: AtomicU64::new(0),
            this: Weak::clone(this),
        })
    }

    /// What to keep until the image is gone, and what to give to the plugin meanwhile.
    ///
    /// # Safety
    ///
    /// The first is not dropped before the image of the plugin that is given the second is unmapped.
    #[expect(unsafe_code, reason = "passes the duty on to the caller")]
    pub(crate) unsafe fn connect(self: &Arc<Self>) -> (LogsUntilGone, LogHandle) {
        // SAFETY: what is returned keeps it as long as that is needed (`# Safety` of this function).
        let handle = unsafe { LogHandle::new(self) };
        (LogsUntilGone(Arc::clone(self)), handle)
    }

    /// It has a number from now on.
    pub(crate) fn number(&self, generation: u64) {
        // Relaxed: whoever logs may find it a moment later.
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// Call it when it is published: the filter may have changed while nobody could tell it.
    pub(crate) fn published(&self) {
        if self.refresh.get().is_some() && self.seen() != filter::latest() {
            filter::changed();
        }
    }

    /// Tells the plugin that the filter has changed, if it can be leased. Before it is published, that is done when it
    /// is; afterwards it does not matter any more.
    fn refresh(&self, change: u64) {
        let Some(refresh) = self.refresh.get() else {
            return;
        };
        if let Some(lease) = self.objects.lease_generation() {
            self.see(change);
            #[expect(unsafe_code, reason = "calls a plugin")]
            // SAFETY: the image is mapped as long as its generation is leased.
            unsafe {
                refresh.call();
            }
            drop(lease);
        }
    }

    fn seen(&self) -> u64 {
        // Relaxed: whoever asks has published the plugin. If a change comes between, whoever tells of it finds that.
        self.seen.load(Ordering::Relaxed)
    }

    fn see(&self, change: u64) {
        // Relaxed: see `seen`.
        self.seen.store(change, Ordering::Relaxed);
    }

    /// `None` if it is 0.
    fn generation(&self) -> Option<u64> {
        // Relaxed: see `number`.
        Some(self.generation.load(Ordering::Relaxed)).filter(|it| *it > 0)
    }
}

impl LogHost for Logs {
    type Site = PluginCallsite;

    fn attach(&self, refresh: Refresh) {
        // A plugin attaches once.
        if self.refresh.set(refresh).is_ok() {
            filter::add(Weak::clone(&self.this));
            // Before the plugin looks at the filter for the first time.
            self.see(filter::latest());
        }
    }

    fn max_level(&self) -> MaxLevel {
        let max = LevelFilter::current();
        LEVELS.iter().filter(|level| **level <= max).count() as MaxLevel
    }

    fn callsite(&self, callsite: &CallsiteView<'_>) -> &'static PluginCallsite {
        callsites::intern(callsite)
    }

    fn is_generic(site: &'static PluginCallsite) -> bool {
        site.is_generic()
    }

    fn interest(site: &'static PluginCallsite) -> Interest {
        // Without an answer, the plugin asks again whether it is enabled.
        Passing::begin().map_or(Interest::Sometimes, |_passing| site.interest())
    }

    fn enabled(&self, site: &'static PluginCallsite) -> bool {
        let Some(_passing) = Passing::begin() else {
            return false;
        };
        site.may_be_enabled()
            && (site.interest() == Interest::Always
                || dispatcher::get_default(|dispatch| dispatch.enabled(site.metadata())))
    }

    fn event(&self, site: &'static PluginCallsite, parent: Parent, values: LogValues<'_>) {
        let Some(_passing) = Passing::begin() else {
            return;
        };
        // The plugin may not know of a change yet.
        if !site.may_be_enabled() {
            return;
        }
        let metadata = site.metadata();
        let parent = self.spans.find_parent(parent);
        values::with(self, site, values, |values| match &parent {
            FoundParent::Current => Event::dispatch(metadata, values),
            FoundParent::Root => dispatcher::get_default(|dispatch| {
                dispatch.event(&Event::new_child_of(None, metadata, values));
            }),
            FoundParent::Span(dispatch, id) => {
                dispatch.event(&Event::new_child_of(id.clone(), metadata, values));
            }
        });
    }

    fn new_span(
        &self,
        site: &'static PluginCallsite,
        origin: usize,
        parent: Parent,
        values: LogValues<'_>,
    ) -> u64 {
        let Some(_passing) = Passing::begin() else {
            return 0;
        };
        if !site.may_be_enabled() {
            return 0;
        }
        let metadata = site.metadata();
        let parent = self.spans.find_parent(parent);
        let make = |dispatch: &Dispatch, attributes: &Attributes<'_>| {
            let id = dispatch.new_span(attributes);
            self.spans
                .add(OpenSpan::new(dispatch.clone(), id, Some(site), origin))
        };
        values::with(self, site, values, |values| match &parent {
            FoundParent::Current => dispatcher::get_default(|dispatch| {
                make(dispatch, &Attributes::new(metadata, values))
            }),
            FoundParent::Root => dispatcher::get_default(|dispatch| {
                make(dispatch, &Attributes::new_root(metadata, values))
            }),
            FoundParent::Span(dispatch, id) => {
                let attributes = Attributes::child_of(id.clone(), metadata, values);
                make(dispatch, &attributes)
            }
        })
    }

    fn record(&self, span: u64, values: LogValues<'_>) {
        self.spans.record(span, values);
    }

    fn follows_from(&self, span: u64, followed: u64) {
        self.spans.follows_from(span, followed);
    }

    fn enter(&self, span: u64) {
        self.spans.enter(span);
    }

    fn exit(&self, span: u64) {
        self.spans.exit(span);
    }

    fn clone_span(&self, span: u64) -> u64 {
        self.spans.clone_span(span)
    }

    fn try_close(&self, span: u64) -> bool {
        self.spans.try_close(span)
    }

    fn current_span(&self) -> Option<(u64, usize)> {
        self.spans.current()
    }
}

impl Drop for LogsUntilGone {
    fn drop(&mut self) {
        filter::remove(&self.0.this);
        self.0.spans.close_all();
    }
}

impl Passing {
    /// `None` if the thread is one already.
    fn begin() -> Option<Self> {
        (!IS_PASSING.get()).then(Self::begin_anyway)
    }

    /// Begins it also if the thread is one already.
    fn begin_anyway() -> Self {
        Self {
            was_passing: IS_PASSING.replace(true),
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        IS_PASSING.set(self.was_passing);
    }
}
