//! What the system knows of this process.

use std::{collections::BTreeSet, fs, ops::Range, path::PathBuf};

/// Resident memory, in bytes, of what is not shared with a file: the private copies of plugins are
/// counted by their images, not here.
pub(crate) fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

/// A size that the system gives under this name.
pub(crate) fn status_bytes(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status
        .lines()
        .find(|line| line.starts_with(name))
        .expect("a number");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|it| it.parse().ok())
        .expect("a number");
    kib * 1024
}

/// Where images of plugins are mapped, one range for each image.
pub(crate) fn images() -> Vec<Range<usize>> {
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc");
    let mut images: Vec<(String, Range<usize>)> = Vec::new();
    for line in maps.lines().filter(|line| line.contains("/memfd:hotswap")) {
        let mut words = line.split_whitespace();
        let (start, end) = words
            .next()
            .and_then(|range| range.split_once('-'))
            .expect("a range");
        let parse = |hex| usize::from_str_radix(hex, 16).expect("an address");
        let (range, inode) = (
            parse(start)..parse(end),
            words.nth(3).expect("an inode").to_owned(),
        );
        match images.iter_mut().find(|(known, _)| *known == inode) {
            Some((_, image)) => image.end = range.end,
            None => images.push((inode, range)),
        }
    }
    images.into_iter().map(|(_, image)| image).collect()
}

pub(crate) fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc").count()
}

pub(crate) fn threads() -> usize {
    fs::read_dir("/proc/self/task").expect("/proc").count()
}

/// The numbers of those that have opened an image, and of one that waits for the next image.
pub(crate) fn openers() -> BTreeSet<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc");
    let is_opener = |task: &PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|it| it.trim_end() == "hotswap-loader")
    };
    let openers = tasks
        .map(|task| task.expect("/proc").path())
        .filter(is_opener);
    openers
        .filter_map(|task| Some(task.file_name()?.to_str()?.to_owned()))
        .collect()
}

/// How many pthread keys the process has in use: as many as are missing when all others are taken.
pub(crate) fn keys_in_use() -> usize {
    /// `PTHREAD_KEYS_MAX` of glibc.
    const KEYS_MAX: usize = 1024;
    let mut taken = Vec::new();
    let mut key = 0;
    // SAFETY: a place for the key, which has no destructor.
    while unsafe { libc::pthread_key_create(&raw mut key, None) } == 0 {
        taken.push(key);
    }
    for &key in &taken {
        // SAFETY: made above, and given to nobody.
        unsafe { libc::pthread_key_delete(key) };
    }
    KEYS_MAX - taken.len()
}
