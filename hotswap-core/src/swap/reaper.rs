//! The thread that watches the old generations leave.
//!
//! One for each swap point, started with it, idle while nothing is retired. It asks again and again
//! whether a retired generation is still in use, because a call that ends tells nobody: that would cost
//! every call, to save a look now and then. A look costs well under a microsecond; the pauses between
//! looks grow from [`SHORTEST_PAUSE`] to [`LONGEST_PAUSE`].

use std::{
    fs,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::Generation;
use crate::{
    cell::{Holders, Retired},
    error::{Error, Result, Stage},
    history::{History, Holder},
    image::Pinned,
};

const SHORTEST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// The pauses between two tries to unload an image that was pinned.
const FIRST_RETRY: Duration = Duration::from_millis(20);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Who holds a generation is worth a note in the list when it has drained for this long.
const WORTH_NOTING: Duration = Duration::from_millis(1);

/// The swap point's end of the reaper.
pub(super) struct Reaper<M> {
    jobs: Sender<Job<M>>,
    thread: JoinHandle<()>,
}

/// A reaper that takes no more, and ends when it has nothing left to watch.
pub(super) struct Ending(JoinHandle<()>);

enum Job<M> {
    Retired {
        number: u64,
        since: Instant,
        generation: Retired<Generation<M>>,
    },
    /// What is left of a refused candidate.
    Pinned(Box<Pinned>),
}

impl<M: Send + Sync + 'static> Reaper<M> {
    /// `path` is only for the error.
    pub(super) fn start(
        path: &Path,
        history: Arc<History>,
        drain_deadline: Duration,
    ) -> Result<Self> {
        let (jobs, inbox) = crossbeam_channel::unbounded();
        let watch = Watch {
            history,
            drain_deadline,
            draining: Vec::new(),
            pinned: Vec::new(),
        };
        let thread = thread::Builder::new()
            .name("hotswap-reaper".to_owned())
            .spawn(move || watch.run(&inbox))
            .map_err(|error| {
                Error::new(
                    Stage::Host,
                    path,
                    format!("no thread can be started: {error}"),
                )
            })?;
        Ok(Self { jobs, thread })
    }

    /// Never fails and never waits.
    pub(super) fn retire(&self, number: u64, generation: Retired<Generation<M>>) {
        self.send(Job::Retired {
            number,
            since: Instant::now(),
            generation,
        });
    }

    pub(super) fn watch(&self, pinned: Box<Pinned>) {
        self.send(Job::Pinned(pinned));
    }

    pub(super) fn end(self) -> Ending {
        Ending(self.thread)
    }

    /// Should the reaper be gone after all, what is sent stays mapped for good, which is safe.
    fn send(&self, job: Job<M>) {
        drop(self.jobs.send(job));
    }
}

impl Ending {
    /// Waits for the thread to end. What it panicked with was printed when it did.
    pub(super) fn join(self) {
        drop(self.0.join());
    }
}

/// What the thread has before it.
struct Watch<M> {
    history: Arc<History>,
    drain_deadline: Duration,
    draining: Vec<Draining<M>>,
    pinned: Vec<Kept>,
}

struct Draining<M> {
    number: u64,
    since: Instant,
    generation: Retired<Generation<M>>,
    /// What the list says.
    noted: Holders,
    /// Whether it was reported as held.
    reported: bool,
}

/// A pinned image that may still leave.
struct Kept {
    /// None for what is left of a refused candidate.
    number: Option<u64>,
    since: Instant,
    image: Box<Pinned>,
    pause: Duration,
    next: Instant,
}

impl<M: Send + Sync> Watch<M> {
    fn run(mut self, inbox: &Receiver<Job<M>>) {
        let mut pause = SHORTEST_PAUSE;
        let mut open = true;
        while open || !self.draining.is_empty() {
            match self.next_job(inbox, pause, open) {
                Ok(job) => {
                    self.take(job);
                    pause = SHORTEST_PAUSE;
                }
                Err(RecvTimeoutError::Timeout) => pause = LONGEST_PAUSE.min(pause * 2),
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
            let unloaded = self.look_at_draining();
            self.look_at_pinned(unloaded);
        }
    }

    /// The next job, or how long to wait without one.
    fn next_job(
        &self,
        inbox: &Receiver<Job<M>>,
        pause: Duration,
        open: bool,
    ) -> Result<Job<M>, RecvTimeoutError> {
        let draining = (!self.draining.is_empty()).then(|| Instant::now() + pause);
        let pinned = self.pinned.iter().map(|kept| kept.next).min();
        match draining.into_iter().chain(pinned).min() {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wake) if open => inbox.recv_deadline(wake),
            Some(wake) => {
                thread::sleep(wake.saturating_duration_since(Instant::now()));
                Err(RecvTimeoutError::Timeout)
            }
        }
    }

    fn take(&mut self, job: Job<M>) {
        match job {
            Job::Retired {
                number,
                since,
                generation,
            } => self.draining.push(Draining {
                number,
                since,
                generation,
                noted: Holders::default(),
                reported: false,
            }),
            Job::Pinned(image) => self.keep(None, Instant::now(), image),
        }
    }

    /// Unloads what is drained. `true`: something has left.
    fn look_at_draining(&mut self) -> bool {
        let mut unloaded = false;
        for mut draining in std::mem::take(&mut self.draining) {
            match draining.generation.try_drain() {
                Ok(generation) => {
                    unloaded |= self.unload(draining.number, draining.since, generation)
                }
                Err(held) => {
                    draining.generation = held;
                    self.note(&mut draining);
                    self.draining.push(draining);
                }
            }
        }
        unloaded
    }

    fn unload(&mut self, number: u64, since: Instant, generation: Generation<M>) -> bool {
        match generation.close() {
            Ok(()) => {
                self.history.unloaded(number, since.elapsed());
                true
            }
            Err(pinned) => {
                self.history.pinned(number, pinned.why());
                self.keep(Some(number), since, pinned);
                false
            }
        }
    }

    /// Tells the list, and after the deadline the listeners, who holds it.
    fn note(&self, draining: &mut Draining<M>) {
        let age = draining.since.elapsed();
        let overdue = age >= self.drain_deadline && !draining.reported;
        if age < WORTH_NOTING.min(self.drain_deadline) {
            return;
        }
        let holders = draining.generation.holders();
        if overdue {
            self.history.held(draining.number, named(&holders));
            draining.reported = true;
        } else if holders != draining.noted {
            self.history.draining(draining.number, named(&holders));
        }
        draining.noted = holders;
    }

    fn keep(&mut self, number: Option<u64>, since: Instant, image: Box<Pinned>) {
        if !image.why().is_final() {
            let next = Instant::now() + FIRST_RETRY;
            self.pinned.push(Kept {
                number,
                since,
                image,
                pause: FIRST_RETRY,
                next,
            });
        }
    }

    /// Asks again for what is due, or for all if something else has just been unloaded: with that the
    /// system looks at everything.
    fn look_at_pinned(&mut self, unloaded: bool) {
        let now = Instant::now();
        for mut kept in std::mem::take(&mut self.pinned) {
            if !unloaded && now < kept.next {
                self.pinned.push(kept);
                continue;
            }
            match (kept.image.retry(), kept.number) {
                (Ok(()), Some(number)) => self.history.unloaded(number, kept.since.elapsed()),
                (Ok(()), None) => {}
                (Err(image), _) => {
                    kept.image = image;
                    kept.pause = LAST_RETRY.min(kept.pause * 2);
                    kept.next = now + kept.pause;
                    self.pinned.push(kept);
                }
            }
        }
    }
}

fn named(holders: &Holders) -> Vec<Holder> {
    let call = |&thread: &u32| {
        let name = fs::read_to_string(format!("/proc/self/task/{thread}/comm")).ok();
        Holder::Call {
            thread,
            name: name.map(|name| name.trim_end().to_owned()),
        }
    };
    let leases = (holders.leases > 0).then_some(Holder::Leases(holders.leases));
    holders.threads.iter().map(call).chain(leases).collect()
}
