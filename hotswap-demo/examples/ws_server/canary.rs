//! A candidate that answers some of the connections, beside the live plugin: how that begins and ends, and what a page
//! is told of it.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hotswap_core::{
    Error, Hotswap,
    canary::{Canary, Decision, Figures, Rollout, Rule, Share, Side, Step},
    text::printable,
};
use hotswap_types::Plugin;
use serde::Serialize;

/// The canary, if there is one.
#[derive(Default)]
pub(crate) struct CanarySlot(Mutex<Option<Active>>);

struct Active {
    canary: Canary<'static, dyn Plugin>,
    /// As it is shown.
    path: String,
    /// `None`: people decide.
    rollout: Option<Rollout>,
}

/// What a page is told of it.
#[derive(Serialize)]
pub(crate) struct CanaryForm {
    generation: u64,
    share: Share,
    candidate: Figures,
    live: Figures,
    /// `None`: people decide.
    rule: Option<RuleForm>,
}

#[derive(Serialize)]
struct RuleForm {
    shares: [Share; STEPS.len()],
    soak_ms: u128,
    calls_min: u64,
}

/// The steps of the rule, and how long each lasts: short enough to be watched.
const STEPS: [Share; 3] = [Share::percent(10), Share::percent(50), Share::ALL];
const SOAK: Duration = Duration::from_secs(5);
/// How many messages the candidate must have answered in a step.
const CALLS_MIN: u64 = 200;

fn rule() -> Rule {
    Rule {
        steps: STEPS.map(|share| Step { share, soak: SOAK }).to_vec(),
        calls_min: CALLS_MIN,
        // On the way to a client, less is not noticed.
        latency_excess_min: Duration::from_millis(1),
        ..Rule::default()
    }
}

impl CanarySlot {
    /// An error: there is a canary, which somebody has to decide on first.
    pub(crate) fn check_none(&self) -> Result<(), String> {
        match &*self.undecided() {
            None => Ok(()),
            Some(Active { canary, .. }) => Err(format!(
                "generation {} is a canary: `:promote` or `:abandon` it first",
                canary.generation()
            )),
        }
    }

    /// Makes the file at `path` a canary with this share of the connections, on which people decide. Must be called on
    /// a thread that may block. Says what the event says.
    pub(crate) fn start(
        &self,
        plugin: &Arc<Hotswap<dyn Plugin>>,
        path: &Path,
        share: Share,
    ) -> Result<String, Error> {
        let slot = self.started(plugin, path, share)?;
        Ok(slot.as_ref().expect("it has been started").told())
    }

    /// Gives the canary this share of the connections, and leaves the decision to people.
    pub(crate) fn give_share(&self, share: Share) -> Result<String, String> {
        let mut slot = self.undecided();
        let active = slot.as_mut().ok_or(NO_CANARY)?;
        active.rollout = None;
        active.canary.set_share(share);
        Ok(active.told())
    }

    /// Leaves the decision to the rule. Without a canary, the file at `path` becomes one. Otherwise like
    /// [`start`](Self::start).
    pub(crate) fn roll_out(
        &self,
        plugin: &Arc<Hotswap<dyn Plugin>>,
        path: &Path,
    ) -> Result<String, Error> {
        let mut slot = self.undecided();
        if slot.is_none() {
            drop(slot);
            slot = self.started(plugin, path, STEPS[0])?;
        }
        let active = slot.as_mut().expect("undecided");
        let rollout = active.rollout.insert(Rollout::new(rule()));
        rollout.advance(&active.canary, Instant::now());
        Ok(format!("{}; a rule decides", active.told()))
    }

    /// Makes the candidate live.
    pub(crate) fn promote(&self) -> Result<String, String> {
        // Not locked meanwhile: pages ask for the canary.
        let active = self.undecided().take();
        let Active { canary, path, .. } = active.ok_or(NO_CANARY)?;
        match canary.promote() {
            Decision::Promoted(swapped) => Ok(format!(
                "accepted generation {}: {path}; {}",
                swapped.generation,
                figures(&canary)
            )),
            Decision::Abandoned(error) => Err(error.to_string()),
        }
    }

    /// Gives the candidate up.
    pub(crate) fn abandon(&self, reason: &str) -> Result<String, String> {
        let active = self.undecided().take();
        let Active { canary, .. } = active.ok_or(NO_CANARY)?;
        canary.abandon(reason);
        let generation = canary.generation();
        Ok(format!(
            "abandoned generation {generation}: {}",
            figures(&canary)
        ))
    }

    /// Does what the rule says by now, if there is one.
    pub(crate) fn advance(&self) {
        if let Some(Active {
            canary,
            rollout: Some(rollout),
            ..
        }) = &mut *self.undecided()
        {
            rollout.advance(canary, Instant::now());
        }
    }

    pub(crate) fn form(&self) -> Option<CanaryForm> {
        let slot = self.undecided();
        let Active {
            canary, rollout, ..
        } = slot.as_ref()?;
        Some(CanaryForm {
            generation: canary.generation(),
            share: canary.share(),
            candidate: canary.figures(Side::Candidate),
            live: canary.figures(Side::Live),
            rule: rollout.as_ref().map(|_| RuleForm {
                shares: STEPS,
                soak_ms: SOAK.as_millis(),
                calls_min: CALLS_MIN,
            }),
        })
    }

    fn started(
        &self,
        plugin: &Arc<Hotswap<dyn Plugin>>,
        path: &Path,
        share: Share,
    ) -> Result<MutexGuard<'_, Option<Active>>, Error> {
        // If somebody else has begun one meanwhile, that is the only one.
        let canary = plugin.prepare_shared(path)?.start_canary(share)?;
        let mut slot = self.lock();
        *slot = Some(Active {
            canary,
            path: printable(&path.to_string_lossy()),
            rollout: None,
        });
        Ok(slot)
    }

    /// Without what the rule has decided on.
    fn undecided(&self) -> MutexGuard<'_, Option<Active>> {
        let mut slot = self.lock();
        slot.take_if(|it| it.canary.decision().is_some());
        slot
    }

    /// What is locked here is whole at any time.
    fn lock(&self) -> MutexGuard<'_, Option<Active>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NO_CANARY: &str = "there is no canary; `:canary 10%` begins one";

fn figures(canary: &Canary<'_, dyn Plugin>) -> String {
    let [candidate, live] = [Side::Candidate, Side::Live].map(|side| canary.figures(side));
    format!("it had {candidate}; the live side had {live}")
}

impl Active {
    fn told(&self) -> String {
        let Self { canary, path, .. } = self;
        let (generation, share) = (canary.generation(), canary.share());
        format!("canary generation {generation} gets {share} of the calls: {path}")
    }
}
