//! What a thread has changed about itself: that is not asked for.

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ThreadState;

impl ThreadState {
    pub(crate) fn now() -> Self {
        Self
    }
}
