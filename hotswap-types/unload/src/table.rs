//! The two tables by which host and plugin shake hands. Only types: what the functions do is in the host's
//! account and in `shadow`.

use core::ffi::{c_int, c_uint, c_void};

/// The version of both tables that this source describes. A host that finds another one treats the plugin
/// as one without `unloadable!`, and says so.
pub const VERSION: u32 = 2;

/// The exported symbol, a [`PluginTable`], by which a host finds `unloadable!` in an image.
pub const TABLE_SYMBOL: &str = "hotswap_unload";

/// Keys from here on are the host's inventions; libc's are below `PTHREAD_KEYS_MAX` (1024 in glibc). For
/// such a number libc's own functions answer "no such key".
pub const VIRTUAL_KEY_FIRST: Key = 0x4000_0000;

/// Answer of `attach`: the plugin does not know the host's version.
pub const DECLINED_VERSION: c_int = 1;

/// Answer of `attach`: a host has attached to this image already.
pub const DECLINED_ATTACHED: c_int = 2;

/// Answer of `attach`: the shadows were not bound when the image was linked, and see nothing.
pub const DECLINED_UNBOUND: c_int = 3;

/// The host's name for one image, given back with each call; the plugin never looks behind it.
pub type Token = *const c_void;

/// `pthread_key_t`.
pub type Key = c_uint;

/// What runs at the end of a thread, with the object or value it was registered for.
pub type Destructor = unsafe extern "C" fn(*mut c_void);

/// The plugin author's hook, behind a catch. Answers 0, or 1 when it panicked: then the message is at the
/// given place, cut to the capacity in bytes, with its length in the last argument.
pub type BeforeUnload = unsafe extern "C" fn(*mut u8, usize, *mut usize) -> u32;

/// What a thread runs. It may be left by forced unwinding (`pthread_exit`, cancellation).
pub type StartRoutine = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// What a C11 thread runs (`thrd_start_t`).
pub type C11StartRoutine = unsafe extern "C-unwind" fn(*mut c_void) -> c_int;

/// A bit of [`HostTable::note_uses`]: `on_exit`. glibc never gives such a function back.
pub const USES_ON_EXIT: u32 = 1;

/// A bit of [`HostTable::note_uses`]: `timer_create` with `SIGEV_THREAD`. The threads that it starts are libc's own.
pub const USES_TIMER_THREADS: u32 = 2;

/// What the host does for an image. Lives as long as the process.
///
/// The functions have the arguments and results of the libc function that each stands for, after the
/// image's [`Token`].
#[repr(C)]
#[derive(Debug)]
pub struct HostTable {
    /// [`VERSION`] of the host.
    pub version: u32,
    /// `size_of::<HostTable>()` in the host: a later one may be longer.
    pub size: u32,
    /// `__cxa_thread_atexit_impl`, without the image.
    pub thread_atexit: unsafe extern "C" fn(Token, Destructor, *mut c_void) -> c_int,
    /// `pthread_key_create`; the numbers begin at [`VIRTUAL_KEY_FIRST`].
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
    /// Takes note that the image uses what nobody can count, before it does (`USES_…`, one bit or several). It is not
    /// closed after that, unless it vouches for them.
    pub note_uses: unsafe extern "C" fn(Token, u32),
    /// Takes note that the image has set a signal's handler: the signal, the handler that it was given before (an
    /// address or `SIG_DFL`, `SIG_IGN`), and the new one.
    pub note_handler: unsafe extern "C" fn(Token, c_int, usize, usize),
    /// Takes over what was registered before the host attached; called once, within `attach`.
    pub hand_over: unsafe extern "C" fn(Token, *const Handover),
}

/// What an image registered with libc before a host attached: the work of its constructors.
#[repr(C)]
#[derive(Debug)]
pub struct Handover {
    /// `size_of::<Handover>()` in the plugin: a later one may be longer.
    pub size: u32,
    /// Not 0 when there was more than `unloadable!` could note: then it is never known safe to unload.
    pub incomplete: c_int,
    /// Threads that run the image's code, or that will run a destructor of it by libc's hand.
    pub threads: *const c_int,
    /// How many.
    pub threads_len: usize,
    /// Real keys of libc that the image made, and that the host deletes before it closes the image.
    pub keys: *const EarlyKey,
    /// How many.
    pub keys_len: usize,
    /// Thread-local destructors that libc has and does not give back. The loader keeps the image until
    /// their threads have ended.
    pub destructors: usize,
    /// As for [`HostTable::note_uses`].
    pub uses: u32,
}

/// A key of libc and its destructor.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EarlyKey {
    /// As libc gave it.
    pub key: Key,
    /// In the image.
    pub destructor: Option<Destructor>,
}

/// What a plugin does for its host: the exported static [`TABLE_SYMBOL`].
#[repr(C)]
#[derive(Debug)]
pub struct PluginTable {
    /// [`VERSION`] of the plugin's `unloadable!`.
    pub version: u32,
    /// `size_of::<PluginTable>()` in the plugin: a later one may be longer.
    pub size: u32,
    /// Makes the host's table the one the shadows call. Once per image, after its constructors, before any
    /// other call. Answers 0, or [`DECLINED_VERSION`], [`DECLINED_ATTACHED`] or [`DECLINED_UNBOUND`]: then nothing
    /// has changed. The table and the token must stay valid as long as the image is mapped.
    pub attach: unsafe extern "C" fn(*const HostTable, Token) -> c_int,
    /// Writes out what the plugin's own copy of std holds back of its standard output. Creates the buffer
    /// (1 KiB, never freed) where there was none: call it only for a plugin that printed. May block as
    /// long as standard output does.
    pub flush: unsafe extern "C" fn(),
    /// The plugin author's hook, if there is one. Answers 0, or 1 when it panicked: then the message is at
    /// the given place, cut to the capacity in bytes, with its length in the last argument. Valid UTF-8.
    pub before_unload: Option<BeforeUnload>,
    /// The name of the plugin's package.
    pub name: Text,
    /// The version of the plugin's package.
    pub version_of_plugin: Text,
    /// Functions and libraries of which the plugin's author says that they call nothing of it any more once its
    /// `before_unload` hook has returned.
    pub vouched: Texts,
    /// Libraries of which the plugin's author says that they may call it for as long as they are mapped.
    pub pinned_by: Texts,
    /// Says what is left on the plugin's heap. Answers 1, or 0 when no allocator of the plugin counts.
    pub heap: unsafe extern "C" fn(*mut Heap) -> c_int,
}

/// What has been allocated by a plugin and not been freed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// How many bytes were asked for.
    pub bytes: usize,
    /// In how many allocations.
    pub allocations: usize,
}

/// A constant text of the image, in UTF-8.
#[repr(C)]
#[derive(Debug)]
pub struct Text {
    start: *const u8,
    bytes: usize,
}

// SAFETY: it is constant, as is what it points to.
unsafe impl Send for Text {}
// SAFETY: it is constant, as is what it points to.
unsafe impl Sync for Text {}

impl Text {
    /// This text.
    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        Self {
            start: text.as_ptr(),
            bytes: text.len(),
        }
    }

    /// What the text is. Whether it is UTF-8 is the plugin's word.
    ///
    /// # Safety
    /// The image that the text is of is mapped for as long as the slice is used.
    #[must_use]
    pub const unsafe fn as_bytes(&self) -> &[u8] {
        // SAFETY: `new` has made it of a text that lives as long as the image, which the caller promises.
        unsafe { core::slice::from_raw_parts(self.start, self.bytes) }
    }
}

/// A constant list of texts of the image.
#[repr(C)]
#[derive(Debug)]
pub struct Texts {
    start: *const Text,
    count: usize,
}

// SAFETY: it is constant, as is what it points to.
unsafe impl Send for Texts {}
// SAFETY: it is constant, as is what it points to.
unsafe impl Sync for Texts {}

impl Texts {
    /// These texts.
    #[must_use]
    pub const fn new(texts: &'static [Text]) -> Self {
        Self {
            start: texts.as_ptr(),
            count: texts.len(),
        }
    }

    /// What the texts are.
    ///
    /// # Safety
    /// The image that they are of is mapped for as long as the slice is used.
    #[must_use]
    pub const unsafe fn as_slice(&self) -> &[Text] {
        // SAFETY: `new` has made it of a slice that lives as long as the image, which the caller promises.
        unsafe { core::slice::from_raw_parts(self.start, self.count) }
    }
}

impl PluginTable {
    /// The table of an image built with this `unloadable!`.
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
