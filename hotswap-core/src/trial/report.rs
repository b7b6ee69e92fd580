//! The messages between a trial's child and its host, over a socket that keeps message boundaries (`SOCK_SEQPACKET`).
//!
//! The host ignores every message that it does not understand, because the code on trial runs in the same process as
//! the code that reports.

use crate::error::{Error, ErrorKind, Stage};

/// Long enough for a whole report of a layout check. A longer message is cut off.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// How much of the configuration one message has. Before it there is a byte: 1 if this is the last part.
pub(super) const CONFIG_PART_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 1;

/// The host sends this when the child has said that it has finished; the child has to send it back.
pub(super) type Token = [u8; 32];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The child begins this stage.
    Reached(Stage),
    /// The child has found a reason to refuse the candidate.
    Refused {
        kind: ErrorKind,
        /// The full text, if the kind is only a summary.
        details: String,
    },
    /// The child has passed all stages, and found this.
    Finished(Findings),
    /// The child returns the host's token.
    Token(Token),
    /// The child asks for the next part of the configuration.
    NextPart,
}

/// What a passed trial has found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// The version of the interface that the plugin was built with.
    pub(crate) interface: String,
    /// Name and version of the plugin's package, if it has `unloadable!`.
    pub(crate) package: Option<(String, String)>,
    /// Why the host cannot use its `unloadable!`, if it has one and cannot.
    pub(crate) unloadable_problem: Option<String>,
    pub(crate) update: FoundUpdate,
    /// Why it was not unloaded, if it was not.
    pub(crate) stays: Option<String>,
}

/// The candidate's update, for a host with services. A trial does not run it, since it would see other values than
/// the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum FoundUpdate {
    #[default]
    None,
    /// It can be run.
    Good,
    /// A host with services refuses it, for this reason.
    Bad(String),
}

const REACHED: u8 = 1;
const REFUSED: u8 = 2;
const FINISHED: u8 = 3;
const TOKEN: u8 = 4;
const NEXT_PART: u8 = 5;

/// The stages of a trial. A message contains a stage's position in this list.
const STAGES: [Stage; 10] = [
    Stage::Trial,
    Stage::Inspect,
    Stage::Link,
    Stage::Header,
    Stage::Version,
    Stage::Layout,
    Stage::Root,
    Stage::Probe,
    Stage::Unload,
    Stage::Symbol,
];

impl Report {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Reached(stage) => vec![REACHED, place(*stage)],
            Self::Refused { kind, details } => {
                let texts = texts_of(kind);
                let count = u8::try_from(texts.len()).unwrap_or(u8::MAX);
                let mut bytes = vec![REFUSED, place(kind.stage()), count];
                for text in texts.iter().take(count.into()) {
                    bytes.extend(text.replace('\0', "\\0").bytes());
                    bytes.push(0);
                }
                bytes.extend(details.bytes());
                bytes.truncate(MESSAGE_BYTES_MAX);
                bytes
            }
            Self::Finished(findings) => findings.encode(),
            Self::Token(token) => [&[TOKEN], &token[..]].concat(),
            Self::NextPart => vec![NEXT_PART],
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match *bytes {
            [REACHED, place] => Some(Self::Reached(*STAGES.get(usize::from(place))?)),
            [REFUSED, place, count, ref text @ ..] => {
                let stage = *STAGES.get(usize::from(place))?;
                let text = String::from_utf8_lossy(text);
                let mut texts: Vec<_> = text.splitn(usize::from(count) + 1, '\0').collect();
                let details = (texts.len() > count.into()).then(|| texts.pop());
                Some(Self::Refused {
                    kind: kind_of(stage, &texts)?,
                    details: details.flatten().unwrap_or_default().to_owned(),
                })
            }
            [FINISHED, ref texts @ ..] => Some(Self::Finished(Findings::decode(texts)?)),
            [TOKEN, ref token @ ..] => Some(Self::Token(token.try_into().ok()?)),
            [NEXT_PART] => Some(Self::NextPart),
            _ => None,
        }
    }
}

/// The name of the kind, and its fields as texts. For a kind that a child does not find itself, only the name and the
/// text.
fn texts_of(kind: &ErrorKind) -> Vec<String> {
    let some = |text: &Option<String>| text.clone().unwrap_or_default();
    let fields = match kind {
        ErrorKind::NoRootModule { problem } => vec![some(problem)],
        ErrorKind::BadHeader { problem } => vec![problem.clone()],
        ErrorKind::ConstructorFailed { message } => vec![message.clone()],
        ErrorKind::NotCode { function } => vec![function.clone()],
        ErrorKind::MissingHostService { interface, .. } => vec![interface.clone()],
        ErrorKind::Probe { reason } => vec![reason.clone()],
        ErrorKind::Panicked { message, .. } => vec![some(message)],
        ErrorKind::Link { message, advice } => vec![message.clone(), some(advice)],
        ErrorKind::Layout { symbol, difference } => vec![some(symbol), difference.clone()],
        ErrorKind::AbiStable {
            symbol,
            expected,
            found,
        } => vec![some(symbol), expected.clone(), found.clone()],
        ErrorKind::Version {
            interface,
            expected,
            found,
        } => vec![interface.clone(), expected.clone(), found.clone()],
        ErrorKind::Descriptors { are_lost, which } => {
            let lost = if *are_lost { LOST } else { "" };
            let lost = [lost.to_owned()].into_iter();
            lost.chain(which.iter().cloned()).collect()
        }
        _ => vec![kind.to_string()],
    };
    let name = [kind.name().to_owned()].into_iter();
    name.chain(fields).collect()
}

fn kind_of(stage: Stage, texts: &[&str]) -> Option<ErrorKind> {
    let text = |text: &str| text.to_owned();
    let some = |text: &str| Some(text.to_owned()).filter(|it| !it.is_empty());
    let (name, fields) = texts.split_first()?;
    Some(match (*name, fields) {
        ("no_root_module", [problem]) => ErrorKind::NoRootModule {
            problem: some(problem),
        },
        ("bad_header", [problem]) => ErrorKind::BadHeader {
            problem: text(problem),
        },
        ("constructor_failed", [message]) => ErrorKind::ConstructorFailed {
            message: text(message),
        },
        ("not_code", [function]) => ErrorKind::NotCode {
            function: text(function),
        },
        ("missing_host_service", [interface]) => ErrorKind::MissingHostService {
            interface: text(interface),
            is_in_trial: true,
        },
        ("probe", [reason]) => ErrorKind::Probe {
            reason: text(reason),
        },
        ("panicked", [message]) => ErrorKind::Panicked {
            stage,
            message: some(message),
        },
        ("link", [message, advice]) => ErrorKind::Link {
            message: text(message),
            advice: some(advice),
        },
        ("layout", [symbol, difference]) => ErrorKind::Layout {
            symbol: some(symbol),
            difference: text(difference),
        },
        ("abi_stable", [symbol, expected, found]) => ErrorKind::AbiStable {
            symbol: some(symbol),
            expected: text(expected),
            found: text(found),
        },
        ("version", [interface, expected, found]) => ErrorKind::Version {
            interface: text(interface),
            expected: text(expected),
            found: text(found),
        },
        ("descriptors", [lost, which @ ..]) => ErrorKind::Descriptors {
            are_lost: *lost == LOST,
            which: which.iter().map(|it| text(it)).collect(),
        },
        (_, [reason]) => ErrorKind::RefusedInTrial {
            stage,
            reason: text(reason),
        },
        _ => return None,
    })
}

/// The field that says that descriptors were lost, and not gained.
const LOST: &str = "lost";

/// Stands for an update that can be run. No reason is this text.
const GOOD: &str = "+";

/// Encoded as six texts, each after a NUL. An empty text stands for `None`.
impl Findings {
    fn encode(&self) -> Vec<u8> {
        let (name, version) = self.package.clone().unzip();
        let interface = Some(self.interface.clone());
        let update = match &self.update {
            FoundUpdate::None => None,
            FoundUpdate::Good => Some(GOOD.to_owned()),
            FoundUpdate::Bad(reason) => Some(reason.clone()),
        };
        let (unloadable_problem, stays) = (&self.unloadable_problem, &self.stays);
        let texts = [
            &interface,
            &name,
            &version,
            unloadable_problem,
            &update,
            stays,
        ];
        let mut bytes = vec![FINISHED];
        for text in texts {
            bytes.push(0);
            let text = text.iter().flat_map(|text| text.bytes());
            bytes.extend(text.filter(|byte| *byte != 0).take(MESSAGE_BYTES_MAX / 8));
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let texts = bytes.strip_prefix(&[0])?.split(|byte| *byte == 0);
        let texts: Vec<_> = texts
            .map(|it| Some(text(it)).filter(|it| !it.is_empty()))
            .collect();
        let [interface, name, version, unloadable_problem, update, stays] =
            texts.try_into().ok()?;
        Some(Self {
            interface: interface.unwrap_or_default(),
            package: name.zip(version),
            unloadable_problem,
            update: match update {
                None => FoundUpdate::None,
                Some(text) if text == GOOD => FoundUpdate::Good,
                Some(reason) => FoundUpdate::Bad(reason),
            },
            stays,
        })
    }
}

impl From<&Error> for Report {
    fn from(error: &Error) -> Self {
        let details = std::error::Error::source(error).map(ToString::to_string);
        Self::Refused {
            kind: error.kind().clone(),
            details: details.unwrap_or_default(),
        }
    }
}

/// The position of a stage. A stage that a trial does not have is sent as [`Stage::Trial`].
fn place(stage: Stage) -> u8 {
    let place = STAGES.iter().position(|it| *it == stage);
    place
        .and_then(|place| u8::try_from(place).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(report: Report) {
        assert_eq!(Report::decode(&report.encode()), Some(report));
    }

    fn refused(message: &str, details: &str) -> Report {
        Report::Refused {
            kind: ErrorKind::Probe {
                reason: message.to_owned(),
            },
            details: details.to_owned(),
        }
    }

    #[test]
    fn every_report_survives_encoding() {
        for stage in STAGES {
            check(Report::Reached(stage));
        }
        check(refused("a field is missing", "line 1\nline 2\n"));
        check(refused("", ""));
        check(Report::Finished(Findings::default()));
        check(Report::Finished(Findings {
            interface: "0.1.0".to_owned(),
            package: Some(("plugin".to_owned(), "1.2".to_owned())),
            unloadable_problem: Some("no".to_owned()),
            update: FoundUpdate::Bad("another type".to_owned()),
            stays: Some("a\nb".to_owned()),
        }));
        check(Report::Finished(Findings {
            update: FoundUpdate::Good,
            ..Findings::default()
        }));
        check(Report::Token([7; 32]));
        check(Report::NextPart);
    }

    #[test]
    fn what_a_child_finds_out_stays_data() {
        let text = || "no".to_owned();
        for kind in [
            ErrorKind::NoRootModule { problem: None },
            ErrorKind::NoRootModule {
                problem: Some(text()),
            },
            ErrorKind::BadHeader { problem: text() },
            ErrorKind::ConstructorFailed { message: text() },
            ErrorKind::NotCode { function: text() },
            ErrorKind::MissingHostService {
                interface: text(),
                is_in_trial: true,
            },
            ErrorKind::Panicked {
                stage: Stage::Root,
                message: None,
            },
            ErrorKind::Panicked {
                stage: Stage::Probe,
                message: Some(text()),
            },
            ErrorKind::link("no"),
            ErrorKind::Layout {
                symbol: Some(text()),
                difference: text(),
            },
            ErrorKind::abi_stable(None, 1, 2),
            ErrorKind::Version {
                interface: text(),
                expected: text(),
                found: text(),
            },
            ErrorKind::Descriptors {
                are_lost: true,
                which: vec![text(), text()],
            },
            ErrorKind::Descriptors {
                are_lost: false,
                which: vec![text()],
            },
        ] {
            check(Report::Refused {
                kind,
                details: String::new(),
            });
        }
        let other = Report::Refused {
            kind: ErrorKind::trial("no", std::io::Error::other("none")),
            details: String::new(),
        };
        let Some(Report::Refused { kind, .. }) = Report::decode(&other.encode()) else {
            panic!("not understood")
        };
        assert!(matches!(
            kind,
            ErrorKind::RefusedInTrial {
                stage: Stage::Trial,
                ..
            }
        ));
        assert_eq!(kind.to_string(), "no: none");
    }

    #[test]
    fn what_is_too_long_is_cut_off() {
        let long = "é".repeat(MESSAGE_BYTES_MAX);
        let bytes = refused("short", &long).encode();
        assert_eq!(bytes.len(), MESSAGE_BYTES_MAX);
        let Some(Report::Refused {
            kind: ErrorKind::Probe { reason },
            details,
        }) = Report::decode(&bytes)
        else {
            panic!("not understood")
        };
        assert_eq!(reason, "short");
        assert!(details.starts_with("éé"));
    }

    #[test]
    fn a_message_keeps_its_end() {
        let Some(Report::Refused {
            kind: ErrorKind::Probe { reason },
            details,
        }) = Report::decode(&refused("a\0b", "c\0d").encode())
        else {
            panic!("not understood")
        };
        assert_eq!((&*reason, &*details), ("a\\0b", "c\0d"));
    }

    #[test]
    fn unknown_messages_are_rejected() {
        for bytes in [
            &[][..],
            &[0],
            &[REACHED],
            &[REACHED, 200],
            &[REACHED, 0, 0],
            &[REFUSED],
            &[REFUSED, 200],
            &[REFUSED, 0, 0],
            &[REFUSED, 0, 1],
            &[FINISHED],
            &[FINISHED, 0, 0, 0, 0, 0],
            &[FINISHED, 0, 0, 0, 0, 0, 0, 0],
            &[FINISHED, 1, 0, 0, 0, 0, 0],
            &[TOKEN, 1, 2, 3],
            &[TOKEN; 34],
            &[NEXT_PART, 0],
            b"Hello",
        ] {
            assert_eq!(Report::decode(bytes), None, "{bytes:?}");
        }
    }
}
