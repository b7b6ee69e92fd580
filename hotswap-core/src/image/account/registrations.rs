//! The counts of one account, and the state behind its token.
//!
//! Plain bookkeeping under one lock. It knows threads only by their numbers; [`thread`](super::thread) keeps what each
//! thread holds.
#![expect(unsafe_code, reason = "deletes keys of images")]

use std::{
    collections::HashMap,
    ffi::c_int,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use hotswap_unload::{Destructor, Key, VIRTUAL_KEY_FIRST};

use super::super::handlers::Handlers;
use crate::system::{errno, keys, thread};

/// The state to which a token points.
pub(super) struct AccountState {
    pub(super) id: u64,
    /// The process in which the image was opened. A forked child has none of its threads.
    pub(super) process: u32,
    pub(super) handlers: Arc<Handlers>,
    pub(super) registrations: Mutex<Registrations>,
    /// Set when no call is inside the image, and none will be.
    pub(super) retired: AtomicBool,
    /// Set when the image is gone; a thread may then drop what it holds of this account.
    pub(super) left: AtomicBool,
}

/// The counts of one account.
#[derive(Default)]
pub(super) struct Registrations {
    pub(super) threads: Vec<ThreadEntry>,
    pub(super) next_ticket: u64,
    /// By thread number. An entry without anything in it is removed.
    pub(super) pending: HashMap<c_int, PendingDestructors>,
    /// The image's keys and their destructors.
    pub(super) keys: HashMap<Key, Option<Destructor>>,
    pub(super) keys_made: Key,
    /// Keys of libc that the image made before the host attached; also in `keys`.
    pub(super) early_keys: Vec<Key>,
    pub(super) early_destructors: usize,
    /// `USES_…` of `unloadable!`.
    pub(super) uses: u32,
    /// Constructors registered more than `unloadable!` could note. Such an account never becomes clear.
    pub(super) unknown: bool,
    pub(super) closed: bool,
}

#[derive(Clone)]
pub(super) struct ThreadEntry {
    pub(super) ticket: u64,
    /// `None` while it is being started.
    pub(super) tid: Option<c_int>,
    pub(super) since: Instant,
    /// The name of the thread that started it. The system gives it to a new thread that nobody names.
    pub(super) inherited_name: String,
}

/// What one thread has left to run for one image.
#[derive(Default)]
pub(super) struct PendingDestructors {
    /// Thread-local destructors, registered or running.
    pub(super) destructors: usize,
    /// Keys with a destructor for which the thread has a value.
    pub(super) values: Vec<Key>,
    /// Key destructors that are running. Not in `values`, because the key may be deleted meanwhile.
    pub(super) running: usize,
}

impl PendingDestructors {
    pub(super) fn count(&self) -> usize {
        self.destructors + self.values.len() + self.running
    }
}

impl AccountState {
    pub(super) fn registrations(&self) -> MutexGuard<'_, Registrations> {
        self.registrations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no call is inside the image, and none will be.
    pub(super) fn is_retired(&self) -> bool {
        // Acquire: pairs with the Release in `Account::retire`.
        self.retired.load(Ordering::Acquire)
    }
}

impl Registrations {
    /// Whether there is nothing to wait for, except what thread `but` has to run when it ends.
    pub(super) fn is_clear_but_for(&self, but: Option<c_int>) -> bool {
        let others = |pending: &&c_int| but != Some(**pending);
        self.threads.is_empty() && self.pending.keys().find(others).is_none() && !self.unknown
    }

    pub(super) fn is_clear(&self) -> bool {
        self.is_clear_but_for(None)
    }

    /// Forgets threads that have ended without `thread::end_of_thread`, and what they had left to run: a thread that
    /// a constructor started, whose end nobody reports, and a thread to which libc did not give a fifth round of
    /// destructors. A thread that the system does not know any more runs no code. If another thread has got its
    /// number, this waits for that thread too.
    pub(super) fn forget_ended_threads(&mut self) {
        self.threads
            .retain(|thread| thread.tid.is_none_or(thread::lives));
        self.pending.retain(|&tid, _| thread::lives(tid));
    }

    /// Changes what a thread has left to run, and removes its entry once that is nothing.
    pub(super) fn with_pending<R>(
        &mut self,
        tid: c_int,
        change: impl FnOnce(&mut PendingDestructors) -> R,
    ) -> R {
        let pending = self.pending.entry(tid).or_default();
        let result = change(pending);
        if pending.count() == 0 {
            self.pending.remove(&tid);
        }
        result
    }

    pub(super) fn key_made(&mut self, destructor: Option<Destructor>) -> Option<Key> {
        // No number is used twice, so that no thread finds a deleted key's value under a new key.
        let key = VIRTUAL_KEY_FIRST.checked_add(self.keys_made)?;
        self.keys_made += 1;
        self.keys.insert(key, destructor);
        Some(key)
    }

    /// As with libc, the image itself has to free the values of a key that it deletes. Destructors that are running
    /// go on.
    pub(super) fn key_deleted(&mut self, key: Key) -> bool {
        if let Some(at) = self.early_keys.iter().position(|&early| early == key) {
            self.early_keys.swap_remove(at);
            // SAFETY: a key of libc that this image made, and that it now deletes.
            unsafe { keys::delete(key) };
        }
        for pending in self.pending.values_mut() {
            pending.values.retain(|&of| of != key);
        }
        self.pending.retain(|_, pending| pending.count() > 0);
        self.keys.remove(&key).is_some()
    }

    /// Counts a value of a thread that had none for this key.
    pub(super) fn value_set(&mut self, tid: c_int, key: Key) -> Result<(), c_int> {
        if self.is_closed_for(tid) {
            return Err(errno::ENOMEM);
        }
        match self.keys.get(&key) {
            None => return Err(errno::EINVAL),
            // Without a destructor no code will run for it.
            Some(None) => {}
            Some(Some(_)) => self.with_pending(tid, |pending| pending.values.push(key)),
        }
        Ok(())
    }

    pub(super) fn value_gone(&mut self, tid: c_int, key: Key) {
        self.with_pending(tid, |pending| pending.values.retain(|&of| of != key));
    }

    /// Counts a value's destructor as running instead of the value, in one step. `None`: the key is gone, or has no
    /// destructor.
    pub(super) fn value_runs(&mut self, tid: c_int, key: Key) -> Option<Destructor> {
        let destructor = self.keys.get(&key).copied().flatten()?;
        self.with_pending(tid, |pending| {
            pending.values.retain(|&of| of != key);
            pending.running += 1;
        });
        Some(destructor)
    }

    /// Counts a thread that the calling one, whose name is `creator`, is about to start. Returns its ticket.
    pub(super) fn thread_begins(&mut self, creator: String) -> u64 {
        self.next_ticket += 1;
        self.threads.push(ThreadEntry {
            ticket: self.next_ticket,
            tid: None,
            since: Instant::now(),
            inherited_name: creator,
        });
        self.next_ticket
    }

    pub(super) fn thread_runs(&mut self, ticket: u64, tid: c_int) {
        if let Some(entry) = self.threads.iter_mut().find(|entry| entry.ticket == ticket) {
            entry.tid = Some(tid);
        }
    }

    /// Whether a registration by this thread would be run only after the image is gone. That holds for the thread
    /// that closes the image, but not for a thread that a finaliser starts and waits for.
    pub(super) fn is_closed_for(&self, tid: c_int) -> bool {
        self.closed && !self.has_thread(tid)
    }

    /// Whether the image started this thread.
    pub(super) fn has_thread(&self, tid: c_int) -> bool {
        self.threads.iter().any(|entry| entry.tid == Some(tid))
    }

    pub(super) fn thread_ended(&mut self, ticket: u64) {
        self.threads.retain(|entry| entry.ticket != ticket);
    }
}
