//! What one image still has to do: its threads, thread-local destructors and key values, kept by the host.
//!
//! A plugin with `unloadable!` sends each registration here instead of to libc. The image may be closed when
//! nobody calls it, nobody holds a lease on it, and its account is clear.
//!
//! # Invariants
//! - *Counted before, settled after, outside.* What will run code of the image is counted before it can run,
//!   and settled by host code after the image's code has returned. So there is no window in which a thread
//!   has reported itself gone and is still inside: the settling thread may be stopped anywhere after it, it
//!   stands in the executable. A thread is counted before it is created and settled by the last step of its
//!   exit, `thread::end_of_thread`; a destructor is counted from its registration until it has returned.
//! - *Nothing new once clear.* A registration is made by code of the image, and that runs only within a call
//!   (the caller of [`Account::close`] has seen to it that there is none), within a counted thread, or
//!   within a counted destructor, whose own count falls after the new one has risen. The image's finalisers,
//!   which run within `dlclose`, are the exception: the thread that runs them finds the account closed, for what
//!   it would leave would be called after the image is gone. It leaks what it wanted to have destroyed. A thread that a
//!   finaliser starts must be waited for by it.
//! - A thread's own list is touched by that thread alone and never borrowed across a call out of this file,
//!   so that destructors may register, set keys and start threads.
//! - Lock order: an account's registrations, then nothing.
//!
//! # What it does not know
//! Calls and leases (`cell` counts them), how an image is opened and whether it left, and what `unloadable!` does
//! not see (its documentation has the list). A process that forks and goes on without `exec` must not unload
//! in the child: the threads that are counted here stayed behind.
#![expect(
    unsafe_code,
    reason = "calls functions of the image and of libc by address"
)]

mod registrations;

mod thread;

mod table;

use std::{
    borrow::Cow,
    fmt,
    mem::{self, offset_of},
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hotswap_unload::{
    BeforeUnload, DECLINED_ATTACHED, DECLINED_UNBOUND, Heap, PluginTable, Text, Texts,
    USES_ON_EXIT, USES_TIMER_THREADS, VERSION,
};

use self::{
    registrations::State,
    table::HOST_TABLE,
    thread::{exit_key, run_newest_destructor, run_values},
};
pub(super) use self::{
    registrations::{thread_lives, thread_name},
    thread::{forget_this_thread_s_number, leave_all},
};
use super::{dependencies::is_named, handlers::Handlers};

/// What is known of one image with `unloadable!`. Its number is never used twice in a process.
///
/// The life of one: [`attach`](Self::attach), calls, [`retire`](Self::retire), [`hook`](Self::hook), waiting
/// until it is clear (look again now and then: the end of a thread that a constructor
/// started is nobody's report), [`flush`](Self::flush), [`close`](Self::close), `dlclose`, and
/// [`image_left`](Self::image_left) when that was seen. An account
/// that is dropped without the last is kept (some hundred bytes): an image that is still mapped may call it.
pub(super) struct Account {
    state: Arc<State>,
    plugin: &'static PluginTable,
}

/// Why an image that has `unloadable!` is treated as one without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum AttachError {
    /// The file defines it, and the linker does not find it in the image.
    NotFound,
    /// What the symbol of `unloadable!` leads to is no table.
    Unaligned,
    /// The plugin was built with another version of `unloadable!`.
    Version {
        /// The plugin's.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// The plugin's table is shorter than this version's.
    Short {
        /// The plugin's, in bytes.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// The plugin does not take this version of our table.
    Declined,
    /// Somebody has attached to this image before.
    Attached,
    /// The symbols of `unloadable!` were not bound when the plugin was linked, so that it sees nothing.
    Unbound,
    /// The host has used up its own pthread keys, of which the accounts need one in all.
    HostOutOfKeys,
}

/// What keeps an image from being closed, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outstanding {
    /// Threads that run the image's code.
    pub threads: Vec<PluginThread>,
    /// Threads that will run destructors of it when they end, or sooner if they detach.
    pub debtors: Vec<Debtor>,
    /// Thread-local destructors that constructors left with libc. They are no reason to wait: the loader
    /// itself keeps the image until their threads have ended, and then it is pinned.
    pub early_destructors: usize,
    /// Constructors left more than `unloadable!` could note; this never becomes clear.
    pub unknown: bool,
}

/// A thread that was started by code of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PluginThread {
    /// The system's number for it; `None` while it is being started.
    pub tid: Option<i32>,
    /// What it calls itself, cut to 15 bytes by the system; empty if nobody has named it, or that cannot be read.
    pub name: String,
    /// What its creator was called, which the system gives to a thread that nobody names.
    inherited_name: String,
    /// How long it has been running.
    pub age: Duration,
}

/// A living thread of anybody's that the image has to do something for when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Debtor {
    /// The system's number for it.
    pub tid: i32,
    /// What it calls itself.
    pub name: String,
    /// How many thread-local destructors, and values of keys that have one.
    pub destructors: usize,
}

impl Account {
    /// Attaches to the `unloadable!` of an image, on the thread that opened it: what constructors left with that thread is
    /// counted like the rest, and the thread counts as inside the image until it ends.
    ///
    /// # Errors
    /// [`AttachError`]: nothing has changed, and the plugin works as one without `unloadable!`.
    ///
    /// # Safety
    /// `plugin` is the address of the symbol [`TABLE_SYMBOL`](hotswap_unload::TABLE_SYMBOL), defined by the
    /// image itself, whose constructors have run; nobody has attached to it, and nobody calls it yet. A table
    /// of another version or size is refused without being read further. The image is closed only after
    /// [`close`](Self::close) on this account, and the account is not used after the image has left, apart
    /// from [`image_left`](Self::image_left). `readable` says whether so many bytes of the image are mapped there.
    pub(super) unsafe fn attach(
        plugin: *const PluginTable,
        readable: impl Fn(usize) -> bool,
        handlers: &Arc<Handlers>,
    ) -> Result<Self, AttachError> {
        if !plugin.is_aligned() {
            return Err(AttachError::Unaligned);
        }
        let expected = size_of::<PluginTable>() as u32;
        if !readable(offset_of!(PluginTable, attach)) {
            return Err(AttachError::Short { found: 0, expected });
        }
        // SAFETY: the version is where it is in each version of the table, and was found to be mapped.
        let found = unsafe { (*plugin).version };
        if found != VERSION {
            return Err(AttachError::Version {
                found,
                expected: VERSION,
            });
        }
        // SAFETY: the size is where it is in each version of the table, and was found to be mapped.
        let found = unsafe { (*plugin).size };
        if found < expected || !readable(size_of::<PluginTable>()) {
            return Err(AttachError::Short { found, expected });
        }
        // SAFETY: of our version and not shorter. 'static stands for "as long as the image is mapped", which
        // is what the caller promised for all uses of the account.
        let plugin: &'static PluginTable = unsafe { &*plugin };
        if exit_key().is_none() {
            return Err(AttachError::HostOutOfKeys);
        }

        static NEXT: AtomicU64 = AtomicU64::new(1);
        let state = Arc::new(State {
            // Relaxed: only the number counts, nothing is published by it.
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            process: process::id(),
            handlers: Arc::clone(handlers),
            registrations: Mutex::default(),
            retired: AtomicBool::new(false),
            left: AtomicBool::new(false),
        });
        let token = Arc::into_raw(Arc::clone(&state));
        // SAFETY: the table is static, and the count behind the token is given back in `image_left` alone.
        let answer = unsafe { (plugin.attach)(&raw const HOST_TABLE, token.cast()) };
        if answer != 0 {
            // SAFETY: made above, and the plugin has not kept it.
            drop(unsafe { Arc::from_raw(token) });
            return Err(match answer {
                DECLINED_ATTACHED => AttachError::Attached,
                DECLINED_UNBOUND => AttachError::Unbound,
                _ => AttachError::Declined,
            });
        }
        thread::stay_inside(&state);
        Ok(Self { state, plugin })
    }

    /// The name and the version of the plugin's package, as it says.
    pub(super) fn package(&self) -> (String, String) {
        (
            text(&self.plugin.name).into_owned(),
            text(&self.plugin.version_of_plugin).into_owned(),
        )
    }

    /// Lets every thread leave the image that is not inside of it ([`detach_current_thread_from_retired`]).
    ///
    /// # Safety
    /// Nothing calls the image any more, but for its own threads and destructors, and `flush`: what is known to be able
    /// to call it later was looked for, and its hook, which stops what is not known, has ended.
    pub(super) unsafe fn retire(&self) {
        // Release: pairs with the Acquire in `State::is_retired`; all calls happened before.
        self.state.retired.store(true, Ordering::Release);
    }

    /// The plugin author's hook, if there is one, to be run once when the image is retired.
    pub(super) fn hook(&self) -> Option<Hook> {
        Some(Hook {
            state: Arc::clone(&self.state),
            function: self.plugin.before_unload?,
        })
    }

    /// Whether it is a key of libc that the image made before the host attached.
    pub(super) fn is_early_key(&self, key: libc::pthread_key_t) -> bool {
        self.state.registrations().early_keys.contains(&key)
    }

    /// Whether threads that the image has started have ended. A system call for each thread that there is.
    pub(super) fn has_no_threads(&self) -> bool {
        let mut registrations = self.state.registrations();
        registrations.forget_the_dead();
        registrations.threads.is_empty() && !registrations.unknown
    }

    /// Whether there is nothing left to wait for but what thread `opener` has to do when it ends. A system call for
    /// each thread that there is.
    pub(super) fn is_clear_but_for(&self, opener: i32) -> bool {
        let mut registrations = self.state.registrations();
        registrations.forget_the_dead();
        registrations.is_clear_but_for(Some(opener))
    }

    /// Whether there is nothing left to wait for.
    pub(super) fn is_clear(&self) -> bool {
        self.state.registrations().is_clear()
    }

    /// Whether no destructor and no key is older than the account. What becomes of those is not counted.
    pub(super) fn never_had_early_ones(&self) -> bool {
        let registrations = self.state.registrations();
        registrations.early_destructors == 0 && registrations.early_keys.is_empty()
    }

    /// What is left to wait for. Reads `/proc` for the names of threads; takes the account's lock, which
    /// nobody holds for long.
    pub(super) fn outstanding(&self) -> Outstanding {
        let mut outstanding = {
            let mut registrations = self.state.registrations();
            registrations.forget_the_dead();
            registrations.outstanding()
        };
        outstanding.name_threads();
        outstanding
    }

    /// What writes out what the plugin's std holds back of standard output. Leaves a buffer of 1 KiB behind in a
    /// plugin that never printed, so it is for those that did. Blocks as long as standard output does.
    pub(super) fn flush(&self) -> unsafe extern "C" fn() {
        self.plugin.flush
    }

    /// What is left on the plugin's heap, if its allocator counts.
    ///
    /// # Safety
    /// The image is mapped.
    pub(super) unsafe fn heap(&self) -> Option<Heap> {
        let mut heap = Heap::default();
        // SAFETY: the caller's promise, and there is a place for the answer.
        let counts = unsafe { (self.plugin.heap)(&raw mut heap) };
        (counts != 0).then_some(heap)
    }

    /// The functions that the image has called, whose effects cannot be taken back or counted.
    pub(super) fn uses(&self) -> impl Iterator<Item = &'static str> {
        const NAMES: [(u32, &str); 2] = [
            (USES_ON_EXIT, "on_exit"),
            (USES_TIMER_THREADS, "timer_create"),
        ];
        let uses = self.state.registrations().uses;
        NAMES
            .into_iter()
            .filter(move |(bit, _)| uses & bit != 0)
            .map(|(_, name)| name)
    }

    /// Whether the plugin's author says that this function, or this library, calls nothing of it any more.
    pub(super) fn vouches_for(&self, name: &str) -> bool {
        Self::names(&self.plugin.vouched).any(|it| is_named(name, &it))
    }

    /// Whether the plugin's author says that this library may call it as long as it is mapped.
    pub(super) fn is_pinned_by(&self, library: &str) -> bool {
        Self::names(&self.plugin.pinned_by).any(|it| is_named(library, &it))
    }

    fn names(texts: &'static Texts) -> impl Iterator<Item = Cow<'static, str>> {
        // SAFETY: the account is not used after the image has left (`attach`).
        let texts = unsafe { texts.as_slice() };
        texts.iter().map(text)
    }

    /// Closes the registrations before `dlclose`, and deletes what libc has of the image: the keys its constructors
    /// made.
    ///
    /// # Errors
    /// What is outstanding, in which case nothing has changed.
    ///
    /// # Safety
    /// No call is inside the image and none will be.
    pub(super) unsafe fn close(&self) -> Result<(), Box<Outstanding>> {
        let mut registrations = self.state.registrations();
        registrations.forget_the_dead();
        if !registrations.is_clear() {
            let mut outstanding = registrations.outstanding();
            drop(registrations);
            outstanding.name_threads();
            return Err(Box::new(outstanding));
        }
        registrations.closed = true;
        for key in mem::take(&mut registrations.early_keys) {
            // SAFETY: the image's constructors made it, no thread has a value of it any more.
            unsafe { libc::pthread_key_delete(key) };
        }
        Ok(())
    }

    /// Frees the account.
    ///
    /// # Safety
    /// The image was seen to have left the address space.
    pub(super) unsafe fn image_left(self) {
        // Relaxed: read by threads that decide whether to throw away what they no longer need.
        self.state.left.store(true, Ordering::Relaxed);
        // SAFETY: the count that `attach` gave to the image, which cannot use it any more.
        unsafe { Arc::decrement_strong_count(Arc::as_ptr(&self.state)) };
    }
}

/// A text of an image that is mapped as long as its account is used.
fn text(text: &'static Text) -> Cow<'static, str> {
    // SAFETY: the account is not used after the image has left (`Account::attach`).
    String::from_utf8_lossy(unsafe { text.as_bytes() })
}

/// A plugin author's hook, which stops the plugin's own threads.
pub(super) struct Hook {
    state: Arc<State>,
    function: BeforeUnload,
}

impl Hook {
    /// Calls it on the calling thread, which must be one that does nothing else. Takes as long as it takes.
    ///
    /// # Errors
    /// The message of its panic.
    pub(super) fn run(self) -> Result<(), String> {
        let mut text = [0; 512];
        let mut written = 0;
        thread::inside(&self.state, || {
            // SAFETY: room for `text.len()` bytes, and a place for the length. The image is mapped until the
            // thread that runs this has been waited for.
            let panicked =
                unsafe { (self.function)(text.as_mut_ptr(), text.len(), &raw mut written) };
            if panicked == 0 {
                return Ok(());
            }
            Err(String::from_utf8_lossy(&text[..written.min(text.len())]).into_owned())
        })
    }
}

/// Runs, for the calling thread, the destructors of all images that are retired and that it is not inside of:
/// now instead of at its end. Costs next to nothing for a thread that has none.
///
/// To the images' std its thread-locals are then destroyed; no thread enters a retired image again.
pub(crate) fn detach_current_thread_from_retired() {
    // Before each one anew: a destructor may be suspended on this stack (a coroutine), and another be resumed.
    loop {
        let left = thread::retired_and_left();
        let of = |account: &Arc<State>| left.iter().any(|it| Arc::ptr_eq(it, account));
        if left.is_empty() || !run_newest_destructor(of) {
            return run_values(of);
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("id", &self.state.id)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("treated as a plugin without `unloadable!`: ")?;
        match self {
            Self::NotFound => f.write_str("its `unloadable!` is not found in it"),
            Self::Unaligned => f.write_str("its `unloadable!` table is at an odd address"),
            Self::Version { found, expected } => {
                write!(
                    f,
                    "its `unloadable!` has version {found}, expected {expected}"
                )
            }
            Self::Short { found, expected } => {
                write!(
                    f,
                    "its `unloadable!` table has {found} bytes, expected at least {expected}"
                )
            }
            Self::Declined => write!(
                f,
                "its `unloadable!` does not take version {VERSION} of the host's table"
            ),
            Self::Attached => f.write_str("it is attached to another account already"),
            Self::Unbound => f.write_str(
                "its `unloadable!` sees nothing, because it was linked past its own symbols",
            ),
            Self::HostOutOfKeys => f.write_str("the host has no pthread key left for the account"),
        }
    }
}

impl std::error::Error for AttachError {}

impl Outstanding {
    fn name_threads(&mut self) {
        for thread in &mut self.threads {
            let name = thread.tid.map(thread_name);
            thread.name = name
                .filter(|name| *name != thread.inherited_name)
                .unwrap_or_default();
        }
        for debtor in &mut self.debtors {
            debtor.name = thread_name(debtor.tid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::handlers::Snapshot, *};

    #[test]
    fn what_cannot_be_a_table_is_not_read() {
        let handlers = Handlers::new(Vec::new(), Snapshot::take());
        // SAFETY: refused without being read, whatever is there.
        let attached =
            unsafe { Account::attach(std::ptr::without_provenance(1), |_| true, &handlers) };
        let problem = attached.err().map(|problem| problem.to_string());
        assert_eq!(
            problem.as_deref(),
            Some(
                "treated as a plugin without `unloadable!`: its `unloadable!` table is at an odd address"
            )
        );
    }
}
