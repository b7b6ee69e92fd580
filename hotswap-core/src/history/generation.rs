//! Entries of the list of generations.

use std::{
    fmt::{self, Display},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use crate::{
    digest::Sha256,
    holder::Holder,
    image::{OldLibrary, PinReason},
    report::report,
};

/// How long the steps of a swap took.
///
/// Its [`Display`] is the [total](Self::total).
#[report]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Phases {
    /// Finding the file, looking at its owners, reading it and making the private copy.
    pub copy: Duration,
    /// Comparing the bytes with the pins and the signature, if any are asked for, and inspecting them.
    pub inspect: Duration,
    /// Loading, asking and unloading it in a child process, if there is a trial.
    pub trial: Duration,
    /// `dlopen`: mapping, linking, initialising.
    pub link: Duration,
    /// Header, version and layout check, and the root module's constructor.
    pub check: Duration,
    /// The host's probe.
    pub probe: Duration,
    /// The candidate's own update, if services are turned on.
    pub update: Duration,
    /// Making it the generation that calls reach.
    pub publish: Duration,
}

impl Phases {
    /// From the file to the generation that calls reach.
    pub fn total(&self) -> Duration {
        let Self {
            copy,
            inspect,
            trial,
            link,
            check,
            probe,
            update,
            publish,
        } = *self;
        copy + inspect + trial + link + check + probe + update + publish
    }
}

impl Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1?}", self.total())
    }
}

/// One entry of the list of generations.
///
/// Its [`Display`] is one line.
#[report]
#[text(
    "generation {number} {state}: {path}[ (generation {loaded_again} again)][ (serial {serial})][ ({unloadable_problem})]\
     [ ({static_tls_bytes} bytes of static TLS)]{}",
    Each(old_libraries.0)
)]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GenerationInfo {
    /// Counted from 1 in the order of publishing; never used twice.
    pub number: u64,
    /// The path as it was given.
    pub path: PathBuf,
    /// The file that the path led to when it was read.
    pub real_path: PathBuf,
    /// The file's size.
    pub file_bytes: u64,
    /// The linker's build id in hexadecimal, if the file has one: two builds with the same one are the same.
    pub build_id: Option<String>,
    /// What its bytes are, if that was asked for: by pins ([`Policy::sha256`](crate::Policy::sha256)), by
    /// [`Settings::record_sha256`](crate::Settings::record_sha256), or with [`Hotswap::sha256`](crate::Hotswap::sha256).
    pub sha256: Option<Sha256>,
    /// The name of the plugin's package, if it has `unloadable!`.
    pub name: Option<String>,
    /// The version of the plugin's package, if it has `unloadable!`.
    pub version: Option<String>,
    /// When it was published.
    pub published: SystemTime,
    /// The generation whose bytes it was loaded from again, by a rollback.
    pub loaded_again: Option<u64>,
    /// Why it is treated as a plugin without `unloadable!` although it has one; then it may unload less well.
    pub unloadable_problem: Option<String>,
    /// How many bytes of static TLS it needs, if it needs any ([`EventKind::StaticTls`](crate::EventKind::StaticTls)).
    pub static_tls_bytes: Option<u64>,
    /// The serial number in its signature, if one is asked for and has a number
    /// ([`Policy::serial_min`](crate::Policy::serial_min)).
    pub serial: Option<u64>,
    /// From when on its file is not accepted any more, if its signature says so. A generation that is published stays.
    pub expires: Option<SystemTime>,
    /// The libraries of which it has older ones than would be found now
    /// ([`EventKind::OldLibrary`](crate::EventKind::OldLibrary)).
    pub old_libraries: Vec<OldLibrary>,
    /// What has become of it.
    #[serde(flatten)]
    pub state: State,
}

/// Each in parentheses, behind what is before it.
struct Each<'a, T>(&'a Vec<T>);

impl<T: Display> Display for Each<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|it| write!(f, " ({it})"))
    }
}

/// What has become of a generation.
#[report(tag = "state")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// New calls reach it.
    #[text("live")]
    Live,
    /// New calls reach its successor, which is on probation; it stays mapped to take over again.
    #[text("standby")]
    Standby,
    /// New calls reach another one, and old ones may still be inside. A [`rollback`](crate::Hotswap::rollback) may
    /// make it live again until it is drained.
    #[text("draining{}{held_by}", if held_by.0.is_empty() { "" } else { ", held by " })]
    Draining {
        /// Who was, at the last look.
        held_by: Vec<Holder>,
    },
    /// It has left the address space.
    #[text("unloaded")]
    Unloaded,
    /// Nobody uses it, and the system keeps it mapped.
    #[text("pinned, {reason}")]
    Pinned {
        /// As far as that is known.
        reason: PinReason,
    },
}

impl State {
    /// Without a look at who uses it.
    pub(crate) fn draining() -> Self {
        Self::Draining {
            held_by: Vec::new(),
        }
    }

    /// Whether nothing more is waited for. (A pinned generation may still leave later.)
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Unloaded | Self::Pinned { .. })
    }
}
