//! Libraries that an image needs and that may call it later.
//!
//! A library that stays mapped keeps the callbacks that it was given, and the threads that it started. Neither can be
//! counted from here. So a library is looked up by its name in two lists, one of those that are known to keep nothing
//! and one of those that are known to keep callbacks; what is in neither is judged by its file: whether it, or one that
//! it needs, can start threads, or is linked to stay mapped. Of the rest, which is called by nobody but its users, the
//! writable data are searched for an address of the image.
//!
//! It does not know what a library keeps on the heap or in thread-locals, nor libraries that an image opens by `dlopen`.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ffi::OsStr,
    fs,
    ops::{ControlFlow, Range},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
};

use super::{Place, each_object, memory::words};
use crate::elf::{self, Export};

/// Libraries that call nothing of an image when its own calls have returned, and do not mind that it goes. Those that
/// can start threads are here for the reason given.
const HARMLESS: [&str; 24] = [
    // glibc and the dynamic linker. What they keep for an image is looked for one by one (`keys`, `handlers`).
    "libc",
    "libm",
    "libdl",
    "libpthread",
    "librt",
    "libutil",
    "libresolv",
    "libcrypt",
    "ld-linux-x86-64",
    "ld-linux-aarch64",
    // Compilers' own. The threads of libstdc++ are those of `std::thread`, which the kit counts.
    "libgcc_s",
    "libstdc++",
    "libatomic",
    "libunwind",
    // Calculate, and keep nothing.
    "libz",
    "libbz2",
    "liblz4",
    "libbrotlicommon",
    "libbrotlidec",
    "libbrotlienc",
    "libexpat",
    // Their threads compress, and end with the context that they belong to.
    "libzstd",
    "liblzma",
    // Its threads sort, and end before the statement that needs them does.
    "libsqlite3",
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

/// No library has more writable data than this; one that has is taken for one that has an address.
const DATA_BYTES_MAX: usize = 256 << 20;

/// How many files are remembered. A process that opens more libraries under ever new names reads them again.
const KNOWN_MAX: usize = 1024;

/// What is known of a library by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It calls nothing of the image any more.
    Harmless,
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

/// What the lists of this file say of a library.
pub(super) fn known(library: &str) -> Option<Known> {
    let is_in = |list: &[&str]| list.iter().any(|entry| is_named(library, entry));
    match (is_in(&PINNING), is_in(&HARMLESS)) {
        (true, _) => Some(Known::Pinning),
        (_, true) => Some(Known::Harmless),
        _ => None,
    }
}

/// The first library that may call the image at `place`, of those that it needs directly or by way of others.
///
/// Costs next to nothing when all are known; otherwise each file is read once per process, and the writable data of
/// those that are mapped are read each time.
pub(super) fn caller_of(
    place: &Place,
    needed: &[String],
    known: impl Fn(&str) -> Option<Known>,
) -> Option<Caller> {
    let mut open: VecDeque<String> = needed.iter().cloned().collect();
    let mut seen = HashSet::new();
    while let Some(name) = open.pop_front() {
        let library = name.rsplit('/').next().unwrap_or_default().to_owned();
        if !seen.insert(library.clone()) {
            continue;
        }
        match known(&library) {
            Some(Known::Harmless) => continue,
            Some(Known::Pinning) => return Some(Caller::Able(library)),
            None => {}
        }
        let mapped = mapped(&library);
        // One that is not found has another name than it is asked for by; then nothing is known of it.
        if mapped.is_empty() {
            return Some(Caller::Able(library));
        }
        for (path, writable) in mapped {
            match Abilities::of(&path) {
                Some(it) if !it.stays && !it.starts_threads => open.extend(it.needed),
                _ => return Some(Caller::Able(library)),
            }
            if writable.iter().any(|data| has_address_of(place, data)) {
                return Some(Caller::Has(library));
            }
        }
    }
    None
}

/// The paths and the writable segments of the libraries with this file name: there may be two, in different folders.
fn mapped(library: &str) -> Vec<(PathBuf, Vec<Range<usize>>)> {
    let mut found = Vec::new();
    each_object(&mut |name, info| {
        let path = Path::new(OsStr::from_bytes(name.to_bytes()));
        if path.file_name() == Some(OsStr::new(library)) {
            found.push((path.to_owned(), Place::of(info, libc::PF_W).segments));
        }
        ControlFlow::Continue(())
    });
    found
}

/// Whether there may be an address of the image among the words of `data`, a segment of a library.
fn has_address_of(place: &Place, data: &Range<usize>) -> bool {
    const WORD: usize = size_of::<usize>();
    let aligned = data.start.next_multiple_of(WORD)..data.end;
    words(aligned, DATA_BYTES_MAX).is_none_or(|mut words| words.any(|word| place.has(word, 1)))
}

/// A file as it is at one moment: its path, device, inode and time of change.
type FileKey = (PathBuf, u64, u64, i64);

/// What a library can do, by its file.
#[derive(Clone, Debug)]
struct Abilities {
    stays: bool,
    starts_threads: bool,
    needed: Vec<String>,
}

impl Abilities {
    /// `None`: the file cannot be read, or is no library any more.
    fn of(path: &Path) -> Option<Self> {
        static KNOWN: LazyLock<Mutex<HashMap<FileKey, Abilities>>> = LazyLock::new(Mutex::default);
        /// No symbol has this in its name.
        const NOTHING: Export<'static> = Export::Prefixed {
            prefix: "\0",
            size_min: 0,
        };
        let file = fs::metadata(path).ok()?;
        let key = (path.to_owned(), file.dev(), file.ino(), file.mtime());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(it) = known.get(&key) {
            return Some(it.clone());
        }
        let facts = elf::inspect(&fs::read(path).ok()?, NOTHING).ok()?;
        let it = Self {
            stays: facts.nodelete,
            starts_threads: facts.starts_threads,
            needed: facts.needed,
        };
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(key, it.clone());
        Some(it)
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
        for name in HARMLESS {
            assert_eq!(
                known(&format!("{name}.so.1")),
                Some(Known::Harmless),
                "{name}"
            );
        }
        for name in PINNING {
            assert_eq!(
                known(&format!("{name}.so.1")),
                Some(Known::Pinning),
                "{name}"
            );
        }
    }

    /// Of the harmless ones on this machine, those that can start threads are those that the list gives a reason for.
    #[test]
    fn harmless_libraries_start_no_threads_but_those_that_are_known_to() {
        const WITH_THREADS: [&str; 5] = ["libc", "libstdc++", "libzstd", "liblzma", "libsqlite3"];
        let mut checked = 0;
        for folder in [
            "/lib/x86_64-linux-gnu",
            "/lib/aarch64-linux-gnu",
            "/lib64",
            "/usr/lib",
        ] {
            for file in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = file.file_name().to_string_lossy().into_owned();
                if !name.contains(".so") || known(&name) != Some(Known::Harmless) {
                    continue;
                }
                if let Some(it) = Abilities::of(&file.path()) {
                    let allowed = WITH_THREADS.iter().any(|entry| is_named(&name, entry));
                    assert!(!it.starts_threads || allowed, "{name}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 5, "{checked} harmless libraries on this machine");
    }

    #[test]
    fn an_address_in_the_data_of_a_library_is_found() {
        let words = [1_usize, 0x5000, 7];
        let start = words.as_ptr().expose_provenance();
        let data = start..start + size_of_val(&words);
        let place = |segment| Place {
            bias: 0,
            segments: vec![segment],
        };
        assert!(has_address_of(&place(0x4000..0x5001), &data));
        assert!(!has_address_of(&place(0x4000..0x5000), &data));
        assert!(
            !has_address_of(&place(0x4000..0x5001), &(start..start + 12)),
            "not the half of a word"
        );
    }
}
