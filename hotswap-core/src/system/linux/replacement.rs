//! Replaces a small file as a whole, under a lock that everybody takes who replaces it.
//!
//! # Invariants
//! - Whoever holds the lock is the only one who replaces the file.
//! - The new file takes the place of the old one only when it is complete and on the disk.
//! - Nobody else has written the new file: its owner is this user, or the owner of the file that it replaces.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{self, FlockOperation, Gid, Mode, OFlags, Uid},
    io::Errno,
    process::geteuid,
};

use super::status::{FileKind, Status};
use crate::escape::Escaped;

/// How long to wait for the lock. Another process holds it only while it writes a few bytes to a disk.
const LOCK_TIME: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// The file that is to replace another one. Whoever has locked it may write. Dropping this removes it.
pub(crate) struct Replacement {
    /// Not open for writing: other processes do not read a file that is open for writing.
    file: OwnedFd,
    path: PathBuf,
}

impl Replacement {
    /// Locks the file, in the same folder as the file at `real`, so that it can be renamed to that. Waits for others
    /// who have locked it.
    pub(crate) fn lock(real: &Path) -> io::Result<Self> {
        Self::lock_if(real, is_private)
    }

    fn lock_if(real: &Path, is_private: impl Fn(&Status) -> bool) -> io::Result<Self> {
        let path = real.with_added_extension("new");
        let started = Instant::now();
        let owners = [geteuid().as_raw(), Status::at(real)?.uid];
        let flags =
            OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let refused = |why: &str| {
            let path = Escaped(&path);
            Err(io::Error::other(format!("{path} is {why}; remove it")))
        };
        let is_no_file = "not a regular file";
        let mut has_removed = false;
        loop {
            let file = match fs::open(&path, flags, mode) {
                // A folder, a link, a socket.
                Err(Errno::ISDIR | Errno::LOOP | Errno::NXIO) => return refused(is_no_file),
                file => file?,
            };
            // In a folder where anybody can create files, somebody else may have created it.
            let Status { uid, kind, .. } = Status::of(&file)?;
            if !owners.contains(&uid) {
                return refused(&format!("owned by uid {uid}"));
            }
            if kind != FileKind::RegularFile {
                return refused(is_no_file);
            }
            match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Whoever held the lock before has renamed or removed the file.
                Ok(()) if !is_at(&path, &Status::of(&file)?) => {}
                Ok(()) if is_private(&Status::of(&file)?) => return Ok(Self { file, path }),
                // A process that died left it behind, or somebody linked another file there.
                Ok(()) if !has_removed => {
                    fs::unlink(&path)?;
                    has_removed = true;
                }
                // Such as FAT, or a share of another system.
                Ok(()) => {
                    fs::unlink(&path)?;
                    let path = Escaped(&path);
                    let problem = format!(
                        "{path} can be opened by others although it was created for this user alone: \
                         its file system has no modes of its own"
                    );
                    return Err(io::Error::other(problem));
                }
                Err(Errno::WOULDBLOCK) => thread::sleep(LOCK_PAUSE),
                Err(error) => return Err(error.into()),
            }
            if started.elapsed() > LOCK_TIME {
                return Err(io::Error::other("another process is writing to it"));
            }
        }
    }

    /// Writes `text` to the locked file, and renames it to `real`. Waits for the disk.
    pub(crate) fn replace(self, real: &Path, text: &str) -> io::Result<()> {
        let old = Status::at(real)?;
        let mut mode = Mode::from_bits_retain(old.mode.0);
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file: File = fs::open(&self.path, flags, Mode::empty())?.into();
        file.write_all(text.as_bytes())?;
        // Its readers must be able to read it as before. A process that may not change its owner keeps it, and gives
        // its own group no right to write.
        let (owner, group) = (Uid::from_raw(old.uid), Gid::from_raw(old.gid));
        if fs::fchown(&file, Some(owner), Some(group)).is_err() {
            mode.remove(Mode::WGRP);
        }
        fs::fchmod(&file, mode)?;
        file.sync_all()?;
        drop(file);
        // Nothing may fail after the new file has taken its place.
        let folder = File::open(real.parent().unwrap_or(Path::new("/")))?;
        fs::rename(&self.path, real)?;
        // Not every file system can do it for a folder. If the machine stops before the folder is on the disk, the old
        // file may be back.
        let _ = folder.sync_all();
        Ok(())
    }
}

impl Drop for Replacement {
    /// Removes the file before the lock is released. Whoever waits for the lock then finds another file, or none, at
    /// the path.
    fn drop(&mut self) {
        if Status::of(&self.file).is_ok_and(|status| is_at(&self.path, &status)) {
            let _ = fs::unlink(&self.path);
        }
    }
}

/// Whether only its owner can have opened it, and it has no other name.
fn is_private(status: &Status) -> bool {
    status.mode.is_for_owner_only() && status.has_one_name
}

fn is_at(path: &Path, status: &Status) -> bool {
    Status::of_link(path).is_ok_and(|found| found.id == status.id)
}

#[cfg(test)]
mod tests {
    use std::os::unix::{
        fs::{PermissionsExt, chown, symlink},
        net::UnixListener,
    };

    use super::*;

    #[test]
    fn what_has_the_name_of_the_new_file_and_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let makers: [fn(&Path); 3] = [
            |new| std::fs::create_dir(new).unwrap(),
            |new| symlink("elsewhere", new).unwrap(),
            |new| drop(UnixListener::bind(new).unwrap()),
        ];
        for (number, make) in makers.iter().enumerate() {
            let real = folder.path().join(number.to_string());
            std::fs::write(&real, "1").unwrap();
            let new = real.with_added_extension("new");
            make(&new);
            let refusal = Replacement::lock(&real).err().expect("it is in the way");
            let expected = format!("{} is not a regular file; remove it", new.display());
            assert_eq!(refusal.to_string(), expected);
        }
        assert!(!folder.path().join("elsewhere").exists());
    }

    /// As on FAT, where all files have the mode that the mount gives them.
    #[test]
    fn a_file_system_without_modes_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("serial");
        std::fs::write(&real, "1").unwrap();
        let refusal = Replacement::lock_if(&real, |_| false).err().unwrap();
        let said = refusal.to_string();
        assert!(said.ends_with("has no modes of its own"), "{said}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// The folder has to be opened to be written to the disk.
    #[test]
    fn a_folder_that_cannot_be_read_changes_nothing() {
        const OTHER: u32 = 54_321;
        if !geteuid().is_root() {
            return println!("only root can be another user: not tested");
        }
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("serial");
        std::fs::write(&real, "1").unwrap();
        for path in [folder.path(), &real] {
            chown(path, Some(OTHER), None).unwrap();
        }
        let write_and_search = std::fs::Permissions::from_mode(0o300);
        std::fs::set_permissions(folder.path(), write_and_search).unwrap();
        let replaced = thread::scope(|scope| {
            let other = scope.spawn(|| {
                rustix::thread::set_thread_uid(Uid::from_raw(OTHER)).unwrap();
                Replacement::lock(&real).unwrap().replace(&real, "2")
            });
            other.join().unwrap()
        });
        assert_eq!(
            replaced.unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
        assert_eq!(std::fs::read(&real).unwrap(), b"1");
    }
}
