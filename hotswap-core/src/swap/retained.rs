//! How much is retired and still mapped, and when that is too much.
//!
//! An image counts from the moment it is handed to the reaper until it was seen to be gone. Nothing else ends the
//! count: an image that is never seen to be gone (it is pinned for good, or its reaper has ended) counts for as long
//! as the process runs, because it keeps its memory and its descriptor.
//!
//! Each swap point and each loader has a count of its own. When one of them is dropped, what it leaves behind counts
//! for all others from then on. Otherwise a host that makes a new swap point after each failure would have no bound
//! at all.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    error::ErrorKind,
    history::History,
    system::limits::{self, Limit},
};

/// How much may be retained, and how long a candidate waits for the reaper.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) images_max: usize,
    pub(crate) bytes_max: u64,
    /// How long a candidate waits for the unloading thread to catch up.
    pub(crate) unload_timeout: Duration,
}

/// A number of images, and the total size of their copies in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) images: usize,
    pub(crate) bytes: u64,
}

/// The count of one swap point or loader.
pub(super) struct Retained {
    bounds: Bounds,
    count: Mutex<Count>,
}

/// The swap point's handle. When it is dropped, what is still counted counts for all others.
pub(super) struct Owner(Arc<Retained>);

/// One image that counts.
#[derive(Clone, Copy)]
pub(super) struct Counted {
    bytes: u64,
    /// Whether it is the image of a refused candidate, which has no generation.
    is_refused: bool,
}

/// How much there is when it is too much.
pub(super) struct Excess {
    total: Amount,
    refused: usize,
    left_behind: usize,
    /// Whether the bound on images is reached, and not the one on bytes.
    of_images: bool,
}

#[derive(Default)]
struct Count {
    own: Amount,
    /// The part that belongs to refused candidates.
    refused: Amount,
    /// Whether the event that half is reached was sent.
    reported: bool,
    has_no_owner: bool,
}

/// What swap points and loaders that are gone have left behind. Lock order: after a [`Count`].
static LEFT_BEHIND: Mutex<Amount> = Mutex::new(Amount {
    images: 0,
    bytes: 0,
});

/// The default bound on images: a quarter of the lowest of these limits. Descriptors of the process, since a retired
/// image keeps one open; mappings that the kernel allows for a process; threads of the user and of the container,
/// since an image that is not closed keeps a thread. The last three matter where descriptors are plenty (many
/// containers allow a million).
pub(crate) fn images_max_by_default() -> usize {
    /// A plugin has 4 to 6 segments; its thread has a stack and a signal stack, each with a guard.
    const MAPPINGS_PER_IMAGE: usize = 12;
    /// `DEFAULT_MAX_MAP_COUNT` of the kernel.
    const MAPPINGS_MAX: usize = 65_530;
    /// The soft limit that most systems begin with.
    const DESCRIPTORS_MAX: u64 = 1024;
    let descriptors = match limits::descriptors() {
        Limit::Of(descriptors) => Some(descriptors),
        Limit::Unlimited => None,
        Limit::Unknown => Some(DESCRIPTORS_MAX),
    };
    let descriptors = descriptors.and_then(|it| usize::try_from(it).ok());
    let mappings = limits::mappings().and_then(|it| usize::try_from(it).ok());
    let mappings = mappings.unwrap_or(MAPPINGS_MAX) / MAPPINGS_PER_IMAGE;
    let threads = match limits::threads_of_user() {
        Limit::Of(threads) => Some(threads),
        Limit::Unlimited | Limit::Unknown => None,
    };
    let container = limits::threads_of_container();
    let bounds = [threads, container].map(|it| it.and_then(|it| usize::try_from(it).ok()));
    let bounds = bounds.into_iter().chain([descriptors, Some(mappings)]);
    (bounds.flatten().min().unwrap_or(usize::MAX) / 4).max(1)
}

/// The default bound on bytes: a quarter of the memory of the machine, or of the container.
pub(crate) fn bytes_max_by_default() -> u64 {
    limits::memory_bytes() / 4
}

impl Counted {
    pub(super) fn new(bytes: u64, is_refused: bool) -> Self {
        Self { bytes, is_refused }
    }
}

impl Retained {
    pub(super) fn new(bounds: Bounds) -> (Owner, Arc<Self>) {
        let retained = Arc::new(Self {
            bounds,
            count: Mutex::default(),
        });
        (Owner(Arc::clone(&retained)), retained)
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Counts one more image. Returns the total if that reaches half of a bound for the first time.
    pub(super) fn add(&self, image: Counted) -> Option<Amount> {
        let mut count = self.count();
        count.own.add(image.bytes);
        if image.is_refused {
            count.refused.add(image.bytes);
        }
        if count.has_no_owner {
            left_behind().add(image.bytes);
        }
        let total = count.total();
        let report = !count.reported && self.bounds.reached_by(total.times(2));
        count.reported |= report;
        report.then_some(total)
    }

    /// Removes an image that is gone or was taken back.
    pub(super) fn remove(&self, image: Counted) {
        let mut count = self.count();
        count.own.remove(image.bytes);
        if image.is_refused {
            count.refused.remove(image.bytes);
        }
        if count.has_no_owner {
            left_behind().remove(image.bytes);
        }
        count.reported &= self.bounds.reached_by(count.total().times(4));
    }

    /// Checks whether there is room for one more image, with bounds that are `times` as high as the settings say.
    pub(super) fn check(&self, times: u8) -> Result<(), Excess> {
        let count = self.count();
        let (total, bounds) = (count.total(), self.bounds.times(times));
        if !bounds.reached_by(total) {
            return Ok(());
        }
        Err(Excess {
            total,
            refused: count.refused.images,
            left_behind: total.images - count.own.images,
            of_images: total.images >= bounds.images_max,
        })
    }

    /// Whether the images of refused candidates take less than half of a bound.
    pub(super) fn has_room_to_retry(&self) -> bool {
        !self.bounds.reached_by(self.count().refused.times(2))
    }

    /// Only a bug in this counting can panic under the lock.
    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Excess {
    /// The refusal: how much there is, which bound is reached, and which generations take part.
    pub(super) fn kind(&self, bounds: Bounds, history: &History) -> ErrorKind {
        let max = if self.of_images {
            bounds.images_max as u64
        } else {
            bounds.bytes_max
        };
        ErrorKind::Retired {
            images: self.total.images,
            bytes: self.total.bytes,
            is_of_bytes: !self.of_images,
            max,
            left: self.list(history),
        }
    }

    fn list(&self, history: &History) -> Vec<String> {
        const NAMED_MAX: usize = 3;
        let generations = history.generations().into_iter();
        let retired = generations
            .filter(|it| it.state.is_retained())
            .map(|it| format!("generation {} {}", it.number, it.state));
        let mut list: Vec<_> = retired.take(NAMED_MAX).collect();
        let others = self.refused + self.left_behind;
        // The list and the count are from different moments, so this may be off by a few.
        let more = self.total.images.saturating_sub(list.len() + others);
        if more > 0 {
            list.push(format!("{more} more"));
        }
        if self.refused > 0 {
            let plural = if self.refused == 1 { "" } else { "s" };
            list.push(format!("{} refused candidate{plural}", self.refused));
        }
        if self.left_behind > 0 {
            let count = self.left_behind;
            list.push(format!("{count} of swap points and loaders that are gone"));
        }
        list
    }
}

impl Count {
    /// Includes what others have left behind.
    fn total(&self) -> Amount {
        let mut total = *left_behind();
        if !self.has_no_owner {
            total.images += self.own.images;
            total.bytes = total.bytes.saturating_add(self.own.bytes);
        }
        total
    }
}

impl Owner {
    pub(super) fn retained(&self) -> &Arc<Retained> {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut count = self.0.count();
        count.has_no_owner = true;
        let mut left_behind = left_behind();
        left_behind.images += count.own.images;
        left_behind.bytes = left_behind.bytes.saturating_add(count.own.bytes);
    }
}

impl Bounds {
    fn reached_by(self, amount: Amount) -> bool {
        amount.images >= self.images_max || amount.bytes >= self.bytes_max
    }

    fn times(self, times: u8) -> Self {
        Self {
            images_max: self.images_max.saturating_mul(times.into()),
            bytes_max: self.bytes_max.saturating_mul(times.into()),
            ..self
        }
    }
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.images += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn remove(&mut self, bytes: u64) {
        self.images -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn times(self, times: u8) -> Self {
        Self {
            images: self.images.saturating_mul(times.into()),
            bytes: self.bytes.saturating_mul(times.into()),
        }
    }
}

fn left_behind() -> MutexGuard<'static, Amount> {
    LEFT_BEHIND.lock().unwrap_or_else(PoisonError::into_inner)
}
