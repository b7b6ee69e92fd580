//! [`Choice`]: the generation that one request runs on while there is a canary, and what is counted of its calls.

use std::{
    fmt,
    hash::Hash,
    panic,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use hotswap_sdk::{
    BoxFuture,
    host::{Fault, Interface, Trait},
};

use super::{
    CallFuture, Hotswap, Lease, Side,
    call::{CallTarget, Returns, Target, catch_fault},
    candidacy::Split,
};

/// The right to use one generation for one request: the live one, or the canary.
///
/// It is a [`Lease`] whose calls are counted for its side while there is a canary: their number, faults and times. All
/// calls under one choice run on one generation. If the canary ends meanwhile, they still do, and the generation stays
/// mapped until the choice is dropped.
#[must_use = "its generation is free to leave when this is dropped"]
pub struct Choice<I: Interface + ?Sized> {
    lease: Lease<I>,
    side: Side,
    /// `Some` if it was chosen while there was a canary.
    split: Option<Arc<Split>>,
}

/// A call of async methods under a [`Choice`]. It is a [`CallFuture`] that is counted when it is ready; its time begins
/// with the first poll. One that is dropped before is not counted.
#[must_use = "a future does nothing unless it is awaited"]
pub struct ChoiceFuture<I: Interface + ?Sized, R> {
    future: CallFuture<I, R>,
    side: Side,
    split: Option<Arc<Split>>,
    started: Option<Instant>,
}

impl<I: Interface + ?Sized> Hotswap<I> {
    /// Chooses the generation for a request: the live one, or the [canary](crate::canary::Canary), if there is one and
    /// its share has the key. Without a canary, it is the live one, and nothing is counted.
    ///
    /// The same key has the same side as long as the share stays; when the share grows, keys move to the canary alone.
    /// The next canary gets other keys first.
    ///
    /// Costs a lease, and while there is a canary a hash of the key; each call costs two looks at the clock and some
    /// counters. [`with`](Self::with) costs what it costs without a canary, and always reaches the live generation.
    /// Waits for nobody, unless leases are recorded ([`Settings::record_leases`](crate::Settings::record_leases)).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use hotswap_core::Hotswap;
    /// # use hotswap_types::Plugin;
    /// fn answer(plugin: &Hotswap<dyn Plugin>, user: &str, text: &str) -> Result<String, Box<dyn std::error::Error>> {
    ///     let chosen = plugin.choose(user);
    ///     Ok(chosen.call(|it| it.process(text))??)
    /// }
    /// ```
    #[track_caller]
    pub fn choose<K: Hash + ?Sized>(&self, key: &K) -> Choice<I> {
        self.choose_by(|split| split.hash(key))
    }

    /// Like [`choose`](Self::choose), at random.
    #[track_caller]
    pub fn choose_at_random(&self) -> Choice<I> {
        self.choose_by(|_| fastrand::u64(..))
    }

    #[track_caller]
    fn choose_by(&self, hash: impl FnOnce(&Split) -> u64) -> Choice<I> {
        let chosen = self.canary.choose(hash);
        let (split, candidate) = chosen.map(|it| (it.split, it.candidate)).unzip();
        let (side, lease) = match candidate.flatten() {
            Some(candidate) => (Side::Candidate, Lease::new(candidate)),
            None => (Side::Live, self.lease()),
        };
        Choice { lease, side, split }
    }
}

impl<I: Interface + ?Sized> Choice<I> {
    /// Calls `f` with the chosen generation, and counts the call.
    ///
    /// # Panics
    ///
    /// If `f` panics.
    pub fn with<R>(&self, f: impl for<'a> FnOnce(&'a Target<'a, I>) -> R) -> R
    where
        I::Kind: CallTarget<I> + Returns<R>,
    {
        self.count(|| catch_fault(|| self.lease.with(f)))
            .unwrap_or_else(|fault| panic::resume_unwind(Box::new(fault)))
    }

    /// Counts a call, unless `call` panics.
    fn count<R>(&self, call: impl FnOnce() -> Result<R, Fault>) -> Result<R, Fault> {
        let Some(split) = &self.split else {
            return call();
        };
        let started = Instant::now();
        let result = call();
        split.count(self.side, started.elapsed(), result.is_err());
        result
    }

    /// Counts a fault that only the host can see: an answer that cannot be right. Without a canary, nothing happens.
    pub fn report_fault(&self) {
        if let Some(split) = &self.split {
            split.fault(self.side);
        }
    }

    /// Which side it is. Without a canary, the live one.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The number of the chosen generation.
    pub fn generation(&self) -> u64 {
        self.lease.number()
    }

    /// The lease on the chosen generation. Its calls are not counted.
    pub fn lease(&self) -> &Lease<I> {
        &self.lease
    }
}

impl<I: Interface<Kind = Trait> + ?Sized> Choice<I> {
    /// Calls `f` with the chosen generation, counts the call, and returns a fault of the plugin as an error
    /// ([`Hotswap::call`]).
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn call<R>(&self, f: impl for<'a> FnOnce(&'a I::Borrowed<'a>) -> R) -> Result<R, Fault> {
        self.count(|| self.lease.call(f))
    }

    /// Begins a call of async methods of the chosen generation ([`Hotswap::call_async`]), which is counted when it is
    /// ready.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// As there.
    pub fn call_async<R>(
        &self,
        f: impl for<'a> FnOnce(&'a I::Borrowed<'a>) -> BoxFuture<'a, R>,
    ) -> ChoiceFuture<I, R> {
        ChoiceFuture {
            future: self.lease.call_async(f),
            side: self.side,
            split: self.split.clone(),
            started: None,
        }
    }
}

impl<I: Interface + ?Sized, R> Future for ChoiceFuture<I, R> {
    type Output = Result<R, Fault>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let started = *self.started.get_or_insert_with(Instant::now);
        let result = ready!(Pin::new(&mut self.future).poll(context));
        if let Some(split) = &self.split {
            split.count(self.side, started.elapsed(), result.is_err());
        }
        Poll::Ready(result)
    }
}

impl<I: Interface + ?Sized> fmt::Debug for Choice<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Choice")
            .field("side", &self.side)
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

impl<I: Interface + ?Sized, R> fmt::Debug for ChoiceFuture<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChoiceFuture")
            .field("side", &self.side)
            .field("future", &self.future)
            .finish_non_exhaustive()
    }
}
