//! The shadows' implementation: each passes its call to the host if one has attached, and otherwise to libc.
//!
//! Invariants:
//! - `HOST` goes once from null to the host's table, under `EARLY`'s lock. A thread that holds the lock and sees null
//!   works before the hand-over, so the hand-over contains what the thread records.
//! - Nothing here allocates, and nothing here has a thread-local.
//! - No shadow but that of `dlsym` calls `dlsym` on a thread that a constructor started. Such a thread would wait for
//!   the loader's lock, which the constructor that joins it holds. Therefore [`look_up`] runs first.
//!
//! Counts are deliberately not kept here; the crate's documentation says why.

use core::{
    ffi::{c_int, c_void},
    ptr,
    sync::atomic::{AtomicI32, AtomicPtr, Ordering},
};
use std::{
    io::{self, Write as _},
    panic,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use crate::{
    real::{ENOSYS, Real, real},
    table::{
        C11StartRoutine, DECLINED_ATTACHED, DECLINED_UNBOUND, DECLINED_VERSION, Destructor,
        EarlyKey, Handover, HostTable, Key, StartRoutine, Token, VERSION, VIRTUAL_KEY_FIRST,
    },
};

/// The names to which the rest of the image, including std, is bound. The same linker binds these to the same
/// functions.
pub(crate) mod bound {
    use super::{Destructor, Key, StartRoutine, c_int, c_void};

    unsafe extern "C" {
        pub(crate) fn __cxa_thread_atexit_impl(
            _: Destructor,
            _: *mut c_void,
            _: *mut c_void,
        ) -> c_int;
        pub(crate) fn pthread_key_create(_: *mut Key, _: Option<Destructor>) -> c_int;
        pub(crate) fn pthread_key_delete(_: Key) -> c_int;
        pub(crate) fn pthread_setspecific(_: Key, _: *const c_void) -> c_int;
        pub(crate) fn pthread_getspecific(_: Key) -> *mut c_void;
        pub(crate) fn pthread_create(
            _: *mut c_void,
            _: *const c_void,
            _: StartRoutine,
            _: *mut c_void,
        ) -> c_int;
    }
}

const ESRCH: c_int = 3;

static HOST: AtomicPtr<HostTable> = AtomicPtr::new(ptr::null_mut());
static TOKEN: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static EARLY: Mutex<Early> = Mutex::new(Early::NONE);

/// What the image registered with libc while no host was attached.
pub(crate) struct Early {
    threads: [c_int; Self::THREADS_MAX],
    threads_len: usize,
    keys: [EarlyKey; Self::KEYS_MAX],
    keys_len: usize,
    destructors: usize,
    pub(crate) uses: u32,
    incomplete: bool,
}

impl Early {
    /// The bounds are fixed, because `unloadable!` must not allocate. Constructors seldom start even one thread. If
    /// there are more threads than this, it is unknown whether the image may be unloaded; the host reports that, and
    /// nothing else happens.
    const THREADS_MAX: usize = 64;
    const KEYS_MAX: usize = 32;
    const NONE: Self = Self {
        threads: [0; Self::THREADS_MAX],
        threads_len: 0,
        keys: [EarlyKey {
            key: 0,
            destructor: None,
        }; Self::KEYS_MAX],
        keys_len: 0,
        destructors: 0,
        uses: 0,
        incomplete: false,
    };

    fn lock() -> MutexGuard<'static, Self> {
        EARLY.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_thread(&mut self, thread: c_int) {
        if self.threads[..self.threads_len].contains(&thread) {
            return;
        }
        if self.threads_len == Self::THREADS_MAX {
            self.retain_threads(thread_lives);
        }
        if self.threads_len == Self::THREADS_MAX {
            self.incomplete = true;
            return;
        }
        self.threads[self.threads_len] = thread;
        self.threads_len += 1;
    }

    fn retain_threads(&mut self, keep: impl Fn(c_int) -> bool) {
        let mut kept = 0;
        for at in 0..self.threads_len {
            if keep(self.threads[at]) {
                self.threads[kept] = self.threads[at];
                kept += 1;
            }
        }
        self.threads_len = kept;
    }

    fn note_key(&mut self, key: Key, destructor: Option<Destructor>) {
        if self.keys_len == Self::KEYS_MAX {
            self.incomplete = true;
            return;
        }
        self.keys[self.keys_len] = EarlyKey { key, destructor };
        self.keys_len += 1;
    }

    fn keys(&self) -> &[EarlyKey] {
        &self.keys[..self.keys_len]
    }

    fn has_key(&self, key: Key) -> bool {
        self.keys().iter().any(|early| early.key == key)
    }

    fn forget_key(&mut self, key: Key) {
        if let Some(at) = self.keys().iter().position(|early| early.key == key) {
            self.keys_len -= 1;
            self.keys[at] = self.keys[self.keys_len];
        }
    }
}

/// By number, as below: glibc has the functions `gettid` and `tgkill` only since 2.30.
fn this_thread() -> c_int {
    // SAFETY: `gettid` has no arguments and no preconditions.
    let number = unsafe { libc::syscall(libc::SYS_gettid) };
    // The kernel returns a `pid_t`, which is a `c_int`.
    number as c_int
}

fn thread_lives(thread: c_int) -> bool {
    // SAFETY: `getpid` has no preconditions.
    let process = unsafe { libc::getpid() };
    // SAFETY: signal 0 is not delivered; the call only checks whether a signal could be.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) } == 0;
    // Only ESRCH says that the thread has ended; a sandbox may forbid the question.
    sent || io::Error::last_os_error().raw_os_error() != Some(ESRCH)
}

/// The host's table and the image's token, if a host has attached.
pub(crate) fn host() -> Option<(&'static HostTable, Token)> {
    // Acquire: pairs with the Release in `attach`, so that this thread sees the token and the table's content.
    let table = HOST.load(Ordering::Acquire);
    // SAFETY: `HOST` is null, or the table that `attach` was given, which the host keeps while the image is mapped.
    let table = unsafe { table.as_ref() }?;
    // Relaxed: `attach` writes `TOKEN` before `HOST`, and the Acquire above orders the two.
    Some((table, TOKEN.load(Ordering::Relaxed).cast_const()))
}

/// Which side handles a call.
pub(crate) enum Side {
    Host(&'static HostTable, Token),
    /// No host has attached, and none can attach while this guard is held.
    Libc(MutexGuard<'static, Early>),
}

pub(crate) fn side() -> Side {
    if let Some((host, token)) = host() {
        return Side::Host(host, token);
    }
    let early = Early::lock();
    // Look again: a host may have attached before we had the lock, and its hand-over would miss what we record.
    match host() {
        Some((host, token)) => Side::Host(host, token),
        None => Side::Libc(early),
    }
}

real!(THREAD_ATEXIT, c"__cxa_thread_atexit_impl",
    fn real_thread_atexit(destructor: Destructor, object: *mut c_void, image: *mut c_void) -> c_int, else -1);
real!(KEY_CREATE, c"pthread_key_create",
    fn real_key_create(key: *mut Key, destructor: Option<Destructor>) -> c_int, else ENOSYS);
real!(KEY_DELETE, c"pthread_key_delete", fn real_key_delete(key: Key) -> c_int, else ENOSYS);
real!(KEY_SET, c"pthread_setspecific", fn real_key_set(key: Key, value: *const c_void) -> c_int, else ENOSYS);
real!(KEY_GET, c"pthread_getspecific", fn real_key_get(key: Key) -> *mut c_void, else ptr::null_mut());
real!(THREAD_CREATE, c"pthread_create",
    fn real_thread_create(thread: *mut c_void, attributes: *const c_void, start: StartRoutine, argument: *mut c_void)
        -> c_int, else ENOSYS);

/// What the rest of the image is bound to for the name of each shadow, and libc's function of that name.
fn shadows() -> [(*const c_void, &'static Real); 6] {
    [
        (bound::__cxa_thread_atexit_impl as _, &THREAD_ATEXIT),
        (bound::pthread_key_create as _, &KEY_CREATE),
        (bound::pthread_key_delete as _, &KEY_DELETE),
        (bound::pthread_setspecific as _, &KEY_SET),
        (bound::pthread_getspecific as _, &KEY_GET),
        (bound::pthread_create as _, &THREAD_CREATE),
    ]
}

/// Returns whether the image's calls reach the shadows. If they reach libc instead, the host's account stays empty
/// whatever the image does, and the image would look safe to unload.
fn shadows_are_bound() -> bool {
    let mut shadows = shadows().into_iter();
    shadows.all(|(name, real)| name != real.address().cast_const())
}

/// Looks up all real functions now, because no shadow may do so on a thread that a constructor started.
pub(crate) fn look_up() {
    for (_, real) in shadows() {
        real.address();
    }
}

/// One of the image's finalisers. If no host has attached, it deletes the image's keys, whose destructors are about
/// to be unmapped. An attached host has done that itself.
pub extern "C" fn finalised() {
    if host().is_none() {
        for &EarlyKey { key, .. } in Early::lock().keys() {
            // SAFETY: this image created the key, and none of its code runs any more that could use it.
            unsafe { real_key_delete(key) };
        }
    }
}

/// See [`PluginTable::attach`](crate::PluginTable::attach).
///
/// # Safety
/// `table` points to a host's table of any version, which stays valid as long as this image is mapped. `token` is the
/// host's handle for this image.
pub(crate) unsafe extern "C" fn attach(table: *const HostTable, token: Token) -> c_int {
    // SAFETY: `table` is a host's table, and every version of the table begins with the version.
    let version = unsafe { (*table).version };
    // SAFETY: `table` is a host's table, and in every version of the table the size follows the version.
    let size = unsafe { (*table).size };
    if version != VERSION || (size as usize) < size_of::<HostTable>() {
        return DECLINED_VERSION;
    }
    // SAFETY: the table has our version and is not shorter than our type, and it stays valid while this image is
    // mapped.
    let functions = unsafe { &*table };

    if !shadows_are_bound() {
        return DECLINED_UNBOUND;
    }
    let Side::Libc(mut early) = side() else {
        return DECLINED_ATTACHED;
    };
    // Constructors leave the loading thread's values in libc's keys. If this is that thread, its values move to the
    // host below. If not, `threads` contains it, and the host waits until it has ended.
    let this = this_thread();
    early.retain_threads(|thread| thread != this && thread_lives(thread));
    TOKEN.store(token.cast_mut(), Ordering::Relaxed);
    // Release: pairs with the Acquire in `host`.
    HOST.store(table.cast_mut(), Ordering::Release);
    let handover = Handover {
        size: size_of::<Handover>() as u32,
        incomplete: early.incomplete.into(),
        threads: early.threads.as_ptr(),
        threads_len: early.threads_len,
        keys: early.keys.as_ptr(),
        keys_len: early.keys_len,
        destructors: early.destructors,
        uses: early.uses,
    };
    // SAFETY: function and token come from the same host, and the lists live until the function returns.
    unsafe { (functions.hand_over)(token, &handover) };
    for &EarlyKey { key, .. } in early.keys() {
        // SAFETY: libc created this key for this image, and the image has not deleted it.
        let value = unsafe { real_key_get(key) };
        if !value.is_null() {
            // SAFETY: libc created this key for this image, and the image has not deleted it.
            unsafe { real_key_set(key, ptr::null()) };
            // SAFETY: function and token come from the same host, and the hand-over has just told it about this key.
            unsafe { (functions.key_set)(token, key, value) };
        }
    }
    0
}

/// See [`PluginTable::flush`](crate::PluginTable::flush).
pub(crate) unsafe extern "C" fn flush() {
    // Nobody could act on a panic or an error here. The image is leaving, and output that cannot be written is lost,
    // as at the end of a program.
    let _ = panic::catch_unwind(|| io::stdout().flush());
}

/// # Safety
/// The arguments are valid for `__cxa_thread_atexit_impl`.
pub unsafe fn thread_atexit(
    destructor: Destructor,
    object: *mut c_void,
    image: *mut c_void,
) -> c_int {
    match side() {
        // SAFETY: the arguments are valid for `__cxa_thread_atexit_impl`; function and token come from the same host.
        Side::Host(host, token) => unsafe { (host.thread_atexit)(token, destructor, object) },
        Side::Libc(mut early) => {
            early.destructors += 1;
            // Release the lock first: libc takes the loader's lock in the next call, and a constructor that waits for
            // our lock may hold the loader's. If a host attaches meanwhile, nothing is lost, because the loader
            // counts these destructors itself.
            drop(early);
            // SAFETY: the arguments are valid for `__cxa_thread_atexit_impl`.
            unsafe { real_thread_atexit(destructor, object, image) }
        }
    }
}

/// # Safety
/// The arguments are valid for `pthread_key_create`.
pub unsafe fn key_create(key: *mut Key, destructor: Option<Destructor>) -> c_int {
    match side() {
        // SAFETY: the arguments are valid for `pthread_key_create`; function and token come from the same host.
        Side::Host(host, token) => unsafe { (host.key_create)(token, key, destructor) },
        Side::Libc(mut early) => {
            // SAFETY: the arguments are valid for `pthread_key_create`.
            let result = unsafe { real_key_create(key, destructor) };
            if result == 0 {
                // SAFETY: libc has just written the key to this address.
                early.note_key(unsafe { key.read() }, destructor);
            }
            result
        }
    }
}

/// # Safety
/// The argument is valid for `pthread_key_delete`.
pub unsafe fn key_delete(key: Key) -> c_int {
    match side() {
        Side::Host(host, token) if key >= VIRTUAL_KEY_FIRST || Early::lock().has_key(key) => {
            // SAFETY: the key is valid for `pthread_key_delete`; function and token come from the same host. (If libc
            // created the key before the host attached, the host deletes it with libc.)
            return unsafe { (host.key_delete)(token, key) };
        }
        Side::Host(..) => {}
        Side::Libc(mut early) => early.forget_key(key),
    }
    // SAFETY: the key is valid for `pthread_key_delete`.
    unsafe { real_key_delete(key) }
}

/// # Safety
/// The arguments are valid for `pthread_setspecific`.
pub unsafe fn key_set(key: Key, value: *const c_void) -> c_int {
    match side() {
        Side::Host(host, token) if key >= VIRTUAL_KEY_FIRST => {
            // SAFETY: the arguments are valid for `pthread_setspecific`; function and token come from the same host.
            return unsafe { (host.key_set)(token, key, value) };
        }
        Side::Host(host, token) if Early::lock().has_key(key) => {
            // From here on the host holds this thread's value, so that the value is counted.
            // SAFETY: libc created this key for this image, and the image has not deleted it.
            unsafe { real_key_set(key, ptr::null()) };
            // SAFETY: the arguments are valid for `pthread_setspecific`; function and token come from the same host.
            return unsafe { (host.key_set)(token, key, value) };
        }
        Side::Libc(mut early) if early.has_key(key) => early.note_thread(this_thread()),
        // The key belongs to another image.
        Side::Host(..) | Side::Libc(_) => {}
    }
    // SAFETY: the arguments are valid for `pthread_setspecific`.
    unsafe { real_key_set(key, value) }
}

/// # Safety
/// The argument is valid for `pthread_getspecific`.
pub unsafe fn key_get(key: Key) -> *mut c_void {
    if let Some((host, token)) = host()
        && (key >= VIRTUAL_KEY_FIRST || Early::lock().has_key(key))
    {
        // SAFETY: the key is valid for `pthread_getspecific`; function and token come from the same host.
        let value = unsafe { (host.key_get)(token, key) };
        if !value.is_null() || key >= VIRTUAL_KEY_FIRST {
            return value;
        }
    }
    // The key belongs to another image, or its value was set before the host attached.
    // SAFETY: the key is valid for `pthread_getspecific`.
    unsafe { real_key_get(key) }
}

/// A thread's start routine.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    Posix(StartRoutine),
    C11(C11StartRoutine),
}

/// The start routine and argument of an early thread, which answers with its thread number. It lies on the stack of
/// the creating thread, which waits for the number.
struct EarlyStart {
    start: Start,
    argument: *mut c_void,
    number: AtomicI32,
}

/// # Safety
/// `raw` points to an [`EarlyStart`] whose owner waits until its number is set.
unsafe extern "C-unwind" fn early_start(raw: *mut c_void) -> *mut c_void {
    let given = raw.cast::<EarlyStart>();
    // SAFETY: `raw` points to an `EarlyStart`, which lives until the number is set, below.
    let start = unsafe { (*given).start };
    // SAFETY: `raw` points to an `EarlyStart`, which lives until the number is set, below.
    let argument = unsafe { (*given).argument };
    // SAFETY: `raw` points to an `EarlyStart`, which lives until the number is set, below.
    let number = unsafe { &(*given).number };
    // Release: pairs with the Acquire in `early_thread_create`, so that the reads above come before the owner goes
    // on.
    number.store(this_thread(), Ordering::Release);
    match start {
        // SAFETY: the caller of `pthread_create` gave this routine and this argument for each other.
        Start::Posix(routine) => unsafe { routine(argument) },
        // SAFETY: the caller of `thrd_create` gave this routine and this argument for each other.
        Start::C11(routine) => c11_result(unsafe { routine(argument) }),
    }
}

/// A C11 thread's result, in the form in which `thrd_join` reads it from a thread of `pthread_create`: glibc
/// truncates the pointer to an `int`.
pub(crate) fn c11_result(result: c_int) -> *mut c_void {
    ptr::without_provenance_mut(result as usize)
}

/// # Safety
/// The arguments are valid for `pthread_create`.
pub unsafe fn thread_create(
    thread: *mut c_void,
    attributes: *const c_void,
    start: StartRoutine,
    argument: *mut c_void,
) -> c_int {
    match side() {
        Side::Host(host, token) => {
            // SAFETY: the arguments are valid for `pthread_create`; function and token come from the same host.
            unsafe { (host.thread_create)(token, thread, attributes, start, argument) }
        }
        Side::Libc(early) => {
            // SAFETY: the arguments are valid for `pthread_create`.
            unsafe { early_thread_create(early, thread, attributes, Start::Posix(start), argument) }
        }
    }
}

/// Starts a thread with libc, and records it.
///
/// # Safety
/// The arguments are valid for `pthread_create`, or for `thrd_create` if `start` is a C11 routine.
pub(crate) unsafe fn early_thread_create(
    mut early: MutexGuard<'static, Early>,
    thread: *mut c_void,
    attributes: *const c_void,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    // The lock is held until the thread's number is known, so that a hand-over contains every early thread. To tell
    // its number, the thread needs neither this lock nor the loader's.
    let given = EarlyStart {
        start,
        argument,
        number: AtomicI32::new(0),
    };
    let raw = (&raw const given).cast_mut().cast();
    // SAFETY: `thread` and `attributes` are valid for `pthread_create`. `early_start` reads `given` only before it
    // sets the number, and `given` lives until this thread has seen the number.
    let result = unsafe { real_thread_create(thread, attributes, early_start, raw) };
    if result == 0 {
        let number = loop {
            // Acquire: pairs with the Release in `early_start`, which reads `given` before it.
            match given.number.load(Ordering::Acquire) {
                0 => thread::yield_now(),
                number => break number,
            }
        };
        early.note_thread(number);
    }
    result
}
