//! Hosts that lack a resource: descriptors, file sizes, memory, a folder for temporary files, `/proc`.
//!
//! Each host is asked twice to swap in a good plugin: while it lacks the resource, when it may refuse, and
//! afterwards, when it must accept.

use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::{
    cases::{Demand, Fixtures},
    host::AfterSwap,
    report::Row,
    subjects::{Host, Outcome, Subject, hosts},
};

const CATEGORY: &str = "limit";

pub(crate) fn run(fixtures: &Fixtures, only: &str) -> Vec<Row> {
    if !CATEGORY.contains(only) {
        return Vec::new();
    }
    hosts()
        .flat_map(|subject| run_one(fixtures, subject))
        .collect()
}

fn run_one(fixtures: &Fixtures, subject: Subject) -> Vec<Row> {
    let start = || Host::start(fixtures, subject, |_| {});
    let mut rows = Vec::new();
    let mut add = |name: String, outcome: Result<Outcome, Outcome>| {
        let outcome = outcome.unwrap_or_else(|outcome| outcome);
        rows.push(Row::of(CATEGORY, name, subject, Demand::Survive, outcome));
    };
    for descriptors in 0..24 {
        let limit = |_: &Host| descriptors;
        let outcome = start().map(|host| limited(host, fixtures, Resource::Nofile, limit));
        add(format!("{descriptors} descriptors"), outcome);
    }
    for kib in [0, 4, 64, 512, 1024, 4096] {
        let limit = |_: &Host| kib << 10;
        let outcome = start().map(|host| limited(host, fixtures, Resource::Fsize, limit));
        add(format!("files of {kib} KiB"), outcome);
    }
    for kib in (0..48 << 10).step_by(1536) {
        let limit = |host: &Host| address_space(host) + (kib << 10);
        let outcome = start().map(|host| limited(host, fixtures, Resource::As, limit));
        add(format!("{kib} KiB more of memory"), outcome);
    }
    for folder in ["/nonexistent", "/proc", "/dev/null", ""] {
        let host = Host::start(fixtures, subject, |it| _ = it.env("TMPDIR", folder));
        let outcome = host.map(|mut host| swap(&mut host, fixtures));
        add(format!("TMPDIR={folder}"), outcome);
    }
    match without_proc(fixtures, subject) {
        Some(outcome) => add("no /proc".to_owned(), Ok(outcome)),
        None => println!("{CATEGORY}: no /proc: left out, this process may not mount"),
    }
    rows
}

/// Sets a limit on a host, and lifts it again.
fn limited(
    mut host: Host,
    fixtures: &Fixtures,
    resource: Resource,
    limit: impl Fn(&Host) -> u64,
) -> Outcome {
    let process = pid(&host);
    let to = Rlimit {
        current: Some(limit(&host)),
        // The child inherits our limit.
        maximum: getrlimit(resource).maximum,
    };
    let before = prlimit(Some(process), resource, to).expect("a child of ours");
    let outcome = swap(&mut host, fixtures);
    if matches!(outcome, Outcome::Died(..) | Outcome::Hung) {
        return outcome;
    }
    prlimit(Some(process), resource, before).expect("a child of ours");
    afterwards(host, fixtures, outcome)
}

/// Hides `/proc` from a host, and shows it again.
fn without_proc(fixtures: &Fixtures, subject: Subject) -> Option<Outcome> {
    // The host gets a mount table of its own, so that no other process is affected.
    let inside = |host: &Host, arguments: &[&str]| {
        let mut nsenter = Command::new("nsenter");
        nsenter
            .args(["--mount", "--target", &host.id().to_string(), "--"])
            .args(arguments);
        nsenter
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let unshare = Command::new("unshare")
        .args(["--mount", "true"])
        .stderr(Stdio::null())
        .status();
    if !unshare.is_ok_and(|status| status.success()) {
        return None;
    }
    let host = Host::start(fixtures, subject, |command| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private"]);
        unshare.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                unshare.env(name, value);
            }
        }
        *command = unshare;
    });
    let mut host = match host {
        Ok(host) => host,
        Err(outcome) => return Some(outcome),
    };
    if !inside(&host, &["mount", "-t", "tmpfs", "none", "/proc"]) {
        return None;
    }
    let outcome = swap(&mut host, fixtures);
    assert!(inside(&host, &["umount", "/proc"]), "mounted just now");
    Some(afterwards(host, fixtures, outcome))
}

/// Returns `outcome`, which the host had while it lacked the resource. If the host does not accept a plugin now,
/// returns that failure instead.
fn afterwards(mut host: Host, fixtures: &Fixtures, outcome: Outcome) -> Outcome {
    match swap(&mut host, fixtures) {
        Outcome::Accepted => host.end().err().unwrap_or(outcome),
        Outcome::Refused(why) => Outcome::Wrong(format!("refused afterwards: {why}")),
        other => other,
    }
}

fn swap(host: &mut Host, fixtures: &Fixtures) -> Outcome {
    let plugin = &fixtures.bases[0];
    host.ask(AfterSwap::Stay, &plugin.path, &[plugin.build])
}

fn pid(host: &Host) -> Pid {
    Pid::from_raw(host.id().cast_signed()).expect("a process")
}

/// How much address space a host has, in bytes.
fn address_space(host: &Host) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{}/statm", host.id())).expect("/proc");
    let pages: u64 = pages
        .split(' ')
        .next()
        .and_then(|it| it.parse().ok())
        .expect("a number");
    pages * rustix::param::page_size() as u64
}
