//! Where a search has looked, what it has found out about the folders, and how much it may look.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
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
    /// Whether somebody who is not trusted could put a file into the folder, or create the folder.
    open_folders: RefCell<HashMap<PathBuf, bool>>,
    lookups: Cell<usize>,
}

impl<'a> Places<'a> {
    pub(super) fn new(policy: &'a Policy) -> Self {
        Self {
            policy,
            rules: OnceCell::new(),
            open_folders: RefCell::default(),
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

    /// Passes over a place where the linker looks, and where no file is that it would take. Returns its folder if
    /// somebody who is not trusted can put one there before the linker looks.
    ///
    /// If nothing is there, this costs one system call, and one walk for each folder.
    pub(super) fn pass(&self, path: &Path) -> Result<Option<PathBuf>, LibraryRefusal> {
        self.look_up(path)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let is_open = if Status::of_link(path).is_err() {
            self.is_open(folder)?
        } else {
            // The linker opens whatever is there. It would wait for the other end of a FIFO, with its lock held.
            if let Ok(Status { kind, .. }) = Status::at(path)
                && matches!(kind, FileKind::Fifo | FileKind::Device)
            {
                return Err(LibraryRefusal::at(path, walk::no_file(kind)));
            }
            self.allows_others_at(path)?
        };
        Ok(is_open.then(|| folder.to_owned()))
    }

    fn is_open(&self, folder: &Path) -> Result<bool, ErrorKind> {
        if let Some(&is_open) = self.open_folders.borrow().get(folder) {
            return Ok(is_open);
        }
        let is_open = self.allows_others_at(folder)?;
        let mut open_folders = self.open_folders.borrow_mut();
        open_folders.insert(folder.to_owned(), is_open);
        Ok(is_open)
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
