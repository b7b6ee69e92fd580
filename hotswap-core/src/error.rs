//! Why a candidate was refused.
//!
//! An [`Error`] is data: a path and an [`ErrorKind`], which has what was expected and what was found. The kind
//! determines the stage, the setting, whether the error is transient, the text, and the form for programs.
//!
//! An error owns its data and has no pointer into any image, because it is read long after its image was unloaded.

mod stage;

mod details;
mod kind;

use std::{
    error,
    fmt::{self, Display},
    io,
    path::{Path, PathBuf},
};

pub use self::{
    details::{Distrust, SystemError},
    kind::{ErrorKind, SignatureProblem},
    stage::Stage,
};
use crate::escape::{Escaped, printable};

/// Why a candidate was refused: at which [`Stage`], which path, and what was wrong ([`kind`](Self::kind)).
///
/// [`Display`] is one line without a full stop, for example `cannot load "plugin.so": open: no such file or directory`.
/// [`reason`](Self::reason) is the same without the path and without the [`setting`](Self::setting) at its end.
/// [`source`](error::Error::source) has the details if there are more, such as the whole report of a layout check.
/// Match on the kind, not on text:
///
/// ```no_run
/// # use hotswap_core::{ErrorKind, Hotswap};
/// # use hotswap_types::Plugin;
/// # fn deploy(plugin: &Hotswap<dyn Plugin>) {
/// match plugin.swap("./plugins/libplugin.so").map_err(|error| error.kind().clone()) {
///     Ok(swapped) => println!("generation {} is live", swapped.generation),
///     Err(ErrorKind::NotFound { .. }) => println!("nothing was deployed yet"),
///     Err(ErrorKind::Expired { at, .. }) => println!("it must be signed again: expired at {at:?}"),
///     Err(other) => println!("{}: {other}", other.name()),
/// }
/// # }
/// ```
/// [`Debug`](fmt::Debug) is the same line, because that is what a `main` prints that returns the error.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    path: PathBuf,
    kind: ErrorKind,
    /// The details, if the kind is only a summary.
    report: Option<Report>,
    kept_libraries: Vec<PathBuf>,
}

/// Lines of text, escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Report(String);

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(path: &Path, kind: ErrorKind) -> Self {
        Self(Box::new(Inner {
            path: path.to_owned(),
            kind,
            report: None,
            kept_libraries: Vec::new(),
        }))
    }

    /// A thread that the candidate at `path` needs cannot be started.
    pub(crate) fn no_thread(path: &Path, error: io::Error) -> Self {
        Self::new(path, ErrorKind::no_thread(error))
    }

    /// Adds the details, in lines of their own.
    pub(crate) fn because(mut self, report: &str) -> Self {
        self.0.report = Some(Report(printable(report)));
        self
    }

    /// Adds libraries that were loaded for the candidate and stay mapped.
    pub(crate) fn keeping(mut self, libraries: Vec<PathBuf>) -> Self {
        self.0.kept_libraries = libraries;
        self
    }

    /// How far the candidate came.
    pub fn stage(&self) -> Stage {
        self.0.kind.stage()
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What was wrong, as data to match on.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Libraries that were loaded for the candidate and stay mapped, because they may run threads or be called back.
    /// Empty for most.
    pub fn kept_libraries(&self) -> &[PathBuf] {
        &self.0.kept_libraries
    }

    /// Whether the same bytes may be accepted later, because the reason is not in the bytes alone: it is in their
    /// surroundings, or in what their code met when it ran. [`watch`](crate::Hotswap::watch) then tries them again.
    pub fn is_transient(&self) -> bool {
        self.0.kind.is_transient()
    }

    /// What was wrong, without stage and path.
    pub(crate) fn message(&self) -> String {
        let Inner {
            kind,
            kept_libraries,
            ..
        } = &*self.0;
        let mut message = kind.to_string();
        for (index, library) in kept_libraries.iter().enumerate() {
            message.push_str(match index {
                0 => "; libraries that stay mapped, as they may run threads or be called back: ",
                _ => ", ",
            });
            message.push_str(&Escaped(library).to_string());
        }
        message
    }

    /// The name of the field that decides it, such as `Policy::root`, if there is one. A host can translate it into the
    /// name of its own option.
    pub fn setting(&self) -> Option<&'static str> {
        self.0.kind.setting()
    }

    /// The stage and what was wrong there, in one line, without the path and the [`setting`](Self::setting).
    pub fn reason(&self) -> String {
        format!("{}: {}", self.stage(), self.message())
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind() {
            ErrorKind::RefType { .. } => "cannot use a value with",
            ErrorKind::Abandoned { .. } => "abandoned",
            _ => "cannot load",
        };
        let (path, reason) = (Escaped(self.path()), self.reason());
        write!(f, "{what} \"{path}\": {reason}")?;
        self.setting()
            .map_or(Ok(()), |setting| write!(f, " ({setting})"))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.report.as_ref().map(|report| report as _)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for Report {}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(path: &str, message: &str) -> Error {
        Error::new(Path::new(path), ErrorKind::link(message))
    }

    #[test]
    fn text_from_elsewhere_stays_on_one_line() {
        let error = link("a\nb.so", "first\n  second\u{1b}[31m");
        assert_eq!(
            error.to_string(),
            r#"cannot load "a\nb.so": link: first second\u{1b}[31m"#
        );
        assert_eq!(error.reason(), r"link: first second\u{1b}[31m");
        let error = link("x", "/a  b\tc is\r\n\n odd");
        assert_eq!(error.reason(), r"link: /a  b\tc is odd");
    }

    #[test]
    fn what_is_wrong_with_the_bytes_stays_wrong() {
        let is_transient = |stage, signal| {
            let kind = ErrorKind::Died {
                stage,
                exit_code: None,
                signal,
                has_begun: true,
                has_finished: false,
                said: None,
            };
            Error::new(Path::new("x"), kind).is_transient()
        };
        for stage in [
            Stage::Inspect,
            Stage::Header,
            Stage::Symbol,
            Stage::Version,
            Stage::Layout,
        ] {
            assert!(!is_transient(stage, Some(libc::SIGSEGV)), "{stage}");
            assert!(is_transient(stage, Some(libc::SIGKILL)), "{stage}");
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
            assert!(is_transient(stage, Some(libc::SIGSEGV)), "{stage}");
        }
    }

    #[test]
    fn what_a_terminal_would_not_show_is_escaped_everywhere() {
        let hidden = "a\u{202e}b\u{9b}\u{2028}c";
        let error = link(hidden, hidden).because("one\u{2066}\ntwo");
        assert_eq!(
            error.to_string(),
            r#"cannot load "a\u{202e}b\u{9b}\u{2028}c": link: a\u{202e}b\u{9b}\u{2028}c"#
        );
        let source = error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "one\\u{2066}\ntwo");
    }

    #[test]
    fn the_data_is_there_for_programs() {
        let cause = ErrorKind::NotTrusted {
            path: PathBuf::from("/srv"),
            why: Distrust::Group {
                gid: 7,
                name: Some("staff".to_owned()),
            },
        };
        let kind = ErrorKind::Library {
            name: "liba.so".to_owned(),
            by: Some("libb.so".to_owned()),
            path: None,
            cause: Box::new(cause),
        };
        let error = Error::new(Path::new("x"), kind);
        assert_eq!(error.stage(), Stage::Trust);
        assert_eq!(error.setting(), Some("Policy::trusted_gids"));
        assert_eq!(error.kind().name(), "library");
        assert_eq!(
            error.to_string(),
            "cannot load \"x\": trust: needs liba.so by way of libb.so: /srv is writable by group 7 (staff); \
             `chmod g-w` it, or trust the group (Policy::trusted_gids)"
        );
        assert_eq!(
            serde_json::to_value(error.kind()).unwrap(),
            serde_json::json!({"kind": "library", "data": {
                "name": "liba.so", "by": "libb.so", "path": null,
                "cause": {"kind": "not_trusted", "data": {"path": "/srv", "why": "group", "gid": 7, "name": "staff"}},
            }})
        );
        let denied = ErrorKind::cannot_open(io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(denied.to_string(), "permission denied");
        assert_eq!(
            serde_json::to_value(&denied).unwrap()["data"]["error"]["code"],
            libc::EACCES
        );
    }

    /// What a `main` prints that returns it, also in a box.
    #[test]
    fn debug_is_for_people() {
        let error = link("a.so", "no such symbol").because("more");
        let line = r#"cannot load "a.so": link: no such symbol"#;
        assert_eq!(format!("{error:?}"), line);
        assert_eq!(format!("{error:#?}"), line);
        let boxed: Box<dyn error::Error> = error.into();
        assert_eq!(format!("{boxed:?}"), line);
    }

    #[test]
    fn an_error_can_go_anywhere() {
        fn check<T: Clone + Send + Sync + 'static>() {}
        check::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
