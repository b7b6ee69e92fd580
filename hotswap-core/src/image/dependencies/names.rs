//! What is known of libraries by their names.

use crate::trust::Policy;

/// glibc, the dynamic linker, and what every plugin needs of its compiler. `keys` and `handlers` look for what these
/// keep for an image.
const C_LIBRARIES: [&str; 8] = [
    "libc",
    "libm",
    "libdl",
    "libpthread",
    "librt",
    "ld-linux-x86-64",
    "ld-linux-aarch64",
    "libgcc_s",
];

/// More libraries that do not call an image once its own calls have returned, and that keep nothing of it, although
/// they can start threads.
const HARMLESS: [&str; 4] = [
    // Its threads are those of `std::thread`, which `unloadable!` counts.
    "libstdc++",
    // Their threads compress copies of what they were given. They end with the context that started them, and run on if
    // the image forgets that.
    "libzstd",
    "liblzma",
    // Its threads sort, and end with their statement. An image that registers something with it for the whole process
    // imports a function that `Facts::keeping_functions` lists.
    "libsqlite3",
];

/// Harmless libraries that start no threads. A library with such a name that can start threads is a different
/// library.
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
    // Interpreters, with their modules and threads.
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

/// What is known of a library from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It does not call the image later.
    Harmless,
    /// It does not call the image later, provided that it can start no threads.
    HarmlessWithoutThreads,
    /// It may call the image for as long as it is mapped.
    Pinning,
}

/// Whether all of `needed` are libraries of C itself.
pub(crate) fn are_c_libraries(needed: &[String]) -> bool {
    let is_c_library = |name: &String| C_LIBRARIES.iter().any(|entry| is_named(name, entry));
    needed.iter().all(is_c_library)
}

/// Whether a list's `entry` means `name`, a function or a library's file. It means that very name, and for a library
/// also what comes before `.so` and a version: `libcrypto` means `libcrypto.so.3` and `libcrypto-1.1.so`.
pub(crate) fn is_named(name: &str, entry: &str) -> bool {
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

/// What the host's policy says of a library.
pub(crate) fn policy_says(library: &str, policy: &Policy) -> Option<Known> {
    let is_in = |list: &[String]| list.iter().any(|entry| is_named(library, entry));
    if is_in(&policy.pinning_libraries) {
        Some(Known::Pinning)
    } else {
        is_in(&policy.harmless_libraries).then_some(Known::Harmless)
    }
}

/// What the lists in this file say of a library.
pub(crate) fn known(library: &str) -> Option<Known> {
    let is_in = |list: &[&str]| list.iter().any(|entry| is_named(library, entry));
    if is_in(&PINNING) {
        Some(Known::Pinning)
    } else if is_in(&C_LIBRARIES) || is_in(&HARMLESS) {
        Some(Known::Harmless)
    } else {
        is_in(&HARMLESS_WITHOUT_THREADS).then_some(Known::HarmlessWithoutThreads)
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
        for name in C_LIBRARIES.into_iter().chain(HARMLESS) {
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
}
