//! The counts of one account, and what of it is behind a token.
//!
//! Plain bookkeeping under one lock. Knows threads by their numbers only: what they hold is in `thread`.
#![expect(
    unsafe_code,
    reason = "asks the system for a thread, and libc to delete a key"
)]

use std::{
    collections::HashMap,
    ffi::c_int,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use hotswap_unload::{Destructor, Key, VIRTUAL_KEY_FIRST};

use super::{super::handlers::Handlers, Debtor, Outstanding, PluginThread};

/// What stands behind a token.
pub(super) struct State {
    pub(super) id: u64,
    /// The process in which the image was opened. A child that was forked off has none of the threads.
    pub(super) process: u32,
    pub(super) handlers: Arc<Handlers>,
    pub(super) registrations: Mutex<Registrations>,
    /// Set when no call is inside the image any more, nor will be.
    pub(super) retired: AtomicBool,
    /// Set when the image has left; then a thread may throw away what it holds of this account.
    pub(super) left: AtomicBool,
}

/// The counts of one account.
#[derive(Default)]
pub(super) struct Registrations {
    pub(super) threads: Vec<ThreadEntry>,
    pub(super) next_ticket: u64,
    /// By thread number. An entry with nothing in it is removed.
    pub(super) debts: HashMap<c_int, Debt>,
    /// The image's keys and their destructors.
    pub(super) keys: HashMap<Key, Option<Destructor>>,
    pub(super) keys_made: Key,
    /// Keys of libc that the image made before the host attached; also in `keys`.
    pub(super) early_keys: Vec<Key>,
    pub(super) early_destructors: usize,
    /// `USES_…` of `unloadable!`.
    pub(super) uses: u32,
    pub(super) unknown: bool,
    pub(super) closed: bool,
}

pub(super) struct ThreadEntry {
    pub(super) ticket: u64,
    pub(super) tid: Option<c_int>,
    pub(super) since: Instant,
    /// What its creator was called, which is what the system calls a thread that nobody names.
    pub(super) inherited_name: String,
}

/// What one thread has to do for one image.
#[derive(Default)]
pub(super) struct Debt {
    /// Thread-local destructors, registered or running.
    pub(super) destructors: usize,
    /// Keys with a destructor of which it has a value.
    pub(super) values: Vec<Key>,
    /// Keys' destructors that are running. Apart from `values`, because the key may be deleted meanwhile.
    pub(super) running: usize,
}

impl Debt {
    pub(super) fn is_settled(&self) -> bool {
        self.destructors == 0 && self.values.is_empty() && self.running == 0
    }
}

impl State {
    pub(super) fn registrations(&self) -> MutexGuard<'_, Registrations> {
        self.registrations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no call is inside the image any more, nor will be.
    pub(super) fn is_retired(&self) -> bool {
        // Acquire: pairs with the Release in `Account::retire`.
        self.retired.load(Ordering::Acquire)
    }

    /// Changes the registrations, under their lock.
    pub(super) fn settle<R>(&self, change: impl FnOnce(&mut Registrations) -> R) -> R {
        change(&mut self.registrations())
    }
}

impl Registrations {
    /// Whether there is nothing left to wait for but what thread `but` has to do when it ends.
    pub(super) fn is_clear_but_for(&self, but: Option<c_int>) -> bool {
        let others = |debtor: &&c_int| but != Some(**debtor);
        self.threads.is_empty() && self.debts.keys().find(others).is_none() && !self.unknown
    }

    pub(super) fn is_clear(&self) -> bool {
        self.is_clear_but_for(None)
    }

    /// Without the names, which are read from files: not under this lock.
    pub(super) fn outstanding(&self) -> Outstanding {
        let threads = self.threads.iter().map(|thread| PluginThread {
            tid: thread.tid,
            name: String::new(),
            inherited_name: thread.inherited_name.clone(),
            age: thread.since.elapsed(),
        });
        let debtors = self.debts.iter().map(|(&tid, debt)| Debtor {
            tid,
            name: String::new(),
            destructors: debt.destructors + debt.values.len() + debt.running,
        });
        Outstanding {
            threads: threads.collect(),
            debtors: debtors.collect(),
            early_destructors: self.early_destructors,
            unknown: self.unknown,
        }
    }

    /// Drops what threads owe that have ended without `thread::end_of_thread`: those that constructors started,
    /// whose end is nobody's report, and those that libc did not give a fifth round of destructors. A thread
    /// that the system does not know any more runs no code. If its number was given to another thread, this
    /// waits for that one too.
    pub(super) fn forget_the_dead(&mut self) {
        self.threads
            .retain(|thread| thread.tid.is_none_or(thread_lives));
        self.debts.retain(|&tid, _| thread_lives(tid));
    }

    /// Changes what a thread owes. The entry goes when nothing is left in it.
    pub(super) fn debt<R>(&mut self, tid: c_int, change: impl FnOnce(&mut Debt) -> R) -> R {
        let debt = self.debts.entry(tid).or_default();
        let result = change(debt);
        if debt.is_settled() {
            self.debts.remove(&tid);
        }
        result
    }

    pub(super) fn key_made(&mut self, destructor: Option<Destructor>) -> Option<Key> {
        // Never one twice, so that no thread finds a deleted key's value under a new one.
        let key = VIRTUAL_KEY_FIRST.checked_add(self.keys_made)?;
        self.keys_made += 1;
        self.keys.insert(key, destructor);
        Some(key)
    }

    /// Values of a deleted key are the image's to free, as with libc; those destructors that run do run on.
    pub(super) fn key_deleted(&mut self, key: Key) -> bool {
        if let Some(at) = self.early_keys.iter().position(|&early| early == key) {
            self.early_keys.swap_remove(at);
            // SAFETY: a key of libc that this image made, and that it deletes.
            unsafe { libc::pthread_key_delete(key) };
        }
        for debt in self.debts.values_mut() {
            debt.values.retain(|&of| of != key);
        }
        self.debts.retain(|_, debt| !debt.is_settled());
        self.keys.remove(&key).is_some()
    }

    /// A thread has a value where it had none.
    pub(super) fn value_set(&mut self, tid: c_int, key: Key) -> Result<(), c_int> {
        if self.is_closed_for(tid) {
            return Err(libc::ENOMEM);
        }
        match self.keys.get(&key) {
            None => return Err(libc::EINVAL),
            // Without a destructor no code will run for it.
            Some(None) => {}
            Some(Some(_)) => self.debt(tid, |debt| debt.values.push(key)),
        }
        Ok(())
    }

    pub(super) fn value_gone(&mut self, tid: c_int, key: Key) {
        self.debt(tid, |debt| debt.values.retain(|&of| of != key));
    }

    /// From a value to a destructor that runs, in one step; `None` if there is none to run, or no key any more.
    pub(super) fn value_runs(&mut self, tid: c_int, key: Key) -> Option<Destructor> {
        let destructor = self.keys.get(&key).copied().flatten()?;
        self.debt(tid, |debt| {
            debt.values.retain(|&of| of != key);
            debt.running += 1;
        });
        Some(destructor)
    }

    /// A thread is about to be started by the calling one, whose name this is.
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

    /// Whether what a thread leaves would be run when the image is gone: that which closes it. Threads that a finaliser
    /// starts and waits for are not that one.
    pub(super) fn is_closed_for(&self, tid: c_int) -> bool {
        self.closed && !self.has_thread(tid)
    }

    /// Whether it is one that the image started.
    pub(super) fn has_thread(&self, tid: c_int) -> bool {
        self.threads.iter().any(|entry| entry.tid == Some(tid))
    }

    pub(super) fn thread_ended(&mut self, ticket: u64) {
        self.threads.retain(|entry| entry.ticket != ticket);
    }
}

/// What the calling thread is called. A system call.
pub(super) fn own_name() -> String {
    rustix::thread::name().map_or_else(
        |_| String::new(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// What a thread is called; empty if it is gone.
pub(in super::super) fn thread_name(tid: c_int) -> String {
    let name = std::fs::read_to_string(format!("/proc/self/task/{tid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// Whether a thread of this process has not ended yet.
pub(in super::super) fn thread_lives(tid: c_int) -> bool {
    let process = std::process::id();
    // SAFETY: signal 0 is not sent, it only asks whether it could be.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, process, tid, 0) } == 0;
    // Dead only if the system says just that; a sandbox may forbid to ask. And not by looking into /proc:
    // where that is not mounted, every thread would look dead.
    sent || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}
