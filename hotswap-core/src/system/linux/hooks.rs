//! Functions of this crate that the C library calls: when a thread ends, in a forked child, and when the process ends.
//!
//! They are safe functions, so that they may be called with any value.

use std::{
    ffi::{c_int, c_void},
    ptr,
    sync::{Mutex, PoisonError},
};

/// `PTHREAD_DESTRUCTOR_ITERATIONS`, for which the libc crate has no name; 4 in glibc and musl.
pub(crate) const DESTRUCTOR_ROUNDS: usize = 4;

/// A function that is called when a thread ends.
pub(crate) type AtEnd = extern "C" fn(*mut c_void);

/// A function that is called on each thread that asks for it, when that thread has returned, was cancelled or has
/// called `pthread_exit`: after its thread-local destructors, once in each round in which the thread has asked. There
/// are [`DESTRUCTOR_ROUNDS`].
#[derive(Clone, Copy)]
pub(crate) struct EndOfThread(libc::pthread_key_t);

impl EndOfThread {
    /// Costs one of the process's pthread keys, for good. `None`: there is none left.
    pub(crate) fn new(function: AtEnd) -> Option<Self> {
        let mut key = 0;
        // SAFETY: `key` has room for the key, and `function` may be called with any value.
        let result = unsafe { libc::pthread_key_create(&raw mut key, Some(function)) };
        (result == 0).then_some(Self(key))
    }

    /// Has it called on this thread, once more if it is already running. Does nothing if there is no memory for that.
    pub(crate) fn ask(self) {
        // SAFETY: nobody deletes the key, and any value but null will do.
        unsafe { libc::pthread_setspecific(self.0, ptr::without_provenance(1)) };
    }
}

/// Has `function` called when the C library destroys this thread's thread-locals: before those that were registered
/// earlier. It never gives the entry back before the thread's end.
///
/// Takes the linker's lock.
pub(crate) fn at_end_of_thread_locals(function: AtEnd) {
    unsafe extern "C" {
        fn __cxa_thread_atexit_impl(
            destructor: AtEnd,
            object: *mut c_void,
            image: *const c_void,
        ) -> c_int;
    }
    // The address of a static tells libc which object the destructor belongs to.
    static OF_THIS_OBJECT: u8 = 0;
    // SAFETY: `function` may be called with any value. If this crate is not in the executable, the loader keeps its
    // object until the thread has ended, because `OF_THIS_OBJECT` lies in it.
    unsafe {
        __cxa_thread_atexit_impl(
            function,
            ptr::null_mut(),
            (&raw const OF_THIS_OBJECT).cast(),
        )
    };
}

/// Has `function` called in each child that this process forks, before the child's own code runs. Does nothing if
/// there is no memory for that.
///
/// # Safety
/// It calls only what is allowed between `fork` and `exec`.
pub(crate) unsafe fn in_forked_children(function: extern "C" fn()) {
    unsafe extern "C" {
        fn pthread_atfork(
            prepare: Option<extern "C" fn()>,
            parent: Option<extern "C" fn()>,
            child: Option<extern "C" fn()>,
        ) -> c_int;
    }
    // SAFETY: a safe function, which calls only what is allowed there (`# Safety` of this function).
    unsafe { pthread_atfork(None, None, Some(function)) };
}

/// Has `exit` call `function` once, before everything that was registered with the C library until now
/// ([`atexit(3)`](https://man7.org/linux/man-pages/man3/atexit.3.html)).
///
/// Takes back what this function has registered before. The C library offers no way to do that but to call it, so
/// `function` is called now, too, on this thread. If `exit` begins between taking back and registering, it calls
/// `function` after the function that it was about to call.
pub(crate) fn call_first_at_exit(function: AtEnd) {
    unsafe extern "C" {
        fn __cxa_atexit(function: AtEnd, argument: *mut c_void, object: *const c_void) -> c_int;
        fn __cxa_finalize(object: *const c_void);
    }
    // Its address stands for an object that has registered one function.
    static OBJECT: u8 = 0;
    static TURN: Mutex<()> = Mutex::new(());
    let object = (&raw const OBJECT).cast();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: calls what was registered for `OBJECT`, here: safe functions, which may be called with any value.
    unsafe { __cxa_finalize(object) };
    // SAFETY: `function` may be called with any value. If this crate is not in the executable, its object must stay
    // mapped until the process ends, because hotswap's threads run in it.
    unsafe { __cxa_atexit(function, ptr::null_mut(), object) };
}
