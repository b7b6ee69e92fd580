//! From a path to a private, sealed, inspected copy.
//!
//! The dynamic linker must never be given a file that somebody else can still change. A file that is overwritten or
//! truncated after it was mapped kills the process; a file that is replaced after hotswap has looked at it is not the
//! file that the linker opens. So hotswap copies the file once into a sealed memory file (`memfd_create(2)`), which
//! nobody can change and which is gone with the process, even after SIGKILL, and inspects that.
//!
//! A memory file also solves another problem: `dlopen` of a path or a file that is already loaded returns the *old*
//! image. Every copy is a file of its own, and is loaded under a path that was never used before ([`proc::unused`]).
//! Its name ([`mod@copy_name`]) says which build it is, for profilers and whoever reads `/proc/PID/maps`; no decision
//! rests on the name. The image keeps the descriptor open, for debuggers and to load the copy again.
//!
//! In the copy of a plugin with `unloadable!`, hotswap clears the marks that would keep the image mapped for good
//! ([`marks`]). Pins, signatures and hashes are always those of the original file.
//!
//! This file knows nothing of the dynamic linker.

mod copy_name;
mod host;
mod inspection;
mod marks;
#[expect(unsafe_code, reason = "maps a copy that nobody can change")]
mod sealed;
mod shared;
mod walk;

mod finder;
mod path_policy;
mod read;

mod serial;

mod integrity;

mod route;

mod libraries;

#[cfg(feature = "backtrace")]
use std::sync::Weak;
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use hotswap_elf::{Export, Facts};
use hotswap_sdk::Config;
use memmap2::Mmap;

pub(crate) use self::{
    finder::finder,
    libraries::{Found, LibraryFile, Needed, file_name},
    marks::Cleared,
    route::{Route, RouteEnd},
};
use self::{
    inspection::inspect,
    path_policy::PathPolicy,
    read::{Content, Copied, copy_settled, read_settled},
    sealed::Sealed,
    walk::Place,
};
#[cfg(feature = "backtrace")]
use crate::crash::ImageFile;
use crate::{
    digest::Sha256,
    error::{Error, ErrorKind, Result},
    given::GivenPath,
    memory,
    signature::Claims,
    system::{proc, status::FileId},
    trust::{Policy, Trust},
};

/// The name of the copy of a library that this process has generated.
const LIBRARY_NAME: &str = "hotswap-finder";

/// A private copy whose bytes have passed the inspection, and can no longer change.
#[derive(Debug)]
pub(crate) struct Staged {
    kept: Kept,
    /// The facts of the copy, with its marks cleared.
    facts: Facts,
    /// The libraries that it needs; empty until they are searched for.
    libraries: Vec<Needed>,
}

/// The bytes of a copy, where they came from, and what their plugin is configured with: all that is needed to load it
/// again.
#[derive(Debug)]
pub(crate) struct Kept {
    copy: Arc<Sealed>,
    origin: Origin,
    /// The marks that the file has and the copy has not.
    cleared: Cleared,
}

/// Where a copy came from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// The path that the host gave.
    pub(crate) given: GivenPath,
    /// The file that it led to, with all links followed.
    pub(crate) real: PathBuf,
    /// Whether the path contained a link.
    pub(crate) followed_link: bool,
    /// The size of the file, in bytes.
    pub(crate) bytes: u64,
    /// The digest of the file's bytes, if something asked for it.
    pub(crate) sha256: Option<Sha256>,
    /// The claims of its signature, if the policy asks for one.
    pub(crate) claims: Claims,
    /// The configuration that its plugin gets.
    pub(crate) config: Config,
}

/// How long the steps of staging took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StagingTimes {
    pub(crate) copy: Duration,
    pub(crate) inspect: Duration,
}

impl Staged {
    /// Makes a sealed copy of the file at `path`, if the policy allows that, and inspects it (including its definition
    /// of `export`).
    pub(crate) fn prepare(
        path: &GivenPath,
        export: Export<'_>,
        trust: &Trust,
    ) -> Result<(Self, StagingTimes)> {
        let refused = |kind: ErrorKind| Error::new(path, kind);
        let policy = trust.policy();
        let started = Instant::now();
        proc::check().map_err(|error| refused(ErrorKind::cannot_open(error)))?;
        let path_policy = PathPolicy::new(policy).map_err(refused)?;
        let look = |place: &Place<'_>| path_policy.check(place);
        let content = copy_settled(path.absolute(), policy.file_bytes_max, look);
        let Content {
            bytes: Copied { copy, bytes },
            real,
            followed_link,
            status: _,
        } = content.map_err(refused)?;
        let read = started.elapsed();
        let started = Instant::now();
        let (sha256, claims) =
            integrity::check(&bytes, &real, policy, &path_policy).map_err(refused)?;
        let integrity = started.elapsed();

        let origin = Origin {
            given: path.clone(),
            real,
            followed_link,
            bytes: bytes.len() as u64,
            sha256,
            claims,
            config: Config::default(),
        };
        let (staged, times) = Self::of(&bytes, origin, Some(export), read, |facts| {
            let (changes, cleared) = if policy.clear_nodelete {
                marks::clear(facts)
            } else {
                Default::default()
            };
            let copy = if changes.is_empty() {
                copy
            } else {
                copy.changed(changes)?
            };
            Ok((copy, cleared))
        })?;
        let inspect = integrity + times.inspect;
        Ok((staged, StagingTimes { inspect, ..times }))
    }

    /// Makes a new copy of bytes that were loaded before. It has to be a new file: the dynamic linker would take the
    /// old file for the old image for as long as that is mapped.
    pub(crate) fn again(kept: &Kept, export: Export<'_>) -> Result<(Self, StagingTimes)> {
        let path = &*kept.origin.given;
        let fail = |error: io::Error| Error::new(path, ErrorKind::cannot_copy(error));
        let started = Instant::now();
        memory::need(kept.origin.bytes).map_err(|kind| Error::new(path, kind))?;
        let bytes = kept.copy.map().map_err(fail)?;
        let origin = kept.origin.clone();
        Self::of(&bytes, origin, Some(export), started.elapsed(), |_| {
            Ok((kept.copy.again()?, kept.cleared))
        })
    }

    /// Inspects the bytes, and keeps the copy that `seal` makes of them.
    fn of(
        bytes: &[u8],
        origin: Origin,
        export: Option<Export<'_>>,
        read: Duration,
        seal: impl FnOnce(&mut Facts) -> io::Result<(Sealed, Cleared)>,
    ) -> Result<(Self, StagingTimes)> {
        let path = &*origin.given;
        let started = Instant::now();
        let mut facts = inspected(bytes, export, path)?;
        let inspect = started.elapsed();

        let started = Instant::now();
        let (copy, cleared) =
            seal(&mut facts).map_err(|error| Error::new(path, ErrorKind::cannot_copy(error)))?;
        let times = StagingTimes {
            copy: read + started.elapsed(),
            inspect,
        };
        Ok((
            Self {
                kept: Kept {
                    copy: Arc::new(copy),
                    origin,
                    cleared,
                },
                facts,
                libraries: Vec::new(),
            },
            times,
        ))
    }

    /// Takes a copy that another process has made and inspected. Inspects it again, to get the facts.
    pub(crate) fn from_sealed(copy: File, export: Export<'_>) -> Result<Self> {
        let fail = |error: io::Error| Error::new(Path::new(""), ErrorKind::cannot_copy(error));
        let copy = Sealed::from_other(copy).map_err(fail)?;
        let bytes = copy.map().map_err(fail)?;
        let origin = Origin {
            bytes: bytes.len() as u64,
            ..Origin::default()
        };
        let seal = |_: &mut Facts| Ok((copy, Cleared::default()));
        let (staged, _) = Self::of(&bytes, origin, Some(export), Duration::ZERO, seal)?;
        Ok(staged)
    }

    /// Makes a copy of bytes that this process has generated.
    pub(crate) fn of_library(bytes: &[u8]) -> Result<Self> {
        let origin = Origin {
            bytes: bytes.len() as u64,
            ..Origin::default()
        };
        let seal = |_: &mut Facts| {
            let copy = Sealed::new(LIBRARY_NAME, bytes, Vec::new())?;
            Ok((copy, Cleared::default()))
        };
        let (staged, _) = Self::of(bytes, origin, None, Duration::ZERO, seal)?;
        Ok(staged)
    }

    fn refused(&self, kind: ErrorKind) -> Error {
        Error::new(&self.kept.origin.given, kind)
    }

    /// A descriptor of the copy for another process. It is the same file, which nobody can change.
    pub(crate) fn copy(&self) -> io::Result<File> {
        self.kept.copy.another()
    }

    /// A path at which the dynamic linker finds this copy, and under which this process has never loaded another
    /// image.
    ///
    /// # Errors
    /// There is no `/proc`, or other code has closed the copy's descriptor.
    pub(crate) fn loader_path(&self) -> Result<PathBuf> {
        let path = self.kept.copy.path();
        path.map_err(|error| self.refused(ErrorKind::link(error)))
    }

    /// Checks that the descriptor still leads to the copy. After the dynamic linker has opened
    /// [`loader_path`](Self::loader_path), this shows that it has opened the copy.
    ///
    /// # Errors
    /// Other code has closed the descriptor.
    pub(crate) fn check_descriptor(&self) -> Result<()> {
        let check = self.kept.copy.check();
        check.map_err(|error| self.refused(ErrorKind::link(error)))
    }

    /// Which file the copy is.
    pub(crate) fn copy_id(&self) -> FileId {
        self.kept.copy.id()
    }

    /// The copy, for who reads symbols of the image while it is mapped.
    #[cfg(feature = "backtrace")]
    pub(crate) fn file(&self) -> Weak<dyn ImageFile> {
        let copy: Weak<Sealed> = Arc::downgrade(&self.kept.copy);
        copy
    }

    /// The bytes of the copy.
    pub(crate) fn map(&self) -> io::Result<Mmap> {
        self.kept.copy.map()
    }

    /// The digest of the original file's bytes. Costs reading them ([`Sha256::of`]), unless it is known.
    pub(crate) fn sha256(&self) -> io::Result<Sha256> {
        self.kept.sha256()
    }

    /// Computes [`Origin::sha256`] if it is not known.
    pub(crate) fn hash(&mut self) -> Result<()> {
        let sha256 = self.sha256();
        let sha256 = sha256.map_err(|error| self.refused(ErrorKind::cannot_copy(error)))?;
        self.kept.origin.sha256 = Some(sha256);
        Ok(())
    }

    /// Sets the configuration that the plugin gets.
    pub(crate) fn set_config(&mut self, config: Config) {
        self.kept.origin.config = config;
    }

    /// Keeps the bytes, so that they can be loaded again after this is dropped.
    pub(crate) fn keep(&self) -> io::Result<Kept> {
        self.kept.try_clone()
    }

    /// The marks that the file has and the copy has not.
    pub(crate) fn cleared(&self) -> Cleared {
        self.kept.cleared
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.kept.origin
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Checks that the copy also defines `export`; the error says why it does not.
    pub(crate) fn inspect(&self, export: Export<'_>) -> Result<(), String> {
        let bytes = self.kept.copy.map().map_err(|error| error.to_string())?;
        let inspected = inspect(&bytes, Some(export));
        inspected.map_or_else(|refusal| Err(refusal.to_string()), |_| Ok(()))
    }
}

impl Kept {
    /// The same bytes, with another descriptor.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            copy: Arc::new(self.copy.try_clone()?),
            origin: self.origin.clone(),
            cleared: self.cleared,
        })
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The digest of the original file's bytes. Costs reading them ([`Sha256::of`]), unless it is known.
    pub(crate) fn sha256(&self) -> io::Result<Sha256> {
        self.origin.sha256.map_or_else(|| self.copy.sha256(), Ok)
    }
}

impl Origin {
    /// Saves the serial number as the highest that was accepted, if `policy` asks for that. For a candidate that is
    /// published next, or was just published.
    ///
    /// # Errors
    /// It cannot be saved, or a higher number was accepted since the candidate was staged.
    pub(crate) fn keep_serial(&self, policy: &Policy) -> Result<()> {
        let Some(serial) = self.claims.serial else {
            return Ok(());
        };
        let raised = serial::raise(serial, policy);
        raised.map_err(|kind| Error::new(&self.given, kind))
    }
}

/// The facts of a library at `path`, if a regular file is there and it is a library. Waits for nobody.
pub(crate) fn facts_of_library(path: &Path) -> Option<Facts> {
    let bytes_max = Policy::default().file_bytes_max;
    let content = read_settled(path, bytes_max, |_| Ok(())).ok()?;
    inspect(&content.bytes, None).ok()
}

/// Inspects the bytes. Refuses what would harm the linker, and what the linker would survive but hotswap cannot load
/// safely ([`shared`]).
fn inspected(bytes: &[u8], export: Option<Export<'_>>, path: &Path) -> Result<Facts> {
    let refused = |kind| Error::new(path, kind);
    let facts = inspect(bytes, export);
    let facts = facts.map_err(|refusal| refused(inspection::kind(refusal, export)))?;
    if facts.executable_stack {
        return Err(refused(ErrorKind::ExecutableStack));
    }
    let checked = shared::check(&facts);
    let checked = checked.and_then(|()| memory::need_thread_locals(facts.tls_bytes));
    checked.map_err(refused)?;
    Ok(facts)
}
