//! The libraries that an image needs: which are mapped already, which have to be opened before the image, and which
//! files the linker took for it.
//!
//! Staging has found out where each library lies ([`stage`](crate::stage)). The linker searches by itself and finds
//! the same files, with two exceptions: it knows the plugin by the path of a memory file, so that `$ORIGIN` means
//! another folder; and it searches relative folders. In these cases hotswap first opens the library by its path, on
//! the image's own thread. The linker then takes it by its name, and keeps it for as long as the image is mapped.
//!
//! A library that is opened first has two limits. It is linked without the plugin, so it is refused if it takes
//! symbols from the plugin that needs it. And if the plugin then fails to link, the library's initialisers have
//! already run and may have started threads; it stays mapped unless hotswap knows that none of its code runs.
//!
//! The linker takes a library that is mapped already by its name, whichever file a search would find now.
//! [`OldLibrary`] reports such a library and its file.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fmt::{self, Display},
    mem,
    path::{Path, PathBuf},
};

use super::{Opener, dependencies};
use crate::{
    cache::Cache,
    crash::file_of_image,
    error::{Error, ErrorKind, Result},
    escape::Escaped,
    report::report,
    stage::{Found, LibraryFile, Needed, Staged, finder},
    system::{
        linker::{Object, each_object},
        status::FileId,
    },
    trust::Policy,
};

/// A library that a plugin needs, and that was mapped before from another file than a search finds now. The mapped
/// library is the one that is used.
#[report]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OldLibrary {
    /// The name by which the plugin needs it.
    pub name: String,
    /// The path that it was loaded from. A plugin that has the name (`DT_SONAME`) counts as such a library.
    pub mapped: PathBuf,
    /// The file that a search finds now. The same path as `mapped` if the file was replaced.
    pub found: PathBuf,
}

/// Finds the libraries that a candidate needs, and checks them against the policy ([`Staged::find_libraries`]).
pub(crate) fn find_libraries(staged: &mut Staged, policy: &Policy) -> Result<()> {
    staged.find_libraries(policy, &|name| Some(LibraryHandle::by_name(name)?.path))
}

/// The libraries that an image needs, while the image is opened.
#[derive(Default)]
pub(super) struct Libraries {
    /// Libraries that were mapped already. Held so that they stay until the image keeps them.
    held: Vec<LibraryHandle>,
    /// Libraries that this opened.
    opened: Vec<LibraryHandle>,
    old: Vec<OldLibrary>,
    /// Libraries that are not mapped yet.
    new: Vec<(String, LibraryFile)>,
    /// Libraries that the linker has to find by itself.
    left: Vec<String>,
    /// The paths of what was mapped before; empty if the linker has nothing to load.
    before: HashSet<PathBuf>,
}

impl Libraries {
    /// Opens the libraries that the linker would not find. Runs their initialisers. Call it on the thread of
    /// `opener`.
    pub(super) fn open(staged: &Staged, opener: &Opener, policy: &Policy) -> Result<Self> {
        let mut libraries = Self::default();
        for Needed { name, found } in staged.libraries() {
            match found {
                Found::File(file) => libraries.take(name, file),
                // It may have left since staging found it.
                Found::Mapped(_) => match LibraryHandle::by_name(name) {
                    Some(mapped) => libraries.held.push(mapped),
                    None => libraries.left.push(name.clone()),
                },
                Found::Nowhere => libraries.left.push(name.clone()),
            }
        }
        if !libraries.left.is_empty() || !libraries.new.is_empty() {
            libraries.before = all_paths();
        }
        match libraries.open_first(opener) {
            Ok(()) => Ok(libraries),
            Err(message) => {
                let error = Error::new(&staged.origin().given, ErrorKind::link(message));
                Err(libraries.give_up(error, opener, policy))
            }
        }
    }

    fn open_first(&mut self, opener: &Opener) -> std::result::Result<(), String> {
        let first = self.new.iter().filter(|(_, file)| file.is_opened_first);
        for (name, file) in first {
            open_by_path(name, &file.path, opener, &mut self.opened).map_err(|message| {
                format!(
                    "needs {}: {}: {message}",
                    Escaped(name),
                    Escaped(&file.path)
                )
            })?;
        }
        Ok(())
    }

    /// Gives up the libraries after `error` prevented the image from opening.
    ///
    /// Libraries that this opened stay mapped if their code may run, together with the thread of `opener`. The
    /// returned error then names them, except in a trial, whose process is about to end anyway.
    pub(super) fn give_up(self, error: Error, opener: &Opener, policy: &Policy) -> Error {
        let is_trial = self.new.iter().all(|(_, file)| file.identity.is_none());
        let (kept, closed): (Vec<_>, Vec<_>) = self
            .opened
            .into_iter()
            .partition(|library| library.may_run(policy));
        drop(closed);
        if kept.is_empty() {
            return error;
        }
        let paths = kept.iter().map(|it| it.path.clone()).collect();
        mem::forget((kept, opener.clone()));
        if is_trial {
            return error;
        }
        error.keeping(paths)
    }

    fn take(&mut self, name: &str, file: &LibraryFile) {
        let Some(mapped) = LibraryHandle::by_name(name) else {
            self.new.push((name.to_owned(), file.clone()));
            return;
        };
        let is_other = |identity| mapped.identity() != Some(identity);
        if file.identity.is_some_and(is_other) {
            // A plugin has that name, and the linker knows it by the path of its copy.
            let plugin = file_of_image(&mapped.path).filter(|plugin| *plugin != file.path);
            self.old.push(OldLibrary {
                name: name.to_owned(),
                mapped: plugin.unwrap_or_else(|| mapped.path.clone()),
                found: file.path.clone(),
            });
        }
        self.held.push(mapped);
    }

    /// Finds out which files the linker took for the image that it has opened, and drops the handles: the image keeps
    /// its libraries from here on. Returns the old libraries, and an error if the linker took a library that may not
    /// be loaded.
    pub(super) fn finish(
        self,
        staged: &Staged,
        policy: &Policy,
    ) -> (Vec<OldLibrary>, Option<Error>) {
        let mut refused = None;
        let mut left = self.left;
        for (name, file) in &self.new {
            // A trial does not know the identity; the host checks these libraries against the policy.
            let (Some(mapped), Some(identity)) = (LibraryHandle::by_name(name), file.identity)
            else {
                continue;
            };
            if mapped.path == file.path && mapped.remember() == Some(identity) {
                continue;
            }
            left.push(name.clone());
        }
        let mut seen: HashSet<String> = left.iter().cloned().collect();
        while let Some(name) = left.pop() {
            let Some(mapped) = LibraryHandle::by_name(&name) else {
                continue;
            };
            if self.before.contains(&mapped.path) {
                continue;
            }
            mapped.remember();
            match staged.check_library(&name, &mapped.path, policy) {
                Ok(needed) => left.extend(needed.into_iter().filter(|it| seen.insert(it.clone()))),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        (self.old, refused)
    }
}

/// A mapped library. It stays mapped for as long as this value lives.
struct LibraryHandle {
    object: Object,
    path: PathBuf,
}

impl LibraryHandle {
    /// The library that the linker takes for this name.
    fn by_name(name: &str) -> Option<Self> {
        Object::mapped(OsStr::new(name)).map(Self::of)
    }

    fn of(object: Object) -> Self {
        let path = object.path().to_owned();
        Self { object, path }
    }

    /// The file that it was loaded from. If no plugin caused it to be loaded: the file at its path now.
    fn identity(&self) -> Option<FileId> {
        let loaded = LOADED.get(&(self.path.clone(), self.object.bias));
        loaded.flatten().or_else(|| FileId::at(&self.path))
    }

    /// Notes the file at its path, and returns it. Call it right after the library was loaded.
    fn remember(&self) -> Option<FileId> {
        let identity = FileId::at(&self.path);
        // Noted even if there is no file: an earlier note may be of another library that was mapped at the same
        // place.
        LOADED.insert((self.path.clone(), self.object.bias), identity);
        identity
    }

    /// Whether code of it may run although nobody uses it any more.
    fn may_run(&self, policy: &Policy) -> bool {
        let name = self.path.file_name();
        name.is_none_or(|name| dependencies::may_run(&name.to_string_lossy(), policy))
    }
}

/// The file that was loaded, by the path that the library was mapped from and the address that it was mapped at.
static LOADED: Cache<(PathBuf, usize), Option<FileId>> = Cache::new();

/// Opens a library so that the linker also takes it for `name`. Adds it to `all`, even if a later step fails.
fn open_by_path(
    name: &str,
    path: &Path,
    opener: &Opener,
    all: &mut Vec<LibraryHandle>,
) -> std::result::Result<(), String> {
    let opened = LibraryHandle::of(open(path)?);
    let opened_path = opened.path.clone();
    all.push(opened);
    if LibraryHandle::by_name(name).is_some() {
        return Ok(());
    }
    // It has no name of its own (DT_SONAME), or another one.
    let no_name = || {
        format!(
            "it is not the library {} by its own name (DT_SONAME)",
            Escaped(name)
        )
    };
    let folder = path.parent().and_then(Path::to_str).unwrap_or_default();
    let finder = finder(name, folder).ok_or_else(no_name)?;
    let finder = Staged::of_library(&finder).map_err(|error| error.reason())?;
    let path = finder.loader_path().map_err(|error| error.reason())?;
    let object = open(&path)?;
    if let Err(error) = finder.check_descriptor() {
        // Whatever was loaded, its initialisers have run: it stays mapped, and so does its thread.
        mem::forget((object, opener.clone()));
        return Err(error.reason());
    }
    // The linker keeps the name with the library.
    drop(object);
    match LibraryHandle::by_name(name) {
        Some(named) if named.path == opened_path => Ok(()),
        _ => Err(no_name()),
    }
}

fn open(path: &Path) -> std::result::Result<Object, String> {
    // SAFETY: this runs the initialisers of a library that a vouched file needs (`Trust::vouch`), as the linker
    // would. The handle is dropped when the image keeps the library, or when none of its code runs (`give_up`).
    let object = unsafe { Object::open(path) };
    object.map_err(|message| message.replace(&format!("{}: ", path.display()), ""))
}

fn all_paths() -> HashSet<PathBuf> {
    let mut all = HashSet::new();
    each_object(|object| {
        all.insert(object.path().to_owned());
    });
    all
}

impl Display for OldLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Escaped(&self.name);
        write!(f, "the old {name} still answers: ")?;
        if self.mapped == self.found {
            return write!(
                f,
                "{} was replaced after it was loaded",
                Escaped(&self.found)
            );
        }
        let (mapped, found) = (Escaped(&self.mapped), Escaped(&self.found));
        write!(f, "it was loaded from {mapped}, and {found} is not loaded")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt,
        panic::{self, AssertUnwindSafe},
        path::Path,
    };

    use super::*;
    use crate::image::{Exit, Image};

    /// Writes a library that does nothing to `path`, writable by everybody.
    fn make(path: &Path) {
        std::fs::write(path, finder("libc.so.6", "/none").unwrap()).unwrap();
        let mode = std::fs::Permissions::from_mode(0o666);
        std::fs::set_permissions(path, mode).unwrap();
    }

    /// Opens a plugin that needs the library at `path`, as if staging had found `found`. Returns why it is refused,
    /// and how many libraries are old.
    fn open(path: &Path, found: Found) -> (Option<String>, usize) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let folder = path.parent().unwrap().to_str().unwrap();
        let mut staged = Staged::of_library(&finder(name, folder).unwrap()).unwrap();
        staged.set_libraries(vec![Needed {
            name: name.to_owned(),
            found,
        }]);
        let opener = Opener::start().unwrap();
        let policy = Policy::default();
        let image = opener.run(|| Image::open(staged, &opener, &policy));
        let mut image = image.unwrap();
        let used = panic::catch_unwind(AssertUnwindSafe(|| image.symbol("any").is_some()));
        let refused = image.check_libraries().err().map(|error| error.reason());
        assert_eq!(
            used.is_err(),
            refused.is_some(),
            "one that is refused is not used"
        );
        let old = image.old_libraries().len();
        let mut leaving = Box::new(image.retire());
        loop {
            leaving = match leaving.try_close() {
                Exit::Gone(_) => return (refused, old),
                Exit::NotYet(leaving) => leaving,
                Exit::Pinned(pinned) => panic!("{}", pinned.why()),
            };
        }
    }

    fn refusal(path: &Path) -> Option<String> {
        let name = path.file_name().unwrap().display();
        let path = path.display();
        Some(format!(
            "trust: needs {name}: {path} is writable by everybody; `chmod o-w` it"
        ))
    }

    #[test]
    fn an_error_names_libraries_that_stay_mapped_except_in_a_trial() {
        let folder = tempfile::tempdir().unwrap();
        let not_found =
            "link: libnone.so: cannot open shared object file: No such file or directory";
        for is_trial in [false, true] {
            let name = format!("libstays-{}.so", u8::from(is_trial));
            let path = folder.path().canonicalize().unwrap().join(&name);
            make(&path);
            let plugin = finder("libnone.so", "/none").unwrap();
            let mut staged = Staged::of_library(&plugin).unwrap();
            let mut needed = Needed::first(name.clone(), path.clone());
            if let Found::File(file) = &mut needed.found {
                file.identity = FileId::at(&path).filter(|_| !is_trial);
            }
            staged.set_libraries(vec![needed]);
            let opener = Opener::start().unwrap();
            let policy = Policy {
                pinning_libraries: vec!["libstays".to_owned()],
                ..Policy::default()
            };
            let image = opener.run(|| Image::open(staged, &opener, &policy).map(drop));
            let stays = format!(
                "; libraries that stay mapped, as they may run threads or be called back: {}",
                path.display()
            );
            let stays = if is_trial { "" } else { &stays };
            assert_eq!(image.unwrap_err().reason(), format!("{not_found}{stays}"));
            assert!(LibraryHandle::by_name(&name).is_some());
        }
    }

    #[test]
    fn a_library_unloaded_since_the_search_is_checked_against_the_policy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("libleft.so");
        make(&path);
        assert_eq!(
            open(&path, Found::Mapped(path.clone())),
            (refusal(&path), 0)
        );
    }

    #[test]
    fn a_library_replaced_since_the_search_is_checked_against_the_policy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("libreplaced.so");
        make(&path);
        let id = FileId::at(&path).unwrap();
        let found = |identity| {
            Found::File(LibraryFile {
                path: path.clone(),
                identity: Some(identity),
                is_opened_first: false,
            })
        };
        // The linker loads it now, so it is held to the policy.
        let other = found(FileId::at(folder.path()).unwrap());
        assert_eq!(open(&path, other.clone()), (refusal(&path), 0));
        // SAFETY: a library that does nothing.
        let mapped = unsafe { Object::open(&path) }.unwrap();
        assert_eq!(open(&path, found(id)), (None, 0));
        assert_eq!(open(&path, other), (None, 1));
        drop(mapped);
    }
}
