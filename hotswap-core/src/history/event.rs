//! What happens at a swap point.

use std::{
    fmt::{self, Display},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use super::{Phases, services::ServiceChange};
use crate::{
    comparison::Share,
    digest::Sha256,
    error::{Error, ErrorKind, Stage},
    holder::{Holder, Thread},
    image::{HeapLeft, OldLibrary, PinReason, STATIC_TLS_TUNABLE},
    report::{Bytes, RetiredPlugins, report},
};

/// Something that happened at a swap point: what, when, and to which plugin.
///
/// Its [`Display`] is one line, whose first word is the [name](EventKind::name) of its kind; of a refused canary it is
/// `abandoned`:
///
/// ```text
/// accepted generation 2: target/debug/libplugin.so
/// accepted generation 3: plugins/current.so -> /srv/plugins/v42.so
/// accepted generation 4: plugins/current.so (generation 3 with another configuration)
/// refused plugin.so: open: no such file; generation 2 stays live
/// canary generation 3 gets 10% of the calls: plugin.so
/// abandoned generation 3 plugin.so: canary: 11 faults in 60 calls, …; generation 2 stays live
/// standby generation 1: while generation 2 is on probation
/// rolled-back generation 2: generation 1 is live again; 1 fault on probation, the last: no answer
/// held generation 1: a call on thread 4711 (worker-3)
/// hung-call generation 2: a call on thread 4711 (worker-3), for 10.2s
/// hook-panicked generation 1: panicked at src/lib.rs:7:5: no answer
/// unloaded generation 1 after 1.2ms
/// pinned generation 1: it is linked with `-z nodelete`, so that the system never unmaps it
/// service generation 1: "producer" started
/// retained 512 retired plugins that are still mapped, 3.5 GB; no more are accepted at 1024, or at 16.0 GB
/// serial-not-kept generation 5: host: the serial number 42 cannot be kept in serial: … (Policy::serial_file)
/// static-tls generation 4: it needs 400 bytes of static TLS, which glibc rarely gives back: …
/// old-library generation 5: the old libdep.so still answers: /srv/libdep.so was replaced after it was loaded
/// missed 7 events: they were not received in time
/// ```
///
/// As [`serde::Serialize`] it is one object: `event` is the name of the kind, and the kind's fields stand beside
/// those of this type. For [`tracing`] it is an event of the target `hotswap` with the same name and fields; a field
/// that is an object for programs is a text there. Its level is `WARN` if an operator may have to look into it,
/// otherwise `INFO`.
#[report]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// When it happened.
    pub at: SystemTime,
    /// The generation that it happened to, if any.
    pub generation: Option<u64>,
    /// The version of that plugin's package, if it has `unloadable!`.
    pub version: Option<String>,
    /// The linker's build id of that plugin in hexadecimal, if it has one.
    pub build_id: Option<String>,
    /// The digest of that plugin's bytes, if it is known ([`GenerationInfo::sha256`](crate::GenerationInfo::sha256)).
    pub sha256: Option<Sha256>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
///
/// Its [`Display`] is the text after the generation in the line of an [`Event`].
#[report(tag = "event", event)]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// A candidate was published: new calls reach it.
    #[text(": {path}{}[ (generation {configures} with another configuration)]", Link(*followed_link, real_path))]
    #[non_exhaustive]
    Accepted {
        /// The path that the host gave.
        path: PathBuf,
        /// The file that the path led to when it was read.
        real_path: PathBuf,
        /// Whether the path led to another file through a symbolic link.
        followed_link: bool,
        /// The generation that was live, if this one has the same bytes and only another configuration
        /// ([`Hotswap::swap_config`](crate::Hotswap::swap_config)). `None`: the file was read.
        configures: Option<u64>,
        /// How long each phase took.
        phases: Phases,
    },
    /// The generation that was just accepted needs static TLS. glibc has about 1.6 KB of it for all plugins of a
    /// process, unless the tunable `glibc.rtld.optional_static_tls` says otherwise, and rarely gets any back when a
    /// plugin is unloaded. After a few such plugins, `dlopen` fails.
    #[text(
        ": it needs {bytes} bytes of static TLS, which glibc rarely gives back: after a few such plugins the next one \
         is refused; {STATIC_TLS_TUNABLE}"
    )]
    #[warn_if(true)]
    #[non_exhaustive]
    StaticTls {
        /// The bytes that it needs for each thread.
        bytes: u64,
    },
    /// The generation that was just accepted needs a library that was mapped already, from another file than a search
    /// finds now. The mapped library is used until no plugin needs it any more.
    #[text(": {library}")]
    #[warn_if(true)]
    #[non_exhaustive]
    OldLibrary {
        /// The library, and both files.
        #[serde(flatten)]
        library: OldLibrary,
    },
    /// A candidate was not published; nothing has changed.
    #[text(" {path}: {reason}[ ({setting})][; generation {live} stays live]")]
    #[warn_if(true)]
    #[non_exhaustive]
    Refused {
        /// The path that the host gave.
        path: PathBuf,
        /// The stage at which it was refused.
        stage: Stage,
        /// Why it was refused. For programs, `kind` is its [name](ErrorKind::name), and `data` is an object of its
        /// fields.
        #[serde(flatten)]
        kind: ErrorKind,
        /// The stage and the reason, in one line, without the path ([`Error::reason`]).
        reason: String,
        /// The name of the setting that decides it ([`Error::setting`]).
        setting: Option<String>,
        /// The generation that stays live; none if the candidate was to be the first.
        live: Option<u64>,
    },
    /// A candidate gets a share of the calls, beside the live generation: a canary has begun, or its share was changed.
    #[text(" gets {share} of the calls: {path}")]
    #[non_exhaustive]
    Canary {
        /// The path that the host gave.
        path: PathBuf,
        /// The share.
        share: Share,
    },
    /// This generation was live before the current one. It stays mapped while that one is on probation, so that a
    /// rollback can make it live again.
    #[text(": while generation {successor} is on probation")]
    #[non_exhaustive]
    Standby {
        /// The generation that is on probation.
        successor: u64,
    },
    /// A rollback has made an earlier generation live again, in place of this one.
    #[text(": {}[; {why}]", Back(*live, *loaded_again))]
    #[warn_if(true)]
    #[non_exhaustive]
    RolledBack {
        /// The generation that is live now.
        live: u64,
        /// The generation whose bytes were loaded again. `None`: the earlier generation was still mapped.
        loaded_again: Option<u64>,
        /// The cause, if hotswap rolled back without being asked.
        why: Option<String>,
    },
    /// A retired generation is still in use after the drain deadline. It stays mapped, and keeps draining.
    #[text(": {by}")]
    #[warn_if(true)]
    #[non_exhaustive]
    Held {
        /// Who uses it.
        by: Vec<Holder>,
    },
    /// A call on the live generation has not returned for longer than
    /// [`Settings::hung_call_timeout`](crate::Settings::hung_call_timeout). Sent once for each call.
    #[text(": {} on {}, for {age:.1?}", if *is_poll { "a poll" } else { "a call" }, Thread(*thread, name.0))]
    #[warn_if(true)]
    #[non_exhaustive]
    HungCall {
        /// The system's number of the thread.
        thread: u32,
        /// The name of the thread; empty if the thread has ended meanwhile.
        name: String,
        /// Whether it is a poll of a future ([`Hotswap::call_async`](crate::Hotswap::call_async)).
        is_poll: bool,
        /// The time since it was first seen. It began before that, by less than the pause between two looks.
        age: Duration,
    },
    /// The hook that a plugin runs before it is unloaded has panicked. The plugin is unloaded all the same.
    #[text(": {panic}")]
    #[warn_if(true)]
    #[non_exhaustive]
    HookPanicked {
        /// The message of the panic. (Not `message`: for `tracing`, that is the name of the event.)
        panic: String,
    },
    /// A retired generation is gone from the address space; hotswap has verified that.
    #[text(" after {after:.1?}[; {heap}]")]
    #[non_exhaustive]
    Unloaded {
        /// The time since it was retired.
        after: Duration,
        /// What it left on the heap, if its allocator counts (`hotswap_unload::CountingAllocator`).
        heap: Option<HeapLeft>,
    },
    /// A retired generation is not in use any more, but stays mapped: the system keeps it, or hotswap did not close
    /// it because something may still call it.
    #[text(": {reason}")]
    #[warn_if(true)]
    #[non_exhaustive]
    Pinned {
        /// Why, as far as that is known.
        reason: PinReason,
    },
    /// Half of what may be retired and still mapped is reached ([`Limits::retired_images_max`],
    /// [`Limits::retired_bytes_max`]). Sent again only after it was less than a quarter meanwhile.
    ///
    /// [`Limits::retired_images_max`]: crate::Limits::retired_images_max
    /// [`Limits::retired_bytes_max`]: crate::Limits::retired_bytes_max
    #[text(
        " {} still mapped, {}; no more are accepted at {images_max}, or at {}",
        RetiredPlugins(*images), Bytes(*bytes), Bytes(*bytes_max)
    )]
    #[warn_if(true)]
    #[non_exhaustive]
    Retained {
        /// The number of images: of generations, of refused candidates, and of those that dropped swap points and
        /// loaders have left behind.
        images: usize,
        /// The total size of their copies, in bytes.
        bytes: u64,
        /// Candidates are refused at this many images.
        images_max: usize,
        /// Candidates are refused at this many bytes of copies.
        bytes_max: u64,
    },
    /// The serial number of a prepared generation could not be saved in
    /// [`Policy::serial_file`](crate::Policy::serial_file) when it was published. An older plugin may be accepted
    /// later.
    #[text(": {reason}[ ({setting})]")]
    #[warn_if(true)]
    #[non_exhaustive]
    SerialNotKept {
        /// Why it could not be saved, in one line.
        reason: String,
        /// The name of the setting that names the file ([`Error::setting`]).
        setting: Option<String>,
    },
    /// Something happened to a service that runs code of this generation.
    #[text(": {name:?} {change}")]
    #[warn_if(change.is_bad())]
    #[non_exhaustive]
    Service {
        /// The name of the service.
        name: String,
        /// What happened.
        #[serde(flatten)]
        change: ServiceChange,
    },
    /// This receiver lost events, because it had not received the earlier ones in time. Calls and swaps never wait
    /// for a receiver.
    #[text(" {events} events: they were not received in time")]
    #[warn_if(true)]
    #[non_exhaustive]
    Missed {
        /// The number of lost events.
        events: u64,
    },
}

impl Event {
    /// An event that happens now, and to no generation.
    pub(super) fn now(kind: EventKind) -> Self {
        Self {
            at: SystemTime::now(),
            generation: None,
            version: None,
            build_id: None,
            sha256: None,
            kind,
        }
    }
}

impl EventKind {
    pub(super) fn refused(error: &Error, live: Option<u64>) -> Self {
        Self::Refused {
            path: error.path().to_owned(),
            stage: error.stage(),
            kind: error.kind().clone(),
            reason: error.reason(),
            setting: error.setting().map(str::to_owned),
            live,
        }
    }
}

/// An [`EventKind::Refused`] without a live generation, as when the first candidate is refused.
impl From<&Error> for Event {
    fn from(error: &Error) -> Self {
        Self::now(EventKind::refused(error, None))
    }
}

impl Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_abandoned = matches!(
            self.kind,
            EventKind::Refused {
                kind: ErrorKind::Abandoned { .. },
                ..
            }
        );
        f.write_str(if is_abandoned {
            "abandoned"
        } else {
            self.kind.name()
        })?;
        if let Some(generation) = self.generation {
            write!(f, " generation {generation}")?;
        }
        self.kind.fmt(f)
    }
}

/// Writes where a link leads.
struct Link<T>(bool, T);

impl<T: Display> Display for Link<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 {
            write!(f, " -> {}", self.1)?;
        }
        Ok(())
    }
}

/// Writes which generation is live again, and under which number.
struct Back(u64, Option<u64>);

impl Display for Back {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self(live, None) => write!(f, "generation {live} is live again"),
            Self(live, Some(earlier)) => {
                write!(
                    f,
                    "generation {earlier} is live again, as generation {live}"
                )
            }
        }
    }
}
