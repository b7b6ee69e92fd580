//! A table of rights and of what is wrong with them, so that the tests need no files of other users.

use super::*;
use crate::system::status::Status;

const ANN: u32 = 1000;
const BOB: u32 = 1001;
const STAFF: u32 = 50;
const ITS_OWN: u32 = 1000;
const NOBODY: u32 = 65_534;

fn group(gid: u32) -> Distrust {
    Distrust::Group { gid, name: None }
}

fn check(kind: FileKind, uid: u32, gid: u32, mode: u32, expected: Option<Distrust>) {
    check_with_acl(false, kind, uid, gid, mode, expected);
}

#[track_caller]
fn check_with_acl(
    acl: bool,
    kind: FileKind,
    uid: u32,
    gid: u32,
    mode: u32,
    expected: Option<Distrust>,
) {
    let policy = Policy {
        trusted_gids: vec![STAFF + 1],
        ..Policy::default()
    };
    let path_policy = PathPolicy {
        policy: &policy,
        trusted_uids: vec![0, ANN],
        unmapped_uid: NOBODY,
        root: None,
        follow_links: true,
    };
    let rights = Rights {
        kind,
        uid,
        gid,
        mode: Mode(mode),
    };
    let found = path_policy.objection(rights, || acl, |uid, gid| (uid, gid) == (ANN, ITS_OWN));
    assert_eq!(found, expected, "{kind:?} {uid}:{gid} {mode:o}");
}

#[test]
fn owners_must_be_trusted() {
    use FileKind::{Directory, RegularFile, Symlink};
    for (kind, mode) in [
        (Directory, 0o755),
        (Directory, 0o1777),
        (RegularFile, 0o644),
        (Symlink, 0o777),
    ] {
        check(kind, 0, 0, mode, None);
        check(kind, ANN, ITS_OWN, mode, None);
        check(kind, BOB, ITS_OWN, mode, Some(Distrust::Owner { uid: BOB }));
        check(kind, BOB, 0, mode, Some(Distrust::Owner { uid: BOB }));
    }
}

#[test]
fn nobody_else_may_write() {
    use FileKind::{Directory, RegularFile};
    for kind in [Directory, RegularFile] {
        check(kind, ANN, STAFF, 0o755, None);
        check(kind, ANN, STAFF, 0o757, Some(Distrust::Everybody));
        check(kind, 0, 0, 0o777, Some(Distrust::Everybody));
        check(kind, ANN, STAFF, 0o775, Some(group(STAFF)));
        check(kind, ANN, STAFF + 1, 0o775, None);
        check(kind, ANN, 0, 0o775, None);
        check(kind, ANN, ITS_OWN, 0o775, None);
        // The private group of another user is a group like any other.
        check(kind, 0, ITS_OWN, 0o775, Some(group(ITS_OWN)));
    }
}

#[test]
fn a_sticky_folder_may_be_anybody_s_but_not_a_sticky_file() {
    for mode in [0o1777, 0o1775, 0o1757] {
        check(FileKind::Directory, 0, STAFF, mode, None);
    }
    check(
        FileKind::RegularFile,
        0,
        STAFF,
        0o1646,
        Some(Distrust::Everybody),
    );
    check(FileKind::RegularFile, 0, STAFF, 0o1664, Some(group(STAFF)));
}

#[test]
fn a_group_that_may_write_is_not_told_apart_from_an_access_control_list() {
    for gid in [0, ITS_OWN, STAFF, STAFF + 1] {
        check_with_acl(
            true,
            FileKind::RegularFile,
            ANN,
            gid,
            0o664,
            Some(Distrust::Acl),
        );
        check_with_acl(true, FileKind::RegularFile, ANN, gid, 0o644, None);
    }
    check_with_acl(true, FileKind::Directory, ANN, STAFF, 0o1775, None);
}

#[test]
fn each_objection_says_what_to_do() {
    let unnamed = group(u32::MAX - 7).to_string();
    for (text, expected) in [
        (
            Distrust::Owner { uid: 1000 }.to_string(),
            "is owned by uid 1000, who is not trusted; `chown` it, or trust the owner",
        ),
        (
            Distrust::Everybody.to_string(),
            "is writable by everybody; `chmod o-w` it",
        ),
        (
            unnamed,
            "is writable by group 4294967288; `chmod g-w` it, or trust the group",
        ),
        (
            Distrust::Acl.to_string(),
            "may be writable by others, as it has an access control list; `setfacl -b` it",
        ),
        (
            Distrust::UnmappedOwner { uid: NOBODY }.to_string(),
            "is owned by uid 65534, which stands for every user whom this user namespace does not know, and is not \
             trusted even if it is named; map the owner into the namespace, or `chown` it",
        ),
        (
            Distrust::UnmappedGroup { gid: NOBODY }.to_string(),
            "is writable by group 65534, which stands for every group that this user namespace does not know, and is \
             not trusted even if it is named; map the group into the namespace, or `chmod g-w` it",
        ),
    ] {
        assert_eq!(text, expected);
    }
    // The one group that every system has.
    let root = Distrust::Group {
        gid: 0,
        name: users::group_name(0),
    };
    let text = root.to_string();
    assert!(
        text.starts_with("is writable by group 0 (root); "),
        "{text}"
    );
}

#[test]
fn this_process_s_own_user_is_trusted() {
    let policy = Policy {
        trusted_uids: vec![BOB],
        ..Policy::default()
    };
    let path_policy = PathPolicy::new(&policy)
        .map_err(|refusal| refusal.to_string())
        .unwrap();
    let executable = std::env::current_exe().unwrap();
    let owner = Status::at(&executable).unwrap().uid;
    for uid in [0, users::effective_uid(), owner, BOB] {
        assert!(path_policy.trusted_uids.contains(&uid), "{uid}");
    }
}
