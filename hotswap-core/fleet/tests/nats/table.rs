//! Twenty hosts and a cluster of three servers: all that may happen to a roll-out, one after the other, as a table.
//! `scripts/fleet` runs it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use async_nats::ConnectOptions;
use hotswap_fleet::{
    controller::View,
    rollout::{Phase, Release},
};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    controllers::kill_after_each_change, fleet::Fleet, permissions::users, servers::Servers,
};

const HOSTS: usize = 20;
const RINGS: &str = "check,canary=1,10%,50%,100%";
/// How long all servers are away.
const OUTAGE: Duration = Duration::from_secs(60);

struct Table {
    fleet: Fleet,
    serial: u64,
    /// Builds that fault as they are told to.
    bad: BTreeSet<String>,
    problems: Vec<String>,
}

/// What must come out of a scenario.
struct Expected {
    phase: Phase,
    ring: &'static str,
    /// How many hosts run the build at the end.
    ran: usize,
}

fn done() -> Expected {
    done_on(HOSTS)
}

fn done_on(ran: usize) -> Expected {
    Expected {
        phase: Phase::Done,
        ring: "100%",
        ran,
    }
}

fn halted(ring: &'static str, ran: usize) -> Expected {
    Expected {
        phase: Phase::Halted,
        ring,
        ran,
    }
}

impl Table {
    async fn new() -> Self {
        let names: Vec<_> = (0..HOSTS).map(|it| format!("host-{it}")).collect();
        let names: Vec<_> = names.iter().map(|it| &**it).collect();
        let users = users(&names);
        let servers = Servers::start(3, &users);
        let operator = ConnectOptions::with_user_and_password("operator".into(), "operator".into());
        let mut fleet = Fleet::on(servers, operator, 3).await;
        for name in &names {
            let more = json!({ "has_trial": true, "heartbeat_ms": 5000, "password": name });
            fleet.add_host(name, &more).start();
        }
        fleet.alive(HOSTS).await;
        println!(
            "| scenario | outcome | ring | hosts on it | its calls | its faults | time | lost calls | lost events |\n\
             |---|---|---|---|---|---|---|---|---|"
        );
        Self {
            fleet,
            serial: 0,
            bad: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// Publishes the next build, which does what this word says.
    async fn publish(&mut self, word: &str, more: &str) -> Release {
        self.serial += 1;
        let build = self.fleet.key.build_with(word, self.serial, more);
        if word != "good" {
            self.bad.insert(build.sha256());
        }
        self.fleet.publish_soon(&build).await
    }

    /// The next good build, which has just begun to be rolled out.
    async fn begin_good(&mut self) {
        let build = self.publish("good", "").await;
        self.fleet.begin(build, RINGS).await;
    }

    /// Carries what has begun on to its end, and prints the row.
    async fn end(&mut self, scenario: &str, begun: Instant, expected: Expected) {
        let view = self.fleet.run_until(|view| view.rollout.has_ended()).await;
        let time = begun.elapsed();
        self.fleet.until_log_is_whole().await;
        let (rollout, summary) = (&view.rollout, &view.summary);
        let ring = rollout.rings[rollout.ring].to_string();
        let (lost_calls, lost_events) = self.lost(&view);
        println!(
            "| {scenario} | {:?} | {ring} | {} | {} | {} | {:.1} s | {lost_calls} | {lost_events} |",
            rollout.phase,
            summary.running,
            summary.target.calls,
            summary.target.faults,
            time.as_secs_f64()
        );
        let is_good = !self.bad.contains(&rollout.target.sha256);
        let is_as_expected = rollout.phase == expected.phase
            && ring == expected.ring
            && summary.running == expected.ran
            && (lost_calls, lost_events) == (0, 0)
            && (!is_good || summary.target.faults == 0);
        if !is_as_expected {
            self.problems.push(format!("{scenario}: {}", rollout.what));
        }
    }

    /// How many calls of builds that do not fault have failed, and how many events are not in the log.
    fn lost(&self, view: &View) -> (u64, u64) {
        let statuses = || view.hosts.iter().map(|it| &it.status);
        let figures = statuses().flat_map(|it| &it.figures);
        let good = figures.filter(|it| !self.bad.contains(&it.sha256));
        let calls = good.map(|it| it.faults).sum();
        (calls, statuses().map(|it| it.lost_events).sum())
    }

    /// Waits until all hosts run this build, as they say themselves.
    async fn all_run(&self, serial: u64) {
        self.fleet.all_run(serial).await;
    }
}

#[tokio::test]
async fn what_may_happen_to_twenty_hosts() {
    let mut table = Table::new().await;

    let begun = Instant::now();
    table.begin_good().await;
    table.end("a good build", begun, done()).await;
    let good = table.serial;

    let begun = Instant::now();
    let bad = table.publish("crashes", "").await;
    table.fleet.begin(bad, RINGS).await;
    table
        .end("crashes in the trial", begun, halted("check", 0))
        .await;
    table.all_run(good).await;

    let begun = Instant::now();
    let bad = table.publish("faults", "").await;
    table.fleet.begin(bad, RINGS).await;
    table
        .end("faults after it is published", begun, halted("canary=1", 1))
        .await;
    table.all_run(good).await;

    let begun = Instant::now();
    let bad = table.publish("aborts", "").await;
    table.fleet.begin(bad.clone(), "canary=1,100%").await;
    let first = table.fleet.first_host(&bad);
    first.until_ends().await;
    first.start();
    table
        .end(
            "kills its host, which is started again",
            begun,
            halted("canary=1", 0),
        )
        .await;
    table.all_run(good).await;

    let begun = Instant::now();
    let build = table.publish("good", "").await;
    let killed = kill_after_each_change(&table.fleet, &build, RINGS).await;
    let scenario = format!("{killed} controllers killed, one after each change");
    table.end(&scenario, begun, done()).await;

    let begun = Instant::now();
    table.begin_good().await;
    table.fleet.run_until(|view| view.rollout.ring == 1).await;
    table.fleet.servers.kill(0);
    table
        .end("one server killed in the second ring", begun, done())
        .await;
    table.fleet.servers.start_all();

    let begun = Instant::now();
    table.begin_good().await;
    table.fleet.run_until(|view| view.rollout.ring == 1).await;
    table.fleet.servers.kill_all();
    sleep(OUTAGE).await;
    table.fleet.servers.start_all();
    table
        .end("all servers away for a minute", begun, done())
        .await;

    table.fleet.hosts[0].end().await;
    let begun = Instant::now();
    table.begin_good().await;
    table
        .end(
            "a host is down, and gets it when it is back",
            begun,
            done_on(HOSTS - 1),
        )
        .await;
    table.fleet.hosts[0].start();
    table.all_run(table.serial).await;

    let old = table.fleet.key.build("good", table.serial).release();
    let floor = format!("floor={}", table.serial + 1);
    let build = table.publish("good", &floor).await;
    table.fleet.begin(build, "100%").await;
    let floor = table.serial;
    table
        .fleet
        .run_until(|view| {
            let is_kept = view.hosts.iter().all(|it| it.status.floor == floor);
            view.rollout.has_ended() && is_kept
        })
        .await;
    let begun = Instant::now();
    table.fleet.begin(old, RINGS).await;
    table
        .end(
            "a replayed build below the floor",
            begun,
            halted("check", 0),
        )
        .await;
    table.all_run(floor).await;

    table.fleet.hosts[0].end().await;
    table.fleet.hosts[0].tell("password", "wrong");
    table.fleet.hosts[0].start();
    let begun = Instant::now();
    table.begin_good().await;
    table
        .end("a host with wrong credentials", begun, done_on(HOSTS - 1))
        .await;
    let its = table.fleet.hosts[0].runs();
    if its != Some(floor.to_string()) {
        table
            .problems
            .push(format!("the host with wrong credentials runs {its:?}"));
    }
    table.fleet.hosts[0].end().await;
    table.fleet.hosts[0].tell("password", "host-0");
    table.fleet.hosts[0].start();
    table.all_run(table.serial).await;

    assert!(table.problems.is_empty(), "{:#?}", table.problems);
}
