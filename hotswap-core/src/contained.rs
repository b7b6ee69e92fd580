//! Code of the host's executor, subscribers and recorder, whose panics end here.
//!
//! The threads that unload and watch have to go on, a swap that has happened must not look as if it had failed, and a
//! candidate's image must not be dropped, which would leave it mapped for good. The panic hook has reported the panic.

use std::panic::{self, AssertUnwindSafe};

use tracing::{Span, span::Entered};

/// Runs code of the host. `None`: it has panicked.
pub(crate) fn contain<T>(foreign: impl FnOnce() -> T) -> Option<T> {
    panic::catch_unwind(AssertUnwindSafe(foreign)).ok()
}

/// A span of the host's subscriber, which may panic whenever it is told of the span. Then it is not told any more.
pub(crate) struct ContainedSpan(Option<Span>);

impl ContainedSpan {
    pub(crate) fn new(make: impl FnOnce() -> Span) -> Self {
        Self(contain(make))
    }

    /// Runs `work` in the span. A panic of `work` itself is passed on.
    pub(crate) fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        let entered = self.0.as_ref().and_then(|span| contain(|| span.enter()));
        let _entered = ContainedEntered(entered);
        work()
    }
}

impl Drop for ContainedSpan {
    fn drop(&mut self) {
        contain(|| drop(self.0.take()));
    }
}

/// Leaves a span when it is dropped.
struct ContainedEntered<'a>(Option<Entered<'a>>);

impl Drop for ContainedEntered<'_> {
    fn drop(&mut self) {
        contain(|| drop(self.0.take()));
    }
}
