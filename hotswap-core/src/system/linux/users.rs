//! Users and groups: those of this process, and what the system knows of others.

use std::{fs, io};

use nix::unistd::{Group, User};
use rustix::process::{getegid, geteuid, getgid, getuid};

use super::status::Status;

pub(crate) fn real_uid() -> u32 {
    getuid().as_raw()
}

pub(crate) fn effective_uid() -> u32 {
    geteuid().as_raw()
}

/// The owner of this process's executable. `None` if the process cannot see it, because it has changed its user.
pub(crate) fn executable_owner() -> Option<u32> {
    Some(Status::at("/proc/self/exe").ok()?.uid)
}

/// Whether this process has rights that the user who started it may not have: setuid, setgid, or capabilities of the
/// file. The kernel's answer from the start of the program (`AT_SECURE`) holds even if the process has changed its
/// ids since.
pub(crate) fn is_privileged() -> bool {
    // SAFETY: no conditions; this reads a number that the kernel gave to this process.
    let is_secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    is_secure || getuid() != geteuid() || getgid() != getegid()
}

/// The user that stands for every user unknown to this user namespace.
pub(crate) fn unmapped_uid() -> u32 {
    unmapped_id("/proc/sys/kernel/overflowuid")
}

/// The group that stands for every group unknown to this user namespace.
pub(crate) fn unmapped_gid() -> u32 {
    unmapped_id("/proc/sys/kernel/overflowgid")
}

fn unmapped_id(file: &str) -> u32 {
    /// The kernel's default, which an administrator can change.
    const DEFAULT: u32 = 65_534;
    let text = fs::read_to_string(file);
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT)
}

/// Whether some users are unknown to this process's user namespace.
pub(crate) fn has_unmapped_users() -> bool {
    has_unmapped("/proc/self/uid_map")
}

/// Whether some groups are unknown to this process's user namespace.
pub(crate) fn has_unmapped_groups() -> bool {
    has_unmapped("/proc/self/gid_map")
}

/// Whether some users or groups are unknown to this process's user namespace, according to its table of known ones
/// ([`user_namespaces(7)`]). A system without namespaces has no such table.
///
/// [`user_namespaces(7)`]: https://man7.org/linux/man-pages/man7/user_namespaces.7.html
fn has_unmapped(table: &str) -> bool {
    match fs::read_to_string(table) {
        Ok(table) => !maps_all(&table),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Whether the table maps all ids. Each line has the first id inside, the first outside, and their count. The highest
/// id of all means "none" and is not needed.
fn maps_all(table: &str) -> bool {
    let count = |line: &str| line.split_whitespace().nth(2)?.parse::<u64>().ok();
    let counts = table.lines().filter_map(count);
    counts.sum::<u64>() >= u64::from(u32::MAX)
}

/// The name of a group. Asks the system's databases, which may be on another machine.
pub(crate) fn group_name(gid: u32) -> Option<String> {
    let group = Group::from_gid(gid.into()).ok().flatten();
    group.map(|group| group.name)
}

/// Whether `gid` is the private group of user `uid`. Asks the system's databases, which may be on another machine.
pub(crate) fn is_private_group(uid: u32, gid: u32) -> bool {
    let user = User::from_uid(uid.into()).ok().flatten();
    let group = Group::from_gid(gid.into()).ok().flatten();
    user.zip(group)
        .is_some_and(|(user, group)| is_private(&user, &group))
}

fn is_private(user: &User, group: &Group) -> bool {
    user.gid == group.gid
        && user.name == group.name
        && group.mem.iter().all(|member| *member == user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_has_no_privileges_of_its_own() {
        assert!(!is_privileged());
    }

    const OWN: u32 = 1000;
    const STAFF: u32 = 50;

    #[test]
    fn a_namespace_that_knows_everybody_has_nobody_unmapped() {
        for table in [
            "         0          0 4294967295\n",
            "0 100000 65536\n65536 0 4294901759\n",
        ] {
            assert!(maps_all(table), "{table:?}");
        }
        for table in [
            "",
            "0 1000 1\n",
            "0 100000 65536\n",
            "0 0 4294967294\n",
            "no table",
        ] {
            assert!(!maps_all(table), "{table:?}");
        }
        assert!(!has_unmapped("/proc/self/no_such_map"));
    }

    #[test]
    fn a_private_group_is_the_user_s_primary_one_of_the_same_name_and_with_nobody_else() {
        let root = User::from_uid(0.into()).unwrap().unwrap();
        let ann = User {
            name: "ann".to_owned(),
            gid: OWN.into(),
            ..root
        };
        let check = |name: &str, gid: u32, members: &[&str], expected| {
            let group = Group {
                name: name.to_owned(),
                gid: gid.into(),
                mem: members.iter().map(ToString::to_string).collect(),
                passwd: Default::default(),
            };
            assert_eq!(is_private(&ann, &group), expected, "{group:?}");
        };
        check("ann", OWN, &[], true);
        check("ann", OWN, &["ann"], true);
        check("ann", OWN, &["ann", "bob"], false);
        check("ann", OWN, &["bob"], false);
        check("ann", STAFF, &[], false);
        check("users", OWN, &[], false);

        assert!(is_private_group(0, 0), "root's, on any system");
        assert!(!is_private_group(u32::MAX - 7, 0));
        assert!(!is_private_group(0, u32::MAX - 7));
    }
}
