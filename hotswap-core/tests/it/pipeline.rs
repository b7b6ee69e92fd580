//! The pipeline of a candidate, and every place where it ends.

use std::{
    error::Error as _,
    fs,
    io::Write as _,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use abi_stable::library::ROOT_MODULE_LOADER_NAME;
use hotswap_core::{ErrorKind, EventKind, Hotswap, Stage, State};
use hotswap_fixtures::FixtureRef;

use crate::{
    alone::alone,
    fixtures::{build_of, load, load_with, plugin, refused, trust, trust_with, unloaded, until},
    process::status_bytes,
};

#[test]
fn a_plugin_is_loaded_swapped_and_unloaded() {
    let it = load("build_1");
    assert_eq!(build_of(&it), 1);
    let swapped = it.swap(plugin("build_2")).unwrap();
    assert_eq!((swapped.generation, swapped.retired), (2, 1));
    assert_eq!(build_of(&it), 2);
    unloaded(&it, 1);
    let states: Vec<_> = it
        .generations()
        .into_iter()
        .map(|it| (it.number, it.state))
        .collect();
    assert_eq!(states, [(1, State::Unloaded), (2, State::Live)]);

    let events: Vec<_> = it
        .events()
        .try_iter()
        .map(|event| event.to_string())
        .collect();
    assert_eq!(events.len(), 3, "{events:?}");
    assert!(
        events[0].starts_with("accepted generation 1: /"),
        "{events:?}"
    );
    assert!(
        events[1].starts_with("accepted generation 2: /"),
        "{events:?}"
    );
    assert!(
        events[2].starts_with("unloaded generation 1 after "),
        "{events:?}"
    );
}

#[test]
fn the_same_path_again_is_a_new_generation_with_the_new_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libplugin.so");
    fs::copy(plugin("build_1"), &path).unwrap();
    let it: Hotswap<FixtureRef> = Hotswap::load(&path, &trust()).unwrap();
    // In place, by the same inode, which kills a process that has mapped the file itself.
    fs::write(&path, fs::read(plugin("build_2")).unwrap()).unwrap();
    assert_eq!(build_of(&it), 1);
    assert_eq!(it.swap(&path).unwrap().generation, 2);
    assert_eq!(build_of(&it), 2);
    // And the same bytes again.
    assert_eq!(it.swap(&path).unwrap().generation, 3);
    assert_eq!(build_of(&it), 2);
    fs::remove_file(&path).unwrap();
    assert_eq!(build_of(&it), 2);
    unloaded(&it, 1);
    unloaded(&it, 2);
}

#[test]
fn the_first_plugin_can_be_refused_too() {
    let error = Hotswap::<FixtureRef>::load("/no/such/plugin.so", &trust()).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"cannot load "/no/such/plugin.so": open: no such file"#
    );
    assert_eq!(error.stage(), Stage::Open);
    assert!(matches!(
        error.kind(),
        ErrorKind::NotFound { is_link: false, .. }
    ));
}

#[test]
fn a_suffix_field_that_the_host_does_not_know_is_accepted() {
    let it = load("build_1");
    it.swap(plugin("suffix_field")).unwrap();
    assert_eq!(build_of(&it), 3);
    it.swap(plugin("build_1")).unwrap();
    assert_eq!(build_of(&it), 1);
}

#[test]
fn a_removed_field_is_refused() {
    let (error, reason) = refused(&load("build_1"), plugin("removed_field"));
    assert_eq!(
        reason,
        "layout: `Fixture` lacks the field `text`: expected `build_a`, `build_b`, `text`, found `build_a`, `build_b`"
    );
    assert!(
        error.source().unwrap().to_string().lines().count() > 20,
        "the whole report"
    );
}

#[test]
fn a_changed_type_is_refused() {
    let (_, reason) = refused(&load("build_1"), plugin("changed_type"));
    assert_eq!(
        reason,
        "layout: field `text`: expected fn(u64) -> RResult, found fn(u32) -> RResult"
    );
}

#[test]
fn another_version_is_refused() {
    let (_, reason) = refused(&load("build_1"), plugin("wrong_version"));
    assert_eq!(
        reason,
        "version: the interface hotswap-fixtures: expected 0.1.x, found 1.2.0"
    );
}

#[test]
fn a_constructor_that_fails_refuses() {
    let (_, reason) = refused(&load("build_1"), plugin("failing_constructor"));
    assert_eq!(
        reason,
        "root module: its constructor failed: no licence found"
    );
}

#[test]
fn a_constructor_that_panics_refuses() {
    let (_, reason) = refused(&load("build_1"), plugin("panicking_constructor"));
    assert_eq!(reason, "root module: its constructor panicked");
}

#[test]
fn something_else_under_the_right_name_is_refused() {
    let (_, reason) = refused(&load("build_1"), plugin("not_abi_stable"));
    assert_eq!(reason, "header: its root module is not an abi_stable one");
}

#[test]
fn a_library_that_exports_no_root_module_is_refused() {
    let (_, reason) = refused(&load("build_1"), plugin("missing_export"));
    assert_eq!(
        reason,
        "inspect: no plugin: it exports no root module (is `#[plugin]` or `#[export_root_module]` missing?)"
    );
}

#[test]
fn a_library_that_only_imports_a_root_module_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (source, path) = (folder.path().join("it.c"), folder.path().join("it.so"));
    let code = format!(
        "extern int {ROOT_MODULE_LOADER_NAME}; int *f(void) {{ return &{ROOT_MODULE_LOADER_NAME}; }}"
    );
    fs::write(&source, code).unwrap();
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-o"])
        .arg(&path)
        .arg(&source);
    assert!(compiler.status().expect("cc runs").success());
    let (_, reason) = refused(&load("build_1"), &path);
    assert_eq!(
        reason,
        "inspect: no plugin: it exports no root module: it only imports that symbol"
    );
}

#[test]
fn a_plugin_of_a_trait_is_refused() {
    let (_, reason) = refused(&load("build_1"), plugin("rules_1"));
    assert_eq!(
        reason,
        "layout: another kind of plugin: expected one made with a root module of its own, found one made with `#[plugin]`"
    );
}

#[test]
fn what_is_no_library_is_refused() {
    let it = load("build_1");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    fs::write(&path, "Hello").unwrap();
    let (error, _) = refused(&it, &path);
    assert_eq!(error.stage(), Stage::Inspect);
    fs::write(&path, "").unwrap();
    let (error, _) = refused(&it, &path);
    assert_eq!(error.stage(), Stage::Inspect);
}

#[test]
fn what_is_no_path_to_a_file_is_refused() {
    let it = load("build_1");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RWXU).unwrap();
    std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
    std::os::unix::fs::symlink("circle", at("circle")).unwrap();
    let check = |path: &Path, expected: &str| {
        let (error, reason) = refused(&it, path);
        assert_eq!(reason, format!("open: {expected}"));
        assert_eq!(error.stage(), Stage::Open);
    };
    check(Path::new(""), "the path is empty");
    check(
        Path::new("plugin.so"),
        "a bare name; write `./` before it for a file in the current folder",
    );
    check(
        Path::new(std::ffi::OsStr::from_bytes(b"/tmp/a\0b.so")),
        "the path contains a NUL byte",
    );
    check(folder.path(), "a directory, not a file");
    check(&at("none"), "no such file");
    check(&at("dangling"), "a symbolic link to nowhere");
    check(&at("circle"), "the symbolic links lead in a circle");
    check(&at("fifo"), "a FIFO, not a file");
    check(&at("socket"), "a socket, not a file");
    check(Path::new("/dev/zero"), "a device, not a file");
}

#[test]
fn what_may_not_be_read_is_refused() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let it = load("build_1");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.so");
    fs::copy(plugin("build_2"), &path).unwrap();
    // Root may read everything; a thread of root's that has given that up may not.
    let may_not_read = || {
        let mut mine = capabilities(None).unwrap();
        let above_modes = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        mine.effective.remove(above_modes);
        set_capabilities(None, mine).unwrap();
        let (error, reason) = refused(&it, &path);
        assert_eq!(reason, "open: permission denied");
        assert_eq!(error.stage(), Stage::Open);
    };
    for (it, mode) in [(&*path, 0o000), (folder.path(), 0o600)] {
        let before = fs::metadata(it).unwrap().permissions();
        fs::set_permissions(it, fs::Permissions::from_mode(mode)).unwrap();
        std::thread::scope(|scope| scope.spawn(may_not_read).join()).unwrap();
        fs::set_permissions(it, before).unwrap();
    }
    it.swap(&path).unwrap();
    assert_eq!(build_of(&it), 2);
}

#[test]
fn a_file_that_is_too_large_is_refused_before_it_is_read() {
    let trust = trust_with(|policy| {
        policy.any_owner = true;
        policy.file_bytes_max = 1000;
    });
    let error = Hotswap::<FixtureRef>::load(plugin("build_1"), &trust).unwrap_err();
    let size = fs::metadata(plugin("build_1")).unwrap().len();
    assert_eq!(
        error.reason(),
        format!("open: {size} bytes are more than the 1000 that are accepted")
    );
}

/// A log or a core dump whose path was given by mistake may be larger than the memory that is to be had.
#[test]
fn a_large_file_of_another_kind_is_not_read_whole() {
    alone(
        "pipeline::a_large_file_of_another_kind_is_not_read_whole",
        || {
            const LARGE: u64 = 1 << 30;
            let mut core_dump = fs::read(plugin("build_1")).unwrap();
            // `e_type`.
            core_dump[16] = 4;
            core_dump.truncate(4096);
            let before = status_bytes("VmHWM:");
            for (beginning, reason) in [
                (
                    &b"#!/bin/sh\n"[..],
                    "not a shared object: a script for /bin/sh",
                ),
                (&core_dump, "a core dump"),
            ] {
                let mut file = tempfile::NamedTempFile::new().unwrap();
                file.write_all(beginning).unwrap();
                file.as_file().set_len(LARGE).unwrap();
                let path = file.into_temp_path();
                let error = Hotswap::<FixtureRef>::load(&path, &trust()).unwrap_err();
                assert_eq!(error.stage(), Stage::Inspect);
                assert!(error.reason().contains(reason), "{error}");
            }
            assert!(status_bytes("VmHWM:") - before < LARGE / 16);
        },
    );
}

#[test]
fn odd_names_load_and_are_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder
        .path()
        .join(std::ffi::OsStr::from_bytes(b"a\n\xff \"b.so"));
    fs::copy(plugin("build_2"), &path).unwrap();
    let it: Hotswap<FixtureRef> = Hotswap::load(&path, &trust()).unwrap();
    assert_eq!(build_of(&it), 2);
    let event = it.events().try_recv().unwrap();
    assert!(event.to_string().ends_with(r#"/a\n\xff \"b.so"#), "{event}");
    let EventKind::Accepted { path: given, .. } = event.kind else {
        panic!("not {event:?}")
    };
    assert_eq!(given, path);
}

#[test]
fn the_host_asks_a_candidate_before_it_is_published() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let it = load_with("build_1", |settings| {
        let asked = Arc::clone(&asked);
        settings.probe = Some(Arc::new(move |candidate, live| {
            let build = candidate.build_a()();
            asked
                .lock()
                .unwrap()
                .push((build, live.map(|live| live.build_a()())));
            match build {
                2 => Err("build 2 is\nnot wanted".to_owned()),
                3 => panic!("build {build} is not known"),
                _ => Ok(()),
            }
        }));
    });
    let (error, reason) = refused(&it, plugin("build_2"));
    assert_eq!(error.stage(), Stage::Probe);
    assert_eq!(reason, "probe: build 2 is not wanted");
    let ErrorKind::Probe { reason, .. } = error.kind() else {
        panic!("{:?}", error.kind())
    };
    assert_eq!(reason, "build 2 is\nnot wanted", "as the probe has said it");
    let (error, reason) = refused(&it, plugin("suffix_field"));
    assert_eq!(reason, "probe: the probe panicked: build 3 is not known");
    assert_eq!(error.kind().name(), "panicked");
    let swapped = it.swap(plugin("build_1")).unwrap();
    assert_eq!(swapped.generation, 2);
    let expected = [(1, None), (2, Some(1)), (3, Some(1)), (1, Some(1))];
    assert_eq!(*asked.lock().unwrap(), expected);
}

#[test]
fn a_set_is_swapped_as_a_whole_or_not_at_all() {
    crate::alone::alone(
        "pipeline::a_set_is_swapped_as_a_whole_or_not_at_all",
        || {
            let (first, second) = (load("build_1"), load("build_1"));
            let swap_both = |a: &str, b: &str| -> hotswap_core::Result<()> {
                let (a, b) = (first.prepare(plugin(a))?, second.prepare(plugin(b))?);
                assert_eq!(
                    (build_of(&first), build_of(&second)),
                    (1, 1),
                    "nothing is published yet"
                );
                assert_eq!(a.publish().generation, 2);
                assert_eq!(b.publish().generation, 2);
                Ok(())
            };
            let error = swap_both("build_2", "removed_field").unwrap_err();
            assert_eq!(error.stage(), Stage::Layout);
            assert!(matches!(
                error.kind(),
                ErrorKind::Layout { symbol: None, .. }
            ));
            assert_eq!((build_of(&first), build_of(&second)), (1, 1));
            assert_eq!(first.generations().len(), 1);
            // The one that was good has left again.
            until(|| crate::process::images().len() <= 2);
            swap_both("build_2", "suffix_field").unwrap();
            assert_eq!((build_of(&first), build_of(&second)), (2, 3));
        },
    );
}

/// abi_stable's own checked load crashes here: it keeps pointers into images that are gone.
#[test]
fn layouts_alternate() {
    let it = load("suffix_field");
    for _ in 0..5 {
        let swapped = it.swap(plugin("build_1")).unwrap();
        unloaded(&it, swapped.retired);
        assert_eq!(build_of(&it), 1);
        let swapped = it.swap(plugin("suffix_field")).unwrap();
        unloaded(&it, swapped.retired);
        assert_eq!(build_of(&it), 3);
    }
}

/// The same with every image at a place of its own, so that no stale pointer can be right by chance.
#[test]
fn layouts_alternate_at_different_addresses() {
    crate::alone::alone("pipeline::layouts_alternate_at_different_addresses", || {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let it = load("suffix_field");
        let mut seen = Vec::new();
        for round in 0..10 {
            let [image] = &crate::process::images()[..] else {
                panic!("one image is mapped")
            };
            let image = image.clone();
            seen.push(image.start);
            let next = if round % 2 == 0 {
                "build_1"
            } else {
                "suffix_field"
            };
            let swapped = it.swap(plugin(next)).unwrap();
            unloaded(&it, swapped.retired);
            // SAFETY: the range was the image's, which has left; NOREPLACE fails if anything is there.
            unsafe {
                let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE;
                mmap_anonymous(
                    image.start as *mut _,
                    image.len(),
                    ProtFlags::empty(),
                    flags,
                )
                .unwrap();
            }
            assert_eq!(build_of(&it), if round % 2 == 0 { 1 } else { 3 });
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 10, "an image was mapped where another had been");
    });
}
