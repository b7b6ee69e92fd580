//! The bucket of roll-outs: deleted and made anew, and restored as it was before.

use std::time::Duration;

use hotswap_fleet::rollout::{Phase, RolloutRecord};
use serde_json::json;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use crate::{
    builds::{Key, PLUGIN},
    fleet::{Fleet, SOON, with_trial},
};

/// Deletes the bucket with all its records, and makes it anew.
async fn make_anew(fleet: &Fleet) {
    let jetstream = async_nats::jetstream::new(fleet.store.client().clone());
    let deleted = jetstream.delete_stream("KV_hotswap_rollouts").await;
    assert!(deleted.expect("it is there").success);
    fleet.store.init(1).await.expect("the server is there");
}

async fn record(fleet: &Fleet) -> RolloutRecord {
    let found = fleet.store.rollout(PLUGIN).await;
    found.expect("the server is there").expect("a record").0
}

#[tokio::test]
async fn hosts_follow_a_bucket_that_was_made_anew() {
    let fleet = Fleet::with(2, with_trial()).await;
    let second = fleet.publish(&fleet.key.build("good", 2)).await;
    fleet.begin(second, "check,canary=1,100%").await;
    fleet.run_until_ended(Phase::Done).await;
    make_anew(&fleet).await;
    let third = fleet.publish(&fleet.key.build("good", 3)).await;
    let begun = fleet.begin(third, "check,100%").await;
    assert_eq!(begun.change, 1);
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(3).await;
}

#[tokio::test]
async fn hosts_follow_an_earlier_record_that_was_restored() {
    let fleet = Fleet::with(2, json!({})).await;
    let earlier = record(&fleet).await;
    let second = fleet.publish(&fleet.key.build("good", 2)).await;
    fleet.begin(second, "check,100%").await;
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(2).await;
    make_anew(&fleet).await;
    let restored = fleet.store.change(PLUGIN, &earlier, 0).await;
    restored.expect("the server is there");
    fleet.all_run(1).await;
}

#[tokio::test]
async fn what_was_refused_is_tried_again_when_the_bucket_was_made_anew() {
    let fleet = Fleet::with(1, json!({})).await;
    let foreign = fleet.publish(&Key::new().build("good", 2)).await;
    fleet.begin(foreign, "check,100%").await;
    fleet.run_until_ended(Phase::Halted).await;
    make_anew(&fleet).await;
    // As many attempts as before.
    for build in [fleet.key.build("good", 3), fleet.key.build("good", 2)] {
        let build = fleet.publish(&build).await;
        fleet.begin(build, "check,100%").await;
        fleet.run_until_ended(Phase::Done).await;
    }
    fleet.all_run(2).await;
}

#[tokio::test]
async fn a_controller_waits_for_the_first_record_of_a_bucket_that_was_made_anew() {
    let fleet = Fleet::with(1, json!({})).await;
    let third = fleet.publish(&fleet.key.build("good", 3)).await;
    let controller = fleet.controller();
    let has_looked = Notify::new();
    let run = controller.run(true, |view| {
        has_looked.notify_one();
        view.rollout.has_ended() && view.rollout.target == third
    });
    let change = async {
        has_looked.notified().await;
        make_anew(&fleet).await;
        // It looks meanwhile.
        sleep(Duration::from_secs(2)).await;
        fleet.begin(third.clone(), "check,100%").await;
    };
    let (ran, ()) = tokio::join!(timeout(SOON, run), change);
    ran.expect("it goes on").expect("the server is there");
    fleet.all_run(3).await;
}
