//! The plugin's side of the table: its functions, safe to call.

use std::sync::OnceLock;

use super::{
    table::{
        CallsiteKind, Interest, Level, MaxLevel, RawCallsite, RawLogs, RawParent, RawSite, RawText,
    },
    values::Values,
};

#[cfg(feature = "tracing")]
use super::table::RawCurrent;

/// The table that this plugin was given.
///
/// # Invariants
///
/// Its addresses are valid as long as this image is mapped (invariant of [`RawLogs`]), which is as long as code of it
/// runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection(RawLogs);

/// The host's handle of a callsite.
///
/// # Invariants
///
/// The address is one that the host has returned for a callsite, and not null.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    handle: *const (),
    pub(super) is_generic: bool,
}

/// A callsite, to be made known to the host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Callsite<'a> {
    pub(super) name: &'a str,
    pub(super) target: &'a str,
    pub(super) module_path: Option<&'a str>,
    pub(super) file: Option<&'a str>,
    pub(super) line: Option<u32>,
    pub(super) level: Level,
    pub(super) kind: CallsiteKind,
}

static CONNECTION: OnceLock<Connection> = OnceLock::new();

// SAFETY: the functions may be called on any thread (invariant of `RawLogs`).
unsafe impl Send for Connection {}
// SAFETY: the functions may be called on any thread (invariant of `RawLogs`).
unsafe impl Sync for Connection {}

/// Keeps the table. The first one counts: a plugin is given one.
pub(super) fn set(raw: RawLogs) -> Connection {
    *CONNECTION.get_or_init(|| Connection(raw))
}

/// The table, once this plugin was given it.
pub(super) fn get() -> Option<Connection> {
    CONNECTION.get().copied()
}

impl Site {
    /// # Safety
    ///
    /// The address is one that [`Site::address`] has returned.
    #[cfg(feature = "tracing")]
    pub(super) unsafe fn from_address(handle: *const (), is_generic: bool) -> Self {
        Self { handle, is_generic }
    }

    #[cfg(feature = "tracing")]
    pub(super) fn address(self) -> *const () {
        self.handle
    }
}

/// Calls a function of the table.
macro_rules! call {
    ($connection:expr, $function:ident $(, $argument:expr)*) => {{
        let RawLogs { this, table } = $connection.0;
        // SAFETY: the table is there, because this code runs (invariant of `Connection`).
        let function = unsafe { (*table).$function };
        // SAFETY: it is a function of the table that `this` is of. Handles of callsites are the host's own (invariant
        // of `Site`). What the other arguments point to is borrowed until it returns.
        unsafe { function(this $(, $argument)*) }
    }};
}

impl Connection {
    pub(super) fn attach(self, refresh: extern "C" fn()) {
        call!(self, attach, refresh);
    }

    pub(super) fn max_level(self) -> MaxLevel {
        call!(self, max_level)
    }

    /// Makes a callsite known. `None` if the host cannot say anything of it.
    pub(super) fn callsite<'a>(
        self,
        callsite: &Callsite<'a>,
        fields: impl Iterator<Item = &'a str>,
    ) -> Option<Site> {
        let fields: Vec<_> = fields.map(RawText::new).collect();
        let text = |text: Option<&str>| text.map_or(RawText::NONE, RawText::new);
        let raw = RawCallsite {
            name: RawText::new(callsite.name),
            target: RawText::new(callsite.target),
            module_path: text(callsite.module_path),
            file: text(callsite.file),
            line: callsite.line.unwrap_or(0),
            level: callsite.level,
            kind: callsite.kind,
            fields: fields.as_ptr(),
            field_count: fields.len(),
        };
        let RawSite { handle, is_generic } = call!(self, callsite, &raw);
        (!handle.is_null()).then_some(Site { handle, is_generic })
    }

    pub(super) fn interest(self, site: Site) -> Interest {
        call!(self, interest, site.handle)
    }

    pub(super) fn enabled(self, site: Site) -> bool {
        call!(self, enabled, site.handle)
    }

    pub(super) fn event(self, site: Site, parent: RawParent, values: &mut Values) {
        let values = values.raw();
        let (start, count) = (values.as_ptr(), values.len());
        call!(self, event, site.handle, parent, start, count);
    }
}

#[cfg(feature = "tracing")]
impl Connection {
    pub(super) fn new_span(
        self,
        site: Site,
        origin: usize,
        parent: RawParent,
        values: &mut Values,
    ) -> u64 {
        let values = values.raw();
        let (start, count) = (values.as_ptr(), values.len());
        call!(self, new_span, site.handle, origin, parent, start, count)
    }

    pub(super) fn record(self, span: u64, values: &mut Values) {
        let values = values.raw();
        call!(self, record, span, values.as_ptr(), values.len());
    }

    pub(super) fn follows_from(self, span: u64, followed: u64) {
        call!(self, follows_from, span, followed);
    }

    pub(super) fn enter(self, span: u64) {
        call!(self, enter, span);
    }

    pub(super) fn exit(self, span: u64) {
        call!(self, exit, span);
    }

    pub(super) fn clone_span(self, span: u64) -> u64 {
        call!(self, clone_span, span)
    }

    pub(super) fn try_close(self, span: u64) -> bool {
        call!(self, try_close, span)
    }

    pub(super) fn current_span(self) -> RawCurrent {
        call!(self, current_span)
    }
}
