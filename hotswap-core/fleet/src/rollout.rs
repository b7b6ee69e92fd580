//! The one record that says what the hosts of a plugin should run.
//!
//! It is changed by compare-and-swap only, and has all that whoever continues the roll-out needs to know.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{FleetError, Result};

/// What the hosts of a plugin should run, and how far a roll-out of it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// The number of changes to the record, from 1.
    pub change: u64,
    /// Which attempt it is to bring a build to the hosts. A host tries what it has refused again only in another
    /// attempt. A later attempt has a greater number, also after the bucket was deleted and made anew: it is the time
    /// at which it begins, in milliseconds since 1970, if that is greater than the number before.
    pub attempt: u64,
    /// When the attempt began, in milliseconds since 1970.
    pub started_ms: u64,
    /// When this change was made, in milliseconds since 1970.
    pub changed_ms: u64,
    /// What the hosts should run.
    pub target: Release,
    /// What hosts run that are not reached yet, and all hosts if the roll-out is halted. `None`: what they have.
    pub previous: Option<Release>,
    /// Which hosts are reached one after the other.
    pub rings: Vec<Ring>,
    /// The index of the current ring.
    pub ring: usize,
    /// Which hosts are reached now.
    pub reach: Reach,
    /// What is going on in the current ring.
    pub phase: Phase,
    /// What halts it.
    pub limits: RolloutLimits,
    /// Whether hosts make the target live at once, without a canary of their own, as they do with what is taken back.
    pub is_way_back: bool,
    /// Who has made this change.
    pub by: String,
    /// What was changed, and why.
    pub what: String,
}

/// One build of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// The serial number in its manifest.
    pub serial: u64,
}

/// One step of a roll-out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ring {
    /// Every host fetches the build and checks it, up to publishing.
    Check,
    /// So many hosts run it.
    Hosts(u32),
    /// So many percent of the hosts run it, and at least one host more than in the ring before.
    Percent(f64),
}

/// Which hosts a roll-out has reached: those whose [position](Reach::position) is below the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reach(u64);

/// What is going on in a ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Phase {
    /// Hosts of the ring are still to answer.
    Applying,
    /// All of them have answered, and calls come.
    Soaking {
        /// Since when, in milliseconds since 1970.
        since_ms: u64,
    },
    /// All hosts run the build; some still have earlier code mapped.
    Settling,
    /// All live hosts run the build, and no process has earlier code mapped, but what is named as pinned.
    Done,
    /// It has ended, and some live hosts have refused the build.
    Incomplete,
    /// It is taken back: all hosts should run the previous build.
    Halted,
}

/// What halts a roll-out, and how long it takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutLimits {
    /// How long the hosts of each ring run the build before the next ring, in milliseconds.
    pub soak_ms: u64,
    /// How long a live host may take to answer, in milliseconds. After that it has failed.
    pub answer_timeout_ms: u64,
    /// How many hosts may fail: refuse the build, roll back, lose their heartbeat, or not answer. `None`: any number.
    pub failed_hosts_max: Option<u32>,
    /// How far the ratio of calls that fail may be above that of the rest. `None`: however far.
    pub fault_ratio_excess_max: Option<f64>,
}

/// What a host should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// In which attempt.
    pub attempt: u64,
    /// The build to run. `None`: what it has.
    pub run: Option<Release>,
    /// Whether it is a way back: it is made live at once, without a canary.
    pub is_way_back: bool,
    /// The build to check without running it.
    pub check: Option<Release>,
}

impl RolloutRecord {
    /// What a host of this name should do.
    pub fn assignment(&self, host: &str) -> Assignment {
        let is_reached = self.phase != Phase::Halted && self.reaches(host);
        let run = if is_reached {
            Some(self.target.clone())
        } else {
            self.previous.clone()
        };
        let checks = self.is_checking() && !is_reached;
        Assignment {
            attempt: self.attempt,
            run,
            is_way_back: !is_reached || self.is_way_back,
            check: checks.then(|| self.target.clone()),
        }
    }

    /// Whether the host runs the build in the current ring, if it is not halted.
    pub fn reaches(&self, host: &str) -> bool {
        Reach::position(host, &self.target.sha256) < self.reach.0
    }

    /// Whether the current ring only checks.
    pub fn is_checking(&self) -> bool {
        self.phase != Phase::Halted && self.rings.get(self.ring) == Some(&Ring::Check)
    }

    /// The number of an attempt that begins now, after this record.
    pub(crate) fn next_attempt(earlier: Option<&Self>, now_ms: u64) -> u64 {
        let above_earlier = earlier.map_or(1, |it| it.attempt.saturating_add(1));
        above_earlier.max(now_ms)
    }

    /// A later record has a greater one.
    pub(crate) fn order(&self) -> (u64, u64) {
        (self.attempt, self.change)
    }

    /// The same record with one more change.
    pub fn changed(&self, now_ms: u64, by: &str, what: impl Into<String>) -> Self {
        Self {
            change: self.change.saturating_add(1),
            changed_ms: now_ms,
            by: by.to_owned(),
            what: what.into(),
            ..self.clone()
        }
    }

    /// Whether nobody has anything left to do for it.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Done | Phase::Incomplete | Phase::Halted)
    }
}

impl Reach {
    /// No host.
    pub const NOBODY: Self = Self(0);
    /// All hosts, also those that come later.
    pub const EVERYBODY: Self = Self(1 << 32);

    /// Where a host stands in the roll-out of a build: a number below 2^32, another one for each build, so that not
    /// the same hosts are first each time.
    pub fn position(host: &str, sha256: &str) -> u64 {
        let mut digest = Sha256::new();
        digest.update(sha256);
        digest.update([0]);
        digest.update(host);
        let digest = digest.finalize();
        u64::from(u32::from_be_bytes([
            digest[0], digest[1], digest[2], digest[3],
        ]))
    }

    /// The reach of a ring among these hosts, if `before` were reached before it.
    pub fn of_ring<'a>(
        ring: Ring,
        hosts: impl Iterator<Item = &'a str>,
        sha256: &str,
        before: Self,
    ) -> Self {
        let mut positions: Vec<u64> = hosts.map(|host| Self::position(host, sha256)).collect();
        positions.sort_unstable();
        let count = match ring {
            Ring::Check => return before,
            Ring::Percent(percent) if percent >= 100.0 => return Self::EVERYBODY,
            Ring::Percent(percent) => (positions.len() as f64 * percent / 100.0).ceil() as usize,
            Ring::Hosts(count) => count as usize,
        };
        let reached = positions.iter().filter(|it| **it < before.0).count();
        let count = count.max(reached + 1);
        match positions.get(count - 1) {
            Some(last) => Self(last + 1).max(before),
            None => Self::EVERYBODY,
        }
    }
}

impl Ring {
    /// Whether all hosts run the build in it.
    pub fn is_everybody(self) -> bool {
        matches!(self, Self::Percent(percent) if percent >= 100.0)
    }

    /// Checks that a roll-out can have these rings.
    ///
    /// # Errors
    ///
    /// The last one is not all hosts.
    pub fn check_all(rings: &[Self]) -> Result<()> {
        match rings.last() {
            Some(last) if last.is_everybody() => Ok(()),
            _ => Err(FleetError::invalid("the last ring must be `100%`")),
        }
    }
}

impl RolloutLimits {
    /// How long the hosts of each ring run the build before the next ring.
    pub fn soak(&self) -> Duration {
        Duration::from_millis(self.soak_ms)
    }

    /// How long a live host may take to answer.
    pub fn answer_timeout(&self) -> Duration {
        Duration::from_millis(self.answer_timeout_ms)
    }

    /// Nothing halts it.
    pub(crate) fn none() -> Self {
        Self {
            soak_ms: 0,
            failed_hosts_max: None,
            fault_ratio_excess_max: None,
            ..Self::default()
        }
    }
}

impl Default for RolloutLimits {
    /// Five minutes, ten minutes, no host, one call in a hundred.
    fn default() -> Self {
        Self {
            soak_ms: 5 * 60 * 1000,
            answer_timeout_ms: 10 * 60 * 1000,
            failed_hosts_max: Some(0),
            fault_ratio_excess_max: Some(0.01),
        }
    }
}

/// `check`, `3` or `canary=3` for hosts, `10%`.
impl FromStr for Ring {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem = || {
            format!(
                "{text:?} is no ring: it is `check`, a number of hosts (`canary=1`), or a share of them (`10%`)"
            )
        };
        if text == "check" {
            return Ok(Self::Check);
        }
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.parse().map_err(|_| problem())?;
            let is_share = percent > 0.0 && percent <= 100.0;
            return is_share
                .then_some(Self::Percent(percent))
                .ok_or_else(problem);
        }
        let count = text.strip_prefix("canary=").unwrap_or(text);
        match count.parse() {
            Ok(count) if count > 0 => Ok(Self::Hosts(count)),
            _ => Err(problem()),
        }
    }
}

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check => f.write_str("check"),
            Self::Hosts(count) => write!(f, "canary={count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "serial {} ({})", self.serial, short(&self.sha256))
    }
}

/// The beginning of a digest, for people.
pub fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(count: usize) -> Vec<String> {
        (0..count).map(|it| format!("host-{it}")).collect()
    }

    fn reached(hosts: &[String], reach: Reach) -> usize {
        let is_reached = |it: &&String| Reach::position(it, "abc") < reach.0;
        hosts.iter().filter(is_reached).count()
    }

    #[test]
    fn a_ring_reaches_its_share_and_at_least_one_host_more() {
        let hosts = hosts(200);
        let mut before = Reach::NOBODY;
        for (ring, expected) in [
            ("check", 0),
            ("canary=1", 1),
            ("1%", 2),
            ("1%", 3),
            ("10%", 20),
            ("canary=7", 21),
            ("50%", 100),
            ("100%", 200),
        ] {
            let names = hosts.iter().map(String::as_str);
            let reach = Reach::of_ring(ring.parse().unwrap(), names, "abc", before);
            assert_eq!(reached(&hosts, reach), expected, "{ring}");
            assert!(reach >= before);
            before = reach;
        }
        assert_eq!(before, Reach::EVERYBODY);
    }

    #[test]
    fn a_ring_of_more_hosts_than_there_are_reaches_all() {
        let hosts = hosts(3);
        let names = || hosts.iter().map(String::as_str);
        let all = Reach::of_ring(Ring::Hosts(3), names(), "abc", Reach::NOBODY);
        assert_eq!(reached(&hosts, all), 3);
        assert_eq!(
            Reach::of_ring(Ring::Percent(1.0), names(), "abc", all),
            Reach::EVERYBODY
        );
        let nobody = [].into_iter();
        assert_eq!(
            Reach::of_ring(Ring::Hosts(1), nobody, "abc", Reach::NOBODY),
            Reach::EVERYBODY
        );
    }

    #[test]
    fn other_builds_reach_other_hosts_first() {
        let hosts = hosts(50);
        let first = |sha256: &str| {
            let position = |it: &&String| Reach::position(it, sha256);
            hosts.iter().min_by_key(position).unwrap().clone()
        };
        let firsts = ["a", "b", "c", "d", "e"].map(first);
        assert!(firsts.iter().any(|it| it != &firsts[0]));
    }

    #[test]
    fn rings_are_written_as_they_are_read() {
        for text in ["check", "canary=1", "0.5%", "100%"] {
            assert_eq!(text.parse::<Ring>().unwrap().to_string(), text);
        }
        assert_eq!("3".parse(), Ok(Ring::Hosts(3)));
        for text in [
            "", "0", "0%", "101%", "-1%", "NaN%", "canary", "canary=0", "checks",
        ] {
            assert!(text.parse::<Ring>().is_err(), "{text}");
        }
    }
}
