//! What one thread still has to do for images, and the two places at which libc has it done.
//!
//! Invariants: a thread's list is touched by that thread alone, and never borrowed across a call out of this
//! file. An account is settled here after the image's code has returned, and what settles it lies in the
//! executable.
#![expect(
    unsafe_code,
    reason = "calls destructors of images, and registers with libc"
)]

use std::{
    cell::{Cell, RefCell},
    ffi::{c_int, c_void},
    mem::{self, ManuallyDrop},
    ptr,
    sync::{Arc, OnceLock},
};

use hotswap_unload::{Destructor, Key};

use super::registrations::State;

/// `PTHREAD_DESTRUCTOR_ITERATIONS`, for which the libc crate has no name; 4 in glibc and musl.
const DESTRUCTOR_ROUNDS: usize = 4;

/// What one thread has to do for all images.
pub(super) struct ThisThread {
    pub(super) tid: Cell<c_int>,
    pub(super) work: RefCell<Work>,
    /// Whether libc has been asked to call [`end_of_thread_locals`].
    pub(super) asked: Cell<bool>,
}

pub(super) struct Work {
    pub(super) destructors: Vec<(Arc<State>, Destructor, *mut c_void)>,
    pub(super) values: Vec<(Arc<State>, Key, *mut c_void)>,
    /// Set on a thread that an image started, with its ticket.
    pub(super) started_by: Option<(Arc<State>, u64)>,
    /// The images whose code is on this thread's stack without a call of the host's, the innermost last: a hook, a
    /// destructor, and all that runs on the thread that opened the image.
    inside: Vec<Arc<State>>,
}

impl Work {
    const NONE: Self = Self {
        destructors: Vec::new(),
        values: Vec::new(),
        started_by: None,
        inside: Vec::new(),
    };

    pub(super) fn position(&self, state: &State, key: Key) -> Option<usize> {
        self.values
            .iter()
            .position(|(account, of, _)| ptr::eq(Arc::as_ptr(account), state) && *of == key)
    }

    pub(super) fn value(&self, state: &State, key: Key) -> Option<*mut c_void> {
        self.position(state, key).map(|at| self.values[at].2)
    }

    pub(super) fn take_value(&mut self, state: &State, key: Key) -> Option<*mut c_void> {
        self.position(state, key).map(|at| self.values.remove(at).2)
    }

    fn is_inside(&self, account: &Arc<State>) -> bool {
        self.inside.iter().any(|it| Arc::ptr_eq(it, account))
    }

    /// Whether there was one to replace.
    pub(super) fn replace_value(&mut self, state: &State, key: Key, value: *mut c_void) -> bool {
        let at = self.position(state, key);
        if let Some(at) = at {
            self.values[at].2 = value;
        }
        at.is_some()
    }
}

thread_local! {
    // Without a destructor of its own, so that it works until the thread's last instruction, and so that
    // it costs no registration. `end_of_thread` frees what is in it.
    static THIS: ManuallyDrop<ThisThread> = const {
        ManuallyDrop::new(ThisThread { tid: Cell::new(0), work: RefCell::new(Work::NONE), asked: Cell::new(false) })
    };
}

pub(super) fn this_tid() -> c_int {
    THIS.with(|this| {
        if this.tid.get() == 0 {
            // SAFETY: no conditions.
            this.tid.set(unsafe { libc::gettid() });
        }
        this.tid.get()
    })
}

/// For a child that this thread has forked, in which it has another number.
pub(in super::super) fn forget_this_thread_s_number() {
    THIS.with(|this| this.tid.set(0));
}

pub(super) fn with_work<R>(act: impl FnOnce(&mut Work) -> R) -> R {
    THIS.with(|this| act(&mut this.work.borrow_mut()))
}

/// As [`with_work`], to look only. `None`: the thread was interrupted while it changed something.
pub(super) fn try_with_work<R>(look: impl FnOnce(&Work) -> R) -> Option<R> {
    THIS.with(|this| this.work.try_borrow().ok().map(|work| look(&work)))
}

/// Calls a function of an image that the host has no call of its own for. Until it returns, the thread counts as
/// inside the image, also if several such calls end in another order than they began (coroutines). Neither a hook nor
/// a destructor may unwind, so no guard is needed.
pub(super) fn inside<R>(account: &Arc<State>, call: impl FnOnce() -> R) -> R {
    with_work(|work| work.inside.push(Arc::clone(account)));
    let result = call();
    with_work(|work| {
        let own = work.inside.iter().rposition(|it| Arc::ptr_eq(it, account));
        own.map(|own| work.inside.remove(own))
    });
    result
}

/// Makes the thread that opens an image count as inside it until the thread ends or [leaves](leave_all). What
/// initialisers registered with libc runs at its end, beside what is registered here: neither may run while the other is
/// on the stack.
pub(super) fn stay_inside(account: &Arc<State>) {
    with_work(|work| work.inside.push(Arc::clone(account)));
    ask_for_end_of_thread();
}

/// Ends what [`stay_inside`] began on this thread, whose images have left and have nothing for it to run.
pub(in super::super) fn leave_all() {
    let left = with_work(|work| mem::take(&mut work.inside));
    drop(left);
}

/// The retired images for which this thread has something to run, and that it is not inside of.
///
/// An image that is on the stack must keep its thread-locals: a destructor of it may have borrowed one, called the
/// host, and the host may have entered a plugin, which is where destructors are run early.
pub(super) fn retired_and_left() -> Vec<Arc<State>> {
    let mut retired: Vec<Arc<State>> = with_work(|work| {
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
    // A thread that the image started runs its code; one that a constructor started is only known by its number.
    let tid = this_tid();
    retired.retain(|account| !account.registrations().has_thread(tid));
    retired
}

/// The one pthread key of all accounts: a thread with a value of it is told when it ends.
pub(super) fn exit_key() -> Option<libc::pthread_key_t> {
    static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();
    *KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: a place for the key, and a function of the executable.
        let result = unsafe { libc::pthread_key_create(&raw mut key, Some(end_of_thread)) };
        (result == 0).then_some(key)
    })
}

/// Sees to it that [`end_of_thread`] is called on this thread, again if it is already running.
pub(super) fn ask_for_end_of_thread() {
    if let Some(key) = exit_key() {
        // SAFETY: our key; any value that is not null will do. That this fails for lack of memory is possible:
        // then what the thread owes is forgotten when the system does not know the thread any more.
        unsafe { libc::pthread_setspecific(key, ptr::without_provenance(1)) };
    }
}

/// Sees to it that [`end_of_thread_locals`] is called when libc destroys this thread's thread-locals.
///
/// Once per thread and not once per destructor: libc never gives an entry back, and a main thread that
/// touches a hundred thousand generations would keep a hundred thousand. So the images' destructors run
/// together, newest first, at the place of the first among the host's own. (The key alone would do, but then
/// they would run after all of the host's, and not at all on the main thread at the end of the process.)
///
/// On a thread that an image has started the key does: libc takes the linker's lock for a registration, and whoever
/// waits for the thread may hold that, a constructor or a finaliser.
pub(super) fn ask_for_end_of_thread_locals() {
    unsafe extern "C" {
        fn __cxa_thread_atexit_impl(
            destructor: Destructor,
            object: *mut c_void,
            image: *const c_void,
        ) -> c_int;
    }
    // Its address says which image the destructor is of.
    static OF_THE_HOST: u8 = 0;
    let is_image_s = with_work(|work| work.started_by.is_some());
    if !is_image_s && !THIS.with(|this| this.asked.replace(true)) {
        // SAFETY: a function of the executable (or of whatever image this crate is in, which the loader then
        // keeps until the thread has ended, for that is what the address in it is for).
        unsafe {
            __cxa_thread_atexit_impl(
                end_of_thread_locals,
                ptr::null_mut(),
                (&raw const OF_THE_HOST).cast(),
            )
        };
    }
    ask_for_end_of_thread();
}

/// Called by libc when a thread ends, and on the thread that ends the process.
unsafe extern "C" fn end_of_thread_locals(_: *mut c_void) {
    run_destructors(|_| true);
    THIS.with(|this| this.asked.set(false));
}

/// Called by libc when a thread has ended, been cancelled or called `pthread_exit`, after its thread-local
/// destructors, in each round in which the key has a value. The last of the image's code on this thread has
/// returned before its count falls.
unsafe extern "C" fn end_of_thread(_: *mut c_void) {
    // From here on libc does not look at thread-local destructors again; `run_values` does.
    THIS.with(|this| this.asked.set(true));
    run_destructors(|_| true);
    run_values(|_| true);
    // What is left after all rounds is left, as with libc. It is settled, for nobody will run it.
    for (account, key, _) in with_work(|work| mem::take(&mut work.values)) {
        account.settle(|registrations| registrations.value_gone(this_tid(), key));
    }
    with_work(|work| {
        work.destructors = Vec::new();
        work.inside = Vec::new();
    });
    if let Some((account, ticket)) = with_work(|work| work.started_by.take()) {
        account.settle(|registrations| registrations.thread_ended(ticket));
    }
}

/// Runs this thread's thread-local destructors of the given accounts, newest first, those included that
/// they register.
pub(super) fn run_destructors(of: impl Fn(&Arc<State>) -> bool) {
    while run_newest_destructor(&of) {}
}

/// Runs the newest of them. `false`: there is none.
pub(super) fn run_newest_destructor(of: impl Fn(&Arc<State>) -> bool) -> bool {
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
    // SAFETY: registered for this thread, with this object, by an image that is mapped because this was
    // counted. A panic in it ends the process within the image, as std has it.
    inside(&account, || unsafe { destructor(object) });
    // Saturating for the child of a fork, where `forget_the_dead` knows nobody.
    account.settle(|registrations| {
        registrations.debt(this_tid(), |debt| {
            debt.destructors = debt.destructors.saturating_sub(1)
        })
    });
    true
}

/// Runs the destructors of this thread's key values of the given accounts, in as many rounds as libc
/// would, each followed by the thread-local destructors that it registered.
pub(super) fn run_values(of: impl Fn(&Arc<State>) -> bool) {
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
            // Null first, as libc does, and one at a time: a destructor may look at another key's value.
            let Some(value) = with_work(|work| work.take_value(&account, key)) else {
                continue;
            };
            let Some(destructor) =
                account.settle(|registrations| registrations.value_runs(this_tid(), key))
            else {
                continue;
            };
            // SAFETY: the key's destructor, with a value that this thread set; the image is mapped because
            // this was counted, and is still counted.
            inside(&account, || unsafe { destructor(value) });
            account.settle(|registrations| {
                registrations.debt(this_tid(), |debt| {
                    debt.running = debt.running.saturating_sub(1)
                })
            });
        }
        run_destructors(&of);
    }
}
