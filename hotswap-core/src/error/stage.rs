//! [`Stage`]: how far a candidate came.

use std::fmt::{self, Display};

use serde::{Serialize, Serializer};

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

impl Stage {
    /// Whether what fails at this stage may pass later with the same bytes: not where only the bytes are looked at.
    pub(super) fn is_transient(self) -> bool {
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
