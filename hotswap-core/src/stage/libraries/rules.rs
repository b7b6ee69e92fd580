//! Which file the linker would take for a library, and whether the policy allows it.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    sync::Arc,
};

use hotswap_elf::Facts;

use super::super::{
    inspection,
    path_policy::PathPolicy,
    read::read_settled,
    walk::{self, Place},
};
use crate::{
    cache::Cache,
    error::ErrorKind,
    system::status::{ContentState, FileId, Status},
    trust::Policy,
};

/// A library's file, and its facts.
pub(super) type TakenFile = (FileId, Arc<Facts>);

/// The policy on libraries.
pub(super) struct Rules<'a> {
    pub(super) all: PathPolicy<'a>,
    /// For libraries in the system's folders, where many are links, and which lie outside any root.
    pub(super) system: PathPolicy<'a>,
    bytes_max: u64,
}

/// Why a library may not be loaded.
#[derive(Debug)]
pub(super) struct LibraryRefusal {
    /// The file, if `cause` does not name one.
    path: Option<PathBuf>,
    cause: ErrorKind,
}

impl LibraryRefusal {
    pub(super) fn at(path: &Path, cause: ErrorKind) -> Self {
        Self {
            path: Some(path.to_owned()),
            cause,
        }
    }

    /// Turns it into the refusal of the candidate that needs the library, directly or through another one.
    pub(super) fn of(self, name: &str, by: Option<String>) -> ErrorKind {
        ErrorKind::Library {
            name: name.to_owned(),
            by,
            path: self.path,
            cause: Box::new(self.cause),
        }
    }
}

impl From<ErrorKind> for LibraryRefusal {
    fn from(cause: ErrorKind) -> Self {
        Self { path: None, cause }
    }
}

impl<'a> Rules<'a> {
    pub(super) fn new(policy: &'a Policy) -> Result<Self, ErrorKind> {
        let all = PathPolicy::new(policy)?;
        Ok(Self {
            system: all.for_system_folders(),
            all,
            bytes_max: policy.file_bytes_max,
        })
    }

    /// Checks the readable file at `path`. `None`: the linker would skip it.
    pub(super) fn take(
        &self,
        path: &Path,
        path_policy: &PathPolicy<'_>,
    ) -> Result<Option<TakenFile>, LibraryRefusal> {
        self.take_if(path, |place| path_policy.check(place))
    }

    /// As [`take`](Self::take), if `look` accepts every place on the route to it.
    fn take_if(
        &self,
        path: &Path,
        look: impl Fn(&Place<'_>) -> Result<(), ErrorKind>,
    ) -> Result<Option<TakenFile>, LibraryRefusal> {
        let objection = RefCell::new(None);
        let look = |place: &Place<'_>| {
            let mut objection = objection.borrow_mut();
            if objection.is_none() {
                *objection = look(place).err();
            }
            Ok(())
        };
        let about_path = |cause| LibraryRefusal::at(path, cause);
        let status = walk::open(path, look).map_err(about_path)?.status;
        let version = |status: &Status| (status.id, status.content);
        let (status, facts) = match FACTS.get(&version(&status)) {
            Some(facts) => (status, facts),
            None => {
                // Reading walks again, and may find another file: then that is the one to check.
                objection.take();
                let content = read_settled(path, self.bytes_max, look).map_err(about_path)?;
                if !inspection::is_for_this_machine(&content.bytes) {
                    return Ok(None);
                }
                let facts = inspection::inspect(&content.bytes, None)
                    .map_err(|refusal| about_path(ErrorKind::Malformed { refusal }))?;
                let facts = Arc::new(facts);
                FACTS.insert(version(&content.status), Arc::clone(&facts));
                (content.status, facts)
            }
        };
        // Only now, because a file that the linker skips may belong to anybody.
        match objection.into_inner() {
            Some(objection) => Err(objection.into()),
            None => Ok(Some((status.id, facts))),
        }
    }
}

/// The facts of libraries that were read. A plugin's libraries are looked up at each swap.
static FACTS: Cache<(FileId, ContentState), Arc<Facts>> = Cache::new();

#[cfg(test)]
mod tests {
    use std::{cell::Cell, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::stage::finder;

    #[test]
    fn the_file_that_is_taken_is_the_file_that_was_checked() {
        let policy = Policy::default();
        let rules = Rules::new(&policy).unwrap();
        // When the file is read, another file is at its path: one that needs `needed`, with mode `mode`.
        let replaced = |(first, second): ((&str, u32), (&str, u32))| {
            let folder = tempfile::tempdir().unwrap();
            let at = |name| folder.path().canonicalize().unwrap().join(name);
            for (name, (needed, mode)) in [("library", first), ("new", second)] {
                std::fs::write(at(name), finder(needed, "/none").unwrap()).unwrap();
                let mode = std::fs::Permissions::from_mode(mode);
                std::fs::set_permissions(at(name), mode).unwrap();
            }
            let expected = FileId::at(&at("new")).unwrap();
            let walks = Cell::new(0);
            let taken = rules.take_if(&at("library"), |place| {
                walks.set(walks.get() + u32::from(place.real == Path::new("/")));
                if walks.get() == 2 && at("new").exists() {
                    std::fs::rename(at("new"), at("library")).unwrap();
                }
                rules.all.check(place)
            });
            assert!(!at("new").exists(), "the file is read in a second walk");
            taken.map(|taken| {
                let (identity, facts) = taken.unwrap();
                assert_eq!(identity, expected);
                facts.needed.clone()
            })
        };
        let (good, bad) = (("libgood.so", 0o644), ("libbad.so", 0o666));
        let refusal = replaced((good, bad)).unwrap_err();
        assert!(
            refusal
                .cause
                .to_string()
                .contains("is writable by everybody")
        );
        assert_eq!(replaced((bad, good)).ok(), Some(vec![good.0.to_owned()]));
    }
}
