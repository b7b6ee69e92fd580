//! What an image leaves with libc and the kernel that nobody can count, and signal handlers.
//!
//! Each is passed on, and told to the host: before it is done for what cannot be taken back, and after it was done
//! for a handler, with the one that was there before.

use core::ffi::{c_int, c_void};

use crate::{
    real::real,
    shadow::{Side, host, side},
    table::{USES_ON_EXIT, USES_TIMER_THREADS},
};

/// `<signal.h>` of Linux: the thread that runs a timer's function is started by libc.
const SIGEV_THREAD: c_int = 2;
/// The handlers `SIG_DFL` and `SIG_IGN`; all above are addresses.
const SIG_IGN: usize = 1;
const SIG_ERR: usize = usize::MAX;

/// The beginning of `struct sigevent` (man 3 sigevent).
#[repr(C)]
pub struct SigEvent {
    value: *mut c_void,
    signal: c_int,
    notify: c_int,
}

/// Room for `struct sigaction` of glibc, which has 152 bytes; the handler is at its beginning on x86-64 and arm64
/// (`bits/sigaction.h`).
#[repr(C)]
pub struct SigAction {
    handler: usize,
    rest: [usize; 31],
}

type ExitFunction = unsafe extern "C" fn(c_int, *mut c_void);

real!(ON_EXIT, c"on_exit",
    fn real_on_exit(function: ExitFunction, argument: *mut c_void) -> c_int, else -1);
real!(TIMER_CREATE, c"timer_create",
    fn real_timer_create(clock: c_int, event: *const SigEvent, timer: *mut c_void) -> c_int, else -1);
real!(SIGACTION, c"sigaction",
    fn real_sigaction(signal: c_int, new: *const SigAction, old: *mut SigAction) -> c_int, else -1);
real!(SIGNAL, c"signal", fn real_signal(signal: c_int, handler: usize) -> usize, else SIG_ERR);
real!(SYSV_SIGNAL, c"__sysv_signal",
    fn real_sysv_signal(signal: c_int, handler: usize) -> usize, else SIG_ERR);
real!(SIGSET, c"sigset", fn real_sigset(signal: c_int, handler: usize) -> usize, else SIG_ERR);

/// Looks everything up, for no shadow may do so on a thread that a constructor started, or between `fork` and `exec`.
pub(crate) fn look_up() {
    for real in [
        &ON_EXIT,
        &TIMER_CREATE,
        &SIGACTION,
        &SIGNAL,
        &SYSV_SIGNAL,
        &SIGSET,
    ] {
        real.address();
    }
}

fn note(uses: u32) {
    match side() {
        // SAFETY: the host's own token.
        Side::Host(host, token) => unsafe { (host.note_uses)(token, uses) },
        Side::Libc(mut early) => early.uses |= uses,
    }
}

/// Before a host attaches this says nothing: a host asks the kernel for handlers as well.
fn note_handler(signal: c_int, old: usize, new: usize) {
    if old <= SIG_IGN && new <= SIG_IGN {
        return;
    }
    if let Some((host, token)) = host() {
        // SAFETY: the host's own token.
        unsafe { (host.note_handler)(token, signal, old, new) };
    }
}

/// # Safety
/// That of `on_exit`.
pub unsafe extern "C" fn on_exit(function: ExitFunction, argument: *mut c_void) -> c_int {
    note(USES_ON_EXIT);
    // SAFETY: the caller's promise is that of the function.
    unsafe { real_on_exit(function, argument) }
}

/// # Safety
/// That of `timer_create`.
pub unsafe extern "C" fn timer_create(
    clock: c_int,
    event: *const SigEvent,
    timer: *mut c_void,
) -> c_int {
    // SAFETY: null, or an event.
    if unsafe { event.as_ref() }.is_some_and(|event| event.notify == SIGEV_THREAD) {
        note(USES_TIMER_THREADS);
    }
    // SAFETY: the caller's promise is that of the function.
    unsafe { real_timer_create(clock, event, timer) }
}

/// # Safety
/// That of `sigaction`.
pub unsafe extern "C" fn sigaction(
    signal: c_int,
    new: *const SigAction,
    old: *mut SigAction,
) -> c_int {
    let mut place = SigAction {
        handler: 0,
        rest: [0; 31],
    };
    let old = if old.is_null() { &raw mut place } else { old };
    // Before the call, for both may be the same place.
    // SAFETY: null, or an action, of which only the beginning is read.
    let handler = (!new.is_null()).then(|| unsafe { (*new).handler });
    // SAFETY: the caller's promise is that of the function, and there is room for the old action.
    let result = unsafe { real_sigaction(signal, new, old) };
    if let (0, Some(handler)) = (result, handler) {
        // SAFETY: the system has just written it.
        note_handler(signal, unsafe { (*old).handler }, handler);
    }
    result
}

/// # Safety
/// That of `signal`.
pub unsafe extern "C" fn signal(signal: c_int, handler: usize) -> usize {
    // SAFETY: the caller's promise is that of the function.
    noted(signal, handler, unsafe { real_signal(signal, handler) })
}

/// What `signal` is when a program asks for no BSD extensions (`-std=c11`).
///
/// # Safety
/// That of `signal`.
pub unsafe extern "C" fn sysv_signal(signal: c_int, handler: usize) -> usize {
    // SAFETY: the caller's promise is that of the function.
    noted(signal, handler, unsafe {
        real_sysv_signal(signal, handler)
    })
}

/// # Safety
/// That of `sigset`.
pub unsafe extern "C" fn sigset(signal: c_int, handler: usize) -> usize {
    // SAFETY: the caller's promise is that of the function.
    noted(signal, handler, unsafe { real_sigset(signal, handler) })
}

/// Notes a change unless it failed, and gives its result.
fn noted(signal: c_int, handler: usize, old: usize) -> usize {
    if old != SIG_ERR {
        note_handler(signal, old, handler);
    }
    old
}
