//! [`Choice`]: the generation that one request runs on while there is a canary, and what is counted of its calls.

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    mem, panic,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use hotswap_cell::{Cell, Retired, SelfLease};
use hotswap_sdk::{
    BoxFuture,
    host::{Fault, Interface, Trait},
};

use super::{
    CallFuture, Generation, Hotswap, Lease,
    call::{CallTarget, Returns, Target, catch_fault},
};
use crate::{
    comparison::{Recording, Share},
    history::{Metrics, SideMetrics},
};

/// One of the two generations between which calls are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The live generation.
    Live,
    /// The canary.
    Candidate,
}

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

/// How calls are split between the two sides of one canary, and what is counted of them.
pub(super) struct Split {
    share: AtomicU32,
    /// Makes other keys the first ones in each canary.
    hasher: RandomState,
    live: Counted,
    candidate: Counted,
}

struct Counted {
    recording: Recording,
    metrics: SideMetrics,
}

/// The canary of a swap point, if there is one.
///
/// A choice reads it, and leases the candidate by its [`SelfLease`]; meanwhile the canary may end. If the choice reads
/// before [`end`](Self::end), it may lease a candidate that has been promoted, which is live then, or one that has been
/// abandoned: then either the lease comes first, and the reaper finds it, or the reaper has drained the candidate, and
/// there is none to be had. If the choice reads after `end`, it finds no canary. What it reads stays until it has read
/// it, because [`Retired::try_drain`] is what frees it.
pub(super) struct ActiveCanary<M> {
    current: Cell<Option<Active<M>>>,
    /// Canaries that have ended, and that a choice may still have been reading when they did.
    ended: Mutex<Vec<Retired<Option<Active<M>>>>>,
}

struct Active<M> {
    candidate: SelfLease<Generation<M>>,
    split: Arc<Split>,
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
        self.choose_by(|split| split.hasher.hash_one(key))
    }

    /// Like [`choose`](Self::choose), at random.
    #[track_caller]
    pub fn choose_at_random(&self) -> Choice<I> {
        self.choose_by(|_| fastrand::u64(..))
    }

    #[track_caller]
    fn choose_by(&self, hash: impl FnOnce(&Split) -> u64) -> Choice<I> {
        let chosen = self.canary.current.with(|active| {
            let active = active.as_ref()?;
            let is_candidate = active.split.share().has(hash(&active.split));
            // Without a lease, the canary has ended and is drained.
            let candidate = is_candidate.then(|| active.candidate.lease());
            Some((Arc::clone(&active.split), candidate.flatten()))
        });
        let (split, candidate) = chosen.unzip();
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

impl Split {
    pub(super) fn new(share: Share, metrics: &Metrics) -> Self {
        let counted = |side: Side| Counted {
            recording: Recording::new(),
            metrics: metrics.side(side.name()),
        };
        Self {
            share: AtomicU32::new(share.millionths()),
            hasher: RandomState::new(),
            live: counted(Side::Live),
            candidate: counted(Side::Candidate),
        }
    }

    // Relaxed, both: a choice that comes at the same time may have either share.

    pub(super) fn share(&self) -> Share {
        Share::of_millionths(self.share.load(Ordering::Relaxed))
    }

    pub(super) fn set_share(&self, share: Share) {
        self.share.store(share.millionths(), Ordering::Relaxed);
    }

    pub(super) fn recording(&self, side: Side) -> &Recording {
        &self.of(side).recording
    }

    fn count(&self, side: Side, time: Duration, has_fault: bool) {
        let side = self.of(side);
        side.metrics.call(time);
        if has_fault {
            side.metrics.fault();
        }
        side.recording.count(time, has_fault);
    }

    fn fault(&self, side: Side) {
        let side = self.of(side);
        side.metrics.fault();
        side.recording.fault();
    }

    fn of(&self, side: Side) -> &Counted {
        match side {
            Side::Live => &self.live,
            Side::Candidate => &self.candidate,
        }
    }
}

impl fmt::Debug for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Split")
            .field("share", &self.share())
            .finish_non_exhaustive()
    }
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Candidate => "candidate",
        }
    }
}

impl<M: Send + Sync> ActiveCanary<M> {
    pub(super) fn is_there(&self) -> bool {
        self.current.with(Option::is_some)
    }

    /// Choices reach the candidate from now on. There must be no canary, and none that begins meanwhile.
    pub(super) fn begin(&self, candidate: SelfLease<Generation<M>>, split: Arc<Split>) {
        self.replace(Some(Active { candidate, split }));
    }

    /// Choices reach the live generation alone from now on, except for those that are being made.
    pub(super) fn end(&self) {
        self.replace(None);
    }

    fn replace(&self, active: Option<Active<M>>) {
        let replaced = self.current.publish(active);
        // Only a failed allocation can panic under the lock, and what is in the list is complete even then.
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push(replaced);
        let all = mem::take(&mut *ended).into_iter();
        ended.extend(all.filter_map(|it| it.try_drain().err()));
    }
}

impl<M: Send + Sync> Default for ActiveCanary<M> {
    fn default() -> Self {
        Self {
            current: Cell::new(None),
            ended: Mutex::default(),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
