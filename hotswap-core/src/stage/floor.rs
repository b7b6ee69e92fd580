//! The lowest serial number that a candidate may have: one that the host gives, and the highest that was accepted, which
//! is kept in a file.
//!
//! # Invariants
//! - The number in the file never falls. Whoever writes it has a lock, under which it is read again.
//! - The file is replaced by one that is whole and on the disk. A file that is not there, that cannot be read, that others
//!   could have written, or that holds anything but a number is a refusal; none of them counts as zero.

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
    fs::{self, FlockOperation, Mode, OFlags, Stat},
    io::Errno,
};

use super::{
    Refusal,
    judge::Judge,
    read::{Content, read_settled},
};
use crate::{
    error::Stage,
    escape::{Escaped, excerpt},
    signature,
    trust::Policy,
};

/// The largest number and a line end.
const FILE_BYTES_MAX: u64 = 21;

/// How long another process may have the lock, which takes as long as writing a few bytes to a disk.
const LOCK_TIME: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// Refuses a candidate whose signature has no serial number, or one below what `policy` asks for.
pub(super) fn check(
    serial: Option<u64>,
    policy: &Policy,
    judge: &Judge<'_>,
) -> Result<(), Refusal> {
    if let Some(floor) = policy.serial_min {
        need(serial, floor, "Policy::serial_min")?;
    }
    if let Some(path) = &policy.serial_file {
        need(serial, read(path, judge)?.serial, "Policy::serial_file")?;
    }
    Ok(())
}

/// Keeps the serial number of a candidate that was accepted, if `policy` names a file for it and that has a lower one.
///
/// Waits for other processes that write to the file, and for the disk.
pub(super) fn raise(serial: u64, policy: &Policy) -> Result<(), Refusal> {
    let Some(path) = &policy.serial_file else {
        return Ok(());
    };
    let judge = Judge::new(policy)?;
    let now = || -> Result<Highest, Refusal> {
        let now = read(path, &judge)?;
        need(Some(serial), now.serial, "Policy::serial_file")?;
        Ok(now)
    };
    let Highest { serial: kept, real } = now()?;
    if kept == serial {
        return Ok(());
    }
    let failed = |error: io::Error| {
        let path = Escaped(path);
        let message = format!(
            "the serial number {serial} cannot be kept in {path} (Policy::serial_file): {error}"
        );
        Refusal::new(Stage::Host, message)
    };
    let next = Next::lock(&real).map_err(failed)?;
    // Another process may have accepted something meanwhile.
    if now()?.serial < serial {
        next.replace(&real, serial).map_err(failed)?;
    }
    Ok(())
}

fn need(serial: Option<u64>, floor: u64, field: &str) -> Result<(), Refusal> {
    let found = match serial {
        Some(serial) if serial >= floor => return Ok(()),
        Some(serial) => serial.to_string(),
        None => "none".to_owned(),
    };
    let message = format!("its serial number: expected at least {floor} ({field}), found {found}");
    Err(Refusal::new(Stage::Trust, message))
}

/// The highest serial number that was accepted.
struct Highest {
    serial: u64,
    /// The file that it is in, with all links followed.
    real: PathBuf,
}

fn read(path: &Path, judge: &Judge<'_>) -> Result<Highest, Refusal> {
    let refuse = |message: &str| {
        let path = Escaped(path);
        let message =
            format!("the highest serial number, in {path} (Policy::serial_file): {message}");
        Refusal::new(Stage::Trust, message)
    };
    if let Err(Errno::NOENT) = fs::lstat(path) {
        return Err(refuse("no such file; one with `0` in it is a beginning"));
    }
    let content = read_settled(path, FILE_BYTES_MAX, |place| judge.look_at_rights(place));
    let Content { bytes, real, .. } = content.map_err(|refusal| match refusal.stage {
        // That names a path already.
        Stage::Trust => refusal,
        _ => refuse(&refusal.message),
    })?;
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let serial = str::from_utf8(text).ok().and_then(signature::serial);
    let serial = serial
        .ok_or_else(|| refuse(&format!("expected a number, found \"{}\"", excerpt(&bytes))))?;
    Ok(Highest { serial, real })
}

/// The file that is to replace the one with the number. Whoever has it locked writes; it is gone when this is dropped.
struct Next {
    /// Not open for writing: a file that is, is not read by others.
    file: OwnedFd,
    path: PathBuf,
}

impl Next {
    /// In the same folder as the file at `real`, as renaming it there asks for.
    fn lock(real: &Path) -> io::Result<Self> {
        let mut path = OsString::from(real);
        path.push(".new");
        let path = PathBuf::from(path);
        let started = Instant::now();
        // Only its owner can lock it, since nobody else can open it.
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        loop {
            let file = fs::open(&path, flags, mode)?;
            match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Whoever had it before has renamed or removed it.
                Ok(()) if !is_at(&path, &fs::fstat(&file)?) => continue,
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

    /// Puts itself, with `serial` in it, in the place of the file at `real`.
    fn replace(self, real: &Path, serial: u64) -> io::Result<()> {
        let mode = Mode::from_raw_mode(fs::stat(real)?.st_mode);
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file: File = fs::open(&self.path, flags, Mode::empty())?.into();
        file.write_all(format!("{serial}\n").as_bytes())?;
        fs::fchmod(&file, mode)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&self.path, real)?;
        let folder = real.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    }
}

impl Drop for Next {
    /// Before the lock is given up: whoever waits for it finds that there is another file, or none, at the path.
    fn drop(&mut self) {
        if fs::fstat(&self.file).is_ok_and(|stat| is_at(&self.path, &stat)) {
            let _ = fs::unlink(&self.path);
        }
    }
}

fn is_at(path: &Path, stat: &Stat) -> bool {
    fs::lstat(path).is_ok_and(|found| (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

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
                        // Or somebody was faster.
                        if let Err(refusal) = raised {
                            assert_eq!(refusal.stage, Stage::Trust, "{}", refusal.message);
                        }
                        let judge = Judge::new(policy).unwrap();
                        assert!(
                            read(policy.serial_file.as_ref().unwrap(), &judge)
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
