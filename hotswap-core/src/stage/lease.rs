//! Keeping writers out of a file while it is read.
//!
//! Sizes and times say that a file was changed only when they change: a `write(2)` that is under way has set
//! the time when it began, so that a read in the middle of it sees the same time before and after, and a
//! mixture of old and new. (Seen within seconds when a file was written over in place and swapped in again
//! and again, and fatal: 2026-11, Linux 6.18.) A lease does say it: it is not given while anybody has the file
//! open for writing, and while we have it, whoever opens the file for writing waits
//! ([`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl.2.html), *Leases*).

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

/// Which signal tells of somebody who waits (`asm-generic/fcntl.h`; the libc crate does not have it).
const F_SETSIG: i32 = 10;

/// Who may be writing to a file.
pub(super) enum Writers<'a> {
    /// Nobody, until this is dropped.
    KeptOut(Lease<'a>),
    /// Somebody has it open for it.
    There,
    /// This cannot be known: leases are for a file's owner (or need `CAP_LEASE`), and not every file system has
    /// them.
    NotKnown,
}

/// Nobody opens the file for writing. Who tries meanwhile waits, at most as long as the administrator allows
/// (`/proc/sys/fs/lease-break-time`, 45 s).
pub(super) struct Lease<'a> {
    file: BorrowedFd<'a>,
}

pub(super) fn keep_out(file: &File) -> Writers<'_> {
    let file = file.as_fd();
    // To be told that somebody waits is of no use here, and by default the signal for it (SIGIO) ends the
    // process. This one is ignored by default.
    if control(file, F_SETSIG, libc::SIGURG).is_err() {
        return Writers::NotKnown;
    }
    match control(file, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(_) => Writers::KeptOut(Lease { file }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Writers::There,
        Err(_) => Writers::NotKnown,
    }
}

impl Lease<'_> {
    /// Whether nobody has waited for its end yet. (Somebody who waits too long is let in.)
    pub(super) fn is_whole(&self) -> bool {
        matches!(control(self.file, libc::F_GETLEASE, 0), Ok(kind) if kind == libc::F_RDLCK)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // It would end with the descriptor in any case.
        let _ = control(self.file, libc::F_SETLEASE, libc::F_UNLCK);
    }
}

fn control(file: BorrowedFd<'_>, command: i32, argument: i32) -> io::Result<i32> {
    // SAFETY: the commands above take a number, and give one; the descriptor is open.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer),
    }
}
