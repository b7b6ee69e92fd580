//! What both sides know: the table of the host's functions, and the structs that they take.
#![cfg_attr(
    not(feature = "tracing"),
    expect(dead_code, reason = "a plugin's side uses it with the feature alone")
)]

use std::{ptr, slice};

/// The most verbose level that is enabled anywhere: 0 if none is, 1 for errors only, up to 5 for everything.
pub type MaxLevel = u8;

/// The number of a span that there is not.
pub(super) const NO_SPAN: u64 = u64::MAX;

/// How grave something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Level {
    /// The gravest.
    Error = 1,
    /// Less so.
    Warn,
    /// Of interest.
    Info,
    /// For whoever looks for a bug.
    Debug,
    /// Everything.
    Trace,
}

/// What a callsite makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CallsiteKind {
    /// Events of `tracing`.
    Event,
    /// Spans of `tracing`.
    Span,
    /// Nothing: it asks whether something is enabled.
    Hint,
    /// Records of `log`.
    Record,
}

/// Whether the host's subscriber wants what a callsite makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Interest {
    /// It does not.
    Never,
    /// It has to be asked each time.
    Sometimes,
    /// It does.
    Always,
}

/// What a span or an event belongs to.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct RawParent {
    pub(super) kind: u32,
    pub(super) span: u64,
}

/// A text of the side that passes it; null if there is none.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct RawText {
    start: *const u8,
    length: usize,
}

/// A callsite, as the plugin describes it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct RawCallsite {
    pub(super) name: RawText,
    pub(super) target: RawText,
    pub(super) module_path: RawText,
    pub(super) file: RawText,
    /// 0 if it is not known.
    pub(super) line: u32,
    pub(super) level: Level,
    pub(super) kind: CallsiteKind,
    pub(super) fields: *const RawText,
    pub(super) field_count: usize,
}

/// The host's handle of a callsite.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct RawSite {
    pub(super) handle: *const (),
    /// Whether the handle stands for all callsites of this level and kind, because the host knows too many others. Such
    /// a callsite has one field, `message`, in which the plugin says all.
    pub(super) is_generic: bool,
}

/// The value of a field. What is not needed for its kind is 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct RawValue {
    /// The number of the field in its callsite.
    pub(super) field: u32,
    pub(super) kind: ValueKind,
    /// A number: its low half, and its high half.
    pub(super) bits: [u64; 2],
    /// A text, or bytes.
    pub(super) start: *const u8,
    pub(super) length: usize,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum ValueKind {
    U64,
    I64,
    U128,
    I128,
    F64,
    Bool,
    Str,
    Bytes,
    /// A text that was formatted.
    Debug,
    /// The text of an error. Those of its sources follow.
    Error,
    Source,
}

/// The span that is current.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct RawCurrent {
    /// 0 if there is none.
    pub(super) span: u64,
    /// What the plugin has made it with. 0 if it is not a span of this plugin.
    pub(super) origin: usize,
}

/// The host's functions. The first parameter of each is [`RawLogs::this`].
#[derive(Debug)]
#[repr(C)]
pub(super) struct LogTable {
    /// [`VERSION`](Self::VERSION) of the host. A plugin that has another one does not log.
    pub(super) version: u32,
    /// Says how the plugin is told of a change of the host's filter. Called once.
    pub(super) attach: unsafe extern "C" fn(this: *const (), refresh: extern "C" fn()),
    pub(super) max_level: unsafe extern "C" fn(this: *const ()) -> MaxLevel,
    pub(super) callsite:
        unsafe extern "C" fn(this: *const (), callsite: *const RawCallsite) -> RawSite,
    pub(super) interest: unsafe extern "C" fn(this: *const (), site: *const ()) -> Interest,
    pub(super) enabled: unsafe extern "C" fn(this: *const (), site: *const ()) -> bool,
    pub(super) event: unsafe extern "C" fn(
        this: *const (),
        site: *const (),
        parent: RawParent,
        values: *const RawValue,
        count: usize,
    ),
    /// Returns the number of a span, which is not 0.
    pub(super) new_span: unsafe extern "C" fn(
        this: *const (),
        site: *const (),
        origin: usize,
        parent: RawParent,
        values: *const RawValue,
        count: usize,
    ) -> u64,
    pub(super) record:
        unsafe extern "C" fn(this: *const (), span: u64, values: *const RawValue, count: usize),
    pub(super) follows_from: unsafe extern "C" fn(this: *const (), span: u64, followed: u64),
    pub(super) enter: unsafe extern "C" fn(this: *const (), span: u64),
    pub(super) exit: unsafe extern "C" fn(this: *const (), span: u64),
    /// Counts one more handle of a span, and returns the number by which that knows it.
    pub(super) clone_span: unsafe extern "C" fn(this: *const (), span: u64) -> u64,
    /// Counts one handle less. Returns whether it was the last.
    pub(super) try_close: unsafe extern "C" fn(this: *const (), span: u64) -> bool,
    pub(super) current_span: unsafe extern "C" fn(this: *const ()) -> RawCurrent,
}

/// The host's table, and what its functions are called with.
///
/// # Invariants
///
/// Both addresses are valid for as long as the image is mapped that was given this. The functions may be called on any
/// thread.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct RawLogs {
    pub(super) this: *const (),
    pub(super) table: *const LogTable,
}

impl LogTable {
    /// Changes with the functions, and with what they take and return.
    pub(super) const VERSION: u32 = 1;
}

impl RawParent {
    /// The span that is current, if there is one.
    pub(super) const CURRENT: u32 = 0;
    /// Nothing.
    pub(super) const ROOT: u32 = 1;
    /// The span with the number.
    pub(super) const SPAN: u32 = 2;
}

impl RawText {
    pub(super) const NONE: Self = Self {
        start: ptr::null(),
        length: 0,
    };

    pub(super) const fn new(text: &str) -> Self {
        Self {
            start: text.as_ptr(),
            length: text.len(),
        }
    }

    /// # Safety
    ///
    /// It is null, or the text that it was made of is neither changed nor dropped during `'a`.
    pub(super) unsafe fn get<'a>(self) -> Option<&'a str> {
        if self.start.is_null() {
            return None;
        }
        // SAFETY: these are the address and the length of a text that exists during `'a` (`# Safety` of this function).
        Some(unsafe { text(self.start, self.length) })
    }
}

impl RawValue {
    pub(super) const EMPTY: Self = Self {
        field: 0,
        kind: ValueKind::Bool,
        bits: [0; 2],
        start: ptr::null(),
        length: 0,
    };
}

/// A text, or a word in its place if the bytes are none.
///
/// # Safety
///
/// `start` is the address of `length` bytes that are neither changed nor dropped during `'a`.
pub(super) unsafe fn text<'a>(start: *const u8, length: usize) -> &'a str {
    // SAFETY: these are the bytes that exist during `'a` (`# Safety` of this function).
    let bytes = unsafe { slice::from_raw_parts(start, length) };
    str::from_utf8(bytes).unwrap_or("(not UTF-8)")
}
