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

mod judge;
mod memory;
mod proof;
mod read;
mod walk;

use std::{
    fmt::Display,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{self, MemfdFlags, SealFlags},
    process::{self, Resource},
};

use self::{
    judge::Judge,
    read::{Content, read_settled},
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
    /// Whether there were any links.
    pub(crate) followed_link: bool,
    /// How much was copied.
    pub(crate) bytes: u64,
}

/// How long the steps of staging took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Took {
    pub(crate) copy: Duration,
    pub(crate) inspect: Duration,
}

/// Why a candidate is refused, where its path is not known, or not the one that was asked for.
#[derive(Debug)]
struct Refusal {
    stage: Stage,
    message: String,
}

/// How often a copy is sealed that the kernel has in hand, and the pause in between.
const SEAL_ATTEMPTS: u32 = 10;
const SEAL_PAUSE: Duration = Duration::from_millis(5);

impl Staged {
    /// Reads the file at `path`, holds it against the policy, inspects it, also for its definition of
    /// `export`, and keeps a sealed copy.
    pub(crate) fn prepare(path: &Path, export: Export<'_>, trust: &Trust) -> Result<(Self, Took)> {
        let refused = |refusal: Refusal| Error::new(refusal.stage, path, refusal.message);
        let policy = trust.policy();
        let started = Instant::now();
        check_spelling(path).map_err(refused)?;
        let judge = Judge::new(policy).map_err(refused)?;
        let content = read_settled(path, policy.file_bytes_max, |place| judge.look(place));
        let Content {
            bytes,
            real,
            followed_link,
        } = content.map_err(refused)?;
        let read = started.elapsed();
        let started = Instant::now();
        proof::check(&bytes, &real, policy, &judge).map_err(refused)?;
        let proof = started.elapsed();

        let origin = Origin {
            given: path.to_owned(),
            real,
            followed_link,
            bytes: bytes.len() as u64,
        };
        let (staged, took) = Self::of(&bytes, origin, export, read)?;
        let inspect = proof + took.inspect;
        Ok((staged, Took { inspect, ..took }))
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
            followed_link: false,
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

impl Refusal {
    fn new(stage: Stage, message: impl Display) -> Self {
        let message = message.to_string();
        Self { stage, message }
    }
}

/// Refuses `path` when there is not enough memory left for it, with so many bytes as are known by now.
pub(crate) fn need_memory(path: &Path, file_bytes: u64) -> Result<()> {
    memory::need(file_bytes).map_err(|refusal| Error::new(refusal.stage, path, refusal.message))
}

/// What is asked of a path before the system is: the dynamic linker would look for a bare name elsewhere.
fn check_spelling(path: &Path) -> Result<(), Refusal> {
    let refuse = |message| Err(Refusal::new(Stage::Open, message));
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
    Ok(())
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
