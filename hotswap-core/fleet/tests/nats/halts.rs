//! Roll-outs that are halted, and at which ring.

use hotswap_fleet::{controller::View, rollout::Phase};
use serde_json::json;

use crate::{
    builds::{PLUGIN, fixture},
    fleet::{Fleet, with_trial},
};

#[tokio::test]
async fn a_build_that_crashes_in_the_trial_is_run_by_no_host() {
    let fleet = Fleet::with(3, with_trial()).await;
    let bad = fleet.publish(&fleet.key.build("crashes", 2)).await;
    fleet.begin(bad, "check,canary=1,100%").await;
    let view = fleet.run_until_ended(Phase::Halted).await;
    assert_eq!((view.rollout.ring, view.summary.running), (0, 0));
    let (host, _) = &view.summary.failed[0];
    let refusal = fleet.refusal(&view, host);
    assert_eq!(refusal.stage, "probe");
    assert!(refusal.reason.contains("SIGABRT"), "{refusal}");
    for host in &fleet.hosts {
        assert_eq!(host.has_run(), ["1"]);
    }
}

#[tokio::test]
async fn a_build_for_another_interface_is_refused_with_what_was_expected_and_found() {
    let fleet = Fleet::with(1, with_trial()).await;
    let comment = format!("name={PLUGIN} serial=2");
    let other = fleet.key.sign(fixture("of_another_interface"), 2, &comment);
    let other = fleet.publish(&other).await;
    fleet.begin(other, "check,100%").await;
    let view = fleet.run_until_ended(Phase::Halted).await;
    assert_eq!(view.rollout.ring, 0);
    let refusal = fleet.refusal(&view, "host-0");
    assert_eq!(refusal.stage, "layout", "{refusal:?}");
    assert_eq!(refusal.expected.as_deref(), Some("hotswap-types::Plugin"));
    assert_eq!(
        refusal.found.as_deref(),
        Some("hotswap-demo-fixtures::Plugin")
    );
}

#[tokio::test]
async fn a_build_that_faults_after_publishing_is_taken_back_everywhere() {
    let fleet = Fleet::with(4, with_trial()).await;
    let bad = fleet.publish(&fleet.key.build("faults", 2)).await;
    fleet.begin(bad.clone(), "check,canary=2,100%").await;
    let view = fleet.run_until_ended(Phase::Halted).await;
    assert_eq!((view.rollout.ring, view.summary.running), (1, 2));
    let calls = view.summary.target;
    assert!(calls.faults > 0 && calls.faults == calls.calls, "{calls:?}");
    let counts = format!(
        "halted in ring canary=2, with 2 hosts on it, {} calls, {} faults: ",
        calls.calls, calls.faults
    );
    assert!(
        view.rollout.what.starts_with(&counts),
        "{}",
        view.rollout.what
    );
    fleet.all_run(1).await;
    let ran = fleet
        .hosts
        .iter()
        .filter(|it| it.has_run() == ["1", "2", "1"]);
    assert_eq!(ran.count(), 2);
    // The record says nothing else than the hosts do.
    fleet
        .watch_until(|view| {
            let is_back = |it: &&_| {
                view.hosts
                    .iter()
                    .all(|host| host.status.live_sha256() != Some(*it))
            };
            is_back(&&*bad.sha256)
        })
        .await;
}

#[tokio::test]
async fn faults_before_a_resume_do_not_halt_what_was_resumed() {
    let mut fleet = Fleet::with(2, with_trial()).await;
    let bad = fleet.publish(&fleet.key.build("faults", 2)).await;
    fleet.begin(bad.clone(), "canary=1,100%").await;
    fleet.run_until_ended(Phase::Halted).await;
    fleet.all_run(1).await;
    let resumed = fleet.controller().resume().await;
    resumed.expect("it is halted");
    // Those of the second attempt do.
    fleet.run_until_ended(Phase::Halted).await;
    fleet.all_run(1).await;
    assert_eq!(fleet.first_host(&bad).has_run(), ["1", "2", "1", "2", "1"]);
}

#[tokio::test]
async fn a_host_that_goes_back_on_probation_halts_it() {
    let mut fleet = Fleet::with(3, json!({ "has_trial": true, "has_probation": true })).await;
    let bad = fleet.publish(&fleet.key.build("faults", 2)).await;
    fleet.begin(bad.clone(), "canary=1,100%").await;
    let view = fleet.run_until_ended(Phase::Halted).await;
    assert_eq!(view.rollout.ring, 0);
    let first = fleet.first_host(&bad);
    first.until_runs(1).await;
    let name = first.name.clone();
    let refusal = fleet.refusal(&view, &name);
    assert_eq!(refusal.stage, "probation");
    assert!(refusal.reason.contains("as told"), "{refusal}");
}

#[tokio::test]
async fn a_host_that_dies_with_it_begins_with_the_last_good_build() {
    let mut fleet = Fleet::with(2, with_trial()).await;
    let bad = fleet.publish(&fleet.key.build("aborts", 2)).await;
    fleet.begin(bad.clone(), "canary=1,100%").await;
    let first = fleet.first_host(&bad);
    let status = first.until_ends().await;
    assert!(!status.success());
    first.start();
    let name = first.name.clone();
    let view = fleet.run_until_ended(Phase::Halted).await;
    let refusal = fleet.refusal(&view, &name);
    assert_eq!(refusal.stage, "process");
    let first = fleet.first_host(&bad);
    first.until_runs(1).await;
    // It has not tried it a second time.
    let has_run = first.has_run();
    assert!(
        has_run.iter().filter(|it| *it == "2").count() <= 1,
        "{has_run:?}"
    );
    assert_eq!(first.end().await.faults, 0);
}

#[tokio::test]
async fn a_host_whose_heartbeat_stops_halts_it() {
    let mut fleet = Fleet::with(2, with_trial()).await;
    let build = fleet.publish(&fleet.key.build("good", 2)).await;
    fleet.begin_slowly(build.clone(), "canary=1,100%").await;
    let is_soaking = |view: &View| matches!(view.rollout.phase, Phase::Soaking { .. });
    fleet.run_until(is_soaking).await;
    fleet.first_host(&build).kill();
    let view = fleet.run_until_ended(Phase::Halted).await;
    assert_eq!((view.rollout.ring, view.summary.lost), (0, 1));
    assert!(
        view.rollout.what.contains("no heartbeat for"),
        "{}",
        view.rollout.what
    );
}

#[tokio::test]
async fn what_was_halted_is_tried_again_when_it_is_resumed() {
    let fleet = Fleet::with(2, with_trial()).await;
    let build = fleet.publish(&fleet.key.build("good", 2)).await;
    fleet.begin(build, "canary=1,100%").await;
    fleet.watch_until(|view| view.summary.running == 1).await;
    let controller = fleet.controller();
    controller.halt("a rumour").await.expect("it is under way");
    fleet.all_run(1).await;
    controller.resume().await.expect("it is halted");
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(2).await;
    controller.revert().await.expect("there was one before");
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(1).await;
}
