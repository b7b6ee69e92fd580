//! A fleet in one value: hosts that behave in some way, and controllers that look at it.

use std::collections::BTreeSet;

use super::*;
use crate::{
    rollout::{Release, RolloutLimits},
    status::{BuildFigures, HostAnswer, Live, Mapped, Nack},
};

const HEARTBEAT_MS: u64 = 1000;
const SOAK_MS: u64 = 5000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behavior {
    Good,
    /// Refuses the build when it checks it, or runs it.
    Refuses,
    /// One call in so many fails.
    Faulty(u64),
    /// Ends when it runs the build, and says nothing any more.
    Dies,
    /// Is alive, and never comes to an end with the build.
    Hangs,
    /// Goes back from the build by itself after some calls.
    GoesBack,
    /// Keeps earlier code mapped.
    Pins,
    /// Says nothing before this time.
    Comes(u64),
}

struct Fleet {
    rollout: RolloutRecord,
    hosts: Vec<(Behavior, Seen)>,
    now_ms: u64,
    /// Hosts that have ever run the target.
    touched: BTreeSet<String>,
    /// What was changed, with the time.
    changes: Vec<(u64, RolloutRecord)>,
}

fn release(name: &str) -> Release {
    Release {
        sha256: name.repeat(64),
        serial: 1,
    }
}

fn live(sha256: &str) -> Option<Live> {
    Some(Live {
        sha256: Some(sha256.to_owned()),
        generation: 1,
        since_ms: 0,
    })
}

impl Fleet {
    fn new(rings: &str, behaviors: &[Behavior]) -> Self {
        let old = release("a");
        let host = |(index, behavior): (usize, &Behavior)| {
            let status = Status {
                host: format!("host-{index}"),
                plugin: "rules".to_owned(),
                instance: 1,
                heartbeat_ms: HEARTBEAT_MS,
                live: live(&old.sha256),
                figures: Vec::new(),
                mapped: Vec::new(),
                answer: None,
                floor: 0,
                has_left: false,
                lost_events: 0,
            };
            (
                *behavior,
                Seen {
                    status,
                    heard_ms: 0,
                },
            )
        };
        let hosts = behaviors.iter().enumerate().map(host).collect();
        let rings: Vec<Ring> = rings.split(',').map(|it| it.parse().unwrap()).collect();
        let rollout = RolloutRecord {
            change: 1,
            attempt: 1,
            started_ms: 0,
            changed_ms: 0,
            target: release("b"),
            previous: Some(old),
            ring: 0,
            reach: Reach::NOBODY,
            phase: Phase::Applying,
            limits: RolloutLimits {
                soak_ms: SOAK_MS,
                answer_timeout_ms: 20_000,
                ..RolloutLimits::default()
            },
            rings,
            is_way_back: false,
            by: "test".to_owned(),
            what: String::new(),
        };
        let mut fleet = Self {
            rollout,
            hosts,
            now_ms: 0,
            touched: BTreeSet::new(),
            changes: Vec::new(),
        };
        let seen = fleet.seen();
        fleet.rollout.reach = reach(&fleet.rollout, fleet.rollout.rings[0], &seen, 0);
        fleet
    }

    fn seen(&self) -> Vec<Seen> {
        self.hosts.iter().map(|it| it.1.clone()).collect()
    }

    fn time(&self) -> LookTime {
        LookTime {
            now_ms: self.now_ms,
            listening_since_ms: 0,
        }
    }

    /// Half a second in which each host does what it is told, in its way.
    fn pass(&mut self) {
        self.now_ms += 500;
        let target = self.rollout.target.sha256.clone();
        for (behavior, seen) in &mut self.hosts {
            let status = &mut seen.status;
            let was_on_target = status.live_sha256() == Some(&target);
            match behavior {
                Behavior::Comes(at) if self.now_ms < *at => continue,
                Behavior::Dies if was_on_target => continue,
                _ => {}
            }
            seen.heard_ms = self.now_ms;
            let assignment = self.rollout.assignment(&status.host);
            let is_refused = status
                .answer
                .as_ref()
                .is_some_and(|it| matches!(it.outcome, AnswerOutcome::Refused(_)));
            let refused = || AnswerOutcome::Refused(Nack::new("layout", "no"));
            let mut answer = |outcome| {
                status.answer = Some(HostAnswer {
                    attempt: assignment.attempt,
                    sha256: target.clone(),
                    outcome,
                });
            };
            let run = assignment.run.expect("there is a build before");
            if assignment.check.is_some() && !is_refused {
                match behavior {
                    Behavior::Refuses => answer(refused()),
                    Behavior::Hangs => {}
                    _ => answer(AnswerOutcome::Checked),
                }
            }
            if run.sha256 == target && !is_refused {
                match behavior {
                    Behavior::Refuses => answer(refused()),
                    Behavior::Hangs => answer(AnswerOutcome::Working {
                        on: "starting".to_owned(),
                    }),
                    Behavior::GoesBack if was_on_target => {
                        answer(refused());
                        status.live = live(&"a".repeat(64));
                    }
                    _ => {
                        answer(AnswerOutcome::Running);
                        status.live = live(&target);
                        self.touched.insert(status.host.clone());
                        if *behavior == Behavior::Pins {
                            status.mapped = vec![Mapped {
                                sha256: Some("a".repeat(64)),
                                generation: 1,
                                is_pinned: true,
                                state: "pinned".to_owned(),
                            }];
                        }
                    }
                }
            } else if run.sha256 != target {
                status.live = live(&run.sha256);
            }
            let sha256 = status.live_sha256().unwrap().to_owned();
            let known = status.figures.iter().position(|it| it.sha256 == sha256);
            let known = known.unwrap_or_else(|| {
                status.figures.push(BuildFigures {
                    sha256: sha256.clone(),
                    calls: 0,
                    faults: 0,
                    p50_ns: 0,
                    p99_ns: 0,
                });
                status.figures.len() - 1
            });
            let figures = &mut status.figures[known];
            figures.calls += 50;
            if let Behavior::Faulty(one_in) = behavior
                && sha256 == target
            {
                figures.faults = figures.calls / *one_in;
            }
        }
    }

    /// One look of a controller, which has seen this.
    fn look(&mut self, rollout: &RolloutRecord, seen: &[Seen], time: LookTime) {
        let Some(next) = next(rollout, seen, time, "controller") else {
            return;
        };
        // Compare and swap.
        if next.change == self.rollout.change + 1 {
            self.changes.push((self.now_ms, next.clone()));
            self.rollout = next;
        }
    }

    fn run(&mut self) {
        for _ in 0..500 {
            self.pass();
            let (rollout, seen, time) = (self.rollout.clone(), self.seen(), self.time());
            self.look(&rollout, &seen, time);
            if self.rollout.has_ended() {
                // Hosts do what the last change says.
                self.pass();
                return;
            }
        }
        panic!("does not end: {:?}", self.rollout);
    }

    fn running(&self) -> usize {
        let target = Some(&*self.rollout.target.sha256);
        let is_running = |it: &&(Behavior, Seen)| it.1.status.live_sha256() == target;
        self.hosts.iter().filter(is_running).count()
    }
}

#[test]
fn faults_of_an_earlier_attempt_do_not_halt() {
    let mut fleet = Fleet::new(RINGS, &with_one(40, Behavior::Faulty(5), true));
    fleet.run();
    assert_eq!(fleet.rollout.phase, Phase::Halted);
    let resumed = RolloutRecord {
        attempt: 2,
        phase: Phase::Applying,
        ..fleet.rollout.changed(fleet.now_ms, "operator", "resumed")
    };
    // No host has seen it yet.
    assert_eq!(next(&resumed, &fleet.seen(), fleet.time(), "me"), None);
    let summary = Summary::of(&resumed, &fleet.seen(), fleet.time());
    assert_eq!(summary.target, CallTotals::default());
}

/// So many good hosts, and one of another kind for each ring that reaches it first.
fn with_one(count: usize, behavior: Behavior, is_first: bool) -> Vec<Behavior> {
    let target = release("b").sha256;
    let position = |it: &usize| Reach::position(&format!("host-{it}"), &target);
    let mut indexes: Vec<usize> = (0..count).collect();
    indexes.sort_by_key(position);
    let one = if is_first {
        indexes[0]
    } else {
        indexes[count - 1]
    };
    let mut behaviors = vec![Behavior::Good; count];
    behaviors[one] = behavior;
    behaviors
}

const RINGS: &str = "check,canary=1,10%,100%";

#[test]
fn a_good_build_reaches_all_hosts_ring_by_ring() {
    let mut fleet = Fleet::new(RINGS, &[Behavior::Good; 40]);
    fleet.run();
    assert_eq!(fleet.rollout.phase, Phase::Done);
    assert_eq!(fleet.running(), 40);
    let phases: Vec<_> = fleet.changes.iter().map(|it| it.1.what.clone()).collect();
    let expected = [
        "ring check: 40 hosts answered, soaking",
        "ring canary=1 begins",
        "ring canary=1: 1 host answered, soaking",
        "ring 10% begins",
        "ring 10%: 4 hosts answered, soaking",
        "ring 100% begins",
        "ring 100%: 40 hosts answered, soaking",
        "all hosts run it; earlier code is being unloaded",
        "done: 40 hosts on bbbbbbbbbbbb, none has earlier code mapped",
    ];
    assert_eq!(phases, expected);
    for pair in fleet.changes.windows(2) {
        if matches!(pair[0].1.phase, Phase::Soaking { .. }) {
            assert!(pair[1].0 - pair[0].0 >= SOAK_MS);
        }
    }
}

#[test]
fn what_a_check_refuses_is_run_by_nobody() {
    let mut fleet = Fleet::new(RINGS, &with_one(40, Behavior::Refuses, false));
    fleet.run();
    assert_eq!(fleet.rollout.phase, Phase::Halted);
    assert_eq!(fleet.touched.len(), 0);
    let what = &fleet.rollout.what;
    assert!(
        what.contains("1 host failed") && what.contains("layout: no"),
        "{what}"
    );
}

#[test]
fn a_failure_halts_in_the_ring_that_shows_it() {
    for (behavior, rings, is_first, ran_max) in [
        (Behavior::Faulty(5), RINGS, true, 1),
        (Behavior::Dies, RINGS, true, 1),
        (Behavior::GoesBack, RINGS, true, 1),
        (Behavior::Hangs, RINGS, true, 0),
        (Behavior::Refuses, "canary=1,10%,100%", true, 0),
        (Behavior::Hangs, "canary=1,10%,100%", true, 0),
        (Behavior::Dies, "canary=1,10%,100%", false, 40),
        (Behavior::GoesBack, "canary=1,10%,100%", false, 40),
    ] {
        let mut fleet = Fleet::new(rings, &with_one(40, behavior, is_first));
        fleet.run();
        assert_eq!(fleet.rollout.phase, Phase::Halted, "{behavior:?}");
        assert!(
            fleet.touched.len() <= ran_max,
            "{behavior:?}: {:?}",
            fleet.touched
        );
        if behavior == Behavior::Hangs && !rings.starts_with("check") {
            let why = &fleet.rollout.what;
            assert!(why.contains("s (starting)"), "{why}");
        }
        // One that has died cannot go back.
        assert_eq!(
            fleet.running(),
            usize::from(behavior == Behavior::Dies),
            "{behavior:?}"
        );
    }
}

#[test]
fn a_host_that_dies_in_a_soak_shorter_than_its_heartbeat_is_noticed_before_the_next_ring() {
    for (rings, ring, touched) in [
        ("canary=1,100%", 0, 1),
        ("check,50%,100%", 1, 3),
        ("100%", 0, 5),
    ] {
        for soak_ms in [0, HEARTBEAT_MS / 2, 2 * HEARTBEAT_MS] {
            let mut fleet = Fleet::new(rings, &[Behavior::Dies; 5]);
            fleet.rollout.limits.soak_ms = soak_ms;
            fleet.run();
            assert_eq!(fleet.rollout.phase, Phase::Halted, "{rings}, {soak_ms} ms");
            let reached = (fleet.rollout.ring, fleet.touched.len());
            assert_eq!(reached, (ring, touched), "{rings}, {soak_ms} ms");
        }
    }
}

#[test]
fn a_host_that_promises_no_heartbeat_halts_a_roll_out_and_does_not_stop_it() {
    for (heartbeat_ms, answer_timeout_ms, failed_max, phase) in [
        // It is waited for for one heartbeat at least, of an hour at most.
        (u64::MAX, 20_000, 0, Phase::Halted),
        (u64::MAX, 20_000, 1, Phase::Done),
        (60_000, 20_000, 0, Phase::Halted),
        // As one that has stopped.
        (u64::MAX, 30_000_000, 0, Phase::Halted),
    ] {
        let mut fleet = Fleet::new("100%", &with_one(5, Behavior::Dies, false));
        fleet.rollout.limits.answer_timeout_ms = answer_timeout_ms;
        fleet.rollout.limits.failed_hosts_max = Some(failed_max);
        for (_, seen) in &mut fleet.hosts {
            seen.status.heartbeat_ms = heartbeat_ms;
        }
        let mut limit_ms = 0;
        while !fleet.rollout.has_ended() && limit_ms < 20_000_000 {
            fleet.pass();
            let (rollout, seen, time) = (fleet.rollout.clone(), fleet.seen(), fleet.time());
            fleet.look(&rollout, &seen, time);
            limit_ms += 500;
        }
        let what = &fleet.rollout.what;
        assert_eq!(fleet.rollout.phase, phase, "{heartbeat_ms}: {what}");
        assert!(
            phase == Phase::Done || what.contains("1 host failed"),
            "{what}"
        );
    }
}

#[test]
fn a_host_may_say_any_number() {
    let mut fleet = Fleet::new(RINGS, &[Behavior::Good; 2]);
    fleet.pass();
    for (_, seen) in &mut fleet.hosts {
        let figures = &mut seen.status.figures[0];
        (figures.calls, figures.faults) = (u64::MAX - 1, u64::MAX - 1);
    }
    let summary = Summary::of(&fleet.rollout, &fleet.seen(), fleet.time());
    assert_eq!(summary.rest.calls, u64::MAX);
    assert_eq!(summary.rest.faults, u64::MAX);
}

#[test]
fn few_faults_are_no_reason_to_halt() {
    let mut fleet = Fleet::new(RINGS, &with_one(40, Behavior::Faulty(300), true));
    fleet.run();
    assert_eq!(fleet.rollout.phase, Phase::Done);
}

#[test]
fn as_many_may_fail_as_is_allowed() {
    let mut fleet = Fleet::new(RINGS, &with_one(40, Behavior::Refuses, true));
    fleet.rollout.limits.failed_hosts_max = Some(1);
    fleet.run();
    assert_eq!(fleet.rollout.phase, Phase::Incomplete);
    assert_eq!(fleet.running(), 39);
    let what = &fleet.rollout.what;
    assert!(what.ends_with("1 host refused it"), "{what}");
}

#[test]
fn what_is_pinned_is_named_and_does_not_delay() {
    let mut fleet = Fleet::new(RINGS, &with_one(4, Behavior::Pins, true));
    fleet.run();
    assert_eq!(fleet.rollout.phase, Phase::Done);
    assert!(
        fleet.rollout.what.contains("1 pinned generation"),
        "{}",
        fleet.rollout.what
    );
}

#[test]
fn earlier_code_that_still_drains_is_waited_for() {
    let mut fleet = Fleet::new("100%", &[Behavior::Good; 3]);
    let draining = Mapped {
        sha256: None,
        generation: 1,
        is_pinned: false,
        state: "draining".to_owned(),
    };
    fleet.hosts[1].1.status.mapped = vec![draining];
    for _ in 0..100 {
        fleet.pass();
        let (rollout, seen, time) = (fleet.rollout.clone(), fleet.seen(), fleet.time());
        fleet.look(&rollout, &seen, time);
    }
    assert_eq!(fleet.rollout.phase, Phase::Settling);
    fleet.hosts[1].1.status.mapped.clear();
    fleet.run();
    assert_eq!(fleet.rollout.phase, Phase::Done);
}

#[test]
fn a_host_that_was_down_from_before_is_not_waited_for_and_gets_it_later() {
    let mut behaviors = vec![Behavior::Good; 10];
    behaviors[3] = Behavior::Comes(1_000_000);
    let mut fleet = Fleet::new("check,50%,100%", &behaviors);
    // It was heard long ago.
    fleet.now_ms = 100_000;
    for (behavior, seen) in &mut fleet.hosts {
        seen.heard_ms = if *behavior == Behavior::Good {
            100_000
        } else {
            0
        };
    }
    fleet.rollout.changed_ms = 100_000;
    fleet.run();
    assert_eq!(fleet.rollout.phase, Phase::Done);
    assert_eq!(fleet.running(), 9);
    fleet.now_ms = 1_000_000;
    fleet.pass();
    assert_eq!(fleet.running(), 10);
}

#[test]
fn a_server_that_was_away_is_no_host_that_is_lost() {
    let mut fleet = Fleet::new(RINGS, &[Behavior::Good; 10]);
    fleet.pass();
    fleet.pass();
    let (rollout, seen) = (fleet.rollout.clone(), fleet.seen());
    let time = LookTime {
        now_ms: fleet.now_ms + 60_000,
        listening_since_ms: fleet.now_ms + 59_000,
    };
    // They are neither alive nor lost: there is nothing to do but wait.
    assert_eq!(next(&rollout, &seen, time, "controller"), None);
    let later = LookTime {
        now_ms: fleet.now_ms + 64_000,
        ..time
    };
    let halted = next(&rollout, &seen, later, "controller").unwrap();
    assert_eq!(halted.phase, Phase::Halted);
}

#[test]
fn a_host_that_leaves_in_an_orderly_way_has_not_failed() {
    let mut fleet = Fleet::new(RINGS, &[Behavior::Good; 10]);
    for _ in 0..10 {
        fleet.pass();
        let (rollout, seen, time) = (fleet.rollout.clone(), fleet.seen(), fleet.time());
        fleet.look(&rollout, &seen, time);
    }
    // It says nothing any more.
    fleet.hosts[4].1.status.has_left = true;
    fleet.hosts[4].0 = Behavior::Comes(u64::MAX);
    fleet.run();
    assert_eq!(fleet.rollout.phase, Phase::Done);
    assert_eq!(fleet.running(), 9);
}

#[test]
fn a_record_that_makes_no_sense_changes_nothing() {
    let mut fleet = Fleet::new(RINGS, &[Behavior::Good; 3]);
    fleet.pass();
    fleet.rollout.ring = 9;
    assert_eq!(
        next(&fleet.rollout, &fleet.seen(), fleet.time(), "controller"),
        None
    );
}

#[test]
fn a_fleet_without_hosts_waits() {
    let mut fleet = Fleet::new(RINGS, &[Behavior::Comes(u64::MAX); 3]);
    fleet.now_ms = 100_000;
    let (rollout, seen) = (fleet.rollout.clone(), fleet.seen());
    assert_eq!(next(&rollout, &seen, fleet.time(), "controller"), None);
}

/// Several controllers look at what was true some time ago, and end and begin at any time; hosts behave in any way.
#[test]
fn controllers_that_are_late_or_killed_lead_to_one_end() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let kinds = [
            Behavior::Refuses,
            // Of one host's calls among all: more than one in a hundred.
            Behavior::Faulty(1),
            Behavior::Dies,
            Behavior::Hangs,
            Behavior::GoesBack,
            Behavior::Comes(random.u64(..30_000)),
        ];
        let mut behaviors = vec![Behavior::Good; random.usize(1..30)];
        let bad = random.usize(..3);
        for _ in 0..bad {
            let index = random.usize(..behaviors.len());
            behaviors[index] = kinds[random.usize(..kinds.len())];
        }
        let is_good = |it: &Behavior| matches!(it, Behavior::Good | Behavior::Comes(_));
        let is_good = behaviors.iter().all(is_good);
        let rings = ["check,canary=1,10%,100%", "canary=2,50%,100%", "100%"][random.usize(..3)];
        let mut fleet = Fleet::new(rings, &behaviors);
        let mut past = Vec::new();
        for _ in 0..2000 {
            fleet.pass();
            past.push((fleet.rollout.clone(), fleet.seen(), fleet.time()));
            for _ in 0..random.usize(..3) {
                let late = random.usize(..past.len().min(4));
                let (rollout, seen, time) = past[past.len() - 1 - late].clone();
                fleet.look(&rollout, &seen, time);
            }
            if fleet.rollout.has_ended() {
                break;
            }
        }
        // Who comes later gets what there is.
        fleet.now_ms = fleet.now_ms.max(30_000);
        fleet.pass();
        let expected = if is_good { Phase::Done } else { Phase::Halted };
        assert_eq!(fleet.rollout.phase, expected, "seed {seed}: {behaviors:?}");
        let numbers: Vec<_> = fleet.changes.iter().map(|it| it.1.change).collect();
        assert_eq!(numbers, Vec::from_iter(2..2 + numbers.len() as u64));
        let mut reach = Reach::NOBODY;
        for (_, change) in &fleet.changes {
            assert!(change.reach >= reach, "seed {seed}");
            reach = change.reach;
        }
        if expected == Phase::Halted {
            let may_be_left = |it: &Behavior| *it == Behavior::Dies;
            let left = behaviors.iter().filter(|it| may_be_left(it)).count();
            assert!(fleet.running() <= left, "seed {seed}");
        } else {
            assert_eq!(fleet.running(), behaviors.len(), "seed {seed}");
        }
    }
}
