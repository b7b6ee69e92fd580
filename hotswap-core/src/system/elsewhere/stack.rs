//! The calling thread's stack: it is not read.

pub(crate) fn frames() -> Vec<usize> {
    Vec::new()
}
