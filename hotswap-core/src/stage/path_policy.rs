//! Who could replace a file, judging by the owners and modes of everything that leads to it; and where the file may
//! lie.

#[cfg(test)]
mod tests;

use std::{fs::read_to_string, io, path::PathBuf};

use nix::unistd::{Group, User};
use rustix::{
    fs::{self, FileType, Mode, StatVfsMountFlags},
    io::Errno,
};

use super::{
    host::{Host, unmapped_gid},
    proc,
    walk::Place,
};
use crate::{
    error::{Distrust, ErrorKind},
    trust::Policy,
};

/// The policy on owners, modes and places, with what the host adds to it.
pub(super) struct PathPolicy<'a> {
    policy: &'a Policy,
    trusted_uids: Vec<u32>,
    unmapped_uid: u32,
    /// The real path of the policy's root.
    root: Option<PathBuf>,
    follow_links: bool,
}

impl<'a> PathPolicy<'a> {
    pub(super) fn new(policy: &'a Policy) -> Result<Self, ErrorKind> {
        let host = Host::this();
        let mut trusted_uids = host.trusted_uids();
        trusted_uids.extend(&policy.trusted_uids);
        let real = |root: &PathBuf| {
            root.canonicalize().map_err(|error| ErrorKind::Root {
                path: root.clone(),
                error: error.into(),
            })
        };
        Ok(Self {
            policy,
            trusted_uids,
            unmapped_uid: host.unmapped_uid,
            root: policy.root.as_ref().map(real).transpose()?,
            follow_links: policy.follow_links,
        })
    }

    /// The same policy for the system's folders: they lie outside any root, and links lead to most of their files.
    pub(super) fn for_system_folders(&self) -> Self {
        Self {
            policy: self.policy,
            trusted_uids: self.trusted_uids.clone(),
            unmapped_uid: self.unmapped_uid,
            root: None,
            follow_links: true,
        }
    }

    /// Checks whether a file may be reached through this place, or lie there.
    pub(super) fn check(&self, place: &Place<'_>) -> Result<(), ErrorKind> {
        let distrust = |why| Err(not_trusted(place, why));
        let kind = FileType::from_raw_mode(place.stat.st_mode);
        if kind == FileType::Symlink && !self.follow_links {
            return distrust(Distrust::Link);
        }
        if kind == FileType::RegularFile {
            if let Some(root) = self.root.as_ref().filter(|it| !place.real.starts_with(it)) {
                return distrust(Distrust::OutsideRoot { root: root.clone() });
            }
            let mount = fs::fstatvfs(place.descriptor);
            let mount = mount.map_err(ErrorKind::cannot_open)?;
            if mount.f_flag.contains(StatVfsMountFlags::NOEXEC) {
                return distrust(Distrust::Noexec);
            }
        }
        self.check_rights(place)
    }

    /// Checks that only trusted users can have put it there, or can change it.
    pub(super) fn check_rights(&self, place: &Place<'_>) -> Result<(), ErrorKind> {
        if self.policy.any_owner {
            return Ok(());
        }
        let kind = FileType::from_raw_mode(place.stat.st_mode);
        let rights = Rights {
            kind,
            uid: place.stat.st_uid,
            gid: place.stat.st_gid,
            mode: Mode::from_raw_mode(place.stat.st_mode),
        };
        match self.objection(rights, || has_acl(place), is_private_group) {
            None => Ok(()),
            Some(Distrust::Group { gid, .. }) => {
                let name = group_name(gid);
                Err(not_trusted(place, Distrust::Group { gid, name }))
            }
            Some(why) => Err(not_trusted(place, why)),
        }
    }

    /// What is wrong with these rights. A group in the answer has no name yet. The closures are called only if a
    /// group can write.
    fn objection(
        &self,
        rights: Rights,
        has_acl: impl FnOnce() -> bool,
        is_private_group: impl FnOnce(u32, u32) -> bool,
    ) -> Option<Distrust> {
        let Rights {
            kind,
            uid,
            gid,
            mode,
        } = rights;
        // Refused even if it is a trusted user: many users may share this id.
        if uid == self.unmapped_uid && has_unmapped("/proc/self/uid_map") {
            return Some(Distrust::UnmappedOwner { uid });
        }
        if !self.trusted_uids.contains(&uid) {
            return Some(Distrust::Owner { uid });
        }
        // Nobody can write to a link. In a sticky folder, only the owners of folder and file can replace a file.
        let is_sticky = kind == FileType::Directory && mode.contains(Mode::SVTX);
        if kind == FileType::Symlink || is_sticky {
            return None;
        }
        if mode.contains(Mode::WOTH) {
            return Some(Distrust::Everybody);
        }
        if !mode.contains(Mode::WGRP) {
            return None;
        }
        // With an access control list these mode bits are not the group's rights, but the limit of the list's rights.
        if has_acl() {
            return Some(Distrust::Acl);
        }
        if gid == unmapped_gid() && has_unmapped("/proc/self/gid_map") {
            return Some(Distrust::UnmappedGroup { gid });
        }
        let is_trusted = gid == 0 || self.policy.trusted_gids.contains(&gid);
        (!is_trusted && !is_private_group(uid, gid)).then_some(Distrust::Group { gid, name: None })
    }
}

#[derive(Clone, Copy)]
struct Rights {
    kind: FileType,
    uid: u32,
    gid: u32,
    mode: Mode,
}

fn group_name(gid: u32) -> Option<String> {
    let group = Group::from_gid(gid.into()).ok().flatten();
    group.map(|group| group.name)
}

fn not_trusted(place: &Place<'_>, why: Distrust) -> ErrorKind {
    ErrorKind::NotTrusted {
        path: place.real.to_owned(),
        why,
    }
}

/// Whether there may be rights other than those in the mode: there is an access control list, or the system does not
/// tell.
fn has_acl(place: &Place<'_>) -> bool {
    // By path, because an `O_PATH` descriptor cannot be asked itself.
    !matches!(
        fs::getxattr_query(proc::path(&place.descriptor), "system.posix_acl_access"),
        Err(Errno::NODATA | Errno::OPNOTSUPP)
    )
}

/// Whether some users or groups are unknown to this process's user namespace, according to its table of known ones
/// ([`user_namespaces(7)`]). A system without namespaces has no such table.
///
/// [`user_namespaces(7)`]: https://man7.org/linux/man-pages/man7/user_namespaces.7.html
fn has_unmapped(table: &str) -> bool {
    match read_to_string(table) {
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

/// Whether `gid` is the private group of user `uid`. Asks the system's databases, which may be on another machine.
fn is_private_group(uid: u32, gid: u32) -> bool {
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
