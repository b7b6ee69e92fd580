//! What the process that swaps says, a line at a time, and what it amounts to.

use std::{fmt, io::Write as _, process::ExitStatus};

use std::os::unix::process::ExitStatusExt as _;

use crate::cases::Expected;

/// One line of the process that swaps. Written at once, so that it is there whatever comes next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Line<'a> {
    /// What it does from now on.
    Step(&'a str),
    /// What has become of one retired generation.
    State(&'a str),
    /// What is not as it should be, beside the states.
    Fault(&'a str),
}

impl Line<'_> {
    pub(crate) fn say(self) {
        let (word, text) = match self {
            Self::Step(text) => ("step", text),
            Self::State(text) => ("state", text),
            Self::Fault(text) => ("fault", text),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{word} {text}")
            .and_then(|()| out.flush())
            .expect("a file to write to");
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The compiler's first error.
    NotBuilt(String),
    Ran {
        /// Each with the number of generations that it was found of.
        states: Vec<(String, u32)>,
        faults: Vec<String>,
        /// What the process did last.
        step: String,
        /// None: it hung.
        status: Option<ExitStatus>,
    },
}

impl Outcome {
    /// From all that the process has said.
    pub(crate) fn of(said: &str, status: Option<ExitStatus>) -> Self {
        let (mut states, mut faults, mut step) =
            (Vec::<(String, u32)>::new(), Vec::new(), "starting");
        for line in said.lines() {
            match line.split_once(' ') {
                Some(("step", text)) => step = text,
                Some(("state", text)) => match states.iter_mut().find(|(known, _)| known == text) {
                    Some((_, count)) => *count += 1,
                    None => states.push((text.to_owned(), 1)),
                },
                Some(("fault", text)) => faults.push(text.to_owned()),
                // The plugin's own.
                _ => {}
            }
        }
        Self::Ran {
            states,
            faults,
            step: step.to_owned(),
            status,
        }
    }

    pub(crate) fn is(&self, expected: &Expected) -> bool {
        let Self::Ran {
            states,
            faults,
            status,
            ..
        } = self
        else {
            return false;
        };
        let is_one_of = |text: &str, names: &[&str]| names.iter().any(|name| text.contains(name));
        let fits = |text: &str| match expected {
            Expected::Unloaded => text == "unloaded",
            Expected::Pinned(names) => text.starts_with("pinned") && is_one_of(text, names),
            Expected::UnloadedOrPinned(names) => {
                text == "unloaded" || text.starts_with("pinned") && is_one_of(text, names)
            }
            Expected::Draining(names) => text.starts_with("draining") && is_one_of(text, names),
        };
        let survived = status.is_some_and(|status| status.success());
        survived
            && faults.is_empty()
            && !states.is_empty()
            && states.iter().all(|(text, _)| fits(text))
    }

    /// What has become of the host.
    pub(crate) fn host(&self) -> &'static str {
        match self {
            Self::NotBuilt(_) => "was not started",
            Self::Ran { status: None, .. } => "hung",
            Self::Ran {
                status: Some(status),
                ..
            } if status.success() => "survived",
            Self::Ran { .. } => "died",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Ran {
            states,
            faults,
            step,
            status,
        } = self
        else {
            let Self::NotBuilt(message) = self else {
                unreachable!()
            };
            return write!(f, "it does not build: {message}");
        };
        match &states[..] {
            [] => f.write_str("no generation that was retired")?,
            [(state, _)] => f.write_str(state)?,
            several => {
                for (index, (state, count)) in several.iter().enumerate() {
                    write!(
                        f,
                        "{}{count} times {state}",
                        if index == 0 { "" } else { "; " }
                    )?;
                }
            }
        }
        for fault in faults {
            write!(f, "; {fault}")?;
        }
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                let how = match (status.signal(), status.code()) {
                    (Some(libc::SIGSEGV), _) => "killed by SIGSEGV".to_owned(),
                    (Some(libc::SIGABRT), _) => "killed by SIGABRT".to_owned(),
                    (Some(libc::SIGBUS), _) => "killed by SIGBUS".to_owned(),
                    (Some(libc::SIGILL), _) => "killed by SIGILL".to_owned(),
                    (Some(signal), _) => format!("killed by signal {signal}"),
                    (None, code) => format!("exited with {code:?}"),
                };
                write!(f, ", then {how} while {step}")
            }
            None => write!(f, ", then a hang while {step}"),
        }
    }
}
