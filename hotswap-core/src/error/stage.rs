//! [`Stage`]: the stages of loading a candidate.

use std::fmt::{self, Display};

use serde::{Serialize, Serializer};

/// How far a candidate came before it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Finding and opening the file.
    Open,
    /// Deciding whether to trust it: who could have written it, and whether its hash and signature are the expected
    /// ones. See [`Policy`](crate::Policy).
    Trust,
    /// Making the private copy whose bytes are inspected and loaded.
    Copy,
    /// Reading the copy's structure, before any of its code can run.
    Inspect,
    /// Starting a [`Trial`](crate::Trial). An error inside a trial has the stage at which it occurs.
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
    /// Running its constructor.
    Root,
    /// Running the host's own check ([`Settings::probe`](crate::Settings::probe)).
    Probe,
    /// Running its update, which starts services and creates values, if services are turned on.
    Update,
    /// Being called beside the live generation ([`Canary`](crate::canary::Canary)).
    Canary,
    /// Unloading it, at the end of a trial.
    Unload,
    /// Getting what the host itself needs, such as a thread.
    Host,
}

impl Stage {
    /// Whether a failure at this stage may be transient. It is not if the stage depends only on the bytes.
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
            | Self::Canary
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
            Self::Canary => "canary",
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
