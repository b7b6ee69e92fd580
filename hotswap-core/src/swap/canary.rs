//! [`Canary`]: a candidate on live calls, beside the live generation.
//!
//! The candidate is a generation with a number, which is staged and not in the cell: [`Choice`]s lease it. Promoting it
//! puts it in, like any other generation; abandoning it hands it to the reaper, which unloads it when its leases are
//! gone.

use std::{fmt, hash::Hash, mem, sync::Arc, time::Duration};

use hotswap_sdk::host::Interface;

use super::{
    Choice, Decision, Hotswap, Prepared, Side,
    candidacy::{Candidacy, Split},
    draining::Draining,
    pipeline::drop_update,
    prepared::SwapPoint,
};
use crate::{
    comparison::{Figures, Share, Window},
    error::{Error, ErrorKind, Result},
    history::PublishKind,
};

/// A candidate that gets a share of the calls beside the live generation, until it is promoted or abandoned.
///
/// Requests reach it through [`choose`](Self::choose) (or [`Hotswap::choose`](crate::Hotswap::choose), which needs no
/// handle of the canary). [`Hotswap::with`](crate::Hotswap::with) and its kin reach the live generation alone, and pay
/// nothing for the canary. Of the calls under each choice, their number, faults and times are counted
/// ([`figures`](Self::figures)); the host decides by them, or leaves that to a [`Rule`](crate::canary::Rule).
///
/// The candidate has the number of a generation from the beginning, and the state
/// [`State::Canary`](crate::State::Canary). Once promoted, it is a live generation like any other, with probation and
/// rollback. Once abandoned, it is refused with its figures, and is unloaded as soon as no choice holds it.
///
/// A swap or a rollback beside it changes the live generation, and not the canary: when that is promoted, it replaces
/// whichever generation is live by then.
///
/// With [services](crate::Settings::services), the candidate's update takes effect when it is promoted, so until then
/// the candidate must not rely on what its update makes: services that it starts, and values that it makes or migrates.
/// No other candidate can be prepared before the canary has ended. A rollback, also an automatic one, abandons the
/// canary, whose update has seen what the rollback changes.
///
/// Share it by reference, or in an [`Arc`]. Dropping it abandons the candidate. A swap point has one canary at a time.
///
/// # Examples
///
/// ```no_run
/// use hotswap_core::canary::{Decision, Rule, Share};
/// # use hotswap_core::Hotswap;
/// # use hotswap_types::Plugin;
///
/// fn deploy(plugin: &Hotswap<dyn Plugin>) -> Result<(), hotswap_core::Error> {
///     let canary = plugin.prepare("./plugins/libplugin.so")?.start_canary(Share::percent(1))?;
///     match canary.run(Rule::default()) {
///         Decision::Promoted(swapped) => println!("generation {} is live", swapped.generation),
///         Decision::Abandoned(error) => eprintln!("{error}"),
///     }
///     Ok(())
/// }
/// ```
#[must_use = "it is abandoned when this is dropped"]
pub struct Canary<'a, I: Interface + ?Sized> {
    hotswap: SwapPoint<'a, I>,
    candidacy: Arc<Candidacy<I::Live>>,
}

impl<'a, I: Interface + ?Sized> Prepared<'a, I> {
    /// Lets the candidate have a share of the calls beside the live generation.
    ///
    /// Waits for nobody.
    ///
    /// # Errors
    ///
    /// The swap point has a canary already ([`ErrorKind::Busy`]), or is that of the parent of a forked child. The
    /// candidate is unloaded again.
    pub fn start_canary(self, share: Share) -> Result<Canary<'a, I>> {
        let path = self.path().to_path_buf();
        self.swap_point().check_process(&path)?;
        // While `self` still has the candidate, which is unloaded if the host's recorder panics.
        let split = Split::new(share, self.swap_point().history.metrics());
        let (candidate, hotswap) = self.into_parts();
        let generations = hotswap.succession.lock();
        if hotswap.canary.is_there() {
            drop(generations);
            candidate.discard(hotswap.reaper());
            let what = "another candidate is a canary already";
            let error = Error::new(&path, ErrorKind::Busy { what });
            hotswap.history.refused(&error);
            return Err(error);
        }
        let candidate = hotswap.stage(&generations, candidate);
        let published = candidate.published(PublishKind::Candidate);
        let recorded = hotswap.history.canary_started(published, share);
        let handle = candidate.generation.self_lease();
        let logs = Arc::clone(&candidate.logs);
        let candidacy = Arc::new(Candidacy::new(candidate, path, split));
        hotswap.canary.begin(&candidacy, handle);
        drop(generations);
        logs.published();
        recorded.deliver();
        Ok(Canary { hotswap, candidacy })
    }
}

impl<I: Interface + ?Sized> Hotswap<I> {
    /// Abandons the canary, if there is one. The caller holds no lock, because this delivers an event.
    pub(super) fn abandon_canary(&self, reason: &str) {
        if let Some(candidacy) = self.canary.candidacy() {
            self.abandon(&candidacy, reason);
        }
    }

    /// Abandons the canary, if it has an update, because a rollback is about to change what that has seen.
    pub(super) fn abandon_canary_for_rollback(&self) {
        if self.services.is_some() {
            self.abandon_canary("a rollback changes what its update has seen");
        }
    }

    fn abandon(&self, candidacy: &Candidacy<I::Live>, reason: &str) -> Decision {
        let mut state = candidacy.state();
        let Some(candidate) = state.candidate.take() else {
            return state.decided();
        };
        self.canary.end();
        let figures = |side| Box::new(candidacy.split.recording(side).window().figures());
        let kind = ErrorKind::Abandoned {
            reason: reason.to_owned(),
            candidate: figures(Side::Candidate),
            live: figures(Side::Live),
        };
        let error = Error::new(&candidacy.path, kind);
        let mut recorded = self.history.abandoned(candidacy.generation, &error);
        let decision = candidacy.decide(state, Decision::Abandoned(error));
        drop_update(&candidacy.path, candidate.update);
        let generation = Draining::new(candidate.generation);
        recorded.append(self.reaper().retire(candidacy.generation, generation));
        recorded.deliver();
        decision
    }
}

impl<I: Interface + ?Sized> Canary<'_, I> {
    /// Chooses the generation for a request ([`Hotswap::choose`](crate::Hotswap::choose)).
    #[track_caller]
    pub fn choose<K: Hash + ?Sized>(&self, key: &K) -> Choice<I> {
        self.hotswap.choose(key)
    }

    /// Chooses at random ([`Hotswap::choose_at_random`](crate::Hotswap::choose_at_random)).
    #[track_caller]
    pub fn choose_at_random(&self) -> Choice<I> {
        self.hotswap.choose_at_random()
    }

    /// The number of the candidate's generation.
    pub fn generation(&self) -> u64 {
        self.candidacy.generation
    }

    /// The share of the calls that the candidate gets.
    pub fn share(&self) -> Share {
        self.split().share()
    }

    /// Gives the candidate another share, from the next choice on. An event says so. After the decision, nothing
    /// happens.
    ///
    /// # Panics
    ///
    /// As [`promote`](Self::promote).
    pub fn set_share(&self, share: Share) {
        self.check_process();
        let state = self.candidacy.state();
        if state.decision.is_some() || share == self.share() {
            return;
        }
        self.split().set_share(share);
        let recorded = self.hotswap.history.canary_share(self.generation(), share);
        drop(state);
        recorded.deliver();
    }

    /// What became of the calls of one side since the canary began.
    ///
    /// Costs some microseconds. Waits for nobody.
    pub fn figures(&self, side: Side) -> Figures {
        self.window(side).figures()
    }

    pub(super) fn window(&self, side: Side) -> Window {
        self.split().recording(side).window()
    }

    pub(super) fn split(&self) -> &Arc<Split> {
        &self.candidacy.split
    }

    /// The number of the live generation.
    pub(super) fn live(&self) -> u64 {
        self.hotswap.cell.with(|live| live.number())
    }

    /// What has become of it. `None`: nothing yet.
    pub fn decision(&self) -> Option<Decision> {
        self.candidacy.state().decision.clone()
    }

    /// Makes the candidate live, whichever generation is live by now. If it was decided before, this returns what.
    ///
    /// Does what [`Prepared::publish`] does, and waits for whom that waits, and for a decision that is under way.
    ///
    /// # Panics
    ///
    /// In a child that was forked after it began ([`Hotswap`]).
    pub fn promote(&self) -> Decision {
        self.check_process();
        let mut state = self.candidacy.state();
        let Some(candidate) = state.candidate.take() else {
            return state.decided();
        };
        let origin = candidate.generation.peek().image.origin().clone();
        let generations = self.hotswap.succession.lock();
        let kind = PublishKind::Candidate;
        let (swapped, recorded) = self.hotswap.publish_locked(generations, candidate, kind);
        // After it is live: until then, choices go on as they did.
        self.hotswap.canary.end();
        let decision = self.candidacy.decide(state, Decision::Promoted(swapped));
        recorded.deliver();
        self.hotswap.keep_serial(&origin, swapped.generation);
        decision
    }

    /// Gives the candidate up. If it was decided before, this returns what.
    ///
    /// New choices reach the live generation alone from here on. Choices that are held keep the candidate mapped until
    /// they are dropped.
    ///
    /// Waits for a decision that is under way, and with [services](crate::Settings::services) until what the
    /// candidate's update has asked for is dropped; for no call and for no choice.
    ///
    /// # Panics
    ///
    /// As [`promote`](Self::promote).
    pub fn abandon(&self, reason: &str) -> Decision {
        self.check_process();
        self.hotswap.abandon(&self.candidacy, reason)
    }

    pub(super) fn wait(&self, time: Duration) {
        self.candidacy.wait(time);
    }

    /// Call it before taking a lock: a thread that the child lacks may have held it at the fork.
    pub(super) fn check_process(&self) {
        let is_inherited = self.hotswap.is_inherited();
        assert!(
            !is_inherited,
            "a canary of the parent process is not decided in a child"
        );
    }
}

impl<I: Interface + ?Sized> Drop for Canary<'_, I> {
    fn drop(&mut self) {
        if self.hotswap.is_inherited() {
            // The child has no thread to unload it, and cannot take the lock: a thread that it lacks may have held it.
            mem::forget(Arc::clone(&self.candidacy));
        } else {
            self.abandon("the host has dropped it");
        }
    }
}

impl<I: Interface + ?Sized> fmt::Debug for Canary<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canary")
            .field("generation", &self.generation())
            .field("path", &self.candidacy.path)
            .field("share", &self.share())
            .finish_non_exhaustive()
    }
}
