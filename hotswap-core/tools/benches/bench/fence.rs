//! Makes a process in which the asymmetric fence is not available.
//!
//! The library uses the asymmetric fence if the system has it; nothing in its interface selects that. So this module
//! makes the system refuse it: a seccomp filter answers `membarrier` with EPERM, as containers do. The measurement
//! then runs the same code, on the path that users without the system call have. It needs no build option and no
//! hidden constructor.

use std::mem::offset_of;

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, EPERM,
    SECCOMP_FILTER_FLAG_SPEC_ALLOW, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_SET_MODE_FILTER,
    SYS_membarrier, SYS_seccomp, seccomp_data, sock_filter, sock_fprog,
};
use rustix::thread::{MembarrierCommand, membarrier, set_no_new_privs};

use crate::Result;

/// Makes `membarrier` fail in this process, for good.
pub(crate) fn take_asymmetric() -> Result {
    let step = |code: u32, otherwise: u8, k: u32| sock_filter {
        code: code as u16,
        jt: 0,
        jf: otherwise,
        k,
    };
    let number = offset_of!(seccomp_data, nr) as u32;
    let mut steps = [
        step(BPF_LD | BPF_W | BPF_ABS, 0, number),
        step(BPF_JMP | BPF_JEQ | BPF_K, 1, SYS_membarrier as u32),
        step(BPF_RET | BPF_K, 0, SECCOMP_RET_ERRNO | EPERM as u32),
        step(BPF_RET | BPF_K, 0, SECCOMP_RET_ALLOW),
    ];
    let filter = sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    set_no_new_privs(true)?;
    // Without the flag, older kernels also disable speculation in the process, which makes everything slower.
    // SAFETY: the arguments are those that `man 2 seccomp` demands, and the kernel copies the filter.
    let answer = unsafe {
        libc::syscall(
            SYS_seccomp,
            SECCOMP_SET_MODE_FILTER,
            SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const filter,
        )
    };
    if answer != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    match membarrier(MembarrierCommand::RegisterPrivateExpedited) {
        Err(rustix::io::Errno::PERM) => Ok(()),
        other => Err(format!("membarrier is still there: {other:?}").into()),
    }
}
