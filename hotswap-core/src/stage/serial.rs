//! The lowest serial number that a candidate may have: the higher of one that the host sets, and the highest that was
//! accepted, which is kept in a file.
//!
//! # Invariants
//! - The number in the file never falls. Whoever writes the file holds a lock, and reads the number again under it.
//! - If the file is missing, cannot be read, could have been written by others or holds anything but a number, the
//!   candidate is refused; none of these counts as zero. [`Replacement`] has how it is written.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    path_policy::PathPolicy,
    read::{Content, read_settled},
    walk::Place,
};
use crate::{
    error::{ErrorKind, Stage},
    escape::excerpt,
    signature,
    system::{replacement::Replacement, status::Status},
    trust::Policy,
};

/// The largest number, and a line end.
const FILE_BYTES_MAX: u64 = 21;

/// How long to wait while the file is open for writing. Whoever replaces it has it open for a moment; a process that
/// is forked in that moment has it open, too, until it runs another program.
const SETTLE_TIME: Duration = Duration::from_secs(10);

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
    let next = Replacement::lock(&real).map_err(failed)?;
    // Read again: another process may have accepted a candidate meanwhile.
    if now()?.serial < serial {
        let text = format!("{serial}\n");
        next.replace(&real, &text).map_err(failed)?;
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
    if Status::of_link(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        let problem = "no such file; one with `0` in it is a beginning";
        return Err(refuse(problem.to_owned()));
    }
    let started = Instant::now();
    let content = loop {
        let check = |place: &Place<'_>| path_policy.check_rights(place);
        let content = read_settled(path, FILE_BYTES_MAX, check);
        let keeps_changing = matches!(content, Err(ErrorKind::KeepsChanging { .. }));
        if !keeps_changing || started.elapsed() > SETTLE_TIME {
            break content;
        }
    };
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

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        os::unix::fs::{MetadataExt, PermissionsExt, chown},
        process::Command,
        thread,
    };

    use super::*;
    use crate::system::users::effective_uid;

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

    /// As by a process that was forked while it was replaced.
    #[test]
    fn a_file_that_is_open_for_writing_for_a_while_is_waited_for() {
        let (_folder, path, policy) = with_file();
        let open = File::options().append(true).open(&path).unwrap();
        let closing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(500));
            drop(open);
        });
        raise(2, &policy).unwrap();
        closing.join().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"2\n");
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let (folder, path, policy) = with_file();
        let next = folder.path().join("serial.new");
        let made = Command::new("mkfifo").arg(&next).status().unwrap();
        assert!(made.success());
        let said = raise(2, &policy).unwrap_err().to_string();
        assert!(
            said.contains("serial.new is not a regular file; remove it"),
            "{said}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"1\n");
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        if effective_uid() != 0 {
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
        if effective_uid() != 0 {
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
                        let raised = loop {
                            match raise(serial, policy) {
                                // The disk was so slow that it has not had its turn.
                                Err(ErrorKind::SerialNotKept { error, .. })
                                    if error.to_string().contains("another process") => {}
                                raised => break raised,
                            }
                        };
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
