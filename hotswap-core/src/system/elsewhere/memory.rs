//! Memory: only asked whether there is some.

use std::{io, iter, ops::Range};

use memmap2::MmapMut;

/// The size of a page on most systems: nothing is protected by it here.
pub(crate) fn page_bytes() -> usize {
    4096
}

/// Whether this many bytes can be mapped at this moment. Maps them, and gives them back at once.
pub(crate) fn can_map(bytes: usize) -> bool {
    MmapMut::map_anon(bytes).is_ok()
}

/// Makes none: no limit on their number is known.
pub(crate) fn make_mappings(_: usize) -> io::Result<()> {
    Ok(())
}

pub(crate) fn readable_mappings() -> Vec<Range<usize>> {
    Vec::new()
}

pub(crate) fn words(_: Range<usize>, _: usize) -> Option<impl Iterator<Item = usize>> {
    None::<iter::Empty<usize>>
}
