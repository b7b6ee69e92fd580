//! The controller: carries a roll-out on.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use futures_util::StreamExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::{
    decision::{self, LookTime, Seen, Summary},
    error::{FleetError, FleetErrorKind, Result},
    names,
    rollout::{Phase, Reach, Release, Ring, RolloutLimits, RolloutRecord, now_ms},
    store::Store,
};

/// The time between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// After so long, all that hosts have said is read again, in case something was missed.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// Begins, continues and ends roll-outs of a plugin. There may be any number of them at a time.
#[derive(Clone, Debug)]
pub struct Controller {
    store: Store,
    plugin: String,
    by: String,
}

/// What a controller sees.
#[derive(Clone, Debug)]
pub struct View {
    /// The record.
    pub rollout: RolloutRecord,
    /// The hosts, by name.
    pub hosts: Vec<Seen>,
    /// How far the ring has come.
    pub summary: Summary,
}

impl Controller {
    /// A controller of a plugin, who is called `by` in the record.
    ///
    /// # Errors
    ///
    /// The name of the plugin cannot be one.
    pub fn new(store: Store, plugin: &str, by: &str) -> Result<Self> {
        names::check_name("plugin", plugin).map_err(FleetError::invalid)?;
        Ok(Self {
            store,
            plugin: plugin.to_owned(),
            by: by.to_owned(),
        })
    }

    /// Begins to roll a build out.
    ///
    /// # Errors
    ///
    /// The last ring is not all hosts, no host is alive, or a roll-out is under way ([`FleetErrorKind::Invalid`]);
    /// somebody else has begun one meanwhile ([`FleetErrorKind::Conflict`]); or the server does not answer.
    pub async fn begin(
        &self,
        target: Release,
        rings: Vec<Ring>,
        limits: RolloutLimits,
    ) -> Result<RolloutRecord> {
        Ring::check_all(&rings)?;
        let found = self.current().await?;
        let (earlier, revision) = found.map_or((None, 0), |(it, revision)| (Some(it), revision));
        let previous = match &earlier {
            None => None,
            Some(it) if !it.has_ended() => {
                let what = format!("a roll-out of {} is under way: halt it first", it.target);
                return Err(FleetError::invalid(what));
            }
            Some(it) if it.phase == Phase::Halted => it.previous.clone(),
            Some(it) => Some(it.target.clone()),
        };
        let hosts = self.store.hosts(&self.plugin).await?;
        let now_ms = now_ms();
        if !hosts.iter().any(|it| it.is_alive(now_ms)) {
            return Err(FleetError::invalid(format!(
                "no host of `{}` is alive",
                self.plugin
            )));
        }
        let mut rollout = RolloutRecord {
            change: earlier.as_ref().map_or(1, |it| it.change.saturating_add(1)),
            attempt: RolloutRecord::next_attempt(earlier.as_ref(), now_ms),
            started_ms: now_ms,
            changed_ms: now_ms,
            what: format!("begins to roll out {target}"),
            by: self.by.clone(),
            target,
            previous,
            ring: 0,
            reach: Reach::NOBODY,
            phase: Phase::Applying,
            rings,
            limits,
            is_way_back: false,
        };
        rollout.reach = decision::reach(&rollout, rollout.rings[0], &hosts, now_ms);
        self.store.change(&self.plugin, &rollout, revision).await?;
        Ok(rollout)
    }

    /// Takes the roll-out that is under way back.
    ///
    /// # Errors
    ///
    /// None is under way, or the server does not answer.
    pub async fn halt(&self, why: &str) -> Result<RolloutRecord> {
        self.change(|rollout| {
            if rollout.has_ended() {
                return Err("no roll-out is under way");
            }
            Ok(RolloutRecord {
                phase: Phase::Halted,
                ..rollout.changed(now_ms(), &self.by, format!("halted by hand: {why}"))
            })
        })
        .await
    }

    /// Goes on with a halted roll-out in the ring in which it was halted. Hosts try again what they have refused.
    ///
    /// # Errors
    ///
    /// None is halted, or the server does not answer.
    pub async fn resume(&self) -> Result<RolloutRecord> {
        self.change(|rollout| {
            if rollout.phase != Phase::Halted {
                return Err("no roll-out is halted");
            }
            let now_ms = now_ms();
            Ok(RolloutRecord {
                attempt: RolloutRecord::next_attempt(Some(rollout), now_ms),
                started_ms: now_ms,
                phase: Phase::Applying,
                ..rollout.changed(now_ms, &self.by, "resumed")
            })
        })
        .await
    }

    /// Rolls the previous build out to all hosts at once. Nothing halts that.
    ///
    /// # Errors
    ///
    /// There is no previous build, or the server does not answer.
    pub async fn revert(&self) -> Result<RolloutRecord> {
        self.change(|rollout| {
            let Some(target) = rollout.previous.clone() else {
                return Err("there is no build before");
            };
            let now_ms = now_ms();
            let what = format!("reverts to {target}");
            Ok(RolloutRecord {
                attempt: RolloutRecord::next_attempt(Some(rollout), now_ms),
                started_ms: now_ms,
                previous: Some(rollout.target.clone()),
                target,
                rings: vec![Ring::Percent(100.0)],
                ring: 0,
                reach: Reach::EVERYBODY,
                phase: Phase::Applying,
                limits: RolloutLimits::none(),
                is_way_back: true,
                ..rollout.changed(now_ms, &self.by, what)
            })
        })
        .await
    }

    /// Changes the record. If somebody else does so meanwhile, it looks at theirs, and begins again.
    async fn change(
        &self,
        change: impl Fn(&RolloutRecord) -> Result<RolloutRecord, &'static str>,
    ) -> Result<RolloutRecord> {
        loop {
            let found = self.current().await?;
            let Some((rollout, revision)) = found else {
                let what = format!("`{}` was never rolled out", self.plugin);
                return Err(FleetError::new(FleetErrorKind::NotFound, what));
            };
            let changed = change(&rollout).map_err(FleetError::invalid)?;
            match self.store.change(&self.plugin, &changed, revision).await {
                Ok(_) => return Ok(changed),
                Err(error) if error.kind() == FleetErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Looks once.
    ///
    /// # Errors
    ///
    /// There is no roll-out ([`FleetErrorKind::NotFound`]), or the server does not answer.
    pub async fn look(&self) -> Result<View> {
        let hosts = self.store.hosts(&self.plugin).await?;
        let hosts = later(BTreeMap::new(), hosts, 0);
        self.step(false, &hosts, 0).await
    }

    /// Carries roll-outs on, and calls `look` after each look, until that says that it has seen enough. While the
    /// server is away, it waits, and so it does for another record if the one that it has seen was deleted.
    ///
    /// With `acts` false, it only looks.
    ///
    /// # Errors
    ///
    /// The connection is closed, or there is no roll-out at the beginning.
    pub async fn run(&self, acts: bool, mut look: impl FnMut(&View) -> bool) -> Result<()> {
        let mut statuses = self.store.statuses(&self.plugin).await?;
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hosts = BTreeMap::new();
        let mut read_at: Option<Instant> = None;
        let mut read_ms = 0;
        let mut has_looked = false;
        let (mut listening_since_ms, mut connects) = (now_ms(), self.connects());
        loop {
            if connects != self.connects() {
                connects = self.connects();
                (listening_since_ms, read_at) = (now_ms(), None);
            }
            tokio::select! {
                // All that was heard goes before a look: a host whose heartbeat is here is not late.
                biased;
                status = statuses.next() => {
                    let Some(status) = status else {
                        return Err(FleetError::new(FleetErrorKind::Server, "the connection is closed"));
                    };
                    let seen = Seen { heard_ms: now_ms(), status };
                    hosts.insert(seen.status.host.clone(), seen);
                }
                _ = ticks.tick() => {
                    if read_at.is_none_or(|it| it.elapsed() > READ_AGAIN) {
                        let before_ms = std::mem::replace(&mut read_ms, now_ms());
                        match self.store.hosts(&self.plugin).await {
                            Ok(all) => hosts = later(hosts, all, before_ms),
                            Err(error) => {
                                wait(&error).await;
                                listening_since_ms = now_ms();
                                continue;
                            }
                        }
                        read_at = Some(Instant::now());
                    }
                    match self.step(acts, &hosts, listening_since_ms).await {
                        Ok(view) if look(&view) => return Ok(()),
                        Ok(_) => has_looked = true,
                        Err(error) if has_looked && error.kind() == FleetErrorKind::NotFound => {}
                        Err(error) if error.kind() == FleetErrorKind::Server => {
                            wait(&error).await;
                            (listening_since_ms, read_at) = (now_ms(), None);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// The record, and its revision. If something else was stored in its place, the last record is stored again.
    async fn current(&self) -> Result<Option<(RolloutRecord, u64)>> {
        loop {
            match self.store.rollout(&self.plugin).await {
                Err(error) if error.kind() == FleetErrorKind::Invalid => {}
                found => return found,
            }
            let (last, revision) = self.store.last_record(&self.plugin).await?;
            let what = format!("restored, since something else was stored: {}", last.what);
            let restored = last.changed(now_ms(), &self.by, what);
            match self.store.change(&self.plugin, &restored, revision).await {
                Err(error) if error.kind() != FleetErrorKind::Conflict => return Err(error),
                // Another look sees this change, or that of another controller.
                _ => {}
            }
        }
    }

    /// How often the connection was made.
    fn connects(&self) -> u64 {
        let statistics = self.store.client().statistics();
        statistics.connects.load(Ordering::Relaxed)
    }

    /// Looks once, and makes the next change if it is time for it.
    async fn step(
        &self,
        acts: bool,
        hosts: &BTreeMap<String, Seen>,
        listening_since_ms: u64,
    ) -> Result<View> {
        // Before the server answers, which may take its time. Nobody is listened to meanwhile.
        let time = LookTime {
            now_ms: now_ms(),
            listening_since_ms,
        };
        let found = if acts {
            self.current().await?
        } else {
            self.store.rollout(&self.plugin).await?
        };
        let Some((mut rollout, revision)) = found else {
            let what = format!("`{}` was never rolled out", self.plugin);
            return Err(FleetError::new(FleetErrorKind::NotFound, what));
        };
        let hosts: Vec<_> = hosts.values().cloned().collect();
        let next = decision::next(&rollout, &hosts, time, &self.by);
        if let Some(next) = next.filter(|_| acts) {
            match self.store.change(&self.plugin, &next, revision).await {
                Ok(_) => rollout = next,
                // Another controller was first; the next look sees what it has done.
                Err(error) if error.kind() == FleetErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        let summary = Summary::of(&rollout, &hosts, time);
        Ok(View {
            rollout,
            hosts,
            summary,
        })
    }
}

/// What was heard and what was read, whichever is later. What was heard since the time of the reading before may not
/// have been stored when this was read. What is older and was not read is of a host that an operator has deleted.
fn later(
    mut heard: BTreeMap<String, Seen>,
    read: Vec<Seen>,
    before_ms: u64,
) -> BTreeMap<String, Seen> {
    let read = read.into_iter().map(|it| (it.status.host.clone(), it));
    let mut all: BTreeMap<_, _> = read.collect();
    heard.retain(|host, it| it.heard_ms > all.get(host).map_or(before_ms, |read| read.heard_ms));
    all.extend(heard);
    all
}

async fn wait(error: &FleetError) {
    tracing::warn!(target: "hotswap_fleet", %error, "waiting for the server");
    sleep(PAUSE).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Status;

    fn seen(host: &str, heard_ms: u64) -> Seen {
        let status = Status {
            host: host.to_owned(),
            plugin: "rules".to_owned(),
            instance: 1,
            heartbeat_ms: 1000,
            live: None,
            figures: Vec::new(),
            mapped: Vec::new(),
            answer: None,
            floor: 0,
            has_left: false,
            lost_events: 0,
        };
        Seen { status, heard_ms }
    }

    #[test]
    fn what_is_later_counts_and_a_host_that_was_deleted_is_forgotten() {
        let heard = [("a", 70), ("b", 70), ("new", 70), ("deleted", 40)];
        let heard = heard.map(|(host, ms)| (host.to_owned(), seen(host, ms)));
        let read = vec![seen("a", 60), seen("b", 80), seen("c", 10)];
        let all = later(heard.into(), read, 50);
        let all: Vec<_> = all
            .values()
            .map(|it| (&*it.status.host, it.heard_ms))
            .collect();
        assert_eq!(all, [("a", 70), ("b", 80), ("c", 10), ("new", 70)]);
    }
}
