//! A candidate that is a canary, as those see it who choose it, decide on it or end it: [`Split`], [`Candidacy`] and
//! [`ActiveCanary`].

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    mem,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use hotswap_cell::{Cell, Lease, Retired, SelfLease};

use super::{Generation, Swapped, successor::Successor};
use crate::{
    comparison::{Recording, Share},
    error::Error,
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

/// What has become of a canary.
#[derive(Clone, Debug)]
pub enum Decision {
    /// It is live.
    Promoted(Swapped),
    /// It is refused, and nothing has changed. The kind is [`ErrorKind::Abandoned`](crate::ErrorKind::Abandoned).
    Abandoned(Error),
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

/// A candidate that is a canary, or was one.
pub(super) struct Candidacy<M> {
    pub(super) generation: u64,
    pub(super) path: PathBuf,
    pub(super) split: Arc<Split>,
    /// Lock order: before the succession.
    state: Mutex<State<M>>,
    /// Notified when it is decided.
    decided: Condvar,
}

pub(super) struct State<M> {
    /// `Some` until it is decided.
    pub(super) candidate: Option<Successor<M>>,
    pub(super) decision: Option<Decision>,
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

/// The side that a request is on.
pub(super) struct ChosenSide<M> {
    pub(super) split: Arc<Split>,
    /// `None`: the live one.
    pub(super) candidate: Option<Lease<Generation<M>>>,
}

struct Active<M> {
    candidate: SelfLease<Generation<M>>,
    split: Arc<Split>,
    candidacy: Weak<Candidacy<M>>,
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

    /// The hash of a key, which differs from canary to canary.
    pub(super) fn hash<K: Hash + ?Sized>(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn recording(&self, side: Side) -> &Recording {
        &self.of(side).recording
    }

    pub(super) fn count(&self, side: Side, time: Duration, has_fault: bool) {
        let side = self.of(side);
        side.metrics.call(time);
        if has_fault {
            side.metrics.fault();
        }
        side.recording.count(time, has_fault);
    }

    pub(super) fn fault(&self, side: Side) {
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

impl<M> Candidacy<M> {
    pub(super) fn new(candidate: Successor<M>, path: PathBuf, split: Split) -> Self
    where
        M: Send + Sync,
    {
        Self {
            generation: candidate.generation.peek().number(),
            path,
            split: Arc::new(split),
            state: Mutex::new(State {
                candidate: Some(candidate),
                decision: None,
            }),
            decided: Condvar::new(),
        }
    }

    pub(super) fn decide(
        &self,
        mut state: MutexGuard<'_, State<M>>,
        decision: Decision,
    ) -> Decision {
        state.decision = Some(decision.clone());
        drop(state);
        self.decided.notify_all();
        decision
    }

    /// Waits until it is decided, at most for `time`.
    pub(super) fn wait(&self, time: Duration) {
        let is_open = |state: &mut State<M>| state.decision.is_none();
        let waited = self.decided.wait_timeout_while(self.state(), time, is_open);
        drop(waited);
    }

    /// Only a bug in hotswap or a failed allocation can panic under the lock; the candidate then stays mapped.
    pub(super) fn state(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> State<M> {
    pub(super) fn decided(&self) -> Decision {
        let decision = self.decision.clone();
        decision.expect("set before the lock is released")
    }
}

impl<M: Send + Sync> ActiveCanary<M> {
    pub(super) fn is_there(&self) -> bool {
        self.current.with(Option::is_some)
    }

    /// The canary, for those who end it without its handle.
    pub(super) fn candidacy(&self) -> Option<Arc<Candidacy<M>>> {
        self.current
            .with(|active| active.as_ref()?.candidacy.upgrade())
    }

    /// The side of a request whose key has this hash. `None`: there is no canary.
    pub(super) fn choose(&self, hash: impl FnOnce(&Split) -> u64) -> Option<ChosenSide<M>> {
        self.current.with(|active| {
            let Active {
                candidate, split, ..
            } = active.as_ref()?;
            let is_candidate = split.share().has(hash(split));
            // Without a lease, the canary has ended and is drained.
            let candidate = is_candidate.then(|| candidate.lease()).flatten();
            Some(ChosenSide {
                split: Arc::clone(split),
                candidate,
            })
        })
    }

    /// Choices reach the candidate from now on. There must be no canary, and none that begins meanwhile.
    pub(super) fn begin(&self, candidacy: &Arc<Candidacy<M>>, candidate: SelfLease<Generation<M>>) {
        self.replace(Some(Active {
            candidate,
            split: Arc::clone(&candidacy.split),
            candidacy: Arc::downgrade(candidacy),
        }));
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
