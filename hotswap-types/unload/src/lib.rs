//! `unloadable!`: with one line in a plugin, the host can really unmap the plugin's image.
//!
//! ```
//! hotswap_unload::unloadable!(before_unload = stop_threads);
//!
//! fn stop_threads() {
//!     // The host calls this once, when it has retired this plugin and no call is left.
//! }
//! # // This is a program, not a plugin: the shadows must do no harm in it.
//! # fn main() {
//! #     assert_eq!(std::thread::spawn(|| 7).join().ok(), Some(7));
//! # }
//! ```
//!
//! # Why a plugin needs it
//! Ordinary Rust registers work with libc for later. A `thread_local!` with a destructor registers a function of the
//! image, to be called when a thread ends. `thread::current()` does the same with a pthread key. A thread runs the
//! image's code until it ends. `dlclose` knows the first kind and then keeps the image mapped. It does not know the
//! second kind and unmaps code that will be called later. It does not know the third kind either. So every such
//! registration has to be seen. The macro gives the image its own `pthread_create` and so on, visible only inside
//! this image. Each of these functions (*shadows*) passes the call to the host, which counts it.
//!
//! # Invariants
//! - The plugin's part is thin. Every count is kept in the host, and the host's code decrements it after the image's
//!   code has returned. If the image itself decremented a count to zero, the host could close the image before the
//!   thread has left it: a use after unmap (forced with a debugger, 2026-11).
//! - Without an attached host the plugin behaves as if `unloadable!` were not there: every shadow calls libc. That is
//!   the case in a host that does not use hotswap, in a host of a version that the plugin does not know, and in
//!   constructors, which run before a host can attach.
//! - No shadow allocates, so a plugin's own allocator may use the shadowed functions.
//! - Each side checks `version` and `size` of the other's table before it uses the table. New fields are only added
//!   at the end; `version` changes when a field changes its meaning.
//!
//! # What it sees, and what it does not
//! Threads, keys and thread-local destructors are counted, whether they are created with POSIX, C11 (`thrd_create`,
//! `tss_create`) or C++ (`std::thread`, `std::async`). `on_exit` and timers that start threads (`SIGEV_THREAD`) are
//! seen, but cannot be undone; a plugin that uses them is not unmapped. A plugin that leaves its signal handler
//! installed is not unmapped either. It makes no difference whether the plugin calls such a function by its name or
//! looks it up with `dlsym`; one that it looks up with `dlvsym` is not seen.
//!
//! The macro does not see what another shared library does on the plugin's behalf. The host decides about that from
//! the libraries that the plugin needs and the functions that it imports; see *Plugins that unload* in the manual of
//! `hotswap-core`. An author who knows more can say so, with the names from the host's reason:
//!
//! ```
//! hotswap_unload::unloadable!(before_unload = stop, vouch("libpool"), pinned_by("libcodec"));
//!
//! // Joins the threads of `libpool.so`, which call this plugin. `libcodec.so` keeps callbacks for good.
//! fn stop() {}
//! # fn main() {}
//! ```
//!
//! # What stays
//! Nobody counts the heap that a plugin's statics own, nor what the plugin's copy of std keeps for itself. Each
//! reload leaves that memory behind. `scripts/stress` measures it, with 2,000 reloads of each kind (2026-11, rustc
//! 1.95, release):
//!
//! | what the plugin uses | bytes left behind by each reload |
//! |---|---|
//! | `println!` or `print!` | about 1,050: std's buffer of 1 KiB for standard output |
//! | a `LazyLock`, or another static with heap | the heap it owns: about 1,050 for 1 KiB |
//! | thread-locals, `thread::current`, threads joined, detached and scoped, channels, caught panics, keys | none |

mod table;

mod heap;
mod hook;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod real;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod shadow;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod threads;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod uses;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod lookup;

pub use heap::CountingAllocator;
pub use table::{
    BeforeUnload, C11StartRoutine, DECLINED_ATTACHED, DECLINED_UNBOUND, DECLINED_VERSION,
    Destructor, EarlyKey, Handover, Heap, HostTable, Key, PluginTable, StartRoutine, TABLE_SYMBOL,
    Text, Texts, Token, USES_ON_EXIT, USES_TIMER_THREADS, VERSION, VIRTUAL_KEY_FIRST,
};

/// What [`unloadable!`] expands to; not for use by hand.
#[doc(hidden)]
pub mod expansion {
    pub use crate::hook::run_hook;
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    pub use crate::{
        lookup::dlsym,
        shadow::{
            finalised, key_create, key_delete, key_get, key_set, thread_atexit, thread_create,
        },
        threads::{cxx_thread_start, thrd_create, tss_create, tss_delete, tss_get, tss_set},
        uses::{on_exit, sigaction, signal, sigset, sysv_signal, timer_create},
    };

    /// The image's first constructor. Looks up the real functions while no other thread of the image runs.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    pub extern "C" fn constructed() {
        crate::shadow::look_up();
        crate::threads::look_up();
        crate::uses::look_up();
    }
}

/// The global allocator that the feature `count-allocations` adds to [`unloadable!`]; not for use by hand.
#[cfg(feature = "count-allocations")]
#[doc(hidden)]
#[macro_export]
macro_rules! count_allocations {
    () => {
        #[cfg(not(test))]
        #[global_allocator]
        static HOTSWAP_ALLOCATOR: $crate::CountingAllocator =
            $crate::CountingAllocator::new(::std::alloc::System);
    };
}

/// Expands to nothing, because the feature `count-allocations` is off.
#[cfg(not(feature = "count-allocations"))]
#[doc(hidden)]
#[macro_export]
macro_rules! count_allocations {
    () => {};
}

/// Defines a function that the image's calls bind to before those of libc or libstdc++; not for use by hand.
///
/// The symbol is weak, so that an image may define the function itself, as images with a static libstdc++ or with
/// tinycthread do. The image's own function then calls other shadowed functions.
#[doc(hidden)]
#[macro_export]
macro_rules! weak_shadow {
    ($name:literal, $target:path) => {
        #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64", not(test)))]
        $crate::weak_shadow!(@asm $name, "jmp {target}", $target);
        #[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "aarch64", not(test)))]
        $crate::weak_shadow!(@asm $name, "b {target}", $target);
    };
    (@asm $name:literal, $jump:literal, $target:path) => {
        ::core::arch::global_asm!(
            ::core::concat!(".pushsection .text.hotswap.", $name, ",\"ax\",@progbits"),
            ".p2align 2",
            ::core::concat!(".weak ", $name),
            ::core::concat!(".hidden ", $name),
            ::core::concat!(".type ", $name, ",@function"),
            ::core::concat!($name, ":"),
            $jump,
            ::core::concat!(".size ", $name, ", . - ", $name),
            ".popsection",
            target = sym $target,
        );
    };
}

/// Makes the image of this `cdylib` fully unloadable by a hotswap host. One line, at the top of the plugin.
///
/// `unloadable!(before_unload = path::to::function)` names a `fn()` that the host calls once, after it has retired
/// the plugin and no call is left. Use it to stop the plugin's own threads. It may block; the host calls it on a
/// thread of its own. The host reports a panic in it and goes on (with `panic = "abort"` the panic ends the process).
///
/// `vouch("name", …)` names functions and libraries, in the form of the host's reasons. The author promises that they
/// call nothing of this plugin once the hook has returned. A library is named by its file, with or without what
/// follows `.so` (`"libpool"`). `pinned_by("name", …)` names libraries that may call this plugin as long as they are
/// mapped.
///
/// The macro expands to nothing under `cfg(test)`, and defines nothing where there is no glibc, because no plugin can
/// be loaded yet. It is for a crate that is only a `cdylib`: a program that links the same crate as an `rlib` would get
/// the shadows too (harmless, because they call libc, but useless).
#[macro_export]
macro_rules! unloadable {
    (@table ($hook:expr) ($($vouched:literal),*) ($($pinned_by:literal),*)) => {
        $crate::unloadable!(@shadows);
        $crate::count_allocations!();

        #[cfg(not(test))]
        const _: () = {
            // A constant of its own, because what follows an `if` is not promoted to a static.
            const BEFORE_UNLOAD: ::core::option::Option<$crate::BeforeUnload> = $hook;

            // The one exported symbol.
            #[cfg(all(target_os = "linux", target_env = "gnu"))]
            #[unsafe(no_mangle)]
            pub static hotswap_unload: $crate::PluginTable = $crate::PluginTable::new(
                BEFORE_UNLOAD,
                ::core::env!("CARGO_PKG_NAME"),
                ::core::env!("CARGO_PKG_VERSION"),
                &[$($crate::Text::new($vouched)),*],
                &[$($crate::Text::new($pinned_by)),*],
            );

            // For the compiler's warnings of what is not used.
            #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
            const _: ::core::option::Option<$crate::BeforeUnload> = BEFORE_UNLOAD;
        };
    };
    (@shadows) => {
        // Hidden, so that the linker binds the image's calls to them. The loader would bind exported symbols, and it
        // finds libc's first: in a debug build the shadows then silently do nothing (2026-11, rustc 1.95; with fat
        // LTO they work either way). `attach` checks that they are bound.
        #[cfg(all(target_os = "linux", target_env = "gnu", not(test)))]
        ::core::arch::global_asm!(
            ".hidden __cxa_thread_atexit_impl",
            ".hidden __cxa_thread_atexit",
            ".hidden pthread_key_create",
            ".hidden pthread_key_delete",
            ".hidden pthread_setspecific",
            ".hidden pthread_getspecific",
            ".hidden pthread_create",
        );

        #[cfg(all(target_os = "linux", target_env = "gnu", not(test)))]
        const _: () = {
            use ::core::ffi::{c_int, c_void};

            #[unsafe(no_mangle)]
            unsafe extern "C" fn __cxa_thread_atexit_impl(
                destructor: $crate::Destructor,
                object: *mut c_void,
                image: *mut c_void,
            ) -> c_int {
                // SAFETY: the caller keeps the contract of libc's function of this name; its arguments are passed on.
                unsafe { $crate::expansion::thread_atexit(destructor, object, image) }
            }

            // The name that C++ code linked into the image uses for the same function.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn __cxa_thread_atexit(
                destructor: $crate::Destructor,
                object: *mut c_void,
                image: *mut c_void,
            ) -> c_int {
                // SAFETY: the caller keeps the contract of libc's function of this name; its arguments are passed on.
                unsafe { $crate::expansion::thread_atexit(destructor, object, image) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn pthread_key_create(
                key: *mut $crate::Key,
                destructor: ::core::option::Option<$crate::Destructor>,
            ) -> c_int {
                // SAFETY: the caller keeps the contract of libc's function of this name; its arguments are passed on.
                unsafe { $crate::expansion::key_create(key, destructor) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn pthread_key_delete(key: $crate::Key) -> c_int {
                // SAFETY: the caller keeps the contract of libc's function of this name; its arguments are passed on.
                unsafe { $crate::expansion::key_delete(key) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn pthread_setspecific(key: $crate::Key, value: *const c_void) -> c_int {
                // SAFETY: the caller keeps the contract of libc's function of this name; its arguments are passed on.
                unsafe { $crate::expansion::key_set(key, value) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn pthread_getspecific(key: $crate::Key) -> *mut c_void {
                // SAFETY: the caller keeps the contract of libc's function of this name; its arguments are passed on.
                unsafe { $crate::expansion::key_get(key) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn pthread_create(
                thread: *mut c_void,
                attributes: *const c_void,
                start: $crate::StartRoutine,
                argument: *mut c_void,
            ) -> c_int {
                // SAFETY: the caller keeps the contract of libc's function of this name; its arguments are passed on.
                unsafe { $crate::expansion::thread_create(thread, attributes, start, argument) }
            }

            // A low priority number: this constructor runs before others that may use the shadows.
            #[used]
            #[unsafe(link_section = ".init_array.00100")]
            static CONSTRUCTED: extern "C" fn() = $crate::expansion::constructed;

            #[used]
            #[unsafe(link_section = ".fini_array")]
            static FINALISED: extern "C" fn() = $crate::expansion::finalised;
        };

        $crate::weak_shadow!("thrd_create", $crate::expansion::thrd_create);
        $crate::weak_shadow!("tss_create", $crate::expansion::tss_create);
        $crate::weak_shadow!("tss_delete", $crate::expansion::tss_delete);
        $crate::weak_shadow!("tss_set", $crate::expansion::tss_set);
        $crate::weak_shadow!("tss_get", $crate::expansion::tss_get);
        $crate::weak_shadow!(
            "_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE",
            $crate::expansion::cxx_thread_start
        );
        $crate::weak_shadow!("on_exit", $crate::expansion::on_exit);
        $crate::weak_shadow!("timer_create", $crate::expansion::timer_create);
        $crate::weak_shadow!("sigaction", $crate::expansion::sigaction);
        $crate::weak_shadow!("signal", $crate::expansion::signal);
        $crate::weak_shadow!("bsd_signal", $crate::expansion::signal);
        $crate::weak_shadow!("ssignal", $crate::expansion::signal);
        $crate::weak_shadow!("__sysv_signal", $crate::expansion::sysv_signal);
        $crate::weak_shadow!("sysv_signal", $crate::expansion::sysv_signal);
        $crate::weak_shadow!("sigset", $crate::expansion::sigset);
        $crate::weak_shadow!("dlsym", $crate::expansion::dlsym);
    };
    (@hook) => {
        ::core::option::Option::None
    };
    (@hook $hook:expr) => {
        ::core::option::Option::Some({
            unsafe extern "C" fn before_unload(
                text: *mut u8,
                capacity: usize,
                written: *mut usize,
            ) -> u32 {
                let hook: fn() = $hook;
                // SAFETY: the host gives room for `capacity` bytes at `text`, and a writable `written`
                // (`BeforeUnload`).
                unsafe { $crate::expansion::run_hook(hook, text, capacity, written) }
            }
            before_unload
        })
    };
    // Written by `#[plugin]`, whose hook drops what calls use, so that safe code must not be able to call it. Without
    // anything to do there is no hook, and so no thread that runs it.
    (
        before_unload = if ($is_needed:expr) unsafe $hook:path,
        vouch($($vouched:literal),*),
        pinned_by($($pinned_by:literal),*)
    ) => {
        $crate::unloadable!(
            @table
            (if $is_needed {
                $crate::unloadable!(@hook || {
                    // SAFETY: the host runs the hook once, when no call or lease uses the plugin any more, or when
                    // the candidate was refused. That is what the hook of `#[plugin]` demands.
                    unsafe { $hook() }
                })
            } else {
                ::core::option::Option::None
            })
            ($($vouched),*)
            ($($pinned_by),*)
        );
    };
    (
        $(before_unload = $hook:path)?
        $(, vouch($($vouched:literal),* $(,)?))?
        $(, pinned_by($($pinned_by:literal),* $(,)?))?
        $(,)?
    ) => {
        $crate::unloadable!(
            @table ($crate::unloadable!(@hook $($hook)?)) ($($($vouched),*)?) ($($($pinned_by),*)?)
        );
    };
    (vouch($($vouched:literal),* $(,)?) $(, pinned_by($($pinned_by:literal),* $(,)?))? $(,)?) => {
        $crate::unloadable!(@table (::core::option::Option::None) ($($vouched),*) ($($($pinned_by),*)?));
    };
    (pinned_by($($pinned_by:literal),* $(,)?) $(,)?) => {
        $crate::unloadable!(@table (::core::option::Option::None) () ($($pinned_by),*));
    };
}
