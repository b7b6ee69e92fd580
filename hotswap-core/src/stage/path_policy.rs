//! Who could replace a file, judging by the owners and modes of everything that leads to it; and where the file may
//! lie.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use super::{
    host::Host,
    walk::{self, Place},
};
use crate::{
    error::{Distrust, ErrorKind},
    system::{
        status::{FileKind, Mode},
        users,
    },
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
        let kind = place.status.kind;
        if kind == FileKind::Symlink && !self.follow_links {
            return distrust(Distrust::Link);
        }
        if kind == FileKind::RegularFile {
            if let Some(root) = self.root.as_ref().filter(|it| !place.real.starts_with(it)) {
                return distrust(Distrust::OutsideRoot { root: root.clone() });
            }
            if place.handle.is_noexec().map_err(ErrorKind::cannot_open)? {
                return distrust(Distrust::Noexec);
            }
        }
        self.check_rights(place)
    }

    /// Checks that only trusted users can have put it there, or can change it.
    pub(super) fn check_rights(&self, place: &Place<'_>) -> Result<(), ErrorKind> {
        self.check_rights_in(place, place.status.mode)
    }

    /// Checks that only trusted users can put a file at `path`, where nobody has put one yet that counts.
    pub(super) fn check_absence(&self, path: &Path) -> Result<(), ErrorKind> {
        let (mut objection, mut last) = (None, None);
        // Where it leads does not matter.
        let _ = walk::follow(path, |place| {
            if objection.is_none() {
                objection = self.check_rights(place).err();
            }
            // A sticky folder protects the files that are there, and everybody may create others.
            last = self
                .check_rights_in(place, place.status.mode.without_sticky())
                .err();
        });
        objection.or(last).map_or(Ok(()), Err)
    }

    /// [`check_rights`](Self::check_rights), as if the place had this mode.
    fn check_rights_in(&self, place: &Place<'_>, mode: Mode) -> Result<(), ErrorKind> {
        if self.policy.any_owner {
            return Ok(());
        }
        let rights = Rights {
            kind: place.status.kind,
            uid: place.status.uid,
            gid: place.status.gid,
            mode,
        };
        let has_acl = || place.handle.may_have_acl();
        match self.objection(rights, has_acl, users::is_private_group) {
            None => Ok(()),
            Some(Distrust::Group { gid, .. }) => {
                let name = users::group_name(gid);
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
        if uid == self.unmapped_uid && users::has_unmapped_users() {
            return Some(Distrust::UnmappedOwner { uid });
        }
        if !self.trusted_uids.contains(&uid) {
            return Some(Distrust::Owner { uid });
        }
        // Nobody can write to a link. In a sticky folder, only the owners of folder and file can replace a file.
        let is_sticky = kind == FileKind::Directory && mode.is_sticky();
        if kind == FileKind::Symlink || is_sticky {
            return None;
        }
        if mode.everybody_may_write() {
            return Some(Distrust::Everybody);
        }
        if !mode.group_may_write() {
            return None;
        }
        // With an access control list these mode bits are not the group's rights, but the limit of the list's rights.
        if has_acl() {
            return Some(Distrust::Acl);
        }
        if gid == users::unmapped_gid() && users::has_unmapped_groups() {
            return Some(Distrust::UnmappedGroup { gid });
        }
        let is_trusted = gid == 0 || self.policy.trusted_gids.contains(&gid);
        (!is_trusted && !is_private_group(uid, gid)).then_some(Distrust::Group { gid, name: None })
    }
}

#[derive(Clone, Copy)]
struct Rights {
    kind: FileKind,
    uid: u32,
    gid: u32,
    mode: Mode,
}

fn not_trusted(place: &Place<'_>, why: Distrust) -> ErrorKind {
    ErrorKind::NotTrusted {
        path: place.real.to_owned(),
        why,
    }
}
