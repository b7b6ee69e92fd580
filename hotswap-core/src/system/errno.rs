//! The error numbers that are told apart, or that stand-ins for functions of the C library answer with.

pub(crate) use libc::{EACCES, EAGAIN, EBADF, EINVAL, ELOOP, ENOMEM, ENOTDIR, EPERM};
