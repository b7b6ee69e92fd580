//! Calls of async methods: a future that owns the lease of the generation that it runs on.

use std::{
    fmt,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use hotswap_cell::LeasedFuture;
use hotswap_sdk::{
    BoxFuture,
    host::{Fault, Interface, Trait},
};

use super::{Generation, Hotswap, Lease, call::catch_fault};
use crate::history::Metrics;

/// A call of async methods ([`Hotswap::call_async`]). It owns what it needs, and holds its generation until it is ready
/// or dropped. Dropping it cancels the call: the plugin's future is dropped, with its destructors.
#[must_use = "a future does nothing unless it is awaited"]
pub struct CallFuture<I: Interface + ?Sized, R> {
    state: CallState<I::Live, R>,
}

enum CallState<L, R> {
    Running(RunningCall<L, R>),
    /// Taken when it is told.
    Failed(Option<Fault>),
    Ready,
}

struct RunningCall<L, R> {
    future: LeasedFuture<Generation<L>, R>,
    /// Whether the generation counts it: from the first poll on, if it is not ready then. (Counting costs a call that
    /// is ready at once a tenth of its time.)
    is_counted: bool,
}

/// How many futures of a generation there are.
#[derive(Debug, Default)]
pub(super) struct FutureCount(AtomicUsize);

impl FutureCount {
    // Relaxed, all three: it is only reported.

    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<I: Interface<Kind = Trait> + ?Sized> Hotswap<I> {
    /// Begins a call of async methods, and returns it as a future of the host's own: `Send`, for any executor, and not
    /// tied to this swap point.
    ///
    /// The call uses the generation of the call that the calling thread is inside of, or else the live one, until its
    /// end. Swaps may come meanwhile; a retired generation is unloaded after the last of its calls has ended. `f` is
    /// called at once, and makes the future: that of one method, or of an `async` block that calls several. Their
    /// bodies run when the future is polled.
    ///
    /// Dropping the future cancels the call. The plugin's future is polled and dropped on the threads that poll and
    /// drop this one, unless the plugin has a runtime of its own. What wakes it may be on any thread, also one of the
    /// plugin's.
    ///
    /// Costs a lease and an allocation for each side beside what the method itself costs. Waits for nobody.
    ///
    /// # Errors
    ///
    /// The future's output is the result, or why there is none: a method has panicked, or has returned a value that the
    /// host cannot read.
    ///
    /// # Panics
    ///
    /// If `f` itself panics, or the future that it returns does.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotswap_core::Hotswap;
    ///
    /// #[hotswap_sdk::interface]
    /// trait Prices {
    ///     async fn price(&self, article: String) -> Option<u64>;
    /// }
    ///
    /// struct Fixed;
    ///
    /// #[hotswap_sdk::interface]
    /// impl Prices for Fixed {
    ///     async fn price(&self, article: String) -> Option<u64> {
    ///         (article == "apple").then_some(3)
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let prices = Hotswap::<dyn Prices>::builtin(Fixed)?;
    /// let price = prices.call_async(|it| it.price("apple".to_owned())).await?;
    /// assert_eq!(price, Some(3));
    ///
    /// let both = prices.call_async(|it| {
    ///     Box::pin(async move { (it.price("apple".to_owned()).await, it.price("pear".to_owned()).await) })
    /// });
    /// assert_eq!(both.await?, (Some(3), None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn call_async<R>(
        &self,
        f: impl for<'a> FnOnce(&'a I::Borrowed<'a>) -> BoxFuture<'a, R>,
    ) -> CallFuture<I, R> {
        CallFuture::new(self.cell.lease_of_call(), self.history.metrics(), f)
    }
}

impl<I: Interface<Kind = Trait> + ?Sized> Lease<I> {
    /// Begins a call of async methods of the leased generation ([`Hotswap::call_async`]).
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
    ) -> CallFuture<I, R> {
        let generation = self.generation();
        CallFuture::new(generation.clone(), &generation.metrics, f)
    }
}

impl<I: Interface<Kind = Trait> + ?Sized, R> CallFuture<I, R> {
    fn new(
        lease: hotswap_cell::Lease<Generation<I::Live>>,
        metrics: &Metrics,
        f: impl for<'a> FnOnce(&'a I::Borrowed<'a>) -> BoxFuture<'a, R>,
    ) -> Self {
        let future = catch_fault(|| lease.into_future(|it| f(I::borrow(it))));
        let state = match future {
            Ok(future) => CallState::Running(RunningCall {
                future,
                is_counted: false,
            }),
            Err(fault) => {
                metrics.fault();
                CallState::Failed(Some(fault))
            }
        };
        Self { state }
    }
}

impl<I: Interface + ?Sized, R> Future for CallFuture<I, R> {
    type Output = Result<R, Fault>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let output = match &mut self.state {
            CallState::Running(call) => match catch_fault(|| call.poll(context)) {
                Ok(Poll::Pending) => {
                    call.count();
                    return Poll::Pending;
                }
                Ok(Poll::Ready(value)) => Ok(value),
                Err(fault) => {
                    call.future.value().metrics.fault();
                    Err(fault)
                }
            },
            CallState::Failed(fault) => Err(fault.take().expect(ENDED)),
            CallState::Ready => panic!("{ENDED}"),
        };
        // The generation is held no longer than the call runs.
        self.state = CallState::Ready;
        Poll::Ready(output)
    }
}

const ENDED: &str = "`CallFuture` polled after completion";

impl<L, R> RunningCall<L, R> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<R> {
        let (generation, future) = self.future.parts();
        match &generation.polls {
            None => future.poll(context),
            Some(polls) => polls.with(|()| future.poll(context)),
        }
    }

    fn count(&mut self) {
        if !self.is_counted {
            self.is_counted = true;
            self.future.value().futures.begin();
        }
    }
}

impl<L, R> Drop for RunningCall<L, R> {
    fn drop(&mut self) {
        if self.is_counted {
            self.future.value().futures.end();
        }
    }
}

impl<I: Interface + ?Sized, R> fmt::Debug for CallFuture<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generation = match &self.state {
            CallState::Running(call) => Some(call.future.value().number()),
            CallState::Failed(_) | CallState::Ready => None,
        };
        f.debug_struct("CallFuture")
            .field("generation", &generation)
            .finish_non_exhaustive()
    }
}
