//! From a path to a private, sealed, inspected copy.
//!
//! The dynamic linker must never be given a file that somebody else can still change: one that is
//! overwritten or truncated after it was mapped kills the process, and one that is replaced between our
//! look and the linker's is not the file that we looked at. So the file is read once, the bytes are
//! inspected, and the same bytes go into a sealed memory file (`memfd_create(2)`) that nobody can change
//! and that is gone with the process, also after SIGKILL.
//!
//! A memory file is also the answer to the linker's memory: `dlopen` of a path that is already loaded
//! gives the *old* image, whatever the file says by now. Every copy has a path of its own for as long as
//! its descriptor is open, which is why whoever has the image keeps it open.
//!
//! This file knows nothing of the dynamic linker.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use memmap2::MmapMut;
use rustix::{
    fs::{self, FileType, MemfdFlags, Mode, OFlags, SealFlags, Stat},
    process::{self, Resource},
};

use crate::{
    elf::{self, Export, Facts},
    error::{Error, Result, Stage},
    trust::Trust,
};

/// A private copy whose bytes passed the inspection, and can no longer change.
#[derive(Debug)]
pub(crate) struct Staged {
    copy: OwnedFd,
    origin: Origin,
    facts: Facts,
}

/// The bytes of a copy that was loaded once, in memory that nobody can change.
#[derive(Debug)]
pub(crate) struct Kept {
    copy: OwnedFd,
    origin: Origin,
}

/// Where a copy came from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The path as it was given.
    pub(crate) given: PathBuf,
    /// The file that it led to, with all links followed.
    pub(crate) real: PathBuf,
    /// How much was copied.
    pub(crate) bytes: u64,
}

/// How long the steps of staging took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Took {
    pub(crate) copy: Duration,
    pub(crate) inspect: Duration,
}

/// How often a file is read that changes meanwhile, and how long we give its writer in between. A
/// linker writes a plugin in well under a tenth of a second.
const READ_ATTEMPTS: u32 = 5;
const READ_PAUSE: Duration = Duration::from_millis(50);

/// How often a copy is sealed that the kernel has in hand, and the pause in between.
const SEAL_ATTEMPTS: u32 = 10;
const SEAL_PAUSE: Duration = Duration::from_millis(5);

impl Staged {
    /// Reads the file at `path`, inspects it, also for its definition of `export`, and keeps a sealed copy.
    pub(crate) fn prepare(path: &Path, export: Export<'_>, trust: &Trust) -> Result<(Self, Took)> {
        let started = Instant::now();
        let (bytes, real) = read_settled(path, trust.policy().file_bytes_max)?;
        let origin = Origin {
            given: path.to_owned(),
            real,
            bytes: bytes.len() as u64,
        };
        Self::of(&bytes, origin, export, started.elapsed())
    }

    /// A new copy of one that was loaded before. Of its own, because the dynamic linker would take the old one
    /// for the same library for as long as that is mapped.
    pub(crate) fn again(kept: &Kept, export: Export<'_>) -> Result<(Self, Took)> {
        let path = &*kept.origin.given;
        let fail = |error: io::Error| Error::new(Stage::Copy, path, error);
        let started = Instant::now();
        need_memory(path, kept.origin.bytes)?;
        let bytes = read_back(&kept.copy, kept.origin.bytes).map_err(fail)?;
        Self::of(&bytes, kept.origin.clone(), export, started.elapsed())
    }

    /// Inspects the bytes, and keeps a sealed copy.
    fn of(
        bytes: &[u8],
        origin: Origin,
        export: Export<'_>,
        read: Duration,
    ) -> Result<(Self, Took)> {
        let path = &*origin.given;
        let started = Instant::now();
        let facts = elf::inspect(bytes, export)
            .map_err(|refusal| Error::new(Stage::Inspect, path, refusal))?;
        let inspect = started.elapsed();

        let started = Instant::now();
        let copy = seal(bytes).map_err(|error| Error::new(Stage::Copy, path, error))?;
        let took = Took {
            copy: read + started.elapsed(),
            inspect,
        };
        Ok((
            Self {
                copy,
                origin,
                facts,
            },
            took,
        ))
    }

    /// A copy that another process has made and inspected. It is inspected again, for the facts.
    pub(crate) fn from_sealed(copy: OwnedFd, export: Export<'_>) -> Result<Self> {
        let nowhere = Path::new("");
        let fail = |error: io::Error| Error::new(Stage::Copy, nowhere, error);
        let size = fs::fstat(&copy)
            .map_err(|error| fail(error.into()))?
            .st_size;
        let origin = Origin {
            given: PathBuf::new(),
            real: PathBuf::new(),
            bytes: u64::try_from(size).unwrap_or_default(),
        };
        let bytes = read_back(&copy, origin.bytes).map_err(fail)?;
        let facts = elf::inspect(&bytes, export)
            .map_err(|refusal| Error::new(Stage::Inspect, nowhere, refusal))?;
        Ok(Self {
            copy,
            origin,
            facts,
        })
    }

    /// The copy for another process: the same file, which nobody can change.
    pub(crate) fn copy(&self) -> io::Result<OwnedFd> {
        self.copy.try_clone()
    }

    /// The path under which the dynamic linker finds this copy, and no other file while this exists.
    ///
    /// With the process's number and not `self`: gdb hangs on `/proc/self/fd` (2026-11, gdb 13.1).
    pub(crate) fn loader_path(&self) -> PathBuf {
        let process = process::getpid().as_raw_nonzero();
        PathBuf::from(format!("/proc/{process}/fd/{}", self.copy.as_raw_fd()))
    }

    /// The bytes, read again.
    pub(crate) fn bytes(&self) -> io::Result<Vec<u8>> {
        read_back(&self.copy, self.origin.bytes)
    }

    /// What is needed to load it again, whatever becomes of this.
    pub(crate) fn keep(&self) -> io::Result<Kept> {
        Ok(Kept {
            copy: self.copy()?,
            origin: self.origin.clone(),
        })
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }
}

impl Kept {
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// The bytes of a sealed copy. At an offset of its own: what reads from the descriptor meanwhile, such as a
/// debugger, moves the shared one.
fn read_back(copy: &OwnedFd, length: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length)?;
    bytes.resize(length, 0);
    let mut read = 0;
    while read < length {
        match rustix::io::pread(copy, &mut bytes[read..], read as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            some => read += some,
        }
    }
    Ok(bytes)
}

/// Reads the whole file, again if it changed meanwhile.
fn read_settled(path: &Path, bytes_max: u64) -> Result<(Vec<u8>, PathBuf)> {
    let refuse = |message: &str| Err(Error::new(Stage::Open, path, message));
    let name = path.as_os_str().as_bytes();
    if name.is_empty() {
        return refuse("the path is empty");
    }
    if name.contains(&0) {
        return refuse("the path contains a NUL byte");
    }
    if !name.contains(&b'/') {
        return refuse("a bare name; write `./` before it for a file in the current folder");
    }
    for attempt in 1..=READ_ATTEMPTS {
        let (file, before) = open_regular(path)?;
        let size = u64::try_from(before.st_size).unwrap_or(u64::MAX);
        if size > bytes_max {
            return refuse(&format!(
                "{size} bytes are more than the {bytes_max} that are accepted"
            ));
        }
        need_memory(path, size)?;
        let fail = |error| Error::new(Stage::Copy, path, error);
        let bytes = read_at_most(&file, size).map_err(fail)?;
        let after = fs::fstat(&file).map_err(|error| fail(error.into()))?;
        if bytes.len() as u64 == size && same_content(&before, &after) {
            let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            return Ok((bytes, real));
        }
        if attempt < READ_ATTEMPTS {
            thread::sleep(READ_PAUSE);
        }
    }
    refuse("the file keeps changing; it seems to be still being written")
}

/// Whether so much memory is left for a candidate of so many bytes, and for what has to be done with it.
///
/// A large allocation that fails is an error; a small one, in std as in the dynamic linker, ends the process.
/// So a large one is tried first, of the kernel, since the allocator may have that much in store and none for
/// a stack. Where a limit is about to be reached (`ulimit -v`) this is what refuses the candidate. It holds
/// nothing back: other threads can still use the memory up meanwhile. Costs a few microseconds.
pub(crate) fn need_memory(path: &Path, file_bytes: u64) -> Result<()> {
    /// A thread's stack, and some thousand small things.
    const MARGIN_BYTES: u64 = 16 << 20;
    let needed = file_bytes.saturating_mul(2).saturating_add(MARGIN_BYTES);
    if usize::try_from(needed).is_ok_and(|needed| MmapMut::map_anon(needed).is_ok()) {
        return Ok(());
    }
    let message = format!("not enough memory is left: {needed} bytes are needed");
    Err(Error::new(Stage::Host, path, message))
}

/// Opens a regular file for reading. Never blocks, and opens nothing that an open could disturb.
fn open_regular(path: &Path) -> Result<(File, Stat)> {
    let fail = |error: rustix::io::Errno| {
        let message = match error {
            rustix::io::Errno::LOOP => "the symbolic links lead in a circle".to_owned(),
            rustix::io::Errno::NOENT if fs::lstat(path).is_ok() => {
                "a symbolic link to nowhere".to_owned()
            }
            rustix::io::Errno::NOENT => "no such file".to_owned(),
            rustix::io::Errno::ACCESS => "permission denied".to_owned(),
            other => io::Error::from(other).to_string(),
        };
        Error::new(Stage::Open, path, message)
    };
    let check = |stat: &Stat| match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        other => Err(Error::new(Stage::Open, path, describe(other))),
    };
    check(&fs::stat(path).map_err(fail)?)?;
    // NONBLOCK: should the file have become a FIFO since, this does not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = fs::open(path, flags, Mode::empty()).map_err(fail)?;
    let stat = fs::fstat(&file).map_err(fail)?;
    check(&stat)?;
    Ok((file.into(), stat))
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a directory, not a file",
        FileType::Fifo => "a FIFO, not a file",
        FileType::Socket => "a socket, not a file",
        FileType::CharacterDevice | FileType::BlockDevice => "a device, not a file",
        _ => "not a regular file",
    }
}

/// `size` bytes, one more if the file has grown, fewer if it has shrunk.
fn read_at_most(file: &File, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let wanted = usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
    // `read_to_end` tries one byte past the end; with room for it, the buffer is not grown for that.
    bytes.try_reserve_exact(wanted.saturating_add(64))?;
    file.take(size.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Size and time of the last change. Not the inode's own time, which a mere `chmod` or `ln` moves.
fn same_content(a: &Stat, b: &Stat) -> bool {
    (a.st_size, a.st_mtime, a.st_mtime_nsec) == (b.st_size, b.st_mtime, b.st_mtime_nsec)
}

/// The bytes in a memory file that nobody can write to any more, not even this process.
fn seal(bytes: &[u8]) -> io::Result<OwnedFd> {
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
    Ok(copy)
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
