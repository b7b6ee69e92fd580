//! Threads and keys of C11 and of C++, as what they are made of.
//!
//! libc starts `thrd_create`'s threads by itself, and libstdc++ those of `std::thread`, where the shadow of
//! `pthread_create` does not see it. Each is therefore started here, by that shadow.

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

/// Looks everything up, for no shadow may do so on a thread that a constructor started.
pub(crate) fn look_up() {
    THROW.address();
}

/// As glibc translates them (`thrd_err_map`).
fn thrd_code(error: c_int) -> c_int {
    match error {
        0 => THRD_SUCCESS,
        ENOMEM => THRD_NOMEM,
        EBUSY => THRD_BUSY,
        _ => THRD_ERROR,
    }
}

/// # Safety
/// That of `thrd_create`.
pub unsafe extern "C" fn thrd_create(
    thread: *mut c_void,
    start: C11StartRoutine,
    argument: *mut c_void,
) -> c_int {
    thrd_code(match side() {
        // SAFETY: the host's function asks for what `thrd_create` asks for.
        Side::Host(host, token) => unsafe {
            (host.c11_thread_create)(token, thread, start, argument)
        },
        // SAFETY: a place for the thread, a routine, and its argument; no attributes are the default ones.
        Side::Libc(early) => unsafe {
            early_thread_create(early, thread, ptr::null(), Start::C11(start), argument)
        },
    })
}

/// # Safety
/// That of `tss_create`.
pub unsafe extern "C" fn tss_create(key: *mut Key, destructor: Option<Destructor>) -> c_int {
    // SAFETY: `tss_t` is `pthread_key_t`, and both functions ask for the same.
    thrd_code(unsafe { key_create(key, destructor) })
}

/// # Safety
/// That of `tss_delete`.
pub unsafe extern "C" fn tss_delete(key: Key) {
    // SAFETY: `tss_t` is `pthread_key_t`, and both functions ask for the same.
    unsafe { key_delete(key) };
}

/// # Safety
/// That of `tss_set`.
pub unsafe extern "C" fn tss_set(key: Key, value: *const c_void) -> c_int {
    // SAFETY: `tss_t` is `pthread_key_t`, and both functions ask for the same.
    thrd_code(unsafe { key_set(key, value) })
}

/// # Safety
/// That of `tss_get`.
pub unsafe extern "C" fn tss_get(key: Key) -> *mut c_void {
    // SAFETY: `tss_t` is `pthread_key_t`, and both functions ask for the same.
    unsafe { key_get(key) }
}

/// `std::thread::_State` of libstdc++, what a thread is to run: an object with two virtual functions, its destructor
/// and `_M_run`, in this order (`bits/std_thread.h`, GCC 6 and later). Compilers for Linux lay out the table as the
/// Itanium C++ ABI says (*2.5 Virtual Table Layout*), with two entries for the destructor.
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

/// `std::thread::_M_start_thread(std::unique_ptr<_State>, void (*)())`: does what libstdc++ does
/// (`libstdc++-v3/src/c++11/thread.cc`), with a thread that is counted.
///
/// # Safety
/// That of the function, whose arguments these are: the thread's `pthread_t`, and the place of the pointer, which
/// the ABI passes by its address. The last, which keeps a reference to libpthread, is not needed.
pub unsafe extern "C-unwind" fn cxx_thread_start(
    thread: *mut c_void,
    state: *mut *mut c_void,
    _: *const c_void,
) {
    // SAFETY: the caller's pointer; it is ours to read and to take.
    let given = unsafe { *state };
    // SAFETY: a place for the thread, and a routine that takes what it is given.
    let result = unsafe { thread_create(thread, ptr::null(), cxx_run, given) };
    if result != 0 {
        // SAFETY: nothing in this frame has a destructor, and the caller is C++.
        unsafe { throw_system_error(result) };
    }
    // SAFETY: the thread has it now; what the caller destroys is empty.
    unsafe { *state = ptr::null_mut() };
}

/// Nothing in here has a destructor, so that forced unwinding (`pthread_exit`, cancellation) may leave this frame. It
/// leaks the state then.
///
/// # Safety
/// `raw` is a `CxxState` that nobody else has.
unsafe extern "C-unwind" fn cxx_run(raw: *mut c_void) -> *mut c_void {
    let state = raw.cast::<CxxState>();
    // SAFETY: an object begins with the address of its table of virtual functions.
    let functions = unsafe { (*state).functions };
    // SAFETY: the table is a constant of the image that defines the object's type, which is mapped.
    let functions = unsafe { &*functions };
    // SAFETY: the object is there until it is freed, below.
    unsafe { (functions.run)(state) };
    // SAFETY: it is ours, and was made by `new`.
    unsafe { (functions.destroy_and_free)(state) };
    ptr::null_mut()
}

/// `std::__throw_system_error(int)`, by which libstdc++ reports that a thread could not be started.
///
/// # Safety
/// The frames up to the C++ code that catches it may be unwound.
unsafe fn throw_system_error(error: c_int) {
    type Throw = unsafe extern "C-unwind" fn(c_int);
    let address = THROW.address();
    if address.is_null() {
        // Code that uses `std::thread` has libstdc++, and that has the function.
        process::abort();
    }
    // SAFETY: the type of the function of that name.
    let throw = unsafe { core::mem::transmute::<*mut c_void, Throw>(address) };
    // SAFETY: the caller's promise.
    unsafe { throw(error) };
}
