//! Limits of the system, and files that change: an error each, never a death.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hotswap_core::{ErrorKind, Hotswap, Stage};
use hotswap_fixtures::FixtureRef;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    alone::{alone, alone_with},
    fixtures::{
        SOON, StopAtEnd, build_of, load, load_with, plugin, refused, trust, unloaded, until,
    },
    process::{deny_threads, images, open_descriptors, openers, status_bytes},
};

/// Sets a soft limit of this process, and gives the old one back to be set again.
fn limit(resource: Resource, to: u64) -> Rlimit {
    let before = getrlimit(resource);
    setrlimit(
        resource,
        Rlimit {
            current: Some(to),
            maximum: before.maximum,
        },
    )
    .unwrap();
    before
}

#[test]
fn a_limit_on_file_sizes_is_an_error_and_no_signal() {
    alone(
        "limits::a_limit_on_file_sizes_is_an_error_and_no_signal",
        || {
            let it = load("build_1");
            let before = limit(Resource::Fsize, 4096);
            let (error, reason) = refused(&it, plugin("build_2"));
            assert_eq!(error.stage(), Stage::Copy);
            assert_eq!(
                reason,
                "copy: larger than the limit on file sizes (ulimit -f)"
            );
            setrlimit(Resource::Fsize, before).unwrap();
            it.swap(plugin("build_2")).unwrap();
            assert_eq!(build_of(&it), 2);
        },
    );
}

#[test]
fn exhausted_descriptors_are_an_error_at_whatever_step_they_run_out() {
    alone(
        "limits::exhausted_descriptors_are_an_error_at_whatever_step_they_run_out",
        || {
            /// So many times in a row it is no accident that there are enough.
            const ENOUGH: usize = 5;
            let it = load("build_1");
            // How many are needed depends on how deep the path is.
            let most = open_descriptors() as u64 + 1000;
            let (mut accepted, mut refusals) = (0, 0);
            let mut limits = 0..most;
            while accepted < ENOUGH {
                let descriptors = limits.next().expect("enough for everything");
                let before = limit(Resource::Nofile, descriptors);
                let swapped = it.swap(plugin("build_2"));
                setrlimit(Resource::Nofile, before).unwrap();
                match swapped {
                    Ok(swapped) => {
                        unloaded(&it, swapped.retired);
                        unloaded(&it, it.swap(plugin("build_1")).unwrap().retired);
                        accepted += 1;
                    }
                    Err(error) => {
                        assert!(error.reason().contains("Too many open files"), "{error}");
                        refusals += 1;
                        accepted = 0;
                    }
                }
                assert_eq!(build_of(&it), 1);
            }
            assert!(refusals > 2, "{refusals}");
            it.swap(plugin("build_2")).unwrap();
            assert_eq!(build_of(&it), 2);
        },
    );
}

/// From no memory left to enough for everything, at steps that hit every allocation of some size.
#[test]
fn exhausted_memory_is_an_error_at_whatever_step_it_runs_out() {
    alone(
        "limits::exhausted_memory_is_an_error_at_whatever_step_it_runs_out",
        || {
            const STEP: u64 = 128 << 10;
            let it = load("build_1");
            // What is allocated once, is.
            unloaded(&it, it.swap(plugin("build_1")).unwrap().retired);
            let (mut accepted, mut refusals) = (0, Vec::new());
            for step in 0..200 {
                let before = limit(Resource::As, status_bytes("VmSize:") + step * STEP);
                let swapped = it.swap(plugin("build_2"));
                setrlimit(Resource::As, before).unwrap();
                match swapped {
                    Ok(swapped) => {
                        accepted += 1;
                        unloaded(&it, swapped.retired);
                        unloaded(&it, it.swap(plugin("build_1")).unwrap().retired);
                    }
                    Err(error) => refusals.push(error.reason()),
                }
                assert_eq!(build_of(&it), 1);
            }
            refusals.dedup();
            println!("{accepted} accepted; {refusals:#?}");
            assert!(
                accepted > 0 && !refusals.is_empty(),
                "{accepted}, {refusals:?}"
            );
        },
    );
}

/// The image has run code of the candidate by then: it has the thread of an earlier one.
#[test]
fn a_candidate_that_cannot_be_asked_for_lack_of_threads_leaves() {
    alone(
        "limits::a_candidate_that_cannot_be_asked_for_lack_of_threads_leaves",
        || {
            let name = "constructs_unloadable";
            let it = load_with(name, |settings| {
                settings.probe = Some(Arc::new(|_, _| Ok(())));
            });
            unloaded(&it, it.swap(plugin(name)).unwrap().retired);
            assert_eq!(
                openers().len(),
                2,
                "that of the live image, and a spare one"
            );
            deny_threads();
            let (error, _) = refused(&it, plugin(name));
            assert!(
                matches!(error.kind(), ErrorKind::NoThread { .. }),
                "{error}"
            );
            until(|| images().len() == 1);
        },
    );
}

/// All the memory mappings that the kernel allows, but for those that are given back.
struct Mappings {
    pages: *mut libc::c_void,
    /// How many pages are a mapping of their own, with one beside them.
    taken: usize,
}

impl Mappings {
    const PAGE: usize = 4096;

    fn take_all() -> Self {
        let max = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
        let pages = max.trim().parse::<usize>().unwrap() + 2;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let bytes = pages * Self::PAGE;
        // SAFETY: a new mapping, at no particular address.
        let pages = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(pages, libc::MAP_FAILED);
        let mut all = Self { pages, taken: 0 };
        while all.protect(all.taken, libc::PROT_READ) {
            all.taken += 1;
        }
        all
    }

    /// Gives two back. `false`: there are none.
    fn give_back(&mut self) -> bool {
        self.taken = self.taken.saturating_sub(1);
        self.taken > 0 && self.protect(self.taken, libc::PROT_NONE)
    }

    /// The page beside each has the other protection.
    fn protect(&self, index: usize, protection: libc::c_int) -> bool {
        let page = self.pages.wrapping_byte_add((2 * index + 1) * Self::PAGE);
        // SAFETY: within the mapping above, of which nothing is used.
        unsafe { libc::mprotect(page, Self::PAGE, protection) == 0 }
    }
}

#[test]
fn exhausted_mappings_are_an_error_however_many_are_left() {
    alone(
        "limits::exhausted_mappings_are_an_error_however_many_are_left",
        || {
            // The second has a hook, for which there is a thread when it leaves.
            for (name, build) in [("build_2", 2), ("unloadable_with_hook", 13)] {
                mappings_run_out(name, build);
            }
        },
    );
}

fn mappings_run_out(name: &str, build: u64) {
    let it = load("build_1");
    // What is allocated once, is.
    unloaded(&it, it.swap(plugin(name)).unwrap().retired);
    unloaded(&it, it.swap(plugin("build_1")).unwrap().retired);
    let (mut accepted, mut refusals) = (0, Vec::with_capacity(1000));
    let mut mappings = Mappings::take_all();
    while accepted < 20 {
        match it.swap(plugin(name)) {
            Ok(_) => {
                assert_eq!(build_of(&it), build);
                accepted += 1;
                // It needs as much as the other one.
                while it.swap(plugin("build_1")).is_err() {
                    assert!(mappings.give_back());
                }
            }
            Err(error) => refusals.push(error.reason()),
        }
        assert_eq!(build_of(&it), 1);
        assert!(mappings.give_back());
    }
    refusals.dedup();
    println!("{refusals:#?}");
    let first = "host: no thread can be started: 24 memory mappings cannot be made (vm.max_map_count): Cannot allocate \
                 memory (os error 12)";
    assert!(refusals.iter().any(|it| it == first), "{refusals:#?}");
    while mappings.give_back() {}
    assert!(it.shutdown(SOON).is_empty());
}

/// A copy of the plugin, in this folder, whose thread-locals take so many bytes.
fn with_thread_locals(folder: &Path, name: &str, bytes: u64) -> PathBuf {
    const PT_TLS: u32 = 7;
    let mut file = fs::read(plugin(name)).unwrap();
    let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let (headers, count) = (word(32) as usize, (word(56) & 0xffff) as usize);
    let mut headers = (0..count).map(|index| headers + index * 56);
    let header = headers.find(|&at| word(at) as u32 == PT_TLS).unwrap();
    file[header + 40..header + 48].copy_from_slice(&bytes.to_le_bytes());
    let copy = folder.join(bytes.to_string());
    fs::write(&copy, file).unwrap();
    copy
}

#[test]
fn thread_locals_that_find_no_room_are_an_error_and_no_end() {
    alone(
        "limits::thread_locals_that_find_no_room_are_an_error_and_no_end",
        || {
            const THREAD_LOCALS: u64 = 64 << 20;
            const STEP: u64 = 4 << 20;
            let it = load("build_1");
            unloaded(&it, it.swap(plugin("build_1")).unwrap().retired);
            let folder = tempfile::tempdir().unwrap();
            let with = |bytes| with_thread_locals(folder.path(), "thread_local_with_drop", bytes);
            let large = with(THREAD_LOCALS);
            let (mut accepted, mut refusals) = (0, Vec::new());
            for step in 0_u64.. {
                let before = limit(Resource::As, status_bytes("VmSize:") + step * STEP);
                let swapped = it.swap(&large);
                if swapped.is_ok() {
                    let says = || it.with(|it| it.text()(1).map(|it| it.to_string()).unwrap());
                    let said = thread::scope(|scope| scope.spawn(says).join().unwrap());
                    assert_eq!(said, "build 9 says 1");
                }
                setrlimit(Resource::As, before).unwrap();
                match swapped {
                    Ok(swapped) => {
                        accepted += 1;
                        unloaded(&it, swapped.retired);
                        unloaded(&it, it.swap(plugin("build_1")).unwrap().retired);
                    }
                    Err(error) => {
                        assert_eq!(error.stage(), Stage::Host);
                        refusals.push(error.reason());
                    }
                }
                if accepted == 5 {
                    break;
                }
            }
            assert!(
                refusals
                    .iter()
                    .any(|it| it.contains(" for its thread-locals on "))
            );
            refused(&it, with(1 << 60));
        },
    );
}

#[test]
fn temporary_folders_that_are_missing_or_read_only_do_no_harm() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    for path in ["/no/such/folder", "/proc", folder.path().to_str().unwrap()] {
        alone_with(
            "limits::temporary_folders_that_are_missing_or_read_only_do_no_harm",
            &[("TMPDIR", path)],
            || {
                let it = load("build_1");
                it.swap(plugin("build_2")).unwrap();
                assert_eq!(build_of(&it), 2);
            },
        );
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_open_for_writing_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.so");
    fs::copy(plugin("build_2"), &path).unwrap();
    let it = load("build_1");
    let writer = fs::File::options().write(true).open(&path).unwrap();
    let (error, reason) = refused(&it, &path);
    assert_eq!(error.stage(), Stage::Open);
    assert_eq!(
        reason,
        "open: the file is open for writing; it seems to be still being written"
    );
    drop(writer);
    it.swap(&path).unwrap();
    assert_eq!(build_of(&it), 2);
}

/// In place and by rename, while it is swapped in again and again.
#[test]
fn a_file_that_is_being_rewritten_is_loaded_whole_or_refused() {
    const TIME: Duration = Duration::from_secs(4);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.so");
    let builds = [plugin("build_1"), plugin("build_2")].map(|path| fs::read(path).unwrap());
    fs::write(&path, &builds[0]).unwrap();
    let it: Hotswap<FixtureRef> = Hotswap::load(&path, &trust()).unwrap();
    let stop = AtomicBool::new(false);
    let (mut accepted, mut refusals) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let bytes = &builds[round % 2];
                if round % 5 == 0 {
                    let other = folder.path().join("other");
                    fs::write(&other, bytes).unwrap();
                    fs::rename(&other, &path).unwrap();
                } else {
                    fs::write(&path, bytes).unwrap();
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        let _stop = StopAtEnd(&stop);
        let started = Instant::now();
        while started.elapsed() < TIME {
            match it.swap(&path) {
                Ok(_) => accepted += 1,
                Err(error) => {
                    assert!(
                        matches!(error.stage(), Stage::Open | Stage::Copy | Stage::Inspect),
                        "{error}"
                    );
                    refusals += 1;
                }
            }
            assert!([1, 2].contains(&build_of(&it)));
        }
    });
    println!("{accepted} accepted, {refusals} refused");
    assert!(accepted > 0);
}
