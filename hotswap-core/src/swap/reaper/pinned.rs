//! A pinned image: the system keeps it mapped, or it is not known to be safe to close.
//!
//! It may be gone later, so the reaper tries again: whenever another image has been unloaded, because the system then
//! looks at all images, and after a pause that grows from [`FIRST_PAUSE`] to [`LAST_PAUSE`].

use std::time::{Duration, Instant};

use super::{super::retained::Counted, records::Records};
use crate::image::Pinned;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// An image that is pinned, but not for good.
pub(super) struct PinnedImage {
    number: Option<u64>,
    /// When it was retired.
    since: Instant,
    counted: Option<Counted>,
    image: Box<Pinned>,
    pause: Duration,
    next: Instant,
}

/// The result of another attempt to unload it.
pub(super) enum Retried {
    Left,
    /// `None`: it is pinned for good.
    Pinned(Option<PinnedImage>),
}

impl PinnedImage {
    /// Records why the image is pinned. `None`: it is pinned for good, and is not tried again.
    pub(super) fn new(
        number: Option<u64>,
        since: Instant,
        counted: Option<Counted>,
        image: Box<Pinned>,
        records: &Records,
    ) -> Option<Self> {
        let it = Self {
            number,
            since,
            counted,
            image,
            pause: FIRST_PAUSE,
            next: Instant::now() + FIRST_PAUSE,
        };
        it.record_reason(records);
        (!it.image.why().is_final()).then_some(it)
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Tries again if it is due, or always with `at_once`.
    pub(super) fn retry(mut self, at_once: bool, records: &Records) -> Retried {
        let now = Instant::now();
        let is_due = now >= self.next;
        if !is_due && !at_once {
            return Retried::Pinned(Some(self));
        }
        let before = self.image.why().clone();
        self.image = match self.image.retry() {
            Ok(gone) => {
                records.image_gone(self.number, self.since, self.counted, None, gone);
                return Retried::Left;
            }
            Err(image) => image,
        };
        if *self.image.why() != before {
            self.record_reason(records);
        }
        if self.image.waits_for_threads() {
            records.ask_threads(self.number);
            // This thread may have a share, too, as in the worker's loop.
            hotswap_cell::pass_quiescent_point();
        }
        if self.image.why().is_final() {
            return Retried::Pinned(None);
        }
        if is_due {
            self.pause = LAST_PAUSE.min(self.pause * 2);
            self.next = now + self.pause;
        }
        Retried::Pinned(Some(self))
    }

    fn record_reason(&self, records: &Records) {
        if let Some(number) = self.number {
            records.history.pinned(number, self.image.why().clone());
        }
    }
}
