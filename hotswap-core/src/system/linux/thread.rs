//! Threads of this process, by their numbers: their names, whether they live, and where they are.
//!
//! A number is the system's; another thread may get it when the first has ended.

use std::{
    ffi::{c_int, c_void},
    fs, io, mem,
    os::unix::thread::JoinHandleExt,
    ptr,
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use super::memory::page_bytes;

/// The calling thread's number. A system call, also for signal handlers.
///
/// By number: glibc has `gettid` only since 2.30, and rustix looks for that with `dlsym`, which no handler may call.
pub(crate) fn this() -> c_int {
    // SAFETY: `gettid` has no arguments and no conditions.
    let number = unsafe { libc::syscall(libc::SYS_gettid) };
    // The kernel returns a `pid_t`, which is a `c_int`.
    number as c_int
}

/// The calling thread's name; empty if it cannot be read. A system call.
pub(crate) fn own_name() -> String {
    rustix::thread::name().map_or_else(
        |_| String::new(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The name of a thread of this process, which the system cuts to 15 bytes; empty if it is gone. Reads a file.
pub(crate) fn name_of(thread: u32) -> String {
    let name = fs::read_to_string(format!("/proc/self/task/{thread}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// Whether a thread of this process has not ended yet. A system call.
pub(crate) fn lives(thread: c_int) -> bool {
    let process = std::process::id();
    // SAFETY: signal 0 is never delivered; the call only asks whether a signal could be sent.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) } == 0;
    // Dead only if the system says ESRCH, for a sandbox may forbid to ask. /proc would not do: where it is not
    // mounted, every thread would look dead.
    sent || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// The numbers of all threads of the process. `None`: the system does not list them.
pub(crate) fn all() -> Option<Vec<u32>> {
    let mut threads = Vec::new();
    for task in fs::read_dir("/proc/self/task").ok()? {
        threads.push(task.ok()?.file_name().to_str()?.parse().ok()?);
    }
    Some(threads)
}

/// How many threads the process has. `None`: the system does not say. Reads a file.
pub(crate) fn count() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let count = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"));
    count?.trim().parse().ok()
}

/// A thread that is blocked in a system call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// Its stack pointer.
    pub(crate) stack: usize,
    /// The address of its next instruction.
    pub(crate) next: usize,
}

/// Where a thread is blocked. `None`: it is running, or blocked outside of a system call. Reads a file.
///
/// # Errors
/// The thread has ended, or this system does not provide the file.
pub(crate) fn blocked(thread: u32) -> io::Result<Option<Blocked>> {
    let state = fs::read_to_string(format!("/proc/self/task/{thread}/syscall"))?;
    Ok(Blocked::of(&state))
}

impl Blocked {
    /// Reads `number arguments… stack-pointer program-counter` (man 5 proc_pid_syscall), or `running`, or `-1 …`.
    fn of(state: &str) -> Option<Self> {
        let words: Vec<&str> = state.split_whitespace().collect();
        let [number, .., stack, next] = words[..] else {
            return None;
        };
        number.parse::<u32>().ok()?;
        let address = |text: &str| usize::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        Some(Self {
            stack: address(stack)?,
            next: address(next)?,
        })
    }
}

/// A thread that is about to end. If this is dropped, nobody waits for the end.
pub(crate) struct Ending(libc::pthread_t);

impl Ending {
    pub(crate) fn new(thread: JoinHandle<()>) -> Self {
        Self(thread.into_pthread_t())
    }

    /// Waits at most `timeout` until the thread has ended, including the last destructor of its thread-locals.
    /// (`JoinHandle::is_finished` does not wait for those.)
    ///
    /// # Errors
    /// It has not ended.
    pub(crate) fn join(self, timeout: Duration) -> Result<(), Self> {
        let deadline = SystemTime::now() + timeout;
        let deadline = deadline
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let deadline = libc::timespec {
            tv_sec: deadline.as_secs().cast_signed(),
            tv_nsec: deadline.subsec_nanos().into(),
        };
        // The deadline is by the wall clock, because `pthread_clockjoin_np` needs glibc 2.31; if the clock is set
        // back, this waits longer, at worst until the thread ends.
        // SAFETY: `new` took the thread's only `JoinHandle`, and this gives the thread up once it is joined. So nobody
        // has joined or detached it.
        let joined =
            unsafe { libc::pthread_timedjoin_np(self.0, ptr::null_mut(), &raw const deadline) };
        if joined == 0 { Ok(()) } else { Err(self) }
    }
}

/// What a thread of the C library runs. It may be left by forced unwinding (`pthread_exit`, or when it is cancelled).
pub(crate) type StartRoutine = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// Starts a thread as `pthread_create` does, for somebody who has called that. Returns 0 or an error number.
///
/// # Safety
/// `thread` and `attributes` are valid for `pthread_create`, and `argument` for `start`.
pub(crate) unsafe fn create(
    thread: *mut c_void,
    attributes: *const c_void,
    start: StartRoutine,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: only the ABI's name differs: libc's type for it does not say that forced unwinding may leave the
    // function.
    let start =
        unsafe { mem::transmute::<StartRoutine, extern "C" fn(*mut c_void) -> *mut c_void>(start) };
    // SAFETY: `thread` and `attributes` are valid for `pthread_create`, and `argument` for `start` (`# Safety` of this
    // function).
    unsafe { libc::pthread_create(thread.cast(), attributes.cast(), start, argument) }
}

/// Gives the unused part of the calling thread's stack back to the system, which would otherwise stay resident for as
/// long as the thread lives.
#[inline(never)]
pub(crate) fn give_back_stack() {
    /// The stack below `here` that may be in use: the rest of this frame, and the frame of the system call.
    const IN_USE_BYTES: usize = 2 << 10;
    let here = 0_u8;
    let end = (&raw const here).addr().saturating_sub(IN_USE_BYTES);
    let end = end & !(page_bytes() - 1);
    let Some(start) = stack_start() else { return };
    let length = end.saturating_sub(start.addr());
    if length > 0 {
        // SAFETY: these are pages of this thread's own stack, from its far end to `IN_USE_BYTES` below `here`. Stacks
        // grow downwards on all systems that this crate compiles for, so the pages belonged to calls that have
        // returned, and nothing points into them. A signal handler may use them, but only before or after the system
        // call. The result is ignored: if the call fails, the pages merely stay resident.
        unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) };
    }
}

/// The lowest usable address of the calling thread's stack, above its guard page.
fn stack_start() -> Option<*mut c_void> {
    // SAFETY: no conditions.
    let this = unsafe { libc::pthread_self() };
    let mut attributes = mem::MaybeUninit::uninit();
    // SAFETY: the calling thread is alive, and `attributes` has room for what is written.
    if unsafe { libc::pthread_getattr_np(this, attributes.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: `pthread_getattr_np` has succeeded, so it has written them.
    let mut attributes = unsafe { attributes.assume_init() };
    let (mut start, mut bytes) = (ptr::null_mut(), 0);
    // SAFETY: `attributes` is initialised, and `start` and `bytes` have room for the answers.
    let result = unsafe {
        libc::pthread_attr_getstack(&raw const attributes, &raw mut start, &raw mut bytes)
    };
    // SAFETY: `attributes` is initialised, and not used after this.
    unsafe { libc::pthread_attr_destroy(&raw mut attributes) };
    (result == 0).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_thread_in_a_system_call_has_addresses() {
        let call = "202 0x7f 0x80 0x1 0x0 0x0 0xffffffff 0x7ffd5a0 0x7f1234\n";
        let expected = Blocked {
            stack: 0x7ffd5a0,
            next: 0x7f1234,
        };
        assert_eq!(Blocked::of(call), Some(expected));
        assert_eq!(Blocked::of("running\n"), None);
        assert_eq!(Blocked::of("-1 0x7ffd5a0 0x7f1234\n"), None);
        assert_eq!(Blocked::of(""), None);
    }
}
