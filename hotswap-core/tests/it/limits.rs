//! Limits of the system, and files that change: an error each, never a death.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use hotswap_core::{Hotswap, Stage};
use hotswap_fixtures::FixtureRef;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    alone::{alone, alone_with},
    fixtures::{StopAtEnd, build_of, load, plugin, refused, trust, unloaded},
    process::{open_descriptors, status_bytes},
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
            let it = load("build_1");
            let used = open_descriptors() as u64;
            // From none at all to enough for everything.
            let (mut accepted, mut refusals) = (0, 0);
            for descriptors in 0..used + 8 {
                let before = limit(Resource::Nofile, descriptors);
                match it.swap(plugin("build_2")) {
                    Ok(swapped) => {
                        setrlimit(Resource::Nofile, before).unwrap();
                        unloaded(&it, swapped.retired);
                        it.swap(plugin("build_1")).unwrap();
                        accepted += 1;
                    }
                    Err(error) => {
                        setrlimit(Resource::Nofile, before).unwrap();
                        assert!(error.reason().contains("Too many open files"), "{error}");
                        refusals += 1;
                    }
                }
                assert_eq!(build_of(&it), 1);
            }
            assert!(
                accepted > 0 && refusals > 2,
                "{accepted} accepted, {refusals} refused"
            );
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
                accepted > 0 && refusals.len() > 1,
                "{accepted}, {refusals:?}"
            );
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
