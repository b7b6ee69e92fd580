//! Threads and keys of C11 and C++, built from the POSIX ones.
//!
//! libc starts the threads of `thrd_create` itself, and libstdc++ those of `std::thread`, so the shadow of
//! `pthread_create` does not see them. The shadows in this file start these threads with the shadow of
//! `pthread_create` instead.

use core::{
    ffi::{c_int, c_void},
    ptr,
};
use std::process;

use crate::{
    real::Real,
    shadow::{
        Side, Start, early_thread_create, key_create, key_delete, key_get, key_set, side,
        thread_create,
    },
    table::{C11StartRoutine, Destructor, Key},
};

// `<threads.h>` of glibc.
const THRD_SUCCESS: c_int = 0;
const THRD_BUSY: c_int = 1;
const THRD_ERROR: c_int = 2;
const THRD_NOMEM: c_int = 3;

// `<errno.h>` of Linux.
const ENOMEM: c_int = 12;
const EBUSY: c_int = 16;

static THROW: Real = Real::new(c"_ZSt20__throw_system_errori");

/// Looks up the real function now, because no shadow may do so on a thread that a constructor started.
pub(crate) fn look_up() {
    THROW.address();
}

/// Translates an error number like glibc does (`thrd_err_map`).
fn thrd_code(error: c_int) -> c_int {
    match error {
        0 => THRD_SUCCESS,
        ENOMEM => THRD_NOMEM,
        EBUSY => THRD_BUSY,
        _ => THRD_ERROR,
    }
}

/// # Safety
/// The arguments are valid for `thrd_create`.
pub unsafe extern "C" fn thrd_create(
    thread: *mut c_void,
    start: C11StartRoutine,
    argument: *mut c_void,
) -> c_int {
    thrd_code(match side() {
        // SAFETY: the arguments are valid for `thrd_create`; function and token come from the same host.
        Side::Host(host, token) => unsafe {
            (host.c11_thread_create)(token, thread, start, argument)
        },
        // SAFETY: `thread`, `start` and `argument` are valid for `thrd_create`; null attributes are the default ones.
        Side::Libc(early) => unsafe {
            early_thread_create(early, thread, ptr::null(), Start::C11(start), argument)
        },
    })
}

/// # Safety
/// The arguments are valid for `tss_create`.
pub unsafe extern "C" fn tss_create(key: *mut Key, destructor: Option<Destructor>) -> c_int {
    // SAFETY: `tss_t` is `pthread_key_t`, so arguments for `tss_create` are valid for `pthread_key_create`.
    thrd_code(unsafe { key_create(key, destructor) })
}

/// # Safety
/// The argument is valid for `tss_delete`.
pub unsafe extern "C" fn tss_delete(key: Key) {
    // SAFETY: `tss_t` is `pthread_key_t`, so an argument for `tss_delete` is valid for `pthread_key_delete`.
    unsafe { key_delete(key) };
}

/// # Safety
/// The arguments are valid for `tss_set`.
pub unsafe extern "C" fn tss_set(key: Key, value: *const c_void) -> c_int {
    // SAFETY: `tss_t` is `pthread_key_t`, so arguments for `tss_set` are valid for `pthread_setspecific`.
    thrd_code(unsafe { key_set(key, value) })
}

/// # Safety
/// The argument is valid for `tss_get`.
pub unsafe extern "C" fn tss_get(key: Key) -> *mut c_void {
    // SAFETY: `tss_t` is `pthread_key_t`, so an argument for `tss_get` is valid for `pthread_getspecific`.
    unsafe { key_get(key) }
}

/// libstdc++'s `std::thread::_State`, the work of a thread. It is an object with two virtual functions: its
/// destructor and `_M_run`, in this order (`bits/std_thread.h`, GCC 6 and later). Compilers for Linux lay out the
/// table of virtual functions as the Itanium C++ ABI says (*2.5 Virtual Table Layout*), with two entries for the
/// destructor.
#[repr(C)]
struct CxxState {
    functions: *const CxxFunctions,
}

#[repr(C)]
struct CxxFunctions {
    destroy: unsafe extern "C-unwind" fn(*mut CxxState),
    destroy_and_free: unsafe extern "C-unwind" fn(*mut CxxState),
    run: unsafe extern "C-unwind" fn(*mut CxxState),
}

/// `std::thread::_M_start_thread(std::unique_ptr<_State>, void (*)())`. It does what libstdc++ does
/// (`libstdc++-v3/src/c++11/thread.cc`), but starts the thread with the shadow of `pthread_create`, so that the
/// thread is counted.
///
/// # Safety
/// The arguments are valid for that C++ function: the address for the thread's `pthread_t`, and the address of the
/// `unique_ptr`, because the ABI passes it by address. The last argument keeps a reference to libpthread and is not
/// used.
pub unsafe extern "C-unwind" fn cxx_thread_start(
    thread: *mut c_void,
    state: *mut *mut c_void,
    _: *const c_void,
) {
    // SAFETY: `state` is the address of the caller's `unique_ptr`, which consists of one pointer.
    let given = unsafe { *state };
    // SAFETY: `thread` is valid for a `pthread_t`, and `cxx_run` takes the `_State` that the pointer owns.
    let result = unsafe { thread_create(thread, ptr::null(), cxx_run, given) };
    if result != 0 {
        // SAFETY: no local of this frame has a destructor, and the caller is C++ code, which may be unwound.
        unsafe { throw_system_error(result) };
    }
    // SAFETY: `state` is the caller's `unique_ptr`. The thread owns the object now, so the caller's destructor must
    // find null.
    unsafe { *state = ptr::null_mut() };
}

/// Runs and frees a `_State`. No local of this function has a destructor, so forced unwinding (`pthread_exit`,
/// cancellation) may leave its frame. The state then leaks.
///
/// # Safety
/// `raw` points to a `CxxState` that nobody else owns.
unsafe extern "C-unwind" fn cxx_run(raw: *mut c_void) -> *mut c_void {
    let state = raw.cast::<CxxState>();
    // SAFETY: `raw` points to a `_State`, and a C++ object with virtual functions begins with the address of their
    // table.
    let functions = unsafe { (*state).functions };
    // SAFETY: the table is a constant of the image that defines the object's type, and that image is mapped.
    let functions = unsafe { &*functions };
    // SAFETY: the object is alive; it is freed only below.
    unsafe { (functions.run)(state) };
    // SAFETY: this function owns the object, which was created with `new`, and does not use it afterwards.
    unsafe { (functions.destroy_and_free)(state) };
    ptr::null_mut()
}

/// `std::__throw_system_error(int)`: libstdc++ reports with it that a thread could not be started.
///
/// # Safety
/// All frames up to the C++ code that catches the exception may be unwound.
unsafe fn throw_system_error(error: c_int) {
    type Throw = unsafe extern "C-unwind" fn(c_int);
    let address = THROW.address();
    if address.is_null() {
        // Not reached: code that uses `std::thread` has libstdc++ loaded, and libstdc++ has the function.
        process::abort();
    }
    // SAFETY: libstdc++'s function of this name has this type.
    let throw = unsafe { core::mem::transmute::<*mut c_void, Throw>(address) };
    // SAFETY: the frames up to the catching C++ code may be unwound, as the caller guarantees.
    unsafe { throw(error) };
}
