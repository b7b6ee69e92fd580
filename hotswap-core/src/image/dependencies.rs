//! Libraries that an image needs and that may call it later.
//!
//! A library that stays mapped keeps the callbacks that it was given and the threads that it started, and the host
//! can count neither. So each library is assessed in three steps:
//!
//! 1. by its name, in a list of libraries known to keep nothing and a list of libraries known to keep callbacks;
//! 2. if it is in neither, by its file: whether it, or a library that it needs, can start threads or is linked to
//!    stay mapped;
//! 3. if it can do neither, only its users call it; then its writable data are searched for an address of the image.
//!
//! [`may_run`] asks the same of a library that was opened for an image that then fails to link. It also refuses to
//! close a library that has functions registered with the system.
//!
//! This module does not know what a library keeps on the heap or in thread-locals, nor which libraries an image opens
//! with `dlopen`.

mod names;

use std::{
    collections::{HashSet, VecDeque},
    ffi::OsStr,
    mem,
    ops::{ControlFlow, Range},
    path::{Path, PathBuf},
};

use hotswap_elf::Facts;

pub(super) use self::names::{Known, are_c_libraries, is_named, known, policy_says};
use super::handlers;
use crate::{
    cache::Cache,
    stage::{self, file_name},
    system::{
        keys,
        linker::{Access, Mapping, Object, each_object},
        memory::words,
        status::{ContentState, FileId, Status},
    },
    trust::Policy,
};

/// The largest segment that is searched. A larger one holds tables rather than callbacks, and is taken to hold an
/// address of the image.
const DATA_BYTES_MAX: usize = 64 << 20;

/// A library that may call an image.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// It may have a callback or a thread, judging by its name or its file.
    Able(String),
    /// It has an address of the image in its data.
    Has(String),
}

/// The first library that may call the image at `mapping`, among those that it needs directly or indirectly.
///
/// Costs next to nothing if all are known by name; otherwise each call reads the writable data of those that are
/// mapped.
pub(super) fn caller_of(
    mapping: &Mapping,
    needed: &[String],
    known: impl Fn(&str) -> Option<Known>,
) -> Option<Caller> {
    let mut caller = None;
    walk(needed, |library| {
        let found = match Assessment::of(library, known(library)) {
            Assessment::Harmless | Assessment::Plain { is_known: true, .. } => {
                return ControlFlow::Continue(Vec::new());
            }
            Assessment::Able => Caller::Able(library.to_owned()),
            Assessment::Plain {
                mapped, abilities, ..
            } => {
                let mut data = mapped.iter().flat_map(|it| &it.writable);
                if !data.any(|data| has_address_of(mapping, data)) {
                    return ControlFlow::Continue(needs(&abilities));
                }
                Caller::Has(library.to_owned())
            }
        };
        caller = Some(found);
        ControlFlow::Break(())
    });
    caller
}

/// Whether code of a library that was just opened, or of one that it needs, may run although no image uses it: in a
/// thread, or in a function that it registered with libc or the kernel.
pub(super) fn may_run(library: &str, policy: &Policy) -> bool {
    let library = [library.to_owned()];
    // The abilities noted so far may be those of another library that was mapped at the same place before.
    note(&library);
    let mut may_run = false;
    walk(&library, |library| {
        let known = policy_says(library, policy).or_else(|| known(library));
        match Assessment::of(library, known) {
            Assessment::Harmless => return ControlFlow::Continue(Vec::new()),
            Assessment::Plain {
                mapped, abilities, ..
            } if !abilities.iter().any(|it| it.leaves)
                && !mapped.iter().any(MappedLibrary::is_registered) =>
            {
                return ControlFlow::Continue(needs(&abilities));
            }
            Assessment::Able | Assessment::Plain { .. } => {}
        }
        may_run = true;
        ControlFlow::Break(())
    });
    may_run
}

/// Keeps the libraries whose code may run after the image has left: those that the system calls now
/// ([`MappedLibrary::is_registered`]), those that import functions which have it call them, and harmless ones that can
/// start threads, which may run on. They stay mapped for good. (An author who vouches for a library has ended its
/// threads.)
///
/// Costs next to nothing if the image needs only C's libraries, and otherwise a look at each key and each signal for
/// each library.
pub(super) fn keep_callable(needed: &[String], policy: &Policy) {
    walk(needed, |library| {
        if are_c_libraries(&[library.to_owned()]) {
            return ControlFlow::Continue(Vec::new());
        }
        let mapped = mapped(library);
        let known = known(library);
        let is_harmless = policy_says(library, policy).or(known) == Some(Known::Harmless);
        let may_run =
            |it: &&MappedLibrary| it.is_callable() || is_harmless && it.may_have_threads();
        for library in mapped.iter().filter(may_run) {
            mem::forget(Object::mapped(library.path.as_os_str()));
        }
        // One that is listed here needs only such.
        if known == Some(Known::Harmless) {
            return ControlFlow::Continue(Vec::new());
        }
        let abilities: Vec<_> = mapped.iter().filter_map(Abilities::of).collect();
        ControlFlow::Continue(needs(&abilities))
    });
}

/// What a library's name and file say of it.
enum Assessment {
    /// It keeps no callbacks, and neither does any library that it needs.
    Harmless,
    /// It may keep callbacks, or nothing is known of it.
    Able,
    /// It has no threads of its own.
    Plain {
        /// Whether a library of this name, without threads, is known to keep no callbacks.
        is_known: bool,
        mapped: Vec<MappedLibrary>,
        abilities: Vec<Abilities>,
    },
}

impl Assessment {
    fn of(library: &str, known: Option<Known>) -> Self {
        let is_known = match known {
            Some(Known::Harmless) => return Self::Harmless,
            Some(Known::Pinning) => return Self::Able,
            Some(Known::HarmlessWithoutThreads) => true,
            None => false,
        };
        let mapped = mapped(library);
        let abilities: Option<Vec<Abilities>> = mapped.iter().map(Abilities::of).collect();
        match abilities {
            // If none is found, the library has another name than the one that was asked for, and nothing is known of
            // it.
            Some(abilities)
                if !abilities.is_empty() && !abilities.iter().any(|it| it.may_call(is_known)) =>
            {
                Self::Plain {
                    is_known,
                    mapped,
                    abilities,
                }
            }
            _ => Self::Able,
        }
    }
}

/// The libraries that were loaded for these.
fn needs(abilities: &[Abilities]) -> Vec<String> {
    let libraries = |it: &Abilities| with_mapped(&it.needed, &it.filters);
    abilities.iter().flat_map(libraries).collect()
}

/// The libraries that were loaded for a file: those that it needs, and those of its filters that are mapped. The
/// linker does without a filter that it does not find.
pub(super) fn loaded(facts: &Facts) -> Vec<String> {
    with_mapped(&facts.needed, &facts.filters)
}

fn with_mapped(needed: &[String], filters: &[String]) -> Vec<String> {
    let is_mapped = |name: &&String| !mapped(file_name(name)).is_empty();
    let filters = filters.iter().filter(is_mapped);
    needed.iter().chain(filters).cloned().collect()
}

/// Notes what an image's libraries can do, according to their files. Call it right after the image was opened: a
/// deploy may remove or replace the files later.
pub(super) fn note(needed: &[String]) {
    walk(needed, |library| {
        if matches!(known(library), Some(Known::Harmless | Known::Pinning)) {
            return ControlFlow::Continue(Vec::new());
        }
        let abilities = mapped(library)
            .iter()
            .filter_map(Abilities::noted)
            .collect::<Vec<_>>();
        ControlFlow::Continue(needs(&abilities))
    });
}

/// Calls `visit` once with the file name of each library, breadth first. `visit` returns the names of the libraries
/// that this one needs.
fn walk(needed: &[String], mut visit: impl FnMut(&str) -> ControlFlow<(), Vec<String>>) {
    let mut open: VecDeque<String> = needed.iter().cloned().collect();
    let mut seen = HashSet::new();
    while let Some(name) = open.pop_front() {
        let library = file_name(&name);
        if !seen.insert(library.to_owned()) {
            continue;
        }
        match visit(library) {
            ControlFlow::Continue(needed) => open.extend(needed),
            ControlFlow::Break(()) => return,
        }
    }
}

fn add(all: &mut Vec<String>, names: Vec<String>) {
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
}

/// A library that is mapped.
struct MappedLibrary {
    path: PathBuf,
    mapping: Mapping,
    writable: Vec<Range<usize>>,
}

/// The mapped libraries with this file name: two may have it, in different folders. If there is none, the one that the
/// linker knows by this name.
fn mapped(library: &str) -> Vec<MappedLibrary> {
    let by_file_name = mapped_if(|path| path.file_name() == Some(OsStr::new(library)));
    if !by_file_name.is_empty() {
        return by_file_name;
    }
    let known = Object::mapped(OsStr::new(library));
    known.map_or_else(Vec::new, |known| mapped_if(|path| path == known.path()))
}

fn mapped_if(is_wanted: impl Fn(&Path) -> bool) -> Vec<MappedLibrary> {
    let mut found = Vec::new();
    each_object(|object| {
        let path = object.path();
        if is_wanted(path) {
            found.push(MappedLibrary {
                path: path.to_owned(),
                mapping: object.mapping(Access::Any),
                writable: object.segments(Access::Write).collect(),
            });
        }
    });
    found
}

/// Whether a word of `data`, a segment of a library, may be an address of the image.
fn has_address_of(mapping: &Mapping, data: &Range<usize>) -> bool {
    const WORD: usize = size_of::<usize>();
    let start = data.start.next_multiple_of(WORD);
    let end = data.end.min(start.saturating_add(DATA_BYTES_MAX));
    let words = words(start..end, DATA_BYTES_MAX);
    words.is_none_or(|mut words| words.any(|word| mapping.has(word, 1)))
}

/// What a library can do, according to its file.
#[derive(Clone, Debug, Default, PartialEq)]
struct Abilities {
    /// It is linked to stay mapped (`-z nodelete`).
    stays: bool,
    starts_threads: bool,
    /// It imports functions that make pthread keys.
    creates_keys: bool,
    /// It imports functions that keep something of it (`Facts::keeping_functions`).
    leaves: bool,
    needed: Vec<String>,
    filters: Vec<String>,
}

/// The abilities found so far, by the path that a library was mapped from and the address that it was mapped at.
static NOTED: Cache<(PathBuf, usize), Noted> = Cache::new();

#[derive(Clone, Default)]
struct Noted {
    /// The file that was last read.
    file: Option<(FileId, ContentState)>,
    abilities: Abilities,
}

impl Abilities {
    /// The abilities that were noted when the library was first needed, or else those of its file as it is now.
    /// `None`: the file cannot be read, or is no library.
    fn of(library: &MappedLibrary) -> Option<Self> {
        let noted = NOTED.get(&library.key()).map(|it| it.abilities);
        noted.or_else(|| Self::noted(library))
    }

    /// Adds the abilities of the file as it is now to those noted before, which may be those of the file that is
    /// mapped.
    fn noted(library: &MappedLibrary) -> Option<Self> {
        let status = Status::at(&library.path).ok()?;
        let file = Some((status.id, status.content));
        if let Some(it) = NOTED.get(&library.key()).filter(|it| it.file == file) {
            return Some(it.abilities);
        }
        let facts = stage::facts_of_library(&library.path)?;
        let noted = NOTED.update(library.key(), |noted| {
            noted.file = file;
            let abilities = &mut noted.abilities;
            abilities.stays |= facts.nodelete;
            abilities.starts_threads |= facts.starts_threads;
            abilities.creates_keys |= facts.creates_keys;
            abilities.leaves |= !facts.keeping_functions.is_empty();
            add(&mut abilities.needed, facts.needed);
            add(&mut abilities.filters, facts.filters);
        });
        Some(noted.abilities)
    }

    /// Whether it may call an image later. `is_plain`: it is known to do so only from threads.
    fn may_call(&self, is_plain: bool) -> bool {
        self.starts_threads || self.stays && !is_plain
    }
}

impl MappedLibrary {
    /// Whether the system calls a function of it when a thread ends or a signal arrives.
    fn is_registered(&self) -> bool {
        let has_keys = match keys::keys_into(&self.mapping.range()) {
            Some(keys) => !keys.is_empty(),
            // The system does not show them.
            None => Abilities::of(self).is_none_or(|it| it.creates_keys),
        };
        has_keys || handlers::lie_in(&self.mapping)
    }

    /// Whether it may be called when nobody uses it any more. A key may be made, or deleted while its destructor runs,
    /// at any time; so a library that can make keys counts.
    fn is_callable(&self) -> bool {
        let may_be = |it: Abilities| it.creates_keys || it.leaves;
        self.is_registered() || Abilities::of(self).is_some_and(may_be)
    }

    fn may_have_threads(&self) -> bool {
        Abilities::of(self).is_none_or(|it| it.starts_threads)
    }

    fn key(&self) -> (PathBuf, usize) {
        (self.path.clone(), self.mapping.bias)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    /// On this machine, no library that is listed as starting no threads can start any.
    #[test]
    fn harmless_libraries_start_threads_only_if_that_is_said() {
        let mut checked = 0;
        let folders = [
            "/lib/x86_64-linux-gnu",
            "/lib/aarch64-linux-gnu",
            "/lib64",
            "/usr/lib64",
            "/usr/lib",
        ];
        for folder in folders {
            for file in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = file.file_name().to_string_lossy().into_owned();
                if !name.contains(".so") || known(&name) != Some(Known::HarmlessWithoutThreads) {
                    continue;
                }
                let library = MappedLibrary {
                    path: file.path(),
                    mapping: Mapping::default(),
                    writable: Vec::new(),
                };
                if let Some(it) = Abilities::noted(&library) {
                    assert!(!it.starts_threads, "{name}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 0, "glibc has libresolv and libutil");
    }

    /// Whatever is at the path by then, nobody waits for it.
    #[test]
    fn what_is_no_file_has_no_abilities() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("libdep.so");
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let library = MappedLibrary {
            path,
            mapping: Mapping::default(),
            writable: Vec::new(),
        };
        assert_eq!(Abilities::noted(&library), None);
    }

    #[test]
    fn an_address_in_the_data_of_a_library_is_found() {
        let words = [1_usize, 0x5000, 7];
        let start = words.as_ptr().expose_provenance();
        let data = start..start + size_of_val(&words);
        let mapping = |segment| Mapping {
            segments: vec![segment],
            ..Mapping::default()
        };
        assert!(has_address_of(&mapping(0x4000..0x5001), &data));
        assert!(!has_address_of(&mapping(0x4000..0x5000), &data));
        assert!(
            !has_address_of(&mapping(0x4000..0x5001), &(start..start + 12)),
            "not the half of a word"
        );
    }
}
