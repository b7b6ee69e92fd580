//! A host in which other code closes descriptors that are not its own.

use std::{
    fs::File,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::PathBuf,
};

use hotswap_core::loader::Loader;

use crate::{
    alone::alone,
    fixtures::{SOON, build_of, load, plugin, trust, unloaded},
    process::images,
};

/// Closes whatever is open but the standard streams, as daemons do.
fn close_all() {
    for number in 3..1024 as RawFd {
        // SAFETY: this process has only this test, which has nothing open at this moment; that the plugins' copies
        // are closed is what is tested.
        unsafe { libc::close(number) };
    }
}

/// Opens so many files, which get the lowest numbers that are free.
fn open(count: usize) -> Vec<(File, (u64, u64))> {
    let open = |_| {
        let file = tempfile::tempfile().unwrap();
        let is = file.metadata().unwrap();
        (file, (is.dev(), is.ino()))
    };
    (0..count).map(open).collect()
}

/// They lead where they led, and so were not closed by anybody. Closes them.
#[track_caller]
fn still_there(files: Vec<(File, (u64, u64))>) {
    for (file, was) in files {
        let is = file.metadata().expect("still open");
        assert_eq!((is.dev(), is.ino()), was, "{}", file.as_raw_fd());
    }
}

#[test]
fn no_old_image_is_given_for_a_new_copy() {
    alone("descriptors::no_old_image_is_given_for_a_new_copy", || {
        let paths: [PathBuf; 2] = [plugin("build_1"), plugin("build_2")];
        for opened in [0, 1, 2, 5, 20] {
            let it = load("build_1");
            for round in 0..6 {
                close_all();
                let files = open(opened);
                let next = (round + 1) % 2;
                let swapped = it.swap(&paths[next]).unwrap();
                assert_eq!(build_of(&it), next as u64 + 1, "{opened} {round}");
                let ended = it.wait(swapped.retired, SOON);
                assert!(ended.is_none_or(|state| state.has_ended()));
                assert_eq!(images().len(), 1);
                still_there(files);
            }
            assert!(it.shutdown(SOON).is_empty());
            assert_eq!(images(), []);
        }
    });
}

#[test]
fn a_copy_that_was_kept_is_loaded_again_or_nothing_is() {
    alone(
        "descriptors::a_copy_that_was_kept_is_loaded_again_or_nothing_is",
        || {
            let closed = "copy: its descriptor was closed by other code of this process";
            for opened in [0, 40] {
                let it = load("build_1");
                let retired = it.swap(plugin("build_2")).unwrap().retired;
                unloaded(&it, retired);
                close_all();
                let files = open(opened);
                assert_eq!(it.rollback().unwrap_err().reason(), closed);
                assert_eq!(build_of(&it), 2);
                still_there(files);
                // What is loaded from now on can be gone back to.
                it.swap(plugin("build_1")).unwrap();
                it.swap(plugin("build_2")).unwrap();
                let back = it.rollback().unwrap();
                assert_eq!(build_of(&it), 1);
                unloaded(&it, back.retired);
                assert!(it.shutdown(SOON).is_empty());
                assert_eq!(images(), []);
            }
        },
    );
}

/// The same for libraries of single functions, which are not kept.
#[test]
fn libraries_of_single_functions_are_told_apart_too() {
    alone(
        "descriptors::libraries_of_single_functions_are_told_apart_too",
        || {
            let loader = Loader::new(&trust()).unwrap();
            let mut all = Vec::new();
            for round in 0..6 {
                close_all();
                let name = ["functions_1", "functions_2"][round % 2];
                let library = loader.open(plugin(name)).unwrap();
                let exported: Vec<String> = library
                    .functions()
                    .iter()
                    .map(|it| it.to_string())
                    .collect();
                all.push((library, exported, name));
            }
            let one = &all[0].1;
            let two = &all[1].1;
            assert_ne!(one, two);
            for (library, exported, name) in &all {
                let expected = if *name == "functions_1" { one } else { two };
                assert_eq!(exported, expected);
                assert_eq!(library.functions().len(), exported.len());
            }
            assert_eq!(images().len(), all.len());
            let mine = open(40);
            drop(all);
            while !images().is_empty() {
                std::thread::yield_now();
            }
            still_there(mine);
        },
    );
}

/// A descriptor that a copy has lost and that somebody else has now is not closed when the copy goes.
#[test]
fn what_somebody_else_has_opened_is_not_closed() {
    alone(
        "descriptors::what_somebody_else_has_opened_is_not_closed",
        || {
            let it = load("build_1");
            close_all();
            let null = File::open("/dev/null").unwrap();
            // Every number that a copy may have had.
            let mine: Vec<OwnedFd> = (3..64)
                .filter(|number| *number != null.as_raw_fd())
                .map(|number| {
                    // SAFETY: a number that is not open, or the copy's of before, which nobody else knows of.
                    let result = unsafe { libc::dup2(null.as_raw_fd(), number) };
                    assert_eq!(result, number);
                    // SAFETY: open, and nobody else's.
                    unsafe { OwnedFd::from_raw_fd(number) }
                })
                .collect();
            it.swap(plugin("build_2")).unwrap();
            assert!(it.shutdown(SOON).is_empty());
            for descriptor in mine {
                let is = File::from(descriptor).metadata().expect("still open");
                assert_eq!(is.rdev(), null.metadata().unwrap().rdev());
            }
        },
    );
}
