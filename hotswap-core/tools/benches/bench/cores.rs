//! Selects the cores on which threads run.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The numbers of the cores that this process may use.
pub(crate) fn all() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|&core| set.is_set(core))
        .collect())
}

/// Keeps the calling thread, and threads that it starts from now on, on one core. If the system refuses, the thread
/// runs on any core.
pub(crate) fn stay_on(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}

/// Lets the calling thread run on all cores again.
pub(crate) fn go_anywhere(cores: &[usize]) {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    let _ = sched_setaffinity(None, &set);
}
