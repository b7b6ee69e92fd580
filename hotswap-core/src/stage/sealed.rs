//! Bytes in memory that nobody can change, and that are gone with the process.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, OwnedFd, RawFd},
    thread,
    time::Duration,
};

use memmap2::Mmap;
use rustix::{
    fs::{self, MemfdFlags, SealFlags},
    process::{self, Resource},
};

use crate::digest::Sha256;

/// A memory file that cannot be written to any more, not even by this process.
#[derive(Debug)]
pub(super) struct Sealed(OwnedFd);

const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

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
        while_busy(|| fs::fcntl_add_seals(&copy, SEALS))?;
        Ok(Self(copy))
    }

    /// One that another process has made.
    pub(super) fn from_other(copy: OwnedFd) -> io::Result<Self> {
        if !fs::fcntl_get_seals(&copy)?.contains(SEALS) {
            return Err(io::Error::other("not a sealed copy"));
        }
        Ok(Self(copy))
    }

    /// The bytes, of which only what is looked at is touched.
    pub(super) fn map(&self) -> io::Result<Mmap> {
        // SAFETY: it is sealed (`new`, `from_other`), so that nobody writes to it or makes it shorter.
        unsafe { Mmap::map(&self.0) }
    }

    /// Costs what it costs to read the bytes ([`Sha256::of`]). Maps nothing: who looks for images that are
    /// mapped finds none but those.
    pub(super) fn sha256(&self) -> io::Result<Sha256> {
        Sha256::of_all(Reader {
            copy: &self.0,
            at: 0,
        })
    }

    /// The same memory, by another descriptor.
    pub(super) fn another(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.another().map(Self)
    }

    pub(super) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
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
