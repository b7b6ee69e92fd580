//! The thread that reports calls on the live generation that do not return ([`Settings::hung_call_timeout`]).
//!
//! It looks at all threads' slots at intervals, and marks the calls that it finds. A mark that is still there at a
//! later look is on the same call (`hotswap_cell::mark_calls`). So [`with`] and [`call`] do nothing for it.
//!
//! Calls of async methods are found while they are polled: each poll is a call on a cell that the generation has for
//! that, which costs each poll the instructions of a `with`. A future that nobody polls is not inside of the plugin,
//! and does not hang.
//!
//! [`Settings::hung_call_timeout`]: super::Settings::hung_call_timeout
//! [`with`]: super::Hotswap::with
//! [`call`]: super::Hotswap::call

use std::{
    collections::HashMap,
    convert::Infallible,
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use hotswap_cell::{MarkedCall, ValueId, mark_calls, marked_calls};

use crate::{
    history::{EventKind, History},
    system, threads,
};

/// How many pauses between two looks a timeout has, unless they would be too short or too long: a call is reported at
/// most two pauses after its timeout.
const PAUSES_IN_A_TIMEOUT: u32 = 4;
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The handle of the thread, which ends when this is dropped.
pub(super) struct HungCallWatchdog {
    watched: Arc<Mutex<Option<Watched>>>,
    _stop: Sender<Infallible>,
}

/// The generation whose calls are watched.
#[derive(Clone, Copy)]
pub(super) struct Watched {
    pub(super) generation: u64,
    pub(super) calls: ValueId,
    pub(super) polls: ValueId,
}

/// The calls that the last look has found, by place and value. Those on a generation that is not live any more are kept
/// as long as they are marked, because a rollback may make it live again. A place has one mark at a time, so there are
/// at most as many as places.
type Found = HashMap<(usize, ValueId), FoundCall>;

/// A call, from the first look that has found it.
#[derive(Clone, Copy)]
struct FoundCall {
    thread: u32,
    is_poll: bool,
    since: Instant,
    is_reported: bool,
}

impl HungCallWatchdog {
    pub(super) fn start(history: Arc<History>, timeout: Duration) -> io::Result<Self> {
        let watched = Arc::<Mutex<Option<Watched>>>::default();
        let (stop, stopped) = bounded(0);
        threads::start("hotswap-calls", {
            let watched = Arc::clone(&watched);
            move || run(&watched, &stopped, &history, timeout)
        })?;
        Ok(Self {
            watched,
            _stop: stop,
        })
    }

    /// Watches another generation from now on. Call it before the one that was watched can be unloaded: its address may
    /// be another one's then. Waits for a look that is under way.
    pub(super) fn watch(&self, watched: Option<Watched>) {
        *lock(&self.watched) = watched;
    }
}

/// Nothing panics under the lock but a failed allocation; then the next look begins anew.
fn lock(watched: &Mutex<Option<Watched>>) -> MutexGuard<'_, Option<Watched>> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(
    watched: &Mutex<Option<Watched>>,
    stopped: &Receiver<Infallible>,
    history: &History,
    timeout: Duration,
) {
    let pause = timeout / PAUSES_IN_A_TIMEOUT;
    let pause = pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    let mut found = Found::new();
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
        let Some((generation, hung)) = look(&lock(watched), &mut found, timeout) else {
            found.clear();
            continue;
        };
        for call in hung {
            let thread = call.thread;
            let hung = EventKind::HungCall {
                thread,
                name: system::thread::name_of(thread),
                is_poll: call.is_poll,
                age: call.since.elapsed(),
            };
            history.happened(Some(generation), hung).deliver();
        }
    }
}

/// Looks once. Replaces what the last look has found, and returns the calls that are to be reported now, with their
/// generation. `None`: none is watched.
fn look(
    watched: &Option<Watched>,
    found: &mut Found,
    timeout: Duration,
) -> Option<(u64, Vec<FoundCall>)> {
    let Watched {
        generation,
        calls,
        polls,
    } = (*watched)?;
    let now = Instant::now();
    let mut before = mem::take(found);
    let mut hung = Vec::new();
    for (value, is_poll) in [(calls, false), (polls, true)] {
        for call in mark_calls(value) {
            let MarkedCall {
                place,
                thread,
                was_marked,
            } = call;
            let same = before.remove(&(place, value)).filter(|_| was_marked);
            let is_same = same.is_some();
            let mut call = same.unwrap_or(FoundCall {
                thread,
                is_poll,
                since: now,
                is_reported: false,
            });
            let is_hung = is_same && now.duration_since(call.since) >= timeout;
            if is_hung && !mem::replace(&mut call.is_reported, true) {
                hung.push(call);
            }
            found.insert((place, value), call);
        }
    }
    before.retain(|(_, value), _| *value != calls && *value != polls);
    if !before.is_empty() {
        let marked = marked_calls().filter_map(|call| before.remove_entry(&call));
        found.extend(marked);
    }
    Some((generation, hung))
}
