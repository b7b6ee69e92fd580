//! Signals by which the kernel or the C library ends a process whose code has failed, and a handler that reports them.
//!
//! # Invariants
//! - Between the beginning of [`handle`] and its end, nothing allocates, takes a lock, or calls a function of libc that
//!   is not async-signal-safe (signal-safety(7)). The stack may be small: it is the alternate one.
//! - Only the thread whose number is in [`REPORTER`], without [`HAS_REPORTED`], uses [`SCRATCH`].

use std::{
    cell::UnsafeCell,
    ffi::{CStr, OsStr, c_int, c_void},
    io, mem,
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr,
    sync::{
        OnceLock,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::errno::Errno;

use super::memory::page_bytes;

/// The signals that are handled. A Rust `abort` and a failed `assert` of C end in SIGABRT. What compilers put where
/// code must not come (`llvm.trap`) raises SIGILL on x86-64 and SIGTRAP on ARM.
const SIGNALS: [(c_int, &str); 6] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGTRAP, "SIGTRAP"),
];

/// `<asm-generic/siginfo.h>` of Linux.
const SI_KERNEL: c_int = 0x80;

/// The longest line that is written. A longer one is cut.
const LINE_BYTES_MAX: usize = 2048;

/// How much of a stack is searched. A deeper one is not searched to its end.
const STACK_BYTES_MAX: usize = 1 << 20;

/// How long a thread that crashes meanwhile waits for the report of another.
const OTHER_REPORT_MAX: Duration = Duration::from_secs(1);

/// How long a report waits until standard error takes it.
const STDERR_MAX: Duration = Duration::from_secs(1);

/// What the system appends to the path of a file that is gone.
const DELETED: &[u8] = b" (deleted)";

/// What is called first on the thread that has crashed, on its alternate stack if it has one. It has to be
/// async-signal-safe.
pub(crate) type Report = fn(&Crash, &mut Maps, &mut Line);

/// What a signal says of a crash.
pub(crate) struct Crash {
    /// The name of the signal.
    pub(crate) signal: &'static str,
    /// The address that was accessed, if the signal says so.
    pub(crate) address: Option<usize>,
    /// The address of the instruction.
    pub(crate) instruction: usize,
    /// The number of the thread.
    pub(crate) thread: u32,
    stack: usize,
    thread_name: [u8; 16],
}

/// A line that is written with one system call. What is too much is cut.
pub(crate) struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    length: usize,
}

/// A reader of `/proc/self/maps`, with what it has read last.
pub(crate) struct Maps {
    line: MapsLine,
    part: [u8; 256],
}

/// The file that is mapped somewhere.
pub(crate) struct MappedFile {
    path: [u8; 256],
    length: usize,
    /// The offset in the file.
    pub(crate) offset: usize,
}

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

/// The number of the thread that reports, with the bit [`HAS_REPORTED`] once it has, or 0 if nobody reports or what was
/// reported was mended.
static REPORTER: AtomicU32 = AtomicU32::new(0);

/// No number of a thread has this bit (`PID_MAX_LIMIT` of Linux is 2^22).
const HAS_REPORTED: u32 = 1 << 31;

/// Where the handler's frame is on the stack of the thread that has reported. Only that thread uses it.
static REPORTED_FROM: AtomicUsize = AtomicUsize::new(0);

static SCRATCH: Scratch = Scratch {
    line: UnsafeCell::new(Line {
        bytes: [0; LINE_BYTES_MAX],
        length: 0,
    }),
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
    for ((signal, _), before) in SIGNALS.iter().zip(&BEFORE) {
        // Before the handler can be called.
        let _ = before.set(action(*signal, None)?);
    }
    // SAFETY: zeros are a valid action, with an empty mask.
    let mut ours: libc::sigaction = unsafe { mem::zeroed() };
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
    ours.sa_sigaction = handle as Handler as usize;
    // No other handler interrupts the report: it would need room on the same stack. A crash of the report is passed on.
    // SAFETY: the mask is a set.
    unsafe { libc::sigfillset(&raw mut ours.sa_mask) };
    for (signal, _) in SIGNALS {
        // SAFETY: the mask is a set.
        unsafe { libc::sigdelset(&raw mut ours.sa_mask, signal) };
    }
    for (signal, _) in SIGNALS {
        action(signal, Some(&ours))?;
    }
    Ok(())
}

/// Whether [`report_crashes`] was called.
pub(crate) fn is_reported() -> bool {
    REPORT.get().is_some()
}

/// A stack for signal handlers. It is unmapped when this is dropped.
pub(crate) struct AlternateStack {
    start: *mut c_void,
    bytes: usize,
}

impl AlternateStack {
    /// The kernel writes the processor's registers to it, which takes up to 11 KiB (AMX, `AT_MINSIGSTKSZ`).
    const BYTES: usize = 64 * 1024;

    /// Gives the calling thread a stack for signal handlers, with an inaccessible page below it. `None`: it has one, or
    /// there is no memory.
    pub(crate) fn install() -> Option<Self> {
        // SAFETY: zeros are a valid stack.
        let mut now: libc::stack_t = unsafe { mem::zeroed() };
        // SAFETY: without a new stack this changes nothing, and `now` has room for the answer.
        let asked = unsafe { libc::sigaltstack(ptr::null(), &raw mut now) };
        if asked != 0 || now.ss_flags & libc::SS_DISABLE == 0 {
            return None;
        }
        let (guard, bytes) = (page_bytes(), page_bytes() + Self::BYTES);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, at an address that the system chooses.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let stack = Self { start, bytes };
        let usable = start.wrapping_byte_add(guard);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the pages of the mapping above the first, which nobody uses yet.
        if unsafe { libc::mprotect(usable, Self::BYTES, access) } != 0 {
            return None;
        }
        let new = libc::stack_t {
            ss_sp: usable,
            ss_flags: 0,
            ss_size: Self::BYTES,
        };
        // SAFETY: the memory is this stack's alone, and stays mapped until it is taken back.
        let installed = unsafe { libc::sigaltstack(&raw const new, ptr::null_mut()) };
        (installed == 0).then_some(stack)
    }

    /// Takes the stack back from the calling thread, which has installed it. If the thread has installed another one
    /// meanwhile, that one stays. If the thread runs on this one, because it ends in a handler (`pthread_exit`), the
    /// mapping is leaked.
    pub(crate) fn remove(self) {
        let none = libc::stack_t {
            ss_sp: ptr::null_mut(),
            ss_flags: libc::SS_DISABLE,
            ss_size: 0,
        };
        // SAFETY: zeros are a valid stack.
        let mut now: libc::stack_t = unsafe { mem::zeroed() };
        // SAFETY: without a new stack this changes nothing, and `now` has room for the answer.
        let asked = unsafe { libc::sigaltstack(ptr::null(), &raw mut now) };
        if asked == 0 && now.ss_sp != self.start.wrapping_byte_add(page_bytes()) {
            return;
        }
        // SAFETY: it takes the stack away, or fails if the thread runs on it.
        let removed = unsafe { libc::sigaltstack(&raw const none, ptr::null_mut()) };
        if removed != 0 {
            mem::forget(self);
        }
    }
}

impl Drop for AlternateStack {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own. It is not installed: `install` has not returned it, or `remove` has
        // taken it back or found another one.
        unsafe { libc::munmap(self.start, self.bytes) };
    }
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
    // SAFETY: the arguments are the kernel's.
    let goes_on = unsafe { pass_on(signal, info, context) };
    if was_reported && goes_on {
        // The handler that was there before may have mended it. If that took long, another thread may report by now.
        let own = super::thread::this().cast_unsigned() | HAS_REPORTED;
        // Release: the next reporter uses the scratch after this one.
        let _ = REPORTER.compare_exchange(own, 0, Ordering::Release, Ordering::Relaxed);
    }
}

/// Whether the process has raised the signal itself, and no other process has sent it: a supervisor may send SIGABRT to
/// a process that hangs.
fn is_mine(info: &libc::siginfo_t) -> bool {
    // SAFETY: the field is there for each signal that was sent; for others it is not looked at.
    info.si_code > 0 || unsafe { info.si_pid() } == std::process::id().cast_signed()
}

/// Reports, unless this thread is reporting already: then the report has crashed, or what was called after it. `frame`
/// is that of the handler. Returns whether it has reported.
fn report_once(
    signal: c_int,
    info: &libc::siginfo_t,
    context: &libc::ucontext_t,
    frame: usize,
) -> bool {
    let thread = super::thread::this().cast_unsigned();
    let (mut free, mut waited) = (0, Duration::ZERO);
    // Acquire: pairs with the Releases in `handle` and below.
    while let Err(now) =
        REPORTER.compare_exchange(free, thread, Ordering::Acquire, Ordering::Relaxed)
    {
        let has_reported = now & HAS_REPORTED != 0;
        free = 0;
        if now & !HAS_REPORTED == thread {
            // Relaxed: this thread has stored it.
            let frame = REPORTED_FROM.load(Ordering::Relaxed);
            if !has_reported || is_in_handler(context, frame) {
                return false;
            }
            // A handler has left the crash by a jump, and this is another crash.
            free = now;
        } else if waited < OTHER_REPORT_MAX {
            // Another thread is about to end the process. It shall finish its line first.
            waited += pause();
        } else if has_reported {
            // What was called after the report has neither ended the process nor returned.
            free = now;
        } else {
            return false;
        }
    }
    // SAFETY: the number of this thread is in `REPORTER`, and the code below does not come here again.
    let line = unsafe { &mut *SCRATCH.line.get() };
    // SAFETY: as above.
    let maps = unsafe { &mut *SCRATCH.maps.get() };
    line.length = 0;
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
    let alternate = start..start.saturating_add(alternate.ss_size);
    let (_, stack) = registers(context);
    if alternate.contains(&frame) {
        return alternate.contains(&stack);
    }
    // It has run on the thread's own stack, and has not used much of it.
    (frame.saturating_sub(AlternateStack::BYTES)..frame).contains(&stack)
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

/// Does what would have been done without the handler. Returns whether the process may go on after it.
///
/// # Safety
///
/// The arguments are the kernel's.
unsafe fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) -> bool {
    let place = SIGNALS.iter().position(|(it, _)| *it == signal);
    let Some(before) = place.and_then(|place| BEFORE[place].get()) else {
        return true;
    };
    // SAFETY: the kernel passes a valid `info`.
    let was_sent = unsafe { (*info).si_code } <= 0;
    match before.sa_sigaction {
        libc::SIG_IGN if was_sent => return true,
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
    // SAFETY: as above.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const before.sa_mask, ptr::null_mut()) };
    if before.sa_flags & libc::SA_NODEFER == 0 {
        block(signal);
    }
    if before.sa_flags & libc::SA_SIGINFO != 0 {
        // SAFETY: it is the address of a handler of this type, by its flag.
        let handler = unsafe { mem::transmute::<usize, Handler>(before.sa_sigaction) };
        // SAFETY: the arguments are the kernel's.
        unsafe { handler(signal, info, context) };
    } else {
        type Simple = unsafe extern "C" fn(c_int);
        // SAFETY: it is the address of a handler of this type, without the flag.
        let handler = unsafe { mem::transmute::<usize, Simple>(before.sa_sigaction) };
        // SAFETY: the argument is the kernel's.
        unsafe { handler(signal) };
    }
    true
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

impl Crash {
    fn new(signal: c_int, info: &libc::siginfo_t, context: &libc::ucontext_t) -> Self {
        let mut thread_name = [0; 16];
        // SAFETY: it writes at most 16 bytes, with a NUL at the end (PR_GET_NAME in prctl(2)).
        unsafe { libc::prctl(libc::PR_GET_NAME, thread_name.as_mut_ptr()) };
        let (instruction, stack) = registers(context);
        // An access to an address that no processor has comes from the kernel without the address (`SI_KERNEL`).
        let has_address = matches!(signal, libc::SIGSEGV | libc::SIGBUS)
            && (1..SI_KERNEL).contains(&info.si_code);
        let name = SIGNALS.iter().find(|(it, _)| *it == signal);
        Self {
            signal: name.map_or("a signal", |(_, name)| name),
            // SAFETY: these signals have an address, if the kernel has raised them.
            address: has_address.then(|| unsafe { info.si_addr() }.addr()),
            instruction,
            thread: super::thread::this().cast_unsigned(),
            stack,
            thread_name,
        }
    }

    /// The name of the thread, which the system cuts to 15 bytes.
    pub(crate) fn thread_name(&self) -> &OsStr {
        let name = self.thread_name.split(|byte| *byte == 0).next();
        OsStr::from_bytes(name.unwrap_or_default())
    }

    /// Whether what was accessed is around the end of the stack, where a stack that is too small grows to.
    pub(crate) fn is_near_stack_pointer(&self) -> bool {
        // A frame may be larger than a page. Compilers then touch each of its pages.
        let near = 16 * page_bytes();
        self.address
            .is_some_and(|address| address.abs_diff(self.stack) < near)
    }

    /// Calls `f` with each word of the stack, from the top, until it returns something.
    pub(crate) fn find_on_stack<R>(&self, mut f: impl FnMut(usize) -> Option<R>) -> Option<R> {
        const WORD: usize = size_of::<usize>();
        let mut words = [0_usize; 32];
        let start = self.stack.next_multiple_of(WORD);
        for offset in (0..STACK_BYTES_MAX).step_by(size_of_val(&words)) {
            let count = read_memory(start + offset, &mut words);
            let found = words[..count].iter().find_map(|word| f(*word));
            if found.is_some() || count < words.len() {
                return found;
            }
        }
        None
    }
}

/// The instruction pointer and the stack pointer.
fn registers(context: &libc::ucontext_t) -> (usize, usize) {
    #[cfg(target_arch = "x86_64")]
    let registers = {
        let all = &context.uc_mcontext.gregs;
        (
            all[libc::REG_RIP as usize] as usize,
            all[libc::REG_RSP as usize] as usize,
        )
    };
    #[cfg(target_arch = "aarch64")]
    let registers = {
        let all = &context.uc_mcontext;
        (all.pc as usize, all.sp as usize)
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let registers = {
        let _ = context;
        (0, 0)
    };
    registers
}

/// Reads words that may be unmapped: the kernel returns how many it could read. Returns that number.
fn read_memory(address: usize, words: &mut [usize]) -> usize {
    let into = libc::iovec {
        iov_base: words.as_mut_ptr().cast(),
        iov_len: size_of_val(words),
    };
    let from = libc::iovec {
        iov_base: ptr::without_provenance_mut(address),
        iov_len: size_of_val(words),
    };
    let this_process = std::process::id().cast_signed();
    // SAFETY: the kernel writes at most as many bytes as `words` has, and reads what it can of this process.
    let read =
        unsafe { libc::process_vm_readv(this_process, &raw const into, 1, &raw const from, 1, 0) };
    usize::try_from(read).unwrap_or(0) / size_of::<usize>()
}

impl Line {
    /// Appends bytes, of which control characters become `?`.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX - 1 - self.length;
        for byte in bytes.iter().take(room) {
            self.bytes[self.length] = if byte.is_ascii_control() { b'?' } else { *byte };
            self.length += 1;
        }
    }

    /// Writes it to standard error. What takes longer than [`STDERR_MAX`] is given up: a pipe that nobody reads must
    /// not keep the process from ending.
    pub(crate) fn write_to_stderr(&mut self) {
        let stderr = libc::STDERR_FILENO;
        if can_be_written(stderr) {
            let _ = write(stderr, self.ended());
        }
    }

    /// Appends it to a file, which is made if it is not there.
    pub(crate) fn append_to(&mut self, path: &CStr) -> Result<(), Errno> {
        let flags = libc::O_WRONLY
            | libc::O_CREAT
            | libc::O_APPEND
            | libc::O_CLOEXEC
            | libc::O_NOFOLLOW
            | libc::O_NONBLOCK;
        // SAFETY: a path that ends with a NUL.
        let file = Errno::result(unsafe { libc::open(path.as_ptr(), flags, 0o644) })?;
        let written = write(file, self.ended());
        // SAFETY: it was opened above, and nobody else has it.
        unsafe { libc::close(file) };
        written
    }

    /// Its bytes, with a line end.
    fn ended(&mut self) -> &[u8] {
        self.bytes[self.length] = b'\n';
        &self.bytes[..=self.length]
    }
}

impl std::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Waits until a file can be written to, for at most [`STDERR_MAX`]. `false`: it cannot, or nobody would read it.
fn can_be_written(file: c_int) -> bool {
    let mut asked = libc::pollfd {
        fd: file,
        events: libc::POLLOUT,
        revents: 0,
    };
    let timeout = STDERR_MAX.as_millis() as c_int;
    // SAFETY: one entry.
    let ready = unsafe { libc::poll(&raw mut asked, 1, timeout) };
    // After POLLERR, a write to a pipe would end the process by SIGPIPE.
    ready == 1 && asked.revents & libc::POLLOUT != 0 && asked.revents & libc::POLLERR == 0
}

/// Writes all of it.
fn write(file: c_int, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        // SAFETY: the bytes are readable.
        let written = unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) };
        match Errno::result(written) {
            Ok(written @ 1..) => bytes = &bytes[written.cast_unsigned()..],
            Ok(_) => return Err(Errno::EIO),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Maps {
    const NEW: Self = Self {
        line: MapsLine::NEW,
        part: [0; 256],
    };

    /// The file whose code is mapped at an address. Reads `/proc/self/maps`.
    pub(crate) fn file_at(&mut self, address: usize) -> Option<&MappedFile> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: a path that ends with a NUL.
        let maps = unsafe { libc::open(c"/proc/self/maps".as_ptr(), flags) };
        if maps < 0 {
            return None;
        }
        let found = self.find(maps, address);
        // SAFETY: it was opened above, and nobody else has it.
        unsafe { libc::close(maps) };
        (found && self.line.is_code).then_some(&self.line.file)
    }

    /// Reads up to the line of an address. Returns whether there is one.
    fn find(&mut self, maps: c_int, address: usize) -> bool {
        let Self { line, part } = self;
        line.clear();
        loop {
            // SAFETY: `part` has room for what is read.
            let read = unsafe { libc::read(maps, part.as_mut_ptr().cast(), part.len()) };
            let Some(read) = usize::try_from(read).ok().filter(|read| *read > 0) else {
                return false;
            };
            for byte in &part[..read] {
                if *byte != b'\n' {
                    line.push(*byte);
                } else if (line.start..line.end).contains(&address) {
                    line.file.offset += address - line.start;
                    return true;
                } else {
                    line.clear();
                }
            }
        }
    }
}

impl MappedFile {
    /// Its path, as far as there is room for it. Empty if it is memory of no file.
    pub(crate) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.bytes()))
    }

    /// Whether it is the file at a path, as far as there is room for it, also if that was deleted or replaced.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let (path, bytes) = (path.as_os_str().as_bytes(), self.bytes());
        let is_cut = bytes.len() == self.path.len();
        match bytes.strip_prefix(path) {
            Some(rest) => {
                rest.is_empty() || DELETED.starts_with(rest) && (is_cut || rest == DELETED)
            }
            None => is_cut && path.starts_with(bytes),
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.path[..self.length]
    }
}

/// A line of `/proc/self/maps`, as far as it was read: `start-end permissions offset device inode path` (man 5
/// proc_pid_maps).
struct MapsLine {
    /// How many fields are complete.
    fields: usize,
    start: usize,
    end: usize,
    is_code: bool,
    /// The offset is that of the line.
    file: MappedFile,
}

impl MapsLine {
    const NEW: Self = Self {
        fields: 0,
        start: 0,
        end: 0,
        is_code: false,
        file: MappedFile::NEW,
    };

    /// As [`NEW`](Self::NEW), without a copy on the stack.
    fn clear(&mut self) {
        (self.fields, self.start, self.end, self.is_code) = (0, 0, 0, false);
        (self.file.length, self.file.offset) = (0, 0);
    }

    fn push(&mut self, byte: u8) {
        let number = match self.fields {
            0 => &mut self.start,
            1 => &mut self.end,
            2 => {
                self.is_code |= byte == b'x';
                &mut 0
            }
            3 => &mut self.file.offset,
            6 => return self.file.push(byte),
            _ => &mut 0,
        };
        match (byte as char).to_digit(16) {
            Some(digit) => *number = *number << 4 | digit as usize,
            None if byte == b' ' || byte == b'-' && self.fields == 0 => self.fields += 1,
            None => {}
        }
    }
}

impl MappedFile {
    const NEW: Self = Self {
        path: [0; 256],
        length: 0,
        offset: 0,
    };

    fn push(&mut self, byte: u8) {
        let is_padding = self.length == 0 && byte == b' ';
        if !is_padding && self.length < self.path.len() {
            self.path[self.length] = byte;
            self.length += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> (usize, usize, usize, String) {
        let mut parsed = MapsLine::NEW;
        line.bytes().for_each(|byte| parsed.push(byte));
        let path = parsed.file.path().to_str().unwrap().to_owned();
        (parsed.start, parsed.end, parsed.file.offset, path)
    }

    /// The calling thread's stack for signal handlers.
    fn alternate_stack() -> libc::stack_t {
        // SAFETY: zeros are a valid stack.
        let mut now: libc::stack_t = unsafe { mem::zeroed() };
        // SAFETY: without a new stack this changes nothing, and `now` has room for the answer.
        let asked = unsafe { libc::sigaltstack(ptr::null(), &raw mut now) };
        assert_eq!(asked, 0);
        now
    }

    fn set_alternate_stack(new: &libc::stack_t) {
        // SAFETY: the tests' stacks stay mapped for as long as they are installed.
        let set = unsafe { libc::sigaltstack(new, ptr::null_mut()) };
        assert_eq!(set, 0);
    }

    /// Runs `test` on a thread without a stack for signal handlers.
    fn without_alternate_stack(test: impl FnOnce() + Send + 'static) {
        let thread = std::thread::spawn(|| {
            let of_std = alternate_stack();
            set_alternate_stack(&libc::stack_t {
                ss_sp: ptr::null_mut(),
                ss_flags: libc::SS_DISABLE,
                ss_size: 0,
            });
            test();
            set_alternate_stack(&of_std);
        });
        thread.join().unwrap();
    }

    fn is_mapped(address: *mut c_void) -> bool {
        let mut word = [0];
        read_memory(address.addr(), &mut word) == 1
    }

    #[test]
    fn a_stack_is_taken_back() {
        without_alternate_stack(|| {
            let stack = AlternateStack::install().unwrap();
            let usable = alternate_stack().ss_sp;
            assert!(is_mapped(usable));
            assert!(AlternateStack::install().is_none(), "it has one");
            stack.remove();
            assert_eq!(alternate_stack().ss_flags, libc::SS_DISABLE);
            assert!(!is_mapped(usable));
        });
    }

    /// A runtime that the thread calls may have one of its own.
    #[test]
    fn a_stack_of_somebody_else_stays() {
        without_alternate_stack(|| {
            let stack = AlternateStack::install().unwrap();
            let usable = alternate_stack().ss_sp;
            let mut memory = vec![0_u8; AlternateStack::BYTES];
            let other = libc::stack_t {
                ss_sp: memory.as_mut_ptr().cast(),
                ss_flags: 0,
                ss_size: memory.len(),
            };
            set_alternate_stack(&other);
            stack.remove();
            assert_eq!(alternate_stack().ss_sp, other.ss_sp);
            assert!(!is_mapped(usable));
        });
    }

    /// A thread may end in a handler.
    #[test]
    fn a_stack_on_which_the_thread_runs_is_not_unmapped() {
        use std::cell::RefCell;
        thread_local! {
            static STACK: RefCell<Option<AlternateStack>> = const { RefCell::new(None) };
        }
        extern "C" fn remove(_: c_int) {
            STACK.with(|stack| stack.take().unwrap().remove());
        }
        without_alternate_stack(|| {
            STACK.set(AlternateStack::install());
            let usable = alternate_stack().ss_sp;
            // SAFETY: zeros are a valid action, with an empty mask.
            let mut runs_on_it: libc::sigaction = unsafe { mem::zeroed() };
            runs_on_it.sa_flags = libc::SA_ONSTACK;
            runs_on_it.sa_sigaction = remove as extern "C" fn(c_int) as usize;
            // No other test uses this signal.
            action(libc::SIGURG, Some(&runs_on_it)).unwrap();
            // SAFETY: the handler is called on this thread, by a call that may be interrupted anywhere.
            unsafe { libc::raise(libc::SIGURG) };
            assert_eq!(alternate_stack().ss_sp, usable);
            assert!(is_mapped(usable));
        });
    }

    #[test]
    fn lines_of_maps_are_read() {
        assert_eq!(
            read(
                "7f0a1000-7f0a3000 r-xp 0001c000 fd:00 1234567                    /usr/lib/libc.so.6"
            ),
            (
                0x7f0a1000,
                0x7f0a3000,
                0x1c000,
                "/usr/lib/libc.so.6".to_owned()
            )
        );
        assert_eq!(
            read("7f0a1000-7f0a3000 r-xp 00000000 00:01 42   /memfd:a - b (deleted)"),
            (
                0x7f0a1000,
                0x7f0a3000,
                0,
                "/memfd:a - b (deleted)".to_owned()
            )
        );
        assert_eq!(
            read("1000-2000 rw-p 00000000 00:00 0 "),
            (0x1000, 0x2000, 0, String::new())
        );
    }

    #[test]
    fn the_file_at_an_address_is_found() {
        let here = the_file_at_an_address_is_found as fn() as usize;
        let mut maps = Maps::NEW;
        let file = maps.file_at(here).unwrap();
        let program = std::env::current_exe().unwrap();
        assert_eq!(file.path(), program);
        assert!(maps.file_at(8).is_none());
        let data = Box::new(1);
        assert!(maps.file_at(ptr::from_ref(&*data).addr()).is_none());
    }

    #[test]
    fn a_file_is_told_from_others() {
        let is_at = |mapped: &str, path: &str| {
            let mut file = MappedFile::NEW;
            mapped.bytes().for_each(|byte| file.push(byte));
            file.is_at(Path::new(path))
        };
        assert!(is_at("/srv/server", "/srv/server"));
        assert!(is_at("/srv/server (deleted)", "/srv/server"));
        assert!(!is_at("/srv/server", "/srv/server-2"));
        assert!(!is_at("/srv/server-2", "/srv/server"));
        assert!(!is_at("/srv/server (del", "/srv/server"));
        assert!(!is_at("", "/srv/server"));
        let long = format!("/{}", "x".repeat(300));
        assert!(is_at(&long, &long));
        assert!(!is_at(&long, "/x"));
        let nearly = format!("/{}", "x".repeat(249));
        assert!(is_at(&format!("{nearly} (deleted)"), &nearly));
    }

    #[test]
    fn words_are_read_up_to_what_is_unmapped() {
        let here = [1_usize, 2, 3];
        let mut words = [0; 3];
        assert_eq!(read_memory(here.as_ptr().addr(), &mut words), 3);
        assert_eq!(words, here);
        assert_eq!(read_memory(8, &mut words), 0);
    }

    #[test]
    fn a_line_is_cut_and_ended() {
        let mut line = Line {
            bytes: [0; LINE_BYTES_MAX],
            length: 0,
        };
        line.push(b"a\nb\x1b");
        assert_eq!(line.ended(), b"a?b?\n");
        line.push(b"c");
        assert_eq!(line.ended(), b"a?b?c\n");
        line.push(&[b'x'; 2 * LINE_BYTES_MAX]);
        assert_eq!(line.ended().len(), LINE_BYTES_MAX);
        assert!(line.ended().ends_with(b"x\n"));
    }
}
