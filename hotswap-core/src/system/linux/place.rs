//! Places in the file system: folders, links and files, each opened by its name in the folder before it.
//!
//! What is opened only identifies the place (`O_PATH`), so that opening it neither waits nor has effects, whatever is
//! there.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
};

use rustix::{
    fs::{self, AtFlags, Mode, OFlags, StatVfsMountFlags},
    io::Errno,
};

use super::{proc, status::Status};

/// Identifies a place, and can be used for nothing else.
#[derive(Debug)]
pub(crate) struct Handle(OwnedFd);

const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Handle {
    /// The folder `/`.
    pub(crate) fn top() -> io::Result<Self> {
        let top = fs::open("/", PLACE | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self(top))
    }

    /// The place with this name in this folder; a link itself if it is one. `is_last`: it need not be a folder or lead
    /// to one.
    pub(crate) fn child(&self, name: &OsStr, is_last: bool) -> io::Result<Self> {
        let open = |flags| fs::openat(&self.0, name, flags, Mode::empty()).map(Self);
        if is_last {
            return Ok(open(PLACE)?);
        }
        // An automounted file system is mounted only for a caller that asks for a folder.
        Ok(match open(PLACE | OFlags::DIRECTORY) {
            Err(Errno::NOTDIR) => open(PLACE)?,
            other => other?,
        })
    }

    pub(crate) fn status(&self) -> io::Result<Status> {
        Status::of(&self.0)
    }

    /// The status of what has this name in this folder now; of a link itself if it is one.
    pub(crate) fn status_of(&self, name: &OsStr) -> io::Result<Status> {
        let stat = fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Status::from(&stat))
    }

    /// Where this link leads. Reads this very link, whatever has its name by now.
    pub(crate) fn link_target(&self) -> io::Result<OsString> {
        // An empty path means the descriptor.
        let target = fs::readlinkat(&self.0, "", Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Opens this very file for reading. It must be a regular file: opening any other could wait, or have effects.
    pub(crate) fn open_for_reading(&self) -> io::Result<File> {
        // NONBLOCK: otherwise it waits for the end of a lease that somebody has on the file (`fcntl(2)`).
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(fs::open(proc::path(&self.0), flags, Mode::empty())?.into())
    }

    /// Whether it lies on a file system that is mounted `noexec`.
    pub(crate) fn is_noexec(&self) -> io::Result<bool> {
        let mount = fs::fstatvfs(&self.0)?;
        Ok(mount.f_flag.contains(StatVfsMountFlags::NOEXEC))
    }

    /// Whether there may be rights other than those in the mode: there is an access control list, or the system does
    /// not tell.
    pub(crate) fn may_have_acl(&self) -> bool {
        // By path, because an `O_PATH` descriptor cannot be asked itself.
        !matches!(
            fs::getxattr_query(proc::path(&self.0), "system.posix_acl_access"),
            Err(Errno::NODATA | Errno::OPNOTSUPP)
        )
    }
}
