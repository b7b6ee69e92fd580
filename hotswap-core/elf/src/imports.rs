//! What the names of imported symbols reveal about code that has not run yet.
//!
//! The tables are for glibc 2.36 to 2.42 and for libstdc++ of GCC 5 to 15. This module does not see a function that
//! code finds with `dlsym` (except those that start threads, by their names in the file) or calls through another
//! library.

use std::collections::BTreeSet;

use crate::facts::Facts;

/// Only this many bytes of a name are read. The longest name in the table has about 90 bytes, and a file that imports
/// code from a Rust library also imports something with a shorter name.
pub(crate) const NAME_BYTES_MAX: usize = 512;

/// What calling an imported function may leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// A destructor that is called when a thread ends.
    ThreadExitHook,
    /// A key whose destructor is called when a thread ends.
    Key,
    /// A thread.
    Thread,
    /// An address that the file finds by name.
    Lookup,
    /// Half of something that a standard stream keeps: [`FacetPart`].
    Stream(FacetPart),
    /// Something else that refers to the caller's code or data and that `dlclose` does not remove. The name is the
    /// one a programmer knows.
    Keeps(&'static str),
}

/// What a file imports to give a standard stream of C++ a facet of its own, as in
/// `std::cout.imbue(std::locale(std::locale(), new Facet))`. The stream keeps the facet, and calls it at the next
/// output or when it gets another. Each of these imports by itself is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FacetPart {
    /// Puts a facet into a locale.
    Facet,
    /// Gives a stream a locale.
    Imbue,
    /// `std::cout` and so on.
    Stream,
}

use Effect::{Keeps, Key, Lookup, Stream, Thread, ThreadExitHook};

/// Functions and their effects, sorted by symbol.
///
/// The table leaves out functions whose effect `dlclose` undoes, because they register the image's handle too
/// (`atexit`, `at_quick_exit`, `pthread_atfork`). It leaves out signal handlers, because the kernel can list those.
/// It also leaves out what every Rust program imports (`sigaltstack`, `syscall`), what mostly has a harmless use
/// (`setvbuf` without a buffer), and what weak references in the startup code of C libraries name
/// (`__register_frame_info`).
const IMPORTS: &[(&str, &[Effect])] = &[
    (
        "_ZNSt13__future_base13_State_baseV211_Make_ready6_M_setEv",
        &[Keeps("std::promise::set_value_at_thread_exit")],
    ),
    (
        "_ZNSt3pmr20set_default_resourceEPNS_15memory_resourceE",
        &[Keeps("std::pmr::set_default_resource")],
    ),
    (
        "_ZNSt6locale5_Impl16_M_install_facetEPKNS_2idEPKNS_5facetE",
        &[Stream(FacetPart::Facet)],
    ),
    ("_ZNSt6locale6globalERKS_", &[Keeps("std::locale::global")]),
    // For GCC 4.4 to 4.9, and for programs built with them.
    (
        "_ZNSt6thread15_M_start_threadESt10shared_ptrINS_10_Impl_baseEE",
        &[Keeps("std::thread")],
    ),
    (
        "_ZNSt6thread15_M_start_threadESt10shared_ptrINS_10_Impl_baseEEPFvvE",
        &[Keeps("std::thread")],
    ),
    (
        "_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE",
        &[Thread, Keeps("std::thread")],
    ),
    (
        "_ZNSt8ios_base17register_callbackEPFvNS_5eventERS_iEi",
        &[Keeps("std::ios_base::register_callback")],
    ),
    (
        "_ZNSt9basic_iosIcSt11char_traitsIcEE5imbueERKSt6locale",
        &[Stream(FacetPart::Imbue)],
    ),
    // This is the setter: `std::cout` keeps the buffer that it is given.
    (
        "_ZNSt9basic_iosIcSt11char_traitsIcEE5rdbufEPSt15basic_streambufIcS1_E",
        &[Keeps("std::ios::rdbuf")],
    ),
    (
        "_ZNSt9basic_iosIwSt11char_traitsIwEE5imbueERKSt6locale",
        &[Stream(FacetPart::Imbue)],
    ),
    (
        "_ZNSt9basic_iosIwSt11char_traitsIwEE5rdbufEPSt15basic_streambufIwS1_E",
        &[Keeps("std::ios::rdbuf")],
    ),
    ("_ZSt13set_terminatePFvvE", &[Keeps("std::set_terminate")]),
    ("_ZSt14set_unexpectedPFvvE", &[Keeps("std::set_unexpected")]),
    (
        "_ZSt15set_new_handlerPFvvE",
        &[Keeps("std::set_new_handler")],
    ),
    (
        "_ZSt25notify_all_at_thread_exitRSt18condition_variableSt11unique_lockISt5mutexE",
        &[Keeps("std::notify_all_at_thread_exit")],
    ),
    ("_ZSt3cin", &[Stream(FacetPart::Stream)]),
    ("_ZSt4cerr", &[Stream(FacetPart::Stream)]),
    ("_ZSt4clog", &[Stream(FacetPart::Stream)]),
    ("_ZSt4cout", &[Stream(FacetPart::Stream)]),
    ("_ZSt4wcin", &[Stream(FacetPart::Stream)]),
    ("_ZSt5wcerr", &[Stream(FacetPart::Stream)]),
    ("_ZSt5wclog", &[Stream(FacetPart::Stream)]),
    ("_ZSt5wcout", &[Stream(FacetPart::Stream)]),
    ("__clone", &[Keeps("clone")]),
    ("__cxa_thread_atexit", &[ThreadExitHook]),
    ("__cxa_thread_atexit_impl", &[ThreadExitHook]),
    // Variables that hold a function. Code linked against glibc 2.34 or later cannot name them.
    ("__free_hook", &[Keeps("__free_hook")]),
    ("__malloc_hook", &[Keeps("__malloc_hook")]),
    ("__memalign_hook", &[Keeps("__memalign_hook")]),
    ("__realloc_hook", &[Keeps("__realloc_hook")]),
    // They notify by a call (`SIGEV_THREAD`), and use a buffer until they have finished.
    ("aio_fsync", &[Keeps("aio_fsync")]),
    ("aio_fsync64", &[Keeps("aio_fsync")]),
    ("aio_read", &[Keeps("aio_read")]),
    ("aio_read64", &[Keeps("aio_read")]),
    ("aio_write", &[Keeps("aio_write")]),
    ("aio_write64", &[Keeps("aio_write")]),
    (
        "argp_program_version_hook",
        &[Keeps("argp_program_version_hook")],
    ),
    ("clone", &[Thread, Keeps("clone")]),
    ("dlsym", &[Lookup]),
    ("dlvsym", &[Lookup]),
    ("error_print_progname", &[Keeps("error_print_progname")]),
    // The process flushes a stream that is still open when it ends.
    ("fopencookie", &[Keeps("fopencookie")]),
    ("getaddrinfo_a", &[Keeps("getaddrinfo_a")]),
    // `initstate` and `setstate` keep the buffer that they are given.
    ("initstate", &[Keeps("initstate")]),
    ("lio_listio", &[Keeps("lio_listio")]),
    ("lio_listio64", &[Keeps("lio_listio")]),
    ("mcheck", &[Keeps("mcheck")]),
    ("mcheck_pedantic", &[Keeps("mcheck_pedantic")]),
    ("mq_notify", &[Keeps("mq_notify")]),
    (
        "obstack_alloc_failed_handler",
        &[Keeps("obstack_alloc_failed_handler")],
    ),
    ("on_exit", &[Keeps("on_exit")]),
    // `openlog` keeps its first argument, and reads it for each message.
    ("openlog", &[Keeps("openlog")]),
    ("profil", &[Keeps("profil")]),
    (PTHREAD_CREATE, &[Thread]),
    ("pthread_key_create", &[Key]),
    // `putenv` puts the caller's own text into the environment.
    ("putenv", &[Keeps("putenv")]),
    (
        "register_printf_function",
        &[Keeps("register_printf_function")],
    ),
    (
        "register_printf_modifier",
        &[Keeps("register_printf_modifier")],
    ),
    (
        "register_printf_specifier",
        &[Keeps("register_printf_specifier")],
    ),
    ("register_printf_type", &[Keeps("register_printf_type")]),
    ("setstate", &[Keeps("setstate")]),
    ("sprofil", &[Keeps("sprofil")]),
    // These functions of SQLite take effect for all connections of the process.
    ("sqlite3_auto_extension", &[Keeps("sqlite3_auto_extension")]),
    ("sqlite3_config", &[Keeps("sqlite3_config")]),
    ("sqlite3_vfs_register", &[Keeps("sqlite3_vfs_register")]),
    (THRD_CREATE, &[Thread, Keeps(THRD_CREATE)]),
    ("timer_create", &[Keeps("timer_create")]),
    ("tss_create", &[Key]),
];

const PTHREAD_CREATE: &str = "pthread_create";
const THRD_CREATE: &str = "thrd_create";

/// The set of [`filter_bit`]s of all names in the table. Testing it replaces a search in the table, which is not in
/// the processor's cache when a file is inspected (6 µs for a plugin of 60 imports, 2026-11).
static FILTER: [u64; 4] = filter();

const fn filter() -> [u64; 4] {
    let mut filter = [0; 4];
    let mut number = 0;
    while number < IMPORTS.len() {
        let bit = filter_bit(IMPORTS[number].0.as_bytes());
        filter[bit / 64] |= 1 << (bit % 64);
        number += 1;
    }
    filter
}

/// A number below 256, made from the length, the first and the last byte of a name.
const fn filter_bit(name: &[u8]) -> usize {
    match name {
        [first, .., last] => (name.len() * 31 + *first as usize * 7 + *last as usize) % 256,
        _ => 0,
    }
}

/// What the imports of a file have shown so far.
#[derive(Default)]
pub(crate) struct Imports {
    thread_exit_hook: bool,
    creates_keys: bool,
    starts_threads: bool,
    pthread_create: bool,
    looks_up: bool,
    keeping_functions: BTreeSet<&'static str>,
    stream_uses: [bool; 3],
    mangled: Option<String>,
    plain: Option<String>,
}

/// A symbol whose name rustc has chosen.
enum Rust {
    /// The name contains its crate.
    Mangled,
    /// A fixed name by which the parts of std refer to each other.
    Plain,
}

impl Imports {
    /// Takes one more imported name into account.
    pub(crate) fn note(&mut self, name: &[u8]) {
        match kind_of(name) {
            Some(Rust::Mangled) if self.mangled.is_none() => self.mangled = Some(text(name)),
            Some(Rust::Plain) if self.plain.is_none() => self.plain = Some(text(name)),
            _ => {}
        }
        let bit = filter_bit(name);
        if FILTER[bit / 64] & 1 << (bit % 64) == 0 {
            return;
        }
        let Ok(place) = IMPORTS.binary_search_by(|(symbol, _)| symbol.as_bytes().cmp(name)) else {
            return;
        };
        self.pthread_create |= name == PTHREAD_CREATE.as_bytes();
        for effect in IMPORTS.get(place).map_or(&[][..], |(_, effects)| effects) {
            match *effect {
                ThreadExitHook => self.thread_exit_hook = true,
                Key => self.creates_keys = true,
                Thread => self.starts_threads = true,
                Lookup => self.looks_up = true,
                Stream(part) => self.stream_uses[part as usize] = true,
                Keeps(what) => _ = self.keeping_functions.insert(what),
            }
        }
    }

    /// `has_text` tells whether a text is in the file, as far as that is mapped and readable.
    pub(crate) fn record_in(mut self, facts: &mut Facts, has_text: impl Fn(&[u8]) -> bool) {
        if self.looks_up && !self.starts_threads {
            // Without a NUL behind it: a program may add that when it looks the name up.
            let names = [PTHREAD_CREATE, THRD_CREATE];
            self.starts_threads = names.iter().any(|name| has_text(name.as_bytes()));
        }
        if self.stream_uses == [true; 3] {
            self.keeping_functions.insert("std::ios::imbue");
        }
        facts.thread_exit_hook = self.thread_exit_hook;
        facts.creates_keys = self.creates_keys;
        facts.starts_threads = self.starts_threads;
        facts.imports_pthread_create = self.pthread_create;
        facts.keeping_functions = self.keeping_functions.into_iter().collect();
        facts.imports_rust = self.mangled.or(self.plain);
    }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn kind_of(name: &[u8]) -> Option<Rust> {
    // The allocator's symbols had these names up to Rust 1.86; since then they are mangled.
    const PREFIXES: [&[u8]; 3] = [b"__rust_", b"__rdl_", b"__rg_"];
    const NAMES: [&[u8]; 3] = [b"rust_eh_personality", b"rust_begin_unwind", b"rust_panic"];
    if let Some(mangled) = name.strip_prefix(b"_R") {
        is_mangled_v0(mangled).then_some(Rust::Mangled)
    } else if name.starts_with(b"_ZN") {
        is_mangled_legacy(name).then_some(Rust::Mangled)
    } else {
        let is_plain =
            PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name);
        is_plain.then_some(Rust::Plain)
    }
}

/// After `_R` come the digits of a version (no compiler writes one yet) and the beginning of a path.
fn is_mangled_v0(rest: &[u8]) -> bool {
    let path = rest.iter().find(|byte| !byte.is_ascii_digit());
    path.is_some_and(|first| b"CMXYNIB".contains(first))
}

/// The name is mangled like C++, and its last component is a hash: `17h`, 16 hexadecimal digits, `E`.
fn is_mangled_legacy(name: &[u8]) -> bool {
    const HASH_BYTES: usize = "17h0123456789abcdefE".len();
    let hash = name
        .len()
        .checked_sub(HASH_BYTES)
        .and_then(|at| name.get(at..));
    let digits = hash.and_then(|hash| hash.strip_prefix(b"17h")?.strip_suffix(b"E"));
    digits.is_some_and(|digits| {
        let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        digits.iter().all(is_digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(IMPORTS.is_sorted_by(|(a, _), (b, _)| a.as_bytes() < b.as_bytes()));
        assert!(IMPORTS.iter().all(|(name, _)| name.len() <= NAME_BYTES_MAX));
    }

    fn facts(names: &[&str]) -> Facts {
        let mut imports = Imports::default();
        names.iter().for_each(|name| imports.note(name.as_bytes()));
        let mut facts = Facts::default();
        imports.record_in(&mut facts, |_| true);
        facts
    }

    #[test]
    fn effects_are_told_once_and_in_order() {
        let expected = Facts {
            thread_exit_hook: true,
            creates_keys: true,
            starts_threads: true,
            imports_pthread_create: true,
            keeping_functions: vec!["aio_read", "on_exit", "std::thread"],
            ..Facts::default()
        };
        let names = [
            "malloc",
            "tss_create",
            "on_exit",
            "on_exit_of_ours",
            "on_exi",
            "aio_read64",
            "aio_read",
            "pthread_create",
            "__cxa_thread_atexit",
            "_ZNSt6thread15_M_start_threadESt10shared_ptrINS_10_Impl_baseEEPFvvE",
        ];
        assert_eq!(facts(&names), expected);
        assert_eq!(
            facts(&["malloc", "", "atexit", "sigaction"]),
            Facts::default()
        );
    }

    #[test]
    fn a_thread_may_be_started_by_a_function_that_is_looked_up() {
        assert!(facts(&["dlsym"]).starts_threads);
        assert!(facts(&["dlvsym"]).starts_threads);
        for (text, starts_threads) in [("thrd_create", true), ("fork", false)] {
            let mut imports = Imports::default();
            imports.note(b"dlsym");
            let mut facts = Facts::default();
            imports.record_in(&mut facts, |name| name == text.as_bytes());
            assert_eq!(facts.starts_threads, starts_threads, "{text}");
        }
    }

    #[test]
    fn the_newer_and_the_older_thread_of_cpp() {
        let newer =
            "_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE";
        let newer = facts(&[newer]);
        assert_eq!(
            (newer.starts_threads, newer.keeping_functions),
            (true, vec!["std::thread"])
        );
        let older = "_ZNSt6thread15_M_start_threadESt10shared_ptrINS_10_Impl_baseEE";
        assert_eq!(facts(&[older]).keeping_functions, ["std::thread"]);
    }

    #[test]
    fn a_facet_is_kept_by_a_standard_stream_only() {
        let all = [
            "_ZNSt6locale5_Impl16_M_install_facetEPKNS_2idEPKNS_5facetE",
            "_ZNSt9basic_iosIcSt11char_traitsIcEE5imbueERKSt6locale",
            "_ZSt4cout",
        ];
        assert_eq!(facts(&all).keeping_functions, ["std::ios::imbue"]);
        for left_out in 0..all.len() {
            let mut names = all.to_vec();
            names.remove(left_out);
            assert_eq!(facts(&names), Facts::default());
        }
    }

    #[test]
    fn names_of_rust_are_known() {
        for name in [
            "_ZN3std2io5stdio6_print17h0123456789abcdefE",
            "_RNvNtNtCs1234_3std2io5stdio6_print",
            "_RNvCs691rhTbG0Ee_7___rustc12___rust_alloc",
            "_RINvNtC3std3mem8align_ofjE",
            "__rust_alloc",
            "__rust_no_alloc_shim_is_unstable",
            "__rdl_alloc",
            "__rg_oom",
            "rust_eh_personality",
        ] {
            assert_eq!(facts(&["malloc", name]).imports_rust.as_deref(), Some(name));
        }
        let both = facts(&["rust_eh_personality", "_RNvC3foo3bar", "_RNvC3foo3baz"]);
        assert_eq!(both.imports_rust.as_deref(), Some("_RNvC3foo3bar"));
        for name in [
            "_ZN3std2io5stdio6_print17h0123456789abcdeFE",
            "_ZN3std2io5stdio6_print17h0123456789abcdefEv",
            "_ZN3foo3barEv",
            "_ZN17h0123456789abcdE",
            "_ZNE",
            "_R",
            "_R0",
            "_Raise",
            "_ReadBarrier",
            "_rust_alloc",
            "rust_panics",
            "",
        ] {
            assert_eq!(facts(&[name]).imports_rust, None, "{name}");
        }
    }
}
