//! What the shadow symbols do: pass the call to the host where one has attached, to libc where none has.
//!
//! Invariants:
//! - `HOST` goes from null to the host's table once, under `EARLY`'s lock. Whoever holds the lock and sees
//!   null works before the hand-over, and what he notes is in it.
//! - Nothing here allocates, and nothing here has a thread-local.
//! - No shadow calls `dlsym` from a thread that a constructor started, for such a thread would wait for the
//!   loader's lock, and the constructor that joins it holds that lock: [`look_up`] comes first.
//!
//! Deliberately not here: counts. See the crate's documentation.

use core::{
    ffi::{c_int, c_void},
    ptr,
    sync::atomic::{AtomicI32, AtomicPtr, Ordering},
};
use std::{
    io::{self, Write as _},
    panic::{self, AssertUnwindSafe},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use crate::{
    real::{ENOSYS, real},
    table::{
        C11StartRoutine, DECLINED_ATTACHED, DECLINED_UNBOUND, DECLINED_VERSION, Destructor,
        EarlyKey, Handover, HostTable, Key, StartRoutine, Token, VERSION, VIRTUAL_KEY_FIRST,
    },
};

unsafe extern "C" {
    fn getpid() -> c_int;
    fn gettid() -> c_int;
    fn tgkill(process: c_int, thread: c_int, signal: c_int) -> c_int;
}

/// The names as the rest of the image knows them, std included: bound by the same linker to the same place.
mod bound {
    use super::{Destructor, Key, StartRoutine, c_int, c_void};

    unsafe extern "C" {
        pub(super) fn __cxa_thread_atexit_impl(
            _: Destructor,
            _: *mut c_void,
            _: *mut c_void,
        ) -> c_int;
        pub(super) fn pthread_key_create(_: *mut Key, _: Option<Destructor>) -> c_int;
        pub(super) fn pthread_key_delete(_: Key) -> c_int;
        pub(super) fn pthread_setspecific(_: Key, _: *const c_void) -> c_int;
        pub(super) fn pthread_getspecific(_: Key) -> *mut c_void;
        pub(super) fn pthread_create(
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

/// What was registered with libc while no host was attached.
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
    /// Fixed, because `unloadable!` must not allocate. Constructors seldom start one thread; where there are more,
    /// the image is not known safe to unload, which is reported, and is all that happens.
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

fn this_thread() -> c_int {
    // SAFETY: no conditions.
    unsafe { gettid() }
}

fn thread_lives(thread: c_int) -> bool {
    // SAFETY: no conditions.
    let process = unsafe { getpid() };
    // SAFETY: signal 0 is not sent, it only asks whether it could be.
    let sent = unsafe { tgkill(process, thread, 0) } == 0;
    // Dead only if the system says just that; a sandbox may forbid to ask.
    sent || io::Error::last_os_error().raw_os_error() != Some(ESRCH)
}

/// The host's table and the image's token, once attached.
pub(crate) fn host() -> Option<(&'static HostTable, Token)> {
    // Acquire: pairs with the Release in `attach`, so that the token and the table's content are seen.
    let table = HOST.load(Ordering::Acquire);
    // SAFETY: null, or the table that `attach` was given and that the host keeps while the image is mapped.
    let table = unsafe { table.as_ref() }?;
    // Relaxed: written before HOST, ordered by the load above.
    Some((table, TOKEN.load(Ordering::Relaxed).cast_const()))
}

/// Who takes a call.
pub(crate) enum Side {
    Host(&'static HostTable, Token),
    /// Nobody has attached, and nobody does while this is held.
    Libc(MutexGuard<'static, Early>),
}

pub(crate) fn side() -> Side {
    if let Some((host, token)) = host() {
        return Side::Host(host, token);
    }
    let early = Early::lock();
    // Again: one may have attached before we had the lock, and its hand-over would miss what we note.
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

/// Whether the image's calls reach the shadows. If they reach libc, the account would stay empty whatever the
/// image does, and look clear.
fn shadows_are_bound() -> bool {
    let names = [
        (
            bound::__cxa_thread_atexit_impl as *const c_void,
            &THREAD_ATEXIT,
        ),
        (bound::pthread_key_create as *const c_void, &KEY_CREATE),
        (bound::pthread_key_delete as *const c_void, &KEY_DELETE),
        (bound::pthread_setspecific as *const c_void, &KEY_SET),
        (bound::pthread_getspecific as *const c_void, &KEY_GET),
        (bound::pthread_create as *const c_void, &THREAD_CREATE),
    ];
    names
        .iter()
        .all(|(name, real)| *name != real.address().cast_const())
}

/// Looks everything up, for no shadow may do so on a thread that a constructor started.
pub(crate) fn look_up() {
    for real in [
        &THREAD_ATEXIT,
        &KEY_CREATE,
        &KEY_DELETE,
        &KEY_SET,
        &KEY_GET,
        &THREAD_CREATE,
    ] {
        real.address();
    }
}

/// Among the image's finalisers: where no host attached, takes back the keys whose destructors are about to
/// be unmapped. With a host, the host has.
pub extern "C" fn finalised() {
    if host().is_none() {
        for &EarlyKey { key, .. } in Early::lock().keys() {
            // SAFETY: this image made the key, and nothing of it runs any more.
            unsafe { real_key_delete(key) };
        }
    }
}

/// See [`PluginTable::attach`](crate::PluginTable::attach).
///
/// # Safety
/// `table` points to a host's table of any version, which stays valid as long as this image is mapped.
pub(crate) unsafe extern "C" fn attach(table: *const HostTable, token: Token) -> c_int {
    // SAFETY: the version is where it is in each version of the table.
    let version = unsafe { (*table).version };
    // SAFETY: the size follows the version in each version of the table.
    let size = unsafe { (*table).size };
    if version != VERSION || (size as usize) < size_of::<HostTable>() {
        return DECLINED_VERSION;
    }
    // SAFETY: of our version and not shorter.
    let functions = unsafe { &*table };

    if !shadows_are_bound() {
        return DECLINED_UNBOUND;
    }
    let Side::Libc(mut early) = side() else {
        return DECLINED_ATTACHED;
    };
    // Constructors leave the loading thread's values in libc's keys. They move to the host if that thread is
    // this one; otherwise `threads` has it, and the host waits until it has ended.
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
    // SAFETY: the host's own function and token; the lists live until it returns.
    unsafe { (functions.hand_over)(token, &handover) };
    for &EarlyKey { key, .. } in early.keys() {
        // SAFETY: libc made this key for this image.
        let value = unsafe { real_key_get(key) };
        if !value.is_null() {
            // SAFETY: libc made this key for this image.
            unsafe { real_key_set(key, ptr::null()) };
            // SAFETY: the host has just learnt of this key.
            unsafe { (functions.key_set)(token, key, value) };
        }
    }
    0
}

/// See [`PluginTable::flush`](crate::PluginTable::flush).
pub(crate) unsafe extern "C" fn flush() {
    // A panic or an error has nobody to go to: the image is leaving, and what could not be written is lost
    // as it is at the end of a program.
    let _ = panic::catch_unwind(|| io::stdout().flush());
}

/// Runs a plugin author's hook and turns a panic into text.
///
/// # Safety
/// `text` has room for `capacity` bytes and `written` is valid for a write.
pub unsafe fn run_hook(hook: fn(), text: *mut u8, capacity: usize, written: *mut usize) -> u32 {
    let Err(payload) = panic::catch_unwind(hook) else {
        return 0;
    };
    let message = match (
        payload.downcast_ref::<&str>(),
        payload.downcast_ref::<String>(),
    ) {
        (Some(message), _) => message,
        (_, Some(message)) => message.as_str(),
        _ => "(a panic without a message)",
    };
    let length = message.floor_char_boundary(capacity);
    // SAFETY: not longer than the capacity, and the places are the host's.
    unsafe { ptr::copy_nonoverlapping(message.as_ptr(), text, length) };
    // SAFETY: the caller's promise.
    unsafe { written.write(length) };
    // The payload's own destructor may panic too.
    if let Err(second) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        core::mem::forget(second);
    }
    1
}

/// # Safety
/// That of `__cxa_thread_atexit_impl`.
pub unsafe fn thread_atexit(
    destructor: Destructor,
    object: *mut c_void,
    image: *mut c_void,
) -> c_int {
    match side() {
        // SAFETY: the caller's promise.
        Side::Host(host, token) => unsafe { (host.thread_atexit)(token, destructor, object) },
        Side::Libc(mut early) => {
            early.destructors += 1;
            // Libc takes the loader's lock here, which a constructor that waits for ours may hold. If a
            // host attaches meanwhile, nothing is lost: the loader counts what it has itself.
            drop(early);
            // SAFETY: the caller's promise.
            unsafe { real_thread_atexit(destructor, object, image) }
        }
    }
}

/// # Safety
/// That of `pthread_key_create`.
pub unsafe fn key_create(key: *mut Key, destructor: Option<Destructor>) -> c_int {
    match side() {
        // SAFETY: the caller's promise.
        Side::Host(host, token) => unsafe { (host.key_create)(token, key, destructor) },
        Side::Libc(mut early) => {
            // SAFETY: the caller's promise.
            let result = unsafe { real_key_create(key, destructor) };
            if result == 0 {
                // SAFETY: libc has just written it.
                early.note_key(unsafe { key.read() }, destructor);
            }
            result
        }
    }
}

/// # Safety
/// That of `pthread_key_delete`.
pub unsafe fn key_delete(key: Key) -> c_int {
    match side() {
        Side::Host(host, token) if key >= VIRTUAL_KEY_FIRST || Early::lock().has_key(key) => {
            // SAFETY: the caller's promise. The host deletes the real key of an early one.
            return unsafe { (host.key_delete)(token, key) };
        }
        Side::Host(..) => {}
        Side::Libc(mut early) => early.forget_key(key),
    }
    // SAFETY: the caller's promise.
    unsafe { real_key_delete(key) }
}

/// # Safety
/// That of `pthread_setspecific`.
pub unsafe fn key_set(key: Key, value: *const c_void) -> c_int {
    match side() {
        Side::Host(host, token) if key >= VIRTUAL_KEY_FIRST => {
            // SAFETY: the caller's promise.
            return unsafe { (host.key_set)(token, key, value) };
        }
        Side::Host(host, token) if Early::lock().has_key(key) => {
            // From here on this thread's value is the host's, so that it is counted.
            // SAFETY: libc made this key for this image.
            unsafe { real_key_set(key, ptr::null()) };
            // SAFETY: the caller's promise.
            return unsafe { (host.key_set)(token, key, value) };
        }
        Side::Libc(mut early) if early.has_key(key) => early.note_thread(this_thread()),
        // Another image's key.
        Side::Host(..) | Side::Libc(_) => {}
    }
    // SAFETY: the caller's promise.
    unsafe { real_key_set(key, value) }
}

/// # Safety
/// That of `pthread_getspecific`.
pub unsafe fn key_get(key: Key) -> *mut c_void {
    if let Some((host, token)) = host()
        && (key >= VIRTUAL_KEY_FIRST || Early::lock().has_key(key))
    {
        // SAFETY: the caller's promise.
        let value = unsafe { (host.key_get)(token, key) };
        if !value.is_null() || key >= VIRTUAL_KEY_FIRST {
            return value;
        }
    }
    // SAFETY: the caller's promise. Another image's key, or a value set before the host attached.
    unsafe { real_key_get(key) }
}

/// What a thread is to run.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    Posix(StartRoutine),
    C11(C11StartRoutine),
}

/// Passes what an early thread needs, and waits on its creator's stack for the thread's number.
struct EarlyStart {
    start: Start,
    argument: *mut c_void,
    number: AtomicI32,
}

/// # Safety
/// `raw` is an [`EarlyStart`] whose owner waits until its number is set.
unsafe extern "C-unwind" fn early_start(raw: *mut c_void) -> *mut c_void {
    let given = raw.cast::<EarlyStart>();
    // SAFETY: the owner waits until the number is set, below.
    let start = unsafe { (*given).start };
    // SAFETY: the owner waits until the number is set, below.
    let argument = unsafe { (*given).argument };
    // SAFETY: the owner waits until the number is set, below.
    let number = unsafe { &(*given).number };
    // Release: pairs with the Acquire in `thread_create`; the reads above come first.
    number.store(this_thread(), Ordering::Release);
    match start {
        // SAFETY: the routine and the argument that the caller of `pthread_create` gave for each other.
        Start::Posix(routine) => unsafe { routine(argument) },
        // SAFETY: the routine and the argument that the caller of `thrd_create` gave for each other.
        Start::C11(routine) => c11_result(unsafe { routine(argument) }),
    }
}

/// A C11 thread's result as `thrd_join` takes it from a thread of `pthread_create`: glibc cuts it to an `int`.
pub(crate) fn c11_result(result: c_int) -> *mut c_void {
    ptr::without_provenance_mut(result as usize)
}

/// # Safety
/// That of `pthread_create`.
pub unsafe fn thread_create(
    thread: *mut c_void,
    attributes: *const c_void,
    start: StartRoutine,
    argument: *mut c_void,
) -> c_int {
    match side() {
        Side::Host(host, token) => {
            // SAFETY: the caller's promise is that of `pthread_create`, which the host's function asks for.
            unsafe { (host.thread_create)(token, thread, attributes, start, argument) }
        }
        Side::Libc(early) => {
            // SAFETY: the caller's promise is that of `pthread_create`.
            unsafe { early_thread_create(early, thread, attributes, Start::Posix(start), argument) }
        }
    }
}

/// Starts a thread by libc's hand, and notes it.
///
/// # Safety
/// That of `pthread_create`.
pub(crate) unsafe fn early_thread_create(
    mut early: MutexGuard<'static, Early>,
    thread: *mut c_void,
    attributes: *const c_void,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    // The lock is held until the thread's number is known, so that a hand-over has every early thread. The
    // thread needs neither this lock nor the loader's to tell its number.
    let given = EarlyStart {
        start,
        argument,
        number: AtomicI32::new(0),
    };
    let raw = (&raw const given).cast_mut().cast();
    // SAFETY: the caller's promise; `given` outlives the wait below.
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
