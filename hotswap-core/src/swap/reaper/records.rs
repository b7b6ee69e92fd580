//! The records that the reaper updates for each image: the list of generations, what is retained, and the backlog.

use std::{sync::Arc, time::Instant};

use super::super::{
    backlog::{Backlog, Pending},
    retained::{Bounds, Counted, Retained},
};
use crate::{
    history::{EventKind, History, Recorded},
    image::{Gone, Spare},
};

/// The records of one swap point or loader.
pub(super) struct Records {
    pub(super) history: Arc<History>,
    pub(super) retained: Arc<Retained>,
    pub(super) backlog: Arc<Backlog>,
    /// A thread that an image has left, for the next image.
    pub(super) spare: Spare,
}

impl Records {
    /// Counts a retired image, if there is one, and adds it to the backlog. Returns an event if half of what may be
    /// retained is reached.
    pub(super) fn add(&self, counted: Option<Counted>) -> (Option<Pending>, Option<Recorded>) {
        let pending = counted.map(|_| self.backlog.add());
        (pending, self.count(counted))
    }

    pub(super) fn count(&self, counted: Option<Counted>) -> Option<Recorded> {
        let total = self.retained.add(counted?)?;
        let Bounds {
            images_max,
            bytes_max,
            ..
        } = self.retained.bounds();
        let retained = EventKind::Retained {
            images: total.images,
            bytes: total.bytes,
            images_max,
            bytes_max,
        };
        Some(self.history.happened(None, retained))
    }

    /// Removes an image that is gone, or that a rollback has taken back.
    pub(super) fn uncount(&self, counted: Option<Counted>) {
        if let Some(counted) = counted {
            self.retained.remove(counted);
        }
    }

    /// Asks all threads to run what they have left to run for retired images, and wakes who waits for generation
    /// `number`: such a thread may be among them.
    pub(super) fn ask_threads(&self, number: Option<u64>) {
        hotswap_cell::request_quiescence_callbacks();
        self.history.wake_to_detach(number);
    }

    /// Records that an image that was retired at `since` is gone. The event comes last, so whoever waits for room or
    /// gets the event may swap at once.
    pub(super) fn image_gone(
        &self,
        number: Option<u64>,
        since: Instant,
        counted: Option<Counted>,
        pending: Option<Pending>,
        gone: Gone,
    ) {
        if let Some(opener) = gone.opener {
            self.spare.keep(opener);
        }
        self.uncount(counted);
        drop(pending);
        if let Some(number) = number {
            self.history.unloaded(number, since.elapsed(), gone.heap);
        }
    }
}
