//! The hook of a plugin's author.

use std::{
    panic::{self, AssertUnwindSafe},
    ptr,
};

/// Runs a plugin author's hook and turns a panic into text.
///
/// # Safety
/// `text` has room for `capacity` bytes and `written` is valid for a write.
pub unsafe fn run_hook(hook: fn(), text: *mut u8, capacity: usize, written: *mut usize) -> u32 {
    let Err(payload) = panic::catch_unwind(hook) else {
        return 0;
    };
    let message = match (
        payload.downcast_ref::<&str>(),
        payload.downcast_ref::<String>(),
    ) {
        (Some(message), _) => message,
        (_, Some(message)) => message.as_str(),
        _ => "(a panic without a message)",
    };
    let length = message.floor_char_boundary(capacity);
    // SAFETY: `text` has room for `capacity` bytes, and `length` is at most that.
    unsafe { ptr::copy_nonoverlapping(message.as_ptr(), text, length) };
    // SAFETY: `written` is valid for a write, as the caller guarantees.
    unsafe { written.write(length) };
    // The payload's own destructor may panic too.
    if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    1
}
