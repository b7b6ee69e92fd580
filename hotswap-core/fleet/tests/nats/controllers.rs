//! Controllers that are killed, and several at once.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use hotswap_fleet::{
    controller::{Controller, View},
    rollout::{Phase, Release},
};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    builds::PLUGIN,
    fleet::{Fleet, SOON, limits},
};

/// The rings, and what the record says in each change of a roll-out of this build to four hosts that goes well.
const RINGS: &str = "check,canary=1,50%,100%";
fn good_changes(sha256: &str) -> Vec<String> {
    let build = &sha256[..12];
    let mut all = vec![format!("begins to roll out serial 2 ({build})")];
    for (ring, hosts) in [
        ("check", "4 hosts"),
        ("canary=1", "1 host"),
        ("50%", "2 hosts"),
        ("100%", "4 hosts"),
    ] {
        if ring != "check" {
            all.push(format!("ring {ring} begins"));
        }
        all.push(format!("ring {ring}: {hosts} answered, soaking"));
    }
    all.push("all hosts run it; earlier code is being unloaded".to_owned());
    all.push(format!(
        "done: 4 hosts on {build}, none has earlier code mapped"
    ));
    all
}

/// Runs the operators' program. Where there are no users, the server does not ask who it is.
fn program(fleet: &Fleet, arguments: &[&str]) -> Child {
    let program = Command::new(env!("CARGO_BIN_EXE_hotswap-fleet"))
        .args(arguments)
        .env("NATS_URL", fleet.servers.url())
        .env("NATS_USER", "operator")
        .env("NATS_PASSWORD", "operator")
        .stdout(Stdio::null())
        .spawn();
    program.expect("just built")
}

/// Rolls a build out by controllers, each of which is killed after a change, and says how many were.
pub(crate) async fn kill_after_each_change(fleet: &Fleet, build: &Release, rings: &str) -> usize {
    let key = fleet.key.public().to_string();
    let rollout = [
        "rollout",
        PLUGIN,
        &build.sha256,
        "--public-key",
        &key,
        "--rings",
        rings,
        "--soak",
        "0s",
    ];
    let mut controller = program(fleet, &rollout);
    let (mut change, mut killed) = (0, 0);
    loop {
        let is_new = |view: &View| view.rollout.target == *build && view.rollout.change > change;
        let view = fleet.watch_until(is_new).await;
        change = view.rollout.change;
        controller.kill().expect("it is ours");
        controller.wait().expect("it is ours");
        killed += 1;
        if view.rollout.has_ended() {
            return killed;
        }
        controller = program(fleet, &["control", PLUGIN]);
    }
}

#[tokio::test]
async fn one_that_is_killed_after_each_change_is_followed_by_another() {
    let fleet = Fleet::with(4, json!({})).await;
    let first = fleet.changes().await.len();
    let build = fleet.publish(&fleet.key.build("good", 2)).await;
    let killed = kill_after_each_change(&fleet, &build, RINGS).await;
    // A controller may have made a second change before it was killed.
    assert!(killed > 1);
    let all = fleet.changes().await;
    assert_eq!(all[first..], good_changes(&build.sha256));
    fleet.all_run(2).await;
}

#[tokio::test]
async fn several_at_once_make_each_change_once() {
    let fleet = Fleet::with(4, json!({})).await;
    let first = fleet.changes().await.len();
    let build = fleet.publish(&fleet.key.build("good", 2)).await;
    let of = |by: &str| Controller::new(fleet.store.clone(), PLUGIN, by).expect("a name");
    let rings = || {
        RINGS
            .split(',')
            .map(|it| it.parse().expect("a ring"))
            .collect()
    };
    // Both begin it, and one of them has.
    let (one, other) = (of("one"), of("other"));
    let (begun, begun_too) = tokio::join!(
        one.begin(build.clone(), rings(), limits()),
        other.begin(build.clone(), rings(), limits()),
    );
    assert!(
        begun.is_ok() != begun_too.is_ok(),
        "{begun:?} {begun_too:?}"
    );
    let ended = async |it: &Controller| {
        let mut phase = None;
        let look = |view: &hotswap_fleet::controller::View| {
            phase = Some(view.rollout.phase.clone());
            view.rollout.has_ended()
        };
        let run = timeout(SOON, it.run(true, look)).await;
        run.expect("it ends").expect("the server is there");
        phase
    };
    let third = of("third");
    let phases = tokio::join!(ended(&one), ended(&other), ended(&third));
    assert_eq!(
        phases,
        (Some(Phase::Done), Some(Phase::Done), Some(Phase::Done))
    );
    let all = fleet.changes().await;
    assert_eq!(all[first..], good_changes(&build.sha256));
}

#[tokio::test]
async fn the_program_ends_with_what_has_become_of_it() {
    let fleet = Fleet::with(2, json!({ "has_trial": true })).await;
    let key = fleet.key.public().to_string();
    for (word, serial, code) in [("good", 2, 0), ("crashes", 3, 3)] {
        let build = fleet.key.build(word, serial);
        let file = build.write_to(fleet.root.path());
        let file = file.to_str().expect("text");
        let sha256 = build.sha256();
        for (arguments, code) in [
            (&["publish", file, "--public-key", &key][..], 0),
            (
                &[
                    "rollout",
                    PLUGIN,
                    &sha256,
                    "--public-key",
                    &key,
                    "--rings",
                    "check,100%",
                    "--soak",
                    "0s",
                ],
                code,
            ),
            (&["status", PLUGIN], code),
            (&["watch", PLUGIN], code),
            (&["audit", PLUGIN], 0),
        ] {
            assert_eq!(exit_code(&fleet, arguments).await, code, "{arguments:?}");
        }
    }
}

#[tokio::test]
async fn the_program_refuses_what_no_host_would_take() {
    let fleet = Fleet::with(1, json!({})).await;
    let key = fleet.key.public().to_string();
    let expired = fleet
        .key
        .build_with("good", 2, "expires=2020-01-01T00:00:00Z");
    let file = expired.write_to(fleet.root.path());
    let file = file.to_str().expect("text");
    let publish = ["publish", file, "--public-key", &key];
    assert_eq!(exit_code(&fleet, &publish).await, 1);

    let good = fleet.key.build("good", 2);
    let sha256 = fleet.publish(&good).await.sha256;
    let with_rings = |rings| {
        let of_build = ["rollout", PLUGIN, &sha256, "--public-key", &key];
        [&of_build[..], &["--rings", rings]].concat()
    };
    assert_eq!(exit_code(&fleet, &with_rings("check,50%")).await, 2);
    assert_eq!(exit_code(&fleet, &with_rings("all")).await, 2);
}

/// What the program ends with.
async fn exit_code(fleet: &Fleet, arguments: &[&str]) -> i32 {
    let mut child = program(fleet, arguments);
    let ended = async {
        loop {
            if let Some(it) = child.try_wait().expect("it is ours") {
                break it;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let status = timeout(SOON, ended).await.expect("it ends");
    status.code().expect("no signal")
}
