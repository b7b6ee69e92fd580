//! Where the libraries lie that a candidate needs, and whether they may be loaded with it.
//!
//! The dynamic linker loads them from wherever it finds them, and runs their initialisers. So hotswap searches for
//! them before it calls the linker, in the linker's order, and checks them against the policy: who owns and can write
//! each file and the folders that lead to it; and, outside the system's own folders, where it lies and which links
//! lead to it. Pins and signatures cover the plugin's bytes alone.
//!
//! hotswap does not search some places where the linker does: its cache (`/etc/ld.so.cache`), the `DT_RPATH` of the
//! host's executable, entries with `$LIB` or `$PLATFORM`. A library that is only there is left to the linker; once it
//! is loaded, hotswap checks who owns the file and can write to it.
//!
//! In folders for one kind of processor (`glibc-hwcaps`), the linker looks before it looks into the folder that has
//! them. hotswap takes the file in the folder itself, and opens it first. If there is none, the linker may take one for
//! its processor, and hotswap checks them all before.
//!
//! hotswap does not search relative folders, such as the empty ones in a list, because they depend on the current
//! folder. It refuses a candidate that needs a library which is only there.
//!
//! This module does not know which libraries are mapped; its caller tells it.

mod folders;
mod rules;

mod places;

mod order;

use std::{
    collections::HashSet,
    path::{Path, PathBuf, absolute},
    sync::Arc,
};

use hotswap_elf::Facts;

use self::{
    folders::{Folder, Object, library_path, search_path, system_folders},
    places::{PROCESSOR_FOLDERS, Places},
    rules::{LibraryRefusal, Rules, TakenFile},
};
use super::{Staged, path_policy::PathPolicy};
use crate::{
    crash::file_of_image,
    error::{ErrorKind, Result},
    system::{
        linker,
        status::{FileId, is_readable_file},
    },
    trust::Policy,
};

/// A library that a candidate needs, directly or through other libraries.
#[derive(Clone, Debug)]
pub(crate) struct Needed {
    /// The name by which it is needed, mostly a file name.
    pub(crate) name: String,
    pub(crate) found: Found,
}

/// What is known of a library before the candidate is linked.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// A file that may be loaded.
    File(LibraryFile),
    /// A library of this name is mapped, from this path, and no other was found. The system's folders were not
    /// searched, because a host may bring its own library.
    Mapped(PathBuf),
    /// Not found; the linker has to find it.
    Nowhere,
}

#[derive(Clone, Debug)]
pub(crate) struct LibraryFile {
    pub(crate) path: PathBuf,
    /// `None` in a trial, which does not look at the file.
    pub(crate) identity: Option<FileId>,
    /// Whether the linker, searching for the name, would find another file or none, or could by then. Then hotswap
    /// first opens it by its path.
    pub(crate) is_opened_first: bool,
}

impl Needed {
    /// A library that is to be opened by its path first, without a check of the file.
    pub(crate) fn first(name: String, path: PathBuf) -> Self {
        let file = LibraryFile {
            path,
            identity: None,
            is_opened_first: true,
        };
        let found = Found::File(file);
        Self { name, found }
    }

    /// Its name and path, if it is to be opened by its path first.
    pub(crate) fn opened_first(&self) -> Option<(&str, &Path)> {
        match &self.found {
            Found::File(file) if file.is_opened_first => Some((&self.name, &file.path)),
            Found::File(_) | Found::Mapped(_) | Found::Nowhere => None,
        }
    }
}

/// The most libraries that a plugin may need, directly and indirectly. Nobody writes a plugin with more.
const LIBRARIES_MAX: usize = 1024;

impl Staged {
    /// Finds the libraries that it needs, directly and indirectly, and checks them against the policy. `mapped`
    /// returns the path of the mapped library that the linker knows by a name.
    ///
    /// Costs next to nothing if all of them are mapped and there are no folders to search (`LD_LIBRARY_PATH`,
    /// `DT_RUNPATH`). Each such folder costs a walk, some 20 µs, and a few µs per name, and each library that is found
    /// there some 50 µs. A search that would take much longer is refused.
    pub(crate) fn find_libraries(
        &mut self,
        policy: &Policy,
        mapped: &dyn Fn(&str) -> Option<PathBuf>,
    ) -> Result<()> {
        let own = self.facts.soname.as_deref();
        if let Some(name) = own.filter(|own| self.facts.libraries().any(|name| name == *own)) {
            let plugin = self.origin().given.to_path_buf();
            let refusal = LibraryRefusal::from(ErrorKind::NameOfPlugin { plugin });
            return Err(self.refused(refusal.of(name, None)));
        }
        let origin = self.origin().real.parent().unwrap_or(Path::new("/"));
        let found = find(&self.facts, origin, policy, mapped);
        self.libraries = found.map_err(|refusal| self.refused(refusal))?;
        if !self.facts.filters.is_empty() && !linker::opens_filters() {
            return Err(self.refused(ErrorKind::Filter));
        }
        Ok(())
    }

    /// Checks a library that the linker has found by itself, and returns the names of those that it needs.
    pub(crate) fn check_library(
        &self,
        name: &str,
        path: &Path,
        policy: &Policy,
    ) -> Result<Vec<String>> {
        check(name, path, policy).map_err(|refusal| self.refused(refusal))
    }

    /// The libraries that were found, each after those that it needs.
    pub(crate) fn libraries(&self) -> &[Needed] {
        &self.libraries
    }

    /// Sets the libraries that another process has found.
    pub(crate) fn set_libraries(&mut self, libraries: Vec<Needed>) {
        self.libraries = libraries;
    }
}

/// Finds everything that a plugin in the real folder `origin` needs, each library after those that it needs. `mapped`
/// returns the path of the mapped library that the linker knows by a name.
fn find(
    facts: &Facts,
    origin: &Path,
    policy: &Policy,
    mapped: &dyn Fn(&str) -> Option<PathBuf>,
) -> Result<Vec<Needed>, ErrorKind> {
    let mut search = Search {
        library_path: library_path(),
        places: Places::new(policy),
        mapped,
        objects: vec![Object::plugin(facts, origin)],
        all: Vec::new(),
        seen: HashSet::new(),
    };
    search.need(0, facts);
    // Breadth first, like the linker: everything that the plugin needs, then everything that those need.
    let mut next = 0;
    while next < search.all.len() {
        search.look(next)?;
        next += 1;
    }
    search.open_needs_first();
    search.check_filters()?;
    Ok(search.in_order())
}

/// Checks whether a library that the linker has found by itself may be loaded, and returns what it needs. One whose
/// path leads nowhere any more is refused: whoever has removed it may not be trusted.
fn check(name: &str, path: &Path, policy: &Policy) -> Result<Vec<String>, ErrorKind> {
    if !is_readable_file(path) {
        // It was there when the linker opened it.
        let cause = ErrorKind::NotFound { is_link: false };
        return Err(LibraryRefusal::at(path, cause).of(name, None));
    }
    let rules = Rules::new(policy)?;
    let real = path.canonicalize().unwrap_or_default();
    let is_of_system = system_folders().any(|it| real.starts_with(it));
    let path_policy = if is_of_system {
        &rules.system
    } else {
        &rules.all
    };
    let taken = rules.take(path, path_policy);
    let taken = taken.map_err(|refusal| refusal.of(name, None))?;
    if taken
        .as_ref()
        .is_some_and(|(_, facts)| facts.executable_stack)
    {
        return Err(LibraryRefusal::at(path, ErrorKind::ExecutableStack).of(name, None));
    }
    let libraries = |(_, facts): (_, Arc<Facts>)| facts.libraries().map(str::to_owned).collect();
    Ok(taken.map_or_else(Vec::new, libraries))
}

/// The state of a search.
struct Search<'a> {
    library_path: Vec<Folder>,
    places: Places<'a>,
    mapped: &'a dyn Fn(&str) -> Option<PathBuf>,
    /// The plugin, and the libraries found so far.
    objects: Vec<Object>,
    all: Vec<NeededName>,
    seen: HashSet<String>,
}

/// A name that an object needs.
struct NeededName {
    name: String,
    /// The index of the object that needs it.
    by: usize,
    found: Found,
    needs: Vec<String>,
    is_filter: bool,
}

impl<'a> Search<'a> {
    /// Adds the names that an object needs. Each name is added once, because the linker uses one library for all who
    /// need it by the same name.
    fn need(&mut self, by: usize, facts: &Facts) {
        for name in facts.libraries() {
            if self.seen.insert(name.to_owned()) {
                self.all.push(NeededName {
                    name: name.to_owned(),
                    by,
                    found: Found::Nowhere,
                    needs: Vec::new(),
                    is_filter: false,
                });
            }
        }
    }

    fn look(&mut self, asked: usize) -> Result<(), ErrorKind> {
        let NeededName { name, by, .. } = &self.all[asked];
        let (name, by) = (name.clone(), *by);
        if self.all.len() > LIBRARIES_MAX {
            let libraries_max = LIBRARIES_MAX;
            return Err(ErrorKind::TooManyLibraries { libraries_max });
        }
        let found = self.find(&name, by);
        let (found, facts) =
            found.map_err(|refusal| refusal.of(&name, self.objects[by].name.clone()))?;
        if let (Found::File(file), Some(facts)) = (&found, &facts) {
            let origin = file.path.parent().unwrap_or(Path::new("/"));
            let library = Object::library(&name, facts, origin, by);
            self.objects.push(library);
            self.need(self.objects.len() - 1, facts);
            self.all[asked].needs = facts.libraries().map(str::to_owned).collect();
            self.all[asked].is_filter = !facts.filters.is_empty();
        }
        self.all[asked].found = found;
        Ok(())
    }

    /// Checks what has this name in the folders of the environment. The linker opens it also when it is asked what is
    /// mapped under the name (`Object::mapped`), whichever file it would load.
    fn check_library_path(&self, name: &str) -> Result<(), LibraryRefusal> {
        for folder in &self.library_path {
            let folder = match folder {
                Folder::Relative(entry) => absolute(entry.clone()),
                Folder::OnlyForLinker(folder) | Folder::At { path: folder, .. } => {
                    Ok(folder.clone())
                }
            };
            // Without a current folder, the linker finds nothing in it either.
            let Ok(folder) = folder else { continue };
            self.places.check_opening(&folder.join(name))?;
            if self.places.may_be_preceded(&folder)? {
                for part in PROCESSOR_FOLDERS {
                    self.places.check_opening(&folder.join(part).join(name))?;
                }
            }
        }
        Ok(())
    }

    fn find(&self, name: &str, by: usize) -> Result<(Found, Option<Arc<Facts>>), LibraryRefusal> {
        let file = |path: PathBuf, identity, is_opened_first| {
            Found::File(LibraryFile {
                path,
                identity: Some(identity),
                is_opened_first,
            })
        };
        let mut relative = None;
        // The first folder in which the linker looks and somebody who is not trusted could put a file.
        let mut untrusted = None;
        // Whether the linker would find another file than hotswap.
        let mut is_elsewhere = false;
        // Folders of which the linker may look into a folder for one kind of processor before.
        let mut with_processor_folders = Vec::new();
        let object = &self.objects[by];
        let by_path = name.contains('/').then(|| object.folders_of_path(name));
        let of_path = by_path.iter().flatten();
        if by_path.is_none() {
            self.check_library_path(name)?;
        }
        let searched = by_path
            .is_none()
            .then(|| search_path(&self.objects, by, &self.library_path));
        for folder in of_path.chain(searched.into_iter().flatten()) {
            match folder {
                Folder::Relative(entry) => {
                    let path = absolute(entry.join(file_name(name)));
                    let is_there = path.as_deref().is_ok_and(is_readable_file);
                    relative = relative.or_else(|| is_there.then(|| entry.clone()));
                    if let Ok(path) = path {
                        untrusted = untrusted.or(self.places.pass(&path)?);
                    }
                }
                Folder::OnlyForLinker(folder) => {
                    let path = folder.join(file_name(name));
                    is_elsewhere |= is_readable_file(&path);
                    untrusted = untrusted.or(self.places.pass(&path)?);
                }
                Folder::At {
                    path: folder,
                    is_unknown_to_linker,
                } => {
                    let is_searched = by_path.is_none() && !is_unknown_to_linker;
                    if is_searched && self.places.may_be_preceded(folder)? {
                        is_elsewhere = true;
                        with_processor_folders.push(folder);
                    }
                    let path = folder.join(file_name(name));
                    if let Some((identity, facts)) = self.take(name, &path, |rules| &rules.all)? {
                        let is_opened_first = *is_unknown_to_linker
                            || is_elsewhere
                            || relative.is_some()
                            || untrusted.is_some();
                        return Ok((file(path, identity, is_opened_first), Some(facts)));
                    }
                    if !is_unknown_to_linker {
                        untrusted = untrusted.or(self.places.pass(&path)?);
                    }
                }
            }
        }
        if let Some(path) = (self.mapped)(name) {
            if let Some(plugin) = file_of_image(&path) {
                return Err(ErrorKind::NameOfPlugin { plugin }.into());
            }
            return Ok((Found::Mapped(path), None));
        }
        if by_path.is_none() {
            for folder in system_folders() {
                let path = folder.join(name);
                if let Some((identity, facts)) = self.take(name, &path, |rules| &rules.system)? {
                    let is_opened_first = is_elsewhere || relative.is_some() || untrusted.is_some();
                    let found = file(path, identity, is_opened_first);
                    return Ok((found, Some(facts)));
                }
            }
        }
        for folder in with_processor_folders {
            for path in PROCESSOR_FOLDERS.map(|it| folder.join(it).join(name)) {
                if self.take(name, &path, |rules| &rules.all)?.is_none() {
                    untrusted = untrusted.or(self.places.pass(&path)?);
                }
            }
        }
        match (relative, untrusted) {
            (Some(folder), _) => Err(ErrorKind::RelativeFolder { folder }.into()),
            (None, Some(folder)) => Err(ErrorKind::UntrustedFolder { folder }.into()),
            (None, None) => Ok((Found::Nowhere, None)),
        }
    }

    /// The file at `path`, if the linker would take it for `name`. If there is no file, this costs one system call.
    fn take(
        &self,
        name: &str,
        path: &Path,
        path_policy: impl for<'r> FnOnce(&'r Rules<'a>) -> &'r PathPolicy<'a>,
    ) -> Result<Option<TakenFile>, LibraryRefusal> {
        self.places.look_up(path)?;
        if !is_readable_file(path) {
            return Ok(None);
        }
        let rules = self.places.rules()?;
        let taken = rules.take(path, path_policy(rules))?;
        // A library that is mapped already has changed the stacks when it was loaded.
        if let Some((_, facts)) = &taken
            && facts.executable_stack
            && (self.mapped)(name).is_none()
        {
            return Err(LibraryRefusal::at(path, ErrorKind::ExecutableStack));
        }
        Ok(taken)
    }
}

/// The file name of a library that is needed by this name or path.
pub(crate) fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt, process::Command};

    use object::elf::{PF_R, PF_W, PF_X, PT_GNU_STACK};

    use super::*;
    use crate::stage::finder;

    fn library(folder: &Path) {
        let bytes = finder("libc.so.6", "/none").unwrap();
        std::fs::write(folder.join("libdep.so"), bytes).unwrap();
    }

    /// Looks for `libdep.so` in the folders `runpath`.
    fn look(runpath: &[PathBuf], policy: &Policy) -> Result<Found, ErrorKind> {
        let runpath: Vec<_> = runpath.iter().map(|it| it.to_str().unwrap()).collect();
        let mut facts = Facts::default();
        facts.needed = vec!["libdep.so".to_owned()];
        facts.runpath = Some(runpath.join(":"));
        let found = find(&facts, Path::new("/"), policy, &|_| None)?;
        Ok(found.into_iter().last().unwrap().found)
    }

    /// Looks for so many libraries in so many folders that are not there.
    fn look_for(libraries: usize, folders: impl Iterator<Item = usize>) -> Result<(), ErrorKind> {
        let folders: Vec<_> = folders.map(|it| format!("/none/{it}/lib")).collect();
        let mut facts = Facts::default();
        facts.needed = (0..libraries).map(|it| format!("lib{it}.so")).collect();
        facts.runpath = Some(folders.join(":"));
        find(&facts, Path::new("/"), &Policy::default(), &|_| None).map(drop)
    }

    #[test]
    fn a_search_has_an_end() {
        look_for(300, 0..100).expect("many, but not too many");
        look_for(1000, (0..1000).map(|_| 1)).expect("a folder counts once in a list");
        let refusal = look_for(1000, 0..1000).expect_err("a million");
        let why = "the search for libraries takes too long: more than 131072 look-ups";
        assert!(refusal.to_string().contains(why), "{refusal}");
    }

    fn cause(refusal: ErrorKind) -> ErrorKind {
        match refusal {
            ErrorKind::Library { cause, .. } => *cause,
            other => panic!("{other}"),
        }
    }

    /// Otherwise somebody could put another library there, after the check and before the linker looks.
    #[test]
    fn the_linker_does_not_search_where_somebody_else_could_put_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name| folder.path().canonicalize().unwrap().join(name);
        for (name, mode) in [
            ("good", 0o755),
            ("open", 0o777),
            ("sticky", 0o1777),
            ("closed", 0o755),
        ] {
            std::fs::create_dir(at(name)).unwrap();
            std::fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
        }
        library(&at("good"));
        let policy = Policy::default();
        for (first, is_opened_first) in [
            ("open", true),
            ("sticky", true),
            ("sticky/none/at/all", true),
            ("closed", false),
            ("closed/none", false),
        ] {
            let Found::File(file) = look(&[at(first), at("good")], &policy).unwrap() else {
                panic!("it is in the second folder");
            };
            assert_eq!(file.is_opened_first, is_opened_first, "{first}");
            // Nothing is behind it, so that the linker would search.
            let alone = look(&[at(first)], &policy);
            match alone {
                Ok(Found::Nowhere) => assert!(!is_opened_first, "{first}"),
                Ok(other) => panic!("{other:?}"),
                Err(refusal) => {
                    let why = cause(refusal).to_string();
                    let expected = "not found, and the linker would also look in ";
                    assert!(is_opened_first && why.starts_with(expected), "{why}");
                }
            }
        }
        let any_owner = Policy {
            any_owner: true,
            ..Policy::default()
        };
        let found = look(&[at("open")], &any_owner).unwrap();
        assert!(matches!(found, Found::Nowhere), "{found:?}");
    }

    /// The linker would wait for somebody to write to it.
    #[test]
    fn a_fifo_where_the_linker_looks_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let fifo = folder.join("libdep.so");
        let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        let refusal = look(std::slice::from_ref(&folder), &Policy::default()).unwrap_err();
        assert_eq!(cause(refusal).to_string(), "a FIFO, not a file");
        let mut facts = Facts::default();
        facts.needed = vec![fifo.to_str().unwrap().to_owned()];
        let find = |origin| {
            find(&facts, origin, &Policy::default(), &|_| {
                panic!("it would wait")
            })
        };
        assert_eq!(
            cause(find(&folder).unwrap_err()).to_string(),
            "a FIFO, not a file"
        );
    }

    /// The linker has opened it, and then it was removed.
    #[test]
    fn a_library_that_is_gone_is_refused() {
        let refusal = check(
            "libdep.so",
            Path::new("/none/libdep.so"),
            &Policy::default(),
        );
        let refusal = refusal.unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "needs libdep.so: /none/libdep.so: no such file"
        );
    }

    #[test]
    fn one_for_executable_stacks_is_refused_unless_it_is_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let path = folder.join("libexec.so");
        let header = |flags: u32| [PT_GNU_STACK.0.to_ne_bytes(), flags.to_ne_bytes()].concat();
        let read_write = PF_R.0 | PF_W.0;
        let mut bytes = finder("libc.so.6", "/none").unwrap();
        let old = header(read_write);
        let at = bytes.windows(8).position(|it| it == old).unwrap();
        bytes[at..at + 8].copy_from_slice(&header(read_write | PF_X.0));
        std::fs::write(&path, bytes).unwrap();

        let mut facts = Facts::default();
        facts.needed = vec!["libexec.so".to_owned()];
        facts.runpath = Some("$ORIGIN".to_owned());
        let policy = Policy {
            any_owner: true,
            ..Policy::default()
        };
        let refusal = find(&facts, &folder, &policy, &|_| None).unwrap_err();
        let ErrorKind::Library { cause, .. } = refusal else {
            panic!("{refusal}");
        };
        assert!(matches!(*cause, ErrorKind::ExecutableStack), "{cause}");
        find(&facts, &folder, &policy, &|_| Some(path.clone())).unwrap();
    }
}
