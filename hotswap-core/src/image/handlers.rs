//! Signal handlers that lie in images.
//!
//! The kernel keeps a handler when its image is unmapped, and the next such signal then ends the process. So hotswap
//! asks the system for the handler of each signal before it closes an image. That is not enough: whoever sets a
//! handler gets the previous one, and may call it from its own handler or set it again later, as `signal-hook` does.
//! So hotswap also notes which handlers it has ever seen. An image is not closed if, for some signal,
//!
//! - the current handler lies in the image, or
//! - another image with `unloadable!` that still runs set its own handler and was given this image's as the previous
//!   one, or
//! - the image once had the handler, has it no longer, and the current handler is not the one from before the image
//!   was opened: somebody has replaced it, and may know it.
//!
//! # What it does not know
//! - A handler of an image without `unloadable!` that was set and replaced between two snapshots (one is taken before
//!   each `dlopen`, one before each `dlclose`).
//! - A handler that the host itself was given as the previous one, and that its image then took back.
//! - A handler that the finalisers of another image set again.
//! - A handler that is running on another thread while its image takes it back.
//!
//! Because of these gaps, handlers belong in the host.

use std::{
    array,
    ffi::c_int,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::system::{
    mapping::Mapping,
    signals::{self, SIGNALS, handler, is_function},
};

/// The handler of each signal at one moment. Index 0 belongs to no signal.
pub(super) struct Snapshot([usize; SIGNALS as usize + 1]);

/// The handlers of one image.
pub(super) struct Handlers {
    mapping: Mapping,
    /// The handlers from before the image was opened.
    before: Snapshot,
    /// Signals for which the image was seen to set a handler, and not seen to take it back. One bit each.
    seen: AtomicU64,
    /// Signals whose handler other images know, and may set again as long as their code runs.
    known_to: Mutex<Vec<(c_int, Arc<Handlers>)>>,
    /// Set when no code of the image runs any more.
    retired: AtomicBool,
}

/// All images whose handlers are watched.
static IMAGES: Mutex<Vec<Weak<Handlers>>> = Mutex::new(Vec::new());

impl Snapshot {
    /// Takes a snapshot, and notes which handlers lie in which images. Costs one system call per signal, some 5 µs in
    /// all.
    pub(super) fn take() -> Self {
        let snapshot = Self::now();
        for image in images().iter().filter_map(Weak::upgrade) {
            for signal in (1..=SIGNALS).filter(|&signal| image.has(snapshot.of(signal))) {
                image.seen.fetch_or(bit(signal), Ordering::Relaxed);
            }
        }
        snapshot
    }

    fn now() -> Self {
        Self(array::from_fn(|signal| handler(signal as c_int)))
    }

    fn of(&self, signal: c_int) -> usize {
        self.0[signal as usize]
    }
}

impl Handlers {
    /// Begins to watch the image at `mapping`.
    pub(super) fn new(mapping: Mapping, before: Snapshot) -> Arc<Self> {
        let handlers = Arc::new(Self {
            mapping,
            before,
            seen: AtomicU64::new(0),
            known_to: Mutex::default(),
            retired: AtomicBool::new(false),
        });
        {
            let mut images = images();
            images.retain(|image| image.strong_count() > 0);
            images.push(Arc::downgrade(&handlers));
        }
        // The image's initialisers ran before it was watched, and may have set handlers.
        let now = Snapshot::now();
        for signal in (1..=SIGNALS).filter(|&signal| handlers.has(now.of(signal))) {
            handlers.changed(signal, handlers.before.of(signal), now.of(signal));
        }
        handlers
    }

    /// Notes that this image has set the handler of a signal, and was given `old` as the previous one. Takes no lock
    /// if `old` was its own handler or none, since a handler may set itself again.
    pub(super) fn changed(self: &Arc<Self>, signal: c_int, old: usize, new: usize) {
        if !(1..=SIGNALS).contains(&signal) {
            return;
        }
        // Relaxed: these are read after the image has drained, and what orders the draining orders them too.
        if self.has(new) {
            self.seen.fetch_or(bit(signal), Ordering::Relaxed);
        } else {
            self.seen.fetch_and(!bit(signal), Ordering::Relaxed);
        }
        if !is_function(old) || self.has(old) {
            return;
        }
        for image in images().iter().filter_map(Weak::upgrade) {
            if image.has(old) {
                image.is_known_to(signal, self);
            }
        }
    }

    fn is_known_to(&self, signal: c_int, other: &Arc<Self>) {
        let mut known_to = self.known_to();
        if !known_to
            .iter()
            .any(|(of, image)| *of == signal && Arc::ptr_eq(image, other))
        {
            known_to.push((signal, Arc::clone(other)));
        }
    }

    /// Notes that no code of the image that could set a handler runs any more: its hook and its threads have ended.
    /// (If it is pinned for a handler, that handler may still run; it is not expected to set the handlers of others.)
    pub(super) fn retire(&self) {
        // Relaxed: `outstanding` reads nothing else because of it.
        self.retired.store(true, Ordering::Relaxed);
    }

    /// The first signal whose handler may still run in the image.
    pub(super) fn outstanding(&self) -> Option<c_int> {
        let now = Snapshot::take();
        let seen = self.seen.load(Ordering::Relaxed);
        let mut known_to = self.known_to();
        // Relaxed: nothing else is read because of it.
        known_to.retain(|(_, image)| !image.retired.load(Ordering::Relaxed));
        (1..=SIGNALS).find(|&signal| {
            let replaced = seen & bit(signal) != 0 && now.of(signal) != self.before.of(signal);
            let is_known = known_to.iter().any(|(of, _)| *of == signal);
            self.has(now.of(signal)) || is_known || replaced
        })
    }

    fn known_to(&self) -> MutexGuard<'_, Vec<(c_int, Arc<Self>)>> {
        self.known_to.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, address: usize) -> bool {
        self.mapping.has(address, 1)
    }
}

/// Whether the handler of any signal lies in `mapping` now.
pub(super) fn lie_in(mapping: &Mapping) -> bool {
    (1..=SIGNALS).any(|signal| mapping.has(handler(signal), 1))
}

/// The name of a signal (`SIGUSR1`), or its number if it has none.
pub(super) fn name(signal: c_int) -> String {
    signals::name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}

fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

fn images() -> MutexGuard<'static, Vec<Weak<Handlers>>> {
    IMAGES.lock().unwrap_or_else(PoisonError::into_inner)
}
