//! Hosts that give a new build a share of their calls first.

use hotswap_fleet::rollout::Phase;
use serde_json::json;

use crate::fleet::Fleet;

#[tokio::test]
async fn what_a_host_abandons_as_its_canary_is_refused() {
    let fleet = Fleet::with(1, json!({ "canary_calls": 20 })).await;
    let good = fleet.publish(&fleet.key.build("good", 2)).await;
    fleet.begin(good, "check,100%").await;
    fleet.run_until_ended(Phase::Done).await;
    let bad = fleet.publish(&fleet.key.build("faults", 3)).await;
    fleet.begin(bad, "check,100%").await;
    let view = fleet.run_until_ended(Phase::Halted).await;
    let nack = fleet.refusal(&view, "host-0");
    assert_eq!(nack.stage, "canary");
    fleet.all_run(2).await;
}

/// A canary that never has enough calls would delay the way back for ever.
#[tokio::test]
async fn a_way_back_is_no_canary() {
    let mut fleet = Fleet::with(1, json!({})).await;
    let good = fleet.key.build_with("good", 2, "floor=1");
    let good = fleet.publish(&good).await;
    fleet.begin(good, "check,100%").await;
    fleet.run_until_ended(Phase::Done).await;
    // The next process begins with it.
    fleet
        .watch_until(|view| view.hosts[0].status.floor == 1)
        .await;
    let host = &mut fleet.hosts[0];
    host.end().await;
    host.tell("canary_calls", 1_000_000_000_u64);
    host.start();
    host.until_runs(2).await;
    // There is nothing mapped to roll back to.
    fleet.controller().revert().await.unwrap();
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(1).await;
}
