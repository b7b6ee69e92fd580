//! Roll-outs that go well, and those that are halted.

use std::collections::BTreeMap;

use hotswap_fleet::rollout::Phase;

use crate::fleet::{Fleet, with_trial};

#[tokio::test]
async fn a_good_build_comes_to_all_hosts_ring_by_ring() {
    let fleet = Fleet::with(4, with_trial()).await;
    let build = fleet.publish(&fleet.key.build("good", 2)).await;
    fleet.begin(build.clone(), "check,canary=1,50%,100%").await;
    let mut running = BTreeMap::new();
    let view = fleet
        .run_until(|view| {
            running.insert(view.rollout.ring, view.summary.running);
            view.rollout.has_ended()
        })
        .await;
    assert_eq!(view.rollout.phase, Phase::Done);
    // As each ring was left.
    assert_eq!(running, [(0, 0), (1, 1), (2, 2), (3, 4)].into());
    assert!(view.summary.failed.is_empty() && view.summary.draining.is_empty());
    let what = &view.rollout.what;
    assert_eq!(
        *what,
        format!(
            "done: 4 hosts on {}, none has earlier code mapped",
            &build.sha256[..12]
        )
    );
    fleet.all_run(2).await;
    let Fleet { mut hosts, .. } = fleet;
    for host in &mut hosts {
        assert_eq!(host.has_run(), ["1", "2"]);
        let ended = host.end().await;
        assert!(ended.calls > 0 && ended.faults == 0, "{ended:?}");
    }
}

#[tokio::test]
async fn a_build_of_many_chunks_comes_whole() {
    let fleet = Fleet::with(2, with_trial()).await;
    let mut large = fleet.key.build("good", 2);
    // Behind what the loader reads.
    large.bytes.resize(5_000_000, 1);
    let large = fleet.key.sign(large.bytes, 2, "name=rules serial=2");
    let large = fleet.publish(&large).await;
    fleet.begin(large, "check,100%").await;
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(2).await;
}
