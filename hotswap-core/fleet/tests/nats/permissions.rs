//! What the credentials of a host allow, tried one by one: `hotswap-fleet permissions` fills them in.

use std::{fmt::Write as _, process::Command};

use async_nats::{Client, ConnectOptions, Event, ServerError};
use hotswap_fleet::rollout::Phase;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    builds::PLUGIN,
    fleet::{Fleet, SOON, connect, soon},
    servers::Servers,
};

const HOSTS: [&str; 2] = ["host-0", "host-1"];

/// The part of a configuration that has an operator and these hosts, each with a password that is its name.
pub(crate) fn users(hosts: &[&str]) -> String {
    let printed = Command::new(env!("CARGO_BIN_EXE_hotswap-fleet"))
        .args(["permissions", "--plugin", PLUGIN, "--host"])
        .args(hosts)
        .output()
        .expect("just built");
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).expect("text");
    let mut text = String::new();
    for host in hosts {
        let variable = host.to_uppercase().replace('-', "_");
        let _ = writeln!(text, "PASSWORD_OF_{variable}: {host}");
    }
    let operator = "{ user: operator, password: operator }";
    let _ = writeln!(text, "authorization {{ users: [\n{operator}\n{printed}] }}");
    text
}

async fn fleet_with_users() -> Fleet {
    let operator = ConnectOptions::with_user_and_password("operator".into(), "operator".into());
    Fleet::on(Servers::start(1, &users(&HOSTS)), operator, 1).await
}

fn with_password(password: &str) -> Value {
    json!({ "has_trial": true, "password": password })
}

#[tokio::test]
async fn they_are_enough_for_a_roll_out() {
    let mut fleet = fleet_with_users().await;
    for host in HOSTS {
        fleet.add_host(host, &with_password(host)).start();
    }
    fleet.alive(HOSTS.len()).await;
    for serial in [1, 2] {
        let build = fleet.publish(&fleet.key.build("good", serial)).await;
        fleet.begin(build, "check,canary=1,100%").await;
        fleet.run_until_ended(Phase::Done).await;
        fleet.all_run(serial).await;
    }
    fleet.until_log_is_whole().await;
    assert!(!fleet.log_of("host-0").await.is_empty());
}

#[tokio::test]
async fn a_host_with_a_wrong_password_goes_on_with_its_last_good_build_and_takes_no_part() {
    let mut fleet = fleet_with_users().await;
    for host in HOSTS {
        fleet.add_host(host, &with_password(host)).start();
    }
    fleet.alive(HOSTS.len()).await;
    let first = fleet.publish(&fleet.key.build("good", 1)).await;
    fleet.begin(first, "100%").await;
    fleet.run_until_ended(Phase::Done).await;
    fleet.hosts[0].end().await;
    fleet.hosts[0].tell("password", "wrong");
    fleet.hosts[0].start();
    let host = &fleet.hosts[0];
    let is_there = async || (host.has_run() == ["1", "1"]).then_some(());
    soon(|| host.err(), is_there).await;
    let second = fleet.publish(&fleet.key.build("good", 2)).await;
    fleet.begin(second, "check,100%").await;
    let view = fleet.run_until_ended(Phase::Done).await;
    assert_eq!(view.summary.alive, 1);
    fleet.hosts[1].until_runs(2).await;
    assert_eq!(fleet.hosts[0].runs().as_deref(), Some("1"));
    // It has served all the while, and ends at once.
    let ended = fleet.hosts[0].end().await;
    assert!(ended.calls > 0 && ended.faults == 0, "{ended:?}");
}

/// A client with the credentials of a host, and what the server has forbidden it.
async fn client_of(host: &str, fleet: &Fleet) -> (Client, mpsc::UnboundedReceiver<String>) {
    let (sender, forbidden) = mpsc::unbounded_channel();
    let options = ConnectOptions::with_user_and_password(host.into(), host.into())
        .custom_inbox_prefix(format!("_INBOX_{host}"))
        .event_callback(move |event| {
            if let Event::ServerError(ServerError::Other(text)) = event {
                let _ = sender.send(text);
            }
            std::future::ready(())
        });
    (connect(&fleet.servers.url(), options).await, forbidden)
}

/// Waits until the server forbids it; other than that, it says nothing.
async fn until_forbidden(
    what: &str,
    subject: &str,
    forbidden: &mut mpsc::UnboundedReceiver<String>,
) {
    let text = timeout(SOON, forbidden.recv()).await;
    let text = text.unwrap_or_else(|_| panic!("{what} {subject} is allowed"));
    let text = text.expect("the client is there").to_lowercase();
    let subject = subject.to_lowercase();
    assert!(
        text.contains(what) && text.contains(&subject),
        "{what} {subject}: {text}"
    );
}

#[tokio::test]
async fn a_host_cannot_write_what_is_not_its_own() {
    let fleet = fleet_with_users().await;
    let (client, mut forbidden) = client_of("host-0", &fleet).await;
    for subject in [
        // Another host's status and log, and its own of another plugin.
        "$KV.hotswap_hosts.host-1.rules",
        "$KV.hotswap_hosts.host-0.others",
        "hotswap.log.host-1.rules",
        "hotswap.log.host-0.others",
        // The roll-out, and plugins.
        "$KV.hotswap_rollouts.rules",
        "$O.hotswap_plugins.C.any",
        "$O.hotswap_plugins.M.any",
        // The log's end, and the streams'.
        "$JS.API.STREAM.MSG.DELETE.HOTSWAP_LOG",
        "$JS.API.STREAM.PURGE.HOTSWAP_LOG",
        "$JS.API.STREAM.DELETE.HOTSWAP_LOG",
        "$JS.API.STREAM.UPDATE.HOTSWAP_LOG",
        "$JS.API.STREAM.CREATE.any",
        "$JS.API.STREAM.PURGE.KV_hotswap_rollouts",
        "$JS.API.STREAM.PURGE.KV_hotswap_hosts",
        "$JS.API.STREAM.PURGE.OBJ_hotswap_plugins",
        "$JS.API.STREAM.MSG.DELETE.OBJ_hotswap_plugins",
        // A consumer delivers to any subject, whoever may write to that.
        "$JS.API.CONSUMER.CREATE.OBJ_hotswap_plugins",
        "$JS.API.CONSUMER.CREATE.OBJ_hotswap_plugins.any",
        "$JS.API.CONSUMER.CREATE.KV_hotswap_rollouts",
        "$JS.API.CONSUMER.CREATE.HOTSWAP_LOG",
        "$JS.API.CONSUMER.DURABLE.CREATE.OBJ_hotswap_plugins.any",
        // What other hosts and roll-outs say.
        "$JS.API.DIRECT.GET.KV_hotswap_rollouts",
        "$JS.API.DIRECT.GET.KV_hotswap_rollouts.$KV.hotswap_rollouts.others",
        "$JS.API.DIRECT.GET.KV_hotswap_hosts.$KV.hotswap_hosts.host-1.rules",
        "$JS.API.STREAM.MSG.GET.KV_hotswap_rollouts",
        "$JS.API.STREAM.MSG.GET.KV_hotswap_hosts",
        "$JS.API.STREAM.MSG.GET.HOTSWAP_LOG",
        "$JS.API.STREAM.LIST",
        "any",
    ] {
        client
            .publish(subject, "x".into())
            .await
            .expect("it is sent");
        until_forbidden("publish", subject, &mut forbidden).await;
    }
    for subject in [
        "$KV.hotswap_rollouts.others",
        "$KV.hotswap_rollouts.*",
        "$KV.hotswap_hosts.>",
        "hotswap.log.>",
        "_INBOX_host-1.>",
        "_INBOX.>",
        "$JS.>",
        ">",
    ] {
        let _held = client.subscribe(subject).await.expect("it is sent");
        until_forbidden("subscription", subject, &mut forbidden).await;
    }
    // Its own is allowed, and the last thing that it is told.
    client
        .publish("hotswap.log.host-0.rules", "{}".into())
        .await
        .expect("it is sent");
    client.flush().await.expect("the server is there");
    assert_eq!(forbidden.try_recv().ok(), None);
}

#[tokio::test]
async fn an_answer_of_the_server_cannot_be_led_to_what_a_host_cannot_write() {
    let mut fleet = fleet_with_users().await;
    fleet.add_host("host-1", &with_password("host-1")).start();
    fleet.alive(1).await;
    let first = fleet.publish(&fleet.key.build("good", 1)).await;
    fleet.begin(first, "100%").await;
    fleet.run_until_ended(Phase::Done).await;
    let (client, _forbidden) = client_of("host-0", &fleet).await;
    for subject in ["hotswap.log.host-0.rules", "$KV.hotswap_hosts.host-0.rules"] {
        let reply = "$KV.hotswap_rollouts.rules";
        let sent = client.publish_with_reply(subject, reply, "{}".into()).await;
        sent.expect("it is sent");
    }
    client.flush().await.expect("the server is there");
    let second = fleet.publish(&fleet.key.build("good", 2)).await;
    fleet.begin(second, "100%").await;
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(2).await;
}
