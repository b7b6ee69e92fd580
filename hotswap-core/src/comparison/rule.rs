//! [`Rule`]: when a canary is promoted or abandoned without a hand.

use std::time::Duration;

use super::{Share, Window};

/// When a canary is given more of the calls, promoted or abandoned, by what was counted of both sides.
///
/// The candidate goes through the [steps](Self::steps). It takes the next one when the step has lasted for its time and
/// the candidate has had [`calls_min`](Self::calls_min) calls in it, and is promoted after the last one. It is
/// abandoned as soon as it has too many faults, or is too slow, as the fields below say.
///
/// The live side is what its calls in the same step were like. If those were too few, because the candidate has most of
/// the calls, its calls since the beginning of the canary count. When another generation becomes live meanwhile, the
/// step begins anew.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use hotswap_core::canary::{Rule, Share, Step};
///
/// let rule = Rule {
///     steps: vec![
///         Step { share: Share::percent(5), soak: Duration::from_secs(30) },
///         Step { share: Share::percent(50), soak: Duration::from_secs(300) },
///     ],
///     ..Rule::default()
/// };
/// # assert_eq!(rule.calls_min, 1000);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The shares of the calls that the candidate gets, one after the other. 1 %, 10 %, 50 % and 100 %, for a minute
    /// each, unless set. Without any, it is promoted at once.
    pub steps: Vec<Step>,
    /// How many calls the candidate must have had in a step before it takes the next one, and both sides before their
    /// times are compared. 1,000 unless set.
    pub calls_min: u64,
    /// By how much the candidate's ratio of faults to calls may be above the live side's. 0.01 unless set: with no
    /// faults on the live side, one call in a hundred may have one. The candidate is abandoned at the first look after
    /// the fault with which its ratio must be higher than that however many of its first
    /// [`calls_min`](Self::calls_min) calls are still to come: after the eleventh, by default. At least 0; with
    /// [`f64::INFINITY`], no faults are too many.
    pub fault_ratio_excess_max: f64,
    /// Which time of both sides is compared: the one that this ratio of the calls has not exceeded, from 0 to 1. 0.9
    /// unless set. Of both sides the time is known as exactly as their number of calls allows: compared are the least
    /// time that it may be for the candidate and the greatest that it may be for the live side, each within four
    /// standard errors. So more calls show smaller differences, and chance alone abandons nothing.
    pub latency_quantile: f64,
    /// How many times the live side's time the candidate's may be. 1.2 unless set. At least 0; with
    /// [`f64::INFINITY`], no time is too long.
    pub latency_ratio_max: f64,
    /// The candidate's time may in any case be this much above the live side's. 1 µs unless set.
    pub latency_excess_min: Duration,
    /// The same while the candidate has had less than half as many calls as the live side. 100 µs unless set: code that
    /// is called rarely has left the processor's caches when it is called again, which costs each call 10 to 30 µs, and
    /// is no property of the code. So only steps with a share of about a half or more show small differences.
    pub latency_excess_while_rare: Duration,
}

/// One step of a [`Rule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The share of the calls that the candidate gets.
    pub share: Share,
    /// The time that the step lasts, at least.
    pub soak: Duration,
}

/// What a rule says of a candidate in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Evaluation {
    /// Why the candidate is abandoned.
    Fail(String),
    /// The candidate has had too few calls.
    Undecided,
    /// Enough calls, and no reason to abandon it.
    Pass,
}

impl Default for Rule {
    fn default() -> Self {
        let soak = Duration::from_secs(60);
        let shares = [1, 10, 50, 100].map(Share::percent);
        Self {
            steps: shares.map(|share| Step { share, soak }).to_vec(),
            calls_min: 1000,
            fault_ratio_excess_max: 0.01,
            latency_quantile: 0.9,
            latency_ratio_max: 1.2,
            latency_excess_min: Duration::from_micros(1),
            latency_excess_while_rare: Duration::from_micros(100),
        }
    }
}

impl Rule {
    /// # Panics
    ///
    /// If a field has a number that it cannot have.
    pub(crate) fn assert_valid(&self) {
        let Self {
            fault_ratio_excess_max,
            latency_quantile,
            latency_ratio_max,
            ..
        } = self;
        assert!(
            *fault_ratio_excess_max >= 0.0,
            "fault_ratio_excess_max of a rule is at least 0, and not {fault_ratio_excess_max}"
        );
        assert!(
            (0.0..=1.0).contains(latency_quantile),
            "latency_quantile of a rule is from 0 to 1, and not {latency_quantile}"
        );
        assert!(
            *latency_ratio_max >= 0.0,
            "latency_ratio_max of a rule is at least 0, and not {latency_ratio_max}"
        );
    }

    /// Compares the candidate's calls of a step with the live side's of that step, or with those of the whole canary.
    pub(crate) fn evaluate(
        &self,
        candidate: &Window,
        live: &Window,
        live_in_all: &Window,
    ) -> Evaluation {
        let has_enough = |side: &Window| side.calls() >= self.calls_min;
        // Without any call, there is nothing to compare with, whatever the minimum.
        let can_compare = |side: &Window| has_enough(side) && side.calls() > 0;
        let live = if can_compare(live) { live } else { live_in_all };
        let calls = candidate.calls();
        let faults = candidate.faults();
        let ratio = ratio_of(live.faults(), live.calls()) + self.fault_ratio_excess_max;
        // With fewer calls than the minimum, what the candidate may have in all of them.
        if faults as f64 > ratio * calls.max(self.calls_min) as f64 {
            let of_live = 100.0 * ratio_of(live.faults(), live.calls());
            return Evaluation::Fail(format!(
                "{faults} faults in {calls} calls, where the live side has {of_live:.2}% and {:.2}% more are accepted",
                100.0 * self.fault_ratio_excess_max
            ));
        }
        if !has_enough(candidate) {
            return Evaluation::Undecided;
        }
        let too_slow = can_compare(live)
            .then(|| self.too_slow(candidate, live))
            .flatten();
        too_slow.map_or(Evaluation::Pass, Evaluation::Fail)
    }

    /// Why the candidate is too slow. `None`: it is not, as far as so many calls show.
    fn too_slow(&self, candidate: &Window, live: &Window) -> Option<String> {
        let quantile = self.latency_quantile;
        let (least, greatest) = (
            candidate.quantile_range(quantile).0,
            live.quantile_range(quantile).1,
        );
        let by_ratio = greatest.as_secs_f64() * self.latency_ratio_max;
        // With an infinite ratio, no time is too long.
        let by_ratio = Duration::try_from_secs_f64(by_ratio).unwrap_or(Duration::MAX);
        let is_rare = candidate.calls() < live.calls() / 2;
        let excess = if is_rare {
            self.latency_excess_while_rare
        } else {
            Duration::ZERO
        };
        let by_excess = greatest.saturating_add(excess.max(self.latency_excess_min));
        (least > by_ratio.max(by_excess)).then(|| {
            format!(
                "{:.1}% of its calls take up to {:.1?}, those of the live side up to {:.1?}, and {:.2} times as much is \
                 accepted",
                100.0 * quantile,
                candidate.quantile(quantile),
                live.quantile(quantile),
                self.latency_ratio_max
            )
        })
    }
}

/// 0 without calls.
fn ratio_of(faults: u64, calls: u64) -> f64 {
    faults as f64 / calls.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::{super::Recording, *};

    /// Calls of `microseconds` each.
    fn calls(count: u64, faults: u64, microseconds: u64) -> Window {
        let recording = Recording::new();
        for call in 0..count {
            recording.count(Duration::from_micros(microseconds), call < faults);
        }
        recording.window()
    }

    #[track_caller]
    fn check(candidate: &Window, live: &Window, expected: &str) {
        let found = match Rule::default().evaluate(candidate, live, live) {
            Evaluation::Fail(why) => why,
            evaluation => format!("{evaluation:?}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn equal_sides_pass_after_calls_min() {
        let live = calls(100_000, 30, 100);
        check(&calls(999, 9, 100), &live, "Undecided");
        check(&calls(1000, 9, 100), &live, "Pass");
        check(&calls(1000, 0, 119), &live, "Pass");
    }

    #[test]
    fn too_many_faults_fail_before_calls_min() {
        let none = calls(100_000, 0, 100);
        check(&calls(10, 10, 100), &none, "Undecided");
        check(
            &calls(11, 11, 100),
            &none,
            "11 faults in 11 calls, where the live side has 0.00% and 1.00% more are accepted",
        );
        check(&calls(20_000, 200, 100), &none, "Pass");
        check(
            &calls(20_000, 201, 100),
            &none,
            "201 faults in 20000 calls, where the live side has 0.00% and 1.00% more are accepted",
        );
    }

    #[test]
    fn the_fault_ratio_is_relative_to_the_live_side() {
        let live = calls(10_000, 500, 100);
        check(&calls(1000, 60, 100), &live, "Pass");
        check(
            &calls(1000, 61, 100),
            &live,
            "61 faults in 1000 calls, where the live side has 5.00% and 1.00% more are accepted",
        );
    }

    /// As in any program: code that is called rarely is out of the processor's caches.
    #[test]
    fn a_rare_candidate_may_be_slower() {
        let live = calls(100_000, 0, 2);
        check(&calls(1000, 0, 30), &live, "Pass");
        check(&calls(49_000, 0, 30), &live, "Pass");
        let fails = |candidate: &Window| {
            matches!(
                Rule::default().evaluate(candidate, &live, &live),
                Evaluation::Fail(_)
            )
        };
        assert!(fails(&calls(1000, 0, 110)));
        assert!(fails(&calls(51_000, 0, 30)));
    }

    /// Both sides have times of one distribution with a long tail.
    #[test]
    fn chance_alone_abandons_nothing() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut side = || {
            let recording = Recording::new();
            for _ in 0..1000 {
                let tail = (random.f64() * 8.0).exp();
                recording.count(Duration::from_secs_f64(tail * 1e-6), false);
            }
            recording.window()
        };
        let pairs: Vec<_> = (0..500).map(|_| (side(), side())).collect();
        let rule = Rule::default();
        for (candidate, live) in &pairs {
            assert_eq!(rule.evaluate(candidate, live, live), Evaluation::Pass);
        }
        // The times alone differ by more than is accepted in many of the pairs.
        let differ = |(candidate, live): &&(Window, Window)| {
            candidate.quantile(0.9) > live.quantile(0.9).mul_f64(rule.latency_ratio_max)
        };
        assert!(pairs.iter().filter(differ).count() > 10);
    }

    #[test]
    fn latency_is_compared_when_both_sides_have_calls_min() {
        let slow = calls(1000, 0, 130);
        check(
            &slow,
            &calls(1000, 0, 100),
            "90.0% of its calls take up to 130.0µs, those of the live side up to 100.4µs, and 1.20 times as much is \
             accepted",
        );
        check(&slow, &calls(999, 0, 100), "Pass");
        check(&calls(999, 0, 130), &calls(1000, 0, 100), "Undecided");
    }

    #[test]
    fn latency_within_the_accepted_excess_passes() {
        check(&calls(1000, 0, 3), &calls(1000, 0, 2), "Pass");
        let evaluation =
            Rule::default().evaluate(&calls(1000, 0, 4), &calls(1000, 0, 2), &calls(1, 0, 1));
        assert!(matches!(evaluation, Evaluation::Fail(_)), "{evaluation:?}");
    }

    #[test]
    fn earlier_calls_of_the_live_side_are_the_fallback() {
        let rule = Rule::default();
        let (none, before) = (Window::empty(), calls(5000, 0, 100));
        let evaluation = rule.evaluate(&calls(1000, 0, 300), &none, &before);
        assert!(matches!(evaluation, Evaluation::Fail(_)), "{evaluation:?}");
        assert_eq!(
            rule.evaluate(&calls(1000, 0, 100), &none, &before),
            Evaluation::Pass
        );
    }

    #[test]
    fn infinite_limits_abandon_nothing() {
        let (bad, live) = (calls(1000, 1000, 1_000_000), calls(1000, 0, 1));
        let rule = |change: fn(&mut Rule)| {
            let mut rule = Rule {
                fault_ratio_excess_max: f64::INFINITY,
                ..Rule::default()
            };
            change(&mut rule);
            rule.assert_valid();
            rule
        };
        for rule in [
            rule(|it| it.latency_ratio_max = f64::INFINITY),
            rule(|it| it.latency_ratio_max = f64::MAX),
            rule(|it| it.latency_excess_min = Duration::MAX),
        ] {
            assert_eq!(
                rule.evaluate(&bad, &live, &live),
                Evaluation::Pass,
                "{rule:?}"
            );
        }
    }

    #[test]
    fn latency_is_not_compared_without_live_calls() {
        let rule = Rule {
            calls_min: 0,
            ..Rule::default()
        };
        let (none, before) = (Window::empty(), calls(10, 0, 100));
        let candidate = calls(10, 0, 100);
        assert_eq!(rule.evaluate(&candidate, &none, &before), Evaluation::Pass);
        assert_eq!(rule.evaluate(&candidate, &none, &none), Evaluation::Pass);
        assert_eq!(rule.evaluate(&none, &before, &before), Evaluation::Pass);
    }
}
