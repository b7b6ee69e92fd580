//! When a host raises its floor, and what it tries again. No server is there, and the target is a stub.

use std::{cell::RefCell, path::Path};

use async_nats::ConnectOptions;

use super::*;
use crate::{
    rollout::{Phase, Reach, RolloutLimits},
    status::{BuildFigures, Live, Mapped},
    store::Fetched,
};

/// What is live.
#[derive(Default)]
struct Stub(RefCell<Option<String>>);

impl Target for Rc<Stub> {
    async fn check(&self, _: &Path) -> Result<(), Nack> {
        Ok(())
    }

    async fn run(&self, _: &Path, sha256: &str, _: &StopSignal) -> Result<(), Nack> {
        if sha256.starts_with('f') {
            return Err(Nack::new("run", "it fails"));
        }
        self.0.replace(Some(sha256.to_owned()));
        Ok(())
    }

    async fn go_back(&self, path: &Path, sha256: &str) -> Result<(), Nack> {
        self.run(path, sha256, &StopSignal::default()).await
    }

    fn live(&self) -> Option<Live> {
        let sha256 = self.0.borrow().clone()?;
        Some(Live {
            sha256: Some(sha256),
            generation: 1,
            since_ms: 0,
        })
    }

    fn mapped(&self) -> Vec<Mapped> {
        Vec::new()
    }

    fn figures(&self) -> Vec<BuildFigures> {
        Vec::new()
    }

    fn reset_figures(&self, _: &str) {}

    async fn event(&self) -> Option<TargetEvent> {
        None
    }
}

struct Host {
    runner: Runner<Rc<Stub>>,
    stub: Rc<Stub>,
    _folder: tempfile::TempDir,
}

impl Host {
    /// With this build live, and its floor.
    async fn new(begun: Option<(String, u64)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let key = key.pk.to_base64().parse().unwrap();
        let mut settings = AgentSettings::new("rules", "host", folder.path(), key);
        settings.good_after = Duration::from_millis(20);
        let options = ConnectOptions::new().retry_on_initial_connect();
        let client = options.connect("nats://127.0.0.1:1").await.unwrap();
        let stub = Rc::new(Stub(begun.clone().map(|it| it.0).into()));
        let opened = Folder::open(folder.path()).unwrap();
        Self {
            runner: Runner::new(
                settings,
                Rc::clone(&stub),
                Store::new(client),
                opened,
                begun,
            ),
            stub,
            _folder: folder,
        }
    }

    /// Assigns the build in an attempt, as if it was fetched, and runs it.
    async fn run(&mut self, attempt: u64, name: &str, floor: Option<u64>) {
        self.begin(attempt, name, floor);
        self.finish().await;
    }

    fn begin(&mut self, attempt: u64, name: &str, floor: Option<u64>) {
        self.assign(attempt, name);
        let manifest = Manifest {
            name: "rules".to_owned(),
            serial: 50,
            interface: None,
            floor,
            expires: None,
        };
        self.runner.fetched = Some((name.repeat(64), manifest));
        self.runner.begin();
    }

    async fn finish(&mut self) {
        let done = finished(&mut self.runner.work).await;
        self.runner.finish(done);
    }

    fn assign(&mut self, attempt: u64, name: &str) {
        let record = RolloutRecord {
            change: attempt,
            attempt,
            started_ms: 0,
            changed_ms: 0,
            target: Release {
                sha256: name.repeat(64),
                serial: 50,
            },
            previous: None,
            rings: Vec::new(),
            ring: 0,
            reach: Reach::EVERYBODY,
            phase: Phase::Applying,
            limits: RolloutLimits::default(),
            is_way_back: false,
            by: "me".to_owned(),
            what: "begun".to_owned(),
        };
        self.runner.assign(Some(&record));
    }

    /// Lets it decide until `good_after` is over.
    async fn floor_after_a_while(&mut self) -> u64 {
        let (_rollouts, mut rollout) = watch::channel(None);
        let (statuses, _status) = watch::channel(self.runner.status());
        let decide = self.runner.decide(&mut rollout, &statuses);
        let _ = timeout(Duration::from_millis(300), decide).await;
        self.runner.folder.state().floor
    }
}

#[tokio::test]
async fn what_a_host_begins_with_raises_the_floor() {
    let mut host = Host::new(Some(("a".repeat(64), 40))).await;
    assert_eq!(host.runner.folder.state().floor, 0);
    assert_eq!(host.floor_after_a_while().await, 40);
    assert_eq!(host.runner.folder.state().good, None, "it was not fetched");

    let mut host = Host::new(Some(("a".repeat(64), 40))).await;
    host.stub.0.replace(Some("b".repeat(64)));
    assert_eq!(host.floor_after_a_while().await, 0, "it was not kept");
}

#[tokio::test]
async fn another_attempt_meanwhile_changes_no_floor() {
    let mut host = Host::new(None).await;
    host.run(1, "a", Some(40)).await;
    // What is known of the build that was fetched is forgotten.
    host.assign(2, "a");
    assert_eq!(host.floor_after_a_while().await, 40);
    assert_eq!(host.runner.folder.state().good, Some("a".repeat(64)));
}

#[tokio::test]
async fn a_build_that_was_reverted_while_it_was_starting_is_not_good() {
    let mut host = Host::new(None).await;
    host.begin(1, "a", Some(40));
    host.assign(2, "b");
    host.finish().await;
    let state = host.runner.folder.state();
    assert_eq!((state.floor, &state.good), (0, &None));
}

#[tokio::test]
async fn what_was_refused_is_removed_when_another_roll_out_begins() {
    let mut host = Host::new(None).await;
    let builds = host.runner.folder.builds().clone();
    let fetched = Fetched {
        bytes: Vec::new(),
        signature: String::new(),
    };
    let is_kept = |name: &str| builds.path_of(&name.repeat(64)).exists();
    for (attempt, name) in [(1, "a"), (2, "f")] {
        host.assign(attempt, name);
        builds.put(&name.repeat(64), &fetched).unwrap();
        host.run(attempt, name, None).await;
        host.runner.is_good();
    }
    assert!(is_kept("a") && is_kept("f"), "it may be tried again");
    host.assign(3, "b");
    assert!(is_kept("a") && !is_kept("f"));
}

#[tokio::test]
async fn a_build_may_need_longer_than_any_time_to_be_good() {
    let mut host = Host::new(None).await;
    host.runner.settings.good_after = Duration::MAX;
    host.run(1, "a", Some(40)).await;
    assert_eq!(host.floor_after_a_while().await, 0);
}

#[tokio::test]
async fn a_build_that_was_to_be_replaced_in_vain_raises_the_floor() {
    let mut host = Host::new(None).await;
    host.run(1, "a", Some(40)).await;
    host.run(2, "f", Some(50)).await;
    assert_eq!(host.floor_after_a_while().await, 40);
    assert_eq!(host.runner.folder.state().good, Some("a".repeat(64)));
}

#[tokio::test]
async fn what_has_failed_here_is_tried_again_after_pauses_that_grow_up_to_a_minute() {
    let mut host = Host::new(None).await;
    host.assign(1, "a");
    let release = Release {
        sha256: "a".repeat(64),
        serial: 50,
    };
    let full = FleetError::new(FleetErrorKind::File, "the disk is full");
    let away = FleetError::new(FleetErrorKind::Server, "the server is away");
    let mut pause = |error: &FleetError| {
        host.runner.wait(&release, 1, error);
        host.runner.problem.as_ref().unwrap().pause.as_secs()
    };
    let pauses: Vec<_> = (0..8).map(|_| pause(&full)).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!((pause(&away), pause(&away)), (1, 1));
    // It stays so while it is tried again, and another attempt begins anew.
    host.runner.wait(&release, 1, &full);
    host.runner.retry_at = None;
    host.runner.begin();
    let on = "trying again: the disk is full".to_owned();
    let answer = host.runner.answer.as_ref().unwrap();
    assert_eq!(answer.outcome, AnswerOutcome::Working { on });
    host.assign(2, "a");
    assert!(host.runner.problem.is_none());
}

#[test]
fn heartbeats_of_no_time_or_more_than_an_hour_are_refused() {
    let key = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let key = key.pk.to_base64().parse().unwrap();
    let mut settings = AgentSettings::new("rules", "host", "/none", key);
    for (heartbeat, problem) in [
        (Duration::ZERO, Some("is zero")),
        (Duration::from_secs(1), None),
        (Duration::from_secs(3600), None),
        (Duration::from_secs(3601), Some("is more than an hour")),
    ] {
        settings.heartbeat = heartbeat;
        let found = settings.check().err().map(|error| error.to_string());
        assert_eq!(found.is_some(), problem.is_some(), "{found:?}");
        assert!(
            problem.is_none_or(|it| found.unwrap().contains(it)),
            "{heartbeat:?}"
        );
    }
}
