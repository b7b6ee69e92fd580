//! Where the system does not tell of changes, they are found by looking.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::symlink,
    panic,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use libc::{SYS_inotify_init1, c_int};
use memmap2::MmapMut;
use nix::errno::Errno;

use super::watched::{LONG, NEVER, Watched, put, settings};
use crate::{
    alone::alone,
    fixtures::{SOON, plugin, trust},
    process::deny_threads,
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

/// Whether this process gets no instance of inotify. They are counted for all processes of a user, so a test that uses
/// them up takes them away from other tests.
static ARE_INSTANCES_USED_UP: AtomicBool = AtomicBool::new(false);

/// Takes the place of the C library's in this program.
#[unsafe(no_mangle)]
extern "C" fn inotify_init1(flags: c_int) -> c_int {
    if ARE_INSTANCES_USED_UP.load(Ordering::Relaxed) {
        Errno::EMFILE.set();
        return -1;
    }
    // SAFETY: it takes a number, and makes a descriptor that nobody has yet.
    let descriptor = unsafe { libc::syscall(SYS_inotify_init1, flags) };
    descriptor as c_int
}

#[test]
fn without_notices_changes_are_found_all_the_same() {
    alone(
        "watch::limits::without_notices_changes_are_found_all_the_same",
        || {
            let arrange = |folder: &Path| put(&folder.join("plugin.so"), "build_1");
            let mut it = Watched::unwatched("plugin.so", &trust(), |_| {}, arrange);
            ARE_INSTANCES_USED_UP.store(true, Ordering::Relaxed);
            it.watch(settings(Duration::from_millis(20), NEVER));
            it.put("plugin.so", "build_2");
            it.accepts(2);
            it.put("plugin.so", "build_1");
            it.accepts(1);
            assert_eq!(open_descriptors("anon_inode:inotify"), 0);
            // Notices are used as soon as there can be some again.
            ARE_INSTANCES_USED_UP.store(false, Ordering::Relaxed);
            wait_until(|| open_descriptors("anon_inode:inotify") == 1);
        },
    );
}

/// Each change of the route is followed by an attempt to get notices of the next one, which needs a thread.
#[test]
fn without_threads_a_watch_leaves_nothing_open_and_does_not_panic() {
    alone(
        "watch::limits::without_threads_a_watch_leaves_nothing_open_and_does_not_panic",
        || {
            let mut it = Watched::unwatched(
                "current/plugin.so",
                &trust(),
                |_| {},
                |folder| {
                    for name in ["build_1", "build_2", "suffix_field"] {
                        fs::create_dir(folder.join(name)).unwrap();
                        put(&folder.join(name).join("plugin.so"), name);
                    }
                    symlink("build_1", folder.join("current")).unwrap();
                },
            );
            it.watch(settings(
                Duration::from_millis(20),
                Duration::from_millis(50),
            ));
            wait_until(|| open_descriptors("anon_inode:[eventfd]") == 1);
            let panics = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&panics);
            panic::set_hook(Box::new(move |panic| {
                eprintln!("{panic}");
                counted.fetch_add(1, Ordering::Relaxed);
            }));
            deny_threads();
            for name in ["build_2", "suffix_field", "build_2"] {
                it.link(name, "current");
                // It is accepted, or refused because it needs a thread, after the watch has tried to start one.
                it.next();
            }
            // Those of the first route are closed by the thread that has read them.
            wait_until(|| open_descriptors("anon_inode:[eventfd]") == 0);
            // Before it fails, so that its message is printed as ever.
            drop(panic::take_hook());
            assert_eq!(panics.load(Ordering::Relaxed), 0);
        },
    );
}

/// How many descriptors of this process lead there.
fn open_descriptors(place: &str) -> usize {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap();
    let places = descriptors.filter_map(|it| fs::read_link(it.ok()?.path()).ok());
    places.filter(|it| it.as_os_str() == place).count()
}

#[track_caller]
fn wait_until(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < SOON, "it never is");
        thread::sleep(Duration::from_millis(2));
    }
}
