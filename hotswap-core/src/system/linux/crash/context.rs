//! What a signal says of a crash, and what is on the stack of the thread.

use std::{
    ffi::{OsStr, c_int},
    os::unix::ffi::OsStrExt,
    ptr,
};

use crate::system::{memory::page_bytes, signals, thread};

/// `<asm-generic/siginfo.h>` of Linux.
const SI_KERNEL: c_int = 0x80;

/// How much of a stack is searched. A deeper one is not searched to its end.
const STACK_BYTES_MAX: usize = 1 << 20;

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

impl Crash {
    pub(super) fn new(signal: c_int, info: &libc::siginfo_t, context: &libc::ucontext_t) -> Self {
        let mut thread_name = [0; 16];
        // SAFETY: it writes at most 16 bytes, with a NUL at the end (PR_GET_NAME in prctl(2)).
        unsafe { libc::prctl(libc::PR_GET_NAME, thread_name.as_mut_ptr()) };
        let (instruction, stack) = registers(context);
        // An access to an address that no processor has comes from the kernel without the address (`SI_KERNEL`).
        let has_address = matches!(signal, libc::SIGSEGV | libc::SIGBUS)
            && (1..SI_KERNEL).contains(&info.si_code);
        Self {
            signal: signals::name(signal).unwrap_or("a signal"),
            // SAFETY: these signals have an address, if the kernel has raised them.
            address: has_address.then(|| unsafe { info.si_addr() }.addr()),
            instruction,
            thread: thread::this().cast_unsigned(),
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
pub(super) fn registers(context: &libc::ucontext_t) -> (usize, usize) {
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
pub(super) fn read_memory(address: usize, words: &mut [usize]) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_up_to_what_is_unmapped() {
        let here = [1_usize, 2, 3];
        let mut words = [0; 3];
        assert_eq!(read_memory(here.as_ptr().addr(), &mut words), 3);
        assert_eq!(words, here);
        assert_eq!(read_memory(8, &mut words), 0);
    }
}
