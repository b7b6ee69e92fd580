//! Keeps writers out of a file while it is read.
//!
//! A change of size or time does not show every write. A `write(2)` sets the time when it begins, so a read in the
//! middle of it sees the same time before and after, and a mixture of old and new bytes. (Seen within seconds when a
//! file was overwritten in place and swapped in again and again, and fatal: 2026-11, Linux 6.18.) A lease shows it:
//! the kernel grants no lease while anybody has the file open for writing, and while a lease is held, whoever opens
//! the file for writing waits ([`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl.2.html), *Leases*).

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

/// Sets the signal that reports a waiting writer (`asm-generic/fcntl.h`; the libc crate does not have it).
const F_SETSIG: i32 = 10;

/// Whether somebody may be writing to a file.
pub(crate) enum Writers<'a> {
    /// Nobody can, until this is dropped.
    KeptOut(Lease<'a>),
    /// Somebody has the file open for writing.
    There,
    /// Unknown: leases are for a file's owner (or need `CAP_LEASE`), and not every file system has them.
    NotKnown,
}

/// While this lives, nobody can open the file for writing. Whoever tries waits, at most as long as the administrator
/// allows (`/proc/sys/fs/lease-break-time`, 45 s).
pub(crate) struct Lease<'a> {
    file: BorrowedFd<'a>,
}

pub(crate) fn keep_out(file: &File) -> Writers<'_> {
    let file = file.as_fd();
    // Nobody here needs to know that a writer waits, and the default signal for it (SIGIO) ends the process.
    // SIGURG is ignored by default.
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
    /// Whether no writer has asked for its end yet. (A writer that has waited too long is let in.)
    pub(crate) fn is_whole(&self) -> bool {
        matches!(control(self.file, libc::F_GETLEASE, 0), Ok(kind) if kind == libc::F_RDLCK)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // Closing the descriptor would end it anyway.
        let _ = control(self.file, libc::F_SETLEASE, libc::F_UNLCK);
    }
}

fn control(file: BorrowedFd<'_>, command: i32, argument: i32) -> io::Result<i32> {
    // SAFETY: these commands take a number and return one, and the descriptor is open.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer),
    }
}
