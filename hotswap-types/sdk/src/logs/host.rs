//! What a host does with what a plugin logs: a [`LogHost`], and what it is told.

use std::slice;

use super::table::{CallsiteKind, Interest, Level, MaxLevel, RawText, RawValue, ValueKind, text};

/// What a host does with what one of its plugins logs. Its methods are called on threads of either side.
///
/// Spans are known by numbers that the host chooses. A plugin may pass any number: it may be out of date, or made up.
pub trait LogHost: Send + Sync + 'static {
    /// What the host knows of a callsite.
    type Site: Sync + 'static;

    /// Is told by what a change of the filter reaches the plugin.
    fn attach(&self, refresh: Refresh);

    /// The most verbose level that is enabled.
    fn max_level(&self) -> MaxLevel;

    /// Finds a callsite, or makes it known.
    fn callsite(&self, callsite: &CallsiteView<'_>) -> &'static Self::Site;

    /// Whether a callsite stands for all those of its level and kind.
    fn is_generic(site: &'static Self::Site) -> bool;

    /// Whether a callsite is enabled, without regard to what is going on.
    fn interest(site: &'static Self::Site) -> Interest;

    /// Whether a callsite is enabled now, on this thread.
    fn enabled(&self, site: &'static Self::Site) -> bool;

    /// Something has happened.
    fn event(&self, site: &'static Self::Site, parent: Parent, values: LogValues<'_>);

    /// Makes a span. `origin` is what [`current_span`](Self::current_span) says of it.
    fn new_span(
        &self,
        site: &'static Self::Site,
        origin: usize,
        parent: Parent,
        values: LogValues<'_>,
    ) -> u64;

    /// A span has values that were not known when it was made.
    fn record(&self, span: u64, values: LogValues<'_>);

    /// One span was caused by another.
    fn follows_from(&self, span: u64, followed: u64);

    /// The thread is inside of the span.
    fn enter(&self, span: u64);

    /// The thread is not inside of the span any more.
    fn exit(&self, span: u64);

    /// Counts one more handle of a span; also of the span of the host's that is current. Returns its number.
    fn clone_span(&self, span: u64) -> u64;

    /// Counts one handle less, and closes the span if it was the last. Returns whether it was.
    fn try_close(&self, span: u64) -> bool;

    /// The number and the origin of the span that the thread is inside of; the origin is 0 if it was not made by this
    /// plugin.
    fn current_span(&self) -> Option<(u64, usize)>;
}

/// A callsite of a plugin.
///
/// # Invariants
///
/// The texts of `fields` are neither changed nor dropped during `'a`.
#[derive(Clone, Copy, Debug)]
pub struct CallsiteView<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it belongs to, by which it is filtered.
    pub target: &'a str,
    /// The module that it is in.
    pub module_path: Option<&'a str>,
    /// The file that it is in.
    pub file: Option<&'a str>,
    /// The line that it is at.
    pub line: Option<u32>,
    /// Its level.
    pub level: Level,
    /// What it makes.
    pub kind: CallsiteKind,
    pub(super) fields: &'a [RawText],
}

/// What a span or an event belongs to.
#[derive(Clone, Copy, Debug)]
pub enum Parent {
    /// The span that is current, if there is one.
    Current,
    /// Nothing.
    Root,
    /// The span with this number.
    Span(u64),
}

/// The values of fields, each with the number of its field.
///
/// # Invariants
///
/// The texts and bytes of the values are neither changed nor dropped during `'a`.
#[derive(Clone, Copy, Debug)]
pub struct LogValues<'a>(pub(super) &'a [RawValue]);

/// The value of a field.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the types say it")]
pub enum LogValue<'a> {
    U64(u64),
    I64(i64),
    U128(u128),
    I128(i128),
    F64(f64),
    Bool(bool),
    Str(&'a str),
    Bytes(&'a [u8]),
    /// A text that was formatted.
    Debug(&'a str),
    /// The text of an error. Its sources follow as values of the same field.
    Error(&'a str),
    /// The text of a source of the error before it.
    Source(&'a str),
}

/// Lets a plugin look at the host's filter again.
#[derive(Clone, Copy, Debug)]
pub struct Refresh(pub(super) extern "C" fn());

impl Refresh {
    /// Lets the plugin look again, on the calling thread.
    ///
    /// # Safety
    ///
    /// The image of the plugin is mapped during the call.
    pub unsafe fn call(self) {
        (self.0)();
    }
}

impl CallsiteView<'static> {
    /// One with the field `message`, at no place.
    pub fn generic(
        name: &'static str,
        target: &'static str,
        level: Level,
        kind: CallsiteKind,
    ) -> Self {
        const FIELDS: &[RawText] = &[RawText::new("message")];
        Self {
            name,
            target,
            module_path: None,
            file: None,
            line: None,
            level,
            kind,
            fields: FIELDS,
        }
    }
}

impl<'a> CallsiteView<'a> {
    /// The names of its fields.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        self.fields.iter().map(|name| {
            // SAFETY: the text is neither changed nor dropped during `'a` (invariant of `CallsiteView`).
            unsafe { name.get() }.unwrap_or_default()
        })
    }
}

impl<'a> Iterator for LogValues<'a> {
    type Item = (usize, LogValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        // SAFETY: the text is neither changed nor dropped during `'a` (invariant of `LogValues`).
        let text = || unsafe { text(first.start, first.length) };
        let [low, high] = first.bits;
        let wide = u128::from(high) << 64 | u128::from(low);
        let value = match first.kind {
            ValueKind::U64 => LogValue::U64(low),
            ValueKind::I64 => LogValue::I64(low.cast_signed()),
            ValueKind::U128 => LogValue::U128(wide),
            ValueKind::I128 => LogValue::I128(wide.cast_signed()),
            ValueKind::F64 => LogValue::F64(f64::from_bits(low)),
            ValueKind::Bool => LogValue::Bool(low != 0),
            ValueKind::Str => LogValue::Str(text()),
            ValueKind::Debug => LogValue::Debug(text()),
            ValueKind::Error => LogValue::Error(text()),
            ValueKind::Source => LogValue::Source(text()),
            ValueKind::Bytes => {
                // SAFETY: the bytes are neither changed nor dropped during `'a` (invariant of `LogValues`).
                LogValue::Bytes(unsafe { slice::from_raw_parts(first.start, first.length) })
            }
        };
        Some((first.field as usize, value))
    }
}
