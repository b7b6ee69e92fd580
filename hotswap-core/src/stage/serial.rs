//! The lowest serial number that a candidate may have: the higher of one that the host sets, and the highest that was
//! accepted, which is kept in a file.
//!
//! # Invariants
//! - The number in the file never falls. Whoever writes the file holds a lock, and reads the number again under it.
//! - A new file replaces the old one only when it is complete and on the disk. If the file is missing, cannot be
//!   read, could have been written by others or holds anything but a number, the candidate is refused; none of these
//!   counts as zero.
//! - Nobody else has written the new file: its owner is this user, or the owner of the file that it replaces.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{self, FlockOperation, Gid, Mode, OFlags, Stat, Uid},
    io::Errno,
    process::geteuid,
};

use super::{
    path_policy::PathPolicy,
    read::{Content, read_settled},
};
use crate::{
    error::{ErrorKind, Stage},
    escape::{Escaped, excerpt},
    file_id::FileId,
    signature,
    trust::Policy,
};

/// The largest number, and a line end.
const FILE_BYTES_MAX: u64 = 21;

/// How long to wait for the lock. Another process holds it only while it writes a few bytes to a disk.
const LOCK_TIME: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// Refuses a candidate whose signature has no serial number, or a lower one than `policy` asks for.
pub(super) fn check(
    serial: Option<u64>,
    policy: &Policy,
    path_policy: &PathPolicy<'_>,
) -> Result<(), ErrorKind> {
    if let Some(floor) = policy.serial_min {
        need(serial, floor, false)?;
    }
    if let Some(path) = &policy.serial_file {
        need(serial, read(path, path_policy)?.serial, true)?;
    }
    Ok(())
}

/// Saves the serial number of a candidate that was accepted, if `policy` names a file for it and the file has a lower
/// one.
///
/// Waits for other processes that write to the file, and for the disk.
pub(super) fn raise(serial: u64, policy: &Policy) -> Result<(), ErrorKind> {
    let Some(path) = &policy.serial_file else {
        return Ok(());
    };
    let path_policy = PathPolicy::new(policy)?;
    let now = || -> Result<Highest, ErrorKind> {
        let now = read(path, &path_policy)?;
        need(Some(serial), now.serial, true)?;
        Ok(now)
    };
    let Highest { serial: kept, real } = now()?;
    if kept == serial {
        return Ok(());
    }
    let failed = |error: io::Error| ErrorKind::SerialNotKept {
        path: path.clone(),
        serial,
        error: error.into(),
    };
    let next = Next::lock(&real).map_err(failed)?;
    // Read again: another process may have accepted a candidate meanwhile.
    if now()?.serial < serial {
        next.replace(&real, serial).map_err(failed)?;
    }
    Ok(())
}

fn need(found: Option<u64>, floor: u64, is_in_file: bool) -> Result<(), ErrorKind> {
    if found.is_some_and(|found| found >= floor) {
        return Ok(());
    }
    Err(ErrorKind::SerialTooLow {
        floor,
        found,
        is_in_file,
    })
}

/// The highest serial number that was accepted.
struct Highest {
    serial: u64,
    /// The file with the number, with all links followed.
    real: PathBuf,
}

fn read(path: &Path, path_policy: &PathPolicy<'_>) -> Result<Highest, ErrorKind> {
    let refuse = |problem: String| ErrorKind::SerialFile {
        path: path.to_owned(),
        problem,
    };
    if let Err(Errno::NOENT) = fs::lstat(path) {
        let problem = "no such file; one with `0` in it is a beginning";
        return Err(refuse(problem.to_owned()));
    }
    let content = read_settled(path, FILE_BYTES_MAX, |place| {
        path_policy.check_rights(place)
    });
    let Content { bytes, real, .. } = content.map_err(|refusal| match refusal.stage() {
        // A refusal at this stage names a path already.
        Stage::Trust => refusal,
        _ => refuse(refusal.to_string()),
    })?;
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let serial = str::from_utf8(text).ok().and_then(signature::serial);
    let serial = serial
        .ok_or_else(|| refuse(format!("expected a number, found \"{}\"", excerpt(&bytes))))?;
    Ok(Highest { serial, real })
}

/// The file that is to replace the one with the number. Whoever has locked it may write. Dropping this removes it.
struct Next {
    /// Not open for writing: other processes do not read a file that is open for writing.
    file: OwnedFd,
    path: PathBuf,
}

impl Next {
    /// Locks the file, in the same folder as the file at `real`, so that it can be renamed to that.
    fn lock(real: &Path) -> io::Result<Self> {
        let mut path = OsString::from(real);
        path.push(".new");
        let path = PathBuf::from(path);
        let started = Instant::now();
        let owners = [geteuid().as_raw(), fs::stat(real)?.st_uid];
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        loop {
            let file = fs::open(&path, flags, mode)?;
            // In a folder where anybody can create files, somebody else may have created it.
            let owner = fs::fstat(&file)?.st_uid;
            if !owners.contains(&owner) {
                let path = Escaped(&path);
                let message = format!("{path} is owned by uid {owner}; remove it");
                return Err(io::Error::other(message));
            }
            match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Whoever held the lock before has renamed or removed the file.
                Ok(()) if !is_at(&path, &fs::fstat(&file)?) => continue,
                // A process that died left it behind, or somebody linked another file there.
                Ok(()) if !is_private(&fs::fstat(&file)?) => fs::unlink(&path)?,
                Ok(()) => return Ok(Self { file, path }),
                Err(Errno::WOULDBLOCK) if started.elapsed() < LOCK_TIME => {
                    thread::sleep(LOCK_PAUSE);
                }
                Err(Errno::WOULDBLOCK) => {
                    return Err(io::Error::other("another process is writing to it"));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes `serial` to the locked file, and renames it to `real`.
    fn replace(self, real: &Path, serial: u64) -> io::Result<()> {
        let old = fs::stat(real)?;
        let mut mode = Mode::from_raw_mode(old.st_mode);
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file: File = fs::open(&self.path, flags, Mode::empty())?.into();
        file.write_all(format!("{serial}\n").as_bytes())?;
        // The owner's hosts must be able to read it as before. A process that may not change its owner keeps it, and
        // gives its own group no right to write.
        let (owner, group) = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
        if fs::fchown(&file, Some(owner), Some(group)).is_err() {
            mode.remove(Mode::WGRP);
        }
        fs::fchmod(&file, mode)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&self.path, real)?;
        let folder = real.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    }
}

impl Drop for Next {
    /// Removes the file before the lock is released. Whoever waits for the lock then finds another file, or none, at
    /// the path.
    fn drop(&mut self) {
        if fs::fstat(&self.file).is_ok_and(|stat| is_at(&self.path, &stat)) {
            let _ = fs::unlink(&self.path);
        }
    }
}

/// Whether only its owner can have opened it, and it has no other name.
fn is_private(stat: &Stat) -> bool {
    let mode = Mode::from_raw_mode(stat.st_mode);
    !mode.intersects(Mode::RWXG | Mode::RWXO) && stat.st_nlink == 1
}

fn is_at(path: &Path, stat: &Stat) -> bool {
    fs::lstat(path).is_ok_and(|found| FileId::of(&found) == FileId::of(stat))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    use super::*;

    /// A user that does not exist on this machine.
    const OTHER: u32 = 54_321;

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A folder, a file in it that contains 1, and a policy that names the file.
    fn with_file() -> (tempfile::TempDir, PathBuf, Policy) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serial");
        std::fs::write(&path, "1\n").unwrap();
        let policy = Policy {
            serial_file: Some(path.clone()),
            any_owner: true,
            ..Policy::default()
        };
        (folder, path, policy)
    }

    #[test]
    fn a_file_that_others_could_have_opened_is_not_written_to() {
        let (folder, path, policy) = with_file();
        let next = folder.path().join("serial.new");
        for (serial, mode) in [(2, 0o644), (3, 0o620), (4, 0o601)] {
            std::fs::write(&next, "left").unwrap();
            chmod(&next, mode);
            let mut opened = File::open(&next).unwrap();
            raise(serial, &policy).unwrap();
            let mut text = String::new();
            io::Read::read_to_string(&mut opened, &mut text).unwrap();
            assert_eq!(text, "left", "{mode:o}");
        }
        // A hard link to another file of this user.
        let own = folder.path().join("own");
        std::fs::write(&own, "own").unwrap();
        chmod(&own, 0o600);
        std::fs::hard_link(&own, &next).unwrap();
        raise(5, &policy).unwrap();
        assert_eq!(std::fs::read(&own).unwrap(), b"own");
        assert_eq!(std::fs::read(&path).unwrap(), b"5\n");
        assert!(!next.exists());
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        if !geteuid().is_root() {
            return println!("only root can make files for another user: not tested");
        }
        let (folder, path, policy) = with_file();
        let next = folder.path().join("serial.new");
        std::fs::write(&next, "").unwrap();
        chmod(&next, 0o600);
        chown(&next, Some(OTHER), None).unwrap();
        let refusal = raise(2, &policy).unwrap_err();
        let expected = format!(
            "the serial number 2 cannot be kept in {}: {} is owned by uid {OTHER}; remove it",
            path.display(),
            next.display()
        );
        assert_eq!(
            (refusal.stage(), refusal.to_string()),
            (Stage::Host, expected)
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n");
    }

    #[test]
    fn the_file_keeps_its_owner() {
        if !geteuid().is_root() {
            return println!("only root can make files for another user: not tested");
        }
        let (_folder, path, policy) = with_file();
        chown(&path, Some(OTHER), Some(OTHER)).unwrap();
        chmod(&path, 0o640);
        raise(2, &policy).unwrap();
        let file = std::fs::metadata(&path).unwrap();
        assert_eq!((file.uid(), file.gid()), (OTHER, OTHER));
        assert_eq!(file.mode() & 0o7777, 0o640);
        assert_eq!(std::fs::read(&path).unwrap(), b"2\n");
    }

    #[test]
    fn the_number_in_the_file_never_falls_whoever_writes() {
        const WRITERS: u64 = 8;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serial");
        std::fs::write(&path, "0").unwrap();
        let policy = Policy {
            serial_file: Some(path.clone()),
            any_owner: true,
            ..Policy::default()
        };
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let policy = &policy;
                scope.spawn(move || {
                    for round in 0..10 {
                        let serial = 1 + round * WRITERS + writer;
                        let raised = raise(serial, policy);
                        // Refused, if another writer was faster.
                        if let Err(refusal) = raised {
                            assert_eq!(refusal.stage(), Stage::Trust, "{refusal}");
                        }
                        let path_policy = PathPolicy::new(policy).unwrap();
                        assert!(
                            read(policy.serial_file.as_ref().unwrap(), &path_policy)
                                .unwrap()
                                .serial
                                >= serial
                        );
                    }
                });
            }
        });
        assert_eq!(std::fs::read(&path).unwrap(), b"80\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
