//! Every other system. Objects are not loaded there ([`linker::CANNOT_UNLOAD`]), so nothing needs what Linux tells and
//! does for that.
//!
//! The names are those of [`linux`](super::linux), where they are explained. Here each of them refuses, says that it
//! does not know, or is a type without values. What threads, time and memory need is from std.

use std::io;

pub(crate) mod limits;

pub(crate) mod memory;

pub(crate) mod signals;

pub(crate) mod thread;

pub(crate) mod status;

pub(crate) mod crash;

pub(crate) mod thread_state;

pub(crate) mod hooks;

pub(crate) mod keys;

pub(crate) mod linker;

#[cfg(feature = "backtrace")]
pub(crate) mod stack;

pub(crate) mod text;

pub(crate) mod users;

pub(crate) mod proc;

pub(crate) mod place;

pub(crate) mod lease;

pub(crate) mod memory_file;

pub(crate) mod replacement;

pub(crate) mod connection;

pub(crate) mod child;

pub(crate) mod descriptors;

/// What is refused here.
fn unsupported() -> io::Error {
    io::ErrorKind::Unsupported.into()
}
