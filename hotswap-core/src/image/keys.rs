//! libc's pthread keys whose destructor lies in an image: what a plugin without `unloadable!` leaves behind.
//!
//! `thread::current()` in a plugin makes one. Closed with it, the image is unmapped and the process dies when
//! a thread with a value ends; after some thousand reloads there are no keys left, and std aborts.
//!
//! glibc keeps its keys in a table that it shows to debuggers (`__pthread_keys`, with sizes beside it, all
//! `GLIBC_PRIVATE`). It is looked up, its shape is compared with what we know, and a key of our own is made
//! and found in it. Where any of that fails the answer is "cannot be known", and the image is not closed.
//!
//! What it does not know: values. A deleted key's values are never destroyed, which leaks what they own (for
//! std, one thread handle per thread and image). And a thread that is ending at this moment may have
//! read a destructor's address already; nothing in libc tells. So keys are deleted when the image is retired and
//! drained, and the image is closed only after each thread that was alive then was seen elsewhere
//! ([`ending`](super::ending)).
#![expect(unsafe_code, reason = "reads a table of libc's")]

use std::{
    ffi::{CStr, c_void},
    ops::Range,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// glibc's `struct pthread_key_struct`.
#[repr(C)]
struct Slot {
    /// Odd while the key is in use.
    sequence: AtomicUsize,
    destructor: AtomicUsize,
}

/// The keys whose destructor lies in the range. `None`: it cannot be known on this system.
pub(super) fn keys_into(range: &Range<usize>) -> Option<Vec<libc::pthread_key_t>> {
    let used = table()?.iter().zip(0..).filter(|(slot, _)| {
        // Relaxed, both: keys of an image that nobody is inside do not change, and of others the answer is
        // no, whatever is read.
        slot.sequence.load(Ordering::Relaxed) % 2 == 1
            && range.contains(&slot.destructor.load(Ordering::Relaxed))
    });
    Some(used.map(|(_, key)| key).collect())
}

/// Deletes the keys whose destructor lies in the range, so that no thread calls it when it ends. Says how
/// many there were, or `None` if that cannot be known on this system; then nothing was deleted.
///
/// # Safety
/// The range is an image's that is retired: nobody is inside and nobody will be.
pub(super) unsafe fn delete_keys_into(range: &Range<usize>) -> Option<usize> {
    let keys = keys_into(range)?;
    for &key in &keys {
        // SAFETY: the image made it, and nothing of the image runs that could use it.
        unsafe { libc::pthread_key_delete(key) };
    }
    Some(keys.len())
}

/// Looked up and tried once.
fn table() -> Option<&'static [Slot]> {
    static TABLE: OnceLock<Option<&'static [Slot]>> = OnceLock::new();
    *TABLE.get_or_init(|| find_table().filter(|table| proven(table)))
}

fn find_table() -> Option<&'static [Slot]> {
    // In glibc's nptl_db: a field's width in bits, how many there are (for the table, 0 or its length), and
    // its offset in bytes.
    let field = |name| symbol::<[u32; 3]>(name).copied();
    let bytes = *symbol::<u32>(c"_thread_db_sizeof_pthread_key_struct")?;
    let sequence = field(c"_thread_db_pthread_key_struct_seq")?;
    let destructor = field(c"_thread_db_pthread_key_struct_destr")?;
    let [width, length, _] = field(c"_thread_db___pthread_keys")?;
    let bits = usize::BITS;
    let known = bytes as usize == size_of::<Slot>()
        && width == bytes * 8
        && sequence == [bits, 1, 0]
        && destructor == [bits, 1, size_of::<usize>() as u32]
        && (1..=65_536).contains(&length);
    let slots = ptr::from_ref(symbol::<Slot>(c"__pthread_keys").filter(|_| known)?);
    // SAFETY: libc says that so many of this shape are there. It writes them while we read, which the
    // atomics allow for.
    Some(unsafe { std::slice::from_raw_parts(slots, length as usize) })
}

/// Whether a key that we make is seen in the table.
fn proven(table: &[Slot]) -> bool {
    unsafe extern "C" fn witness(_: *mut c_void) {}
    let mut key = 0;
    // SAFETY: a place for the key.
    if unsafe { libc::pthread_key_create(&raw mut key, Some(witness)) } != 0 {
        return false;
    }
    let slot = table.get(key as usize);
    let seen = || {
        slot.map(|slot| {
            let destructor = slot.destructor.load(Ordering::Relaxed);
            (slot.sequence.load(Ordering::Relaxed) % 2, destructor)
        })
    };
    let made = seen() == Some((1, witness as *const () as usize));
    // SAFETY: made above, and given to nobody.
    unsafe { libc::pthread_key_delete(key) };
    made
}

/// A datum of libc's by name.
fn symbol<T>(name: &CStr) -> Option<&'static T> {
    // SAFETY: a valid handle and a C string.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: null, or the datum, whose type and size the caller knows from glibc's sources.
    unsafe { address.cast::<T>().as_ref() }
}
