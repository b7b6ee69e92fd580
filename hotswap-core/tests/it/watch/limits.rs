//! Where the system does not tell of changes, they are found by looking.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    thread,
    time::Duration,
};

use memmap2::MmapMut;
use rustix::{
    fs::inotify::{self, CreateFlags},
    io::Errno,
};

use super::watched::{LONG, NEVER, Watched, put, settings};
use crate::{
    alone::alone,
    fixtures::{plugin, trust},
};

/// What is written by way of a mapping, the system tells nobody.
#[test]
fn a_change_that_is_told_to_nobody_is_found_by_looking() {
    let mut bytes = fs::read(plugin("build_2")).unwrap();
    let length = bytes
        .len()
        .max(fs::metadata(plugin("build_1")).unwrap().len() as usize);
    bytes.resize(length, 0);
    let mut it = Watched::unwatched(
        "plugin.so",
        &trust(),
        |_| {},
        |folder| {
            put(&folder.join("plugin.so"), "build_1");
            let file = OpenOptions::new()
                .write(true)
                .open(folder.join("plugin.so"));
            file.unwrap().set_len(length as u64).unwrap();
        },
    );
    let mut file = OpenOptions::new();
    let file: File = file
        .read(true)
        .write(true)
        .open(it.at("plugin.so"))
        .unwrap();
    // SAFETY: nobody shortens the file, and nobody else writes to it.
    let mut mapping = unsafe { MmapMut::map_mut(&file) }.unwrap();
    it.watch(settings(LONG, Duration::from_millis(50)));
    mapping.copy_from_slice(&bytes);
    // While it is mapped for writing, it is not taken.
    drop((mapping, file));
    it.accepts(2);
}

/// Whose size and time say that all is written, before all is.
#[test]
fn a_file_that_is_open_for_writing_is_waited_for() {
    let it = Watched::new();
    let bytes = fs::read(plugin("build_2")).unwrap();
    let (half, other_half) = bytes.split_at(bytes.len() / 2);
    let mut file = File::create(it.at("plugin.so")).unwrap();
    file.write_all(half).unwrap();
    // Many times what the watch waits for.
    thread::sleep(Duration::from_millis(500));
    file.write_all(other_half).unwrap();
    drop(file);
    it.accepts(2);
}

#[test]
fn without_notices_changes_are_found_all_the_same() {
    alone(
        "watch::limits::without_notices_changes_are_found_all_the_same",
        || {
            let arrange = |folder: &std::path::Path| put(&folder.join("plugin.so"), "build_1");
            let mut it = Watched::unwatched("plugin.so", &trust(), |_| {}, arrange);
            // All that the system has for this user, or as many as this process may have open, but for some.
            let mut all = Vec::new();
            let error = loop {
                match inotify::init(CreateFlags::CLOEXEC) {
                    Ok(one) => all.push(one),
                    Err(error) => break error,
                }
            };
            if error == Errno::MFILE && all.len() > 1000 {
                return eprintln!("not tested: there is no limit to reach");
            }
            it.watch(settings(Duration::from_millis(20), NEVER));
            it.put("plugin.so", "build_2");
            it.accepts(2);
            it.put("plugin.so", "build_1");
            it.accepts(1);
        },
    );
}
