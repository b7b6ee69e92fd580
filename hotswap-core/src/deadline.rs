//! When a timeout ends. The sum of an `Instant` and a `Duration` that a host has chosen may not exist, and `+` panics
//! then: so all such sums are made here.

use std::time::{Duration, Instant};

/// No process runs for longer.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The end of a timeout that began at `begin`. A timeout of more than 30 years ends after 30 years.
pub(crate) fn deadline(begin: Instant, timeout: Duration) -> Instant {
    begin + timeout.min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_exact_up_to_30_years_and_exists_for_every_timeout() {
        let now = Instant::now();
        let day = Duration::from_secs(24 * 60 * 60);
        assert_eq!(deadline(now, day), now + day);
        for timeout in [
            LONGEST + day,
            Duration::from_secs(i64::MAX.unsigned_abs() - 1),
            Duration::from_millis(u64::MAX),
            Duration::from_secs(u64::MAX),
            Duration::MAX,
        ] {
            assert_eq!(deadline(now, timeout), now + LONGEST, "{timeout:?}");
        }
    }
}
