//! Folders of agents that cannot be written.

use std::fs;

use hotswap_fleet::{controller::View, rollout::Phase, status::AnswerOutcome};
use serde_json::json;

use crate::fleet::Fleet;

#[tokio::test]
async fn a_build_that_cannot_be_written_is_reported_and_tried_again() {
    let fleet = Fleet::with(1, json!({})).await;
    let build = fleet.publish(&fleet.key.build("good", 2)).await;
    // Where the signature belongs: nothing can be written there, whoever tries.
    let name = format!("host-0/fleet/{}.so.minisig", build.sha256);
    let obstacle = fleet.root.path().join(name);
    fs::create_dir(&obstacle).expect("the folder can be written");
    fleet.begin(build, "check,100%").await;
    let is_reported = |view: &View| {
        let answer = view.hosts[0].status.answer_to(view.rollout.attempt);
        answer.is_some_and(|it| match &it.outcome {
            AnswerOutcome::Working { on } => on.starts_with("trying again: cannot write "),
            _ => false,
        })
    };
    fleet.run_until(is_reported).await;
    fs::remove_dir(&obstacle).expect("it is empty");
    fleet.run_until_ended(Phase::Done).await;
    fleet.all_run(2).await;
    let log = fleet.log_of("host-0").await;
    let said = log.iter().filter(|it| it.contains(": cannot write "));
    assert_eq!(said.count(), 1, "{log:#?}");
}
