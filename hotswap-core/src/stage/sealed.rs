//! Bytes in memory that nobody can change, and that are gone with the process.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    thread,
    time::Duration,
};

use rustix::{
    fs::{self, MemfdFlags, SealFlags},
    process::{self, Resource},
};

use crate::digest::Sha256;

/// A memory file that cannot be written to any more, not even by this process.
#[derive(Debug)]
pub(super) struct Sealed(OwnedFd);

/// How often a copy is sealed that the kernel has in hand, and the pause in between.
const SEAL_ATTEMPTS: u32 = 10;
const SEAL_PAUSE: Duration = Duration::from_millis(5);

impl Sealed {
    /// A copy of these bytes.
    pub(super) fn new(bytes: &[u8]) -> io::Result<Self> {
        // A write past this limit does not fail, it raises SIGXFSZ, which ends the process.
        let limit = process::getrlimit(Resource::Fsize).current;
        if limit.is_some_and(|limit| limit < bytes.len() as u64) {
            return Err(io::Error::other(
                "larger than the limit on file sizes (ulimit -f)",
            ));
        }
        let copy = fs::memfd_create("hotswap", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut copy = File::from(copy);
        copy.write_all(bytes)?;
        let copy = OwnedFd::from(copy);
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        while_busy(|| fs::fcntl_add_seals(&copy, seals))?;
        Ok(Self(copy))
    }

    /// One that another process has made.
    pub(super) fn from_other(copy: OwnedFd) -> Self {
        Self(copy)
    }

    /// All of the bytes.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let size = fs::fstat(&self.0)?.st_size;
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut bytes = Vec::new();
        // `read_to_end` tries some bytes past the end; with room for them, the buffer is not grown for that.
        bytes.try_reserve_exact(size.saturating_add(64))?;
        self.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Costs what it costs to read the bytes ([`Sha256::of`]).
    pub(super) fn sha256(&self) -> io::Result<Sha256> {
        Sha256::of_all(self.reader())
    }

    /// Another descriptor of the same memory.
    pub(super) fn another(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(super) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn reader(&self) -> impl Read {
        Reader {
            copy: &self.0,
            at: 0,
        }
    }
}

/// Reads at an offset of its own: what reads from the descriptor meanwhile, such as a debugger, moves the
/// shared one.
struct Reader<'a> {
    copy: &'a OwnedFd,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = rustix::io::pread(self.copy, buffer, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

/// Tries again for as long as the kernel says that it is busy, within reason.
///
/// It will not seal a memory file against writing while anybody else has one of its pages in hand. That may be
/// the kernel itself, which moves pages about and takes part in no agreement; it waits 150 ms for that and
/// then answers EBUSY (`memfd_wait_for_pins` in `mm/memfd.c`). Seen once in some 100,000 swaps on a machine
/// under load (Linux 6.18, 2026-11).
fn while_busy(mut attempt: impl FnMut() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    for _ in 1..SEAL_ATTEMPTS {
        match attempt() {
            Err(rustix::io::Errno::BUSY) => thread::sleep(SEAL_PAUSE),
            other => return other,
        }
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_seal_is_tried_again_while_the_kernel_is_busy() {
        let answers = |busy: u32| {
            let mut attempts = 0;
            let result = while_busy(|| {
                attempts += 1;
                if attempts <= busy {
                    Err(Errno::BUSY)
                } else {
                    Ok(())
                }
            });
            (result, attempts)
        };
        assert_eq!(answers(0), (Ok(()), 1));
        assert_eq!(answers(SEAL_ATTEMPTS - 1), (Ok(()), SEAL_ATTEMPTS));
        assert_eq!(answers(SEAL_ATTEMPTS), (Err(Errno::BUSY), SEAL_ATTEMPTS));
        assert_eq!(while_busy(|| Err(Errno::PERM)), Err(Errno::PERM));
    }
}
