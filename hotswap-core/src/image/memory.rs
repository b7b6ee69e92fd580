//! Reads memory of this process that may be unmapped or protected at any moment. The kernel reads it, and returns an
//! error where an ordinary read would raise a signal.

use std::{fs::File, ops::Range, os::unix::fs::FileExt};

/// The words of a range. `None`: it is longer than `bytes_max`, or not all of it is readable.
pub(super) fn words(range: Range<usize>, bytes_max: usize) -> Option<impl Iterator<Item = usize>> {
    const WORD: usize = size_of::<usize>();
    let mut copy = vec![0; Some(range.len()).filter(|&bytes| bytes <= bytes_max)?];
    let memory = File::open("/proc/self/mem").ok()?;
    memory.read_exact_at(&mut copy, range.start as u64).ok()?;
    let word =
        move |at: usize| usize::from_ne_bytes(copy[at..at + WORD].try_into().expect("a word"));
    Some((0..range.len() / WORD).map(move |index| word(index * WORD)))
}
