//! What the reaper's thread does.
//!
//! An image that is new is taken as far as it comes when it comes; all else is looked at when it is time ([`polling`]).
//! One look at the threads' slots (`cell`) serves all that is retired.
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
    refs,
    swap::{
        holders::LISTED_MAX,
        succession::{Ended, Succession},
    },
};

/// What the thread has before it.
pub(super) struct Worker<M> {
    records: Arc<Records>,
    drain_deadline: Duration,
    unloading: Vec<Unloading<M>>,
    pinned: Vec<PinnedImage>,
    /// Of a swap point there is one at a time.
    probation: Option<Probation<M>>,
    /// Whether threads have something left to do for an image.
    needs_threads: bool,
    /// Whether anything has come, gone or reached its next phase since the pauses last began anew.
    has_changed: bool,
    /// How long calls, leases and other holders of what is retired were looked for, since the last pause began.
    looked: Duration,
}

/// The generation `number` is live, and the one before it standby, until then.
pub(super) struct Probation<M> {
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
            looked: Duration::ZERO,
        }
    }

    /// Until nobody sends any more, and nothing is left that is to leave.
    pub(super) fn run(mut self, inbox: &Receiver<Task<M>>) {
        // So that it is known not to be ending, when it looks for threads that may be.
        hotswap_cell::pass_quiescent_point();
        let mut polling = Polling::new();
        let mut open = true;
        while open || !self.unloading.is_empty() {
            match next_task(inbox, self.next_poll(&polling), open) {
                Ok(task) => self.begin(task),
                Err(RecvTimeoutError::Timeout) => {
                    self.poll();
                    polling.pause_after(mem::take(&mut self.looked));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    open = false;
                    self.has_changed = true;
                }
            }
            if mem::take(&mut self.needs_threads) {
                // They do it if they ever call anything again. This one is among them if a hook found no thread of its
                // own, and was run here.
                hotswap_cell::request_quiescence_callbacks();
                hotswap_cell::pass_quiescent_point();
            }
            if mem::take(&mut self.has_changed) {
                polling.restart();
            }
        }
    }

    /// When to look at what there is, if there is anything.
    fn next_poll(&self, polling: &Polling) -> Option<Instant> {
        let unloading = (!self.unloading.is_empty()).then_some(polling.next);
        let probation = self.probation.as_ref().map(|it| it.until);
        let pinned = self.pinned.iter().map(PinnedImage::next);
        let wake = pinned.chain(unloading).chain(probation).min()?;
        Some(wake.max(polling.not_before))
    }

    /// Takes an image as far as it comes. That there is a new one may change what the others can do.
    fn begin(&mut self, task: Task<M>) {
        self.has_changed = true;
        match task {
            Task::Unload(mut unloading) => {
                let drained = unloading.drain(None, &self.records, &mut self.looked);
                if drained != Drain::TakenBack && self.unload(unloading, None) {
                    self.retry_pinned(true);
                }
            }
            Task::WatchProbation(probation) => self.probation = Some(probation),
            Task::DropCopies(copies) => drop(copies),
        }
    }

    /// Looks at everything once.
    fn poll(&mut self) {
        let begun = Instant::now();
        let is_any_draining = self.unloading.iter().any(Unloading::is_draining);
        let calls = is_any_draining.then(|| Calls::snapshot(LISTED_MAX));
        self.looked += begun.elapsed();
        let mut all = mem::take(&mut self.unloading);
        // To unload one may take long. All that are to be unloaded are in the backlog before that.
        all.retain_mut(|it| {
            let drained = it.drain(calls.as_ref(), &self.records, &mut self.looked);
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

    /// Unloads it if nothing keeps it. `true`: it has left.
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
        kept.note(calls, self.drain_deadline, &self.records, &mut self.looked);
        self.unloading.push(kept);
        false
    }

    /// Tries all that are due once more, or all: with each image that leaves, the system looks at the others.
    fn retry_pinned(&mut self, all: bool) {
        for image in mem::take(&mut self.pinned) {
            match image.retry(all, &self.records) {
                Retried::Left => self.has_changed = true,
                Retried::Pinned(image) => self.pinned.extend(image),
            }
        }
    }

    /// Retires the standby, which is not needed any more. The list is changed under the lock, as a rollback does it: it
    /// may make the standby live right after.
    fn end_probation(&mut self, probation: &Probation<M>) {
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
        let (unloading, news) = Unloading::new(Some(standby.number), phase, false, &self.records);
        drop(copies);
        self.unloading.push(unloading);
        if let Some(news) = news {
            news.trace();
        }
        refs::drop_elsewhere(values);
    }
}
