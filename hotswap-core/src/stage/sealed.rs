//! Bytes in memory that nobody can change, and that are gone with the process.
//!
//! Code that closes descriptors which are not its own is common: a daemon at its start, a library before it runs a
//! program. The number is then used again, for another file. So a copy remembers which file it is, and is that or
//! nothing: whatever is asked of it is an error when the descriptor leads elsewhere.

use std::{
    fs::File,
    io::{self, Read, Write},
    mem::ManuallyDrop,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use hotswap_elf::Change;
use memmap2::Mmap;
use rustix::fs::{self, MemfdFlags, SealFlags, Stat};

use super::name;
use crate::{
    digest::Sha256,
    limits::{Limit, Resource, limit},
};

/// A memory file that cannot be written to any more, not even by this process.
#[derive(Debug)]
pub(super) struct Sealed {
    /// Leads to the file, unless other code of this process has closed it: every use is checked
    /// ([`Sealed::check`]).
    descriptor: ManuallyDrop<OwnedFd>,
    file: Identity,
    /// How the bytes differ from those of the file that was copied, by offset.
    changes: Arc<[Change]>,
}

/// What tells a file from all others that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// How often a copy is sealed that the kernel has in hand, and the pause in between.
const SEAL_ATTEMPTS: u32 = 10;
const SEAL_PAUSE: Duration = Duration::from_millis(5);

/// What has become of a descriptor that leads elsewhere.
const CLOSED: &str = "its descriptor was closed by other code of this process";

impl Sealed {
    /// A copy of these bytes with the changes made.
    pub(super) fn new(bytes: &[u8], mut changes: Vec<Change>) -> io::Result<Self> {
        changes.sort_unstable_by_key(|change| change.offset);
        let file = write(bytes, &changes)?;
        Self::of(file, changes.into())
    }

    /// The same bytes once more, in a file of its own: a copy of what this is a copy of.
    pub(super) fn again(&self) -> io::Result<Self> {
        let file = write(&self.map()?, &[])?;
        Self::of(file, Arc::clone(&self.changes))
    }

    /// One that another process has made. What that has changed in it is not known here.
    pub(super) fn from_other(copy: OwnedFd) -> io::Result<Self> {
        if !fs::fcntl_get_seals(&copy)?.contains(SEALS) {
            return Err(io::Error::other("not a sealed copy"));
        }
        Self::of(copy, Arc::new([]))
    }

    fn of(copy: OwnedFd, changes: Arc<[Change]>) -> io::Result<Self> {
        let file = Identity::of(&fs::fstat(&copy)?);
        Ok(Self {
            descriptor: ManuallyDrop::new(copy),
            file,
            changes,
        })
    }

    /// The bytes, of which only what is looked at is touched.
    pub(super) fn map(&self) -> io::Result<Mmap> {
        self.check()?;
        // SAFETY: nobody writes to the copy or makes it shorter, for it is sealed (`write`, `from_other`). That it is
        // the copy which was mapped, and not a file that got the descriptor's number after the first check, is
        // checked before anybody sees the bytes: no other code has a descriptor of the copy to put it back.
        let bytes = unsafe { Mmap::map(&*self.descriptor) }?;
        self.check()?;
        Ok(bytes)
    }

    /// The SHA-256 of the file that was copied: where the copy was changed, the file's own bytes are hashed. Costs what
    /// it costs to read the bytes ([`Sha256::of`]). Maps nothing: who looks for images that are mapped finds none but those.
    pub(super) fn sha256(&self) -> io::Result<Sha256> {
        self.check()?;
        let sha256 = Sha256::of_all(Original { copy: self, at: 0 })?;
        self.check()?;
        Ok(sha256)
    }

    /// The same memory, by another descriptor.
    pub(super) fn another(&self) -> io::Result<OwnedFd> {
        let another = self.descriptor.try_clone().map_err(closed)?;
        self.check_is(&another)?;
        Ok(another)
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            descriptor: ManuallyDrop::new(self.another()?),
            file: self.file,
            changes: Arc::clone(&self.changes),
        })
    }

    /// A path that leads to the copy, and that was never given before.
    pub(super) fn path(&self) -> io::Result<PathBuf> {
        let number = self.descriptor.as_raw_fd();
        let path = name::unused(number)?;
        let found = fs::stat(&path).map(|stat| Identity::of(&stat));
        if found == Ok(self.file) {
            return Ok(path);
        }
        let plain = name::plain(number)?;
        let message = match (self.check(), found) {
            (Err(_), Ok(_)) => format!("{plain} is another file: {CLOSED}"),
            (Err(_), Err(error)) => format!("{plain}: {error}: {CLOSED}"),
            (Ok(()), Ok(_)) => format!("{plain} is another file: /proc is that of other processes"),
            (Ok(()), Err(error)) => format!("{plain}: {error}"),
        };
        Err(io::Error::other(message))
    }

    /// Whether the descriptor still leads to the copy, at this moment.
    pub(super) fn check(&self) -> io::Result<()> {
        self.check_is(&*self.descriptor)
    }

    fn check_is(&self, descriptor: impl AsFd) -> io::Result<()> {
        let found = fs::fstat(descriptor).map_err(|error| closed(error.into()))?;
        if Identity::of(&found) == self.file {
            return Ok(());
        }
        Err(io::Error::other(CLOSED))
    }
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

/// A descriptor that leads elsewhere belongs to whoever has opened it there, and is left to them: a log, say, or a
/// connection, which would otherwise end when a generation leaves. (Between the look and the closing it may happen
/// still. There is no way to close a descriptor only if it leads to a given file.)
impl Drop for Sealed {
    fn drop(&mut self) {
        if self.check().is_ok() {
            // SAFETY: this is the only place that drops it, and nobody uses it after that.
            unsafe { ManuallyDrop::drop(&mut self.descriptor) };
        }
    }
}

/// A descriptor that is not open says the same of a copy as one that leads elsewhere.
fn closed(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EBADF) => io::Error::other(CLOSED),
        _ => error,
    }
}

/// A new memory file with these bytes, the changes made in it, and sealed.
fn write(bytes: &[u8], changes: &[Change]) -> io::Result<OwnedFd> {
    // A write past this limit does not fail, it raises SIGXFSZ, which ends the process.
    let limit = limit(Resource::RLIMIT_FSIZE);
    if matches!(limit, Limit::Of(limit) if limit < bytes.len() as u64) {
        return Err(io::Error::other(
            "larger than the limit on file sizes (ulimit -f)",
        ));
    }
    let copy = fs::memfd_create("hotswap", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = File::from(copy);
    copy.write_all(bytes)?;
    for change in changes {
        copy.write_all_at(&[change.to], change.offset)?;
    }
    let copy = OwnedFd::from(copy);
    while_busy(|| fs::fcntl_add_seals(&copy, SEALS))?;
    Ok(copy)
}

/// Reads the bytes as they were before they were changed, at an offset of its own: what reads from the descriptor
/// meanwhile, such as a debugger, moves the shared one.
struct Original<'a> {
    copy: &'a Sealed,
    at: u64,
}

impl Read for Original<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = rustix::io::pread(&*self.copy.descriptor, &mut *buffer, self.at)?;
        let end = self.at + length as u64;
        let changes = &*self.copy.changes;
        let first = changes.partition_point(|change| change.offset < self.at);
        for change in changes[first..].iter().take_while(|it| it.offset < end) {
            buffer[(change.offset - self.at) as usize] = change.from;
        }
        self.at = end;
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
    use std::os::fd::FromRawFd;

    use rustix::io::Errno;

    use super::*;

    /// Not a divisor of the length, nor of the part that is hashed at once.
    const STEP: usize = 1021;

    fn changes(bytes: &[u8]) -> Vec<Change> {
        let offsets = (0..bytes.len()).step_by(STEP).rev();
        let change = |offset| Change {
            offset: offset as u64,
            from: bytes[offset],
            to: bytes[offset] ^ 0xff,
        };
        offsets.map(change).collect()
    }

    #[test]
    fn a_changed_copy_has_the_hash_of_what_it_was_made_from() {
        let bytes: Vec<u8> = (0..200_000u32).map(|it| it as u8).collect();
        let copy = Sealed::new(&bytes, changes(&bytes)).unwrap();
        let mapped = copy.map().unwrap();
        assert_eq!(mapped.len(), bytes.len());
        for (offset, (was, is)) in bytes.iter().zip(&*mapped).enumerate() {
            assert_eq!(was != is, offset % STEP == 0, "{offset}");
        }
        let again = copy.again().unwrap();
        assert!(*again.map().unwrap() == *mapped, "not changed twice");
        assert_ne!(again.file, copy.file);
        for it in [&copy, &again, &copy.try_clone().unwrap()] {
            assert_eq!(it.sha256().unwrap(), Sha256::of(&bytes));
        }
    }

    /// Puts another file in the place of the copy's descriptor, as code that closes and opens does.
    fn replace(copy: &Sealed) {
        let number = copy.descriptor.as_raw_fd();
        // SAFETY: open, and not closed here: the copy still has it.
        let mut place = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        rustix::io::dup2(File::open("/dev/null").unwrap(), &mut place).unwrap();
    }

    #[test]
    fn a_descriptor_that_leads_elsewhere_is_used_for_nothing_and_not_closed() {
        let copy = Sealed::new(b"some bytes", Vec::new()).unwrap();
        let number = copy.descriptor.as_raw_fd();
        replace(&copy);
        let errors = [
            copy.map().map(drop).unwrap_err(),
            copy.sha256().map(drop).unwrap_err(),
            copy.another().map(drop).unwrap_err(),
            copy.again().map(drop).unwrap_err(),
            copy.check().unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.to_string(), CLOSED);
        }
        let plain = name::plain(number).unwrap();
        assert_eq!(
            copy.path().unwrap_err().to_string(),
            format!("{plain} is another file: {CLOSED}")
        );
        drop(copy);
        let there = std::fs::read_link(&plain).unwrap();
        assert_eq!(there, PathBuf::from("/dev/null"));
        // SAFETY: nobody else has it: the copy has left it.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }

    #[test]
    fn each_path_of_a_copy_leads_to_it() {
        let copy = Sealed::new(b"some bytes", Vec::new()).unwrap();
        let (one, two) = (copy.path().unwrap(), copy.path().unwrap());
        assert_ne!(one.as_os_str(), two.as_os_str());
        for path in [one, two] {
            assert_eq!(std::fs::read(path).unwrap(), b"some bytes");
        }
    }

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
