//! What one image has left to do, counted by the host: its threads, thread-local destructors and key values.
//!
//! A plugin with `unloadable!` sends each registration here instead of to libc. Its image may be closed when nobody
//! calls it, nobody holds a lease on it, and its account is clear.
//!
//! # Invariants
//! - *Counted before, settled after, outside.* Whatever will run code of the image is counted before it can run. Host
//!   code settles the count after the image's code has returned. So no thread can have reported itself gone and still
//!   be inside: wherever the settling thread is stopped after that, it is in the executable. A thread is counted
//!   before it is created, and settled by the last step of its exit, `thread::end_of_thread`. A destructor is counted
//!   from its registration until it has returned.
//! - *Nothing new once clear.* Only code of the image makes registrations. That code runs within a call (the caller
//!   of [`Account::close`] has ensured that there is none), within a counted thread, or within a counted destructor,
//!   whose own count falls after the new one has risen. The exception are the image's finalisers, which run within
//!   `dlclose`. What the thread that runs them registers would be called after the image is gone, so it finds the
//!   account closed, and leaks what it wanted to have destroyed. A finaliser must wait for each thread that it
//!   starts.
//! - Only the thread itself touches its list, and nothing borrows the list across a call out of this file. So
//!   destructors may register, set keys and start threads.
//! - Lock order: no other lock is taken while an account's registrations are locked.
//!
//! # What it does not know
//! Calls and leases, which `cell` counts; how an image is opened and whether it is gone; and what `unloadable!` does
//! not see (its documentation has the list). A process that forks and goes on without `exec` must not unload in the
//! child, which does not have the threads that are counted here.
#![expect(unsafe_code, reason = "calls functions of the image by address")]

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
};

use hotswap_unload::{
    BeforeUnload, DECLINED_ATTACHED, DECLINED_UNBOUND, Heap, PluginTable, Text, Texts,
    USES_ON_EXIT, USES_TIMER_THREADS, VERSION,
};

pub(super) use self::thread::{forget_this_thread_s_number, leave_all};
use self::{
    registrations::AccountState,
    table::HOST_TABLE,
    thread::{run_newest_destructor, run_values, thread_exit},
};
use super::{dependencies::is_named, handlers::Handlers};
use crate::{
    holder::Holder,
    system::{
        self,
        keys::{self, Key},
        linker::Mapping,
    },
};

/// The account of one image with `unloadable!`. Its number is never used twice in a process.
///
/// The order of use: [`attach`](Self::attach), calls, [`retire`](Self::retire), [`hook`](Self::hook), waiting until
/// it is clear (by looking again now and then: nobody reports the end of a thread that a constructor started),
/// [`flush`](Self::flush), [`close`](Self::close), `dlclose`, and [`image_left`](Self::image_left) once the image was
/// seen to be gone. If an account is dropped without that last step, its state (some hundred bytes) is leaked,
/// because an image that is still mapped may call it.
pub(super) struct Account {
    state: Arc<AccountState>,
    plugin: &'static PluginTable,
}

impl Account {
    /// Attaches to the `unloadable!` of an image, on the thread that opened it. From then on, what constructors
    /// registered on that thread is counted like the rest, and the thread counts as inside the image until it ends.
    ///
    /// # Errors
    /// Why the plugin counts as one without `unloadable!`; nothing has changed.
    ///
    /// # Safety
    /// `plugin` is the address of the symbol [`TABLE_SYMBOL`](hotswap_unload::TABLE_SYMBOL), which the image itself
    /// defines. The image's constructors have run, no account is attached to it, and nobody calls it yet. `mapping` and
    /// `code` are the image's readable and executable segments. The image is closed only after [`close`](Self::close),
    /// and after it is gone only [`image_left`](Self::image_left) uses the account. A table of another version or size
    /// is safely refused, without reading more of it, and so is one that leads out of the image.
    pub(super) unsafe fn attach(
        plugin: *const PluginTable,
        mapping: &Mapping,
        code: &Mapping,
        handlers: &Arc<Handlers>,
    ) -> Result<Self, String> {
        if !plugin.is_aligned() {
            return Err("its `unloadable!` table is at an odd address".to_owned());
        }
        let expected = size_of::<PluginTable>() as u32;
        let short = |found: u32| {
            format!("its `unloadable!` table has {found} bytes, expected at least {expected}")
        };
        let damaged = || "its `unloadable!` table is damaged".to_owned();
        let readable = |bytes| mapping.has(plugin.addr(), bytes);
        if !readable(offset_of!(PluginTable, attach)) {
            return Err(short(0));
        }
        // SAFETY: every version of the table has its version there, and `readable` has found that it is mapped.
        let found = unsafe { (*plugin).version };
        if found != VERSION {
            return Err(format!(
                "its `unloadable!` has version {found}, expected {VERSION}"
            ));
        }
        // SAFETY: every version of the table has its size there, and `readable` has found that it is mapped.
        let found = unsafe { (*plugin).size };
        if found < expected || !readable(size_of::<PluginTable>()) {
            return Err(short(found));
        }
        // SAFETY: a whole table of our version is mapped there.
        if !unsafe { has_functions(plugin, code) } {
            return Err(damaged());
        }
        // SAFETY: a whole table of our version is mapped there, and its functions are not null. 'static stands for "as
        // long as the image is mapped"; the account is not used for longer (`# Safety` of this function).
        let plugin: &'static PluginTable = unsafe { &*plugin };
        if !has_texts(plugin, mapping) {
            return Err(damaged());
        }
        if thread_exit().is_none() {
            return Err("the host has no pthread key left for the account".to_owned());
        }

        static NEXT: AtomicU64 = AtomicU64::new(1);
        let state = Arc::new(AccountState {
            // Relaxed: only the number matters; it publishes nothing.
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            process: process::id(),
            handlers: Arc::clone(handlers),
            registrations: Mutex::default(),
            retired: AtomicBool::new(false),
            left: AtomicBool::new(false),
        });
        let token = Arc::into_raw(Arc::clone(&state));
        // SAFETY: the host's table is static, and the token's count is given back only in `image_left`.
        let answer = unsafe { (plugin.attach)(&raw const HOST_TABLE, token.cast()) };
        if answer != 0 {
            // SAFETY: `into_raw` above made the token, and the plugin has declined, so it has not kept it.
            drop(unsafe { Arc::from_raw(token) });
            return Err(match answer {
                DECLINED_ATTACHED => "it is attached to another account already".to_owned(),
                DECLINED_UNBOUND => {
                    "its `unloadable!` sees nothing, because it was linked past its own symbols"
                        .to_owned()
                }
                _ => {
                    format!("its `unloadable!` does not take version {VERSION} of the host's table")
                }
            });
        }
        thread::stay_inside(&state);
        Ok(Self { state, plugin })
    }

    /// The name and version of the plugin's package, as the plugin states them.
    pub(super) fn package(&self) -> (String, String) {
        (
            text(&self.plugin.name).into_owned(),
            text(&self.plugin.version_of_plugin).into_owned(),
        )
    }

    /// Lets every thread that is not inside the image run its destructors early
    /// ([`detach_current_thread_from_retired`]).
    ///
    /// # Safety
    /// Nothing calls the image any more except its own threads, its destructors and `flush`. So the caller has looked
    /// for everything that is known to be able to call it later, and its hook, which stops the rest, has ended.
    pub(super) unsafe fn retire(&self) {
        // Release: pairs with the Acquire in `AccountState::is_retired`, so that all calls happened before.
        self.state.retired.store(true, Ordering::Release);
    }

    /// The plugin author's hook, if there is one. It has to run once, when the image is retired.
    pub(super) fn hook(&self) -> Option<Hook> {
        Some(Hook {
            state: Arc::clone(&self.state),
            function: self.plugin.before_unload?,
        })
    }

    /// Whether it is a key of libc that the image made before the host attached.
    pub(super) fn is_early_key(&self, key: Key) -> bool {
        self.state.registrations().early_keys.contains(&key)
    }

    /// Whether all threads that the image started have ended. Costs one system call per thread.
    pub(super) fn has_no_threads(&self) -> bool {
        let mut registrations = self.state.registrations();
        registrations.forget_ended_threads();
        registrations.threads.is_empty() && !registrations.unknown
    }

    /// Whether there is nothing to wait for, except what thread `opener` has to run when it ends. Costs one system
    /// call per thread.
    pub(super) fn is_clear_but_for(&self, opener: i32) -> bool {
        let mut registrations = self.state.registrations();
        registrations.forget_ended_threads();
        registrations.is_clear_but_for(Some(opener))
    }

    /// Whether there is nothing to wait for.
    pub(super) fn is_clear(&self) -> bool {
        self.state.registrations().is_clear()
    }

    /// Whether no destructor and no key was registered before the host attached. Such early ones are not counted.
    pub(super) fn never_had_early_ones(&self) -> bool {
        let registrations = self.state.registrations();
        registrations.early_destructors == 0 && registrations.early_keys.is_empty()
    }

    /// Whether constructors registered thread-local destructors with libc. They are no reason to wait: the loader
    /// itself keeps the image until their threads have ended, and the image is pinned for that.
    pub(super) fn has_early_destructors(&self) -> bool {
        self.state.registrations().early_destructors > 0
    }

    /// What is left to wait for, except what thread `parked` has to run when it ends. Reads the names of threads from
    /// `/proc`. Takes the account's lock, which nobody holds for long.
    pub(super) fn obstacles(&self, parked: Option<i32>) -> Vec<Holder> {
        // Reading names takes files, so it is not done under this lock.
        let (threads, pending, is_unknown) = {
            let mut registrations = self.state.registrations();
            registrations.forget_ended_threads();
            let pending = registrations.pending.iter();
            let pending: Vec<_> = pending.map(|(&tid, it)| (tid, it.count())).collect();
            let threads = registrations.threads.clone();
            (threads, pending, registrations.unknown)
        };
        let name_of = |tid: i32| system::thread::name_of(tid.cast_unsigned());
        // A thread of the image's own is listed already, so its destructors are not.
        let is_own = |tid| threads.iter().any(|it| it.tid == Some(tid));
        let destructors = pending
            .into_iter()
            .filter(|&(tid, _)| !is_own(tid) && parked != Some(tid))
            .map(|(tid, count)| Holder::Destructors {
                thread: tid.cast_unsigned(),
                name: name_of(tid),
                count,
            });
        let unknown = is_unknown.then_some(Holder::Uncounted);
        let threads = threads.iter().map(|it| Holder::Thread {
            thread: it.tid.map(i32::cast_unsigned),
            name: it
                .tid
                .map(name_of)
                .filter(|name| *name != it.inherited_name)
                .unwrap_or_default(),
            age: it.since.elapsed(),
        });
        threads.chain(destructors).chain(unknown).collect()
    }

    /// The function that writes out what the plugin's std holds back of standard output. It blocks as long as
    /// standard output does. In a plugin that never printed it would allocate a buffer of 1 KiB for good, so call it
    /// only in one that did.
    pub(super) fn flush(&self) -> unsafe extern "C" fn() {
        self.plugin.flush
    }

    /// What is left on the plugin's heap, if its allocator counts.
    ///
    /// # Safety
    /// The image is mapped.
    pub(super) unsafe fn heap(&self) -> Option<Heap> {
        let mut heap = Heap::default();
        // SAFETY: the image is mapped (`# Safety` of this function), and `heap` has room for the answer.
        let counts = unsafe { (self.plugin.heap)(&raw mut heap) };
        (counts != 0).then_some(heap)
    }

    /// The functions that the image has called whose effects can be neither undone nor counted.
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

    /// Whether the plugin's author vouches that this function or library does not call the plugin later.
    pub(super) fn vouches_for(&self, name: &str) -> bool {
        Self::names(&self.plugin.vouched).any(|it| is_named(name, &it))
    }

    /// Whether the plugin's author says that this library may call the plugin for as long as it is mapped.
    pub(super) fn is_pinned_by(&self, library: &str) -> bool {
        Self::names(&self.plugin.pinned_by).any(|it| is_named(library, &it))
    }

    fn names(texts: &'static Texts) -> impl Iterator<Item = Cow<'static, str>> {
        // SAFETY: the image is mapped while its account is used (`# Safety` of `attach`), and `attach` has checked that
        // the list is in it.
        let texts = unsafe { texts.as_slice() };
        texts.iter().map(text)
    }

    /// Closes the registrations before `dlclose`, and deletes the keys of libc that the image's constructors made.
    /// `false`: there is something to wait for, and nothing has changed.
    ///
    /// # Safety
    /// No call is inside the image, and none will be.
    pub(super) unsafe fn close(&self) -> bool {
        let mut registrations = self.state.registrations();
        registrations.forget_ended_threads();
        if !registrations.is_clear() {
            return false;
        }
        registrations.closed = true;
        for key in mem::take(&mut registrations.early_keys) {
            // SAFETY: the image's constructors made the key, and no thread has a value of it any more.
            unsafe { keys::delete(key) };
        }
        true
    }

    /// Frees the account.
    ///
    /// # Safety
    /// The image was seen to be gone from the address space.
    pub(super) unsafe fn image_left(self) {
        // Relaxed: threads read it only to decide whether to drop what they do not need any more.
        self.state.left.store(true, Ordering::Relaxed);
        // SAFETY: this is the count that `attach` gave to the image, which is gone and cannot use it any more.
        unsafe { Arc::decrement_strong_count(Arc::as_ptr(&self.state)) };
    }
}

/// Whether the functions of a table are in the image's code.
///
/// # Safety
/// A whole table of our version is mapped there. Its functions may be anything.
unsafe fn has_functions(plugin: *const PluginTable, code: &Mapping) -> bool {
    // A function pointer that is null must not be read as one.
    let read = |offset| {
        let field = plugin.wrapping_byte_add(offset).cast::<usize>();
        // SAFETY: the field is part of the table (`# Safety` of this function), and as large as an address.
        unsafe { field.read() }
    };
    let is_code = |address| code.has(address, 1);
    let [attach, flush, heap] = [
        offset_of!(PluginTable, attach),
        offset_of!(PluginTable, flush),
        offset_of!(PluginTable, heap),
    ]
    .map(read);
    let hook = read(offset_of!(PluginTable, before_unload));
    [attach, flush, heap].into_iter().all(is_code) && (hook == 0 || is_code(hook))
}

/// Whether the texts of a table are in the image.
fn has_texts(plugin: &PluginTable, mapping: &Mapping) -> bool {
    let has_text = |text: &Text| {
        let (start, bytes) = text.place();
        !start.is_null() && (bytes == 0 || mapping.has(start.addr(), bytes))
    };
    let has_all = |texts: &Texts| {
        let (start, count) = texts.place();
        if start.is_null() || !start.is_aligned() {
            return false;
        }
        let bytes = count.checked_mul(size_of::<Text>());
        if count > 0 && !bytes.is_some_and(|bytes| mapping.has(start.addr(), bytes)) {
            return false;
        }
        // SAFETY: the list is mapped, as was just checked, and is constant.
        unsafe { texts.as_slice() }.iter().all(has_text)
    };
    has_text(&plugin.name)
        && has_text(&plugin.version_of_plugin)
        && has_all(&plugin.vouched)
        && has_all(&plugin.pinned_by)
}

/// A text in the image, which is mapped for as long as its account is used.
fn text(text: &'static Text) -> Cow<'static, str> {
    // SAFETY: the image is mapped while its account is used (`# Safety` of `Account::attach`), and `attach` has checked
    // that the text is in it.
    String::from_utf8_lossy(unsafe { text.as_bytes() })
}

/// A plugin author's hook, which stops the plugin's own threads.
pub(super) struct Hook {
    state: Arc<AccountState>,
    function: BeforeUnload,
}

impl Hook {
    /// Runs the hook on the calling thread, which must do nothing else. Blocks for as long as the hook runs.
    ///
    /// # Errors
    /// The message of its panic.
    pub(super) fn run(self) -> Result<(), String> {
        let mut text = [0; 512];
        let mut written = 0;
        thread::inside(&self.state, || {
            // SAFETY: `text` has room for `text.len()` bytes, and `written` for the length. The image stays mapped
            // until the thread that runs this has been waited for.
            let panicked =
                unsafe { (self.function)(text.as_mut_ptr(), text.len(), &raw mut written) };
            if panicked == 0 {
                return Ok(());
            }
            Err(String::from_utf8_lossy(&text[..written.min(text.len())]).into_owned())
        })
    }
}

/// Runs the calling thread's destructors now, instead of at its end, for all retired images that it is not inside of.
/// Costs next to nothing for a thread that has none.
///
/// The images' std then considers the thread-locals destroyed. That is fine, since no thread enters a retired image
/// again.
pub(crate) fn detach_current_thread_from_retired() {
    // Looks again before each destructor: one may be suspended on this stack (a coroutine) and another resumed.
    loop {
        let left = thread::retired_and_left();
        let of = |account: &Arc<AccountState>| left.iter().any(|it| Arc::ptr_eq(it, account));
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

#[cfg(test)]
mod tests {
    use super::{super::handlers::Snapshot, *};

    #[test]
    fn an_unaligned_table_is_not_read() {
        let mapping = Mapping::default();
        let handlers = Handlers::new(mapping.clone(), Snapshot::take());
        let table = std::ptr::without_provenance(1);
        // SAFETY: it is refused without being read, whatever is there.
        let attached = unsafe { Account::attach(table, &mapping, &mapping, &handlers) };
        assert_eq!(
            attached.err().as_deref(),
            Some("its `unloadable!` table is at an odd address")
        );
    }
}
