//! The memory of this process: how much more can be mapped, what is mapped, and what it holds.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt,
};

use memmap2::MmapMut;

/// The size of a page.
pub(crate) fn page_bytes() -> usize {
    rustix::param::page_size()
}

/// Whether this many bytes can be mapped at this moment. Maps them, and gives them back at once.
pub(crate) fn can_map(bytes: usize) -> bool {
    MmapMut::map_anon(bytes).is_ok()
}

/// Makes this many mappings, and removes them. (The kernel merges adjacent mappings unless their protection differs.)
pub(crate) fn make_mappings(count: usize) -> io::Result<()> {
    let page = page_bytes();
    let pages = MmapMut::map_anon(count * page)?;
    for index in (0..count).step_by(2) {
        let start = pages.as_ptr().wrapping_add(index * page);
        // SAFETY: a page of our own mapping, which nobody reads or writes.
        let result = unsafe { libc::mprotect(start.cast_mut().cast(), page, libc::PROT_NONE) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The readable mappings of this process; empty if the system does not list them. Reads a file.
pub(crate) fn readable_mappings() -> Vec<Range<usize>> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let range = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        rest.starts_with('r')
            .then_some(address(start)?..address(end)?)
    };
    maps.lines().filter_map(range).collect()
}

/// The words of a range, which may be unmapped or protected at any moment. `None`: it is longer than `bytes_max`, not
/// all of it is readable, or there is no memory for a copy.
///
/// The kernel reads it, and returns an error where an ordinary read would raise a signal.
pub(crate) fn words(range: Range<usize>, bytes_max: usize) -> Option<impl Iterator<Item = usize>> {
    const WORD: usize = size_of::<usize>();
    let bytes = Some(range.len()).filter(|&bytes| bytes <= bytes_max)?;
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes).ok()?;
    copy.resize(bytes, 0);
    let memory = File::open("/proc/self/mem").ok()?;
    memory.read_exact_at(&mut copy, range.start as u64).ok()?;
    let word =
        move |at: usize| usize::from_ne_bytes(copy[at..at + WORD].try_into().expect("a word"));
    Some((0..range.len() / WORD).map(move |index| word(index * WORD)))
}
