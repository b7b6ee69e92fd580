//! Signals: their names, what they say, and their handlers.

use std::{ffi::c_int, ptr};

use nix::sys::signal::Signal;

/// Linux has signals 1 to 64.
pub(crate) const SIGNALS: c_int = 64;

/// The name of a signal (`SIGUSR1`), if it has one.
pub(crate) fn name(signal: c_int) -> Option<&'static str> {
    Signal::try_from(signal).ok().map(Signal::as_str)
}

/// Whether this signal shows a fault of the process's own code or data. Any other end may have a cause outside of it: a
/// short timeout, a lack of memory, a signal that somebody sent.
pub(crate) fn is_fault(signal: c_int) -> bool {
    matches!(
        Signal::try_from(signal),
        Ok(Signal::SIGSEGV | Signal::SIGBUS | Signal::SIGILL | Signal::SIGFPE)
    )
}

/// The handler of a signal: an address, or a number that [is no function](is_function). A system call.
pub(crate) fn handler(signal: c_int) -> usize {
    // SAFETY: zeros are a valid action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action this changes nothing, and `action` has room for the old one. For a number that is
    // no signal, or that libc keeps for itself, the call fails and writes nothing.
    unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    action.sa_sigaction
}

/// Whether a handler is a function, and neither `SIG_DFL` nor `SIG_IGN`.
pub(crate) fn is_function(handler: usize) -> bool {
    handler > libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fault_is_about_the_bytes() {
        let by = |signal: Signal| is_fault(signal as c_int);
        assert!(by(Signal::SIGSEGV));
        assert!(by(Signal::SIGILL));
        assert!(!by(Signal::SIGKILL), "no memory was left");
        assert!(!by(Signal::SIGABRT), "an allocation failed");
        assert!(!is_fault(0), "no signal");
    }
}
