//! The host's side: a [`LogHost`] behind the functions of the table.

use std::{
    panic::{self, AssertUnwindSafe},
    slice,
    sync::Arc,
};

use super::table::{
    CallsiteKind, Interest, Level, LogTable, MaxLevel, RawCallsite, RawCurrent, RawLogs, RawParent,
    RawSite, RawText, RawValue, ValueKind, text,
};
use crate::fault::discard;

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

/// The number of a span that there is not.
const NO_SPAN: u64 = u64::MAX;

/// A callsite of a plugin.
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
    fields: &'a [RawText],
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
#[derive(Clone, Copy, Debug)]
pub struct LogValues<'a>(&'a [RawValue]);

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
pub struct Refresh(extern "C" fn());

/// What a plugin is given to log by.
///
/// # Invariants
///
/// The address is that of the target of an `Arc` that lives as long as this is used ([`LogHandle::new`]).
#[derive(Clone, Copy, Debug)]
pub struct LogHandle(RawLogs);

impl LogHandle {
    /// The handle of `host`.
    ///
    /// # Safety
    ///
    /// `host` is not dropped before the image of the plugin that is given this is unmapped.
    pub unsafe fn new<H: LogHost>(host: &Arc<H>) -> Self {
        Self(RawLogs {
            this: Arc::as_ptr(host).cast(),
            table: &H::TABLE,
        })
    }

    /// What a plugin is passed of it.
    pub(crate) fn parts(self) -> (*const (), *const ()) {
        (self.0.this, self.0.table.cast())
    }
}

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
        // SAFETY: the texts exist as long as this view (`Functions::callsite`).
        self.fields
            .iter()
            .map(|name| unsafe { name.get() }.unwrap_or_default())
    }
}

impl<'a> Iterator for LogValues<'a> {
    type Item = (usize, LogValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        // SAFETY: the texts exist as long as this view (`view`).
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
                // SAFETY: the bytes exist as long as this view (`view`).
                LogValue::Bytes(unsafe { slice::from_raw_parts(first.start, first.length) })
            }
        };
        Some((first.field as usize, value))
    }
}

impl RawParent {
    fn view(self) -> Parent {
        match self.kind {
            Self::CURRENT => Parent::Current,
            Self::ROOT => Parent::Root,
            _ => Parent::Span(self.span),
        }
    }
}

/// The functions of the table, for each type of a host.
trait Functions: LogHost + Sized {
    const TABLE: LogTable = LogTable {
        version: LogTable::VERSION,
        attach: attach::<Self>,
        max_level: max_level::<Self>,
        callsite: callsite::<Self>,
        interest: interest::<Self>,
        enabled: enabled::<Self>,
        event: event::<Self>,
        new_span: new_span::<Self>,
        record: record::<Self>,
        follows_from: follows_from::<Self>,
        enter: enter::<Self>,
        exit: exit::<Self>,
        clone_span: clone_span::<Self>,
        try_close: try_close::<Self>,
        current_span: current_span::<Self>,
    };
}

impl<H: LogHost> Functions for H {}

/// Runs `body` with the host. If it panics, the host's own panic hook has said so, and nobody else could do anything
/// about it.
///
/// # Safety
///
/// `this` is that of a [`LogHandle`] of an `H`, whose plugin's image is mapped.
#[inline]
unsafe fn with<H: LogHost, T>(this: *const (), otherwise: T, body: impl FnOnce(&H) -> T) -> T {
    // SAFETY: the host lives as long as the image is mapped (`LogHandle::new`), and it is during this call (`# Safety`
    // of this function).
    let host = unsafe { &*this.cast::<H>() };
    // Unwind-safe: what a subscriber leaves broken is its own, as after a panic of another thread.
    panic::catch_unwind(AssertUnwindSafe(|| body(host))).unwrap_or_else(|payload| {
        discard(payload);
        otherwise
    })
}

/// The callsite of a handle.
///
/// # Safety
///
/// The handle is one that `callsite::<H>` has returned.
unsafe fn site<H: LogHost>(handle: *const ()) -> &'static H::Site {
    // SAFETY: it is the address of a `&'static H::Site` (`# Safety` of this function).
    unsafe { &*handle.cast::<H::Site>() }
}

/// A view of values.
///
/// # Safety
///
/// There are `count` of them at this address, which are neither changed nor dropped while the view is used, nor are
/// their texts and bytes.
unsafe fn view<'a>(values: *const RawValue, count: usize) -> LogValues<'a> {
    // SAFETY: there are so many, which are not changed meanwhile (`# Safety` of this function).
    LogValues(unsafe { slice::from_raw_parts(values, count) })
}

unsafe extern "C" fn attach<H: LogHost>(this: *const (), refresh: extern "C" fn()) {
    // SAFETY: the plugin passes what it was given, and its image is mapped during the call (invariant of `RawLogs`).
    unsafe { with(this, (), |host: &H| host.attach(Refresh(refresh))) }
}

unsafe extern "C" fn max_level<H: LogHost>(this: *const ()) -> MaxLevel {
    // SAFETY: the plugin passes what it was given, and its image is mapped during the call (invariant of `RawLogs`).
    unsafe { with(this, 0, |host: &H| host.max_level()) }
}

unsafe extern "C" fn callsite<H: LogHost>(
    this: *const (),
    callsite: *const RawCallsite,
) -> RawSite {
    // SAFETY: the plugin passes the address of a description that it keeps during the call.
    let raw = unsafe { *callsite };
    // SAFETY: the description has so many names of fields at that address.
    let fields = unsafe { slice::from_raw_parts(raw.fields, raw.field_count) };
    // SAFETY: the texts of the description exist during the call, which is as long as they are used.
    let text = |text: RawText| unsafe { text.get() };
    let view = CallsiteView {
        name: text(raw.name).unwrap_or_default(),
        target: text(raw.target).unwrap_or_default(),
        module_path: text(raw.module_path),
        file: text(raw.file),
        line: (raw.line != 0).then_some(raw.line),
        level: raw.level,
        kind: raw.kind,
        fields,
    };
    let none = RawSite {
        handle: std::ptr::null(),
        is_generic: false,
    };
    // SAFETY: the plugin passes what it was given, and its image is mapped during the call (invariant of `RawLogs`).
    unsafe {
        with(this, none, |host: &H| {
            let site = host.callsite(&view);
            RawSite {
                handle: std::ptr::from_ref(site).cast(),
                is_generic: H::is_generic(site),
            }
        })
    }
}

unsafe extern "C" fn interest<H: LogHost>(this: *const (), handle: *const ()) -> Interest {
    // SAFETY: the plugin passes a handle that it was given.
    let site = unsafe { site::<H>(handle) };
    // SAFETY: the plugin passes what it was given, and its image is mapped during the call (invariant of `RawLogs`).
    unsafe { with(this, Interest::Never, |_: &H| H::interest(site)) }
}

unsafe extern "C" fn enabled<H: LogHost>(this: *const (), handle: *const ()) -> bool {
    // SAFETY: the plugin passes a handle that it was given.
    let site = unsafe { site::<H>(handle) };
    // SAFETY: the plugin passes what it was given, and its image is mapped during the call (invariant of `RawLogs`).
    unsafe { with(this, false, |host: &H| host.enabled(site)) }
}

unsafe extern "C" fn event<H: LogHost>(
    this: *const (),
    handle: *const (),
    parent: RawParent,
    values: *const RawValue,
    count: usize,
) {
    // SAFETY: the plugin passes a handle that it was given.
    let site = unsafe { site::<H>(handle) };
    // SAFETY: the plugin keeps the values during the call.
    let values = unsafe { view(values, count) };
    // SAFETY: the plugin passes what it was given, and its image is mapped during the call (invariant of `RawLogs`).
    unsafe { with(this, (), |host: &H| host.event(site, parent.view(), values)) }
}

unsafe extern "C" fn new_span<H: LogHost>(
    this: *const (),
    handle: *const (),
    origin: usize,
    parent: RawParent,
    values: *const RawValue,
    count: usize,
) -> u64 {
    // SAFETY: the plugin passes a handle that it was given.
    let site = unsafe { site::<H>(handle) };
    // SAFETY: the plugin keeps the values during the call.
    let values = unsafe { view(values, count) };
    let body = |host: &H| match host.new_span(site, origin, parent.view(), values) {
        0 => NO_SPAN,
        span => span,
    };
    // SAFETY: the plugin passes what it was given, and its image is mapped during the call (invariant of `RawLogs`).
    unsafe { with(this, NO_SPAN, body) }
}

unsafe extern "C" fn record<H: LogHost>(
    this: *const (),
    span: u64,
    values: *const RawValue,
    count: usize,
) {
    // SAFETY: the plugin keeps the values during the call.
    let values = unsafe { view(values, count) };
    // SAFETY: the plugin passes what it was given, and its image is mapped during the call (invariant of `RawLogs`).
    unsafe { with(this, (), |host: &H| host.record(span, values)) }
}

unsafe extern "C" fn follows_from<H: LogHost>(this: *const (), span: u64, followed: u64) {
    // SAFETY: the plugin passes what it was given, and its image is mapped during the call (invariant of `RawLogs`).
    unsafe { with(this, (), |host: &H| host.follows_from(span, followed)) }
}

unsafe extern "C" fn enter<H: LogHost>(this: *const (), span: u64) {
    // SAFETY: the plugin passes what it was given, and its image is mapped during the call (invariant of `RawLogs`).
    unsafe { with(this, (), |host: &H| host.enter(span)) }
}

unsafe extern "C" fn exit<H: LogHost>(this: *const (), span: u64) {
    // SAFETY: the plugin passes what it was given, and its image is mapped during the call (invariant of `RawLogs`).
    unsafe { with(this, (), |host: &H| host.exit(span)) }
}

unsafe extern "C" fn clone_span<H: LogHost>(this: *const (), span: u64) -> u64 {
    let body = |host: &H| match host.clone_span(span) {
        0 => NO_SPAN,
        span => span,
    };
    // SAFETY: the plugin passes what it was given, and its image is mapped during the call (invariant of `RawLogs`).
    unsafe { with(this, NO_SPAN, body) }
}

unsafe extern "C" fn try_close<H: LogHost>(this: *const (), span: u64) -> bool {
    // SAFETY: the plugin passes what it was given, and its image is mapped during the call (invariant of `RawLogs`).
    unsafe { with(this, false, |host: &H| host.try_close(span)) }
}

unsafe extern "C" fn current_span<H: LogHost>(this: *const ()) -> RawCurrent {
    let none = RawCurrent { span: 0, origin: 0 };
    let body = |host: &H| {
        host.current_span()
            .map_or(none, |(span, origin)| RawCurrent { span, origin })
    };
    // SAFETY: the plugin passes what it was given, and its image is mapped during the call (invariant of `RawLogs`).
    unsafe { with(this, none, body) }
}
