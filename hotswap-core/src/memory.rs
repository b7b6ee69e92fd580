//! Checks that enough memory is left to go on.
//!
//! When a large allocation fails, that is an error; when a small one fails, std and the dynamic linker end the
//! process. So this tries a large one first. It asks the kernel, because the allocator may have that much in reserve
//! and still get no stack. Near a limit (`ulimit -v`, `vm.max_map_count`) this refuses the candidate. It reserves
//! nothing: other threads can still use up the memory afterwards.

use std::env;

use crate::{error::ErrorKind, system};

/// Room for some thousand small allocations.
const MARGIN_BYTES: u64 = 14 << 20;

/// std's default for the stack of a thread (`std::thread`).
const STACK_BYTES_MIN: usize = 2 << 20;

/// A thread takes six mappings: a stack, a signal stack, and room for its allocations, each with a guard. Two threads
/// may be started at once.
const THREAD_MAPPINGS: usize = 12;

/// The mappings of an image: its segments, and what the linker allocates for it.
const IMAGE_MAPPINGS: usize = 12;

/// The margin covers thread-locals up to this size.
const THREAD_LOCALS_BYTES_MIN: u64 = 4096;

/// Refuses a candidate of this size if too little memory is left for it and for what has to be done with it. Costs a
/// few microseconds, and for a large file some 100.
pub(crate) fn need(file_bytes: u64) -> Result<(), ErrorKind> {
    need_bytes(file_bytes.saturating_mul(2), None)?;
    // What can be mapped need not be there, and the kernel then ends the process that writes to it.
    let is_large = file_bytes > MARGIN_BYTES;
    if is_large && file_bytes > system::limits::available_bytes() {
        return Err(ErrorKind::NoMemory {
            bytes: file_bytes,
            threads: None,
        });
    }
    Ok(())
}

/// Refuses a candidate if too little memory is left for its thread-locals, of this size, on every thread. The dynamic
/// linker allocates them when a thread first uses one, and ends the process if it cannot. Costs nothing for a few
/// kilobytes, and otherwise reading a file of the system.
pub(crate) fn need_thread_locals(bytes: u64) -> Result<(), ErrorKind> {
    if bytes <= THREAD_LOCALS_BYTES_MIN {
        return Ok(());
    }
    let threads = threads();
    need_bytes(bytes.saturating_mul(threads), Some(threads))
}

/// The size of the stack of each thread of this crate: what `RUST_MIN_STACK` says, but not less than std's default.
/// Less is not enough for the dynamic linker and the code of plugins.
pub(crate) fn stack_bytes() -> usize {
    let wanted = env::var("RUST_MIN_STACK").ok();
    let wanted = wanted.and_then(|bytes| bytes.parse().ok());
    wanted.map_or(STACK_BYTES_MIN, |bytes: usize| bytes.max(STACK_BYTES_MIN))
}

/// Refuses if too little memory is left to start a thread. Costs some 20 microseconds.
pub(crate) fn need_for_thread() -> Result<(), ErrorKind> {
    need(0)?;
    need_mappings(THREAD_MAPPINGS + IMAGE_MAPPINGS)
}

/// Refuses if no image can be mapped. Costs some 10 microseconds.
pub(crate) fn need_image_mappings() -> Result<(), ErrorKind> {
    need_mappings(IMAGE_MAPPINGS)
}

fn need_mappings(mappings: usize) -> Result<(), ErrorKind> {
    system::memory::make_mappings(mappings).map_err(|error| ErrorKind::NoMappings {
        mappings,
        error: error.into(),
    })
}

fn need_bytes(bytes: u64, threads: Option<u64>) -> Result<(), ErrorKind> {
    let margin = MARGIN_BYTES.saturating_add(stack_bytes() as u64);
    let needed = bytes.saturating_add(margin);
    if usize::try_from(needed).is_ok_and(system::memory::can_map) {
        return Ok(());
    }
    Err(ErrorKind::NoMemory {
        bytes: needed,
        threads,
    })
}

/// The threads of the process, plus the image's own, plus one that may be started.
fn threads() -> u64 {
    system::thread::count().unwrap_or(1).saturating_add(2)
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
        need_for_thread().unwrap();
    }
}
