//! What one thread has left to run for images, and the two functions in which libc has it run.
//!
//! # Invariants
//! - Only the thread itself touches its list, and nothing borrows the list across a call out of this file.
//! - An account is settled here after the image's code has returned. The code that settles lies in the executable.
#![expect(unsafe_code, reason = "calls destructors of images")]

use std::{
    cell::{Cell, RefCell},
    ffi::{c_int, c_void},
    mem::{self, ManuallyDrop},
    ptr,
    sync::{Arc, OnceLock},
};

use hotswap_unload::{Destructor, Key};

use super::registrations::AccountState;
use crate::system::{
    self,
    crash::AlternateStack,
    hooks::{DESTRUCTOR_ROUNDS, EndOfThread, at_end_of_thread_locals},
};

/// What one thread has left to run for all images.
pub(super) struct ThisThread {
    pub(super) tid: Cell<c_int>,
    pub(super) work: RefCell<Work>,
    /// Whether libc has been asked to call [`end_of_thread_locals`].
    pub(super) asked: Cell<bool>,
}

pub(super) struct Work {
    pub(super) destructors: Vec<(Arc<AccountState>, Destructor, *mut c_void)>,
    pub(super) values: Vec<(Arc<AccountState>, Key, *mut c_void)>,
    /// Set on a thread that an image started, with its ticket.
    pub(super) started_by: Option<(Arc<AccountState>, u64)>,
    /// The stack on which a crash of such a thread is reported.
    pub(super) signal_stack: Option<AlternateStack>,
    /// The images whose code is on this thread's stack although the host has made no call, innermost last: a hook, a
    /// destructor, and everything that runs on the thread that opened the image.
    inside: Vec<Arc<AccountState>>,
}

impl Work {
    const NONE: Self = Self {
        destructors: Vec::new(),
        values: Vec::new(),
        started_by: None,
        signal_stack: None,
        inside: Vec::new(),
    };

    pub(super) fn position(&self, state: &AccountState, key: Key) -> Option<usize> {
        self.values
            .iter()
            .position(|(account, of, _)| ptr::eq(Arc::as_ptr(account), state) && *of == key)
    }

    pub(super) fn value(&self, state: &AccountState, key: Key) -> Option<*mut c_void> {
        self.position(state, key).map(|at| self.values[at].2)
    }

    pub(super) fn take_value(&mut self, state: &AccountState, key: Key) -> Option<*mut c_void> {
        self.position(state, key).map(|at| self.values.remove(at).2)
    }

    fn is_inside(&self, account: &Arc<AccountState>) -> bool {
        self.inside.iter().any(|it| Arc::ptr_eq(it, account))
    }

    /// Replaces a value. Returns whether there was one.
    pub(super) fn replace_value(
        &mut self,
        state: &AccountState,
        key: Key,
        value: *mut c_void,
    ) -> bool {
        let at = self.position(state, key);
        if let Some(at) = at {
            self.values[at].2 = value;
        }
        at.is_some()
    }
}

thread_local! {
    // It has no destructor, so it works until the thread's last instruction and needs no registration with libc.
    // `end_of_thread` frees what is in it.
    static THIS: ManuallyDrop<ThisThread> = const {
        ManuallyDrop::new(ThisThread { tid: Cell::new(0), work: RefCell::new(Work::NONE), asked: Cell::new(false) })
    };
}

pub(super) fn this_tid() -> c_int {
    THIS.with(|this| {
        if this.tid.get() == 0 {
            this.tid.set(system::thread::this());
        }
        this.tid.get()
    })
}

/// Forgets the calling thread's number. For a forked child, in which the thread has another.
pub(in super::super) fn forget_this_thread_s_number() {
    THIS.with(|this| this.tid.set(0));
}

pub(super) fn with_work<R>(act: impl FnOnce(&mut Work) -> R) -> R {
    THIS.with(|this| act(&mut this.work.borrow_mut()))
}

/// As [`with_work`], but only for reading. `None`: a signal interrupted the thread while it changed its list.
pub(super) fn try_with_work<R>(look: impl FnOnce(&Work) -> R) -> Option<R> {
    THIS.with(|this| this.work.try_borrow().ok().map(|work| look(&work)))
}

/// Calls a function of an image, for calls that the host does not count as its own. Until it returns, the thread
/// counts as inside the image, even if such calls end in another order than they began (coroutines). Neither a hook
/// nor a destructor may unwind, so no guard is needed.
pub(super) fn inside<R>(account: &Arc<AccountState>, call: impl FnOnce() -> R) -> R {
    with_work(|work| work.inside.push(Arc::clone(account)));
    let result = call();
    with_work(|work| {
        let own = work.inside.iter().rposition(|it| Arc::ptr_eq(it, account));
        let own = own.map(|own| work.inside.remove(own));
        if work.inside.is_empty() {
            // On a thread that runs only a hook, nothing else frees the list: the thread is not told when it ends.
            work.inside = Vec::new();
        }
        own
    });
    result
}

/// Counts the thread that opens an image as inside it until the thread ends or [leaves](leave_all). At its end it
/// runs both what initialisers registered with libc and what is registered here, and neither may run while the other
/// is on the stack.
pub(super) fn stay_inside(account: &Arc<AccountState>) {
    with_work(|work| work.inside.push(Arc::clone(account)));
    ask_for_end_of_thread();
}

/// Ends what [`stay_inside`] began on this thread. Its images are gone, and have left it nothing to run.
pub(in super::super) fn leave_all() {
    let left = with_work(|work| mem::take(&mut work.inside));
    drop(left);
}

/// The retired images for which this thread has something to run, except those that it is inside of.
///
/// An image on the stack must keep its thread-locals: one of its destructors may have borrowed one and called the
/// host, and the host may have entered a plugin, which is where destructors are run early.
pub(super) fn retired_and_left() -> Vec<Arc<AccountState>> {
    let mut retired: Vec<Arc<AccountState>> = with_work(|work| {
        let destructors = work.destructors.iter().map(|(account, ..)| account);
        let values = work.values.iter().map(|(account, ..)| account);
        destructors
            .chain(values)
            .filter(|it| it.is_retired() && !work.is_inside(it))
            .cloned()
            .collect()
    });
    retired.sort_unstable_by_key(Arc::as_ptr);
    retired.dedup_by(|one, other| Arc::ptr_eq(one, other));
    // A thread of the image's own runs its code. One that a constructor started is known only by its number.
    let tid = this_tid();
    retired.retain(|account| !account.registrations().has_thread(tid));
    retired
}

/// What all accounts share to have libc call [`end_of_thread`]. `None`: the host has no pthread key left.
pub(super) fn thread_exit() -> Option<EndOfThread> {
    static EXIT: OnceLock<Option<EndOfThread>> = OnceLock::new();
    *EXIT.get_or_init(|| EndOfThread::new(end_of_thread))
}

/// Has libc call [`end_of_thread`] on this thread, once more if it is already running.
pub(super) fn ask_for_end_of_thread() {
    if let Some(exit) = thread_exit() {
        // If there is no memory for it, `forget_ended_threads` drops what the thread had left to run once it has ended.
        exit.ask();
    }
}

/// Has libc call [`end_of_thread_locals`] when it destroys this thread's thread-locals.
///
/// It registers once per thread and not once per destructor: libc never gives an entry back, so a main thread that
/// touches a hundred thousand generations would keep a hundred thousand entries. So the images' destructors run
/// together, newest first, when the turn of the first one comes among the host's own. (With the key alone they would
/// run after all of the host's, and on the main thread not at all when the process ends.)
///
/// A thread that an image started uses the key alone: registering takes the linker's lock, which a constructor or
/// finaliser that waits for the thread may hold.
pub(super) fn ask_for_end_of_thread_locals() {
    let is_image_s = with_work(|work| work.started_by.is_some());
    if !is_image_s && !THIS.with(|this| this.asked.replace(true)) {
        at_end_of_thread_locals(end_of_thread_locals);
    }
    ask_for_end_of_thread();
}

/// libc calls this when a thread ends, and on the thread that ends the process.
extern "C" fn end_of_thread_locals(_: *mut c_void) {
    run_destructors(|_| true);
    THIS.with(|this| this.asked.set(false));
}

/// libc calls this when a thread has returned, was cancelled or has called `pthread_exit`: after its thread-local
/// destructors, and in each round in which the key has a value. The thread's count falls only after the last of the
/// image's code on this thread has returned.
extern "C" fn end_of_thread(_: *mut c_void) {
    // From here on libc runs no more thread-local destructors; `run_values` does.
    THIS.with(|this| this.asked.set(true));
    run_destructors(|_| true);
    run_values(|_| true);
    // As with libc, nobody runs what is left after all rounds, so it is settled without running.
    for (account, key, _) in with_work(|work| mem::take(&mut work.values)) {
        account.registrations().value_gone(this_tid(), key);
    }
    with_work(|work| {
        work.destructors = Vec::new();
        work.inside = Vec::new();
    });
    if let Some(stack) = with_work(|work| work.signal_stack.take()) {
        stack.remove();
    }
    if let Some((account, ticket)) = with_work(|work| work.started_by.take()) {
        account.registrations().thread_ended(ticket);
    }
}

/// Runs this thread's thread-local destructors of the given accounts, newest first, including those that they
/// register.
pub(super) fn run_destructors(of: impl Fn(&Arc<AccountState>) -> bool) {
    while run_newest_destructor(&of) {}
}

/// Runs the newest of these destructors. `false`: there is none.
pub(super) fn run_newest_destructor(of: impl Fn(&Arc<AccountState>) -> bool) -> bool {
    let newest = with_work(|work| {
        let newest = work
            .destructors
            .iter()
            .rposition(|(account, ..)| of(account))?;
        Some(work.destructors.remove(newest))
    });
    let Some((account, destructor, object)) = newest else {
        return false;
    };
    // SAFETY: an image registered it for this thread, with this object. The image is mapped, because the destructor
    // is still counted. As with std, a panic in it ends the process before it leaves the image.
    inside(&account, || unsafe { destructor(object) });
    // Saturating, because in a forked child `forget_ended_threads` drops every thread's count.
    account.registrations().with_pending(this_tid(), |pending| {
        pending.destructors = pending.destructors.saturating_sub(1)
    });
    true
}

/// Runs the destructors of this thread's key values of the given accounts, in as many rounds as libc would. After
/// each round it runs the thread-local destructors that the round registered.
pub(super) fn run_values(of: impl Fn(&Arc<AccountState>) -> bool) {
    for _ in 0..DESTRUCTOR_ROUNDS {
        let round: Vec<_> = with_work(|work| {
            let mine = work.values.iter().filter(|(account, ..)| of(account));
            mine.map(|(account, key, _)| (Arc::clone(account), *key))
                .collect()
        });
        if round.is_empty() {
            return;
        }
        for (account, key) in round {
            // Like libc, this clears a value before its destructor runs, and takes one at a time: a destructor may
            // read the value of another key.
            let Some(value) = with_work(|work| work.take_value(&account, key)) else {
                continue;
            };
            let destructor = account.registrations().value_runs(this_tid(), key);
            let Some(destructor) = destructor else {
                continue;
            };
            // SAFETY: the key's destructor, with a value that this thread set. The image is mapped, because the
            // destructor is still counted.
            inside(&account, || unsafe { destructor(value) });
            account.registrations().with_pending(this_tid(), |pending| {
                pending.running = pending.running.saturating_sub(1)
            });
        }
        run_destructors(&of);
    }
}
