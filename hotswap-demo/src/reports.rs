//! What the host says of its own accord, beside the library's events: as text for people, and in a form for
//! programs.

use std::{
    borrow::Cow,
    fmt::{self, Display},
    time::SystemTime,
};

use hotswap_core::{
    Event, EventKind, GenerationInfo, Stage,
    canary::{Figures, Share, Side},
    check::CheckReport,
    text::one_line,
};
use humantime::format_rfc3339_seconds;
use serde::{Serialize, Serializer};

use crate::{paths, trust};

/// What the library says, and what to add to it.
#[derive(Serialize)]
pub(crate) struct Told {
    #[serde(flatten)]
    pub(crate) event: Event,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<Cow<'static, str>>,
}

/// As the demo says it: settings are options, and a path that leads nowhere may be meant otherwise.
pub(crate) fn told(event: Event) -> Told {
    let hint = match &event.kind {
        EventKind::Refused {
            path,
            stage: Stage::Open,
            live,
            ..
        } if !path.exists() => paths::hint(path, live.is_some()),
        _ => None,
    };
    Told {
        event: trust::with_option(event),
        hint,
    }
}

/// `--check`: it would be accepted.
#[derive(Serialize)]
#[serde(tag = "event", rename = "checked")]
pub(crate) struct Checked {
    #[serde(flatten)]
    pub(crate) report: CheckReport,
}

/// A call that gave no answer.
#[derive(Serialize)]
#[serde(tag = "event", rename = "fault")]
pub(crate) struct Fault {
    pub(crate) generation: u64,
    /// As `printable` gives it.
    pub(crate) message: String,
}

/// During a canary, the calls come to another generation than before.
#[derive(Serialize)]
#[serde(tag = "event", rename = "answering")]
pub(crate) struct Answering {
    pub(crate) generation: u64,
    #[serde(serialize_with = "as_text")]
    pub(crate) side: Side,
}

/// The answer to `:figures`.
#[derive(Serialize)]
#[serde(tag = "event", rename = "figures")]
pub(crate) struct SideFigures {
    /// The candidate's.
    pub(crate) generation: u64,
    pub(crate) share: Share,
    pub(crate) candidate: Figures,
    pub(crate) live: Figures,
}

/// Anything else.
#[derive(Serialize)]
#[serde(tag = "event", rename = "note")]
pub(crate) struct Note<'a> {
    pub(crate) text: &'a str,
}

/// The answer to `:versions`.
#[derive(Serialize)]
#[serde(tag = "event", rename = "versions")]
pub(crate) struct Versions {
    pub(crate) generations: Vec<GenerationInfo>,
    pub(crate) refused: Vec<Event>,
}

impl Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.event.fmt(f)?;
        let hint = self.hint.as_ref();
        hint.map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = one_line(&self.message);
        write!(f, "fault generation {}: {message}", self.generation)
    }
}

impl Display for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "answering generation {} ({})",
            self.generation, self.side
        )
    }
}

impl Display for SideFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            generation,
            share,
            candidate,
            live,
        } = self;
        write!(
            f,
            "figures generation {generation}: {share} of the calls\n  candidate  {candidate}\n  live       {live}"
        )
    }
}

impl Display for Note<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// How many digits of a hash are shown: enough to tell files apart.
const HASH_DIGITS: usize = 8;

/// Each with the time of its publication or its refusal, the newest last. A line fits into 80 columns if the path is
/// short.
impl Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generations = self.generations.iter().map(|it| {
            let text = format!("{it}\n  {}, {}", time(it.published), file(it));
            (it.published, text)
        });
        let refused = self.refused.iter();
        let refused = refused.map(|it| (it.at, format!("{it}\n  {}", time(it.at))));
        let mut entries: Vec<_> = generations.chain(refused).collect();
        entries.sort_by_key(|(at, _)| *at);
        let entries: Vec<_> = entries.into_iter().map(|(_, text)| text).collect();
        f.write_str(&entries.join("\n"))
    }
}

fn time(at: SystemTime) -> impl Display {
    format_rfc3339_seconds(at)
}

/// What is known of the file.
fn file(it: &GenerationInfo) -> String {
    let hash = it.sha256.map_or_else(String::new, |hash| {
        format!("sha256 {:.HASH_DIGITS$}, ", hash.to_string())
    });
    let package = match (&it.name, &it.version) {
        (Some(name), Some(version)) => one_line(&format!("{name} {version}")),
        _ => "no unloadable!".to_owned(),
    };
    format!("{} bytes, {hash}{package}", it.file_bytes)
}

fn as_text<S: Serializer>(it: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(it)
}
