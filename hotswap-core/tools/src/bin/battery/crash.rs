//! Finds out where a host has died: in code of a candidate, in code that the candidate has called, or in the host.
//!
//! A handler for the signals of a crash prints the place to standard output as the last line, and lets the process
//! die. It does what a handler may not do, which does not matter in a process that is about to end.

use std::{
    ffi::{c_int, c_void},
    fs,
    io::Write,
    mem, ptr,
};

/// How the line begins.
pub(crate) const MARK: &str = "crashed ";

/// The interrupted instruction was in the plugin.
pub(crate) const IN_PLUGIN: &str = "in the plugin";
/// The interrupted instruction was somewhere that the plugin has called, even where there is no code.
pub(crate) const BELOW_PLUGIN: &str = "in what the plugin has called";
pub(crate) const IN_HOST: &str = "in the host";

/// Installs the handler.
pub(crate) fn install_handlers() {
    // SAFETY: an all-zero `sigaction` is valid.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction =
        (handle as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)) as usize;
    // The handler runs on the thread's own stack: the signal stack of std has no room for the unwinder.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
    for signal in [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGABRT,
    ] {
        // SAFETY: the handler has the type that `SA_SIGINFO` demands.
        unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    }
}

extern "C" fn handle(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with `SA_SIGINFO` the system passes the state in which the thread was interrupted.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let register = |number: c_int| registers[number as usize] as usize;
    let place = place(register(libc::REG_RIP), register(libc::REG_RSP));
    // If the line cannot be written, the host dies all the same.
    let _ = writeln!(std::io::stdout().lock(), "{MARK}{place}");
}

/// The instruction addresses of the frames, from the interrupted one outwards.
fn frames_from(instruction: usize) -> Vec<usize> {
    type Frame = *mut c_void;
    // The unwinder that std uses too (`unwind.h`).
    unsafe extern "C" {
        fn _Unwind_Backtrace(
            each: extern "C" fn(Frame, *mut c_void) -> c_int,
            frames: *mut c_void,
        ) -> c_int;
        fn _Unwind_GetIP(frame: Frame) -> usize;
    }
    extern "C" fn each(frame: Frame, frames: *mut c_void) -> c_int {
        // SAFETY: `_Unwind_Backtrace` passes on the address of the list below.
        let frames = unsafe { &mut *frames.cast::<Vec<usize>>() };
        // SAFETY: the unwinder lends a valid frame for this call.
        frames.push(unsafe { _Unwind_GetIP(frame) });
        0
    }
    let mut frames: Vec<usize> = Vec::new();
    // SAFETY: `collect` has the type that the unwinder calls, and the list outlives the call.
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
    let is_plugin = |line: &str| line.contains("/memfd:");
    // Check this first, because the unwinder reads tables of the plugin.
    if mapping(instruction).is_some_and(is_plugin) {
        return IN_PLUGIN;
    }
    let frames = match mapping(instruction) {
        Some(_) => frames_from(instruction),
        // The unwinder would read the instruction, which does not exist. The top of the stack is the return address
        // of the code that called this address.
        // SAFETY: `stack` is the stack pointer of the interrupted thread.
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
