//! libc's own functions, which the shadows of the same names call.

use core::{
    ffi::{CStr, c_char, c_void},
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

/// libc's `dlsym`: that name is bound to the shadow. The versions are those of the first glibc for the processor
/// (`sysdeps/unix/sysv/linux/x86_64/64/libc.abilist`, `…/aarch64/libc.abilist`).
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static DLSYM: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// # Safety
/// The arguments are valid for `dlsym`.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) unsafe fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void {
    type Function = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;
    const VERSION: &CStr = if cfg!(target_arch = "x86_64") {
        c"GLIBC_2.2.5"
    } else {
        c"GLIBC_2.17"
    };
    unsafe extern "C" {
        fn dlvsym(handle: *mut c_void, name: *const c_char, version: *const c_char) -> *mut c_void;
    }
    // Relaxed: as in `Real::address`.
    let mut address = DLSYM.load(Ordering::Relaxed);
    if address.is_null() {
        // SAFETY: `RTLD_DEFAULT` is a valid handle, and the others are C strings.
        address = unsafe { dlvsym(RTLD_DEFAULT, c"dlsym".as_ptr(), VERSION.as_ptr()) };
        DLSYM.store(address, Ordering::Relaxed);
    }
    if address.is_null() {
        // Not reached: each glibc has it.
        return address;
    }
    // SAFETY: libc's `dlsym` has this type.
    let dlsym = unsafe { core::mem::transmute::<*mut c_void, Function>(address) };
    // SAFETY: the arguments are valid for `dlsym`.
    unsafe { dlsym(handle, name) }
}

/// On other processors `dlsym` has no shadow.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe extern "C" {
    pub(crate) fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// `RTLD_DEFAULT`: `dlsym` finds what the program would find, including an interposed function. It does not find this
/// image's own shadows, because they are hidden.
const RTLD_DEFAULT: *mut c_void = ptr::null_mut();

/// The result of a function that this libc does not have.
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

    /// The address of the function, or null if this libc has no such function.
    pub(crate) fn address(&self) -> *mut c_void {
        // Relaxed: the address is the only value that is passed on, this code publishes nothing else, and two threads
        // that look it up find the same.
        let known = self.address.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: `RTLD_DEFAULT` is a valid handle, and `name` a C string.
        let found = unsafe { dlsym(RTLD_DEFAULT, self.name.as_ptr()) };
        self.address.store(found, Ordering::Relaxed);
        found
    }
}

/// Declares a [`Real`], and a function of the right type that calls it.
macro_rules! real {
    ($static:ident, $name:literal, fn $call:ident($($arg:ident: $type:ty),*) -> $result:ty, else $missing:expr) => {
        static $static: $crate::real::Real = $crate::real::Real::new($name);

        /// # Safety
        /// The caller keeps the contract of libc's function of this name.
        unsafe fn $call($($arg: $type),*) -> $result {
            type Function = unsafe extern "C" fn($($type),*) -> $result;
            let address = $static.address();
            if address.is_null() {
                return $missing;
            }
            // SAFETY: `dlsym` found the address under this name, and libc's function of this name has this type.
            let function = unsafe { core::mem::transmute::<*mut c_void, Function>(address) };
            // SAFETY: the caller keeps the function's contract, and the arguments are passed on.
            unsafe { function($($arg),*) }
        }
    };
}

pub(crate) use real;
