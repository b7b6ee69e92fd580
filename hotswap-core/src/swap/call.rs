//! What a call is given, and what may leave it: for a trait the trait itself, and anything; for a root module a
//! [`Generation`] of it, and what the host owns.
//!
//! The traits here are not exported, so that nobody else implements them.

use std::panic::{self, AssertUnwindSafe};

use hotswap_sdk::host::{Fault, Interface, Raw, Trait};

use super::{Generation, Hotswap};
use crate::owned::HostOwned;

/// What a call of this interface is given: `dyn Trait`, or the [`Generation`] of a root module.
pub(super) type Target<I> = <<I as Interface>::Kind as CallTarget<I>>::Target;

/// How a generation is given to a call. For the kinds of [`Interface`].
pub trait CallTarget<I: Interface + ?Sized> {
    /// What it is given as.
    type Target: ?Sized;

    /// Gives it.
    fn target(generation: &Generation<I::Live>) -> &Self::Target;
}

/// Which results a call may have. For the kinds of [`Interface`]: with a trait all of them, for its methods give only what
/// belongs to the host; with a root module what is [`HostOwned`].
pub trait Returns<R> {}

impl<I: Interface<Kind = Raw, Live = I>> CallTarget<I> for Raw {
    type Target = Generation<I>;

    #[inline]
    fn target(generation: &Generation<I>) -> &Generation<I> {
        generation
    }
}

impl<I: Interface<Kind = Trait> + ?Sized> CallTarget<I> for Trait {
    type Target = I;

    #[inline]
    fn target(generation: &Generation<I::Live>) -> &I {
        I::as_interface(generation)
    }
}

impl<R: HostOwned> Returns<R> for Raw {}

impl<R> Returns<R> for Trait {}

impl<I: Interface<Kind = Trait> + ?Sized> Hotswap<I> {
    /// Calls `f` with the live generation, as [`with`](Self::with) does, and gives a fault of the plugin as an error.
    ///
    /// # Errors
    ///
    /// A method that `f` has called has panicked, or has given a value that cannot be read here. `f` has not gone on
    /// after that.
    ///
    /// # Panics
    ///
    /// When `f` does by itself.
    #[inline]
    pub fn call<R>(&self, f: impl FnOnce(&I) -> R) -> Result<R, Fault> {
        caught(|| self.with(f))
    }
}

/// A method of a proxy panics with a [`Fault`].
#[inline]
pub(super) fn caught<R>(call: impl FnOnce() -> R) -> Result<R, Fault> {
    // Unwind-safe: what `f` may leave broken is the host's own, as with any panic.
    panic::catch_unwind(AssertUnwindSafe(call)).map_err(|payload| match payload.downcast() {
        Ok(fault) => *fault,
        Err(other) => panic::resume_unwind(other),
    })
}
