//! What somebody has stored where a record or a status should be.

use hotswap_fleet::{FleetErrorKind, rollout::Phase};
use serde_json::json;

use crate::fleet::{Fleet, soon};

async fn store(fleet: &Fleet, subject: &str, text: String) {
    let client = fleet.store.client();
    let reply = client.request(subject.to_owned(), text.into()).await;
    let reply = String::from_utf8(reply.unwrap().payload.to_vec()).unwrap();
    assert!(!reply.contains("error"), "{reply}");
}

#[tokio::test]
async fn a_record_that_was_overwritten_is_stored_again() {
    let fleet = Fleet::with(1, json!({})).await;
    let build = fleet.publish(&fleet.key.build("good", 2)).await;
    fleet.begin(build, "100%").await;
    let view = fleet.run_until_ended(Phase::Done).await;
    let subject = format!("$KV.hotswap_rollouts.{}", view.hosts[0].status.plugin);
    for other in ["no record", "{}", ""] {
        store(&fleet, &subject, other.to_owned()).await;
        let plugin = &view.hosts[0].status.plugin;
        let error = fleet.store.rollout(plugin).await.unwrap_err();
        assert_eq!(error.kind(), FleetErrorKind::Invalid);
        let restored = fleet.run_until(|view| view.rollout.has_ended()).await;
        assert!(
            restored.rollout.what.starts_with("restored"),
            "{restored:?}"
        );
        assert_eq!(restored.rollout.target, view.rollout.target);
    }
    let jetstream = async_nats::jetstream::new(fleet.store.client().clone());
    let bucket = jetstream.get_key_value("hotswap_rollouts").await.unwrap();
    bucket.delete(&view.hosts[0].status.plugin).await.unwrap();
    let next = fleet.publish(&fleet.key.build("good", 3)).await;
    fleet.begin(next, "check,100%").await;
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(3).await;
}

#[tokio::test]
async fn a_host_speaks_for_itself_only() {
    let fleet = Fleet::with(1, json!({})).await;
    let mut status = fleet.seen().await.remove(0).status;
    let plugin = status.plugin.clone();
    status.floor = 99;
    // Under its own key, of another host.
    let json = serde_json::to_string(&status).unwrap();
    let subject = format!("$KV.hotswap_hosts.stranger.{plugin}");
    store(&fleet, &subject, json).await;
    let seen = fleet.seen().await;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].status.floor, 0);
    let subject = format!("hotswap.log.stranger.{plugin}");
    let entry = json!({"host": "host-0", "plugin": plugin, "text": "forged"});
    store(&fleet, &subject, entry.to_string()).await;
    let what = || "the forged entry".to_owned();
    let hosts = soon(what, async || {
        let log = fleet.store.log(&plugin).await.unwrap();
        let forged = log.into_iter().find(|it| it.text == "forged");
        forged.map(|it| it.host)
    });
    assert_eq!(hosts.await, "stranger");
}
