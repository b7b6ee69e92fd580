//! A layer that keeps all that it is told.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt::{self, Debug},
    iter,
    sync::{Arc, Mutex},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// What was told.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<Mutex<Vec<Entry>>>);

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) what: What,
    pub(super) metadata: &'static Metadata<'static>,
    /// By name, with its type.
    pub(super) fields: BTreeMap<&'static str, String>,
    /// The names of the spans that it is in, from the root.
    pub(super) scope: Vec<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Event,
    NewSpan,
    Recorded,
    Follows,
    Entered,
    Exited,
    Closed,
}

impl Told {
    pub(super) fn layer(&self) -> Self {
        self.clone()
    }

    /// All of them, by hotswap itself left out.
    pub(super) fn all(&self) -> Vec<Entry> {
        let all = self.0.lock().unwrap();
        let of_plugins = all.iter().filter(|it| it.metadata.target() != "hotswap");
        of_plugins.cloned().collect()
    }

    /// All of them, which are forgotten.
    pub(super) fn take(&self) -> Vec<Entry> {
        let all = self.all();
        self.0.lock().unwrap().clear();
        all
    }

    /// The events, which are forgotten with all others.
    pub(super) fn take_events(&self) -> Vec<Entry> {
        let mut all = self.take();
        all.retain(|it| it.what == What::Event);
        all
    }

    /// How often this was told of a span of this name.
    pub(super) fn count(&self, what: What, name: &str) -> usize {
        let all = self.all().into_iter();
        all.filter(|it| it.what == what && it.metadata.name() == name)
            .count()
    }

    fn tell<S: Subscriber + for<'a> LookupSpan<'a>>(
        &self,
        what: What,
        metadata: &'static Metadata<'static>,
        fields: Fields,
        span: Option<&Id>,
        context: &Context<'_, S>,
    ) {
        let scope = span.and_then(|id| context.span_scope(id)).into_iter();
        let scope = scope.flat_map(|scope| scope.from_root());
        let scope = scope.map(|it| it.name()).collect();
        self.0.lock().unwrap().push(Entry {
            what,
            metadata,
            fields: fields.0,
            scope,
        });
    }
}

impl Entry {
    pub(super) fn message(&self) -> &str {
        self.fields.get("message").map_or("", |it| it)
    }

    pub(super) fn level(&self) -> Level {
        *self.metadata.level()
    }

    pub(super) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |it| it)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Told {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let fields = Fields::of(|visitor| attributes.record(visitor));
        self.tell(
            What::NewSpan,
            attributes.metadata(),
            fields,
            Some(id),
            &context,
        );
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let fields = Fields::of(|visitor| record.record(visitor));
        let metadata = context.span(id).unwrap().metadata();
        self.tell(What::Recorded, metadata, fields, Some(id), &context);
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let metadata = context.span(id).unwrap().metadata();
        let mut fields = Fields::default();
        let name = context.span(follows).unwrap().name();
        fields.0.insert("follows", name.to_owned());
        self.tell(What::Follows, metadata, fields, Some(id), &context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let fields = Fields::of(|visitor| event.record(visitor));
        let span = context.event_span(event).map(|span| span.id());
        self.tell(
            What::Event,
            event.metadata(),
            fields,
            span.as_ref(),
            &context,
        );
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let metadata = context.span(id).unwrap().metadata();
        self.tell(
            What::Entered,
            metadata,
            Fields::default(),
            Some(id),
            &context,
        );
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let metadata = context.span(id).unwrap().metadata();
        self.tell(
            What::Exited,
            metadata,
            Fields::default(),
            Some(id),
            &context,
        );
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let metadata = context.span(&id).unwrap().metadata();
        self.tell(
            What::Closed,
            metadata,
            Fields::default(),
            Some(&id),
            &context,
        );
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Fields {
    fn of(record: impl FnOnce(&mut dyn Visit)) -> Self {
        let mut fields = Self::default();
        record(&mut fields);
        fields
    }

    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let before = self.0.insert(field.name(), value.to_string());
        assert_eq!(before, None, "{} is there twice", field.name());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, format_args!("f64 {value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, format_args!("i64 {value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, format_args!("u64 {value}"));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.add(field, format_args!("i128 {value}"));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.add(field, format_args!("u128 {value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, format_args!("bool {value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("str {value}"));
    }

    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        self.add(field, format_args!("bytes {value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let sources = iter::successors(value.source(), |&it| it.source());
        let sources: Vec<_> = sources.map(ToString::to_string).collect();
        self.add(field, format_args!("error {value} {sources:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}
