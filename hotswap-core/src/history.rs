//! What happened: events, and the bounded list of generations.
//!
//! Whoever changes a generation's state does it here, under one lock, which also sends the event: so the
//! list and the events tell the same story in the same order. No caller of a plugin ever takes that lock.

use std::{
    collections::VecDeque,
    fmt::{self, Display},
    os::unix::ffi::OsStrExt,
    panic::Location,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::{
    error::{Error, Stage},
    image::PinReason,
    stage::Origin,
};

/// What happened at a swap point.
///
/// Its [`Display`] is one line, whose first word says which event it is:
///
/// ```text
/// accepted generation 2: target/debug/libplugin.so
/// refused plugin.so: open: no such file; generation 2 stays live
/// held generation 1: a call on thread 4711 (worker-3)
/// unloaded generation 1 after 1.2ms
/// pinned generation 1: it is linked with `-z nodelete`, so that the system never unmaps it
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
        /// How long it took.
        phases: Phases,
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
    },
    /// A retired generation is not in use any more, and the system keeps it mapped nevertheless.
    #[non_exhaustive]
    Pinned {
        /// Its number.
        generation: u64,
        /// As far as that is known.
        reason: PinReason,
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
        let (path, stage, reason) = (error.path().to_owned(), error.stage(), error.reason());
        Self::Refused {
            path,
            stage,
            reason,
            live: None,
        }
    }
}

/// How long the steps of a swap took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Phases {
    /// Reading the file and making the private copy.
    pub copy: Duration,
    /// Inspecting the bytes.
    pub inspect: Duration,
    /// `dlopen`: mapping, linking, initialising.
    pub link: Duration,
    /// Header, version and layout check, and the root module's constructor.
    pub check: Duration,
    /// Making it the generation that calls reach.
    pub publish: Duration,
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
    /// When it was published.
    pub published: SystemTime,
    /// Why it is treated as a plugin without the kit although it has one; then it may unload less well.
    pub kit_problem: Option<String>,
    /// What has become of it.
    pub state: State,
}

/// What has become of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// New calls reach it.
    Live,
    /// New calls reach another one, and old ones may still be inside.
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
        /// What the thread is called.
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
    /// The hook that the plugin runs before it is unloaded.
    Hook,
    /// What the plugin's initialisers have started is more than its kit could take note of. This does not
    /// end.
    Uncounted,
}

/// The list of generations of one swap point, and its listeners.
#[derive(Debug)]
pub(crate) struct History {
    ledger: Mutex<Ledger>,
    changed: Condvar,
    listeners: Receiver<Event>,
}

#[derive(Debug)]
struct Ledger {
    generations: VecDeque<GenerationInfo>,
    published: u64,
    events: Sender<Event>,
    missed: u64,
    ended_max: usize,
}

impl History {
    /// A list that keeps `ended_max` generations that have ended, and `events_max` events that nobody has
    /// received.
    pub(crate) fn new(ended_max: usize, events_max: usize) -> Self {
        let (events, listeners) = crossbeam_channel::bounded(events_max);
        let ledger = Ledger {
            generations: VecDeque::new(),
            published: 0,
            events,
            missed: 0,
            ended_max,
        };
        Self {
            ledger: Mutex::new(ledger),
            changed: Condvar::new(),
            listeners,
        }
    }

    pub(crate) fn events(&self) -> Receiver<Event> {
        self.listeners.clone()
    }

    pub(crate) fn generations(&self) -> Vec<GenerationInfo> {
        self.ledger().generations.iter().cloned().collect()
    }

    /// The number that the next published generation gets. Swaps are serialised, so it stays the same
    /// until [`published`](Self::published).
    pub(crate) fn next_number(&self) -> u64 {
        self.ledger().published + 1
    }

    /// Generation `number` is live, and the one before it is draining.
    pub(crate) fn published(
        &self,
        number: u64,
        origin: &Origin,
        kit_problem: Option<String>,
        phases: Phases,
    ) {
        let mut ledger = self.ledger();
        ledger.published = number;
        if let Some(before) = ledger.generations.back_mut() {
            before.state = State::Draining {
                held_by: Vec::new(),
            };
        }
        let path = origin.given.clone();
        ledger.generations.push_back(GenerationInfo {
            number,
            path: path.clone(),
            real_path: origin.real.clone(),
            file_bytes: origin.bytes,
            published: SystemTime::now(),
            kit_problem,
            state: State::Live,
        });
        ledger.forget_oldest();
        ledger.send(Event::Accepted {
            generation: number,
            path,
            phases,
        });
    }

    pub(crate) fn refused(&self, error: &Error) {
        let mut ledger = self.ledger();
        let number = ledger
            .generations
            .back()
            .map(|generation| generation.number);
        let mut event = Event::from(error);
        if let Event::Refused { live, .. } = &mut event {
            *live = number;
        }
        ledger.send(event);
    }

    pub(crate) fn draining(&self, number: u64, held_by: Vec<Holder>) {
        self.ledger().set(number, State::Draining { held_by });
    }

    pub(crate) fn held(&self, number: u64, by: Vec<Holder>) {
        let mut ledger = self.ledger();
        ledger.set(
            number,
            State::Draining {
                held_by: by.clone(),
            },
        );
        ledger.send(Event::Held {
            generation: number,
            by,
        });
    }

    pub(crate) fn hook_panicked(&self, generation: u64, message: String) {
        self.ledger().send(Event::HookPanicked {
            generation,
            message,
        });
    }

    pub(crate) fn unloaded(&self, number: u64, after: Duration) {
        let mut ledger = self.ledger();
        ledger.set(number, State::Unloaded);
        ledger.send(Event::Unloaded {
            generation: number,
            after,
        });
        ledger.forget_oldest();
        self.changed.notify_all();
    }

    pub(crate) fn pinned(&self, number: u64, reason: PinReason) {
        let mut ledger = self.ledger();
        ledger.set(number, State::Pinned(reason));
        ledger.send(Event::Pinned {
            generation: number,
            reason,
        });
        ledger.forget_oldest();
        self.changed.notify_all();
    }

    /// Waits until generation `number` has ended, at most until `deadline`, and says how it stands then.
    /// `None`: the list does not have it (any more).
    pub(crate) fn wait(&self, number: u64, deadline: Instant) -> Option<State> {
        let state = |ledger: &Ledger| Some(ledger.find(number)?.state.clone());
        self.wait_while(
            deadline,
            |ledger| state(ledger).is_some_and(|state| !state.has_ended()),
            state,
        )
    }

    /// Waits until all generations have ended, at most until `deadline`, and gives those still mapped.
    pub(crate) fn wait_for_all(&self, deadline: Instant) -> Vec<GenerationInfo> {
        let going_on = |ledger: &Ledger| ledger.generations.iter().any(|it| !it.state.has_ended());
        let mapped = |ledger: &Ledger| {
            ledger
                .generations
                .iter()
                .filter(|it| it.state != State::Unloaded)
                .cloned()
                .collect()
        };
        self.wait_while(deadline, going_on, mapped)
    }

    fn wait_while<T>(
        &self,
        deadline: Instant,
        going_on: impl Fn(&Ledger) -> bool,
        answer: impl FnOnce(&Ledger) -> T,
    ) -> T {
        let left = deadline.saturating_duration_since(Instant::now());
        let (ledger, _) = self
            .changed
            .wait_timeout_while(self.ledger(), left, |ledger| going_on(ledger))
            .unwrap_or_else(PoisonError::into_inner);
        answer(&ledger)
    }

    /// A panic under the lock could only come from a failed allocation; the list is whole even then.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn find(&self, number: u64) -> Option<&GenerationInfo> {
        self.generations
            .iter()
            .find(|generation| generation.number == number)
    }

    fn set(&mut self, number: u64, state: State) {
        if let Some(it) = self.generations.iter_mut().find(|it| it.number == number) {
            it.state = state;
        }
    }

    /// Never waits: what finds no room is counted, and the count is sent before the next that does.
    fn send(&mut self, event: Event) {
        if self.missed > 0
            && self
                .events
                .try_send(Event::Missed {
                    events: self.missed,
                })
                .is_ok()
        {
            self.missed = 0;
        }
        match self.events.try_send(event) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => self.missed += 1,
        }
    }

    fn forget_oldest(&mut self) {
        let ended = self
            .generations
            .iter()
            .filter(|it| it.state.has_ended())
            .count();
        let mut excess = ended.saturating_sub(self.ended_max);
        self.generations.retain(|it| {
            let forget = excess > 0 && it.state.has_ended();
            excess -= usize::from(forget);
            !forget
        });
    }
}

impl State {
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
                phases: _,
            } => {
                write!(f, "accepted generation {generation}: {}", Escaped(path))
            }
            Self::Refused {
                path,
                stage: _,
                reason,
                live,
            } => {
                write!(f, "refused {}: {reason}", Escaped(path))?;
                live.map_or(Ok(()), |live| write!(f, "; generation {live} stays live"))
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
                    message.escape_debug()
                )
            }
            Self::Unloaded { generation, after } => {
                write!(f, "unloaded generation {generation} after {after:.1?}")
            }
            Self::Pinned { generation, reason } => {
                write!(f, "pinned generation {generation}: {reason}")
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
        self.kit_problem
            .as_ref()
            .map_or(Ok(()), |problem| write!(f, " ({problem})"))
    }
}

impl Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
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
                write!(f, "{} of its own, for {age:.1?}", Thread(*thread, name))
            }
            Self::Destructors {
                thread,
                name,
                count,
            } => {
                write!(
                    f,
                    "{count} destructors of thread-locals on {}",
                    Thread(*thread, name)
                )
            }
            Self::Hook => f.write_str("its own hook, which is running"),
            Self::Uncounted => f.write_str("more than its kit could count"),
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
            write!(f, " ({})", self.1.escape_debug())
        }
    }
}

struct Holders<'a>(&'a [Holder]);

impl Display for Holders<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, holder) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{holder}")?;
        }
        Ok(())
    }
}

/// A path as a person knows it, on one line: escaped like `escape_debug`, bytes that are no text as `\xFF`.
struct Escaped<'a>(&'a Path);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_os_str().as_bytes().utf8_chunks() {
            write!(
                f,
                "{}{}",
                chunk.valid().escape_debug(),
                chunk.invalid().escape_ascii()
            )?;
        }
        Ok(())
    }
}
