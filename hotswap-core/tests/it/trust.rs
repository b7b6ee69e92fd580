//! Where a candidate may lie and whose it may be, by default and with each option: every refusal, and a twin
//! that is accepted.
//!
//! In the system's folder for temporary files, which belongs to root and is sticky. It must not be mounted
//! `noexec`.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, chown, lchown, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use hotswap_core::{EventKind, Hotswap, Stage, Trust};
use hotswap_fixtures::FixtureRef;
use rustix::fs::XattrFlags;
use tempfile::TempDir;

use crate::{
    alone::alone,
    fixtures::{StopAtEnd, build_of, plugin, trust_with, whole_reason},
};

/// A user and a group that are nobody's.
const STRANGER: u32 = 54_321;

/// A folder that only we can write to, with `plugin.so` in it.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        // So that no group can write to what the tests make, whatever the user who runs them prefers.
        rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
        let folder = tempfile::tempdir().unwrap();
        fs::copy(plugin("build_2"), folder.path().join("plugin.so")).unwrap();
        let place = Self(folder);
        place.chmod("plugin.so", 0o644);
        place
    }

    /// With no links in it.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    pub(crate) fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[track_caller]
pub(crate) fn accepted(path: impl AsRef<Path>, trust: &Trust) {
    let it: Hotswap<FixtureRef> = Hotswap::load(path, trust).unwrap();
    assert_eq!(build_of(&it), 2);
}

#[track_caller]
pub(crate) fn refused(path: impl AsRef<Path>, trust: &Trust, reason: &str) {
    let error = Hotswap::<FixtureRef>::load(path, trust).unwrap_err();
    assert_eq!(whole_reason(&error), format!("trust: {reason}"));
    assert_eq!(error.stage(), Stage::Trust);
}

/// Only root can give files away, and in a container only to users whom that knows. Where it cannot be done,
/// the table of rights in `stage::path_policy` has to do.
#[must_use]
fn gave_away(result: std::io::Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            let is_root = rustix::process::geteuid().is_root();
            let is_expected = !is_root || error.kind() == std::io::ErrorKind::InvalidInput;
            assert!(is_expected, "{error}");
            println!("not tested on a file: {error}");
            false
        }
    }
}

#[test]
fn by_default_files_of_our_own_are_accepted() {
    let place = Place::new();
    accepted(place.at("plugin.so"), &trust_with(|_| {}));
}

#[test]
fn a_file_that_anybody_can_write_is_refused_until_it_is_repaired() {
    let place = Place::new();
    let path = place.at("plugin.so");
    let it: Hotswap<FixtureRef> = Hotswap::load(&path, &trust_with(|_| {})).unwrap();
    place.chmod("plugin.so", 0o646);
    let error = it.swap(&path).unwrap_err();
    assert_eq!(
        whole_reason(&error),
        format!(
            "trust: {} is writable by everybody; `chmod o-w` it",
            path.display()
        )
    );
    assert_eq!(it.generations().len(), 1);
    place.chmod("plugin.so", 0o644);
    assert_eq!(it.swap(&path).unwrap().generation, 2);
}

#[test]
fn a_folder_that_anybody_can_write_is_refused_unless_it_is_sticky() {
    let place = Place::new();
    fs::create_dir(place.at("open")).unwrap();
    fs::create_dir(place.at("open/below")).unwrap();
    let path = place.at("open/below/plugin.so");
    fs::copy(place.at("plugin.so"), &path).unwrap();
    let trust = trust_with(|_| {});
    for (mode, is_open) in [(0o755, false), (0o777, true), (0o1777, false)] {
        place.chmod("open", mode);
        if is_open {
            let folder = place.at("open");
            let reason = format!(
                "{} is writable by everybody; `chmod o-w` it",
                folder.display()
            );
            refused(&path, &trust, &reason);
            accepted(&path, &trust_with(|policy| policy.any_owner = true));
        } else {
            accepted(&path, &trust);
        }
    }
}

#[test]
fn owners_are_looked_at() {
    let place = Place::new();
    fs::create_dir(place.at("d")).unwrap();
    fs::copy(place.at("plugin.so"), place.at("d/plugin.so")).unwrap();
    symlink("plugin.so", place.at("d/link")).unwrap();
    for given_away in ["d", "d/plugin.so", "d/link"] {
        let path = place.at(given_away);
        let owned_by = |uid| lchown(&path, Some(uid), None);
        if !gave_away(owned_by(STRANGER)) {
            return;
        }
        let reason = format!(
            "{} is owned by uid {STRANGER}, who is not trusted; `chown` it, or trust the owner \
             (Policy::trusted_uids)",
            path.display()
        );
        refused(place.at("d/link"), &trust_with(|_| {}), &reason);
        accepted(
            place.at("d/link"),
            &trust_with(|policy| policy.trusted_uids = vec![STRANGER]),
        );
        accepted(
            place.at("d/link"),
            &trust_with(|policy| policy.any_owner = true),
        );
        owned_by(0).unwrap();
    }
    accepted(place.at("d/link"), &trust_with(|_| {}));
}

#[test]
fn groups_are_looked_at() {
    let place = Place::new();
    let path = place.at("plugin.so");
    if !gave_away(chown(&path, None, Some(STRANGER))) {
        return;
    }
    accepted(&path, &trust_with(|_| {}));
    place.chmod("plugin.so", 0o664);
    let reason = format!(
        "{} is writable by group {STRANGER}; `chmod g-w` it, or trust the group (Policy::trusted_gids)",
        path.display()
    );
    refused(&path, &trust_with(|_| {}), &reason);
    accepted(
        &path,
        &trust_with(|policy| policy.trusted_gids = vec![STRANGER]),
    );
    chown(&path, None, Some(0)).unwrap();
    accepted(&path, &trust_with(|_| {}));
}

#[test]
fn an_access_control_list_may_let_others_write() {
    let place = Place::new();
    let path = place.at("plugin.so");
    // `acl(5)` as the kernel keeps it: user::rw-, user:STRANGER:rw-, group::r--, mask::rw-, other::r--.
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 6, STRANGER),
        (4, 4, u32::MAX),
        (16, 6, u32::MAX),
        (32, 4, u32::MAX),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let name = "system.posix_acl_access";
    match rustix::fs::setxattr(&path, name, &list, XattrFlags::empty()) {
        Err(rustix::io::Errno::OPNOTSUPP) => {
            return println!("no access control lists here: not tested on a file");
        }
        other => other.unwrap(),
    }
    let reason = format!(
        "{} may be writable by others, as it has an access control list; `setfacl -b` it",
        path.display()
    );
    refused(&path, &trust_with(|_| {}), &reason);
    rustix::fs::removexattr(&path, name).unwrap();
    place.chmod("plugin.so", 0o644);
    accepted(&path, &trust_with(|_| {}));
}

#[test]
fn links_are_followed_unless_that_is_forbidden() {
    let place = Place::new();
    let path = place.at("plugin.so");
    symlink("plugin.so", place.at("current.so")).unwrap();
    let it: Hotswap<FixtureRef> = Hotswap::load(&path, &trust_with(|_| {})).unwrap();
    let events = it.events();
    let event = events.recv().unwrap();
    assert_eq!(
        event.to_string(),
        format!("accepted generation 1: {}", path.display())
    );
    it.swap(place.at("current.so")).unwrap();
    let event = events
        .iter()
        .find(|event| matches!(event.kind, EventKind::Accepted { .. }));
    assert_eq!(
        event.unwrap().to_string(),
        format!(
            "accepted generation 2: {} -> {}",
            place.at("current.so").display(),
            path.display()
        )
    );
    assert_eq!(it.generations().last().unwrap().real_path, path);

    // Also the folder may be a link.
    symlink(".", place.at("here")).unwrap();
    let trust = trust_with(|policy| policy.follow_links = false);
    for link in ["current.so", "here"] {
        let given = if link == "here" {
            place.at("here/plugin.so")
        } else {
            place.at(link)
        };
        let reason = format!(
            "{} is a symbolic link, and none is followed (Policy::follow_links)",
            place.at(link).display()
        );
        refused(given, &trust, &reason);
    }
    accepted(path, &trust);
}

#[test]
fn a_file_must_lie_inside_of_the_root() {
    let place = Place::new();
    fs::create_dir_all(place.at("root/below")).unwrap();
    fs::create_dir(place.at("root.d")).unwrap();
    for name in ["root/plugin.so", "root/below/plugin.so", "root.d/plugin.so"] {
        fs::copy(place.at("plugin.so"), place.at(name)).unwrap();
    }
    symlink(place.at("plugin.so"), place.at("root/out.so")).unwrap();
    symlink("root/plugin.so", place.at("in.so")).unwrap();
    symlink("root", place.at("link")).unwrap();
    for root in ["root", "link"] {
        let trust = trust_with(|policy| policy.root = Some(place.at(root)));
        for inside in [
            "root/plugin.so",
            "root/below/plugin.so",
            "link/below/../plugin.so",
            "in.so",
        ] {
            accepted(place.at(inside), &trust);
        }
        for (outside, real) in [
            ("plugin.so", "plugin.so"),
            ("root.d/plugin.so", "root.d/plugin.so"),
            ("root/../plugin.so", "plugin.so"),
            ("root/out.so", "plugin.so"),
        ] {
            let reason = format!(
                "{} lies outside of {} (Policy::root)",
                place.at(real).display(),
                place.at("root").display()
            );
            refused(place.at(outside), &trust, &reason);
        }
    }
    let reason = format!(
        "the root {}: No such file or directory (os error 2) (Policy::root)",
        place.at("none").display()
    );
    let trust = trust_with(|policy| policy.root = Some(place.at("none")));
    refused(place.at("plugin.so"), &trust, &reason);
}

/// The system's own `..` leads out of the root when the folder that it is asked of has been moved there.
#[test]
fn a_folder_that_is_moved_while_it_is_walked_through_lets_nothing_escape_the_root() {
    const LOADS: usize = 100;
    let place = Place::new();
    fs::create_dir_all(place.at("root/a/b")).unwrap();
    fs::create_dir(place.at("out")).unwrap();
    fs::copy(place.at("plugin.so"), place.at("root/a/plugin.so")).unwrap();
    fs::copy(plugin("build_1"), place.at("out/plugin.so")).unwrap();
    let trust = trust_with(|policy| policy.root = Some(place.at("root")));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::rename(place.at("root/a/b"), place.at("out/b")).unwrap();
                fs::rename(place.at("out/b"), place.at("root/a/b")).unwrap();
            }
        });
        let _stop = StopAtEnd(&stop);
        let mut loads = 0;
        while loads < LOADS {
            match Hotswap::<FixtureRef>::load(place.at("root/a/b/../plugin.so"), &trust) {
                Ok(it) => {
                    assert_eq!(build_of(&it), 2, "the one inside");
                    loads += 1;
                }
                // It was not there for a moment.
                Err(error) => assert_eq!(error.stage(), Stage::Open, "{error}"),
            }
        }
    });
}

#[test]
fn a_relative_path_and_a_relative_root_begin_where_they_were_given() {
    alone(
        "trust::a_relative_path_and_a_relative_root_begin_where_they_were_given",
        || {
            let place = Place::new();
            for name in ["root", "other", "other/root"] {
                fs::create_dir(place.at(name)).unwrap();
            }
            fs::copy(place.at("plugin.so"), place.at("root/plugin.so")).unwrap();
            fs::copy(plugin("build_1"), place.at("other/root/plugin.so")).unwrap();
            env::set_current_dir(place.at("")).unwrap();
            let trust = trust_with(|policy| policy.root = Some("root".into()));
            let it: Hotswap<FixtureRef> = Hotswap::load("root/plugin.so", &trust).unwrap();
            env::set_current_dir(place.at("other")).unwrap();

            assert_eq!(it.generations()[0].path, Path::new("root/plugin.so"));
            assert_eq!(it.last_accepted(), place.at("root/plugin.so"));
            it.swap(it.last_accepted()).unwrap();
            assert_eq!(build_of(&it), 2);
            let error = it.swap("root/plugin.so").unwrap_err();
            let reason = format!(
                "trust: {} lies outside of {} (Policy::root)",
                place.at("other/root/plugin.so").display(),
                place.at("root").display()
            );
            assert_eq!(whole_reason(&error), reason);
            assert_eq!(error.path(), Path::new("root/plugin.so"));
        },
    );
}

#[test]
fn a_file_system_mounted_noexec_is_refused_whoever_owns_it() {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    let place = Place::new();
    fs::create_dir(place.at("mounted")).unwrap();
    // A thread sees mounts of its own after this, and so do those that it starts.
    let check = || {
        // SAFETY: it touches no memory.
        let path = if unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0 {
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).unwrap();
            mount(
                "none",
                place.at("mounted"),
                "tmpfs",
                MountFlags::NOEXEC,
                None,
            )
            .unwrap();
            place.chmod("mounted", 0o755);
            fs::copy(place.at("plugin.so"), place.at("mounted/plugin.so")).unwrap();
            place.at("mounted/plugin.so")
        } else {
            // Who may not mount anything finds this mounted so on most systems.
            "/proc/version".into()
        };
        let mount = rustix::fs::statvfs(&path).unwrap().f_flag;
        if !mount.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
            return println!("nothing is mounted noexec here: not tested");
        }
        let reason = format!(
            "{} lies on a file system that is mounted noexec",
            path.display()
        );
        refused(&path, &trust_with(|_| {}), &reason);
        refused(
            &path,
            &trust_with(|policy| policy.any_owner = true),
            &reason,
        );
    };
    std::thread::scope(|scope| scope.spawn(check).join()).unwrap();
}

#[test]
fn a_path_is_shown_as_it_is_and_on_one_line() {
    let place = Place::new();
    let path = place.at("a  b\n.so");
    fs::rename(place.at("plugin.so"), &path).unwrap();
    place.chmod("a  b\n.so", 0o666);
    let folder = place.at("");
    let reason = format!(
        r"{}a  b\n.so is writable by everybody; `chmod o-w` it",
        folder.display()
    );
    refused(&path, &trust_with(|_| {}), &reason);
}
