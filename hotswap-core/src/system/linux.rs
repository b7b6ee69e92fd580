//! Linux with glibc, where plugins are loaded.

pub(crate) mod limits;

#[expect(unsafe_code, reason = "protects pages of a mapping of its own")]
pub(crate) mod memory;

#[expect(unsafe_code, reason = "asks for handlers")]
pub(crate) mod signals;

#[expect(unsafe_code, reason = "starts and joins threads of the C library")]
pub(crate) mod thread;

pub(crate) mod status;

#[expect(unsafe_code, reason = "handles signals")]
pub(crate) mod crash;

#[expect(
    unsafe_code,
    reason = "asks the C library and the processor for the state of the calling thread"
)]
pub(crate) mod thread_state;

#[expect(unsafe_code, reason = "registers functions with the C library")]
pub(crate) mod hooks;

#[expect(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "reads a table of the C library's"
)]
pub(crate) mod keys;

#[expect(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "calls the dynamic linker"
)]
pub(crate) mod linker;

#[cfg(feature = "backtrace")]
#[expect(unsafe_code, reason = "calls the unwinder")]
pub(crate) mod stack;

pub(crate) mod text;

#[expect(unsafe_code, reason = "asks what the kernel said of this process")]
pub(crate) mod users;

pub(crate) mod proc;

pub(crate) mod place;

#[expect(unsafe_code, reason = "asks the kernel for a lease on a file")]
pub(crate) mod lease;

pub(crate) mod memory_file;

pub(crate) mod replacement;

pub(crate) mod connection;

pub(crate) mod child;

#[expect(unsafe_code, reason = "closes what nobody owns")]
pub(crate) mod descriptors;
