//! A copy of some bytes in memory that nobody can change, and that is gone with the process.
//!
//! Code often closes descriptors that it does not own: a daemon when it starts, a library before it runs a program.
//! Then another file gets the number. So a copy remembers its file's identity, and checks it at every use: if the
//! descriptor leads elsewhere, the result is an error.

use std::{
    fs::File,
    io::{self, Read},
    iter,
    mem::ManuallyDrop,
    path::PathBuf,
    sync::Arc,
};

use hotswap_elf::Change;
use memmap2::{Mmap, MmapOptions};

use crate::{
    digest::Sha256,
    system::{
        errno, memory_file, proc,
        status::{FileId, Status},
    },
};

/// A memory file that nobody can write to any more, not even this process.
#[derive(Debug)]
pub(super) struct Sealed {
    /// Leads to the copy, unless other code in this process has closed it. Every use is checked ([`Sealed::check`]).
    file: ManuallyDrop<File>,
    id: FileId,
    /// The file's name, which a debugger and `/proc` show.
    name: Arc<str>,
    /// The changes from the bytes of the original file, sorted by offset.
    changes: Arc<[Change]>,
}

/// The message for a descriptor that leads elsewhere.
const CLOSED: &str = "its descriptor was closed by other code of this process";

impl Sealed {
    /// Makes a copy of this name of these bytes, with the changes applied.
    pub(super) fn new(name: &str, bytes: &[u8], mut changes: Vec<Change>) -> io::Result<Self> {
        changes.sort_unstable_by_key(|change| change.offset);
        let replaced = changes.iter().map(|change| (change.offset, change.to));
        let file = memory_file::sealed(name, bytes, replaced)?;
        Self::of(file, name.into(), changes.into())
    }

    /// Makes a copy of this name of the next `bytes` bytes of a file, or of fewer if that ends.
    pub(super) fn of_file(name: &str, file: &File, bytes: u64) -> io::Result<Self> {
        let file = memory_file::sealed_copy(name, file, bytes)?;
        Self::of(file, name.into(), Arc::new([]))
    }

    /// Makes another copy of the same bytes, with the changes applied, as a file of its own with the same name.
    pub(super) fn changed(&self, changes: Vec<Change>) -> io::Result<Self> {
        Self::new(&self.name, &self.map()?, changes)
    }

    /// Makes another copy of the same bytes, as a file of its own with the same name.
    pub(super) fn again(&self) -> io::Result<Self> {
        let file = memory_file::sealed(&self.name, &self.map()?, iter::empty())?;
        Self::of(file, Arc::clone(&self.name), Arc::clone(&self.changes))
    }

    /// Takes a copy that another process has made. Which bytes that process changed is not known here.
    pub(super) fn from_other(copy: File) -> io::Result<Self> {
        if !memory_file::is_sealed(&copy)? {
            return Err(io::Error::other("not a sealed copy"));
        }
        let name = memory_file::name(&copy)?;
        Self::of(copy, name.into(), Arc::new([]))
    }

    fn of(copy: File, name: Arc<str>, changes: Arc<[Change]>) -> io::Result<Self> {
        let id = Status::of(&copy)?.id;
        Ok(Self {
            file: ManuallyDrop::new(copy),
            id,
            name,
            changes,
        })
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// Maps the bytes. Only pages that are accessed are read.
    pub(super) fn map(&self) -> io::Result<Mmap> {
        self.check()?;
        // Privately: before 6.7, Linux refuses a shared mapping of a file that is sealed against writing.
        // SAFETY: the copy is sealed (`new`, `of_file`, `again`, `from_other`), so nobody can write to it or shorten
        // it. If other code has closed the descriptor and another file has its number, the second check below finds
        // that before anybody sees the bytes: no other code has a descriptor of the copy, so nobody can have put it
        // back.
        let bytes = unsafe { MmapOptions::new().map_copy_read_only(&*self.file) }?;
        self.check()?;
        Ok(bytes)
    }

    /// The SHA-256 of the original file: where the copy was changed, it hashes the original byte. Costs reading the
    /// bytes ([`Sha256::of`]). It maps nothing, so that a look for mapped images finds no copies.
    pub(super) fn sha256(&self) -> io::Result<Sha256> {
        self.check()?;
        let sha256 = Sha256::of_all(Original { copy: self, at: 0 })?;
        self.check()?;
        Ok(sha256)
    }

    /// Another descriptor of the same memory.
    pub(super) fn another(&self) -> io::Result<File> {
        let another = self.file.try_clone().map_err(closed)?;
        self.check_is(&another)?;
        Ok(another)
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            file: ManuallyDrop::new(self.another()?),
            id: self.id,
            name: Arc::clone(&self.name),
            changes: Arc::clone(&self.changes),
        })
    }

    /// A path that leads to the copy, and that was never returned before.
    pub(super) fn path(&self) -> io::Result<PathBuf> {
        let path = proc::unused(&self.file)?;
        let found = Status::at(&path).map(|status| status.id);
        if found.as_ref().is_ok_and(|found| *found == self.id) {
            return Ok(path);
        }
        let plain = proc::plain(&self.file)?;
        let message = match (self.check(), found) {
            (Err(_), Ok(_)) => format!("{plain} is another file: {CLOSED}"),
            (Err(_), Err(error)) => format!("{plain}: {error}: {CLOSED}"),
            (Ok(()), Ok(_)) => format!("{plain} is another file: /proc is that of other processes"),
            (Ok(()), Err(error)) => format!("{plain}: {error}"),
        };
        Err(io::Error::other(message))
    }

    /// Checks that the descriptor leads to the copy at this moment.
    pub(super) fn check(&self) -> io::Result<()> {
        self.check_is(&self.file)
    }

    fn check_is(&self, file: &File) -> io::Result<()> {
        if Status::of(file).map_err(closed)?.id == self.id {
            return Ok(());
        }
        Err(io::Error::other(CLOSED))
    }
}

#[cfg(feature = "backtrace")]
impl crate::crash::ImageFile for Sealed {
    fn path(&self) -> io::Result<PathBuf> {
        Self::path(self)
    }
}

/// Leaves a descriptor that leads elsewhere to whoever opened that: it may be a log or a connection, which would
/// otherwise end when a generation is unloaded. (It can still happen between the check and the closing. No call
/// closes a descriptor only if it leads to a given file.)
impl Drop for Sealed {
    fn drop(&mut self) {
        if self.check().is_ok() {
            // SAFETY: only this drops the descriptor, and nobody uses it afterwards.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}

/// Turns the error of a descriptor that is not open into the error of one that leads elsewhere.
fn closed(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(errno::EBADF) => io::Error::other(CLOSED),
        _ => error,
    }
}

/// Reads the bytes as they were in the original file. It keeps an offset of its own, because other readers of the
/// descriptor, such as a debugger, move the shared one.
struct Original<'a> {
    copy: &'a Sealed,
    at: u64,
}

impl Read for Original<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = memory_file::read_at(&self.copy.file, buffer, self.at)?;
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

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    use super::*;

    /// Divides neither the length nor the size of the parts that are hashed at once.
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
        let copy = Sealed::new("some-copy", &bytes, changes(&bytes)).unwrap();
        let mapped = copy.map().unwrap();
        assert_eq!(mapped.len(), bytes.len());
        for (offset, (was, is)) in bytes.iter().zip(&*mapped).enumerate() {
            assert_eq!(was != is, offset % STEP == 0, "{offset}");
        }
        let again = copy.again().unwrap();
        assert!(*again.map().unwrap() == *mapped, "not changed twice");
        assert_ne!(again.id, copy.id);
        for it in [&copy, &again, &copy.try_clone().unwrap()] {
            assert_eq!(it.sha256().unwrap(), Sha256::of(&bytes));
        }
    }

    /// Makes the copy's descriptor lead to another file, as code does that closes it and opens a file.
    fn replace(copy: &Sealed) {
        let number = copy.file.as_raw_fd();
        // SAFETY: the descriptor is open, and `ManuallyDrop` keeps it open for the copy, which owns it.
        let mut place = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        rustix::io::dup2(File::open("/dev/null").unwrap(), &mut place).unwrap();
    }

    #[test]
    fn a_descriptor_that_leads_elsewhere_is_used_for_nothing_and_not_closed() {
        let copy = Sealed::new("some-copy", b"some bytes", Vec::new()).unwrap();
        let number = copy.file.as_raw_fd();
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
        let plain = proc::plain(&copy.file).unwrap();
        assert_eq!(
            copy.path().unwrap_err().to_string(),
            format!("{plain} is another file: {CLOSED}")
        );
        drop(copy);
        let there = std::fs::read_link(&plain).unwrap();
        assert_eq!(there, PathBuf::from("/dev/null"));
        // SAFETY: the copy has left the descriptor open, so nobody else owns it.
        drop(unsafe { File::from_raw_fd(number) });
    }

    #[test]
    fn each_path_of_a_copy_leads_to_it() {
        let copy = Sealed::new("some-copy", b"some bytes", Vec::new()).unwrap();
        let (one, two) = (copy.path().unwrap(), copy.path().unwrap());
        assert_ne!(one.as_os_str(), two.as_os_str());
        for path in [one, two] {
            assert_eq!(std::fs::read(path).unwrap(), b"some bytes");
        }
    }
}
