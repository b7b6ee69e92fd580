//! Where a host has died: in code of a candidate, in what that has called, or in the host.
//!
//! A handler for the signals of a crash says it on standard output, as the last line, and lets the process die. What it
//! does is not allowed in a handler, and that is no matter in a process that is about to end.

use std::{
    ffi::{c_int, c_void},
    fs,
    io::Write,
    mem, ptr,
};

/// How the line begins.
pub(crate) const MARK: &str = "crashed ";

/// Where the instruction was.
pub(crate) const IN_PLUGIN: &str = "in the plugin";
/// Somewhere that the plugin has called, also where there is no code.
pub(crate) const BELOW_PLUGIN: &str = "in what the plugin has called";
pub(crate) const IN_HOST: &str = "in the host";

/// From here on a crash is told.
pub(crate) fn tell() {
    // SAFETY: zeros are a valid action.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction =
        (handle as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)) as usize;
    // On the stack of the thread: std's own for signals has no room for the unwinder.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
    for signal in [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGABRT,
    ] {
        // SAFETY: the handler takes what `SA_SIGINFO` gives it.
        unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    }
}

extern "C" fn handle(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the system gives the state in which the thread was interrupted.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let register = |number: c_int| registers[number as usize] as usize;
    let place = place(register(libc::REG_RIP), register(libc::REG_RSP));
    // A host that cannot say it dies all the same.
    let _ = writeln!(std::io::stdout().lock(), "{MARK}{place}");
}

/// The frames from the interrupted one on, by where they go on.
fn frames_from(instruction: usize) -> Vec<usize> {
    type Frame = *mut c_void;
    // The unwinder that std has, too (`unwind.h`).
    unsafe extern "C" {
        fn _Unwind_Backtrace(
            each: extern "C" fn(Frame, *mut c_void) -> c_int,
            frames: *mut c_void,
        ) -> c_int;
        fn _Unwind_GetIP(frame: Frame) -> usize;
    }
    extern "C" fn each(frame: Frame, frames: *mut c_void) -> c_int {
        // SAFETY: the list that is passed below.
        let frames = unsafe { &mut *frames.cast::<Vec<usize>>() };
        // SAFETY: a frame that the unwinder lends.
        frames.push(unsafe { _Unwind_GetIP(frame) });
        0
    }
    let mut frames: Vec<usize> = Vec::new();
    // SAFETY: the list outlives the call.
    unsafe { _Unwind_Backtrace(each, (&raw mut frames).cast()) };
    let first = frames.iter().position(|frame| *frame == instruction);
    frames.split_off(first.unwrap_or(frames.len()))
}

fn place(instruction: usize, stack: usize) -> &'static str {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let program = std::env::current_exe().unwrap_or_default();
    let program = program.to_string_lossy();
    let mapping = |address: usize| {
        maps.lines().find(|line| {
            let range = line
                .split(' ')
                .next()
                .and_then(|range| range.split_once('-'));
            let number = |text| usize::from_str_radix(text, 16).unwrap_or(0);
            range.is_some_and(|(start, end)| (number(start)..number(end)).contains(&address))
        })
    };
    let is_plugin = |line: &str| line.contains("/memfd:hotswap");
    // First, because the unwinder reads what the plugin has for it.
    if mapping(instruction).is_some_and(is_plugin) {
        return IN_PLUGIN;
    }
    let frames = match mapping(instruction) {
        Some(_) => frames_from(instruction),
        // The unwinder reads the instruction. Who has called nowhere is on top of the stack.
        // SAFETY: the stack of the interrupted thread.
        None => vec![unsafe { ptr::with_exposed_provenance::<usize>(stack).read_volatile() }],
    };
    for frame in frames {
        match mapping(frame) {
            Some(line) if is_plugin(line) => return BELOW_PLUGIN,
            Some(line) if line.ends_with(&*program) => return IN_HOST,
            // A library.
            _ => {}
        }
    }
    IN_HOST
}
