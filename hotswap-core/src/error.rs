//! Why a candidate was refused.
//!
//! An [`Error`] owns all its text: it is made while the image that it speaks of is still mapped, and read
//! long after that image has left. It holds no pointer into any image.

use std::{
    any::Any,
    error,
    fmt::{self, Display},
    io,
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};

use crate::escape::{Escaped, join_lines, printable};

/// Why a candidate was refused: at which [`Stage`], which path, and what was wrong.
///
/// [`Display`] is one line without a full stop, for example
/// `cannot load "plugin.so": open: no such file or directory`. [`reason`](Self::reason) is the same
/// without the path, and without the [`setting`](Self::setting) at its end. Where there is more to say, such as the whole report of a layout check,
/// [`source`](error::Error::source) has it.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    stage: Stage,
    path: PathBuf,
    message: String,
    setting: Option<&'static str>,
    source: Option<Box<dyn error::Error + Send + Sync>>,
    is_transient: bool,
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How far a candidate came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Finding and opening the file.
    Open,
    /// Deciding whether it may be trusted: who could have put it there, and what it is if that is pinned or
    /// signed. See [`Policy`](crate::Policy).
    Trust,
    /// Making the private copy whose bytes are inspected and loaded.
    Copy,
    /// Reading the copy's structure, before anything of it can run.
    Inspect,
    /// Starting a [`Trial`](crate::Trial). What goes wrong in one has the stage at which it did.
    Trial,
    /// Mapping, linking and initialising it: `dlopen`.
    Link,
    /// Recognising an abi_stable root module in it.
    Header,
    /// Finding a single symbol in it.
    Symbol,
    /// Comparing the version of its interface with the host's.
    Version,
    /// Comparing the layout of every type of its interface, or of a symbol, with the host's.
    Layout,
    /// Asking it for its root module.
    Root,
    /// Asking it what it does: the host's own check.
    Probe,
    /// Asking it which services and values there should be, if services are turned on.
    Update,
    /// Unloading it, at the end of a trial.
    Unload,
    /// What the host itself needs to go on, such as a thread.
    Host,
}

/// Why a text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError(pub(crate) &'static str);

impl Error {
    pub(crate) fn new(stage: Stage, path: &Path, message: impl Display) -> Self {
        Self(Box::new(Inner {
            stage,
            path: path.to_owned(),
            message: join_lines(&message.to_string()),
            setting: None,
            source: None,
            is_transient: stage.is_transient(),
        }))
    }

    /// No thread can be started, which was to do something for the candidate at `path`.
    pub(crate) fn no_thread(path: &Path, error: io::Error) -> Self {
        let message = format!("no thread can be started: {error}");
        Self::new(Stage::Host, path, message)
    }

    /// Marks it as transient, whatever its stage.
    pub(crate) fn transient(mut self) -> Self {
        self.0.is_transient = true;
        self
    }

    /// It is so by this setting, if by any.
    pub(crate) fn by(mut self, setting: Option<&'static str>) -> Self {
        self.0.setting = setting;
        self
    }

    /// With all that there is to say, on lines of its own.
    pub(crate) fn because(mut self, report: &str) -> Self {
        self.0.source = Some(printable(report).into());
        self
    }

    /// With something more in its message.
    pub(crate) fn adding(mut self, more: &str) -> Self {
        self.0.message = format!("{}; {}", self.0.message, join_lines(more));
        self
    }

    /// How far the candidate came.
    pub fn stage(&self) -> Stage {
        self.0.stage
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Whether the same bytes may be accepted later: the reason lies outside of them, or in what their code met when it
    /// ran.
    pub(crate) fn is_transient(&self) -> bool {
        self.0.is_transient
    }

    /// What was wrong, without stage and path.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The field that decides it, such as `Policy::root`, if one does. Its name, for hosts whose users know it by another.
    pub fn setting(&self) -> Option<&'static str> {
        self.0.setting
    }

    /// The stage and what was wrong there, in one line, without the path and the [`setting`](Self::setting).
    pub fn reason(&self) -> String {
        format!("{}: {}", self.0.stage, self.0.message)
    }
}

impl Stage {
    /// Whether what fails at this stage may pass later with the same bytes: not where only the bytes are looked at.
    fn is_transient(self) -> bool {
        match self {
            Self::Inspect | Self::Header | Self::Symbol | Self::Version | Self::Layout => false,
            Self::Open
            | Self::Trust
            | Self::Copy
            | Self::Trial
            | Self::Link
            | Self::Root
            | Self::Probe
            | Self::Update
            | Self::Unload
            | Self::Host => true,
        }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            stage,
            path,
            message,
            setting,
            ..
        } = &*self.0;
        let path = Escaped(path);
        write!(f, "cannot load \"{path}\": {stage}: {message}")?;
        setting.map_or(Ok(()), |setting| write!(f, " ({setting})"))
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Trust => "trust",
            Self::Copy => "copy",
            Self::Inspect => "inspect",
            Self::Trial => "trial",
            Self::Link => "link",
            Self::Header => "header",
            Self::Symbol => "symbol",
            Self::Version => "version",
            Self::Layout => "layout",
            Self::Root => "root module",
            Self::Probe => "probe",
            Self::Update => "update",
            Self::Unload => "unload",
            Self::Host => "host",
        })
    }
}

impl Serialize for Stage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a caught panic said.
pub(crate) fn panic_text(who: &str, panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("{who} panicked: {}", text.unwrap_or("without a text"))
}

impl Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl error::Error for ParseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_stays_on_one_line() {
        let error = Error::new(
            Stage::Root,
            Path::new("a\nb.so"),
            "first\n  second\u{1b}[31m",
        );
        assert_eq!(
            error.to_string(),
            r#"cannot load "a\nb.so": root module: first second\u{1b}[31m"#
        );
        assert_eq!(error.reason(), r"root module: first second\u{1b}[31m");
        let error = Error::new(Stage::Trust, Path::new("x"), "/a  b\tc is\r\n\n odd");
        assert_eq!(error.reason(), r"trust: /a  b\tc is odd");
    }

    #[test]
    fn what_is_wrong_with_the_bytes_stays_wrong() {
        let at = |stage| Error::new(stage, Path::new("x"), "no");
        for stage in [
            Stage::Inspect,
            Stage::Header,
            Stage::Symbol,
            Stage::Version,
            Stage::Layout,
        ] {
            assert!(!at(stage).is_transient(), "{stage}");
            assert!(at(stage).transient().is_transient(), "{stage}");
        }
        for stage in [
            Stage::Open,
            Stage::Trust,
            Stage::Copy,
            Stage::Trial,
            Stage::Link,
            Stage::Root,
            Stage::Probe,
            Stage::Update,
            Stage::Unload,
            Stage::Host,
        ] {
            assert!(at(stage).is_transient(), "{stage}");
        }
    }

    #[test]
    fn what_a_terminal_would_not_show_is_escaped_everywhere() {
        let hidden = "a\u{202e}b\u{9b}\u{2028}c";
        let error = Error::new(Stage::Link, Path::new(hidden), hidden).because("one\u{2066}\ntwo");
        assert_eq!(
            error.to_string(),
            r#"cannot load "a\u{202e}b\u{9b}\u{2028}c": link: a\u{202e}b\u{9b}\u{2028}c"#
        );
        let source = error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "one\\u{2066}\ntwo");
    }

    #[test]
    fn an_error_can_go_anywhere() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
