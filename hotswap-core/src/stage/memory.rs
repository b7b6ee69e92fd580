//! Whether there is enough memory left to go on.

use memmap2::MmapMut;

use super::Refusal;
use crate::error::Stage;

/// A thread's stack, and some thousand small things.
const MARGIN_BYTES: u64 = 16 << 20;

/// Refuses when there is not enough memory left for a candidate of so many bytes and for what has to be done
/// with it.
///
/// A large allocation that fails is an error; a small one, in std as in the dynamic linker, ends the process.
/// So a large one is tried first, of the kernel, since the allocator may have that much in store and none for
/// a stack. Where a limit is about to be reached (`ulimit -v`) this is what refuses the candidate. It holds
/// nothing back: other threads can still use the memory up meanwhile. Costs a few microseconds.
pub(super) fn need(file_bytes: u64) -> Result<(), Refusal> {
    let needed = file_bytes.saturating_mul(2).saturating_add(MARGIN_BYTES);
    if usize::try_from(needed).is_ok_and(|needed| MmapMut::map_anon(needed).is_ok()) {
        return Ok(());
    }
    let message = format!("not enough memory is left: {needed} bytes are needed");
    Err(Refusal::new(Stage::Host, message))
}
