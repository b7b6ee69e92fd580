//! Keys of threads: nothing lists them.

use std::ops::Range;

pub(crate) type Key = u32;

pub(crate) fn keys_into(_: &Range<usize>) -> Option<Vec<Key>> {
    None
}

/// # Safety
/// No conditions: it deletes nothing.
pub(crate) unsafe fn delete_keys_into(_: &Range<usize>) -> Option<usize> {
    None
}

/// # Safety
/// No conditions: it deletes nothing.
pub(crate) unsafe fn delete(_: Key) {}
