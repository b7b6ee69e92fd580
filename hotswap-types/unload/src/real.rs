//! libc's own functions, behind the shadows of the same names.

use core::{
    ffi::{CStr, c_char, c_void},
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// `RTLD_DEFAULT`: finds what the program would find, an interposed function included. This image's own
/// shadows are hidden and not found.
const RTLD_DEFAULT: *mut c_void = ptr::null_mut();

/// What a function answers that this libc does not have.
pub(crate) const ENOSYS: core::ffi::c_int = 38;

/// One function of libc, looked up once.
pub(crate) struct Real {
    name: &'static CStr,
    address: AtomicPtr<c_void>,
}

impl Real {
    pub(crate) const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            address: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Null where this libc has no such function.
    pub(crate) fn address(&self) -> *mut c_void {
        // Relaxed: the value is all there is, code is not published by us, and two threads that look up
        // find the same.
        let known = self.address.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: a valid handle and a C string.
        let found = unsafe { dlsym(RTLD_DEFAULT, self.name.as_ptr()) };
        self.address.store(found, Ordering::Relaxed);
        found
    }
}

/// Gives a [`Real`] the type of its function.
macro_rules! real {
    ($static:ident, $name:literal, fn $call:ident($($arg:ident: $type:ty),*) -> $result:ty, else $missing:expr) => {
        static $static: $crate::real::Real = $crate::real::Real::new($name);

        /// # Safety
        /// That of libc's function of this name.
        unsafe fn $call($($arg: $type),*) -> $result {
            type Function = unsafe extern "C" fn($($type),*) -> $result;
            let address = $static.address();
            if address.is_null() {
                return $missing;
            }
            // SAFETY: libc's function of that name has this type.
            let function = unsafe { core::mem::transmute::<*mut c_void, Function>(address) };
            // SAFETY: the caller's promise.
            unsafe { function($($arg),*) }
        }
    };
}

pub(crate) use real;
