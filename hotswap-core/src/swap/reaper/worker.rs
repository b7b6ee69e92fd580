//! The loop of the reaper's thread.
//!
//! It takes a new image as far as possible at once, and checks everything else when a poll is due ([`polling`]). One
//! look at the threads' slots (`cell`) serves all retired generations.
//!
//! [`polling`]: super::polling

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use hotswap_cell::Calls;

use super::{
    Task,
    pinned::{PinnedImage, Retried},
    polling::{Polling, next_task},
    records::Records,
    unloading::{Attempt, Drain, Phase, Unloading},
};
use crate::{
    history::Recorded,
    refs,
    swap::{
        holders::LISTED_MAX,
        succession::{Ended, Succession},
    },
};

/// The state of the thread.
pub(super) struct Worker<M> {
    records: Arc<Records>,
    drain_deadline: Duration,
    unloading: Vec<Unloading<M>>,
    pinned: Vec<PinnedImage>,
    /// The current probation; a swap point has one at a time.
    probation: Option<WatchedProbation<M>>,
    /// Whether threads have something left to run for an image.
    needs_threads: bool,
    /// Whether an image has arrived, gone or reached its next phase since the pauses were last made short.
    has_changed: bool,
    /// How long the search for calls, leases and other holders has taken since the last pause began.
    search_time: Duration,
}

/// The live generation `number` is on probation until `until`; the previous one is its standby.
pub(super) struct WatchedProbation<M> {
    pub(super) succession: Arc<Succession<M>>,
    pub(super) number: u64,
    pub(super) until: Instant,
}

impl<M: Send + Sync> Worker<M> {
    pub(super) fn new(records: Arc<Records>, drain_deadline: Duration) -> Self {
        Self {
            records,
            drain_deadline,
            unloading: Vec::new(),
            pinned: Vec::new(),
            probation: None,
            needs_threads: false,
            has_changed: false,
            search_time: Duration::ZERO,
        }
    }

    /// Runs until nobody sends tasks any more and nothing is left to unload. Pinned images do not keep it. The events
    /// end with it.
    pub(super) fn run(mut self, inbox: &Receiver<Task<M>>) {
        // Registers this thread, so that `ending` knows that it is not running key destructors.
        hotswap_cell::pass_quiescent_point();
        let mut polling = Polling::new();
        let mut open = true;
        while open || !self.unloading.is_empty() {
            match next_task(inbox, self.next_poll(&polling), open) {
                Ok(task) => self.begin(task),
                Err(RecvTimeoutError::Timeout) => {
                    self.poll();
                    polling.pause_after(mem::take(&mut self.search_time));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    open = false;
                    self.has_changed = true;
                }
            }
            if mem::take(&mut self.needs_threads) {
                // Each thread runs its share when it next calls a plugin. This thread has a share if a hook ran here
                // because no thread could be started for it.
                hotswap_cell::request_quiescence_callbacks();
                hotswap_cell::pass_quiescent_point();
            }
            if mem::take(&mut self.has_changed) {
                polling.restart();
            }
        }
        // The swap point or loader is gone, and no generation is left to which anything can happen.
        self.records.history.end_events();
    }

    /// When to poll next; `None` if there is nothing to poll.
    fn next_poll(&self, polling: &Polling) -> Option<Instant> {
        let unloading = (!self.unloading.is_empty()).then_some(polling.next);
        let probation = self.probation.as_ref().map(|it| it.until);
        let pinned = self.pinned.iter().map(PinnedImage::next);
        let wake = pinned.chain(unloading).chain(probation).min()?;
        Some(wake.max(polling.not_before))
    }

    /// Takes up a task, and an image as far as possible. A new image may change what the others can do.
    fn begin(&mut self, task: Task<M>) {
        self.has_changed = true;
        match task {
            Task::Unload(mut unloading) => {
                let drained = unloading.drain(None, &self.records, &mut self.search_time);
                if drained != Drain::TakenBack && self.unload(unloading, None) {
                    self.retry_pinned(true);
                }
            }
            Task::WatchProbation(probation) => self.probation = Some(probation),
            Task::Deliver(recorded) => recorded.deliver(),
            Task::DropCopies(copies) => drop(copies),
        }
    }

    /// Checks everything once.
    fn poll(&mut self) {
        let begun = Instant::now();
        let is_any_draining = self.unloading.iter().any(Unloading::is_draining);
        let calls = is_any_draining.then(|| Calls::snapshot(LISTED_MAX));
        self.search_time += begun.elapsed();
        let mut all = mem::take(&mut self.unloading);
        // Unloading one may take long, so first all that have drained are added to the backlog.
        all.retain_mut(|it| {
            let drained = it.drain(calls.as_ref(), &self.records, &mut self.search_time);
            self.has_changed |= drained != Drain::Unchanged;
            drained != Drain::TakenBack
        });
        let mut has_left = false;
        for unloading in all {
            has_left |= self.unload(unloading, calls.as_ref());
        }
        if let Some(probation) = self.probation.take_if(|it| it.until <= Instant::now()) {
            self.end_probation(&probation);
        }
        self.retry_pinned(has_left);
    }

    /// Unloads an image if nothing holds it. `true`: it is gone.
    fn unload(&mut self, unloading: Unloading<M>, calls: Option<&Calls>) -> bool {
        let mut kept = match unloading.unload(&self.records) {
            Attempt::Left => {
                self.has_changed = true;
                return true;
            }
            Attempt::Pinned(image) => {
                self.has_changed = true;
                self.pinned.extend(image);
                return false;
            }
            Attempt::WaitsForThreads(unloading) => {
                self.needs_threads = true;
                unloading
            }
            Attempt::InUse(unloading) => unloading,
        };
        kept.report_holders(
            calls,
            self.drain_deadline,
            &self.records,
            &mut self.search_time,
        );
        self.unloading.push(kept);
        false
    }

    /// Retries the pinned images that are due, or all of them: when the system unmaps an image, it looks at all
    /// others.
    fn retry_pinned(&mut self, all: bool) {
        for image in mem::take(&mut self.pinned) {
            match image.retry(all, &self.records) {
                Retried::Left => self.has_changed = true,
                Retried::Pinned(image) => self.pinned.extend(image),
            }
        }
    }

    /// Retires the standby, which nobody needs any more. The list is changed under the lock, as in a rollback,
    /// because a rollback may make the standby live right after.
    fn end_probation(&mut self, probation: &WatchedProbation<M>) {
        let mut generations = probation.succession.lock();
        let Some(ended) = generations.end_probation(probation.number) else {
            return;
        };
        let Ended {
            standby,
            values,
            copies,
        } = ended;
        self.records.history.draining(standby.number, Vec::new());
        drop(generations);
        self.has_changed = true;
        let phase = Phase::Draining(standby.generation);
        let (unloading, recorded) =
            Unloading::new(Some(standby.number), phase, false, &self.records);
        drop(copies);
        self.unloading.push(unloading);
        Recorded::deliver_any(recorded);
        refs::drop_elsewhere(values);
    }
}
