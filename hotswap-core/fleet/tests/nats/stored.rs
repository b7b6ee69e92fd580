//! Builds at the server: those that are listed, deleted, and not whole.

use hotswap_fleet::{FleetErrorKind, controller::View, rollout::Phase, status::AnswerOutcome};
use serde_json::json;

use crate::{builds::PLUGIN, fleet::Fleet};

#[tokio::test]
async fn what_no_record_has_can_be_deleted() {
    let fleet = Fleet::with(1, json!({})).await;
    let mut published = vec![fleet.key.build("good", 1).release()];
    for serial in [2, 3, 4] {
        let build = fleet.publish(&fleet.key.build("good", serial)).await;
        if serial < 4 {
            fleet.begin(build.clone(), "100%").await;
            fleet.run_until_ended(Phase::Done).await;
        }
        published.push(build);
    }
    let builds = fleet.store.builds().await.unwrap();
    let found = builds
        .iter()
        .map(|it| (&*it.sha256, &*it.comment, &it.used_by[..]));
    let is_used = |serial| match serial {
        2 | 3 => vec![PLUGIN.to_owned()],
        _ => vec![],
    };
    let expected = published.iter().map(|it| {
        let comment = format!("name={PLUGIN} serial={} ", it.serial);
        (it.sha256.clone(), comment, is_used(it.serial))
    });
    let expected: Vec<_> = expected.collect();
    let expected = expected.iter().map(|it| (&*it.0, &*it.1, &it.2[..]));
    assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    for (build, kind) in published.iter().zip([
        None,
        Some(FleetErrorKind::Invalid),
        Some(FleetErrorKind::Invalid),
        None,
    ]) {
        let deleted = fleet.store.delete(&build.sha256).await;
        assert_eq!(deleted.err().map(|it| it.kind()), kind, "{build}");
    }
    let again = fleet.store.delete(&published[0].sha256).await;
    assert_eq!(again.unwrap_err().kind(), FleetErrorKind::NotFound);
    let left = fleet.store.builds().await.unwrap();
    let left: Vec<_> = left.iter().map(|it| &it.sha256).collect();
    assert_eq!(left, [&published[1].sha256, &published[2].sha256]);
    // What was deleted may be published again.
    let first = fleet.publish(&fleet.key.build("good", 1)).await;
    fleet.begin(first, "check,100%").await;
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(1).await;
}

#[tokio::test]
async fn a_host_waits_for_parts_that_are_missing() {
    let fleet = Fleet::with(1, json!({})).await;
    let build = fleet.key.build("good", 2);
    let release = fleet.publish(&build).await;
    let jetstream = async_nats::jetstream::new(fleet.store.client().clone());
    let plugins = jetstream.get_stream("OBJ_hotswap_plugins").await.unwrap();
    // Its description is the last message, after its last part.
    let last = plugins.get_info().await.unwrap().state.last_sequence;
    assert!(plugins.delete_message(last - 1).await.unwrap());
    fleet.begin(release, "check,100%").await;
    let is_reported = |view: &View| {
        let answer = view.hosts[0].status.answer_to(view.rollout.attempt);
        let problem = "trying again: the server does not have all of the plugin ";
        answer.is_some_and(|it| match &it.outcome {
            AnswerOutcome::Working { on } => on.starts_with(problem),
            _ => false,
        })
    };
    fleet.run_until(is_reported).await;
    fleet.publish(&build).await;
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(2).await;
}
