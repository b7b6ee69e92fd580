//! The pthread keys of this process, and where their destructors lie.
//!
//! glibc shows its table of keys to debuggers (`__pthread_keys` and its sizes, all `GLIBC_PRIVATE`). This module
//! looks the table up, compares its shape with the known one, makes a key of its own and checks that the table shows
//! it. If any of that fails, the answer is `None`, "cannot be known".
//!
//! # What it does not know
//! - Values. Nobody destroys the values of a deleted key, which leaks what they own.
//! - Whether a thread that is ending has already read a destructor's address, and is about to call it; libc does not
//!   tell.

use std::{
    ffi::{CStr, c_void},
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The number of a key.
pub(crate) type Key = libc::pthread_key_t;

/// glibc's `struct pthread_key_struct`.
#[repr(C)]
struct Slot {
    /// Odd while the key is in use.
    sequence: AtomicUsize,
    destructor: AtomicUsize,
}

/// The keys whose destructor lies in the range. `None`: that cannot be known on this system.
///
/// The answer is about the moment of the call. Other threads may make and delete keys meanwhile, unless no code in the
/// range runs.
pub(crate) fn keys_into(range: &Range<usize>) -> Option<Vec<Key>> {
    let used = table()?.iter().zip(0..).filter(|(slot, _)| {
        // Relaxed, both: the keys of code that does not run do not change, and for other keys the answer is "no"
        // whatever the loads return.
        slot.sequence.load(Ordering::Relaxed) % 2 == 1
            && range.contains(&slot.destructor.load(Ordering::Relaxed))
    });
    Some(used.map(|(_, key)| key).collect())
}

/// Deletes the keys whose destructor lies in the range, so that no thread calls it when it ends. Returns how many
/// there were. `None`: that cannot be known on this system, and nothing was deleted.
///
/// # Safety
/// No code in the range runs, and none will, except these destructors.
pub(crate) unsafe fn delete_keys_into(range: &Range<usize>) -> Option<usize> {
    let keys = keys_into(range)?;
    for &key in &keys {
        // SAFETY: whoever made the key gave it a destructor in the range, so that it belongs to the code there. None of
        // that runs that could use it (`# Safety` of this function).
        unsafe { delete(key) };
    }
    Some(keys.len())
}

/// Deletes a key.
///
/// # Safety
/// Nobody uses the key any more.
pub(crate) unsafe fn delete(key: Key) {
    // SAFETY: nobody uses the key any more (`# Safety` of this function).
    unsafe { libc::pthread_key_delete(key) };
}

/// The table of keys, looked up and tested once.
fn table() -> Option<&'static [Slot]> {
    static TABLE: OnceLock<Option<&'static [Slot]>> = OnceLock::new();
    *TABLE.get_or_init(|| find_table().filter(|table| shows_a_new_key(table)))
}

fn find_table() -> Option<&'static [Slot]> {
    // glibc describes each field for its nptl_db with three numbers: its width in bits, how many there are (for the
    // table: 0 or its length), and its offset in bytes.
    // SAFETY: under the names that are passed below, glibc has constants of three numbers (nptl_db/structs.def).
    let field = |name| address::<[u32; 3]>(name).map(|it| unsafe { it.read() });
    let bytes = address::<u32>(c"_thread_db_sizeof_pthread_key_struct")?;
    // SAFETY: under this name, glibc has a constant of one number.
    let bytes = unsafe { bytes.read() };
    let sequence = field(c"_thread_db_pthread_key_struct_seq")?;
    let destructor = field(c"_thread_db_pthread_key_struct_destr")?;
    let [width, length, _] = field(c"_thread_db___pthread_keys")?;
    let bits = usize::BITS;
    let known = bytes as usize == size_of::<Slot>()
        && width == bytes * 8
        && sequence == [bits, 1, 0]
        && destructor == [bits, 1, size_of::<usize>() as u32]
        && (1..=65_536).contains(&length);
    let slots = address::<Slot>(c"__pthread_keys").filter(|_| known)?;
    // SAFETY: by glibc's own description, its static of this name has `length` slots whose fields have the widths and
    // offsets of a `Slot`. libc writes them while we read; the fields are atomics, so that is not a data race.
    Some(unsafe { std::slice::from_raw_parts(slots, length as usize) })
}

/// Whether the table shows a key that this makes.
fn shows_a_new_key(table: &[Slot]) -> bool {
    unsafe extern "C" fn witness(_: *mut c_void) {}
    let mut key = 0;
    // SAFETY: `key` has room for the key.
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
    // SAFETY: the key was made above, and nobody else knows it.
    unsafe { delete(key) };
    made
}

/// The address of a static of libc's. Whoever reads a `T` there knows its type.
fn address<T>(name: &CStr) -> Option<*const T> {
    // SAFETY: `RTLD_DEFAULT` is a valid handle, and `name` is a C string.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then(|| address.cast_const().cast())
}
