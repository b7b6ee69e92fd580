//! What a host says of itself.

use std::{fmt, time::Duration};

use hotswap_core::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::{error::FleetError, rollout::short};

/// The longest time between two heartbeats. A status that says more counts as one that says this.
pub(crate) const HEARTBEAT_MAX: Duration = Duration::from_secs(60 * 60);

/// What a host says of itself with each heartbeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The host's name.
    pub host: String,
    /// The plugin's name.
    pub plugin: String,
    /// Another number for each process.
    pub instance: u64,
    /// How long until the next heartbeat, in milliseconds. More than an hour counts as an hour.
    pub heartbeat_ms: u64,
    /// What is live. `None`: nothing was loaded yet.
    pub live: Option<Live>,
    /// Calls of the builds that this process has run, the latest last.
    pub figures: Vec<BuildFigures>,
    /// Earlier code that is still mapped.
    pub mapped: Vec<Mapped>,
    /// What has become of what it was told last.
    pub answer: Option<HostAnswer>,
    /// Builds with a lower serial number are refused.
    pub floor: u64,
    /// Whether it has ended in an orderly way.
    pub has_left: bool,
    /// How many of its events could not be logged, because the server was away for too long.
    pub lost_events: u64,
}

/// The generation that is live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The SHA-256 of its bytes. `None`: it is a value of the host's own.
    pub sha256: Option<String>,
    /// Its number.
    pub generation: u64,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}

/// The calls of a build in one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildFigures {
    /// The SHA-256 of its bytes.
    pub sha256: String,
    /// How many calls have ended.
    pub calls: u64,
    /// How many of them were faults.
    pub faults: u64,
    /// The time that half of the calls did not exceed, in nanoseconds.
    pub p50_ns: u64,
    /// The time that 99 of 100 calls did not exceed, in nanoseconds.
    pub p99_ns: u64,
}

/// A generation that is not live, and still mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapped {
    /// The SHA-256 of its bytes, if it is known.
    pub sha256: Option<String>,
    /// Its number.
    pub generation: u64,
    /// Whether it stays for as long as the process lives.
    pub is_pinned: bool,
    /// Its state and why, in words.
    pub state: String,
}

/// What has become of what a host was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostAnswer {
    /// The attempt that it belongs to.
    pub attempt: u64,
    /// The build.
    pub sha256: String,
    /// What has become of it.
    #[serde(flatten)]
    pub outcome: AnswerOutcome,
}

/// What has become of a build at a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum AnswerOutcome {
    /// The host is at it.
    Working {
        /// What it does, or waits for.
        on: String,
    },
    /// The host would accept it.
    Checked,
    /// It is live.
    Running,
    /// The host has refused it, or gone back from it, and does not try it again in this attempt.
    Refused(Nack),
}

/// Why a host has refused a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    /// At which stage: one of hotswap's stages, or `manifest`, `fetch`, `process`, `probation`.
    pub stage: String,
    /// What was expected, if the reason has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What was found, if the reason has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// Why, in one line.
    pub reason: String,
}

impl Status {
    /// The answer to an attempt, if there is one.
    pub fn answer_to(&self, attempt: u64) -> Option<&HostAnswer> {
        self.answer.as_ref().filter(|it| it.attempt == attempt)
    }

    /// The SHA-256 of what is live.
    pub fn live_sha256(&self) -> Option<&str> {
        self.live.as_ref()?.sha256.as_deref()
    }
}

impl Nack {
    pub(crate) fn new(stage: &str, reason: impl Into<String>) -> Self {
        Self {
            stage: stage.to_owned(),
            expected: None,
            found: None,
            reason: reason.into(),
        }
    }

    pub(crate) fn differs(stage: &str, what: &str, expected: String, found: String) -> Self {
        Self {
            stage: stage.to_owned(),
            reason: format!("{what}: expected {expected}, found {found}"),
            expected: Some(expected),
            found: Some(found),
        }
    }
}

impl From<&hotswap_core::Error> for Nack {
    fn from(error: &hotswap_core::Error) -> Self {
        // The fields of the kind, in the form for programs.
        let kind = serde_json::to_value(error.kind()).unwrap_or_default();
        let field = |name: &str| match kind.get("data")?.get(name)? {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        let stage = error.stage().to_string();
        let reason = error.reason();
        let without_stage = reason.strip_prefix(&format!("{stage}: "));
        // A difference of types has both sides in its text alone.
        let sides = match error.kind() {
            ErrorKind::Layout { difference, .. } => sides_of(difference).unzip(),
            _ => (None, None),
        };
        Self {
            expected: field("expected").or(sides.0),
            found: field("found").or(sides.1),
            reason: without_stage.unwrap_or(&reason).to_owned(),
            stage,
        }
    }
}

/// A build that did not come as it should.
impl From<&FleetError> for Nack {
    fn from(error: &FleetError) -> Self {
        let (expected, found) = error.sides().cloned().unzip();
        Self {
            expected,
            found,
            ..Self::new("fetch", error.to_string())
        }
    }
}

/// What a difference of types says was expected and found: "…: expected A, found B".
fn sides_of(difference: &str) -> Option<(String, String)> {
    let (_, sides) = difference.split_once(": expected ")?;
    let (expected, found) = sides.split_once(", found ")?;
    Some((expected.to_owned(), found.to_owned()))
}

impl fmt::Display for Nack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, self.reason)
    }
}

impl fmt::Display for AnswerOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Working { on } => f.write_str(on),
            Self::Checked => f.write_str("checked"),
            Self::Running => f.write_str("running"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
        }
    }
}

impl fmt::Display for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}", self.generation)?;
        if let Some(sha256) = &self.sha256 {
            write!(f, " ({})", short(sha256))?;
        }
        write!(f, " {}", self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_of_a_difference_are_told_apart() {
        let found = sides_of("another interface: expected a::Plugin, found b::Plugin");
        assert_eq!(
            found,
            Some(("a::Plugin".to_owned(), "b::Plugin".to_owned()))
        );
        for difference in ["", "no answer", "expected, and found", "x: expected a"] {
            assert_eq!(sides_of(difference), None, "{difference}");
        }
    }
}
