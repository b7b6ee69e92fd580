//! What a thread can change about itself, and what the threads that it starts inherit.
//!
//! A thread that runs code of several owners in turn must be as it was started. Otherwise the first decides under which
//! signal mask, on which processors and with which rounding the next one runs.
//!
//! # What it does not see
//! A working directory or a descriptor table that the thread has made its own (`unshare`), a seccomp filter on top of
//! another, its I/O priority, its memory policy, its protection keys, how it is protected from speculation, whether it
//! can be cancelled, and the robust mutexes that it holds.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::arch::asm;
use std::{ffi::CString, fs, path::PathBuf, ptr};

use nix::{
    sys::signal::SigSet,
    unistd::{Gid, getgroups},
};
use rustix::{
    process::getpriority_process,
    thread::{
        CapabilitySet, CapabilitySets, CpuSet, SecureComputingMode, capabilities, name,
        no_new_privs, sched_getaffinity, secure_computing_mode,
    },
};

/// The state of the calling thread, as far as the system lets the process read it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ThreadState {
    name: Option<CString>,
    /// Bit `n - 1` stands for signal `n`.
    blocked_signals: Option<u64>,
    processors: Option<CpuSet>,
    nice: Option<i32>,
    /// `SCHED_OTHER` and the like, and the priority among threads of that policy.
    policy: (i32, i32),
    /// The real, the effective and the saved user, and the one as whom it opens files. Linux knows them by thread, and
    /// only libc's functions change those of all threads together.
    users: [u32; 4],
    /// The same of groups.
    groups: [u32; 4],
    supplementary_groups: Option<Vec<Gid>>,
    capabilities: Option<CapabilitySets>,
    secure_bits: i32,
    no_new_privileges: Option<bool>,
    seccomp: Option<SecureComputingMode>,
    /// Only of a thread that may enter another namespace.
    namespaces: Option<[Option<PathBuf>; NAMESPACES.len()]>,
    /// Start, flags and size.
    signal_stack: (usize, i32, usize),
    /// How late timers may be, in nanoseconds.
    timer_slack: i32,
    /// The execution domain (`personality(2)`).
    personality: i32,
    locale: usize,
    floating_point: u64,
}

/// The namespaces that one thread of several can enter.
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid_for_children", "uts"];

impl ThreadState {
    /// Costs some 2 µs, and some 10 µs if the thread has `CAP_SYS_ADMIN` (2026-11).
    pub(crate) fn now() -> Self {
        let capabilities = capabilities(None).ok();
        let may_enter_namespaces =
            capabilities.is_none_or(|it| it.effective.contains(CapabilitySet::SYS_ADMIN));
        let namespace = |name| fs::read_link(format!("/proc/thread-self/ns/{name}")).ok();
        Self {
            name: name().ok(),
            blocked_signals: blocked_signals(),
            processors: sched_getaffinity(None).ok(),
            nice: getpriority_process(None).ok(),
            policy: policy(),
            users: users(),
            groups: groups(),
            supplementary_groups: getgroups().ok(),
            capabilities,
            // SAFETY: asks for a number.
            secure_bits: unsafe { libc::prctl(libc::PR_GET_SECUREBITS) },
            no_new_privileges: no_new_privs().ok(),
            seccomp: secure_computing_mode().ok(),
            namespaces: may_enter_namespaces.then(|| NAMESPACES.map(namespace)),
            signal_stack: signal_stack(),
            // SAFETY: asks for a number.
            timer_slack: unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) },
            // SAFETY: this value asks, and changes nothing.
            personality: unsafe { libc::personality(0xffff_ffff) },
            // SAFETY: a null pointer changes nothing.
            locale: unsafe { libc::uselocale(ptr::null_mut()) }.addr(),
            floating_point: floating_point(),
        }
    }
}

fn blocked_signals() -> Option<u64> {
    let blocked = SigSet::thread_get_mask().ok()?;
    let is_blocked = |signal| {
        // SAFETY: `blocked` is a whole set, and 1 to 64 are the numbers of Linux's signals.
        unsafe { libc::sigismember(blocked.as_ref(), signal) == 1 }
    };
    let bits = (1..=64).filter(|&signal| is_blocked(signal));
    Some(bits.fold(0, |bits, signal| bits | 1 << (signal - 1)))
}

fn policy() -> (i32, i32) {
    let mut parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: 0 is the calling thread, and `parameters` has room for the answer. If this fails, 0 stays there.
    unsafe { libc::sched_getparam(0, &raw mut parameters) };
    // SAFETY: 0 is the calling thread.
    let policy = unsafe { libc::sched_getscheduler(0) };
    (policy, parameters.sched_priority)
}

/// What `setfsuid` and `setfsgid` are asked with: no user or group has this number, so that they change nothing.
const NOBODY: u32 = u32::MAX;

fn users() -> [u32; 4] {
    let [mut real, mut effective, mut saved] = [NOBODY; 3];
    // SAFETY: each of the three has room for the answer.
    unsafe { libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved) };
    // SAFETY: no condition.
    let for_files = unsafe { libc::setfsuid(NOBODY) };
    [real, effective, saved, for_files.cast_unsigned()]
}

fn groups() -> [u32; 4] {
    let [mut real, mut effective, mut saved] = [NOBODY; 3];
    // SAFETY: each of the three has room for the answer.
    unsafe { libc::getresgid(&raw mut real, &raw mut effective, &raw mut saved) };
    // SAFETY: no condition.
    let for_files = unsafe { libc::setfsgid(NOBODY) };
    [real, effective, saved, for_files.cast_unsigned()]
}

fn signal_stack() -> (usize, i32, usize) {
    let mut stack = libc::stack_t {
        ss_sp: ptr::null_mut(),
        ss_flags: 0,
        ss_size: 0,
    };
    // SAFETY: a null pointer changes nothing, and `stack` has room for the answer.
    unsafe { libc::sigaltstack(ptr::null(), &raw mut stack) };
    (stack.ss_sp.addr(), stack.ss_flags, stack.ss_size)
}

/// How the processor rounds, what it does with subnormal numbers, and which exceptions it raises. A C library that is
/// linked with `-ffast-math` changes this in an initialiser.
fn floating_point() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        /// The flags of `MXCSR` that say which exceptions have happened.
        const HAPPENED: u32 = 0x3f;
        let (mut sse, mut x87) = (0_u32, 0_u16);
        // SAFETY: stores four bytes in `sse` and changes no register.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut sse, options(nostack, preserves_flags)) };
        // SAFETY: stores two bytes in `x87` and changes no register.
        unsafe { asm!("fnstcw [{}]", in(reg) &raw mut x87, options(nostack, preserves_flags)) };
        u64::from(sse & !HAPPENED) << 16 | u64::from(x87)
    }
    #[cfg(target_arch = "aarch64")]
    {
        let control: u64;
        // SAFETY: reads a register that every program may read.
        unsafe { asm!("mrs {}, fpcr", out(reg) control, options(nostack, preserves_flags)) };
        control
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    0
}

#[cfg(test)]
mod tests {
    use std::ffi::c_int;

    use super::*;

    /// One thing each that a thread can change about itself. Some need rights or processors, and change nothing then.
    const CHANGES: [(&str, fn()); 11] = [
        ("name", || rustix::thread::set_name(c"other").unwrap()),
        ("blocked_signals", || {
            let set = nix::sys::signal::SigSet::from(nix::sys::signal::Signal::SIGUSR1);
            set.thread_block().unwrap();
        }),
        ("processors", || {
            let all = rustix::thread::sched_getaffinity(None).unwrap();
            let mut first = rustix::thread::CpuSet::new();
            first.set((0..).find(|&it| all.is_set(it)).unwrap());
            rustix::thread::sched_setaffinity(None, &first).unwrap();
        }),
        ("nice", || {
            let nice = rustix::process::getpriority_process(None).unwrap();
            rustix::process::setpriority_process(None, (nice + 1).min(19)).unwrap();
        }),
        ("no_new_privileges", || {
            rustix::thread::set_no_new_privs(true).unwrap();
        }),
        ("namespaces", || {
            // SAFETY: only the thread's own view of the host name.
            unsafe { libc::unshare(libc::CLONE_NEWUTS) };
        }),
        ("signal_stack", || {
            let none = libc::stack_t {
                ss_sp: ptr::null_mut(),
                ss_flags: libc::SS_DISABLE,
                ss_size: 0,
            };
            // SAFETY: the thread runs on its own stack, and `none` is whole.
            let result = unsafe { libc::sigaltstack(&raw const none, ptr::null_mut()) };
            assert_eq!(result, 0);
        }),
        ("locale", || {
            // SAFETY: the name is a C string, and a null base makes a new locale.
            let locale =
                unsafe { libc::newlocale(libc::LC_ALL_MASK, c"C".as_ptr(), ptr::null_mut()) };
            // SAFETY: `newlocale` has made the locale just now.
            unsafe { libc::uselocale(locale) };
        }),
        ("timer_slack", || {
            // SAFETY: the thread's own slack, in nanoseconds.
            let result = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000_000_u64) };
            assert_eq!(result, 0);
        }),
        ("users", || {
            // SAFETY: only the user as whom this thread opens files.
            unsafe { libc::setfsuid(1) };
        }),
        ("floating_point", || {
            unsafe extern "C" {
                fn fesetround(mode: c_int) -> c_int;
            }
            const UPWARD: c_int = if cfg!(target_arch = "x86_64") {
                0x800
            } else {
                0x40_0000
            };
            // SAFETY: the thread does not calculate with it.
            let result = unsafe { fesetround(UPWARD) };
            assert_eq!(result, 0);
        }),
    ];

    #[test]
    fn every_change_is_seen() {
        for (what, change) in CHANGES {
            let thread = std::thread::spawn(move || {
                let before = ThreadState::now();
                change();
                (before, ThreadState::now())
            });
            let (before, after) = thread.join().unwrap();
            let may_be_denied = ["processors", "nice", "namespaces", "users"].contains(&what);
            assert!(before != after || may_be_denied, "{what}: {after:?}");
        }
    }
}
