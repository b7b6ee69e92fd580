//! `dlsym`, so that an image that looks up a function which has a shadow gets the shadow.
//!
//! Code that comes between a program and libc looks functions up by name: jemalloc starts its background threads with
//! the `pthread_create` that `dlsym(RTLD_NEXT, …)` finds (`src/background_thread.c`). `dlvsym` has no shadow.

use core::{
    ffi::{CStr, c_char, c_void},
    ptr,
};

use crate::{
    real,
    shadow::bound,
    threads::{cxx_thread_start, thrd_create, tss_create, tss_delete, tss_get, tss_set},
    uses::{on_exit, sigaction, signal, sigset, sysv_signal, timer_create},
};

const RTLD_DEFAULT: *mut c_void = ptr::null_mut();
const RTLD_NEXT: *mut c_void = ptr::without_provenance_mut(usize::MAX);

/// # Safety
/// The arguments are valid for `dlsym`.
pub unsafe extern "C" fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    // SAFETY: `dlsym` takes a C string.
    let shadow = shadow_of(unsafe { CStr::from_ptr(name) });
    // Looked up first, so that `dlerror` tells of the lookup below.
    // SAFETY: `RTLD_DEFAULT` is a valid handle, and `name` a C string.
    let of_libc = shadow.map(|_| unsafe { real::dlsym(RTLD_DEFAULT, name) });
    // libc takes the image that calls it for the one that `RTLD_NEXT` begins after. That is this image, as it would be
    // without this function.
    // SAFETY: the arguments are valid for `dlsym`.
    let found = unsafe { real::dlsym(handle, name) };
    // Another library may have a function of this name, which does something else.
    let is_of_libc = [RTLD_DEFAULT, RTLD_NEXT].contains(&handle) || of_libc == Some(found);
    match shadow {
        Some(shadow) if is_of_libc && !found.is_null() => shadow,
        _ => found,
    }
}

/// The shadow of a function.
fn shadow_of(name: &CStr) -> Option<*mut c_void> {
    let shadow: *const c_void = match name.to_bytes() {
        b"__cxa_thread_atexit_impl" | b"__cxa_thread_atexit" => {
            bound::__cxa_thread_atexit_impl as _
        }
        b"pthread_key_create" => bound::pthread_key_create as _,
        b"pthread_key_delete" => bound::pthread_key_delete as _,
        b"pthread_setspecific" => bound::pthread_setspecific as _,
        b"pthread_getspecific" => bound::pthread_getspecific as _,
        b"pthread_create" => bound::pthread_create as _,
        b"thrd_create" => thrd_create as _,
        b"tss_create" => tss_create as _,
        b"tss_delete" => tss_delete as _,
        b"tss_set" => tss_set as _,
        b"tss_get" => tss_get as _,
        b"_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE" => {
            cxx_thread_start as _
        }
        b"on_exit" => on_exit as _,
        b"timer_create" => timer_create as _,
        b"sigaction" => sigaction as _,
        b"signal" | b"bsd_signal" | b"ssignal" => signal as _,
        b"__sysv_signal" | b"sysv_signal" => sysv_signal as _,
        b"sigset" => sigset as _,
        _ => return None,
    };
    Some(shadow.cast_mut())
}
