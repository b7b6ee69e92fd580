//! Starts threads, after checking that there is memory for them.
//!
//! All threads of this crate are started here. If there is no memory for a thread's signal stack, std ends the process
//! instead of returning an error. So this first checks that the kernel has that memory ([`memory`]).
//!
//! Their stacks have a size of their own ([`memory::stack_bytes`]), so that a small `RUST_MIN_STACK`, which the host's
//! threads may be content with, does not end the process at the first plugin.

use std::{
    io,
    thread::{Builder, JoinHandle, Scope, ScopedJoinHandle},
};

use crate::memory;

/// Starts a thread of this name. Costs some 40 µs.
///
/// # Errors
/// The system starts no thread, or too little memory is left. `work` is dropped.
pub(crate) fn start<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    check()?;
    named(name).spawn(work)
}

/// Starts a thread that may borrow what `scope` outlives. See [`start`].
pub(crate) fn start_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    check()?;
    named(name).spawn_scoped(scope, work)
}

/// Checks that a thread can be started. Call it before other code starts one. Costs some 20 µs.
///
/// # Errors
/// Names what there is not enough of.
pub(crate) fn check() -> io::Result<()> {
    memory::need_for_thread().map_err(|kind| io::Error::other(kind.to_string()))
}

/// A thread with a stack that is large enough. Removes NULs, which a thread's name cannot contain.
fn named(name: &str) -> Builder {
    let name = name.replace('\0', "");
    Builder::new().name(name).stack_size(memory::stack_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_its_name_without_nuls() {
        let name = || std::thread::current().name().map(str::to_owned);
        let started = start("a\0b", name).unwrap();
        assert_eq!(started.join().unwrap().as_deref(), Some("ab"));
        std::thread::scope(|scope| {
            let started = start_scoped(scope, "c", name).unwrap();
            assert_eq!(started.join().unwrap().as_deref(), Some("c"));
        });
    }
}
