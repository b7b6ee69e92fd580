//! Signal handlers that lie in images.
//!
//! The kernel keeps a handler when its image is unmapped, and the next such signal ends the process. So before an
//! image is closed, the system is asked for the handler of each signal. That is not all: whoever sets a handler gets
//! the one before, and may call it from its own or set it again later, as `signal-hook` does. So it is also noted which
//! handlers were ever seen. An image is not closed for signal `n` when
//!
//! - the handler of `n` lies in it now, or
//! - another image with `unloadable!` that still runs was given its handler as the one before, when it set its own, or
//! - its handler was set at some time, is not now, and what is there instead is not what was there before the image was
//!   opened: somebody has replaced it, and may know it.
//!
//! # What it does not know
//! - A handler of an image without `unloadable!` that was set and replaced between two looks (one before each `dlopen`, one
//!   before each `dlclose`).
//! - A handler that the host itself has been given and that was set back by its image.
//! - A handler that the finalisers of another image set again.
//! - A handler that is running on another thread while its image takes it back.
//!
//! Because of these, handlers belong in the host.
#![expect(unsafe_code, reason = "asks the system for handlers")]

use std::{
    array,
    ffi::c_int,
    ops::Range,
    ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Linux has signals 1 to 64.
const SIGNALS: c_int = 64;

/// What is set for each signal, at one moment: addresses, or `SIG_DFL` and `SIG_IGN`. The first is of no signal.
pub(super) struct Snapshot([usize; SIGNALS as usize + 1]);

/// The handlers of one image.
pub(super) struct Handlers {
    segments: Vec<Range<usize>>,
    /// What was set before the image was opened.
    before: Snapshot,
    /// Signals for which a handler of the image was seen, and not seen to be taken back by it. A bit each.
    seen: AtomicU64,
    /// Signals whose handler other images know, and may set again as long as code of theirs runs.
    known_to: Mutex<Vec<(c_int, Arc<Handlers>)>>,
    /// Set when nothing of the image runs any more.
    retired: AtomicBool,
}

/// The images that may have handlers.
static IMAGES: Mutex<Vec<Weak<Handlers>>> = Mutex::new(Vec::new());

impl Snapshot {
    /// What is set now. Notes which handlers lie in which images. Costs a system call for each signal, some 5 µs in all.
    pub(super) fn take() -> Self {
        let snapshot = Self(array::from_fn(|signal| current(signal as c_int)));
        for image in images().iter().filter_map(Weak::upgrade) {
            for signal in (1..=SIGNALS).filter(|&signal| image.has(snapshot.of(signal))) {
                image.seen.fetch_or(bit(signal), Ordering::Relaxed);
            }
        }
        snapshot
    }

    fn of(&self, signal: c_int) -> usize {
        self.0[signal as usize]
    }
}

impl Handlers {
    /// Those of an image that has these segments.
    pub(super) fn new(segments: Vec<Range<usize>>, before: Snapshot) -> Arc<Self> {
        let handlers = Arc::new(Self {
            segments,
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
        // Initialisers have run before anybody was told.
        let now = Snapshot(array::from_fn(|signal| current(signal as c_int)));
        for signal in (1..=SIGNALS).filter(|&signal| handlers.has(now.of(signal))) {
            handlers.changed(signal, handlers.before.of(signal), now.of(signal));
        }
        handlers
    }

    /// This image has set the handler of a signal, and was given the one that was there before. Takes no lock if that
    /// was its own, or none: a handler may set itself again.
    pub(super) fn changed(self: &Arc<Self>, signal: c_int, old: usize, new: usize) {
        if !(1..=SIGNALS).contains(&signal) {
            return;
        }
        // Relaxed: read when the image is drained, and what orders that orders this.
        if self.has(new) {
            self.seen.fetch_or(bit(signal), Ordering::Relaxed);
        } else {
            self.seen.fetch_and(!bit(signal), Ordering::Relaxed);
        }
        if old <= libc::SIG_IGN || self.has(old) {
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

    /// Nothing of the image runs any more that could set a handler: its hook and its threads have ended. (One of its
    /// handlers may, if it is pinned for that; it is not expected to set those of others.)
    pub(super) fn retire(&self) {
        // Relaxed: who reads it asks for nothing else.
        self.retired.store(true, Ordering::Relaxed);
    }

    /// The first signal that may still be delivered to the image.
    pub(super) fn outstanding(&self) -> Option<c_int> {
        let now = Snapshot::take();
        let seen = self.seen.load(Ordering::Relaxed);
        let mut known_to = self.known_to();
        // Relaxed: nothing is read because of it.
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
        self.segments
            .iter()
            .any(|segment| segment.contains(&address))
    }
}

/// Whether the handler of any signal lies in these segments now.
pub(super) fn lie_in(segments: &[Range<usize>]) -> bool {
    let lies_in = |handler| segments.iter().any(|segment| segment.contains(&handler));
    (1..=SIGNALS).any(|signal| lies_in(current(signal)))
}

/// The name of a signal: `SIGUSR1`, or its number where it has none.
pub(super) fn name(signal: c_int) -> String {
    nix::sys::signal::Signal::try_from(signal).map_or_else(
        |_| format!("signal {signal}"),
        |known| known.as_str().to_owned(),
    )
}

fn current(signal: c_int) -> usize {
    // SAFETY: zeros are a valid action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action nothing is changed, and there is a place for the old one. For a number that is no
    // signal, or one of libc's own, this fails and writes nothing.
    unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    action.sa_sigaction
}

fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

fn images() -> MutexGuard<'static, Vec<Weak<Handlers>>> {
    IMAGES.lock().unwrap_or_else(PoisonError::into_inner)
}
