//! Types of the fields of an [`ErrorKind`](super::ErrorKind), and how some fields are written in its text.

use std::{
    fmt::{self, Display},
    io,
    path::PathBuf,
};

use crate::{
    escape::Escaped,
    report::report,
    system::{errno, signals},
};

/// An error of the operating system, or one of hotswap's own in the same form.
///
/// Its [`Display`] is the message. For programs it is an object of `code` and `message`.
#[report]
#[text("{message}")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemError {
    #[serde(skip)]
    kind: io::ErrorKind,
    code: Option<i32>,
    message: String,
}

impl SystemError {
    /// The kind of error.
    pub fn kind(&self) -> io::ErrorKind {
        self.kind
    }

    /// The system's error number (`errno`). `None` if the error is hotswap's own.
    pub fn code(&self) -> Option<i32> {
        self.code
    }
}

impl From<io::Error> for SystemError {
    fn from(error: io::Error) -> Self {
        Self {
            kind: error.kind(),
            code: error.raw_os_error(),
            message: error.to_string(),
        }
    }
}

/// Why the policy does not allow a file, or a folder or link on the path to it.
///
/// Its [`Display`] is the predicate of a sentence whose subject is the path.
#[report(tag = "why", error)]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Distrust {
    /// It is a symbolic link, and [`Policy::follow_links`](crate::Policy::follow_links) is off. Give the path without
    /// links.
    #[text("is a symbolic link, and none is followed")]
    Link,
    /// The file lies outside of [`Policy::root`](crate::Policy::root). Put it there.
    #[text("lies outside of {root}")]
    OutsideRoot {
        /// The real path of the root.
        root: PathBuf,
    },
    /// The file system is mounted `noexec`: the administrator wants no code to run from there. Put the file on another
    /// one.
    #[text("lies on a file system that is mounted noexec")]
    Noexec,
    /// Its owner could replace it. Change the owner, or name it in
    /// [`Policy::trusted_uids`](crate::Policy::trusted_uids).
    #[text("is owned by uid {uid}, who is not trusted; `chown` it, or trust the owner")]
    Owner {
        /// The owner.
        uid: u32,
    },
    /// Its owner is the overflow user, which stands for all users that this user namespace does not know. Map the owner
    /// into the namespace, or change it.
    #[text(
        "is owned by uid {uid}, which stands for every user whom this user namespace does not know, and is not trusted \
         even if it is named; map the owner into the namespace, or `chown` it"
    )]
    UnmappedOwner {
        /// The number of that user.
        uid: u32,
    },
    /// Everybody can write to it. Remove that permission.
    #[text("is writable by everybody; `chmod o-w` it")]
    Everybody,
    /// The members of a group can write to it. Remove that permission, or name the group in
    /// [`Policy::trusted_gids`](crate::Policy::trusted_gids).
    #[text("is writable by group {gid}[ ({name})]; `chmod g-w` it, or trust the group")]
    Group {
        /// The group.
        gid: u32,
        /// Its name, if the system knows it.
        name: Option<String>,
    },
    /// The members of the overflow group can write to it, which stands for all groups that this user namespace does not
    /// know. Map the group into the namespace, or remove the permission.
    #[text(
        "is writable by group {gid}, which stands for every group that this user namespace does not know, and is not \
         trusted even if it is named; map the group into the namespace, or `chmod g-w` it"
    )]
    UnmappedGroup {
        /// The number of that group.
        gid: u32,
    },
    /// It has an access control list, which may let others write to it; hotswap does not read the list. Remove it.
    #[text("may be writable by others, as it has an access control list; `setfacl -b` it")]
    Acl,
}

impl Distrust {
    /// The field of the policy that decides it, as in [`Error::setting`](super::Error::setting).
    pub(super) fn setting(&self) -> Option<&'static str> {
        match self {
            Self::Link => Some("Policy::follow_links"),
            Self::OutsideRoot { .. } => Some("Policy::root"),
            Self::Owner { .. } | Self::UnmappedOwner { .. } => Some("Policy::trusted_uids"),
            Self::Group { .. } | Self::UnmappedGroup { .. } => Some("Policy::trusted_gids"),
            Self::Noexec | Self::Everybody | Self::Acl => None,
        }
    }
}

/// Writes which image is being unloaded.
#[derive(Clone, Copy)]
pub(super) struct UnloadingAt {
    pub(super) generation: Option<u64>,
    pub(super) is_refused: bool,
}

impl Display for UnloadingAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.generation, self.is_refused) {
            (Some(number), _) => write!(f, "; the thread that unloads is at generation {number}"),
            (None, true) => f.write_str("; the thread that unloads is at a refused candidate"),
            (None, false) => Ok(()),
        }
    }
}

/// Writes why opening a file has failed. Frequent errors have a shorter text than the system's.
pub(super) struct OpenError<'a>(pub(super) &'a SystemError);

impl Display for OpenError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.code {
            Some(errno::ELOOP) => f.write_str("the symbolic links lead in a circle"),
            Some(errno::ENOTDIR) => f.write_str("a part of the path is a file, and not a folder"),
            Some(errno::EACCES) => f.write_str("permission denied"),
            _ => write!(f, "{}", self.0),
        }
    }
}

/// Writes which functions a file exports.
pub(super) struct Exported<'a>(pub(super) &'a [String]);

impl Display for Exported<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("it exports no functions with `#[export]`"),
            named => write!(f, "it exports `{}`", named.join("`, `")),
        }
    }
}

/// Writes which library needs another one.
pub(super) struct By<'a>(pub(super) &'a Option<String>);

impl Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(library) = self.0 else { return Ok(()) };
        write!(f, " by way of {}", Escaped(library))
    }
}

/// Writes how the process of a trial has ended.
pub(super) struct Death {
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) has_begun: bool,
    pub(super) has_finished: bool,
}

impl Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.exit_code, self.signal) {
            (Some(code), _) => write!(f, "the process ended with exit code {code}")?,
            (None, Some(signal)) => write!(f, "killed by {}", SignalName(signal))?,
            (None, None) => f.write_str(
                "the process ended (how is not known: this host does not wait for its children)",
            )?,
        }
        if self.has_finished {
            f.write_str(" when all was done")?;
        }
        f.write_str(", in a trial")?;
        if !self.has_begun {
            f.write_str(", before `Trial::at_top_of_main`")?;
        }
        Ok(())
    }
}

/// Writes which signal has stopped the process of a trial, if one has.
pub(super) struct StoppedBy(pub(super) Option<i32>);

impl Display for StoppedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signal = self.0.map(SignalName);
        signal.map_or(Ok(()), |signal| write!(f, ", stopped by {signal}"))
    }
}

struct SignalName(i32);

impl Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match signals::name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}
