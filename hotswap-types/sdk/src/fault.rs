//! Panics as values.
//!
//! A panic must not leave a plugin: each plugin has its own copy of the standard library, and to the
//! host's copy it is a foreign exception, which aborts the process. So it is caught where it happens, in
//! code that is compiled into the plugin, and returned.
//!
//! The plugin's own panic hook is part of that. The standard one prints several lines to the stderr of
//! the whole process, and with `RUST_BACKTRACE` it keeps some 36 MB for each loaded plugin (measured
//! 2026-11, rustc 1.95): too much for what is only an error of one call. Ours notes the place instead, and
//! prints one line where nobody catches.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    fmt::{self, Write},
    io::{self, Write as _},
    panic::{self, AssertUnwindSafe, PanicHookInfo, UnwindSafe},
    sync::{Once, OnceLock},
};

use abi_stable::{
    StableAbi,
    std_types::{RResult, RString},
};

use crate::text::printable;

/// What a call into a plugin gives: a text, or what went wrong inside.
pub type Answer = RResult<RString, Fault>;

/// Why a call into a plugin gave no answer.
#[repr(u8)]
#[derive(StableAbi, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The plugin's code reported an error.
    Failed(RString),
    /// The plugin's code panicked; the message, and where.
    Panicked(RString),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(message) => f.write_str(message),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}

impl std::error::Error for Fault {}

/// Runs the body of an exported function, and returns its panic, if any, as a [`Fault`].
///
/// Only for use in a plugin. At the first call it replaces the panic hook of the plugin's own copy of the
/// standard library; the host's is another.
///
/// A plugin built with `panic = "abort"` has nothing to catch: there a panic ends the process.
///
/// ```
/// use hotswap_sdk::{Fault, caught};
///
/// assert_eq!(caught(|| Ok("fine".to_owned())).unwrap(), "fine");
/// assert_eq!(caught(|| Err("no".to_owned())).unwrap_err(), Fault::Failed("no".into()));
/// let Fault::Panicked(message) = caught(|| panic!("oh {}", "dear")).unwrap_err() else { unreachable!() };
/// assert!(message.starts_with("oh dear ("), "{message}");
/// ```
pub fn caught(body: impl FnOnce() -> Result<String, String>) -> Answer {
    note_panics();
    // Unwind-safe: what the body may leave broken is the plugin's own, as it would be in a thread of it.
    match catch_unwind_noted(AssertUnwindSafe(body)) {
        Ok(Ok(text)) => RResult::ROk(text.into()),
        Ok(Err(message)) => RResult::RErr(Fault::Failed(message.into())),
        Err(payload) => RResult::RErr(Fault::Panicked(caught_message(payload).into())),
    }
}

/// Replaces the panic hook of this copy of the standard library by ours. Only for use in a plugin.
pub(crate) fn note_panics() {
    static HOOK: Once = Once::new();
    // A function item has no size: the box allocates nothing that would be left behind at every reload.
    HOOK.call_once(|| panic::set_hook(Box::new(note_panic)));
}

/// Tells whether the calling thread is inside of a call whose panics are told by who has called.
pub(crate) type IsCalling = extern "C" fn() -> bool;

/// The same, also for calls that `is_calling` knows of.
pub(crate) fn note_panics_of_calls(is_calling: IsCalling) {
    // Whoever has made this plugin's value is there for as long as the plugin is.
    let _ = IS_CALLING.set(is_calling);
    note_panics();
}

static IS_CALLING: OnceLock<IsCalling> = OnceLock::new();

/// Catches a panic. If the hook is [ours](note_panics), it prints nothing meanwhile.
#[inline]
pub(crate) fn catch_unwind_noted<T>(
    body: impl FnOnce() -> T + UnwindSafe,
) -> Result<T, Box<dyn Any + Send>> {
    CATCHING.set(CATCHING.get() + 1);
    let result = panic::catch_unwind(body);
    CATCHING.set(CATCHING.get() - 1);
    result
}

/// What was panicked with, and where if that was noted.
pub(crate) fn caught_message(payload: Box<dyn Any + Send>) -> String {
    let place = PLACE.replace(Place::NOWHERE);
    let message = match place.as_str() {
        "" => describe(&*payload).to_owned(),
        place => format!("{} ({place})", describe(&*payload)),
    };
    discard(payload);
    message
}

// Neither has a destructor: a thread-local that has one keeps the plugin mapped while its thread lives.
thread_local! {
    /// How many `caught` the thread is inside of.
    static CATCHING: Cell<u32> = const { Cell::new(0) };
    static PLACE: RefCell<Place> = const { RefCell::new(Place::NOWHERE) };
}

fn note_panic(panic: &PanicHookInfo<'_>) {
    let is_called = IS_CALLING.get().is_some_and(|is_calling| is_calling());
    if CATCHING.get() == 0 && !is_called {
        let text = panic.to_string().replace('\n', " ");
        // Not with `eprintln!`: a panic in a panic hook ends the process.
        let _ = writeln!(io::stderr(), "{}", printable(&text));
        return;
    }
    PLACE.with_borrow_mut(|place| {
        place.length = 0;
        if let Some(location) = panic.location() {
            // What does not fit is cut off.
            let _ = write!(place, "{location}");
        }
    });
}

fn describe(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is no text")
}

/// Drops the value; a panic of its destructor must not leave the plugin.
pub(crate) fn discard<T: ?Sized>(value: Box<T>) {
    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // What it carries may panic as well.
        std::mem::forget(panic);
    }
}

/// A short text without allocation.
struct Place {
    text: [u8; 120],
    length: usize,
}

impl Place {
    const NOWHERE: Self = Self {
        text: [0; 120],
        length: 0,
    };

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..self.length]).unwrap_or("at an unknown place")
    }
}

impl Write for Place {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.text[self.length..];
        let length = text.floor_char_boundary(room.len().min(text.len()));
        room[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.length += length;
        Ok(())
    }
}
