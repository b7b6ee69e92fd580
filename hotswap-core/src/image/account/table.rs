//! The functions that `unloadable!` calls instead of libc's, each of which counts for one image.
//!
//! They are `extern "C"`, so a panic in one of them would end the process; none is meant to panic.
#![expect(unsafe_code, reason = "what the image passes are addresses")]

use std::{
    ffi::{c_int, c_void},
    process, ptr, slice,
    sync::{Arc, atomic::Ordering},
};

use hotswap_unload::{
    C11StartRoutine, Destructor, Handover, HostTable, Key, StartRoutine, Token, VERSION,
};

use super::{
    registrations::AccountState,
    thread::{
        ask_for_end_of_thread, ask_for_end_of_thread_locals, this_tid, try_with_work, with_work,
    },
};
use crate::system::{
    self,
    crash::{self, AlternateStack},
    errno,
};

pub(super) static HOST_TABLE: HostTable = HostTable {
    version: VERSION,
    size: size_of::<HostTable>() as u32,
    thread_atexit,
    key_create,
    key_delete,
    key_set,
    key_get,
    thread_create,
    c11_thread_create,
    note_uses,
    note_handler,
    hand_over,
};

/// The account to which a token points.
///
/// # Safety
/// `attach` gave the token to an image, and that image is the caller, so it is mapped.
unsafe fn account<'a>(token: Token) -> &'a AccountState {
    // SAFETY: the token holds a count of the account, which is given back only after its image is gone
    // (`image_left`).
    unsafe { &*token.cast::<AccountState>() }
}

/// As [`account`], but keeps the account alive.
///
/// # Safety
/// `attach` gave the token to an image, and that image is the caller, so it is mapped.
unsafe fn account_arc(token: Token) -> Arc<AccountState> {
    // SAFETY: the token came from `Arc::into_raw`, and its count is given back only after the image is gone.
    unsafe { Arc::increment_strong_count(token.cast::<AccountState>()) };
    // SAFETY: takes over the count that was just added.
    unsafe { Arc::from_raw(token.cast::<AccountState>()) }
}

/// Stands for `__cxa_thread_atexit_impl`. Each function of the table below stands for the function of libc that its
/// name says.
///
/// # Safety
/// Of this and of each function below: the arguments other than the token are valid for the function that it stands
/// for. `attach` gave the token to an image, and that image is the caller, so it is mapped.
unsafe extern "C" fn thread_atexit(
    token: Token,
    destructor: Destructor,
    object: *mut c_void,
) -> c_int {
    // SAFETY: the image that owns the token is the caller.
    let account = unsafe { account_arc(token) };
    {
        let mut registrations = account.registrations();
        if registrations.is_closed_for(this_tid()) {
            return errno::EPERM;
        }
        registrations.with_pending(this_tid(), |pending| pending.destructors += 1);
    }
    with_work(|work| work.destructors.push((account, destructor, object)));
    ask_for_end_of_thread_locals();
    0
}

unsafe extern "C" fn key_create(
    token: Token,
    key: *mut Key,
    destructor: Option<Destructor>,
) -> c_int {
    // SAFETY: the image that owns the token is the caller.
    let account = unsafe { account(token) };
    let Some(number) = account.registrations().key_made(destructor) else {
        return errno::EAGAIN;
    };
    // SAFETY: the caller passes a place for the key, as to `pthread_key_create`.
    unsafe { key.write(number) };
    0
}

unsafe extern "C" fn key_delete(token: Token, key: Key) -> c_int {
    // SAFETY: the image that owns the token is the caller.
    let account = unsafe { account(token) };
    if account.registrations().key_deleted(key) {
        0
    } else {
        errno::EINVAL
    }
}

unsafe extern "C" fn key_set(token: Token, key: Key, value: *const c_void) -> c_int {
    // SAFETY: the image that owns the token is the caller.
    let account = unsafe { account_arc(token) };
    let tid = this_tid();
    if value.is_null() {
        if with_work(|work| work.take_value(&account, key)).is_some() {
            account.registrations().value_gone(tid, key);
        }
        return 0;
    }
    if with_work(|work| work.replace_value(&account, key, value.cast_mut())) {
        return 0;
    }
    if let Err(error) = account.registrations().value_set(tid, key) {
        return error;
    }
    with_work(|work| {
        // Nobody waits for values without a destructor, so they stay on threads that outlive the image: drop them
        // here.
        // Relaxed: reading an old value only delays that.
        work.values
            .retain(|(account, ..)| !account.left.load(Ordering::Relaxed));
        work.values.push((account, key, value.cast_mut()));
    });
    ask_for_end_of_thread();
    0
}

unsafe extern "C" fn key_get(token: Token, key: Key) -> *mut c_void {
    // SAFETY: the image that owns the token is the caller.
    let account = unsafe { account(token) };
    // A signal handler may ask while its thread is setting a value; it is told that there is none yet.
    try_with_work(|work| work.value(account, key))
        .flatten()
        .unwrap_or(ptr::null_mut())
}

/// What a new thread receives.
struct Start {
    account: Arc<AccountState>,
    ticket: u64,
    start: Routine,
    argument: *mut c_void,
}

#[derive(Clone, Copy)]
enum Routine {
    Posix(StartRoutine),
    C11(C11StartRoutine),
}

unsafe extern "C" fn thread_create(
    token: Token,
    thread: *mut c_void,
    attributes: *const c_void,
    start: StartRoutine,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the arguments are valid for `pthread_create`, and the image that owns the token is the caller.
    unsafe { start_thread(token, thread, attributes, Routine::Posix(start), argument) }
}

unsafe extern "C" fn c11_thread_create(
    token: Token,
    thread: *mut c_void,
    start: C11StartRoutine,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the arguments are valid for `thrd_create`, and so for `pthread_create`, to which null attributes are the
    // default ones. The image that owns the token is the caller.
    unsafe { start_thread(token, thread, ptr::null(), Routine::C11(start), argument) }
}

/// # Safety
/// `thread` and `attributes` are valid for `pthread_create`, and `argument` for `start`. `attach` gave the token to an
/// image, and that image is the caller, so it is mapped.
unsafe fn start_thread(
    token: Token,
    thread: *mut c_void,
    attributes: *const c_void,
    start: Routine,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the image that owns the token is the caller.
    let account = unsafe { account_arc(token) };
    let creator = system::thread::own_name();
    // Counted also if a finaliser starts it; the finaliser has to wait for it.
    let ticket = account.registrations().thread_begins(creator);
    let given = Box::into_raw(Box::new(Start {
        account: Arc::clone(&account),
        ticket,
        start,
        argument,
    }));
    // SAFETY: the caller passes a valid `thread` and `attributes`, and `thread_begin` takes what it is given.
    let result = unsafe { system::thread::create(thread, attributes, thread_begin, given.cast()) };
    if result != 0 {
        // SAFETY: `given` is from `Box::into_raw` above. No thread was started that could own it.
        drop(unsafe { Box::from_raw(given) });
        account.registrations().thread_ended(ticket);
    }
    result
}

/// The first function of each thread of an image. It does not report the thread's end: `end_of_thread` runs later,
/// and also when the thread is left by `pthread_exit` or cancelled. While the image's code runs, nothing in this
/// frame has a destructor, because forced unwinding through it would not be allowed otherwise.
unsafe extern "C-unwind" fn thread_begin(given: *mut c_void) -> *mut c_void {
    let (start, argument) = {
        // SAFETY: `start_thread` passed a pointer from `Box::into_raw`, to this thread only.
        let given = unsafe { Box::from_raw(given.cast::<Start>()) };
        let Start {
            account,
            ticket,
            start,
            argument,
        } = *given;
        account.registrations().thread_runs(ticket, this_tid());
        let signal_stack = crash::is_reported().then(AlternateStack::install);
        with_work(|work| {
            work.started_by = Some((account, ticket));
            work.signal_stack = signal_stack.flatten();
        });
        ask_for_end_of_thread();
        (start, argument)
    };
    match start {
        // SAFETY: the image asked for this call, and is mapped because this thread is counted.
        Routine::Posix(routine) => unsafe { routine(argument) },
        // glibc cuts the result of a thread to an `int` in `thrd_join`.
        // SAFETY: the image asked for this call, and is mapped because this thread is counted.
        Routine::C11(routine) => ptr::without_provenance_mut(unsafe { routine(argument) } as usize),
    }
}

unsafe extern "C" fn note_uses(token: Token, uses: u32) {
    // SAFETY: the image that owns the token is the caller.
    let account = unsafe { account(token) };
    account.registrations().uses |= uses;
}

unsafe extern "C" fn note_handler(token: Token, signal: c_int, old: usize, new: usize) {
    // SAFETY: the image that owns the token is the caller.
    let account = unsafe { account(token) };
    // In a forked child, a thread that does not exist there may hold the lock.
    if account.process == process::id() {
        account.handlers.changed(signal, old, new);
    }
}

unsafe extern "C" fn hand_over(token: Token, early: *const Handover) {
    // SAFETY: the image that owns the token is the caller.
    let account = unsafe { account(token) };
    // SAFETY: the image passes a valid list, which lives during this call.
    let early = unsafe { &*early };
    // SAFETY: `threads` has `threads_len` entries, which live during this call.
    let threads = unsafe { slice::from_raw_parts(early.threads, early.threads_len) };
    // SAFETY: `keys` has `keys_len` entries, which live during this call.
    let keys = unsafe { slice::from_raw_parts(early.keys, early.keys_len) };
    // The image's constructors ran on this thread, so it is the creator.
    let creator = system::thread::own_name();
    let mut registrations = account.registrations();
    for &tid in threads {
        let ticket = registrations.thread_begins(creator.clone());
        registrations.thread_runs(ticket, tid);
    }
    registrations.uses = early.uses;
    registrations
        .early_keys
        .extend(keys.iter().map(|early| early.key));
    registrations
        .keys
        .extend(keys.iter().map(|early| (early.key, early.destructor)));
    registrations.early_destructors = early.destructors;
    registrations.unknown = early.incomplete != 0;
}
