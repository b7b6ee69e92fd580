//! What the program prints.

mod builds;

use std::{
    collections::HashSet,
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use hotswap_core::text::one_line;
use hotswap_fleet::{
    Manifest,
    controller::View,
    decision::{CallTotals, Seen},
    rollout::{Phase, RolloutRecord, short},
    status::AnswerOutcome,
    store::LogEntry,
};

pub(crate) use self::builds::builds;

/// Hosts in a table; more are counted.
const HOSTS_SHOWN_MAX: usize = 30;
/// Hosts that have failed, or have pinned code, with the reason; more are counted.
const REASONS_SHOWN_MAX: usize = 5;
/// Where the second column of the lines above the table begins.
const INDENT: usize = 10;
/// A longer name of a host is cut.
const HOST_COLUMNS_MAX: usize = 24;

/// The part of a configuration of nats-server that lets a host do what it must.
pub(crate) fn permissions(plugin: &str, host: &str) -> Result<String> {
    const TEMPLATE: &str = include_str!("../nats/permissions.conf");
    let is_name = |it: &str| {
        let is_allowed = |it: char| it.is_ascii_alphanumeric() || it == '-' || it == '_';
        !it.is_empty() && it.chars().all(is_allowed)
    };
    ensure!(
        is_name(plugin) && is_name(host),
        "names have letters, digits, `-` and `_`"
    );
    let variable = host.to_uppercase().replace('-', "_");
    let lines = TEMPLATE.lines().filter(|it| !it.starts_with('#'));
    let filled = lines.map(|line| {
        line.replace("<HOST>", host)
            .replace("<PLUGIN>", plugin)
            .replace("<VARIABLE>", &variable)
            + "\n"
    });
    Ok(filled.collect())
}

/// What a signature says of a plugin.
pub(crate) fn manifest(manifest: &Manifest) -> String {
    let Manifest {
        name,
        serial,
        interface,
        floor,
        expires,
    } = manifest;
    let mut text = format!("{} serial {serial}", one_line(name));
    if let Some(interface) = interface {
        let _ = write!(text, ", interface {}", one_line(interface));
    }
    if let Some(floor) = floor {
        let _ = write!(text, ", floor {floor}");
    }
    if let Some(expires) = expires {
        let _ = write!(
            text,
            ", expires {}",
            humantime::format_rfc3339_seconds(*expires)
        );
    }
    text
}

/// A change of a roll-out, in one line.
pub(crate) fn change(rollout: &RolloutRecord) -> String {
    let at = clock(rollout.changed_ms);
    format!("{at} {}", one_line(&rollout.what))
}

/// How much room there is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Screen {
    /// Longer lines are wrapped or cut. `None`: they are left as they are.
    pub(crate) columns: Option<usize>,
    /// How many lines there may be.
    pub(crate) rows: Option<usize>,
}

/// A roll-out and its hosts.
pub(crate) fn view(view: &View, screen: Screen) -> String {
    let View {
        rollout,
        hosts,
        summary,
    } = view;
    let now_ms = UNIX_EPOCH.elapsed().map_or(0, |it| it.as_millis() as u64);
    let mut lines = Vec::new();
    let mut line = |name: &str, value: &str| {
        let columns = screen.columns.unwrap_or(usize::MAX);
        for (index, part) in wrapped(value, columns.saturating_sub(INDENT)).enumerate() {
            let name = if index == 0 { name } else { "" };
            lines.push(format!("{name:<INDENT$}{part}"));
        }
    };
    line("target", &rollout.target.to_string());
    if let Some(previous) = &rollout.previous {
        line("previous", &previous.to_string());
    }
    line("rings", &rings(rollout, now_ms));
    line(
        "last",
        &format!(
            "{} ago, by {}: {}",
            seconds(now_ms.saturating_sub(rollout.changed_ms)),
            one_line(&rollout.by),
            one_line(&rollout.what)
        ),
    );
    let hosts_line = format!(
        "{} alive, {} lost; {} on the target",
        summary.alive, summary.lost, summary.running
    );
    let ring_line = format!(
        "; {} in this ring, {} still to answer",
        summary.concerned,
        summary.waiting.len()
    );
    let is_in_ring = !rollout.has_ended();
    line(
        "hosts",
        &(hosts_line + if is_in_ring { &ring_line } else { "" }),
    );
    line(
        "calls",
        &format!(
            "{} on the target, {} on others",
            calls(summary.target),
            calls(summary.rest)
        ),
    );
    for (name, hosts) in [("failed", &summary.failed), ("pinned", &summary.pinned)] {
        for (host, what) in hosts.iter().take(REASONS_SHOWN_MAX) {
            line(name, &format!("{}: {}", one_line(host), one_line(what)));
        }
        if let Some(more) = hosts.len().checked_sub(REASONS_SHOWN_MAX + 1) {
            line("", &format!("{} more", more + 1));
        }
    }
    lines.push(String::new());
    // The head of the table, a line for those that are left out, and the one with the cursor.
    let rows = screen.rows.map(|it| it.saturating_sub(lines.len() + 3));
    let shown_max = rows.unwrap_or(HOSTS_SHOWN_MAX).max(1);
    let table = table(view, hosts, shown_max, now_ms);
    let columns = screen.columns.unwrap_or(usize::MAX);
    lines.extend(table.iter().map(|it| cut(it, columns)));
    lines.join("\n") + "\n"
}

fn rings(rollout: &RolloutRecord, now_ms: u64) -> String {
    let ring = |(index, ring): (usize, &hotswap_fleet::rollout::Ring)| {
        let is_over = index < rollout.ring || rollout.phase == Phase::Done;
        if is_over {
            return format!("{ring} ok");
        }
        if index > rollout.ring {
            return ring.to_string();
        }
        match &rollout.phase {
            Phase::Applying => format!("{ring} APPLYING"),
            Phase::Soaking { since_ms } => {
                let soaked_ms = now_ms.saturating_sub(*since_ms).min(rollout.limits.soak_ms);
                let (soaked, soak) = (seconds(soaked_ms), seconds(rollout.limits.soak_ms));
                format!("{ring} SOAKING {soaked} of {soak}")
            }
            Phase::Settling => format!("{ring} UNLOADING"),
            Phase::Halted => format!("{ring} HALTED"),
            Phase::Incomplete => format!("{ring} INCOMPLETE"),
            Phase::Done => ring.to_string(),
        }
    };
    let rings: Vec<_> = rollout.rings.iter().enumerate().map(ring).collect();
    rings.join(" > ")
}

fn calls(CallTotals { calls, faults }: CallTotals) -> String {
    format!("{calls} ({faults} faults)")
}

/// The hosts by name. If there are too many, those are left out about which least is to be said.
fn table(view: &View, hosts: &[Seen], shown_max: usize, now_ms: u64) -> Vec<String> {
    let failed: HashSet<&str> = view.summary.failed.iter().map(|it| &*it.0).collect();
    let waiting: HashSet<&str> = view.summary.waiting.iter().map(|it| &**it).collect();
    let rank = |seen: &&Seen| match &*seen.status.host {
        host if failed.contains(host) => 0,
        _ if seen.status.has_left => 4,
        _ if !seen.is_alive(now_ms) => 1,
        host if waiting.contains(host) => 2,
        _ => 3,
    };
    let mut shown: Vec<&Seen> = hosts.iter().collect();
    if shown.len() > shown_max {
        shown.sort_by_cached_key(rank);
        shown.truncate(shown_max);
        shown.sort_by(|a, b| a.status.host.cmp(&b.status.host));
    }
    let name = |seen: &Seen| one_line(&seen.status.host).to_string();
    let width = shown.iter().map(|it| name(it).chars().count()).max();
    let width = width.unwrap_or(0).clamp(4, HOST_COLUMNS_MAX);
    let row = |host: &str,
               live: &str,
               calls: &str,
               faults: &str,
               [p50, p99]: [&str; 2],
               answer: String| {
        let host = cut(host, width);
        format!("{host:<width$} {live:<12} {calls:>8} {faults:>6} {p50:>7} {p99:>7}  {answer}")
    };
    let head = row(
        "host",
        "live",
        "calls",
        "faults",
        ["p50", "p99"],
        "answer".to_owned(),
    );
    let mut lines = vec![head];
    for seen in &shown {
        let status = &seen.status;
        let live = status.live_sha256().map_or("-", short);
        let figures = status.live_sha256().and_then(|live| {
            let mut latest = status.figures.iter().rev();
            latest.find(|it| it.sha256 == live)
        });
        let (calls, faults) = figures.map_or((0, 0), |it| (it.calls, it.faults));
        let time = |ns: Option<u64>| {
            let ns = ns.filter(|_| calls > 0);
            ns.map_or_else(|| "-".to_owned(), duration)
        };
        let (p50, p99) = (figures.map(|it| it.p50_ns), figures.map(|it| it.p99_ns));
        lines.push(row(
            &name(seen),
            live,
            &calls.to_string(),
            &faults.to_string(),
            [&time(p50), &time(p99)],
            one_line(&answer(view, seen, now_ms)).to_string(),
        ));
    }
    let more = hosts.len() - shown.len();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

fn answer(view: &View, seen: &Seen, now_ms: u64) -> String {
    let status = &seen.status;
    match status.answer_to(view.rollout.attempt) {
        _ if status.has_left => "has left".to_owned(),
        _ if !seen.is_alive(now_ms) => {
            let ago = seconds(now_ms.saturating_sub(seen.heard_ms));
            format!("no heartbeat for {ago}")
        }
        Some(answer) => match &answer.outcome {
            AnswerOutcome::Running if status.live_sha256() != Some(&answer.sha256) => {
                "has gone back".to_owned()
            }
            outcome => outcome.to_string(),
        },
        None => "-".to_owned(),
    }
}

/// Three digits, so that times of all sizes have one width: `1.23ms`, `12.3ms`, `123ms`.
fn duration(ns: u64) -> String {
    let duration = Duration::from_nanos(ns);
    let digits = ns.checked_ilog10().unwrap_or(0) as usize % 3;
    format!("{duration:.*?}", 2 - digits)
}

fn seconds(ms: u64) -> String {
    let rounded = Duration::from_secs(ms / 1000);
    humantime::format_duration(rounded).to_string()
}

/// The text in lines of so many characters, with whole words where they fit.
fn wrapped(text: &str, columns: usize) -> impl Iterator<Item = String> {
    let columns = columns.max(20);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        let fits = used == 0 || used + 1 + word.len() <= columns;
        if !fits {
            lines.push(String::new());
            used = 0;
        } else if used > 0 {
            lines.last_mut().expect("there is one").push(' ');
            used += 1;
        }
        while used + word.len() > columns {
            let rest = word.split_off(columns - used);
            lines.last_mut().expect("there is one").extend(word);
            lines.push(String::new());
            (word, used) = (rest, 0);
        }
        used += word.len();
        lines.last_mut().expect("there is one").extend(word);
    }
    lines.into_iter()
}

/// The text, or its beginning and a sign that there was more.
fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let beginning: String = text.chars().take(columns.saturating_sub(1)).collect();
    beginning + "…"
}

/// The same for programs.
pub(crate) fn json(view: &View) -> serde_json::Value {
    let View {
        rollout,
        hosts,
        summary,
    } = view;
    let hosts: Vec<_> = hosts.iter().map(|it| &it.status).collect();
    serde_json::json!({
        "rollout": rollout,
        "alive": summary.alive,
        "lost": summary.lost,
        "running": summary.running,
        "waiting": summary.waiting,
        "failed": summary.failed,
        "pinned": summary.pinned,
        "draining": summary.draining,
        "target": { "calls": summary.target.calls, "faults": summary.target.faults },
        "others": { "calls": summary.rest.calls, "faults": summary.rest.faults },
        "hosts": hosts,
    })
}

/// All that has happened, in the order of time.
pub(crate) fn audit(changes: &[RolloutRecord], log: &[LogEntry]) -> String {
    let changes = changes.iter().map(|it| {
        let who = format!("{} (change {})", it.by, it.change);
        (it.changed_ms, who, it.what.as_str())
    });
    let log = log
        .iter()
        .map(|it| (it.at_ms, it.host.clone(), it.text.as_str()));
    let mut all: Vec<_> = changes.chain(log).collect();
    all.sort_by_key(|it| it.0);
    let mut text = String::new();
    for (at_ms, who, what) in all {
        let _ = writeln!(
            text,
            "{} {}: {}",
            clock(at_ms),
            one_line(&who),
            one_line(what)
        );
    }
    text
}

fn clock(ms: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(ms));
    let time = time.filter(|it| *it < UNIX_EPOCH + Duration::from_secs(253_402_300_800));
    time.map_or_else(
        || "?".to_owned(),
        |it| humantime::format_rfc3339_millis(it).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_at_words() {
        let lines = |text: &str| wrapped(text, 20).collect::<Vec<_>>();
        assert_eq!(lines(""), [""]);
        assert_eq!(lines("1 host failed"), ["1 host failed"]);
        assert_eq!(
            lines("1 host failed (web-3: no heartbeat)"),
            ["1 host failed", "(web-3: no", "heartbeat)"]
        );
        let digest = "0123456789".repeat(5);
        assert_eq!(
            lines(&digest),
            [&digest[..20], &digest[20..40], &digest[40..]]
        );
        for line in lines(&format!(
            "the plugin {digest} is not there, ü ü ü ü ü ü ü ü ü ü ü ü"
        )) {
            assert!(line.chars().count() <= 20, "{line}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!(cut("web-12", 6), "web-12");
        assert_eq!(cut("web-123", 6), "web-1…");
        assert_eq!(cut("ääääää", 5), "ääää…");
    }

    #[test]
    fn times_have_three_digits() {
        for (ns, shown) in [
            (0, "0.00ns"),
            (950, "950ns"),
            (1_234, "1.23µs"),
            (20_500, "20.5µs"),
            (167_900, "168µs"),
            (1_204_000_000, "1.20s"),
        ] {
            assert_eq!(duration(ns), shown);
        }
    }
}
