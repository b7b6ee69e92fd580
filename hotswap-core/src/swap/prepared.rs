//! A candidate between *prepared* and *published*.

use std::{fmt, mem, ops::Deref, path::Path, sync::Arc};

use hotswap_sdk::host::Interface;

use super::{Hotswap, Swapped, pipeline::Publishable};
use crate::{
    history::{EventKind, PublishKind},
    stage::Origin,
};

/// A candidate that is ready to be published, and cannot fail any more. Dropping it unloads it again, which waits for
/// nobody; with [services](crate::Settings::services) it first drops what the candidate's update has asked for, on a
/// thread, and waits for that: the candidate's destructors run there.
///
/// One from [`Hotswap::prepare`] borrows the swap point. One from [`Hotswap::prepare_shared`] or
/// [`Hotswap::prepare_async`] shares it, and its lifetime is `'static`.
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
        self.hotswap.keep_serial(&origin, swapped.generation);
        swapped
    }

    /// The path that was given.
    pub(super) fn path(&self) -> &Path {
        let candidate = self.candidate.as_ref().expect("not published yet");
        &candidate.image.origin().given
    }

    pub(super) fn swap_point(&self) -> &Hotswap<I> {
        &self.hotswap
    }

    /// Takes the candidate and the swap point apart, without unloading the candidate.
    pub(super) fn into_parts(mut self) -> (Publishable<I::Live>, SwapPoint<'a, I>) {
        let candidate = self.candidate.take().expect("not published yet");
        (candidate, self.hotswap.clone())
    }
}

impl<I: Interface + ?Sized> Hotswap<I> {
    /// Saves the serial number of a generation that has just been published. May wait for the disk: no lock is held.
    pub(super) fn keep_serial(&self, origin: &Origin, generation: u64) {
        if let Err(error) = origin.keep_serial(self.policy()) {
            let reason = error.reason();
            let setting = error.setting().map(str::to_owned);
            let not_kept = EventKind::SerialNotKept { reason, setting };
            self.history.happened(Some(generation), not_kept).deliver();
        }
    }
}

impl<I: Interface + ?Sized> Clone for SwapPoint<'_, I> {
    fn clone(&self) -> Self {
        match self {
            Self::Borrowed(hotswap) => Self::Borrowed(hotswap),
            Self::Shared(hotswap) => Self::Shared(Arc::clone(hotswap)),
        }
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
