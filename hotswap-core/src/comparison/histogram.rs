//! How many calls took how long: counted by many threads without a lock, and then read.
//!
//! Each time up to [`EXACT_MAX`] nanoseconds has a bucket of its own; above that, each power of two is divided into
//! 2^[`GROUPING_POWER`] buckets of the same width. Values further apart than 1.6 % never share a bucket.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const GROUPING_POWER: u32 = 6;
/// Longer times count as the longest below: 2^42 ns are 73 minutes.
const NANOSECONDS_POWER: u32 = 42;
const NANOSECONDS_MAX: u64 = (1 << NANOSECONDS_POWER) - 1;
#[cfg(test)]
const EXACT_MAX: u64 = (1 << (GROUPING_POWER + 1)) - 1;
const BUCKETS: usize = index(NANOSECONDS_MAX) + 1;

/// A histogram that is being counted.
pub(super) struct AtomicHistogram(Box<[AtomicU64]>);

/// The counts of one moment, or the difference of two.
#[derive(Clone, Debug)]
pub(super) struct Histogram(Box<[u64]>);

impl AtomicHistogram {
    pub(super) fn new() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Waits for nobody.
    pub(super) fn count(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = &self.0[index(nanoseconds.min(NANOSECONDS_MAX))];
        // Relaxed: a figure for people and rules, which other memory does not depend on.
        bucket.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn load(&self) -> Histogram {
        // Relaxed: as above.
        let counts = self.0.iter().map(|it| it.load(Ordering::Relaxed));
        Histogram(counts.collect())
    }
}

impl Histogram {
    #[cfg(test)]
    pub(super) fn empty() -> Self {
        AtomicHistogram::new().load()
    }

    pub(super) fn calls(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What has come since an earlier look at the same histogram, whose counts only grow.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let counts = self.0.iter().zip(&earlier.0);
        Self(counts.map(|(now, before)| now - before).collect())
    }

    /// The longest time in the bucket up to which this ratio of the calls is; zero without calls.
    pub(super) fn quantile(&self, ratio: f64) -> Duration {
        let calls = self.calls();
        // At least one call, and a ratio of 1 is all of them.
        let rank = ((ratio * calls as f64).ceil() as u64).clamp(1, calls.max(1));
        let mut counted = 0;
        let bucket = self.0.iter().position(|count| {
            counted += count;
            counted >= rank
        });
        bucket.map_or(Duration::ZERO, |it| Duration::from_nanos(longest(it)))
    }
}

/// The bucket of a value.
const fn index(nanoseconds: u64) -> usize {
    // The digits that are kept: the highest bit and `GROUPING_POWER` more.
    let power = (nanoseconds | (1 << GROUPING_POWER)).ilog2();
    let shift = power - GROUPING_POWER;
    ((shift as usize) << GROUPING_POWER) + (nanoseconds >> shift) as usize
}

/// The largest value of a bucket.
const fn longest(index: usize) -> u64 {
    let shift = (index >> GROUPING_POWER).saturating_sub(1);
    let digits = (index - (shift << GROUPING_POWER)) as u64;
    ((digits + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value is in the bucket that ends with it, or in one that ends at most 1.6 % later; buckets are without gaps.
    #[test]
    fn each_value_has_one_bucket() {
        for value in 0..=EXACT_MAX {
            assert_eq!(longest(index(value)), value);
        }
        let mut before = None;
        for bucket in 0..BUCKETS {
            let last = longest(bucket);
            let first = before.map_or(0, |before| before + 1);
            assert_eq!([index(first), index(last)], [bucket; 2], "{first}..={last}");
            assert!((last - first) * 64 <= first, "{first}..={last}");
            before = Some(last);
        }
        assert_eq!(before, Some(NANOSECONDS_MAX));
    }

    #[test]
    fn quantiles_are_those_of_the_nearest_rank() {
        let histogram = AtomicHistogram::new();
        assert_eq!(histogram.load().quantile(0.5), Duration::ZERO);
        for nanoseconds in 1..=100 {
            histogram.count(Duration::from_nanos(nanoseconds));
        }
        for (ratio, nanoseconds) in [(0.0, 1), (0.01, 1), (0.011, 2), (0.5, 50), (0.99, 99)] {
            let quantile = histogram.load().quantile(ratio);
            assert_eq!(quantile, Duration::from_nanos(nanoseconds), "{ratio}");
        }
        assert_eq!(histogram.load().quantile(1.0), Duration::from_nanos(100));
    }
}
