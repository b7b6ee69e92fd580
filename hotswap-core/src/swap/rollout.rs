//! [`Rollout`]: takes a canary through the steps of a rule.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hotswap_sdk::host::Interface;

use super::{Canary, Decision, Side, candidacy::Split};
use crate::comparison::{Evaluation, Rule, Step, Window};

/// Takes a canary through the steps of a [`Rule`], each time that the host asks it to. [`Canary::run`] does the same on
/// the calling thread.
///
/// # Examples
///
/// In a task of tokio:
///
/// ```no_run
/// use std::{sync::Arc, time::{Duration, Instant}};
///
/// use hotswap_core::{Error, Hotswap};
/// use hotswap_core::canary::{Decision, Progress, Rollout, Rule, Share};
/// # use hotswap_types::Plugin;
///
/// async fn deploy(plugin: Arc<Hotswap<dyn Plugin>>) -> Result<Decision, Error> {
///     let prepared = plugin.prepare_async("./plugins/libplugin.so").await?;
///     let canary = prepared.start_canary(Share::NONE)?;
///     let mut rollout = Rollout::new(Rule::default());
///     let mut ticks = tokio::time::interval(Duration::from_millis(100));
///     loop {
///         ticks.tick().await;
///         if let Progress::Decided(decision) = rollout.advance(&canary, Instant::now()) {
///             return Ok(decision);
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Rollout {
    rule: Rule,
    /// Of which canary the rest is. `None` until the first look.
    split: Option<Arc<Split>>,
    /// The index of the step.
    step: usize,
    /// `None` until the first look.
    live: Option<LiveSide>,
    /// `None` until the step has begun.
    soak: Option<Soak>,
}

/// Where the rule is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Progress {
    /// The candidate is in this step.
    Soaking(Step),
    /// The canary has ended.
    Decided(Decision),
}

/// The generation that the candidate is compared with, and its figures when that began.
#[derive(Debug)]
struct LiveSide {
    generation: u64,
    before: Window,
}

/// A step that has begun, and the figures of both sides at that time.
#[derive(Debug)]
struct Soak {
    since: Instant,
    candidate: Window,
    live: Window,
}

impl Rollout {
    /// Begins with the first step of the rule.
    ///
    /// # Panics
    ///
    /// If a number of the rule is none that its field may have, such as a quantile of 2.
    pub fn new(rule: Rule) -> Self {
        rule.assert_valid();
        Self {
            rule,
            split: None,
            step: 0,
            live: None,
            soak: None,
        }
    }

    /// Looks at the figures of both sides, and takes the next step, promotes the candidate or abandons it, if it is
    /// time for that. `now` is the time of this look; it must not be before that of the last one. With another canary
    /// than at the last look, it begins with the first step again.
    ///
    /// Costs some microseconds, or what [`Canary::promote`] or [`Canary::abandon`] costs. Ask at least some times in
    /// each step.
    ///
    /// # Panics
    ///
    /// As [`Canary::promote`].
    pub fn advance<I: Interface + ?Sized>(
        &mut self,
        canary: &Canary<'_, I>,
        now: Instant,
    ) -> Progress {
        canary.check_process();
        if let Some(decision) = canary.decision() {
            return Progress::Decided(decision);
        }
        let is_same = |it: &Arc<Split>| Arc::ptr_eq(it, canary.split());
        if !self.split.as_ref().is_some_and(is_same) {
            self.split = Some(Arc::clone(canary.split()));
            (self.step, self.live, self.soak) = (0, None, None);
        }
        let live_now = canary.window(Side::Live);
        let generation = canary.live();
        if self
            .live
            .as_ref()
            .is_none_or(|it| it.generation != generation)
        {
            // Another generation has other faults and times.
            self.soak = None;
        }
        let of_live = match &mut self.live {
            Some(live) if live.generation == generation => live,
            live => live.insert(LiveSide {
                generation,
                before: live_now.clone(),
            }),
        };
        if let (Some(soak), Some(step)) = (&self.soak, self.rule.steps.get(self.step)) {
            let candidate = canary.window(Side::Candidate).since(&soak.candidate);
            let in_step = live_now.since(&soak.live);
            let in_all = live_now.since(&of_live.before);
            match self.rule.evaluate(&candidate, &in_step, &in_all) {
                Evaluation::Fail(why) => return Progress::Decided(canary.abandon(&why)),
                Evaluation::Pass if now.saturating_duration_since(soak.since) >= step.soak => {
                    self.step += 1;
                    self.soak = None;
                }
                Evaluation::Pass | Evaluation::Undecided => return Progress::Soaking(*step),
            }
        }
        let Some(step) = self.rule.steps.get(self.step) else {
            return Progress::Decided(canary.promote());
        };
        canary.set_share(step.share);
        self.soak = Some(Soak {
            since: now,
            candidate: canary.window(Side::Candidate),
            live: live_now,
        });
        Progress::Soaking(*step)
    }
}

impl<I: Interface + ?Sized> Canary<'_, I> {
    /// Lets a rule decide, and returns what it has decided, or what [`promote`](Self::promote) or
    /// [`abandon`](Self::abandon) has on another thread.
    ///
    /// The calling thread looks at the figures twenty times a second meanwhile. A host that has a timer of its own,
    /// such as one with an async runtime, uses a [`Rollout`].
    ///
    /// # Panics
    ///
    /// As [`Rollout::new`] and [`promote`](Self::promote).
    pub fn run(&self, rule: Rule) -> Decision {
        const PAUSE: Duration = Duration::from_millis(50);
        let mut rollout = Rollout::new(rule);
        loop {
            if let Progress::Decided(decision) = rollout.advance(self, Instant::now()) {
                return decision;
            }
            self.wait(PAUSE);
        }
    }
}
