//! All calls of the operating system, one file for each concern.
//!
//! Only the files of this folder name the crates of system calls (`libc`, `nix`, `rustix`, `libloading`) or the
//! extensions of std for one system (`std::os`), or declare functions of the C library; a test says so
//! (`tests/it/tidy.rs`). [`linux`] has them for Linux with glibc. So what a name says is what its users need, and not
//! which system call answers.
//!
//! Nothing here knows what a plugin, a candidate or a generation is, nor which errors there are of one.

pub(crate) mod errno;

mod linux;

pub(crate) use self::linux::*;
