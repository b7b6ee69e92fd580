//! What happens at a swap point.

use std::{
    fmt::{self, Display},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use super::{Phases, services::ServiceNews};
use crate::{
    digest::Sha256,
    error::{Error, ErrorKind, Stage},
    holder::Holder,
    image::{HeapLeft, OldLibrary, PinReason, STATIC_TLS_TUNABLE},
    report::{Bytes, RetiredPlugins, report},
};

/// Something that happened at a swap point, and when, and to which plugin.
///
/// Its [`Display`] is one line, whose first word is the [name](EventKind::name) of its kind:
///
/// ```text
/// accepted generation 2: target/debug/libplugin.so
/// accepted generation 3: plugins/current.so -> /srv/plugins/v42.so
/// refused plugin.so: open: no such file; generation 2 stays live
/// standby generation 1: while generation 2 is on probation
/// rolled-back generation 2: generation 1 is live again; 1 fault on probation, the last: no answer
/// held generation 1: a call on thread 4711 (worker-3)
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
/// As [`serde::Serialize`] it is one object: `event` is the name of the kind, and the fields of the kind are beside those of this
/// type. For [`tracing`] it is an event of the target `hotswap` with the same name and fields, where a field that is
/// an object for programs is a text; `WARN` if somebody may want to look into it, otherwise `INFO`.
#[report]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// When it happened.
    pub at: SystemTime,
    /// The generation that it happened to, if it happened to one.
    pub generation: Option<u64>,
    /// The version of that plugin's package, if it has `unloadable!`.
    pub version: Option<String>,
    /// The linker's build id of that plugin in hexadecimal, if it has one.
    pub build_id: Option<String>,
    /// What the bytes of that plugin are, if that was asked for
    /// ([`GenerationInfo::sha256`](crate::GenerationInfo::sha256)).
    pub sha256: Option<Sha256>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
///
/// Its [`Display`] is what follows the generation in the line of an [`Event`].
#[report(tag = "event", event)]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// A candidate was published: new calls reach it.
    #[text(": {path}{}", Link(*followed_link, real_path))]
    #[non_exhaustive]
    Accepted {
        /// The path as it was given.
        path: PathBuf,
        /// The file that the path led to when it was read.
        real_path: PathBuf,
        /// Whether it led there by way of a symbolic link.
        followed_link: bool,
        /// How long it took.
        phases: Phases,
    },
    /// The generation that was accepted just before needs static TLS. glibc has about 1.6 KB of it for all plugins
    /// of a process, unless the tunable `glibc.rtld.optional_static_tls` says otherwise, and rarely gets any back
    /// when a plugin is unloaded: after a few such plugins `dlopen` fails.
    #[text(
        ": it needs {bytes} bytes of static TLS, which glibc rarely gives back: after a few such plugins the next one is \
         refused; {STATIC_TLS_TUNABLE}"
    )]
    #[warn_if(true)]
    #[non_exhaustive]
    StaticTls {
        /// How much it needs, for each thread.
        bytes: u64,
    },
    /// A library that the generation which was accepted just before needs was mapped already, from another file than
    /// would be found now. The mapped one answers, until no plugin needs it any more.
    #[text(": {library}")]
    #[warn_if(true)]
    #[non_exhaustive]
    OldLibrary {
        /// Which library, and both files.
        #[serde(flatten)]
        library: OldLibrary,
    },
    /// A candidate was not published; nothing has changed.
    #[text(" {path}: {reason}[ ({setting})][; generation {live} stays live]")]
    #[warn_if(true)]
    #[non_exhaustive]
    Refused {
        /// The path as it was given.
        path: PathBuf,
        /// How far it came.
        stage: Stage,
        /// What was wrong. For programs `kind` is its [name](ErrorKind::name), and `data` is an object of its fields.
        #[serde(flatten)]
        kind: ErrorKind,
        /// The stage and what was wrong there, in one line, without the path ([`Error::reason`]).
        reason: String,
        /// The name of the field that decides it ([`Error::setting`]).
        setting: Option<String>,
        /// The generation that stays live; none if this was to be the first.
        live: Option<u64>,
    },
    /// This generation, which is the one before the live one, stays mapped, to be live again if the new one does not
    /// prove itself.
    #[text(": while generation {successor} is on probation")]
    #[non_exhaustive]
    Standby {
        /// The one that is on probation.
        successor: u64,
    },
    /// An earlier generation is live again, in place of this one, which is not wanted any more.
    #[text(": {}[; {why}]", Back(*live, *loaded_again))]
    #[warn_if(true)]
    #[non_exhaustive]
    RolledBack {
        /// The one that is live now.
        live: u64,
        /// The one whose bytes that one was loaded from again. None: it was still mapped.
        loaded_again: Option<u64>,
        /// What has brought it about, if nobody asked for it.
        why: Option<String>,
    },
    /// A retired generation is still in use although the drain deadline has passed. It stays mapped, and
    /// goes on draining.
    #[text(": {by}")]
    #[warn_if(true)]
    #[non_exhaustive]
    Held {
        /// Who uses it.
        by: Vec<Holder>,
    },
    /// The hook that a plugin runs before it is unloaded has panicked. It is unloaded all the same.
    #[text(": {panic}")]
    #[warn_if(true)]
    #[non_exhaustive]
    HookPanicked {
        /// What the panic said. (Not `message`: for `tracing`, that is the name of the event.)
        panic: String,
    },
    /// A retired generation has left the address space: looked up, not assumed.
    #[text(" after {after:.1?}[; {heap}]")]
    #[non_exhaustive]
    Unloaded {
        /// The time since it was retired.
        after: Duration,
        /// What it has left on the heap, if its allocator counts (`hotswap_unload::CountingAllocator`).
        heap: Option<HeapLeft>,
    },
    /// A retired generation is not in use any more, and stays mapped nevertheless: the system keeps it, or it was not
    /// closed because something may still call it.
    #[text(": {reason}")]
    #[warn_if(true)]
    #[non_exhaustive]
    Pinned {
        /// As far as that is known.
        reason: PinReason,
    },
    /// Half of what may be retired and still mapped is ([`Limits::retired_images_max`],
    /// [`Limits::retired_bytes_max`]). It is told again when that was less than a quarter meanwhile.
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
        /// How many images that is: of generations, of refused candidates, and of what swap points and loaders that
        /// are gone have left behind.
        images: usize,
        /// The size of their copies.
        bytes: u64,
        /// With so many images, candidates are refused.
        images_max: usize,
        /// With copies of so many bytes, candidates are refused.
        bytes_max: u64,
    },
    /// The serial number of a generation that was prepared is not in the file of
    /// [`Policy::serial_file`](crate::Policy::serial_file) now that it is published: an older plugin may be accepted later.
    #[text(": {reason}[ ({setting})]")]
    #[warn_if(true)]
    #[non_exhaustive]
    SerialNotKept {
        /// Why it could not be kept, in one line.
        reason: String,
        /// The name of the field that says where ([`Error::setting`]).
        setting: Option<String>,
    },
    /// Something has happened to a service that runs code of this generation.
    #[text(": {name:?} {news}")]
    #[warn_if(news.is_bad())]
    #[non_exhaustive]
    Service {
        /// Its name.
        name: String,
        /// What.
        #[serde(flatten)]
        news: ServiceNews,
    },
    /// Events were lost to this listener, because it had not received the earlier ones. Calls and swaps never wait for
    /// those who listen.
    #[text(" {events} events: they were not received in time")]
    #[warn_if(true)]
    #[non_exhaustive]
    Missed {
        /// How many.
        events: u64,
    },
}

impl Event {
    /// Something that has happened now, and to no generation.
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

    pub(super) fn refused(error: &Error, live: Option<u64>) -> Self {
        Self::now(EventKind::Refused {
            path: error.path().to_owned(),
            stage: error.stage(),
            kind: error.kind().clone(),
            reason: error.reason(),
            setting: error.setting().map(str::to_owned),
            live,
        })
    }
}

/// As [`EventKind::Refused`] with no generation that is live, as when the first candidate was refused.
impl From<&Error> for Event {
    fn from(error: &Error) -> Self {
        Self::refused(error, None)
    }
}

impl Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if let Some(generation) = self.generation {
            write!(f, " generation {generation}")?;
        }
        self.kind.fmt(f)
    }
}

/// Where a link leads.
struct Link<T>(bool, T);

impl<T: Display> Display for Link<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 {
            write!(f, " -> {}", self.1)?;
        }
        Ok(())
    }
}

/// Which generation is live again, and as which.
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
