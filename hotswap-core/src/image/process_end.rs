//! The end of the process, while an image leaves.
//!
//! `exit` calls what images have registered with the C library: with `atexit`, and the destructors of C++ statics. It
//! holds no lock while it calls them, so that `dlclose` on another thread unmaps an image whose function runs at that
//! moment (glibc 2.36, seen 2026-11: an image with a `std::map` in a static crashed nearly every process whose `main`
//! returned right after a swap). And a hook and such a destructor may both stop the same thread.
//!
//! So the C library calls a function of hotswap first. It waits for hooks that run and for images that are being
//! closed, and from then on no hook begins and no image goes on leaving: what is still mapped is left to `exit`.
//!
//! The two interleavings: if the work has begun first, [`UnloadingWork`] is counted, and `exit` waits for it before it
//! calls anything of the image. If `exit` has called hotswap's function first, [`begin`] finds that.
//!
//! # What it does not know
//! A function that an image registers between one [`watch_for`] and the next (in a call: the static of a C++ function)
//! is called before hotswap's, and so is one if `exit` begins within the microsecond in which [`watch_for`] registers
//! anew. If the image is closed while that function still runs, nothing stops that. The same holds for a candidate that
//! cannot be linked, for libraries, and for `quick_exit`.

use std::{
    cell::Cell,
    ffi::c_void,
    process,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use crate::system::hooks;

/// What the process waits for at most when it ends. A hook or a finaliser that waits for the thread that has called
/// `exit` never returns.
const WORK_TIMEOUT: Duration = Duration::from_secs(5);

/// Something that must not run while `exit` calls functions of the same image, until this is dropped.
pub(super) struct UnloadingWork(());

struct ProcessEnd {
    has_begun: bool,
    work: usize,
}

static END: Mutex<ProcessEnd> = Mutex::new(ProcessEnd {
    has_begun: false,
    work: 0,
});
static WORK_ENDED: Condvar = Condvar::new();

/// The process that this is about. A forked child has nothing to wait for: it has none of the threads.
static PROCESS: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// The work that this thread is in.
    static OWN_WORK: Cell<usize> = const { Cell::new(0) };
    static IS_REGISTERING: Cell<bool> = const { Cell::new(false) };
}

/// Has [`at_exit`] called before everything that was registered until now. Call it after code of an image may have
/// registered something.
pub(crate) fn watch_for() {
    if has_begun() {
        return;
    }
    // Relaxed: it never changes in a process that has other threads by then.
    PROCESS.store(process::id(), Ordering::Relaxed);
    IS_REGISTERING.set(true);
    hooks::call_first_at_exit(at_exit);
    IS_REGISTERING.set(false);
}

/// Whether the process has begun to end. If so, nothing leaves any more.
pub(crate) fn has_begun() -> bool {
    end().has_begun
}

/// Begins work, unless the process has begun to end.
pub(super) fn begin() -> Option<UnloadingWork> {
    let mut end = end();
    if end.has_begun {
        return None;
    }
    end.work += 1;
    Some(UnloadingWork(()))
}

/// Stops the calling thread, because the process ends.
pub(super) fn wait_for_it() -> ! {
    loop {
        thread::park();
    }
}

impl UnloadingWork {
    /// Does it, on this thread. If it calls `exit`, that does not wait for it.
    pub(super) fn run<T>(self, work: impl FnOnce() -> T) -> T {
        OWN_WORK.set(OWN_WORK.get() + 1);
        let result = work();
        OWN_WORK.set(OWN_WORK.get() - 1);
        result
    }
}

impl Drop for UnloadingWork {
    fn drop(&mut self) {
        end().work -= 1;
        WORK_ENDED.notify_all();
    }
}

extern "C" fn at_exit(_: *mut c_void) {
    if IS_REGISTERING.get() || process::id() != PROCESS.load(Ordering::Relaxed) {
        return;
    }
    let mut end = end();
    if end.has_begun {
        return;
    }
    end.has_begun = true;
    let own = OWN_WORK.get();
    drop(WORK_ENDED.wait_timeout_while(end, WORK_TIMEOUT, |end| end.work > own));
}

fn end() -> MutexGuard<'static, ProcessEnd> {
    END.lock().unwrap_or_else(PoisonError::into_inner)
}
