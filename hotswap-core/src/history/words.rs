//! What is said of generations: events, states and holders, and each of them as one line of text.

use std::{
    fmt::{self, Display},
    panic::Location,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use super::services::ServiceNews;
use crate::{
    digest::Sha256,
    error::{Error, Stage},
    escape::{Escaped, one_line},
    image::{HeapLeft, Obstacle, OldLibrary, PinReason, STATIC_TLS_TUNABLE},
};

/// What happened at a swap point.
///
/// Its [`Display`] is one line, whose first word says which event it is:
///
/// ```text
/// accepted generation 2: target/debug/libplugin.so
/// accepted generation 3: plugins/current.so -> /srv/plugins/v42.so
/// refused plugin.so: open: no such file; generation 2 stays live
/// standby generation 1: while generation 2 is on probation
/// rolled-back generation 2: generation 1 is live again; 1 fault on probation, the last: no answer
/// held generation 1: a call on thread 4711 (worker-3)
/// unloaded generation 1 after 1.2ms
/// pinned generation 1: it is linked with `-z nodelete`, so that the system never unmaps it
/// service "producer" on generation 1: started
/// retained 512 retired plugins are still mapped, 3.5 GB; no more are accepted at 1024, or at 16.0 GB
/// serial-not-kept generation 5: host: the serial number 42 cannot be kept in serial (Policy::serial_file): …
/// static-tls generation 4: it needs 400 bytes of static TLS, which glibc rarely gives back: …
/// old-library generation 5: the old libdep.so still answers: /srv/libdep.so was replaced after it was loaded
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A candidate was published: new calls reach it.
    #[non_exhaustive]
    Accepted {
        /// Its number.
        generation: u64,
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
    #[non_exhaustive]
    StaticTls {
        /// Its number.
        generation: u64,
        /// How much it needs, for each thread.
        bytes: u64,
    },
    /// A library that the generation which was accepted just before needs was mapped already, from another file than
    /// would be found now. The mapped one answers, until no plugin needs it any more.
    #[non_exhaustive]
    OldLibrary {
        /// The number of the generation.
        generation: u64,
        /// Which library, and both files.
        library: OldLibrary,
    },
    /// A candidate was not published; nothing has changed.
    #[non_exhaustive]
    Refused {
        /// The path as it was given.
        path: PathBuf,
        /// How far it came.
        stage: Stage,
        /// What was wrong, in one line, without the path.
        reason: String,
        /// The generation that stays live; none if this was to be the first.
        live: Option<u64>,
    },
    /// The generation before the live one stays mapped, to be live again if the new one does not prove itself.
    #[non_exhaustive]
    Standby {
        /// Its number.
        generation: u64,
        /// The one that is on probation.
        successor: u64,
    },
    /// An earlier generation is live again, in place of one that is not wanted any more.
    #[non_exhaustive]
    RolledBack {
        /// The one that was live.
        generation: u64,
        /// The one that is live now.
        live: u64,
        /// The one whose bytes that one was loaded from again. None: it was still mapped.
        loaded_again: Option<u64>,
        /// What has brought it about, if nobody asked for it.
        why: Option<String>,
    },
    /// A retired generation is still in use although the drain deadline has passed. It stays mapped, and
    /// goes on draining.
    #[non_exhaustive]
    Held {
        /// Its number.
        generation: u64,
        /// Who uses it.
        by: Vec<Holder>,
    },
    /// The hook that a plugin runs before it is unloaded has panicked. It is unloaded all the same.
    #[non_exhaustive]
    HookPanicked {
        /// Its number.
        generation: u64,
        /// The message of the panic.
        message: String,
    },
    /// A retired generation has left the address space: looked up, not assumed.
    #[non_exhaustive]
    Unloaded {
        /// Its number.
        generation: u64,
        /// The time since it was retired.
        after: Duration,
        /// What it has left on the heap, if its allocator counts (`hotswap_kit::CountingAllocator`).
        heap: Option<HeapLeft>,
    },
    /// A retired generation is not in use any more, and stays mapped nevertheless: the system keeps it, or it was not
    /// closed because something may still call it.
    #[non_exhaustive]
    Pinned {
        /// Its number.
        generation: u64,
        /// As far as that is known.
        reason: PinReason,
    },
    /// Half of what may be retired and still mapped is ([`Settings::retired_images_max`],
    /// [`Settings::retired_bytes_max`]). It is told again when that was less than a quarter meanwhile.
    ///
    /// [`Settings::retired_images_max`]: crate::Settings::retired_images_max
    /// [`Settings::retired_bytes_max`]: crate::Settings::retired_bytes_max
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
    #[non_exhaustive]
    SerialNotKept {
        /// Its number.
        generation: u64,
        /// Why it could not be kept, in one line.
        reason: String,
    },
    /// Something has happened to a service.
    #[non_exhaustive]
    Service {
        /// Its name.
        name: String,
        /// The generation whose code it runs.
        generation: u64,
        /// What.
        news: ServiceNews,
    },
    /// Events were lost, because nobody had received the earlier ones. Calls and swaps never wait for
    /// those who listen.
    #[non_exhaustive]
    Missed {
        /// How many.
        events: u64,
    },
}

/// As [`Event::Refused`] with no generation that is live, as when the first candidate was refused.
impl From<&Error> for Event {
    fn from(error: &Error) -> Self {
        RefusedInfo::new(error, None).into()
    }
}

impl From<RefusedInfo> for Event {
    fn from(info: RefusedInfo) -> Self {
        let RefusedInfo {
            path,
            stage,
            reason,
            refused: _,
            live,
        } = info;
        Self::Refused {
            path,
            stage,
            reason,
            live,
        }
    }
}

impl RefusedInfo {
    pub(crate) fn new(error: &Error, live: Option<u64>) -> Self {
        Self {
            path: error.path().to_owned(),
            stage: error.stage(),
            reason: error.reason(),
            refused: SystemTime::now(),
            live,
        }
    }
}

/// How long the steps of a swap took.
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

/// One entry of the list of generations.
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
    /// The name of the plugin's package, if it has the kit.
    pub name: Option<String>,
    /// The version of the plugin's package, if it has the kit.
    pub version: Option<String>,
    /// When it was published.
    pub published: SystemTime,
    /// The generation whose bytes it was loaded from again, by a rollback.
    pub loaded_again: Option<u64>,
    /// Why it is treated as a plugin without the kit although it has one; then it may unload less well.
    pub kit_problem: Option<String>,
    /// How many bytes of static TLS it needs, if it needs any ([`Event::StaticTls`]).
    pub static_tls_bytes: Option<u64>,
    /// The serial number in its signature, if one is asked for and has a number
    /// ([`Policy::serial_min`](crate::Policy::serial_min)).
    pub serial: Option<u64>,
    /// From when on its file is not accepted any more, if its signature says so. A generation that is published stays.
    pub expires: Option<SystemTime>,
    /// The libraries of which it has older ones than would be found now ([`Event::OldLibrary`]).
    pub old_libraries: Vec<OldLibrary>,
    /// What has become of it.
    pub state: State,
}

/// A candidate that was not published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedInfo {
    /// The path as it was given.
    pub path: PathBuf,
    /// How far it came.
    pub stage: Stage,
    /// What was wrong, in one line, without the path.
    pub reason: String,
    /// When it was refused.
    pub refused: SystemTime,
    /// The generation that stayed live.
    pub live: Option<u64>,
}

/// What has become of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// New calls reach it.
    Live,
    /// New calls reach its successor, which is on probation; it stays mapped to take over again.
    Standby,
    /// New calls reach another one, and old ones may still be inside. A [`rollback`](crate::Hotswap::rollback) may
    /// make it live again until it is drained.
    Draining {
        /// Who was, at the last look.
        held_by: Vec<Holder>,
    },
    /// It has left the address space.
    Unloaded,
    /// Nobody uses it, and the system keeps it mapped.
    Pinned(PinReason),
}

/// Who uses a retired generation, or has something left to do for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// A call that is still inside.
    #[non_exhaustive]
    Call {
        /// The system's number of the thread.
        thread: u32,
        /// What the thread is called; empty if it has ended meanwhile.
        name: String,
    },
    /// So many leases.
    Leases(usize),
    /// A lease, if leases are recorded ([`Settings::record_leases`](crate::Settings::record_leases)).
    #[non_exhaustive]
    Lease {
        /// The place in the code that has taken it.
        place: &'static Location<'static>,
        /// For how long it has been out.
        age: Duration,
    },
    /// A thread that the plugin has started.
    #[non_exhaustive]
    Thread {
        /// The system's number of the thread; none while it starts.
        thread: Option<u32>,
        /// What the thread is called; empty if nobody has named it. (The system then calls it what its creator is
        /// called, so that it would look like one of the host's.)
        name: String,
        /// For how long it has been running.
        age: Duration,
    },
    /// A living thread that has destructors of the plugin's thread-locals to run: when it ends, calls a
    /// plugin again, or says that it is done with
    /// [`detach_current_thread`](crate::detach_current_thread).
    #[non_exhaustive]
    Destructors {
        /// The system's number of the thread.
        thread: u32,
        /// What the thread is called.
        name: String,
        /// How many.
        count: usize,
    },
    /// A service that runs on it.
    #[non_exhaustive]
    Service {
        /// Its name.
        name: String,
    },
    /// A value that was made by it, and whose code is its.
    #[non_exhaustive]
    Ref {
        /// Its name.
        name: String,
    },
    /// A thread that was alive when a pthread key of the plugin was deleted, and may be running its destructor. Only
    /// of a plugin without the kit.
    #[non_exhaustive]
    DeletedKey {
        /// The system's number of the thread.
        thread: u32,
        /// What the thread is called.
        name: String,
    },
    /// The hook that the plugin runs before it is unloaded.
    Hook,
    /// What the plugin's initialisers have started is more than its kit could take note of. This does not
    /// end.
    Uncounted,
    /// So many more than are listed: of a generation that many hold, the first 32 are. It does not count
    /// [`Leases`](Self::Leases), which come after it.
    More(usize),
}

impl From<Obstacle> for Holder {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Hook => Self::Hook,
            Obstacle::Thread { thread, name, age } => Self::Thread { thread, name, age },
            Obstacle::Destructors {
                thread,
                name,
                count,
            } => Self::Destructors {
                thread,
                name,
                count,
            },
            Obstacle::DeletedKey { thread, name } => Self::DeletedKey { thread, name },
            Obstacle::Uncounted => Self::Uncounted,
        }
    }
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
        matches!(self, Self::Unloaded | Self::Pinned(_))
    }
}

impl Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted {
                generation,
                path,
                real_path,
                followed_link,
                phases: _,
            } => {
                write!(f, "accepted generation {generation}: {}", Escaped(path))?;
                if *followed_link {
                    write!(f, " -> {}", Escaped(real_path))?;
                }
                Ok(())
            }
            Self::StaticTls { generation, bytes } => write!(
                f,
                "static-tls generation {generation}: it needs {bytes} bytes of static TLS, which glibc rarely gives \
                 back: after a few such plugins the next one is refused; {STATIC_TLS_TUNABLE}"
            ),
            Self::OldLibrary {
                generation,
                library,
            } => write!(f, "old-library generation {generation}: {library}"),
            Self::Refused {
                path,
                stage: _,
                reason,
                live,
            } => {
                write!(f, "refused {}: {reason}", Escaped(path))?;
                live.map_or(Ok(()), |live| write!(f, "; generation {live} stays live"))
            }
            Self::Standby {
                generation,
                successor,
            } => {
                write!(
                    f,
                    "standby generation {generation}: while generation {successor} is on probation"
                )
            }
            Self::RolledBack {
                generation,
                live,
                loaded_again,
                why,
            } => {
                write!(f, "rolled-back generation {generation}: ")?;
                match loaded_again {
                    None => write!(f, "generation {live} is live again")?,
                    Some(number) => {
                        write!(f, "generation {number} is live again, as generation {live}")?
                    }
                }
                why.as_ref()
                    .map_or(Ok(()), |why| write!(f, "; {}", one_line(why)))
            }
            Self::Held { generation, by } => {
                write!(f, "held generation {generation}: {}", Holders(by))
            }
            Self::HookPanicked {
                generation,
                message,
            } => {
                write!(
                    f,
                    "fault generation {generation}: before_unload: {}",
                    one_line(message)
                )
            }
            Self::Unloaded {
                generation,
                after,
                heap,
            } => {
                write!(f, "unloaded generation {generation} after {after:.1?}")?;
                heap.map_or(Ok(()), |HeapLeft { bytes, allocations }| {
                    let plural = if allocations == 1 { "" } else { "s" };
                    write!(
                        f,
                        "; {bytes} bytes in {allocations} allocation{plural} stay on the heap"
                    )
                })
            }
            Self::Pinned { generation, reason } => {
                write!(f, "pinned generation {generation}: {reason}")
            }
            Self::Retained {
                images,
                bytes,
                images_max,
                bytes_max,
            } => write!(
                f,
                "retained {} still mapped, {}; no more are accepted at {images_max}, or at {}",
                RetiredPlugins(*images),
                Bytes(*bytes),
                Bytes(*bytes_max)
            ),
            Self::SerialNotKept { generation, reason } => {
                write!(f, "serial-not-kept generation {generation}: {reason}")
            }
            Self::Service {
                name,
                generation,
                news,
            } => {
                let name = Escaped(name);
                write!(f, "service \"{name}\" on generation {generation}: {news}")
            }
            Self::Missed { events } => write!(
                f,
                "missed {events} events: nobody received the earlier ones"
            ),
        }
    }
}

impl Display for GenerationInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "generation {} {}: {}",
            self.number,
            self.state,
            Escaped(&self.path)
        )?;
        if let Some(number) = self.loaded_again {
            write!(f, " (generation {number} again)")?;
        }
        if let Some(serial) = self.serial {
            write!(f, " (serial {serial})")?;
        }
        if let Some(problem) = &self.kit_problem {
            write!(f, " ({problem})")?;
        }
        if let Some(bytes) = self.static_tls_bytes {
            write!(f, " ({bytes} bytes of static TLS)")?;
        }
        self.old_libraries
            .iter()
            .try_for_each(|library| write!(f, " ({library})"))
    }
}

impl Display for RefusedInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Event::from(self.clone()).fmt(f)
    }
}

impl Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
            Self::Standby => f.write_str("standby"),
            Self::Draining { held_by } if held_by.is_empty() => f.write_str("draining"),
            Self::Draining { held_by } => write!(f, "draining, held by {}", Holders(held_by)),
            Self::Unloaded => f.write_str("unloaded"),
            Self::Pinned(reason) => write!(f, "pinned, {reason}"),
        }
    }
}

impl Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { thread, name } => write!(f, "a call on {}", Thread(*thread, name)),
            Self::Leases(1) => f.write_str("1 lease"),
            Self::Leases(count) => write!(f, "{count} leases"),
            Self::Lease { place, age } => write!(f, "a lease taken at {place}, for {age:.1?}"),
            Self::Thread { thread: None, .. } => {
                f.write_str("a thread of its own that is being started")
            }
            Self::Thread {
                thread: Some(thread),
                name,
                age,
            } => {
                let unnamed = if name.is_empty() {
                    " (without a name)"
                } else {
                    ""
                };
                let thread = Thread(*thread, name);
                write!(f, "{thread} of its own{unnamed}, for {age:.1?}")
            }
            Self::Destructors {
                thread,
                name,
                count,
            } => {
                let plural = if *count == 1 { "" } else { "s" };
                write!(
                    f,
                    "{count} destructor{plural} of thread-locals on {}",
                    Thread(*thread, name)
                )
            }
            Self::Service { name } => write!(f, "the service \"{}\"", Escaped(name)),
            Self::Ref { name } => write!(f, "the value \"{}\"", Escaped(name)),
            Self::DeletedKey { thread, name } => write!(
                f,
                "{}, which may be running the destructor of a deleted key",
                Thread(*thread, name)
            ),
            Self::Hook => f.write_str("its own hook, which is running"),
            Self::Uncounted => f.write_str("more than its kit could count"),
            Self::More(count) => write!(f, "{count} more"),
        }
    }
}

/// A thread, by number and name.
struct Thread<'a>(u32, &'a str);

impl Display for Thread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {}", self.0)?;
        if self.1.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", Escaped(self.1))
        }
    }
}

pub(super) struct Holders<'a>(pub(super) &'a [Holder]);

impl Display for Holders<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, holder) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{holder}")?;
        }
        Ok(())
    }
}

/// How many plugins, as the beginning of a sentence that goes on with what they are.
pub(crate) struct RetiredPlugins(pub(crate) usize);

impl Display for RetiredPlugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 retired plugin is"),
            count => write!(f, "{count} retired plugins are"),
        }
    }
}

/// A size, to be read by people.
pub(crate) struct Bytes(pub(crate) u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        match self.0 {
            0..1_000 => write!(f, "{} bytes", self.0),
            1_000..1_000_000 => write!(f, "{:.1} kB", bytes / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.1} MB", bytes / 1e6),
            _ => write!(f, "{:.1} GB", bytes / 1e9),
        }
    }
}
