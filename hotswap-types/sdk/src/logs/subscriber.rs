//! The subscriber of a plugin, which passes spans and events on to the host.
//!
//! It is the default subscriber of the whole image, never of a thread. So tracing-core does not use its thread-locals,
//! and a thread of the host that logs inside a plugin has nothing registered in that plugin.

use std::ptr;

use tracing_core::{
    Dispatch, Event, Kind, LevelFilter, Metadata, Subscriber,
    callsite::{self, Callsite},
    dispatcher,
    field::FieldSet,
    identify_callsite,
    span::{Attributes, Current, Id, Record},
    subscriber::Interest,
};

use super::{
    connection::{Connection, Site},
    sites,
    table::{self, MaxLevel, NO_SPAN, RawParent},
    values::{Sentence, Values},
};

/// Passes everything on.
struct Subscribed(Connection);

/// Makes it the subscriber of this plugin, unless that has another by now.
pub(super) fn install(connection: Connection) {
    drop(dispatcher::set_global_default(Dispatch::new(Subscribed(
        connection,
    ))));
}

/// Asks the host again what it is interested in.
pub(super) fn refresh() {
    callsite::rebuild_interest_cache();
}

impl Subscriber for Subscribed {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let Some(site) = sites::of(self.0, metadata) else {
            return Interest::never();
        };
        match self.0.interest(site) {
            table::Interest::Never => Interest::never(),
            table::Interest::Sometimes => Interest::sometimes(),
            table::Interest::Always => Interest::always(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        sites::find(self.0, metadata).is_some_and(|site| self.0.enabled(site))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(filter(self.0.max_level()))
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let metadata = attributes.metadata();
        let parent = parent(
            attributes.is_root(),
            attributes.is_contextual(),
            attributes.parent(),
        );
        let origin = ptr::from_ref(metadata).expose_provenance();
        let span = match sites::of(self.0, metadata) {
            Some(site) => {
                let mut values = values(site, metadata, |visitor| attributes.record(visitor));
                self.0.new_span(site, origin, parent, &mut values)
            }
            None => NO_SPAN,
        };
        Id::from_u64(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut values = Values::recorded(|visitor| values.record(visitor));
        self.0.record(span.into_u64(), &mut values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.0.follows_from(span.into_u64(), follows.into_u64());
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let parent = parent(event.is_root(), event.is_contextual(), event.parent());
        if let Some(site) = sites::of(self.0, metadata) {
            let mut values = values(site, metadata, |visitor| event.record(visitor));
            self.0.event(site, parent, &mut values);
        }
    }

    fn enter(&self, span: &Id) {
        self.0.enter(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        self.0.exit(span.into_u64());
    }

    fn clone_span(&self, span: &Id) -> Id {
        Id::from_u64(self.0.clone_span(span.into_u64()))
    }

    fn try_close(&self, span: Id) -> bool {
        self.0.try_close(span.into_u64())
    }

    fn current_span(&self) -> Current {
        let current = self.0.current_span();
        if current.span == 0 {
            return Current::none();
        }
        let metadata = match current.origin {
            0 => &HOST_SPAN,
            origin => {
                let origin = ptr::with_exposed_provenance::<Metadata<'static>>(origin);
                // SAFETY: the host passes the origin of a span of this plugin, which is the address of the span's
                // metadata (`new_span`). That is `'static` in this image.
                unsafe { &*origin }
            }
        };
        Current::new(Id::from_u64(current.span), metadata)
    }
}

/// What a plugin knows of a span of the host's.
static HOST_SPAN: Metadata<'static> = Metadata::new(
    "span of the host",
    "hotswap",
    tracing_core::Level::INFO,
    None,
    None,
    None,
    FieldSet::new(&[], identify_callsite!(&HOST_SITE)),
    Kind::SPAN,
);

static HOST_SITE: HostSite = HostSite(0);

/// It has a size, so that nothing else is at its address.
struct HostSite(#[expect(dead_code, reason = "it is never read")] u8);

impl Callsite for HostSite {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        &HOST_SPAN
    }
}

/// The values that `record` records, as the fields of that callsite.
fn values(
    site: Site,
    metadata: &Metadata<'_>,
    record: impl FnOnce(&mut dyn tracing_core::field::Visit),
) -> Values {
    if !site.is_generic {
        return Values::recorded(record);
    }
    let mut sentence = Sentence::default();
    record(&mut sentence);
    let target = metadata.target();
    if metadata.is_span() {
        return Values::text(format_args!("{target}: {} {sentence}", metadata.name()));
    }
    match (metadata.file(), metadata.line()) {
        (Some(file), Some(line)) => {
            Values::text(format_args!("{target}: {sentence} ({file}:{line})"))
        }
        _ => Values::text(format_args!("{target}: {sentence}")),
    }
}

fn parent(is_root: bool, is_contextual: bool, parent: Option<&Id>) -> RawParent {
    let span = parent.map_or(0, Id::into_u64);
    let kind = match (is_root, is_contextual) {
        (true, _) => RawParent::ROOT,
        (false, true) => RawParent::CURRENT,
        (false, false) => RawParent::SPAN,
    };
    RawParent { kind, span }
}

fn filter(level: MaxLevel) -> LevelFilter {
    match level {
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}
