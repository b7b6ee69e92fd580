//! The two tables that host and plugin exchange. This file has only types; the host's account and `shadow` implement
//! the functions.

use core::ffi::{c_int, c_uint, c_void};

/// The version of both tables in this source. A host that finds another version reports it and treats the plugin as
/// one without `unloadable!`.
pub const VERSION: u32 = 2;

/// The exported symbol, a [`PluginTable`], by which a host finds `unloadable!` in an image.
pub const TABLE_SYMBOL: &str = "hotswap_unload";

/// The first key number that the host hands out. libc's own keys are below `PTHREAD_KEYS_MAX` (1024 in glibc), so
/// libc's functions answer "no such key" for a number from here on.
pub const VIRTUAL_KEY_FIRST: Key = 0x4000_0000;

/// A result of `attach`: the plugin does not know the host's version.
pub const DECLINED_VERSION: c_int = 1;

/// A result of `attach`: a host has already attached to this image.
pub const DECLINED_ATTACHED: c_int = 2;

/// A result of `attach`: the linker did not bind the image's calls to the shadows, so the shadows see nothing.
pub const DECLINED_UNBOUND: c_int = 3;

/// The host's handle for one image. The plugin passes it with each call and never dereferences it.
pub type Token = *const c_void;

/// `pthread_key_t`.
pub type Key = c_uint;

/// A function that runs when a thread ends, with the object or value that it was registered for.
pub type Destructor = unsafe extern "C" fn(*mut c_void);

/// The plugin author's hook, behind a catch. Returns 0, or 1 when the hook panicked. It then writes the panic message
/// as valid UTF-8 to the first argument, cut to the capacity in bytes (second argument), and its length to the last
/// argument.
///
/// # Safety
/// The first argument has room for the capacity, and the last is valid for a write. The image is mapped.
pub type BeforeUnload = unsafe extern "C" fn(*mut u8, usize, *mut usize) -> u32;

/// A thread's start routine. Forced unwinding (`pthread_exit`, cancellation) may leave it.
pub type StartRoutine = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// A C11 thread's start routine (`thrd_start_t`).
pub type C11StartRoutine = unsafe extern "C-unwind" fn(*mut c_void) -> c_int;

/// A bit of [`HostTable::note_uses`]: `on_exit`. glibc never removes a function registered with it.
pub const USES_ON_EXIT: u32 = 1;

/// A bit of [`HostTable::note_uses`]: `timer_create` with `SIGEV_THREAD`. libc itself starts the timer's threads.
pub const USES_TIMER_THREADS: u32 = 2;

/// The functions that the host offers to an image. The table lives as long as the process.
///
/// Each function takes the image's [`Token`], and then the arguments of the libc function that it replaces; it
/// returns the same result.
#[repr(C)]
#[derive(Debug)]
pub struct HostTable {
    /// [`VERSION`] of the host.
    pub version: u32,
    /// `size_of::<HostTable>()` in the host. A later version may be longer.
    pub size: u32,
    /// `__cxa_thread_atexit_impl`, without its argument for the image.
    pub thread_atexit: unsafe extern "C" fn(Token, Destructor, *mut c_void) -> c_int,
    /// `pthread_key_create`. The numbers begin at [`VIRTUAL_KEY_FIRST`].
    pub key_create: unsafe extern "C" fn(Token, *mut Key, Option<Destructor>) -> c_int,
    /// `pthread_key_delete`.
    pub key_delete: unsafe extern "C" fn(Token, Key) -> c_int,
    /// `pthread_setspecific`.
    pub key_set: unsafe extern "C" fn(Token, Key, *const c_void) -> c_int,
    /// `pthread_getspecific`.
    pub key_get: unsafe extern "C" fn(Token, Key) -> *mut c_void,
    /// `pthread_create`.
    pub thread_create:
        unsafe extern "C" fn(Token, *mut c_void, *const c_void, StartRoutine, *mut c_void) -> c_int,
    /// `thrd_create`, with the results of `pthread_create`.
    pub c11_thread_create:
        unsafe extern "C" fn(Token, *mut c_void, C11StartRoutine, *mut c_void) -> c_int,
    /// Records that the image is about to use something that nobody can count (one or several of the `USES_…` bits).
    /// The host then does not close the image, unless its author vouches for these uses.
    pub note_uses: unsafe extern "C" fn(Token, u32),
    /// Records that the image has set a signal's handler. The arguments are the signal, the previous handler (an
    /// address, `SIG_DFL` or `SIG_IGN`), and the new handler.
    pub note_handler: unsafe extern "C" fn(Token, c_int, usize, usize),
    /// Takes over what was registered before the host attached. `attach` calls it once.
    pub hand_over: unsafe extern "C" fn(Token, *const Handover),
}

/// What an image's constructors registered with libc, before a host attached.
#[repr(C)]
#[derive(Debug)]
pub struct Handover {
    /// `size_of::<Handover>()` in the plugin. A later version may be longer.
    pub size: u32,
    /// Not 0 if the image registered more than `unloadable!` has room to record. The host then never knows whether it
    /// is safe to unload the image.
    pub incomplete: c_int,
    /// Threads that run the image's code, or for which libc will call one of the image's destructors.
    pub threads: *const c_int,
    /// The number of threads.
    pub threads_len: usize,
    /// libc's own keys that the image created. The host deletes them before it closes the image.
    pub keys: *const EarlyKey,
    /// The number of keys.
    pub keys_len: usize,
    /// The number of thread-local destructors that were registered with libc, which does not give them back. The
    /// loader keeps the image until their threads have ended.
    pub destructors: usize,
    /// The bits that [`HostTable::note_uses`] would have recorded.
    pub uses: u32,
}

/// A key of libc, and its destructor.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EarlyKey {
    /// The key's number from libc.
    pub key: Key,
    /// The destructor, a function of the image.
    pub destructor: Option<Destructor>,
}

/// The functions and texts that a plugin offers to its host: the exported static [`TABLE_SYMBOL`].
#[repr(C)]
#[derive(Debug)]
pub struct PluginTable {
    /// [`VERSION`] of the plugin's `unloadable!`.
    pub version: u32,
    /// `size_of::<PluginTable>()` in the plugin. A later version may be longer.
    pub size: u32,
    /// Makes the shadows call the host's table. The host calls it once per image, after the image's constructors and
    /// before any other function of the table. Returns 0, or [`DECLINED_VERSION`], [`DECLINED_ATTACHED`] or
    /// [`DECLINED_UNBOUND`]; then nothing has changed. The table and the token must stay valid as long as the image
    /// is mapped.
    pub attach: unsafe extern "C" fn(*const HostTable, Token) -> c_int,
    /// Flushes the buffer of standard output in the plugin's own copy of std. If the plugin has not printed, this
    /// creates the buffer (1 KiB, never freed), so call it only for a plugin that has printed. It may block as long
    /// as standard output does.
    pub flush: unsafe extern "C" fn(),
    /// The plugin author's hook, if there is one.
    pub before_unload: Option<BeforeUnload>,
    /// The name of the plugin's package.
    pub name: Text,
    /// The version of the plugin's package.
    pub version_of_plugin: Text,
    /// Functions and libraries that, as the plugin's author promises, call nothing of the plugin once its
    /// `before_unload` hook has returned.
    pub vouched: Texts,
    /// Libraries that, as the plugin's author says, may call the plugin as long as they are mapped.
    pub pinned_by: Texts,
    /// Writes how much is left on the plugin's heap. Returns 1, or 0 if the plugin has no allocator that counts.
    pub heap: unsafe extern "C" fn(*mut Heap) -> c_int,
}

/// Memory that a plugin has allocated and not freed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// The number of bytes.
    pub bytes: usize,
    /// The number of allocations.
    pub allocations: usize,
}

/// A constant text of the image, in UTF-8.
#[repr(C)]
#[derive(Debug)]
pub struct Text {
    start: *const u8,
    bytes: usize,
}

// SAFETY: a `Text` and the bytes it points to never change.
unsafe impl Send for Text {}
// SAFETY: a `Text` and the bytes it points to never change.
unsafe impl Sync for Text {}

impl Text {
    /// Creates a `Text` from a literal of the image.
    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        Self {
            start: text.as_ptr(),
            bytes: text.len(),
        }
    }

    /// The address of the text, and its length in bytes.
    #[must_use]
    pub const fn place(&self) -> (*const u8, usize) {
        (self.start, self.bytes)
    }

    /// The bytes of the text. Only the plugin vouches for their being UTF-8.
    ///
    /// # Safety
    /// The image that contains the text must stay mapped as long as the slice is used.
    #[must_use]
    pub const unsafe fn as_bytes(&self) -> &[u8] {
        // SAFETY: `new` took pointer and length from a `&'static str` of the image, and the caller keeps the image
        // mapped.
        unsafe { core::slice::from_raw_parts(self.start, self.bytes) }
    }
}

/// A constant list of texts in the image.
#[repr(C)]
#[derive(Debug)]
pub struct Texts {
    start: *const Text,
    count: usize,
}

// SAFETY: a `Texts` and the list it points to never change.
unsafe impl Send for Texts {}
// SAFETY: a `Texts` and the list it points to never change.
unsafe impl Sync for Texts {}

impl Texts {
    /// Creates a list from a constant of the image.
    #[must_use]
    pub const fn new(texts: &'static [Text]) -> Self {
        Self {
            start: texts.as_ptr(),
            count: texts.len(),
        }
    }

    /// The address of the list, and how many texts it has.
    #[must_use]
    pub const fn place(&self) -> (*const Text, usize) {
        (self.start, self.count)
    }

    /// The texts of the list.
    ///
    /// # Safety
    /// The image that contains the list must stay mapped as long as the slice is used.
    #[must_use]
    pub const unsafe fn as_slice(&self) -> &[Text] {
        // SAFETY: `new` took pointer and length from a `&'static` slice of the image, and the caller keeps the image
        // mapped.
        unsafe { core::slice::from_raw_parts(self.start, self.count) }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
impl PluginTable {
    /// Creates the table of an image that is built with this version of `unloadable!`.
    #[must_use]
    pub const fn new(
        before_unload: Option<BeforeUnload>,
        name: &'static str,
        version: &'static str,
        vouched: &'static [Text],
        pinned_by: &'static [Text],
    ) -> Self {
        Self {
            version: VERSION,
            size: size_of::<Self>() as u32,
            attach: crate::shadow::attach,
            flush: crate::shadow::flush,
            before_unload,
            name: Text::new(name),
            version_of_plugin: Text::new(version),
            vouched: Texts::new(vouched),
            pinned_by: Texts::new(pinned_by),
            heap: crate::heap::heap,
        }
    }
}
