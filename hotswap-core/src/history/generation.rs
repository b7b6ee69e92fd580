//! Entries of the list of generations.

use std::{
    fmt::{self, Display},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use crate::{
    comparison::Share,
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
    /// Finding the file, checking its owners, reading it and making the private copy.
    pub copy: Duration,
    /// Comparing the bytes with the pins and the signature, if the policy asks for any, and inspecting them.
    pub inspect: Duration,
    /// Loading, probing and unloading it in a child process, if there is a trial.
    pub trial: Duration,
    /// `dlopen`: mapping, linking, initialising.
    pub link: Duration,
    /// Header, version and layout check, and the root module's constructor.
    pub check: Duration,
    /// The host's probe.
    pub probe: Duration,
    /// The candidate's own update, if services are turned on.
    pub update: Duration,
    /// Making it live.
    pub publish: Duration,
}

impl Phases {
    /// The time from opening the file until calls reached the new generation.
    pub fn total(&self) -> Duration {
        self.named().iter().map(|(_, duration)| duration).sum()
    }

    /// Each phase, with its name.
    pub(super) fn named(&self) -> [(&'static str, Duration); 8] {
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
        [
            ("copy", copy),
            ("inspect", inspect),
            ("trial", trial),
            ("link", link),
            ("check", check),
            ("probe", probe),
            ("update", update),
            ("publish", publish),
        ]
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
    "generation {number} {state}: {path}[ (generation {loaded_again} again)][ (serial {serial})]\
     [ ({unloadable_problem})][ ({static_tls_bytes} bytes of static TLS)]{}",
    Each(old_libraries.0)
)]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GenerationInfo {
    /// Counted from 1 in the order of publishing; never used twice.
    pub number: u64,
    /// The path that the host gave.
    pub path: PathBuf,
    /// The file that the path led to when it was read.
    pub real_path: PathBuf,
    /// The file's size.
    pub file_bytes: u64,
    /// The linker's build id in hexadecimal, if the file has one: two builds with the same one are the same.
    pub build_id: Option<String>,
    /// The digest of its bytes, if something asked for it: pins ([`Policy::sha256`](crate::Policy::sha256)),
    /// [`Settings::record_sha256`](crate::Settings::record_sha256), or [`Hotswap::sha256`](crate::Hotswap::sha256).
    pub sha256: Option<Sha256>,
    /// The name of the plugin's package, if it has `unloadable!`.
    pub name: Option<String>,
    /// The version of the plugin's package, if it has `unloadable!`.
    pub version: Option<String>,
    /// When it was published.
    pub published: SystemTime,
    /// The generation whose bytes a rollback loaded again as this one.
    pub loaded_again: Option<u64>,
    /// Why hotswap treats it as a plugin without `unloadable!` although it has one; it may then stay mapped more
    /// often.
    pub unloadable_problem: Option<String>,
    /// The bytes of static TLS that it needs, if it needs any
    /// ([`EventKind::StaticTls`](crate::EventKind::StaticTls)).
    pub static_tls_bytes: Option<u64>,
    /// The serial number in its signature, if the policy asks for one and there is one
    /// ([`Policy::serial_min`](crate::Policy::serial_min)).
    pub serial: Option<u64>,
    /// The time from which its file is refused, if its signature has one. A published generation stays live.
    pub expires: Option<SystemTime>,
    /// Libraries that it uses although a search would now find other files
    /// ([`EventKind::OldLibrary`](crate::EventKind::OldLibrary)).
    pub old_libraries: Vec<OldLibrary>,
    /// Its state.
    #[serde(flatten)]
    pub state: State,
}

/// Writes each item in parentheses, after what is before it.
struct Each<'a, T>(&'a Vec<T>);

impl<T: Display> Display for Each<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|it| write!(f, " ({it})"))
    }
}

/// The state of a generation.
#[report(tag = "state")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// New calls reach it.
    #[text("live")]
    Live,
    /// A share of the calls reaches it, beside the live generation ([`Canary`](crate::canary::Canary)).
    #[text("canary, {share} of the calls")]
    Canary {
        /// The share.
        share: Share,
    },
    /// New calls reach its successor, which is on probation. It stays mapped, so that a rollback can make it live
    /// again.
    #[text("standby")]
    Standby,
    /// New calls reach another generation, and old calls may still be inside this one. A
    /// [`rollback`](crate::Hotswap::rollback) may make it live again until it is drained.
    #[text("draining{}{held_by}", if held_by.0.is_empty() { "" } else { ", held by " })]
    Draining {
        /// Who held it at the last look.
        held_by: Vec<Holder>,
    },
    /// It is gone from the address space.
    #[text("unloaded")]
    Unloaded,
    /// Nobody uses it, but it is still mapped.
    #[text("pinned, {reason}")]
    Pinned {
        /// Why, as far as that is known.
        reason: PinReason,
    },
}

impl State {
    /// Draining, with nothing known of its holders yet.
    pub(crate) fn draining() -> Self {
        Self::Draining {
            held_by: Vec::new(),
        }
    }

    /// Whether the generation is retired, and still mapped.
    pub(crate) fn is_retained(&self) -> bool {
        matches!(self, Self::Draining { .. } | Self::Pinned { .. })
    }

    /// Whether there is nothing to wait for any more. (A pinned generation may still be unloaded later.)
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Unloaded | Self::Pinned { .. })
    }
}
