//! What is counted of the calls of one side: their number, their faults, and their times.

use std::{
    fmt::{self, Display},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use histogram::{AtomicHistogram, Histogram};

use crate::report::{Count, report};

/// What became of the calls of one side of a canary.
///
/// Its [`Display`] is one phrase: `1203 calls, 61 faults, p50 1.2ms, p99 4.1ms`, or `0 calls, 0 faults`.
#[report]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// The calls that have ended.
    pub calls: u64,
    /// Those of them that had a fault: the plugin has panicked, or the host has reported one
    /// ([`Choice::report_fault`](crate::canary::Choice::report_fault)).
    pub faults: u64,
    /// The time that half of the calls have not exceeded; zero without calls. This and the other times are exact to
    /// 1.6 %.
    pub p50: Duration,
    /// The time that nine of ten calls have not exceeded.
    pub p90: Duration,
    /// The time that 99 of 100 calls have not exceeded.
    pub p99: Duration,
}

/// The calls of one side, counted while they go on. Counting one waits for nobody.
pub(crate) struct Recording {
    faults: AtomicU64,
    /// The times of the calls, in nanoseconds.
    times: AtomicHistogram,
}

/// The calls of one side, from the beginning of the canary or of a step to one moment.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    faults: u64,
    times: Histogram,
}

/// Each power of two has 2^6 buckets.
const GROUPING_POWER: u8 = 6;
/// Longer times count as this one: 2^42 ns are 73 minutes.
const NANOSECONDS_POWER: u8 = 42;
const NANOSECONDS_MAX: u64 = (1 << NANOSECONDS_POWER) - 1;

const CONSTANTS: &str = "these constants make a histogram";

impl Recording {
    pub(crate) fn new() -> Self {
        let times = AtomicHistogram::new(GROUPING_POWER, NANOSECONDS_POWER);
        Self {
            faults: AtomicU64::new(0),
            times: times.expect(CONSTANTS),
        }
    }

    /// Counts a call.
    pub(crate) fn count(&self, time: Duration, has_fault: bool) {
        if has_fault {
            self.fault();
        }
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let counted = self.times.increment(nanoseconds.min(NANOSECONDS_MAX));
        counted.expect("every time up to the maximum has a bucket");
    }

    /// Counts a fault of a call that is counted elsewhere.
    pub(crate) fn fault(&self) {
        // Relaxed: a figure for people and rules, which other memory does not depend on.
        self.faults.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn window(&self) -> Window {
        Window {
            faults: self.faults.load(Ordering::Relaxed),
            times: self.times.load(),
        }
    }
}

impl Window {
    #[cfg(test)]
    pub(crate) fn empty() -> Self {
        Self {
            faults: 0,
            times: Histogram::new(GROUPING_POWER, NANOSECONDS_POWER).expect(CONSTANTS),
        }
    }

    pub(crate) fn calls(&self) -> u64 {
        self.times.as_slice().iter().sum()
    }

    pub(crate) fn faults(&self) -> u64 {
        self.faults
    }

    /// What has come since an earlier look at the same recording.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let times = self.times.checked_sub(&earlier.times);
        Self {
            faults: self.faults - earlier.faults,
            times: times.expect("of one recording, which only grows"),
        }
    }

    /// The time that this ratio of the calls has not exceeded; zero without calls.
    pub(crate) fn quantile(&self, ratio: f64) -> Duration {
        let bucket = self.times.quantile_bucket(ratio);
        let bucket = bucket.expect("a ratio between 0 and 1");
        bucket.map_or(Duration::ZERO, |it| Duration::from_nanos(it.end()))
    }

    /// The least and the greatest time that the quantile of all calls may be, of which these are a sample: those of the
    /// ratios four standard errors below and above. (Of calls that are independent, one range in 15,000 is wrong.)
    pub(crate) fn quantile_range(&self, ratio: f64) -> (Duration, Duration) {
        const STANDARD_ERRORS: f64 = 4.0;
        let calls = self.calls().max(1) as f64;
        let margin = STANDARD_ERRORS * (ratio * (1.0 - ratio) / calls).sqrt();
        let at = |ratio: f64| self.quantile(ratio.clamp(0.0, 1.0));
        (at(ratio - margin), at(ratio + margin))
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            calls: self.calls(),
            faults: self.faults,
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
        }
    }
}

impl Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: u64, what| Count(usize::try_from(count).unwrap_or(usize::MAX), what);
        let (calls, faults) = (count(self.calls, "call"), count(self.faults, "fault"));
        write!(f, "{calls}, {faults}")?;
        if self.calls > 0 {
            write!(f, ", p50 {:.1?}, p99 {:.1?}", self.p50, self.p99)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_has_only_later_calls() {
        let recording = Recording::new();
        (0..100).for_each(|_| recording.count(Duration::from_secs(1), true));
        let before = recording.window();
        recording.count(Duration::from_millis(1), false);
        let figures = recording.window().since(&before).figures();
        assert_eq!((figures.calls, figures.faults), (1, 0));
        assert!(figures.p99 < Duration::from_millis(2), "{figures}");
    }

    #[test]
    fn the_longest_duration_is_counted() {
        let recording = Recording::new();
        recording.count(Duration::MAX, false);
        assert_eq!(recording.window().calls(), 1);
    }
}
