//! Stacks for signal handlers: a handler cannot run on a stack that is used up.

use std::{ffi::c_void, mem, ptr};

use crate::system::memory::page_bytes;

/// A stack for signal handlers. It is unmapped when this is dropped.
pub(crate) struct AlternateStack {
    start: *mut c_void,
    bytes: usize,
}

impl AlternateStack {
    /// The kernel writes the processor's registers to it, which takes up to 11 KiB (AMX, `AT_MINSIGSTKSZ`).
    pub(super) const BYTES: usize = 64 * 1024;

    /// Gives the calling thread a stack for signal handlers, with an inaccessible page below it. `None`: it has one
    /// that is as large, or runs on one, or there is no memory.
    ///
    /// The standard library's has 8 KiB. With AVX-512 the kernel takes 3.6 KiB for each handler, so that a handler that
    /// crashes, or aborts, leaves no room for the next.
    pub(crate) fn install() -> Option<Self> {
        // SAFETY: zeros are a valid stack.
        let mut now: libc::stack_t = unsafe { mem::zeroed() };
        // SAFETY: without a new stack this changes nothing, and `now` has room for the answer.
        let asked = unsafe { libc::sigaltstack(ptr::null(), &raw mut now) };
        let has_one = now.ss_flags & libc::SS_DISABLE == 0;
        if asked != 0 || has_one && now.ss_size >= Self::BYTES {
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

#[cfg(test)]
mod tests {
    use std::ffi::c_int;

    use super::*;
    use crate::system::crash::{action, context::read_memory};

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
}
