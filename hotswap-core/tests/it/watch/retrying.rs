//! What is refused is tried again, if the reason may pass.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File, FileTimes, OpenOptions, Permissions},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use hotswap_core::{Settings, services::ServiceSettings, watch::WatchSettings};
use hotswap_fixtures::FixtureRef;

use super::watched::{NEVER, Reads, Watched, put, settings};
use crate::{
    alone::{alone, alone_with},
    fixtures::{plugin, trust, trust_with},
    services::Files,
};

const SHORT: Duration = Duration::from_millis(20);

/// What may pass is tried again soon, and again.
fn impatient() -> WatchSettings {
    let mut settings = settings(SHORT, NEVER);
    settings.retry_after = Duration::from_millis(1);
    settings.retry_after_max = SHORT;
    settings
}

fn plugin_so(folder: &Path) {
    put(&folder.join("plugin.so"), "build_1");
}

fn watched(settings: WatchSettings, change: impl FnOnce(&mut Settings<FixtureRef>)) -> Watched {
    let mut it = Watched::unwatched("plugin.so", &trust(), change, plugin_so);
    it.watch(settings);
    it
}

/// The probe refuses all other builds than the first until it is told to take them.
fn with_probe(settings: WatchSettings) -> (Watched, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let is_open = Arc::clone(&open);
    let it = watched(settings, |settings| {
        settings.probe = Some(Arc::new(move |candidate, _| {
            let is_taken = candidate.build_a()() == 1 || is_open.load(SeqCst);
            is_taken.then_some(()).ok_or_else(|| "not yet".to_owned())
        }));
    });
    (it, open)
}

/// Returns when a file of the same settings was tried so often that any other had its turn.
fn others_are_tried_again() {
    let (other, _) = with_probe(impatient());
    other.put("plugin.so", "build_2");
    for _ in 0..10 {
        assert_eq!(other.refuses(), "probe: not yet");
    }
}

#[test]
fn what_a_probe_refuses_is_tried_again() {
    let (it, open) = with_probe(impatient());
    it.put("plugin.so", "build_2");
    for _ in 0..3 {
        assert_eq!(it.refuses(), "probe: not yet");
    }
    open.store(true, SeqCst);
    it.accepts_in_the_end(2);
    // That was it.
    it.put("plugin.so", "suffix_field");
    it.accepts(3);
}

#[test]
fn what_is_touched_or_moved_in_again_is_tried_again_at_once() {
    let touch = |it: &Watched| {
        let file = OpenOptions::new().write(true).open(it.at("plugin.so"));
        let now = FileTimes::new().set_modified(SystemTime::now());
        file.unwrap().set_times(now).unwrap();
    };
    let move_in = |it: &Watched| it.put("plugin.so", "build_2");
    let link = |it: &Watched| {
        if !it.at("v2.so").exists() {
            fs::rename(it.at("plugin.so"), it.at("v2.so")).unwrap();
        }
        it.link("v2.so", "plugin.so");
    };
    for change in [&touch as &dyn Fn(&Watched), &move_in, &link] {
        let (it, open) = with_probe(settings(SHORT, NEVER));
        it.put("plugin.so", "build_2");
        assert_eq!(it.refuses(), "probe: not yet");
        change(&it);
        assert_eq!(it.refuses(), "probe: not yet");
        open.store(true, SeqCst);
        change(&it);
        it.accepts(2);
    }
}

#[test]
fn what_is_wrong_with_the_bytes_is_not_tried_again() {
    let it = watched(impatient(), |_| {});
    let reads = Reads::of(it.folder.path(), "plugin.so");
    let text = it.at("text");
    fs::write(&text, "Hello").unwrap();
    let candidates = [
        ("inspect: ", text),
        ("version: ", plugin("wrong_version")),
        ("layout: ", plugin("removed_field")),
    ];
    for (index, (stage, candidate)) in candidates.iter().enumerate() {
        let move_in = || {
            fs::copy(candidate, it.at("new")).unwrap();
            fs::rename(it.at("new"), it.at("plugin.so")).unwrap();
        };
        move_in();
        let reason = it.refuses();
        assert!(reason.starts_with(stage), "{reason}");
        others_are_tried_again();
        reads.after(move_in);
        others_are_tried_again();
        assert_eq!(it.it.refused().len(), index + 1);
    }
    it.put("plugin.so", "build_2");
    it.accepts(2);
}

/// Moves in a plugin that needs this library in place of the one that it was linked with, which it gives.
fn put_needing(it: &Watched, library: &Path) -> PathBuf {
    let mut bytes = fs::read(plugin("needs_calls_later")).unwrap();
    let end = b"/libcalls_later.so\0";
    let place = bytes.windows(end.len()).position(|it| it == end).unwrap();
    let begin = 1 + bytes[..place].iter().rposition(|it| *it == 0).unwrap();
    let room = &mut bytes[begin..place + end.len()];
    let linked = OsStr::from_bytes(&room[..room.len() - 1]).into();
    let name = library.as_os_str().as_bytes();
    assert!(name.len() < room.len(), "no room for {library:?}");
    room.fill(0);
    room[..name.len()].copy_from_slice(name);
    fs::write(it.at("new"), bytes).unwrap();
    fs::rename(it.at("new"), it.at("plugin.so")).unwrap();
    linked
}

#[test]
fn a_library_that_is_missing_is_looked_for_again() {
    let it = watched(impatient(), |_| {});
    let library = it.at("libcalls_later.so");
    let linked = put_needing(&it, &library);
    for _ in 0..3 {
        let reason = it.refuses();
        assert!(reason.contains("libcalls_later.so"), "{reason}");
    }
    fs::copy(linked, it.at("new")).unwrap();
    fs::rename(it.at("new"), library).unwrap();
    it.accepts_in_the_end(29);
}

#[test]
fn a_library_that_may_not_be_loaded_is_looked_at_again() {
    // So that no group can write to what the test makes, whatever the user who runs it prefers.
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    let mut it = Watched::unwatched("plugin.so", &trust_with(|_| {}), |_| {}, plugin_so);
    it.watch(impatient());
    let library = it.at("libcalls_later.so");
    let linked = put_needing(&it, &library);
    fs::copy(linked, it.at("new")).unwrap();
    fs::set_permissions(it.at("new"), Permissions::from_mode(0o646)).unwrap();
    fs::rename(it.at("new"), &library).unwrap();
    while !it.refuses().starts_with("trust: needs ") {}
    fs::set_permissions(&library, Permissions::from_mode(0o644)).unwrap();
    it.accepts_in_the_end(29);
}

#[test]
fn a_constructor_that_failed_is_run_again() {
    const LICENCE: &str = "HOTSWAP_TEST_LICENCE";
    let folder = tempfile::tempdir().unwrap();
    let licence = folder.path().join("licence");
    alone_with(
        "watch::retrying::a_constructor_that_failed_is_run_again",
        &[(LICENCE, licence.to_str().unwrap())],
        || {
            let it = watched(impatient(), |_| {});
            it.put("plugin.so", "constructor_needs_a_licence");
            for _ in 0..3 {
                let reason = it.refuses();
                let begin = "root module: its constructor failed: ";
                assert!(reason.starts_with(begin), "{reason}");
            }
            File::create(env::var_os(LICENCE).unwrap()).unwrap();
            it.accepts_in_the_end(33);
        },
    );
}

#[test]
fn an_update_that_failed_is_run_again() {
    let files = Files::new();
    let services = |settings: &mut Settings<FixtureRef>| {
        settings.services = Some(ServiceSettings::default());
    };
    let mut it = Watched::of_any_build("plugin.so", &trust(), services, |folder| {
        fs::rename(files.with("closed"), folder.join("plugin.so")).unwrap();
    });
    it.watch(impatient());
    fs::rename(files.with("gated"), it.at("plugin.so")).unwrap();
    for _ in 0..3 {
        assert_eq!(it.refuses(), "update: the gate is closed");
    }
    let open = |gate: &AtomicBool| gate.store(true, SeqCst);
    it.it.with_ref("gate", open).unwrap().unwrap();
    it.accepts_in_the_end(20);
}

#[test]
fn when_too_much_is_retained_room_is_waited_for() {
    alone(
        "watch::retrying::when_too_much_is_retained_room_is_waited_for",
        || {
            let it = watched(impatient(), |settings| {
                settings.limits.retired_images_max = 1
            });
            let lease = it.it.lease();
            it.put("plugin.so", "build_2");
            it.accepts(2);
            it.put("plugin.so", "suffix_field");
            for _ in 0..3 {
                let reason = it.refuses();
                assert!(reason.starts_with("host: 1 retired plugin"), "{reason}");
            }
            drop(lease);
            it.accepts_in_the_end(3);
        },
    );
}

/// Each attempt leaves an image that stays.
#[test]
fn attempts_do_not_use_up_what_may_be_retained() {
    alone(
        "watch::retrying::attempts_do_not_use_up_what_may_be_retained",
        || {
            let it = watched(impatient(), |settings| {
                settings.limits.retired_images_max = 6;
                settings.probe = Some(Arc::new(|candidate, _| match candidate.build_a()() {
                    11 => Err("never".to_owned()),
                    _ => Ok(()),
                }));
            });
            it.put("plugin.so", "constructs_plain");
            for _ in 0..3 {
                assert_eq!(it.refuses(), "probe: never");
            }
            others_are_tried_again();
            assert_eq!(it.it.refused().len(), 3);
            // Whoever touches it knows why.
            it.put("plugin.so", "constructs_plain");
            assert_eq!(it.refuses(), "probe: never");
            it.put("plugin.so", "build_2");
            it.accepts(2);
        },
    );
}
