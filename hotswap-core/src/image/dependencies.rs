//! Libraries that an image needs and that may call it later.
//!
//! A library that stays mapped keeps the callbacks that it was given, and the threads that it started. Neither can be
//! counted from here. So a library is looked up by its name in two lists, one of those that are known to keep nothing
//! and one of those that are known to keep callbacks; what is in neither is judged by its file: whether it, or one that
//! it needs, can start threads, or is linked to stay mapped. Of the rest, which is called by nobody but its users, the
//! writable data are searched for an address of the image.
//!
//! The same is asked of a library that was opened for an image which then does not link ([`may_run`]): it may not be closed
//! either when it has functions that the system calls.
//!
//! It does not know what a library keeps on the heap or in thread-locals, nor libraries that an image opens by `dlopen`.

use std::{
    collections::{HashSet, VecDeque},
    ffi::OsStr,
    fs,
    ops::{ControlFlow, Range},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use super::{Place, each_object, handlers, keys, memory::words};
use crate::{cache::Cache, stage, trust::Policy};

/// glibc, the dynamic linker, and what every plugin needs of its compiler. What they keep for an image is looked for one
/// by one (`keys`, `handlers`).
const OF_C: [&str; 8] = [
    "libc",
    "libm",
    "libdl",
    "libpthread",
    "librt",
    "ld-linux-x86-64",
    "ld-linux-aarch64",
    "libgcc_s",
];

/// More libraries that call nothing of an image when its own calls have returned, and do not mind that it goes, although
/// they can start threads.
const HARMLESS: [&str; 4] = [
    // Its threads are those of `std::thread`, which `unloadable!` counts.
    "libstdc++",
    // Their threads compress, and end with the context that they belong to.
    "libzstd",
    "liblzma",
    // Its threads sort, and end before the statement that needs them does. What is registered with it for the whole
    // process is seen in what an image imports (`Facts::leaves`).
    "libsqlite3",
];

/// The same for those that start none. A library of this name that can is another one.
const HARMLESS_WITHOUT_THREADS: [&str; 12] = [
    "libutil",
    "libresolv",
    "libcrypt",
    "libatomic",
    "libunwind",
    "libz",
    "libbz2",
    "liblz4",
    "libbrotlicommon",
    "libbrotlidec",
    "libbrotlienc",
    "libexpat",
];

/// Libraries that keep callbacks, types or handlers for as long as they are mapped.
const PINNING: [&str; 22] = [
    // `ex_data`, BIO methods, error strings, engines and `atexit` handlers.
    "libcrypto",
    "libssl",
    "libgnutls",
    "libgcrypt",
    "libnss3",
    "libnspr4",
    // Types that are registered once for the process.
    "libglib-2.0",
    "libgobject-2.0",
    "libgio-2.0",
    "libQt5Core",
    "libQt6Core",
    // Interpreters, with the modules and the threads that they know.
    "libpython3",
    "libruby",
    "libperl",
    "liblua5",
    "libjvm",
    "libnode",
    // Drivers with threads of their own.
    "libcuda",
    "libOpenCL",
    "libGL",
    "libEGL",
    "libvulkan",
];

/// So much of a segment is searched. A larger one is rather a table than a place for callbacks.
const DATA_BYTES_MAX: usize = 64 << 20;

/// What is known of a library by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It calls nothing of the image any more.
    Harmless,
    /// The same if it can start no threads.
    HarmlessWithoutThreads,
    /// It may call the image as long as it is mapped.
    Pinning,
}

/// A library that may call an image.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// By its name, or by what it can do.
    Able(String),
    /// It has an address of the image in its data.
    Has(String),
}

/// Whether nothing but C's own libraries is needed.
pub(super) fn are_of_c(needed: &[String]) -> bool {
    let is_of_c = |name: &String| OF_C.iter().any(|entry| is_named(name, entry));
    needed.iter().all(is_of_c)
}

/// Whether `name`, a function or the file of a library, is meant by `entry`: the name itself, or of a library what
/// comes before `.so` and before a version (`libcrypto` means `libcrypto.so.3` and `libcrypto-1.1.so`).
pub(super) fn is_named(name: &str, entry: &str) -> bool {
    let stem = name.split(".so").next().unwrap_or(name);
    let Some(rest) = stem.strip_prefix(entry) else {
        return name == entry;
    };
    let is_version = |rest: &str| {
        rest.starts_with(['.', '-'])
            && rest
                .chars()
                .all(|c| c.is_ascii_hexdigit() || c == '.' || c == '-')
    };
    rest.is_empty() || is_version(rest)
}

/// What the host says of a library.
pub(super) fn told(library: &str, policy: &Policy) -> Option<Known> {
    let is_in = |list: &[String]| list.iter().any(|entry| is_named(library, entry));
    if is_in(&policy.pinning_libraries) {
        Some(Known::Pinning)
    } else {
        is_in(&policy.harmless_libraries).then_some(Known::Harmless)
    }
}

/// What the lists of this file say of a library.
pub(super) fn known(library: &str) -> Option<Known> {
    let is_in = |list: &[&str]| list.iter().any(|entry| is_named(library, entry));
    if is_in(&PINNING) {
        Some(Known::Pinning)
    } else if is_in(&OF_C) || is_in(&HARMLESS) {
        Some(Known::Harmless)
    } else {
        is_in(&HARMLESS_WITHOUT_THREADS).then_some(Known::HarmlessWithoutThreads)
    }
}

/// The first library that may call the image at `place`, of those that it needs directly or by way of others.
///
/// Costs next to nothing when all are known; otherwise the writable data of those that are mapped are read each time.
pub(super) fn caller_of(
    place: &Place,
    needed: &[String],
    known: impl Fn(&str) -> Option<Known>,
) -> Option<Caller> {
    let mut caller = None;
    walk(needed, |library| {
        let found = match Judged::of(library, known(library)) {
            Judged::Harmless | Judged::Plain { is_known: true, .. } => {
                return ControlFlow::Continue(Vec::new());
            }
            Judged::Able => Caller::Able(library.to_owned()),
            Judged::Plain {
                mapped, abilities, ..
            } => {
                let mut data = mapped.iter().flat_map(|it| &it.writable);
                if !data.any(|data| has_address_of(place, data)) {
                    return ControlFlow::Continue(needs(abilities));
                }
                Caller::Has(library.to_owned())
            }
        };
        caller = Some(found);
        ControlFlow::Break(())
    });
    caller
}

/// Whether something of a library that has just been opened, or of one that it needs, may run when no image uses it: it
/// may have threads, or have registered a function with the C library or the kernel.
pub(super) fn may_run(library: &str, policy: &Policy) -> bool {
    let library = [library.to_owned()];
    // What is noted may be of another one, which was mapped there before.
    note(&library);
    let mut may_run = false;
    walk(&library, |library| {
        let known = told(library, policy).or_else(|| known(library));
        match Judged::of(library, known) {
            Judged::Harmless => return ControlFlow::Continue(Vec::new()),
            Judged::Plain {
                mapped, abilities, ..
            } if !abilities.iter().any(|it| it.leaves)
                && !mapped.iter().any(Mapped::is_registered) =>
            {
                return ControlFlow::Continue(needs(abilities));
            }
            Judged::Able | Judged::Plain { .. } => {}
        }
        may_run = true;
        ControlFlow::Break(())
    });
    may_run
}

/// What can be said of a library by its name and its file.
enum Judged {
    /// It calls nobody, and neither does what it needs.
    Harmless,
    /// It may call what it was given, or nothing is known of it.
    Able,
    /// It has no threads of its own.
    Plain {
        /// Whether it is known to call nobody then.
        is_known: bool,
        mapped: Vec<Mapped>,
        abilities: Vec<Abilities>,
    },
}

impl Judged {
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
            // One that is not found has another name than it is asked for by; then nothing is known of it.
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

fn needs(abilities: Vec<Abilities>) -> Vec<String> {
    abilities.into_iter().flat_map(|it| it.needed).collect()
}

/// Notes what the libraries can do that an image needs, from their files, when it has just been opened: later a deploy
/// may have removed or replaced them.
pub(super) fn note(needed: &[String]) {
    walk(needed, |library| {
        if matches!(known(library), Some(Known::Harmless | Known::Pinning)) {
            return ControlFlow::Continue(Vec::new());
        }
        let abilities = mapped(library)
            .iter()
            .filter_map(Abilities::noted)
            .collect::<Vec<_>>();
        ControlFlow::Continue(abilities.into_iter().flat_map(|it| it.needed).collect())
    });
}

/// Calls `visit` once with the file name of each library, which gives the names of those that it needs in its turn.
fn walk(needed: &[String], mut visit: impl FnMut(&str) -> ControlFlow<(), Vec<String>>) {
    let mut open: VecDeque<String> = needed.iter().cloned().collect();
    let mut seen = HashSet::new();
    while let Some(name) = open.pop_front() {
        let library = name.rsplit('/').next().unwrap_or_default();
        if !seen.insert(library.to_owned()) {
            continue;
        }
        match visit(library) {
            ControlFlow::Continue(needed) => open.extend(needed),
            ControlFlow::Break(()) => return,
        }
    }
}

/// A library that is mapped.
struct Mapped {
    path: PathBuf,
    place: Place,
    writable: Vec<Range<usize>>,
}

/// The libraries with this file name: there may be two, in different folders.
fn mapped(library: &str) -> Vec<Mapped> {
    let mut found = Vec::new();
    each_object(&mut |name, info| {
        let path = Path::new(OsStr::from_bytes(name.to_bytes()));
        if path.file_name() == Some(OsStr::new(library)) {
            found.push(Mapped {
                path: path.to_owned(),
                place: Place::of(info, 0),
                writable: Place::of(info, libc::PF_W).segments,
            });
        }
        ControlFlow::Continue(())
    });
    found
}

/// Whether there may be an address of the image among the words of `data`, a segment of a library.
fn has_address_of(place: &Place, data: &Range<usize>) -> bool {
    const WORD: usize = size_of::<usize>();
    let start = data.start.next_multiple_of(WORD);
    let end = data.end.min(start.saturating_add(DATA_BYTES_MAX));
    let words = words(start..end, DATA_BYTES_MAX);
    words.is_none_or(|mut words| words.any(|word| place.has(word, 1)))
}

/// What a library can do, by its file.
#[derive(Clone, Debug, Default, PartialEq)]
struct Abilities {
    stays: bool,
    starts_threads: bool,
    /// It uses functions that keep something of it (`Facts::leaves`).
    leaves: bool,
    needed: Vec<String>,
}

/// What is known of libraries by the path and the place that they were mapped from and at.
static NOTED: Cache<(PathBuf, usize), Noted> = Cache::new();

#[derive(Clone, Default)]
struct Noted {
    /// Device, inode and time of change of the file that was read last.
    file: (u64, u64, i64, i64),
    abilities: Abilities,
}

impl Abilities {
    /// Those that were noted when the library was first needed, or of its file as it is now. `None`: that cannot be
    /// read, or is no library.
    fn of(library: &Mapped) -> Option<Self> {
        let noted = NOTED.get(&library.key()).map(|it| it.abilities);
        noted.or_else(|| Self::noted(library))
    }

    /// Notes those of its file as it is now. If others are noted, which may be of the file that is mapped, it has both.
    fn noted(library: &Mapped) -> Option<Self> {
        let file = fs::metadata(&library.path).ok()?;
        let file = (file.dev(), file.ino(), file.mtime(), file.mtime_nsec());
        if let Some(it) = NOTED.get(&library.key()).filter(|it| it.file == file) {
            return Some(it.abilities);
        }
        let facts = stage::inspect(&fs::read(&library.path).ok()?, None).ok()?;
        let noted = NOTED.update(library.key(), |noted| {
            noted.file = file;
            let abilities = &mut noted.abilities;
            abilities.stays |= facts.nodelete;
            abilities.starts_threads |= facts.starts_threads;
            abilities.leaves |= !facts.leaves.is_empty();
            for name in facts.needed {
                if !abilities.needed.contains(&name) {
                    abilities.needed.push(name);
                }
            }
        });
        Some(noted.abilities)
    }

    /// Whether it may call something later. `is_plain`: it is known that it does so in threads alone.
    fn may_call(&self, is_plain: bool) -> bool {
        self.starts_threads || self.stays && !is_plain
    }
}

impl Mapped {
    /// Whether a function of it is called when a thread ends, or a signal arrives.
    fn is_registered(&self) -> bool {
        let keys = keys::keys_into(&self.place.range());
        keys.is_none_or(|keys| !keys.is_empty()) || handlers::lie_in(&self.place.segments)
    }

    fn key(&self) -> (PathBuf, usize) {
        (self.path.clone(), self.place.bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_named_with_or_without_its_version() {
        for (name, entry) in [
            ("libcrypto.so.3", "libcrypto"),
            ("libcrypto.so.3", "libcrypto.so.3"),
            ("libcrypto-1.1.so", "libcrypto"),
            ("libcrypto-0a1b2c.so.3", "libcrypto"),
            ("libpython3.11.so.1.0", "libpython3"),
            ("libm-2.31.so", "libm"),
            ("on_exit", "on_exit"),
        ] {
            assert!(is_named(name, entry), "{name} {entry}");
        }
        for (name, entry) in [
            ("libcryptopp.so.8", "libcrypto"),
            ("libcrypt.so.1", "libcrypto"),
            ("libmvec.so.1", "libm"),
            ("libcurl.so.4", "libc"),
            ("libz3.so.4", "libz"),
            ("on_exit", "exit"),
        ] {
            assert!(!is_named(name, entry), "{name} {entry}");
        }
    }

    #[test]
    fn no_library_is_in_both_lists() {
        for name in OF_C.into_iter().chain(HARMLESS) {
            let known = known(&format!("{name}.so.1"));
            assert_eq!(known, Some(Known::Harmless), "{name}");
        }
        for name in HARMLESS_WITHOUT_THREADS {
            let known = known(&format!("{name}.so.1"));
            assert_eq!(known, Some(Known::HarmlessWithoutThreads), "{name}");
        }
        for name in PINNING {
            assert_eq!(
                known(&format!("{name}.so.1")),
                Some(Known::Pinning),
                "{name}"
            );
        }
    }

    /// Those on this machine that are said to start no threads cannot.
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
                let library = Mapped {
                    path: file.path(),
                    place: Place::default(),
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

    #[test]
    fn an_address_in_the_data_of_a_library_is_found() {
        let words = [1_usize, 0x5000, 7];
        let start = words.as_ptr().expose_provenance();
        let data = start..start + size_of_val(&words);
        let place = |segment| Place {
            segments: vec![segment],
            ..Place::default()
        };
        assert!(has_address_of(&place(0x4000..0x5001), &data));
        assert!(!has_address_of(&place(0x4000..0x5000), &data));
        assert!(
            !has_address_of(&place(0x4000..0x5001), &(start..start + 12)),
            "not the half of a word"
        );
    }
}
