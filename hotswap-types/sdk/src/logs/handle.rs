//! What a plugin is given to log by: a [`LogHost`] behind the functions of the table.

use std::{
    panic::{self, AssertUnwindSafe},
    slice,
    sync::Arc,
};

use super::{
    host::{CallsiteView, LogHost, LogValues, Parent, Refresh},
    table::{
        Interest, LogTable, MaxLevel, NO_SPAN, RawCallsite, RawCurrent, RawLogs, RawParent,
        RawSite, RawText, RawValue,
    },
};
use crate::fault::discard;

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
    // SAFETY: the plugin passes address and number of values that it neither changes nor drops during the call, as long
    // as which the view is used.
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
    // SAFETY: the plugin passes address and number of values that it neither changes nor drops during the call, as long
    // as which the view is used.
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
    // SAFETY: the plugin passes address and number of values that it neither changes nor drops during the call, as long
    // as which the view is used.
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
