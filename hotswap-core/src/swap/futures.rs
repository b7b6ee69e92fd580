//! The forms of swaps, rollbacks and waits that do not block an executor.
//!
//! What blocks is done by a thread for each call ([`ThreadFuture`]). Who waits for a generation costs no thread: the
//! history wakes the future.

use std::{
    fmt,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hotswap_sdk::{Config, host::Interface};
use tracing::Span;

use super::{Hotswap, Prepared, RolledBack, Swapped, detach_current_thread, prepared::SwapPoint};
use crate::{
    candidate::{Candidate, GivenCandidate},
    error::{Error, Result},
    history::{EventStream, GenerationInfo, History, State, WaiterId},
    thread_future::ThreadFuture,
};

/// The end of a generation ([`Hotswap::wait_async`]), for any executor.
#[must_use = "a future does nothing unless it is awaited"]
pub struct WaitFuture {
    number: u64,
    registration: Registration,
}

/// The end of a swap point ([`Hotswap::shutdown_async`]), for any executor. The swap point is shut down even if this is
/// dropped.
#[must_use = "nothing waits for the end"]
pub struct ShutdownFuture {
    mapped: ThreadFuture<Vec<GenerationInfo>>,
    registration: Registration,
}

impl<I: Interface + ?Sized + 'static> Hotswap<I> {
    /// Like [`swap`](Self::swap), for tasks of an executor: returns at once, and the future is ready when new calls
    /// reach the new generation, or the candidate was refused.
    ///
    /// The swap begins at once, on a thread of its own, and **goes on if the future is dropped**: a client that
    /// disconnects, or a timeout, does not decide what is live. [`events`](Self::events) have its result then. A
    /// candidate that must not be published any more once nobody waits for it is prepared with
    /// [`prepare_async`](Self::prepare_async).
    ///
    /// The thread shares the swap point until the future is ready. Costs that thread beside what `swap` costs.
    ///
    /// # Errors
    ///
    /// As [`swap`](Self::swap).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::sync::Arc;
    /// # use hotswap_core::Hotswap;
    /// # use hotswap_types::Plugin;
    /// # async fn example(plugin: Arc<Hotswap<dyn Plugin>>) -> Result<(), hotswap_core::Error> {
    /// let swapped = plugin.swap_async("./plugins/libplugin.so").await?;
    /// println!("{:?}", plugin.wait_async(swapped.retired).await);
    /// # Ok(())
    /// # }
    /// ```
    pub fn swap_async(
        self: &Arc<Self>,
        candidate: impl Into<Candidate>,
    ) -> ThreadFuture<Result<Swapped>> {
        let candidate = GivenCandidate::new(candidate.into());
        let path = candidate.path.clone();
        self.on_thread("hotswap-swap", &path, |it| it.swap_given(candidate))
    }

    /// Like [`swap_config`](Self::swap_config), for tasks of an executor; otherwise like
    /// [`swap_async`](Self::swap_async).
    ///
    /// # Errors
    ///
    /// As [`swap_config`](Self::swap_config).
    pub fn swap_config_async(
        self: &Arc<Self>,
        config: impl Into<Config>,
    ) -> ThreadFuture<Result<Swapped>> {
        let (path, config) = (self.path_of_live(), config.into());
        self.on_thread("hotswap-swap", &path, |it| it.swap_config(config))
    }

    /// Like [`prepare`](Self::prepare), for tasks of an executor: returns at once, and the future is ready when the
    /// candidate is, or was refused.
    ///
    /// Preparing begins at once, on a thread of its own. If the future is dropped, preparing goes on, and the candidate
    /// is unloaded again: nothing is published.
    ///
    /// The candidate shares the swap point, and waits for nobody when it is published, unless a serial number has to
    /// be saved ([`Prepared::publish`]).
    ///
    /// # Errors
    ///
    /// As [`prepare`](Self::prepare).
    ///
    /// # Examples
    ///
    /// A swap that does not happen any more after ten seconds:
    ///
    /// ```no_run
    /// # use std::{error::Error, sync::Arc, time::Duration};
    /// # use hotswap_core::Hotswap;
    /// # use hotswap_types::Plugin;
    /// # async fn example(plugin: Arc<Hotswap<dyn Plugin>>) -> Result<(), Box<dyn Error>> {
    /// let candidate = plugin.prepare_async("./plugins/libplugin.so");
    /// let candidate = tokio::time::timeout(Duration::from_secs(10), candidate).await??;
    /// let swapped = candidate.publish();
    /// # Ok(())
    /// # }
    /// ```
    pub fn prepare_async(
        self: &Arc<Self>,
        candidate: impl Into<Candidate>,
    ) -> ThreadFuture<Result<Prepared<'static, I>>> {
        let candidate = GivenCandidate::new(candidate.into());
        let path = candidate.path.clone();
        self.on_thread("hotswap-prepare", &path, |it| {
            let candidate = it.prepare_given(candidate)?;
            Ok(Prepared::new(candidate, SwapPoint::Shared(it)))
        })
    }

    /// Like [`rollback`](Self::rollback), for tasks of an executor: returns at once, and the future is ready when new
    /// calls reach the earlier generation, or it was refused.
    ///
    /// The rollback begins at once, on a thread of its own, and **goes on if the future is dropped**.
    ///
    /// # Errors
    ///
    /// As [`rollback`](Self::rollback).
    pub fn rollback_async(self: &Arc<Self>) -> ThreadFuture<Result<RolledBack>> {
        let path = self.path_of_live();
        self.on_thread("hotswap-rollback", &path, |it| it.rollback())
    }

    /// Does `work` on a thread, or refuses what is at `path` because there is none.
    fn on_thread<T: Send + 'static>(
        self: &Arc<Self>,
        name: &str,
        path: &Path,
        work: impl FnOnce(Arc<Self>) -> Result<T> + Send + 'static,
    ) -> ThreadFuture<Result<T>> {
        let (hotswap, span) = (Arc::clone(self), Span::current());
        let started = ThreadFuture::start(name, move || span.in_scope(|| work(hotswap)));
        started.unwrap_or_else(|error| {
            let error = Error::no_thread(path, error);
            self.history.refused(&error);
            ThreadFuture::ready(Err(error))
        })
    }

    /// Like [`shutdown`](Self::shutdown), for tasks of an executor: returns at once, and the future is ready when all
    /// generations and refused candidates are unloaded, or after `timeout`, with the generations that are still mapped
    /// then.
    ///
    /// The swap point is shut down by a thread of its own, also if the future is dropped. If no thread can be started,
    /// it is dropped instead: the live generation is retired, and nobody waits.
    pub fn shutdown_async(self, timeout: Duration) -> ShutdownFuture {
        let history = Arc::clone(&self.history);
        let mapped = ThreadFuture::start("hotswap-shutdown", move || self.shutdown(timeout));
        ShutdownFuture {
            mapped: mapped.unwrap_or_else(|_| ThreadFuture::ready(history.mapped())),
            registration: Registration::new(history),
        }
    }
}

impl<I: Interface + ?Sized> Hotswap<I> {
    /// Like [`wait`](Self::wait), for tasks of an executor, and without a timeout: the future is ready when generation
    /// `number` is gone from the address space or is found to be pinned, with its state then. `None`: the list does not
    /// have the generation (any more).
    ///
    /// A generation that stays live, or that somebody holds for ever, never ends; nor does any in a forked child. Use
    /// the timeout of the executor. Dropping the future ends the wait, and nothing else.
    ///
    /// The future does not keep the swap point, and costs no thread. Whichever thread polls it leaves retired plugins,
    /// as with [`detach_current_thread`]; the future is woken for that, too, once.
    pub fn wait_async(&self, number: u64) -> WaitFuture {
        WaitFuture::new(&self.history, number)
    }

    /// The [`events`](Self::events) as a stream, for tasks of an executor. It is one more receiver of the same kind:
    /// what is said there of queues, of the first receiver and of missed events holds here.
    ///
    /// It ends when the swap point is shut down or dropped and each of its generations is unloaded or pinned. A
    /// [`WaitFuture`] or [`ShutdownFuture`] that still exists does not delay that.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use hotswap_core::Hotswap;
    /// # use hotswap_types::Plugin;
    /// use futures_util::StreamExt;
    ///
    /// # async fn example(plugin: &Hotswap<dyn Plugin>) {
    /// let mut events = plugin.event_stream();
    /// tokio::spawn(async move {
    ///     while let Some(event) = events.next().await {
    ///         eprintln!("{event}");
    ///     }
    /// });
    /// # }
    /// ```
    pub fn event_stream(&self) -> EventStream {
        self.history.event_stream()
    }
}

impl WaitFuture {
    pub(crate) fn new(history: &Arc<History>, number: u64) -> Self {
        let registration = Registration::new(Arc::clone(history));
        Self {
            number,
            registration,
        }
    }
}

impl Future for WaitFuture {
    type Output = Option<State>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<State>> {
        let number = self.number;
        let Registration { history, id } = &mut self.registration;
        let state = history.poll_end(number, id, context.waker());
        if state.is_pending() {
            // After the future is registered: if this thread is asked for later, the future is woken.
            detach_current_thread();
        }
        state
    }
}

impl Future for ShutdownFuture {
    type Output = Vec<GenerationInfo>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Registration { history, id } = &mut self.registration;
        history.register(id, context.waker());
        detach_current_thread();
        Pin::new(&mut self.mapped).poll(context)
    }
}

/// What a future is known by to the history, which wakes it.
struct Registration {
    history: Arc<History>,
    /// `Some` from the first poll on.
    id: Option<WaiterId>,
}

impl Registration {
    fn new(history: Arc<History>) -> Self {
        Self { history, id: None }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            self.history.forget_waiter(id);
        }
    }
}

impl fmt::Debug for WaitFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitFuture")
            .field("generation", &self.number)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ShutdownFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownFuture").finish_non_exhaustive()
    }
}
