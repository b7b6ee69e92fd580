//! All calls of the operating system, one file for each concern.
//!
//! Only the files of this folder name the crates of system calls (`libc`, `nix`, `rustix`, `libloading`) or what std
//! has for one system (`std::os`), or declare functions of the C library; a test says so (`tests/it/tidy.rs`). `linux`
//! has them for Linux with glibc, and `elsewhere` the same names for every other system. So what a name says is what
//! its users need, and not which system call answers.
//!
//! Nothing here knows what a plugin, a candidate or a generation is, nor which errors there are of one.

pub(crate) mod errno;

pub(crate) mod mapping;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod linux;

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
#[expect(
    dead_code,
    unsafe_code,
    reason = "what only Linux makes or does, others only declare"
)]
mod elsewhere;

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) use self::elsewhere::*;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) use self::linux::*;
