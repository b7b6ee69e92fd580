//! Address ranges of a mapped object. No call of the system.

use std::ops::Range;

/// Where an object is mapped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mapping {
    /// The difference between an address in memory and the address in the file (`dlpi_addr`). The first segment
    /// begins here only if the file's addresses begin at 0.
    pub(crate) bias: usize,
    pub(crate) segments: Vec<Range<usize>>,
}

impl Mapping {
    /// Whether one segment contains all `bytes` bytes at `address`.
    pub(crate) fn has(&self, address: usize, bytes: usize) -> bool {
        let end = address.checked_add(bytes);
        let inside =
            |it: &Range<usize>| it.start <= address && end.is_some_and(|end| end <= it.end);
        self.segments.iter().any(inside)
    }

    /// The addresses from the start of the first segment to the end of the last.
    pub(crate) fn range(&self) -> Range<usize> {
        let start = self.segments.iter().map(|segment| segment.start).min();
        let end = self.segments.iter().map(|segment| segment.end).max();
        start.unwrap_or_default()..end.unwrap_or_default()
    }
}

/// What a segment must allow.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    Any,
    Read,
    Write,
    Execute,
}
