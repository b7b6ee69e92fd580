//! Changes of files that are watched: one swap each, and none for what is no change.
//!
//! That something was *not* swapped in is shown by the generation that the next change gets. Before that, the
//! watch has read the file, which the system tells the test ([`Reads`]): it has had the choice.

mod following;
mod limits;
mod retrying;
mod watched;

use std::{
    fs::{self, File, FileTimes, OpenOptions},
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    thread,
    time::{Duration, SystemTime},
};

use minisign::KeyPair;

use self::watched::{LONG, NEVER, Reads, Watched, put, settings};
use hotswap_core::EventKind;

use crate::{
    fixtures::{build_of, plugin, trust, trust_with},
    marks::nodelete,
};

/// Like [`Watched::new`], for changes that do not come as a whole.
fn patient() -> Watched {
    let arrange = |folder: &std::path::Path| put(&folder.join("plugin.so"), "build_1");
    let mut it = Watched::unwatched("plugin.so", &trust(), |_| {}, arrange);
    it.watch(settings(LONG, NEVER));
    it
}

#[test]
fn a_file_that_takes_the_place_of_another_is_swapped_in() {
    let it = Watched::new();
    for (name, build) in [("build_2", 2), ("build_1", 1), ("suffix_field", 3)] {
        it.put("plugin.so", name);
        it.accepts(build);
    }
}

#[test]
fn a_change_before_watching_begins_is_not_missed() {
    let arrange = |folder: &std::path::Path| put(&folder.join("plugin.so"), "build_1");
    let mut it = Watched::unwatched("plugin.so", &trust(), |_| {}, arrange);
    it.put("plugin.so", "build_2");
    it.watch(settings(Duration::from_millis(20), NEVER));
    it.accepts(2);
}

#[test]
fn a_file_that_is_written_in_place_is_swapped_in_once_when_it_is_whole() {
    let it = patient();
    let bytes = fs::read(plugin("build_2")).unwrap();
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(it.at("plugin.so"))
        .unwrap();
    for part in bytes.chunks(bytes.len() / 8) {
        file.write_all(part).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    drop(file);
    it.accepts(2);
    it.put("plugin.so", "suffix_field");
    it.accepts(3);
}

#[test]
fn a_file_that_is_removed_and_linked_again_is_swapped_in_once() {
    // As cargo does it, with the file itself somewhere else.
    let it = patient();
    fs::copy(plugin("build_2"), it.at("deps.so")).unwrap();
    fs::remove_file(it.at("plugin.so")).unwrap();
    fs::hard_link(it.at("deps.so"), it.at("plugin.so")).unwrap();
    it.accepts(2);
}

#[test]
fn a_file_that_is_installed_is_swapped_in_once() {
    let it = patient();
    let bytes = fs::read(plugin("build_2")).unwrap();
    fs::remove_file(it.at("plugin.so")).unwrap();
    let mut file = File::create_new(it.at("plugin.so")).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o600))
        .unwrap();
    file.write_all(&bytes).unwrap();
    drop(file);
    fs::set_permissions(it.at("plugin.so"), fs::Permissions::from_mode(0o755)).unwrap();
    it.accepts(2);
}

#[test]
fn a_file_that_comes_and_goes_is_waited_for() {
    let it = Watched::new();
    let reads = Reads::of(it.folder.path(), "plugin.so");
    for (name, build) in [("build_2", 2), ("build_1", 1)] {
        for _ in 0..3 {
            fs::rename(it.at("plugin.so"), it.at("away.so")).unwrap();
            // The same file again is looked at, and is no change.
            reads.after(|| fs::rename(it.at("away.so"), it.at("plugin.so")).unwrap());
        }
        fs::remove_file(it.at("plugin.so")).unwrap();
        it.put("plugin.so", name);
        it.accepts(build);
    }
}

#[test]
fn a_link_to_another_file_is_a_change() {
    let it = Watched::arranged("current.so", |folder| {
        put(&folder.join("v1.so"), "build_1");
        put(&folder.join("v2.so"), "build_2");
        symlink("v1.so", folder.join("current.so")).unwrap();
    });
    it.link("v2.so", "current.so");
    it.accepts(2);
    // The file behind it is watched, too.
    it.put("v2.so", "suffix_field");
    it.accepts(3);
    it.link("v1.so", "current.so");
    it.accepts(1);
    // To nowhere, until there is something.
    it.link("v3.so", "current.so");
    it.put("v3.so", "build_2");
    it.accepts(2);
}

#[test]
fn a_link_to_another_folder_is_a_change() {
    let it = Watched::arranged("apps/current/lib/plugin.so", |folder| {
        for (version, name) in [("v1", "build_1"), ("v2", "build_2")] {
            let lib = folder.join(version).join("lib");
            fs::create_dir_all(&lib).unwrap();
            put(&lib.join("plugin.so"), name);
        }
        fs::create_dir(folder.join("apps")).unwrap();
        symlink("../v1", folder.join("apps/current")).unwrap();
    });
    it.link("../v2", "apps/current");
    it.accepts(2);
    it.put("v2/lib/plugin.so", "suffix_field");
    it.accepts(3);
    // What the path does not lead through any more does not count.
    it.put("v1/lib/plugin.so", "build_2");
    it.put("v2/lib/plugin.so", "build_1");
    it.accepts(1);
    // The whole version is replaced under its name.
    fs::create_dir_all(it.at("v3/lib")).unwrap();
    it.put("v3/lib/plugin.so", "build_2");
    fs::rename(it.at("v2"), it.at("old")).unwrap();
    fs::rename(it.at("v3"), it.at("v2")).unwrap();
    it.accepts(2);
}

/// `plugin.so -> ..data/plugin.so`, `..data -> ..2026_1`, as kubelet writes and replaces it.
#[test]
fn a_kubernetes_volume_is_a_change_when_its_data_is_replaced() {
    let version = |folder: &std::path::Path, number: u32, name: &str| {
        let data = format!("..2026_{number}");
        fs::create_dir(folder.join(&data)).unwrap();
        fs::copy(plugin(name), folder.join(&data).join("plugin.so")).unwrap();
        symlink(data, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    let it = Watched::arranged("plugin.so", |folder| {
        version(folder, 1, "build_1");
        symlink("..data/plugin.so", folder.join("plugin.so")).unwrap();
    });
    for (number, name, build) in [(2, "build_2", 2), (3, "suffix_field", 3), (4, "build_1", 1)] {
        version(it.folder.path(), number, name);
        fs::remove_dir_all(it.at(&format!("..2026_{}", number - 1))).unwrap();
        it.accepts(build);
    }
}

#[test]
fn a_folder_that_was_away_is_watched_as_before() {
    let it = Watched::arranged("a/b/c/plugin.so", |folder| {
        fs::create_dir_all(folder.join("a/b/c")).unwrap();
        put(&folder.join("a/b/c/plugin.so"), "build_1");
    });
    let reads = Reads::of(&it.at("a/b/c"), "plugin.so");
    for (name, build) in [("build_2", 2), ("build_1", 1)] {
        fs::rename(it.at("a"), it.at("away")).unwrap();
        reads.after(|| fs::rename(it.at("away"), it.at("a")).unwrap());
        // The very same folders, of which one was moved: notices of all of them come again.
        it.put("a/b/c/plugin.so", name);
        it.accepts(build);
    }
    fs::remove_dir_all(it.at("a")).unwrap();
    fs::create_dir_all(it.at("a/b/c")).unwrap();
    it.put("a/b/c/plugin.so", "build_2");
    it.accepts(2);
}

#[test]
fn unchanged_bytes_are_not_swapped_in_again() {
    let it = Watched::new();
    let reads = Reads::of(it.folder.path(), "plugin.so");
    let touch = || {
        let file = OpenOptions::new().write(true).open(it.at("plugin.so"));
        let now = FileTimes::new().set_modified(SystemTime::now());
        file.unwrap().set_times(now).unwrap();
    };
    for (name, build) in [("build_2", 2), ("build_1", 1), ("build_2", 2)] {
        reads.after(touch);
        let same = ["build_1", "build_2"][it.it.with(|it| it.build_a()()) as usize - 1];
        reads.after(|| it.put("plugin.so", same));
        it.put("plugin.so", name);
        it.accepts(build);
    }
}

#[test]
fn a_refused_change_is_reported_once_and_watching_goes_on() {
    let it = Watched::new();
    let reads = Reads::of(it.folder.path(), "plugin.so");
    let bad = |text: &str| {
        fs::write(it.at("bad"), text).unwrap();
        fs::rename(it.at("bad"), it.at("plugin.so")).unwrap();
    };
    let (text, empty) = (
        "inspect: not a shared object: plain text",
        "inspect: not a shared object: the file is empty",
    );
    bad("Hello");
    assert_eq!(it.refuses(), text);
    // The same bytes again.
    reads.after(|| bad("Hello"));
    // Other ones.
    bad("");
    assert_eq!(it.refuses(), empty);
    // What is live is no change, but afterwards the refused bytes are one again.
    reads.after(|| it.put("plugin.so", "build_1"));
    bad("");
    assert_eq!(it.refuses(), empty);
    it.put("plugin.so", "build_2");
    it.accepts(2);
}

/// What is known of the one that is live are the bytes of its file, and not those of its copy.
#[test]
fn a_file_whose_copy_is_changed_is_no_change_of_itself() {
    let marked = nodelete("constructs_unloadable");
    let put = |folder: &std::path::Path| {
        fs::copy(&marked, folder.join("plugin.new")).unwrap();
        fs::rename(folder.join("plugin.new"), folder.join("plugin.so")).unwrap();
    };
    let mut it = Watched::of_any_build("plugin.so", &trust(), |_| {}, put);
    it.watch(settings(Duration::from_millis(20), NEVER));
    let reads = Reads::of(it.folder.path(), "plugin.so");
    reads.after(|| put(it.folder.path()));
    it.put("plugin.so", "build_2");
    it.accepts(2);
}

#[test]
fn what_is_not_refused_for_its_bytes_is_tried_again_when_it_was_mended() {
    let pair = KeyPair::generate_unencrypted_keypair().unwrap();
    let trust = trust_with(|policy| {
        policy.any_owner = true;
        policy.public_key = Some(pair.pk.to_base64().parse().unwrap());
    });
    let sign = |path: std::path::PathBuf| {
        let bytes = fs::read(&path).unwrap();
        let signature = minisign::sign(Some(&pair.pk), &pair.sk, &bytes[..], None, None).unwrap();
        let new = path.with_extension("sig");
        fs::write(&new, signature.into_string()).unwrap();
        fs::rename(new, path.with_extension("so.minisig")).unwrap();
    };
    let mut it = Watched::unwatched(
        "plugin.so",
        &trust,
        |_| {},
        |folder| {
            put(&folder.join("plugin.so"), "build_1");
            sign(folder.join("plugin.so"));
        },
    );
    it.watch(settings(Duration::from_millis(20), NEVER));
    it.put("plugin.so", "build_2");
    assert!(it.refuses().starts_with("trust: its signature "));
    sign(it.at("plugin.so"));
    it.accepts(2);
}

#[test]
fn many_changes_in_quick_succession_end_at_the_last() {
    let it = Watched::new();
    for _ in 0..50 {
        it.put("plugin.so", "build_2");
        it.put("plugin.so", "build_1");
    }
    it.put("plugin.so", "suffix_field");
    while build_of(&it.it) != 3 {
        let event = it.next();
        let is_accepted = matches!(event.kind, EventKind::Accepted { .. });
        assert!(is_accepted, "{event}");
    }
}
