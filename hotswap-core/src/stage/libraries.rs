//! Where the libraries are that a candidate needs, and whether they may be loaded with it.
//!
//! The dynamic linker loads them from wherever it finds them, and runs their initialisers. So they are looked for here
//! before it is called, in its own order, and held to the policy: who owns and can write each file and the folders that
//! lead to it, and, outside of the system's own folders, where it lies and by way of which links. Pins and signatures
//! are of the plugin's bytes alone.
//!
//! Not looked into, although the linker does: its cache (`/etc/ld.so.cache`), folders for one kind of processor
//! (`glibc-hwcaps`), the `DT_RPATH` of the host's executable, entries with `$LIB` or `$PLATFORM`. What is only there is
//! left to the linker, and when it has been loaded it is asked who owns it and can write to it.
//!
//! Relative folders, such as the empty ones in a list, are not looked into: which they are depends on the current
//! folder. A candidate that needs what is only there is refused.
//!
//! What is mapped is not known here.

mod folders;
mod rules;

use std::{
    cell::OnceCell,
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use hotswap_elf::Facts;

use self::{
    folders::{Folder, Object, library_path, search_path, system_folders},
    rules::{LibraryRefusal, Rules, Taken, is_readable_file},
};
use super::{Staged, judge::Judge};
use crate::{
    error::{ErrorKind, Result},
    trust::Policy,
};

/// A library that a candidate needs, itself or by way of others.
#[derive(Clone, Debug)]
pub(crate) struct Needed {
    /// As it is asked for: mostly the name of a file.
    pub(crate) name: String,
    pub(crate) found: Found,
}

/// What is known of a library before the candidate is linked.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// A file that may be loaded.
    File(LibraryFile),
    /// One of this name is mapped, from there, and no other was found but in the system's folders, where it was not
    /// looked for: a host may bring its own.
    Mapped(PathBuf),
    /// It is left to the linker.
    Nowhere,
}

#[derive(Clone, Debug)]
pub(crate) struct LibraryFile {
    pub(crate) path: PathBuf,
    /// Device and inode, where the file was looked at.
    pub(crate) identity: Option<(u64, u64)>,
    /// Whether the linker finds another one, or none, when it looks for the name: then it is opened by its path first.
    pub(crate) is_opened_first: bool,
}

impl Needed {
    /// One that is to be opened by its path, wherever it is.
    pub(crate) fn first(name: String, path: PathBuf) -> Self {
        let file = LibraryFile {
            path,
            identity: None,
            is_opened_first: true,
        };
        let found = Found::File(file);
        Self { name, found }
    }

    /// Its name and its path, if it is to be opened by that.
    pub(crate) fn opened_first(&self) -> Option<(&str, &Path)> {
        match &self.found {
            Found::File(file) if file.is_opened_first => Some((&self.name, &file.path)),
            Found::File(_) | Found::Mapped(_) | Found::Nowhere => None,
        }
    }
}

/// A plugin, what it needs, what that needs and so on. A graph that is larger was not made by people.
const LIBRARIES_MAX: usize = 1024;

impl Staged {
    /// Looks for the libraries that it needs, itself and by way of others, and holds them to the policy. `mapped` gives
    /// where the library was loaded from that the linker knows by a name.
    ///
    /// Costs next to nothing when all of them are mapped, unless there are folders to look in (`LD_LIBRARY_PATH`,
    /// `DT_RUNPATH`): then a system call for each name and folder, and for what is found there some 50 µs.
    pub(crate) fn find_libraries(
        &mut self,
        policy: &Policy,
        mapped: &dyn Fn(&str) -> Option<PathBuf>,
    ) -> Result<()> {
        let origin = self.origin.real.parent().unwrap_or(Path::new("/"));
        let found = find(&self.facts, origin, policy, mapped);
        self.libraries = found.map_err(|refusal| self.refused(refusal))?;
        Ok(())
    }

    /// Holds a library to the policy that the linker has found by itself, and gives the names of those that it needs.
    pub(crate) fn check_library(
        &self,
        name: &str,
        path: &Path,
        policy: &Policy,
    ) -> Result<Vec<String>> {
        check(name, path, policy).map_err(|refusal| self.refused(refusal))
    }

    /// What was found, in an order in which each can be opened after those that it needs.
    pub(crate) fn libraries(&self) -> &[Needed] {
        &self.libraries
    }

    /// What another process has found.
    pub(crate) fn set_libraries(&mut self, libraries: Vec<Needed>) {
        self.libraries = libraries;
    }
}

/// Looks for all that a plugin needs whose real folder is `origin`, in an order in which each can be opened after those
/// that it needs. `mapped` gives where the library was loaded from that the linker knows by a name.
fn find(
    facts: &Facts,
    origin: &Path,
    policy: &Policy,
    mapped: &dyn Fn(&str) -> Option<PathBuf>,
) -> Result<Vec<Needed>, ErrorKind> {
    let mut search = Search {
        policy,
        rules: OnceCell::new(),
        library_path: library_path(),
        mapped,
        objects: vec![Object::plugin(facts, origin)],
        all: Vec::new(),
        seen: HashSet::new(),
    };
    search.need(0, facts);
    // As the linker does: first all that the plugin needs, then all that these need.
    let mut next = 0;
    while next < search.all.len() {
        search.look(next)?;
        next += 1;
    }
    Ok(search.in_order())
}

/// Whether a library may be loaded that the linker has found by itself, and what it needs. A path that leads nowhere
/// any more needs nothing.
fn check(name: &str, path: &Path, policy: &Policy) -> Result<Vec<String>, ErrorKind> {
    if !is_readable_file(path) {
        return Ok(Vec::new());
    }
    let rules = Rules::new(policy)?;
    let taken = rules.take(path, &rules.system);
    let taken = taken.map_err(|refusal| refusal.of(name, None))?;
    Ok(taken.map_or_else(Vec::new, |(_, facts)| facts.needed.clone()))
}

/// What was found so far.
struct Search<'a> {
    policy: &'a Policy,
    /// Once there is something to be asked.
    rules: OnceCell<Rules<'a>>,
    library_path: Vec<Folder>,
    mapped: &'a dyn Fn(&str) -> Option<PathBuf>,
    /// The plugin, and the libraries that were found.
    objects: Vec<Object>,
    all: Vec<Asked>,
    seen: HashSet<String>,
}

/// A name that something needs.
struct Asked {
    name: String,
    /// The object that needs it.
    by: usize,
    found: Found,
    needs: Vec<String>,
}

impl<'a> Search<'a> {
    /// Notes what an object needs, each name once: the linker takes what it knows by a name for all who ask for it.
    fn need(&mut self, by: usize, facts: &Facts) {
        for name in &facts.needed {
            if self.seen.insert(name.clone()) {
                self.all.push(Asked {
                    name: name.clone(),
                    by,
                    found: Found::Nowhere,
                    needs: Vec::new(),
                });
            }
        }
    }

    fn look(&mut self, asked: usize) -> Result<(), ErrorKind> {
        let Asked { name, by, .. } = &self.all[asked];
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
            self.all[asked].needs.clone_from(&facts.needed);
        }
        self.all[asked].found = found;
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
        // A name with a slash is a path, and nothing is looked for.
        let by_path = name.contains('/').then(|| folder_of_path(name));
        let folders = match &by_path {
            Some(folder) => folder.iter().collect(),
            None => search_path(&self.objects, by, &self.library_path),
        };
        for folder in folders {
            match folder {
                Folder::Relative(entry) => {
                    let is_there = is_readable_file(&Path::new(entry).join(file_name(name)));
                    relative = relative.or_else(|| is_there.then(|| entry.clone()));
                }
                Folder::At {
                    path,
                    is_unknown_to_linker,
                } => {
                    let path = path.join(file_name(name));
                    if let Some((identity, facts)) = self.take(&path, |rules| &rules.all)? {
                        let is_opened_first = *is_unknown_to_linker || relative.is_some();
                        return Ok((file(path, identity, is_opened_first), Some(facts)));
                    }
                }
            }
        }
        if let Some(path) = (self.mapped)(name) {
            return Ok((Found::Mapped(path), None));
        }
        if by_path.is_none() {
            for folder in system_folders() {
                let path = folder.join(name);
                if let Some((identity, facts)) = self.take(&path, |rules| &rules.system)? {
                    let found = file(path, identity, relative.is_some());
                    return Ok((found, Some(facts)));
                }
            }
        }
        match relative {
            None => Ok((Found::Nowhere, None)),
            Some(entry) => {
                let folder = entry;
                Err(ErrorKind::RelativeFolder { folder }.into())
            }
        }
    }

    /// The file at `path`, if the linker would take it. If there is none, this costs one system call.
    fn take(
        &self,
        path: &Path,
        judge: impl for<'r> FnOnce(&'r Rules<'a>) -> &'r Judge<'a>,
    ) -> Result<Option<Taken>, LibraryRefusal> {
        if !is_readable_file(path) {
            return Ok(None);
        }
        if self.rules.get().is_none() {
            let _ = self.rules.set(Rules::new(self.policy)?);
        }
        let rules = self.rules.get().expect("set above");
        rules.take(path, judge(rules))
    }

    /// Each after those that it needs, as far as they do not need each other.
    fn in_order(self) -> Vec<Needed> {
        let places: HashMap<&str, usize> = self.all.iter().map(|it| &*it.name).zip(0..).collect();
        let mut order = Vec::new();
        let mut begun = vec![false; self.all.len()];
        // Those that are under way, each with how many of its own are done.
        let mut open = Vec::new();
        for first in 0..self.all.len() {
            open.extend((!begun[first]).then_some((first, 0)));
            begun[first] = true;
            while let Some((place, done)) = open.pop() {
                let needs = self.all[place].needs.get(done);
                let Some(next) = needs.and_then(|name| places.get(&**name)) else {
                    order.push(place);
                    continue;
                };
                open.push((place, done + 1));
                if !begun[*next] {
                    begun[*next] = true;
                    open.push((*next, 0));
                }
            }
        }
        let needed = |place: usize| Needed {
            name: self.all[place].name.clone(),
            found: self.all[place].found.clone(),
        };
        order.into_iter().map(needed).collect()
    }
}

/// The folder of a name that is a path. None: only the linker understands it.
fn folder_of_path(name: &str) -> Option<Folder> {
    let folder = Path::new(name).parent().unwrap_or(Path::new("/"));
    if name.contains('$') {
        None
    } else if name.starts_with('/') {
        Some(Folder::At {
            path: folder.to_owned(),
            is_unknown_to_linker: false,
        })
    } else {
        Some(Folder::Relative(folder.to_owned()))
    }
}

fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
