//! Servers and hosts that go away and come back.

use async_nats::ConnectOptions;
use hotswap_fleet::rollout::Phase;
use serde_json::{Value, json};

use crate::{
    fleet::{Fleet, with_trial},
    servers::Servers,
};

/// Hosts that may be silent for as long as it takes to find another server, or the same one again.
fn patient() -> Value {
    json!({ "has_trial": true, "heartbeat_ms": 5000 })
}

#[tokio::test]
async fn a_host_that_was_down_gets_it_when_it_is_back() {
    let mut fleet = Fleet::with(3, with_trial()).await;
    fleet.hosts[0].end().await;
    let build = fleet.publish(&fleet.key.build("good", 2)).await;
    fleet.begin(build.clone(), "check,canary=1,100%").await;
    let view = fleet.run_until_ended(Phase::Done).await;
    assert_eq!((view.summary.alive, view.summary.lost), (2, 0));
    fleet.hosts[0].start();
    fleet.all_run(2).await;
    assert_eq!(fleet.hosts[0].has_run(), ["1", "1", "2"]);
    // A host that is new gets it, too.
    fleet.add_host("host-3", &with_trial()).start();
    fleet.all_run(2).await;
}

#[tokio::test]
async fn a_host_begins_with_the_last_good_build_when_the_server_is_away() {
    let mut fleet = Fleet::with(1, patient()).await;
    fleet.servers.kill_all();
    // It does not wait for the server when it ends, either.
    fleet.hosts[0].end().await;
    fleet.hosts[0].start();
    let is_there_again = || fleet.hosts[0].has_run() == ["1", "1"];
    crate::fleet::soon(
        || fleet.hosts[0].err(),
        async || is_there_again().then_some(()),
    )
    .await;
    fleet.servers.start_all();
    let build = fleet.publish_soon(&fleet.key.build("good", 2)).await;
    fleet.alive(1).await;
    fleet.begin(build, "check,100%").await;
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(2).await;
}

#[tokio::test]
async fn a_roll_out_goes_on_when_the_server_is_back() {
    let mut fleet = Fleet::with(3, patient()).await;
    let build = fleet.publish(&fleet.key.build("good", 2)).await;
    fleet.begin(build, "check,canary=1,100%").await;
    fleet.run_until(|view| view.rollout.ring == 1).await;
    fleet.servers.kill_all();
    fleet.servers.start_all();
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(2).await;
    fleet.until_log_is_whole().await;
    for host in &mut fleet.hosts {
        assert_eq!(host.end().await.faults, 0);
    }
}

#[tokio::test]
async fn what_happens_while_the_server_is_away_is_said_once_when_it_is_back() {
    let mut patient = patient();
    patient["has_probation"] = true.into();
    let mut fleet = Fleet::with(1, patient).await;
    let build = fleet.publish(&fleet.key.build("good", 2)).await;
    fleet.begin(build, "canary=1,100%").await;
    fleet.watch_until(|view| view.summary.running == 1).await;
    fleet.servers.kill_all();
    fleet.hosts[0].report_fault();
    fleet.hosts[0].until_runs(1).await;
    fleet.servers.start_all();
    let view = fleet.run_until_ended(Phase::Halted).await;
    assert_eq!(fleet.refusal(&view, "host-0").stage, "probation");
    fleet.until_log_is_whole().await;
    let log = fleet.log_of("host-0").await;
    let back = log
        .iter()
        .filter(|it| it.contains("as told") && it.contains("refused"));
    assert_eq!(back.count(), 1, "{log:#?}");
}

#[tokio::test]
async fn a_cluster_of_three_goes_on_without_one_and_waits_without_two() {
    let mut fleet = Fleet::on(Servers::start(3, ""), ConnectOptions::new(), 3).await;
    fleet.add_hosts(3, &patient()).await;
    let build = fleet.publish(&fleet.key.build("good", 2)).await;
    fleet.begin(build, "check,canary=1,100%").await;
    fleet.servers.kill(0);
    fleet.run_until(|view| view.rollout.ring == 1).await;
    fleet.servers.kill(1);
    fleet.servers.start_all();
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(2).await;
    fleet.until_log_is_whole().await;
}
