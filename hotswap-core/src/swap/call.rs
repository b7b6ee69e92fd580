//! The argument and the result of a call's closure. If the interface is a trait, the closure gets the trait object and
//! may return anything. If it is a root module, the closure gets a [`Generation`] of it and may return what the host
//! owns.
//!
//! The traits here are sealed: they are not exported.

use std::panic::{self, AssertUnwindSafe};

use hotswap_sdk::host::{Fault, Interface, Raw, Trait};

use super::{Generation, Hotswap};
use crate::owned::HostOwned;

/// What a call's closure gets: `dyn Trait + 'a`, or the [`Generation`] of a root module.
pub(super) type Target<'a, I> = <<I as Interface>::Kind as CallTarget<I>>::Target<'a>;

/// A kind of [`Interface`], and what its calls get of a generation.
pub trait CallTarget<I: Interface + ?Sized> {
    /// What the closure gets.
    type Target<'a>: ?Sized;

    /// The target in a generation.
    fn target(generation: &Generation<I::Live>) -> &Self::Target<'_>;
}

/// A kind of [`Interface`] whose calls may return an `R`. Those of a trait may return anything, because its methods
/// return only what belongs to the host. Those of a root module may return what is [`HostOwned`].
pub trait Returns<R> {}

impl<I: Interface<Kind = Raw, Live = I>> CallTarget<I> for Raw {
    type Target<'a> = Generation<I>;

    #[inline]
    fn target(generation: &Generation<I>) -> &Generation<I> {
        generation
    }
}

impl<I: Interface<Kind = Trait> + ?Sized> CallTarget<I> for Trait {
    type Target<'a> = I::Borrowed<'a>;

    #[inline]
    fn target(generation: &Generation<I::Live>) -> &I::Borrowed<'_> {
        I::borrow(generation)
    }
}

impl<R: HostOwned> Returns<R> for Raw {}

impl<R> Returns<R> for Trait {}

impl<I: Interface<Kind = Trait> + ?Sized> Hotswap<I> {
    /// Calls `f` with the live generation, as [`with`](Self::with) does, and returns a fault of the plugin as an error.
    ///
    /// # Errors
    ///
    /// A method that `f` called has panicked, or has returned a value that the host cannot read. `f` is unwound at that
    /// point.
    ///
    /// # Panics
    ///
    /// If `f` itself panics.
    #[inline]
    pub fn call<R>(&self, f: impl for<'a> FnOnce(&'a I::Borrowed<'a>) -> R) -> Result<R, Fault> {
        catch_fault(|| self.with(f)).inspect_err(|_| self.history.metrics().fault())
    }
}

/// Runs `call`, and returns a panic of a proxy's method, whose payload is a [`Fault`], as an error. Other panics go on.
#[inline]
pub(super) fn catch_fault<R>(call: impl FnOnce() -> R) -> Result<R, Fault> {
    // Unwind-safe: what the closure leaves broken belongs to the host, as after any panic of its own.
    panic::catch_unwind(AssertUnwindSafe(call)).map_err(|payload| match payload.downcast() {
        Ok(fault) => *fault,
        Err(other) => panic::resume_unwind(other),
    })
}
