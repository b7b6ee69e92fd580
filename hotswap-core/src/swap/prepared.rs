//! A candidate between *prepared* and *published*.

use std::{fmt, mem, ops::Deref, sync::Arc};

use hotswap_sdk::host::Interface;

use super::{Hotswap, Swapped, pipeline::Publishable};
use crate::history::{EventKind, PublishKind};

/// A candidate that is ready to be published, and cannot fail any more. Dropping it unloads it again, which waits for
/// nobody; with [services](crate::Settings::services) it first drops what the candidate's update has asked for, on a
/// thread, and waits for that: the candidate's destructors run there.
///
/// One from [`Hotswap::prepare`] borrows the swap point. One from [`Hotswap::prepare_async`] shares it, and its
/// lifetime is `'static`.
#[must_use = "it is unloaded again if it is not published"]
pub struct Prepared<'a, I: Interface + ?Sized> {
    /// `Some` until it is published.
    candidate: Option<Publishable<I::Live>>,
    hotswap: SwapPoint<'a, I>,
}

/// The swap point that it was prepared for.
pub(super) enum SwapPoint<'a, I: Interface + ?Sized> {
    Borrowed(&'a Hotswap<I>),
    Shared(Arc<Hotswap<I>>),
}

impl<'a, I: Interface + ?Sized> Prepared<'a, I> {
    pub(super) fn new(candidate: Publishable<I::Live>, hotswap: SwapPoint<'a, I>) -> Self {
        Self {
            candidate: Some(candidate),
            hotswap,
        }
    }

    /// Makes it the live generation, whichever generation is live by now.
    ///
    /// Returns as soon as new calls reach it. With [`Policy::serial_file`](crate::Policy::serial_file), it then also
    /// saves the serial number before it returns, which may wait for the disk and for other hosts that write to the
    /// file. If the number cannot be saved, it sends an event ([`EventKind::SerialNotKept`]).
    ///
    /// # Panics
    ///
    /// In a child that was forked after it was prepared ([`Hotswap`]).
    pub fn publish(mut self) -> Swapped {
        let is_inherited = self.hotswap.is_inherited();
        assert!(
            !is_inherited,
            "a plugin of the parent process is not published in a child"
        );
        let candidate = self.candidate.take().expect("published once");
        let origin = candidate.image.origin().clone();
        let (swapped, recorded) = self.hotswap.publish(candidate, PublishKind::Candidate);
        recorded.deliver();
        // Last, when no lock is held: it may wait for the disk.
        if let Err(error) = origin.keep_serial(self.hotswap.policy()) {
            let reason = error.reason();
            let setting = error.setting().map(str::to_owned);
            let not_kept = EventKind::SerialNotKept { reason, setting };
            let generation = Some(swapped.generation);
            self.hotswap
                .history
                .happened(generation, not_kept)
                .deliver();
        }
        swapped
    }
}

impl<I: Interface + ?Sized> Drop for Prepared<'_, I> {
    fn drop(&mut self) {
        if self.hotswap.is_inherited() {
            // The child has no thread to unload it.
            mem::forget(self.candidate.take());
        } else if let Some(candidate) = self.candidate.take() {
            candidate.discard(self.hotswap.reaper());
        }
    }
}

impl<I: Interface + ?Sized> Deref for SwapPoint<'_, I> {
    type Target = Hotswap<I>;

    fn deref(&self) -> &Hotswap<I> {
        match self {
            Self::Borrowed(hotswap) => hotswap,
            Self::Shared(hotswap) => hotswap,
        }
    }
}

impl<I: Interface + ?Sized> fmt::Debug for Prepared<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.candidate.as_ref().map(|it| it.image.origin());
        f.debug_struct("Prepared")
            .field("path", &origin.map(|it| &it.given))
            .finish_non_exhaustive()
    }
}
