//! Calls of each build, counted while they go on.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use histogram::AtomicHistogram;

use crate::status::BuildFigures;

/// How many generations are counted apart.
const GENERATIONS_MAX: usize = 8;
/// Each power of two has 2^5 buckets, so that a time is exact to 3 %.
const GROUPING_POWER: u8 = 5;
/// Longer times count as this one: 2^42 ns are 73 minutes.
const NANOSECONDS_POWER: u8 = 42;
const NANOSECONDS_MAX: u64 = (1 << NANOSECONDS_POWER) - 1;

/// The calls of the latest generations.
#[derive(Default)]
pub(crate) struct Calls(RwLock<Vec<Arc<Counted>>>);

struct Counted {
    generation: u64,
    sha256: String,
    calls: AtomicU64,
    faults: AtomicU64,
    /// In nanoseconds.
    times: AtomicHistogram,
}

impl Calls {
    /// Counts a call that has ended. `sha256` is asked for when the first call of a generation ends.
    pub(crate) fn count(
        &self,
        generation: u64,
        sha256: impl FnOnce() -> Option<String>,
        time: Duration,
        is_fault: bool,
    ) {
        let Some(counted) = self
            .of(generation)
            .or_else(|| self.insert(generation, sha256()?))
        else {
            return;
        };
        // Relaxed: figures for people and rules, which other memory does not depend on.
        counted.calls.fetch_add(1, Ordering::Relaxed);
        counted
            .faults
            .fetch_add(u64::from(is_fault), Ordering::Relaxed);
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let incremented = counted.times.increment(nanoseconds.min(NANOSECONDS_MAX));
        incremented.expect("every time up to the maximum has a bucket");
    }

    fn of(&self, generation: u64) -> Option<Arc<Counted>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .rev()
            .find(|it| it.generation == generation)
            .cloned()
    }

    fn insert(&self, generation: u64, sha256: String) -> Option<Arc<Counted>> {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(counted) = all.iter().find(|it| it.generation == generation) {
            return Some(Arc::clone(counted));
        }
        let times = AtomicHistogram::new(GROUPING_POWER, NANOSECONDS_POWER);
        let counted = Arc::new(Counted {
            generation,
            sha256,
            calls: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            times: times.expect("these constants make a histogram"),
        });
        if all.len() == GENERATIONS_MAX {
            all.remove(0);
        }
        all.push(Arc::clone(&counted));
        Some(counted)
    }

    /// Counts the calls of a build from 0 again.
    pub(crate) fn reset(&self, sha256: &str) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|it| it.sha256 != sha256);
    }

    /// The figures of each generation, the latest last.
    pub(crate) fn figures(&self) -> Vec<BuildFigures> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|it| it.figures()).collect()
    }
}

impl Counted {
    fn figures(&self) -> BuildFigures {
        let times = self.times.load();
        let at = |ratio| {
            let bucket = times.quantile_bucket(ratio).expect("between 0 and 1");
            bucket.map_or(0, |it| it.end())
        };
        BuildFigures {
            sha256: self.sha256.clone(),
            calls: self.calls.load(Ordering::Relaxed),
            faults: self.faults.load(Ordering::Relaxed),
            p50_ns: at(0.5),
            p99_ns: at(0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_generation() {
        let calls = Calls::default();
        let sha256 = |it: &str| Some(it.to_owned());
        for micros in 1..=100 {
            calls.count(
                1,
                || sha256("a"),
                Duration::from_micros(micros),
                micros > 98,
            );
        }
        calls.count(2, || sha256("b"), Duration::from_secs(100_000), false);
        // Nobody knows what this was.
        calls.count(3, || None, Duration::ZERO, true);
        let [a, b] = &calls.figures()[..] else {
            panic!("{:?}", calls.figures())
        };
        assert_eq!((&*a.sha256, a.calls, a.faults), ("a", 100, 2));
        assert!((50_000..53_000).contains(&a.p50_ns), "{a:?}");
        assert!((99_000..103_000).contains(&a.p99_ns), "{a:?}");
        assert_eq!((&*b.sha256, b.calls, b.faults), ("b", 1, 0));
    }

    #[test]
    fn a_build_is_counted_from_0_again() {
        let calls = Calls::default();
        for (generation, sha256) in [(1, "a"), (2, "b"), (3, "a"), (1, "a")] {
            calls.count(generation, || Some(sha256.to_owned()), Duration::ZERO, true);
        }
        calls.reset("a");
        calls.count(3, || Some("a".to_owned()), Duration::ZERO, false);
        let figures = calls.figures();
        let figures = figures.iter().map(|it| (&*it.sha256, it.calls, it.faults));
        assert_eq!(figures.collect::<Vec<_>>(), [("b", 1, 1), ("a", 1, 0)]);
    }

    #[test]
    fn only_the_latest_generations_are_kept() {
        let calls = Calls::default();
        for generation in 1..=20 {
            calls.count(
                generation,
                || Some(generation.to_string()),
                Duration::ZERO,
                false,
            );
        }
        let figures = calls.figures();
        assert_eq!(figures.len(), GENERATIONS_MAX);
        assert_eq!(figures.last().unwrap().sha256, "20");
    }
}
