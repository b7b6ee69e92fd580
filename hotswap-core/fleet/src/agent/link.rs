//! What comes from the server, and goes to it, for as long as an agent works. Each waits as long as the server takes.

use std::{cell::RefCell, collections::VecDeque, time::Duration};

use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use crate::{
    error::Result,
    names,
    rollout::RolloutRecord,
    status::Status,
    store::{LogEntry, Store},
};

/// After a failure of the server.
pub(super) const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How many events wait for the server.
const LOG_MAX: usize = 1000;

/// Events that wait for the server.
#[derive(Default)]
pub(super) struct Log {
    queue: RefCell<Queue>,
    is_filled: Notify,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<(LogEntry, String)>,
    next: u64,
    lost: u64,
}

impl Log {
    pub(super) fn push(&self, entry: LogEntry, instance: u64) {
        let mut queue = self.queue.borrow_mut();
        let id = format!("{instance:x}-{}", queue.next);
        queue.next += 1;
        if queue.entries.len() == LOG_MAX {
            queue.entries.pop_front();
            queue.lost += 1;
        }
        queue.entries.push_back((entry, id));
        self.is_filled.notify_one();
    }

    /// How many were lost, because the server was away for too long.
    pub(super) fn lost(&self) -> u64 {
        self.queue.borrow().lost
    }

    /// Sends them, in their order. Never ends.
    pub(super) async fn send(&self, store: &Store) {
        loop {
            let first = self.queue.borrow().entries.front().cloned();
            let Some((entry, id)) = first else {
                self.is_filled.notified().await;
                continue;
            };
            // The identifier keeps what was stored, but not acknowledged, from being stored twice.
            match store.append(&entry, &id).await {
                Ok(()) => {
                    let mut queue = self.queue.borrow_mut();
                    // It may have been lost meanwhile.
                    if queue.entries.front().is_some_and(|it| it.1 == id) {
                        queue.entries.pop_front();
                    }
                }
                Err(error) => {
                    tracing::debug!(target: "hotswap_fleet", %error);
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
}

/// Reads the roll-out whenever it may have changed. Never ends.
pub(super) async fn follow(
    store: &Store,
    plugin: &str,
    poll: Duration,
    rollouts: &watch::Sender<Option<RolloutRecord>>,
) {
    /// What is published when the record is written. The record itself may not have reached the server that is asked,
    /// or have been refused by another one.
    #[derive(Deserialize)]
    struct Announced {
        attempt: u64,
        change: u64,
    }
    /// How often a record that was announced is asked for.
    const ASKED_MAX: u32 = 20;

    let mut announcements = loop {
        match store
            .client()
            .subscribe(names::rollout_subject(plugin))
            .await
        {
            Ok(it) => break it,
            Err(error) => {
                tracing::debug!(target: "hotswap_fleet", %error);
                sleep(RETRY_PAUSE).await;
            }
        }
    };
    let (mut announced, mut asked) = ((0, 0), 0);
    // The order and the revision of the record that is followed.
    let mut known = ((0, 0), 0);
    loop {
        let mut has_failed = false;
        match newest(store, plugin, known).await {
            Ok(Some((rollout, revision))) => {
                if rollout.order() < known.0 {
                    // What was announced went with the bucket.
                    announced = (0, 0);
                }
                known = (rollout.order(), revision);
                rollouts.send_replace(Some(rollout));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(target: "hotswap_fleet", %error);
                has_failed = true;
            }
        }
        let pause = if has_failed {
            RETRY_PAUSE
        } else if known.0 < announced && asked < ASKED_MAX {
            asked += 1;
            Duration::from_millis(100)
        } else {
            poll
        };
        let announcement = async {
            match announcements.next().await {
                Some(message) => message,
                None => std::future::pending().await,
            }
        };
        if let Ok(message) = timeout(pause, announcement).await {
            let parsed: Option<Announced> = serde_json::from_slice(&message.payload).ok();
            let parsed = parsed.map_or((0, 0), |it| (it.attempt, it.change));
            announced = announced.max(parsed);
            asked = 0;
        }
    }
}

/// The record and its revision, if it is not the one with this order and this revision, nor an outdated one. A server
/// that lags behind may answer with a record before the known one. The bucket may also have been deleted and made anew,
/// or restored: then what is known is gone, and any record is newer.
async fn newest(
    store: &Store,
    plugin: &str,
    known: ((u64, u64), u64),
) -> Result<Option<(RolloutRecord, u64)>> {
    let Some((rollout, revision)) = store.rollout(plugin).await? else {
        return Ok(None);
    };
    let is_known = (rollout.order(), revision) == known;
    let is_newer = rollout.order() > known.0;
    if is_known || !is_newer && store.last_revision().await? >= known.1 {
        return Ok(None);
    }
    Ok(Some((rollout, revision)))
}

/// Writes the latest status whenever there is a new one. Never ends.
pub(super) async fn report(
    store: &Store,
    heartbeat: Duration,
    mut status: watch::Receiver<Status>,
) {
    status.mark_changed();
    while status.changed().await.is_ok() {
        let latest = status.borrow_and_update().clone();
        // What a server that has gone away did not acknowledge is said to the next one, before the host counts as lost.
        let written = timeout(heartbeat, store.put_status(&latest)).await;
        let problem = match written {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(elapsed) => elapsed.to_string(),
        };
        tracing::debug!(target: "hotswap_fleet", problem, "cannot write the status");
        sleep(RETRY_PAUSE.min(heartbeat)).await;
        status.mark_changed();
    }
}
