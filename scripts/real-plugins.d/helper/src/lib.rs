//! `libhelper.so`: a thread that calls back.

use std::ffi::c_void;

unsafe extern "C" {
    /// Calls `callback` every few milliseconds from now on. Null if it cannot.
    pub fn helper_start(callback: extern "C" fn()) -> *mut c_void;
    /// Ends the thread of what `helper_start` has given, and returns when it has ended.
    pub fn helper_stop(helper: *mut c_void);
}
