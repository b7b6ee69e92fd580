//! Builds that no host takes.

use hotswap_fleet::rollout::{Phase, Release};
use serde_json::json;

use crate::{
    builds::{Build, Key},
    fleet::Fleet,
};

/// Rolls a release out to one host, which must refuse it with this stage, expectation and finding, and go on with what
/// it has.
async fn check_refusal(
    fleet: &Fleet,
    release: Release,
    expected: (&str, Option<&str>, Option<&str>, &str),
) {
    fleet.begin(release, "check,100%").await;
    let view = fleet.run_until_ended(Phase::Halted).await;
    assert_eq!(view.rollout.ring, 0);
    let found = fleet.refusal(&view, "host-0");
    let (stage, what_expected, what_found, reason) = expected;
    assert_eq!(found.stage, stage, "{found:?}");
    assert_eq!(found.expected.as_deref(), what_expected, "{found:?}");
    assert_eq!(found.found.as_deref(), what_found, "{found:?}");
    assert!(found.reason.contains(reason), "{found:?}");
}

#[tokio::test]
async fn a_replayed_build_below_the_floor_is_refused() {
    let fleet = Fleet::with(1, json!({})).await;
    let old = fleet.key.build("good", 1).release();
    for (build, floor) in [
        (fleet.key.build_with("good", 2, "floor=2"), 2),
        (fleet.key.build("good", 3), 2),
    ] {
        let build = fleet.publish(&build).await;
        fleet.begin(build, "100%").await;
        fleet.run_until_ended(Phase::Done).await;
        let is_kept = |it: &hotswap_fleet::controller::View| it.hosts[0].status.floor == floor;
        fleet.watch_until(is_kept).await;
    }
    let what = "its serial number is below the floor";
    check_refusal(
        &fleet,
        old,
        ("manifest", Some("at least 2"), Some("1"), what),
    )
    .await;
    assert_eq!(fleet.hosts[0].has_run(), ["1", "2", "3"]);
    // What is not below it may come back.
    let second = fleet.key.build_with("good", 2, "floor=2");
    fleet.begin(second.release(), "check,100%").await;
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(2).await;
}

#[tokio::test]
async fn what_has_expired_or_is_signed_by_others_is_refused() {
    let fleet = Fleet::with(1, json!({ "interface": null })).await;
    let date = "2020-01-31T00:00:00Z";
    let expired = fleet.key.build_with("good", 2, &format!("expires={date}"));
    let expired = fleet.publish(&expired).await;
    let expected = (
        "manifest",
        Some("a later date"),
        Some(date),
        "it has expired",
    );
    check_refusal(&fleet, expired, expected).await;

    let foreign = fleet.publish(&Key::new().build("good", 3)).await;
    check_refusal(&fleet, foreign, ("manifest", None, None, "key")).await;

    let good = fleet.key.build("good", 4);
    let comment = "name=others serial=4";
    let other = fleet.publish(&fleet.key.sign(good.bytes, 4, comment)).await;
    let expected = (
        "manifest",
        Some("rules"),
        Some("others"),
        "a build of another plugin",
    );
    check_refusal(&fleet, other, expected).await;
    assert_eq!(fleet.hosts[0].has_run(), ["1"]);
}

#[tokio::test]
async fn a_build_that_is_signed_again_with_a_later_date_is_accepted_in_another_attempt() {
    let fleet = Fleet::with(1, json!({})).await;
    let build = |date: &str| {
        let expires = format!("expires={date}");
        fleet.key.build_with("good", 2, &expires)
    };
    let date = "2020-01-31T00:00:00Z";
    let expired = fleet.publish(&build(date)).await;
    let expected = (
        "manifest",
        Some("a later date"),
        Some(date),
        "it has expired",
    );
    check_refusal(&fleet, expired.clone(), expected).await;
    let again = fleet.publish(&build("2120-01-31T00:00:00Z")).await;
    assert_eq!(again, expired, "the bytes are the same");
    fleet.begin(again, "check,100%").await;
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(2).await;
}

#[tokio::test]
async fn a_build_for_another_host_is_refused_by_its_interface() {
    let mut fleet = Fleet::with(1, json!({})).await;
    fleet.hosts[0].end().await;
    fleet.hosts[0].tell("interface", "rules-2");
    fleet.hosts[0].start();
    fleet.hosts[0].until_runs(1).await;
    fleet.alive(1).await;
    let build = fleet.key.build_with("good", 2, "interface=rules-1");
    let build = fleet.publish(&build).await;
    let what = "it was built for another interface";
    check_refusal(
        &fleet,
        build,
        ("manifest", Some("rules-2"), Some("rules-1"), what),
    )
    .await;
}

#[tokio::test]
async fn an_object_with_other_bytes_is_refused_by_its_hash() {
    let fleet = Fleet::with(1, json!({})).await;
    let good = fleet.key.build("good", 2);
    let half = good.bytes[..good.bytes.len() / 2].to_vec();
    let other = fleet.key.build("good", 3);
    for (serial, bytes) in [(2, half), (4, other.bytes)] {
        let named = Build {
            bytes,
            ..fleet.key.build("good", serial)
        };
        let found = named.sha256();
        let release = fleet.key.build("good", serial).release();
        put_under(&fleet, &release, &named).await;
        let expected = release.sha256.clone();
        let expected = (
            "fetch",
            Some(&*expected),
            Some(&*found),
            "the server has other bytes",
        );
        check_refusal(&fleet, release, expected).await;
    }
    assert_eq!(fleet.hosts[0].has_run(), ["1"]);
}

#[tokio::test]
async fn an_object_that_is_damaged_is_whole_after_it_was_published_again() {
    let fleet = Fleet::with(1, json!({})).await;
    let good = fleet.key.build("good", 2);
    let named = Build {
        bytes: good.bytes[1..].to_vec(),
        ..fleet.key.build("good", 2)
    };
    put_under(&fleet, &good.release(), &named).await;
    fleet.publish(&good).await;
    fleet.begin(good.release(), "check,100%").await;
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(2).await;
}

/// Stores bytes under the name of another build, as a server could that is not honest.
async fn put_under(fleet: &Fleet, release: &Release, build: &Build) {
    use async_nats::jetstream::{self, object_store::ObjectMetadata};

    let jetstream = jetstream::new(fleet.store.client().clone());
    let plugins = jetstream.get_object_store("hotswap_plugins").await;
    let metadata = ObjectMetadata {
        name: format!("plugins/{}", release.sha256),
        metadata: [("minisig".to_owned(), build.signature.clone())].into(),
        ..ObjectMetadata::default()
    };
    let plugins = plugins.expect("it is there");
    let put = plugins.put(metadata, &mut &*build.bytes).await;
    put.expect("it may be put");
}
