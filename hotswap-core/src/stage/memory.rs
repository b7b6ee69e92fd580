//! Whether there is enough memory left to go on.
//!
//! A large allocation that fails is an error; a small one, in std as in the dynamic linker, ends the process. So a large
//! one is tried first, of the kernel, since the allocator may have that much in store and none for a stack. Where a
//! limit is about to be reached (`ulimit -v`, `vm.max_map_count`) this is what refuses the candidate. It holds nothing
//! back: other threads can still use the memory up meanwhile.

use std::{env, fs, io};

use memmap2::MmapMut;

use crate::error::ErrorKind;

/// Some thousand small things.
const MARGIN_BYTES: u64 = 14 << 20;

/// A thread's stack, unless `RUST_MIN_STACK` says otherwise (`std::thread`).
const STACK_BYTES: u64 = 2 << 20;

/// A thread takes six mappings: a stack, one for signals, and room for its allocations, each with a guard. There may
/// be two at once.
const THREAD_MAPPINGS: usize = 12;

/// What an image takes: its segments, and what the linker allocates for it.
const IMAGE_MAPPINGS: usize = 12;

/// Thread-locals of so many bytes are left to the margin.
const THREAD_LOCALS_BYTES_MIN: u64 = 4096;

/// Refuses when there is not enough memory left for a candidate of so many bytes and for what has to be done
/// with it. Costs a few microseconds.
pub(super) fn need(file_bytes: u64) -> Result<(), ErrorKind> {
    need_bytes(file_bytes.saturating_mul(2), None)
}

/// Refuses when there is not enough memory left for the thread-locals of a candidate, of so many bytes, on every thread
/// that there is: the dynamic linker allocates them when a thread first uses one, and ends the process if it cannot.
/// Costs nothing for a few kilobytes, and otherwise a look at a file of the system's.
pub(super) fn need_thread_locals(bytes: u64) -> Result<(), ErrorKind> {
    if bytes <= THREAD_LOCALS_BYTES_MIN {
        return Ok(());
    }
    let threads = threads();
    need_bytes(bytes.saturating_mul(threads), Some(threads))
}

/// Whether a thread can be started. Where there is no memory for the stack on which it handles signals, std ends the
/// process instead of giving an error. Costs some 20 microseconds.
pub(super) fn check_thread() -> io::Result<()> {
    let enough = need(0).and_then(|()| need_mappings(THREAD_MAPPINGS + IMAGE_MAPPINGS));
    enough.map_err(|kind| io::Error::other(kind.to_string()))
}

/// Refuses when no image can be mapped. Costs some 10 microseconds.
pub(super) fn need_image_mappings() -> Result<(), ErrorKind> {
    need_mappings(IMAGE_MAPPINGS)
}

fn need_mappings(mappings: usize) -> Result<(), ErrorKind> {
    make_mappings(mappings).map_err(|error| ErrorKind::NoMappings {
        mappings,
        error: error.into(),
    })
}

fn need_bytes(bytes: u64, threads: Option<u64>) -> Result<(), ErrorKind> {
    let stack = env::var("RUST_MIN_STACK").ok();
    let stack = stack.and_then(|bytes| bytes.parse().ok());
    let margin = MARGIN_BYTES.saturating_add(stack.unwrap_or(STACK_BYTES));
    let needed = bytes.saturating_add(margin);
    if usize::try_from(needed).is_ok_and(|needed| MmapMut::map_anon(needed).is_ok()) {
        return Ok(());
    }
    Err(ErrorKind::NoMemory {
        bytes: needed,
        threads,
    })
}

/// Makes so many mappings, and takes them back. (Mappings side by side are one to the kernel, unless their protection
/// differs.)
fn make_mappings(count: usize) -> io::Result<()> {
    let page = rustix::param::page_size();
    let pages = MmapMut::map_anon(count * page)?;
    for index in (0..count).step_by(2) {
        let start = pages.as_ptr().wrapping_add(index * page);
        // SAFETY: a page of a mapping that is ours alone, and that nobody reads or writes.
        let result = unsafe { libc::mprotect(start.cast_mut().cast(), page, libc::PROT_NONE) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Those that there are, the image's own, and one that may be started.
fn threads() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let count = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"));
    let count: Option<u64> = count.and_then(|count| count.trim().parse().ok());
    count.unwrap_or(1).saturating_add(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Stage;

    #[test]
    fn thread_locals_are_counted_for_every_thread() {
        assert!(need_thread_locals(0).is_ok());
        assert!(need_thread_locals(1 << 20).is_ok());
        let refusal = need_thread_locals(u64::MAX / 4).unwrap_err();
        assert_eq!(refusal.stage(), Stage::Host);
        let message = &refusal.to_string();
        assert!(
            message.starts_with("not enough memory is left: "),
            "{message}"
        );
        assert!(
            message.contains(" bytes are needed for its thread-locals on "),
            "{message}"
        );
        assert!(threads() > 3, "the test, its harness, and two more");
    }

    #[test]
    fn a_thread_can_be_started_where_there_is_room() {
        check_thread().unwrap();
    }
}
