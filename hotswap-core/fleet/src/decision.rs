//! What comes next in a roll-out: a function of the record, what the hosts say, and the time.
//!
//! Whoever runs a controller computes the same, and compare-and-swap lets one of them through. So a controller keeps
//! nothing, can end anywhere, and there may be several.

use std::time::Duration;

use crate::{
    rollout::{Phase, Reach, Ring, RolloutRecord, short},
    status::{AnswerOutcome, HEARTBEAT_MAX, Status},
};

/// A host's last status, and when the server got it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// What it said.
    pub status: Status,
    /// When the server got it, in milliseconds since 1970.
    pub heard_ms: u64,
}

/// The time of a look, and since when the looker has been listening without a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookTime {
    /// The time of the look, in milliseconds since 1970.
    pub now_ms: u64,
    /// Who was not heard since then may have spoken before. In milliseconds since 1970.
    pub listening_since_ms: u64,
}

/// How far a ring has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Hosts whose heartbeat comes.
    pub alive: usize,
    /// Hosts whose heartbeat has stopped, and that have not left in an orderly way.
    pub lost: usize,
    /// Hosts alive that the ring concerns.
    pub concerned: usize,
    /// Hosts alive on which the build is live.
    pub running: usize,
    /// Hosts alive that the ring concerns and that have not done their part yet.
    pub waiting: Vec<String>,
    /// Hosts that have failed, and why.
    pub failed: Vec<(String, String)>,
    /// Calls of the build in this attempt.
    pub target: CallTotals,
    /// Calls of all other builds.
    pub rest: CallTotals,
    /// Hosts alive with earlier code that is still mapped, and will go.
    pub draining: Vec<String>,
    /// Hosts alive with earlier code that stays mapped, and which.
    pub pinned: Vec<(String, String)>,
}

/// Calls, and how many of them were faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallTotals {
    /// How many have ended.
    pub calls: u64,
    /// How many of them were faults.
    pub faults: u64,
}

/// The same share of fewer calls says less: the faults in them are compared with those that so many may have.
const FAULT_RATIO_CALLS_MIN: u64 = 1000;

impl Seen {
    /// Whether its heartbeat comes.
    pub fn is_alive(&self, now_ms: u64) -> bool {
        !self.status.has_left && !self.is_late(self.heard_ms, now_ms)
    }

    /// Whether it has stopped, and has not left in an orderly way. When the server was away, or the looker, nothing is
    /// known of a host until it has had the time to be heard again.
    pub fn is_lost(&self, time: LookTime) -> bool {
        let heard_ms = self.heard_ms.max(time.listening_since_ms);
        !self.status.has_left && self.is_late(heard_ms, time.now_ms)
    }

    /// Three heartbeats, and a second for clocks and the way.
    fn is_late(&self, heard_ms: u64, now_ms: u64) -> bool {
        let limit = 3 * self.heartbeat() + Duration::from_secs(1);
        Duration::from_millis(now_ms.saturating_sub(heard_ms)) > limit
    }

    fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.status.heartbeat_ms).min(HEARTBEAT_MAX)
    }
}

impl CallTotals {
    /// Which part of the calls were faults, from 0 to 1.
    pub fn fault_ratio(self) -> f64 {
        self.faults as f64 / self.calls.max(1) as f64
    }

    fn add(&mut self, calls: u64, faults: u64) {
        // A host may say any number.
        self.calls = self.calls.saturating_add(calls);
        self.faults = self.faults.saturating_add(faults);
    }
}

impl Summary {
    /// How far the current ring has come.
    pub fn of(rollout: &RolloutRecord, hosts: &[Seen], time: LookTime) -> Self {
        let mut it = Self::default();
        for seen in hosts {
            it.add(rollout, seen, time);
        }
        it
    }

    fn add(&mut self, rollout: &RolloutRecord, seen: &Seen, time: LookTime) {
        let now_ms = time.now_ms;
        let status = &seen.status;
        let host = || status.host.clone();
        let target = &rollout.target.sha256;
        let answer = status
            .answer_to(rollout.attempt)
            .filter(|it| it.sha256 == *target);
        for figures in &status.figures {
            let side = if figures.sha256 != *target {
                &mut self.rest
            } else if answer.is_some() {
                &mut self.target
            } else {
                // Its calls of the target are those of an earlier attempt.
                continue;
            };
            side.add(figures.calls, figures.faults);
        }
        let outcome = answer.map(|it| &it.outcome);
        if let Some(AnswerOutcome::Refused(refusal)) = outcome
            && !status.has_left
        {
            self.failed.push((host(), refusal.to_string()));
        }
        if !seen.is_alive(now_ms) {
            let took_part = outcome.is_some_and(|it| !matches!(it, AnswerOutcome::Refused(_)));
            if seen.is_lost(time) {
                self.lost += 1;
                if took_part {
                    let ago = Duration::from_millis(now_ms.saturating_sub(seen.heard_ms));
                    let why = format!("no heartbeat for {} s", ago.as_secs());
                    self.failed.push((host(), why));
                }
            } else if took_part && !status.has_left {
                self.waiting.push(host());
            }
            return;
        }
        self.alive += 1;
        let is_running = status.live_sha256() == Some(target);
        self.running += usize::from(is_running);
        for mapped in &status.mapped {
            if mapped.is_pinned {
                self.pinned.push((host(), mapped.to_string()));
            } else if self.draining.last() != Some(&status.host) {
                self.draining.push(host());
            }
        }
        let is_concerned = rollout.is_checking() || rollout.reaches(&status.host);
        if !is_concerned {
            return;
        }
        self.concerned += 1;
        let is_finished = match outcome {
            Some(AnswerOutcome::Checked) => rollout.is_checking(),
            Some(AnswerOutcome::Running) => is_running,
            Some(AnswerOutcome::Refused(_)) => true,
            Some(AnswerOutcome::Working { .. }) | None => false,
        };
        if is_finished {
            // A host that has died meanwhile is missed three heartbeats later: it has stood the soak when it is heard
            // from after the end of that.
            let end_ms = match rollout.phase {
                Phase::Soaking { since_ms } => since_ms.saturating_add(rollout.limits.soak_ms),
                _ => 0,
            };
            if now_ms >= end_ms && seen.heard_ms <= end_ms {
                // While the looker was away, nothing could be heard.
                let since_ms = end_ms.max(time.listening_since_ms);
                let waits_for = Duration::from_millis(now_ms.saturating_sub(since_ms));
                let answer_timeout = rollout.limits.answer_timeout();
                if end_ms > 0 && waits_for > answer_timeout.max(seen.heartbeat()) {
                    let why = format!("no heartbeat for {} s after the soak", waits_for.as_secs());
                    self.failed.push((host(), why));
                } else {
                    self.waiting.push(host());
                }
            }
            return;
        }
        let waits_for = Duration::from_millis(now_ms.saturating_sub(rollout.changed_ms));
        if rollout.phase == Phase::Applying && waits_for > rollout.limits.answer_timeout() {
            let mut why = format!("no answer for {} s", waits_for.as_secs());
            if let Some(AnswerOutcome::Working { on }) = outcome {
                why += &format!(" ({on})");
            }
            self.failed.push((host(), why));
        }
        self.waiting.push(host());
    }

    /// Why the roll-out must be halted, if so.
    fn problem(&self, rollout: &RolloutRecord) -> Option<String> {
        let limits = &rollout.limits;
        let failed_max = limits.failed_hosts_max.map(|it| it as usize);
        if failed_max.is_some_and(|max| self.failed.len() > max) {
            let shown = self.failed.iter().take(3);
            let shown: Vec<_> = shown.map(|(host, why)| format!("{host}: {why}")).collect();
            let more = self.failed.len() - shown.len();
            let more = if more == 0 {
                String::new()
            } else {
                format!("; {more} more")
            };
            let failed = counted(self.failed.len(), "host");
            return Some(format!("{failed} failed ({}{more})", shown.join("; ")));
        }
        let excess_max = limits.fault_ratio_excess_max?;
        let accepted = self.rest.fault_ratio() + excess_max;
        let calls = self.target.calls.max(FAULT_RATIO_CALLS_MIN) as f64;
        (self.target.faults as f64 > accepted * calls).then(|| {
            format!(
                "{} of {} calls were faults, where other builds have {:.2}% and {:.2}% more are accepted",
                self.target.faults,
                self.target.calls,
                100.0 * self.rest.fault_ratio(),
                100.0 * excess_max
            )
        })
    }

    /// How a roll-out ends when nothing is left to wait for, and in words.
    fn end(&self, rollout: &RolloutRecord) -> (Phase, String) {
        let build = short(&rollout.target.sha256);
        let mut what = format!("{} on {build}", counted(self.running, "host"));
        match &self.pinned[..] {
            [] => what += ", none has earlier code mapped",
            [(host, first), ..] => {
                let pinned = counted(self.pinned.len(), "pinned generation");
                what += &format!(", {pinned} (the first, of {host}: {first})");
            }
        }
        let others = self.alive - self.running;
        if others == 0 {
            return (Phase::Done, format!("done: {what}"));
        }
        let others = counted(others, "host");
        (
            Phase::Incomplete,
            format!("ended: {what}; {others} refused it"),
        )
    }
}

/// The next change of the roll-out. `None`: there is nothing to do but wait.
pub fn next(
    rollout: &RolloutRecord,
    hosts: &[Seen],
    time: LookTime,
    by: &str,
) -> Option<RolloutRecord> {
    let now_ms = time.now_ms;
    if rollout.has_ended() {
        return None;
    }
    // A record without that ring is not one that a controller has written.
    let ring = *rollout.rings.get(rollout.ring)?;
    let summary = Summary::of(rollout, hosts, time);
    if let Some(problem) = summary.problem(rollout) {
        let CallTotals { calls, faults } = summary.target;
        let what = format!(
            "halted in ring {ring}, with {} on it, {calls} calls, {faults} faults: {problem}",
            counted(summary.running, "host")
        );
        return Some(RolloutRecord {
            phase: Phase::Halted,
            ..rollout.changed(now_ms, by, what)
        });
    }
    // Nothing is known of a ring without a host.
    if !summary.waiting.is_empty() || summary.concerned == 0 {
        return None;
    }
    let answered = counted(summary.concerned, "host");
    match rollout.phase {
        Phase::Applying => {
            let what = format!("ring {ring}: {answered} answered, soaking");
            Some(RolloutRecord {
                phase: Phase::Soaking { since_ms: now_ms },
                ..rollout.changed(now_ms, by, what)
            })
        }
        Phase::Soaking { since_ms } => {
            let soaked = Duration::from_millis(now_ms.saturating_sub(since_ms));
            (soaked >= rollout.limits.soak()).then(|| after(rollout, hosts, now_ms, by))
        }
        Phase::Settling => summary.draining.is_empty().then(|| {
            let (phase, what) = summary.end(rollout);
            RolloutRecord {
                phase,
                ..rollout.changed(now_ms, by, what)
            }
        }),
        Phase::Done | Phase::Incomplete | Phase::Halted => None,
    }
}

/// What comes after a ring that went well.
fn after(rollout: &RolloutRecord, hosts: &[Seen], now_ms: u64, by: &str) -> RolloutRecord {
    let index = rollout.ring + 1;
    let Some(&ring) = rollout.rings.get(index) else {
        let what = "all hosts run it; earlier code is being unloaded";
        return RolloutRecord {
            phase: Phase::Settling,
            ..rollout.changed(now_ms, by, what)
        };
    };
    RolloutRecord {
        ring: index,
        reach: reach(rollout, ring, hosts, now_ms),
        phase: Phase::Applying,
        ..rollout.changed(now_ms, by, format!("ring {ring} begins"))
    }
}

/// What a ring reaches among the hosts that are alive.
pub(crate) fn reach(rollout: &RolloutRecord, ring: Ring, hosts: &[Seen], now_ms: u64) -> Reach {
    let alive = hosts.iter().filter(|it| it.is_alive(now_ms));
    let names = alive.map(|it| it.status.host.as_str());
    Reach::of_ring(ring, names, &rollout.target.sha256, rollout.reach)
}

/// "1 host", "2 hosts".
pub(crate) fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests;
