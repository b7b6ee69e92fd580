//! Signals by which the kernel or the C library ends a process whose code has failed, and a handler that reports them.
//!
//! # Invariants
//! - Between the beginning of [`handle`] and the call of the handler that was there before, nothing allocates, takes a
//!   lock, or calls a function of libc that is neither async-signal-safe (signal-safety(7)) nor a plain system call.
//!   The stack may be small: it is the alternate one.
//! - Only the thread whose number is in [`REPORTER`], without [`HAS_REPORTED`], uses [`SCRATCH`].

mod context;

mod alternate_stack;

mod line;

mod maps;

use std::{
    cell::UnsafeCell,
    ffi::{c_int, c_void},
    io, mem, ptr,
    sync::{
        OnceLock,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::errno::Errno;

use self::context::registers;
pub(crate) use self::{
    alternate_stack::AlternateStack,
    context::Crash,
    line::Line,
    maps::{MappedCode, Maps},
};
use super::signals;

/// The signals that are handled. A Rust `abort` and a failed `assert` of C end in SIGABRT. What compilers put where
/// code must not come (`llvm.trap`) raises SIGILL on x86-64 and SIGTRAP on ARM.
const SIGNALS: [c_int; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
    libc::SIGTRAP,
];

/// How long a thread that crashes meanwhile waits for the report of another, and for what is called after it. Longer
/// than a report waits for standard error.
const OTHER_REPORT_MAX: Duration = Duration::from_secs(3);

/// How long it waits for the reports of all others.
const OTHER_REPORTS_MAX: Duration = Duration::from_secs(10);

/// More than handlers use of a stack that is not an alternate one.
const HANDLERS_BYTES_MAX: usize = 64 * 1024;

/// What is called first on the thread that has crashed, on its alternate stack if it has one. It has to be
/// async-signal-safe.
pub(crate) type Report = fn(&Crash, &mut Maps, &mut Line);

/// What handlers write to. It is not on the stack, which may be small.
struct Scratch {
    line: UnsafeCell<Line>,
    maps: UnsafeCell<Maps>,
}

// SAFETY: only one thread uses it (invariant of this module).
unsafe impl Sync for Scratch {}

static REPORT: OnceLock<Report> = OnceLock::new();

static BEFORE: [OnceLock<libc::sigaction>; SIGNALS.len()] =
    [const { OnceLock::new() }; SIGNALS.len()];

/// The number of the thread that reports, with the bits below, or 0 if nobody reports or what was reported may have
/// been mended.
static REPORTER: AtomicU32 = AtomicU32::new(0);

/// Its report is complete. No number of a thread has this bit (`PID_MAX_LIMIT` of Linux is 2^22).
const HAS_REPORTED: u32 = 1 << 31;

/// So has what is called after it returned.
const HAS_RETURNED: u32 = 1 << 30;

/// Where the handler's frame is on the stack of the thread that has reported. Only that thread uses it.
static REPORTED_FROM: AtomicUsize = AtomicUsize::new(0);

static SCRATCH: Scratch = Scratch {
    line: UnsafeCell::new(Line::NEW),
    maps: UnsafeCell::new(Maps::NEW),
};

/// Has `report` called when the process crashes. After it, what was there before is called or done.
///
/// # Errors
///
/// It was called before, or the system refuses the handler.
pub(crate) fn report_crashes(report: Report) -> io::Result<()> {
    if REPORT.set(report).is_err() {
        let message = "crashes are reported already";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    for (signal, before) in SIGNALS.into_iter().zip(&BEFORE) {
        // Before the handler can be called.
        let _ = before.set(action(signal, None)?);
    }
    // SAFETY: zeros are a valid action, with an empty mask.
    let mut ours: libc::sigaction = unsafe { mem::zeroed() };
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    ours.sa_sigaction = handle as Handler as usize;
    // No other handler interrupts the report: it would need room on the same stack. A crash of the report is passed on.
    // SAFETY: the mask is a set.
    unsafe { libc::sigfillset(&raw mut ours.sa_mask) };
    for signal in SIGNALS {
        // SAFETY: the mask is a set.
        unsafe { libc::sigdelset(&raw mut ours.sa_mask, signal) };
    }
    for signal in SIGNALS {
        action(signal, Some(&ours))?;
    }
    Ok(())
}

/// Whether [`report_crashes`] was called.
pub(crate) fn is_reported() -> bool {
    REPORT.get().is_some()
}

type Handler = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// The action of a signal, which is replaced if there is another.
fn action(signal: c_int, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    // SAFETY: zeros are a valid action.
    let mut old: libc::sigaction = unsafe { mem::zeroed() };
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `new` is null or an action whose handler takes these arguments, and `old` has room for one.
    match unsafe { libc::sigaction(signal, new, &raw mut old) } {
        0 => Ok(old),
        _ => Err(io::Error::last_os_error()),
    }
}

/// # Safety
///
/// The kernel calls it, with the arguments of a handler with `SA_SIGINFO`.
unsafe extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    // SAFETY: the kernel passes a valid `info`.
    let said = unsafe { &*info };
    // SAFETY: the kernel passes a `ucontext_t`.
    let interrupted = unsafe { &*context.cast() };
    let frame = ptr::from_ref(&errno).addr();
    let was_reported = is_mine(said) && report_once(signal, said, interrupted, frame);
    Errno::set_raw(errno);
    // SAFETY: the kernel has passed these arguments to a handler of this signal (`# Safety` of this function).
    let may_be_mended = unsafe { pass_on(signal, info, context) };
    if was_reported {
        let own = super::thread::this().cast_unsigned() | HAS_REPORTED;
        // What is not mended ends the process in a moment: until then no other thread shall report.
        let next = if may_be_mended { 0 } else { own | HAS_RETURNED };
        // It fails if that took long and another thread has reported meanwhile.
        // Release: the next reporter uses the scratch after this one.
        let _ = REPORTER.compare_exchange(own, next, Ordering::Release, Ordering::Relaxed);
    }
}

/// Whether the process has raised the signal itself, and no other process has sent it: a supervisor may send SIGABRT to
/// a process that hangs.
fn is_mine(info: &libc::siginfo_t) -> bool {
    // SAFETY: the field is there for each signal that was sent; for others it is not looked at.
    info.si_code > 0 || unsafe { info.si_pid() } == std::process::id().cast_signed()
}

/// Reports, unless this thread is reporting already: then the report has crashed, or what was called after it. Waits
/// for the reports of other threads, and gives up if one is not done in time. `frame` is that of the handler. Returns
/// whether it has reported.
fn report_once(
    signal: c_int,
    info: &libc::siginfo_t,
    context: &libc::ucontext_t,
    frame: usize,
) -> bool {
    let thread = super::thread::this().cast_unsigned();
    let (mut free, mut seen) = (0, 0);
    let (mut waited, mut waited_in_all) = (Duration::ZERO, Duration::ZERO);
    // Acquire: pairs with the Releases in `handle` and below.
    while let Err(now) =
        REPORTER.compare_exchange(free, thread, Ordering::Acquire, Ordering::Relaxed)
    {
        let has_reported = now & HAS_REPORTED != 0;
        free = 0;
        if now != seen {
            (seen, waited) = (now, Duration::ZERO);
        }
        if now & !(HAS_REPORTED | HAS_RETURNED) == thread {
            // Relaxed: this thread has stored it.
            let frame = REPORTED_FROM.load(Ordering::Relaxed);
            let has_left = now & HAS_RETURNED != 0 || !is_in_handler(context, frame);
            if !has_reported || !has_left {
                return false;
            }
            // A handler has returned, or has left the crash by a jump, and this is another crash.
            free = now;
        } else if waited < OTHER_REPORT_MAX && waited_in_all < OTHER_REPORTS_MAX {
            // Another thread most likely ends the process. It shall finish its line first.
            let paused = pause();
            waited += paused;
            waited_in_all += paused;
        } else if has_reported {
            // It has not ended it.
            free = now;
        } else {
            return false;
        }
    }
    // SAFETY: the number of this thread is in `REPORTER`, and the code below does not come here again.
    let line = unsafe { &mut *SCRATCH.line.get() };
    // SAFETY: the number of this thread is in `REPORTER`, and the code below does not come here again.
    let maps = unsafe { &mut *SCRATCH.maps.get() };
    line.clear();
    if let Some(report) = REPORT.get() {
        report(&Crash::new(signal, info, context), maps, line);
    }
    // Relaxed: only this thread loads it.
    REPORTED_FROM.store(frame, Ordering::Relaxed);
    // Release: whoever takes its place uses the scratch after this thread.
    REPORTER.store(thread | HAS_REPORTED, Ordering::Release);
    true
}

/// Whether a handler was interrupted that has its frame there, or what it has called.
fn is_in_handler(context: &libc::ucontext_t, frame: usize) -> bool {
    let alternate = &context.uc_stack;
    let start = alternate.ss_sp.addr();
    let end = start.saturating_add(alternate.ss_size);
    let (_, stack) = registers(context);
    // On the thread's own stack it has not used much. On an alternate one it may have used more than there is.
    let (start, end) = if (start..end).contains(&frame) {
        (start, end)
    } else {
        (frame, frame)
    };
    (start.saturating_sub(HANDLERS_BYTES_MAX)..end).contains(&stack)
}

/// Sleeps for a moment, and returns how long.
fn pause() -> Duration {
    const MOMENT: Duration = Duration::from_millis(1);
    let moment = libc::timespec {
        tv_sec: 0,
        tv_nsec: MOMENT.subsec_nanos().into(),
    };
    // SAFETY: a valid time. It is not told how much is left.
    unsafe { libc::nanosleep(&raw const moment, ptr::null_mut()) };
    MOMENT
}

/// Does what would have been done without the handler. Returns whether that may have mended what has failed. If not,
/// the process most likely ends when the handler returns.
///
/// # Safety
///
/// The kernel has passed these arguments to a handler of this signal with `SA_SIGINFO`.
unsafe fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) -> bool {
    let place = SIGNALS.iter().position(|it| *it == signal);
    let Some(before) = place.and_then(|place| BEFORE[place].get()) else {
        return true;
    };
    // SAFETY: the kernel passes a valid `info`.
    let was_sent = unsafe { (*info).si_code } <= 0;
    match before.sa_sigaction {
        // `abort` ends the process also if its signal is ignored, and if handlers return (abort(3)).
        libc::SIG_IGN if was_sent => return signal != libc::SIGABRT,
        libc::SIG_DFL | libc::SIG_IGN => {
            let _ = action(signal, Some(before));
            // An instruction that has failed is run again. `int3` of x86-64 is not.
            if was_sent || signal == libc::SIGTRAP {
                // Blocked until this handler has returned, so that a core dump shows where it was sent.
                block(signal);
                // SAFETY: sends a signal to the calling thread.
                unsafe { libc::raise(signal) };
            }
            return false;
        }
        _ => {}
    }
    let own = signals::handler(signal);
    // What the kernel does for a handler.
    if before.sa_flags & libc::SA_RESETHAND != 0 {
        // SAFETY: zeros are a valid action, the default one.
        let _ = action(signal, Some(&unsafe { mem::zeroed() }));
    }
    // SAFETY: the kernel passes a `ucontext_t`.
    let interrupted = unsafe { &*context.cast::<libc::ucontext_t>() };
    // SAFETY: both are sets, and the old one is not asked for.
    unsafe {
        libc::pthread_sigmask(
            libc::SIG_SETMASK,
            &raw const interrupted.uc_sigmask,
            ptr::null_mut(),
        )
    };
    // SAFETY: it is a set, and the old one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const before.sa_mask, ptr::null_mut()) };
    if before.sa_flags & libc::SA_NODEFER == 0 {
        block(signal);
    }
    let abort = yield_abort(interrupted);
    if before.sa_flags & libc::SA_SIGINFO != 0 {
        // SAFETY: it is the address of a handler of this type, by its flag.
        let before = unsafe { mem::transmute::<usize, Handler>(before.sa_sigaction) };
        // SAFETY: the kernel would have passed it these arguments (`# Safety` of this function).
        unsafe { before(signal, info, context) };
    } else {
        type Simple = unsafe extern "C" fn(c_int);
        // SAFETY: it is the address of a handler of this type, without the flag.
        let before = unsafe { mem::transmute::<usize, Simple>(before.sa_sigaction) };
        // SAFETY: the kernel would have passed it this argument (`# Safety` of this function).
        unsafe { before(signal) };
    }
    if let Some(abort) = abort {
        abort.take_back();
    }
    // A handler that gives up sets the default action, as the standard library's does, or puts back the one before it.
    signals::handler(signal) == own && signal != libc::SIGABRT
}

/// What [`yield_abort`] has changed.
struct YieldedAbort {
    own: libc::sigaction,
    before: &'static libc::sigaction,
}

/// If this runs on a small alternate stack, lets SIGABRT do what it did before this module handled it.
///
/// The handler that is called next may abort, as the standard library's does when a stack is used up. That is no second
/// crash, and a small stack has no room for a second frame of the kernel. While such a handler runs, and for good if it
/// leaves by a jump, no abort is reported.
fn yield_abort(interrupted: &libc::ucontext_t) -> Option<YieldedAbort> {
    let stack = &interrupted.uc_stack;
    let alternate = stack.ss_sp.addr()..stack.ss_sp.addr().saturating_add(stack.ss_size);
    let here = ptr::from_ref(&stack).addr();
    if !alternate.contains(&here) || stack.ss_size >= AlternateStack::BYTES {
        return None;
    }
    let place = SIGNALS.iter().position(|it| *it == libc::SIGABRT)?;
    let before = BEFORE[place].get()?;
    let own = action(libc::SIGABRT, None).ok()?;
    // Not if another thread has done so, or the host has set its own.
    if own.sa_sigaction != handle as Handler as usize {
        return None;
    }
    action(libc::SIGABRT, Some(before)).ok()?;
    Some(YieldedAbort { own, before })
}

impl YieldedAbort {
    /// Handles SIGABRT again, unless the handler that was called has set another action: it may end the process by it.
    fn take_back(self) {
        if signals::handler(libc::SIGABRT) == self.before.sa_sigaction {
            let _ = action(libc::SIGABRT, Some(&self.own));
        }
    }
}

/// Blocks a signal for the calling thread until the handler returns, which sets the mask of what it has interrupted.
fn block(signal: c_int) {
    // SAFETY: zeros are a valid set.
    let mut signals: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: a set, and a signal's number.
    unsafe { libc::sigaddset(&raw mut signals, signal) };
    // SAFETY: a set, and the old one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, ptr::null_mut()) };
}
