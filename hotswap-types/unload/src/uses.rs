//! What an image leaves with libc and the kernel that nobody can count, and its signal handlers.
//!
//! Each shadow passes its call on and tells the host about it. It tells the host before the call if the call cannot
//! be undone. For a handler it tells the host after the call, together with the previous handler.

use core::ffi::{c_int, c_void};

use crate::{
    real::real,
    shadow::{Side, host, side},
    table::{USES_ON_EXIT, USES_TIMER_THREADS},
};

/// `<signal.h>` of Linux: libc starts a thread that runs the timer's function.
const SIGEV_THREAD: c_int = 2;
/// The handlers `SIG_DFL` and `SIG_IGN` are 0 and 1; every larger number is an address.
const SIG_IGN: usize = 1;
const SIG_ERR: usize = usize::MAX;

/// The beginning of `struct sigevent` (man 3 sigevent).
#[repr(C)]
pub struct SigEvent {
    value: *mut c_void,
    signal: c_int,
    notify: c_int,
}

/// Has room for glibc's `struct sigaction`, which has 152 bytes. The handler is its first field on x86-64 and arm64
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

/// Looks up all real functions now, because no shadow may do so on a thread that a constructor started, or between
/// `fork` and `exec`.
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
        // SAFETY: function and token come from the same host.
        Side::Host(host, token) => unsafe { (host.note_uses)(token, uses) },
        Side::Libc(mut early) => early.uses |= uses,
    }
}

/// Before a host attaches, this records nothing; the host also asks the kernel for handlers.
fn note_handler(signal: c_int, old: usize, new: usize) {
    if old <= SIG_IGN && new <= SIG_IGN {
        return;
    }
    if let Some((host, token)) = host() {
        // SAFETY: function and token come from the same host.
        unsafe { (host.note_handler)(token, signal, old, new) };
    }
}

/// # Safety
/// The arguments are valid for `on_exit`.
pub unsafe extern "C" fn on_exit(function: ExitFunction, argument: *mut c_void) -> c_int {
    note(USES_ON_EXIT);
    // SAFETY: the arguments are valid for `on_exit`.
    unsafe { real_on_exit(function, argument) }
}

/// # Safety
/// The arguments are valid for `timer_create`.
pub unsafe extern "C" fn timer_create(
    clock: c_int,
    event: *const SigEvent,
    timer: *mut c_void,
) -> c_int {
    // SAFETY: `event` is null or points to a `struct sigevent`, of which `SigEvent` is the beginning.
    if unsafe { event.as_ref() }.is_some_and(|event| event.notify == SIGEV_THREAD) {
        note(USES_TIMER_THREADS);
    }
    // SAFETY: the arguments are valid for `timer_create`.
    unsafe { real_timer_create(clock, event, timer) }
}

/// # Safety
/// The arguments are valid for `sigaction`.
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
    // Read before the call, because `new` and `old` may be the same address.
    // SAFETY: `new` points to a `struct sigaction`, and only its first field is read.
    let handler = (!new.is_null()).then(|| unsafe { (*new).handler });
    // SAFETY: the arguments are valid for `sigaction`; if `old` was null, `place` has room for the old action.
    let result = unsafe { real_sigaction(signal, new, old) };
    if let (0, Some(handler)) = (result, handler) {
        // SAFETY: the call succeeded, so the system has written the old action to this address.
        note_handler(signal, unsafe { (*old).handler }, handler);
    }
    result
}

/// # Safety
/// The arguments are valid for `signal`.
pub unsafe extern "C" fn signal(signal: c_int, handler: usize) -> usize {
    // SAFETY: the arguments are valid for `signal`.
    noted(signal, handler, unsafe { real_signal(signal, handler) })
}

/// The function that `signal` means in a program that asks for no BSD extensions (`-std=c11`).
///
/// # Safety
/// The arguments are valid for `signal`.
pub unsafe extern "C" fn sysv_signal(signal: c_int, handler: usize) -> usize {
    // SAFETY: the arguments are valid for `signal`, and `__sysv_signal` takes the same.
    noted(signal, handler, unsafe {
        real_sysv_signal(signal, handler)
    })
}

/// # Safety
/// The arguments are valid for `sigset`.
pub unsafe extern "C" fn sigset(signal: c_int, handler: usize) -> usize {
    // SAFETY: the arguments are valid for `sigset`.
    noted(signal, handler, unsafe { real_sigset(signal, handler) })
}

/// Records a change of handler unless it failed, and returns `old`.
fn noted(signal: c_int, handler: usize, old: usize) -> usize {
    if old != SIG_ERR {
        note_handler(signal, old, handler);
    }
    old
}
