//! Where a search has looked, what it has found out about the folders, and how much it may look.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    env,
    path::{Path, PathBuf},
};

use super::{
    super::walk,
    rules::{LibraryRefusal, Rules},
};
use crate::{
    error::ErrorKind,
    system::status::{FileKind, Status},
    trust::Policy,
};

/// Where the linker looks for a library before it looks into the folder itself, if the folder has them and the
/// processor is of that kind (glibc from 2.33).
pub(super) const PROCESSOR_FOLDERS: [&str; 3] = [
    "glibc-hwcaps/x86-64-v4",
    "glibc-hwcaps/x86-64-v3",
    "glibc-hwcaps/x86-64-v2",
];
/// The first parts of these, and of the combinations of names that glibc up to 2.36 looks for.
const PROCESSOR_PARTS: [&str; 7] = [
    "glibc-hwcaps",
    "tls",
    "haswell",
    "xeon_phi",
    "avx512_1",
    "atomics",
    env::consts::ARCH,
];

/// The most look-ups of a search, each of a few µs. A plugin that needs 300 libraries and has a library path of 100
/// folders takes less than half of them.
const LOOKUPS_MAX: usize = 1 << 17;
/// As how many look-ups a walk counts.
const WALK_LOOKUPS: usize = 16;
/// So many bytes of a path count as a look-up, because the system goes through them all.
const LOOKUP_PATH_BYTES: usize = 256;

/// The places of one search.
pub(super) struct Places<'a> {
    policy: &'a Policy,
    /// Set when the first place is checked.
    rules: OnceCell<Rules<'a>>,
    folders: RefCell<HashMap<PathBuf, FolderState>>,
    lookups: Cell<usize>,
}

#[derive(Clone, Copy)]
struct FolderState {
    /// Whether somebody who is not trusted could put a file into it, or create it.
    is_open: bool,
    has_processor_folders: bool,
}

impl<'a> Places<'a> {
    pub(super) fn new(policy: &'a Policy) -> Self {
        Self {
            policy,
            rules: OnceCell::new(),
            folders: RefCell::default(),
            lookups: Cell::new(0),
        }
    }

    pub(super) fn rules(&self) -> Result<&Rules<'a>, ErrorKind> {
        if self.rules.get().is_none() {
            let _ = self.rules.set(Rules::new(self.policy)?);
        }
        Ok(self.rules.get().expect("set above"))
    }

    /// Counts a look-up of `path`.
    pub(super) fn look_up(&self, path: &Path) -> Result<(), ErrorKind> {
        self.count(1 + path.as_os_str().len() / LOOKUP_PATH_BYTES)
    }

    /// Checks that the linker can open what is at `path`, whatever it is. It would wait for the other end of a FIFO,
    /// with its lock held.
    pub(super) fn check_opening(&self, path: &Path) -> Result<(), LibraryRefusal> {
        self.look_up(path)?;
        if let Ok(Status { kind, .. }) = Status::at(path)
            && matches!(kind, FileKind::Fifo | FileKind::Device)
        {
            return Err(LibraryRefusal::at(path, walk::no_file(kind)));
        }
        Ok(())
    }

    /// Passes over a place where the linker looks, and where no file is that it would take. Returns its folder if
    /// somebody who is not trusted can put one there before the linker looks.
    ///
    /// If nothing is there, this costs one system call, and one walk for each folder.
    pub(super) fn pass(&self, path: &Path) -> Result<Option<PathBuf>, LibraryRefusal> {
        self.look_up(path)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let is_open = if Status::of_link(path).is_err() {
            self.state(folder)?.is_open
        } else {
            self.check_opening(path)?;
            self.allows_others_at(path)?
        };
        Ok(is_open.then(|| folder.to_owned()))
    }

    /// Whether the linker may find another file in a folder for one kind of processor, before it looks into `folder`
    /// itself.
    pub(super) fn may_be_preceded(&self, folder: &Path) -> Result<bool, ErrorKind> {
        let state = self.state(folder)?;
        Ok(state.is_open || state.has_processor_folders)
    }

    fn state(&self, folder: &Path) -> Result<FolderState, ErrorKind> {
        if let Some(&state) = self.folders.borrow().get(folder) {
            return Ok(state);
        }
        let has = |part: &&str| Status::at(folder.join(part)).is_ok();
        let state = FolderState {
            is_open: self.allows_others_at(folder)?,
            has_processor_folders: PROCESSOR_PARTS.iter().any(has),
        };
        self.folders.borrow_mut().insert(folder.to_owned(), state);
        Ok(state)
    }

    /// Whether somebody who is not trusted could put a file at `path`, or into it if it is a folder.
    fn allows_others_at(&self, path: &Path) -> Result<bool, ErrorKind> {
        self.count(WALK_LOOKUPS)?;
        Ok(self.rules()?.all.check_absence(path).is_err())
    }

    fn count(&self, lookups: usize) -> Result<(), ErrorKind> {
        let all = self.lookups.get().saturating_add(lookups);
        if all > LOOKUPS_MAX {
            let lookups_max = LOOKUPS_MAX;
            return Err(ErrorKind::TooManyLookups { lookups_max });
        }
        self.lookups.set(all);
        Ok(())
    }
}
