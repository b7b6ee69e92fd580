//! The way out of an image that nobody calls any more.
//!
//! 1. The plugin's hook runs, on a thread of its own.
//! 2. hotswap looks for anything that may call the image and cannot be waited for: functions that it uses, signal
//!    handlers, libraries. If it finds something, it waits for the image's threads to end and then pins the image,
//!    open and with its thread-locals. An image that can start threads and has no `unloadable!`, or one that this
//!    host cannot work with, is pinned too, for nobody counts what it uses.
//! 3. hotswap waits for what the [`Account`] of a plugin with `unloadable!` counts: its threads, its thread-local
//!    destructors, the values of its keys. For a plugin without `unloadable!` it deletes the pthread keys whose
//!    destructor lies in the image, and waits for threads that may be running one ([`ending`](super::ending)).
//! 4. The thread that opened the image writes out what the plugin's std holds back, and ends; what initialisers
//!    registered with libc for the end of that thread runs now. A thread that has nothing to do for the image, and
//!    whose state the image has not changed, is kept for the next image instead.
//! 5. hotswap closes the image and verifies that it is gone ([`Closed`]).
//!
//! Nothing here blocks: a step that has to wait is tried again at the next call. The image's finalisers run on the
//! calling thread.

use std::{
    mem::ManuallyDrop,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hotswap_unload::Heap;

use super::{
    Image,
    account::Account,
    closed::Closed,
    dependencies::{self, Caller, Known},
    ending::SuspectThreads,
    handlers,
    opener::Opener,
    pin_reason::{HeapLeft, PinReason},
    process_end, stdout,
};
use crate::{
    holder::Holder,
    system::{keys, thread},
    threads,
};

/// Whether this host is attached to the image's `unloadable!`.
#[derive(Debug)]
pub(super) enum Attachment {
    /// It registers what it does with this account.
    Attached(Account),
    /// It has none.
    Missing,
    /// It has one that this host cannot work with, for this reason.
    Refused(String),
}

impl Attachment {
    pub(super) fn account(&self) -> Option<&Account> {
        match self {
            Self::Attached(account) => Some(account),
            Self::Missing | Self::Refused(_) => None,
        }
    }
}

/// An image that nobody calls any more, and whose threads or destructors may still have something to run.
pub(crate) struct Leaving {
    image: Image,
    hook: Option<JoinHandle<Result<(), String>>>,
    hook_panic: Option<String>,
    /// The threads that may be running the destructor of a deleted key. Only for a plugin without `unloadable!`.
    suspects: Option<SuspectThreads>,
    /// Whether hotswap found that only the image's own threads and destructors can call it.
    is_free: bool,
    /// Whether only the opener had anything left to run for the image when `is_free` was set. If so, no code of the
    /// image has run since.
    was_quiet: bool,
    /// When to check again whether something may call the image.
    next_check: Instant,
    /// A reason that keeps the image open for good, found when it was retired.
    never: Option<PinReason>,
    /// What the plugin leaves on its heap, if its allocator counts.
    heap: Option<HeapLeft>,
}

/// What came of an attempt to close an image.
pub(crate) enum Exit {
    /// It has left the address space.
    Gone(Gone),
    /// It is still mapped: the system keeps it, or it may not be safe to close.
    Pinned(Box<Pinned>),
    /// There is something to wait for.
    NotYet(Box<Leaving>),
}

/// What is left of an image.
pub(crate) struct Gone {
    /// What it left on its heap, if its allocator counts.
    pub(crate) heap: Option<HeapLeft>,
    /// The thread that opened it, if the image left nothing on that thread.
    pub(crate) opener: Option<Opener>,
}

/// An image that nobody uses and that is still mapped.
pub(crate) struct Pinned {
    why: PinReason,
    image: StillMapped,
}

enum StillMapped {
    /// It was not closed: something may call it.
    Open(Box<Leaving>),
    /// It was closed, and the system keeps it.
    Closed(Box<Closed>),
}

/// The period at which hotswap checks whether something may call an image that has threads of its own.
const CHECK_PERIOD: Duration = Duration::from_millis(20);

/// An opener that takes longer to end is reported: it probably runs a destructor that waits for something. (On a busy
/// machine it may just not have been scheduled.)
const OPENER_TIMEOUT: Duration = Duration::from_secs(1);

impl Leaving {
    pub(super) fn new(image: Image) -> Self {
        let mut leaving = Self {
            image,
            hook: None,
            hook_panic: None,
            suspects: None,
            is_free: false,
            was_quiet: false,
            next_check: Instant::now(),
            never: None,
            heap: None,
        };
        match &leaving.image.attachment {
            Attachment::Attached(account) => {
                // The hook may take long, so it runs on a thread of its own; if none can be started, it runs here. It
                // does not run if the process ends: then the image does not leave.
                let run = || Some((account.hook()?, process_end::begin()?));
                if let Some((hook, work)) = run() {
                    let thread = threads::start("hotswap-unload", move || work.run(|| hook.run()));
                    match thread {
                        Ok(running) => leaving.hook = Some(running),
                        Err(_) => {
                            let panic =
                                run().and_then(|(hook, work)| work.run(|| hook.run()).err());
                            leaving.hook_panic = panic;
                        }
                    }
                }
            }
            // The host has not attached to its `unloadable!`, through which it calls libc, so the inspection cannot
            // tell what it uses.
            Attachment::Refused(_) => leaving.never = Some(PinReason::MayHaveThreads),
            Attachment::Missing => leaving.forget_keys(),
        }
        // Without a hook this can be done now, so that the calling thread runs its own share when it leaves the
        // host's code.
        let may_leave = leaving.never.is_none() && !process_end::has_begun();
        if leaving.hook.is_none() && may_leave {
            leaving.free_unless_callable();
        }
        leaving
    }

    /// Deletes the pthread keys of a plugin without `unloadable!`, so that no thread calls their destructors when it
    /// ends. (What the values own is leaked: for std, one thread handle per thread and image.)
    ///
    /// `thread::current()` in a plugin makes one. If such a plugin were unmapped with its key, the process would die
    /// when a thread with a value ends; and after some thousand reloads no key would be left, so that std aborts.
    fn forget_keys(&mut self) {
        let facts = self.image.staged.facts();
        if facts.starts_threads {
            self.never = Some(PinReason::MayHaveThreads);
        } else if facts.creates_keys {
            // SAFETY: the image is retired: no call is inside, and none will be. It can start no threads.
            match unsafe { keys::delete_keys_into(&self.image.mapping.range()) } {
                Some(0) => {}
                // Listed after the keys are gone: a thread that begins later finds no key.
                Some(_) => match SuspectThreads::now() {
                    Some(suspects) => self.suspects = Some(suspects),
                    None => self.never = Some(PinReason::MayHaveKeys),
                },
                None => self.never = Some(PinReason::MayHaveKeys),
            }
        }
    }

    /// The size of its copy, in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.image.origin().bytes
    }

    /// The message of the hook's panic, once the hook has ended. Returned only once.
    pub(crate) fn hook_panic(&mut self) -> Option<String> {
        if let Some(hook) = self.hook.take_if(|hook| hook.is_finished()) {
            // The hook catches its own panics and returns them as its result.
            self.hook_panic = hook.join().ok().and_then(Result::err);
        }
        self.hook_panic.take()
    }

    /// Closes the image if there is nothing to wait for.
    pub(crate) fn try_close(mut self: Box<Self>) -> Exit {
        if let Some(why) = self.never.clone() {
            return self.pinned(why);
        }
        if self.hook.is_some() || process_end::has_begun() || self.may_run_a_destructor() {
            return Exit::NotYet(self);
        }
        if !self.is_free {
            if Instant::now() < self.next_check {
                return Exit::NotYet(self);
            }
            if self.has_no_threads() {
                self.image.handlers.retire();
            }
            match self.free_unless_callable() {
                None => {}
                // It stays open and may be called, so threads keep what they have left to run for it, and its
                // thread-locals.
                Some(why) if self.has_no_threads() => return self.pinned(why),
                Some(_) => {
                    self.next_check = Instant::now() + CHECK_PERIOD;
                    return Exit::NotYet(self);
                }
            }
        }
        if !self.is_clear_but_for_opener() {
            return Exit::NotYet(self);
        }
        if !self.image.opener.is_ending() {
            // If it stays open, its opener has to stay too.
            if !self.was_quiet
                && let Some(why) = self.may_be_called()
            {
                return self.pinned(why);
            }
            let flush = self.flush();
            if flush.is_none() && self.left_nothing_on_opener() {
                return self.close();
            }
            self.end_opener(flush);
        }
        if !self.image.opener.has_ended() {
            return Exit::NotYet(self);
        }
        // Look again: the opener has run destructors of the image since.
        if let Some(why) = self.may_be_called() {
            return self.pinned(why);
        }
        self.close()
    }

    /// Unless something may call the image, lets threads run what they have left to do for it. Otherwise returns what
    /// may.
    fn free_unless_callable(&mut self) -> Option<PinReason> {
        // Checked before looking: if it is quiet, no thread can register anything while `may_be_called` looks.
        let is_quiet =
            self.is_clear_but_for_opener() && self.is_counted() && self.suspects.is_none();
        if let Some(why) = self.may_be_called() {
            return Some(why);
        }
        self.is_free = true;
        self.was_quiet = is_quiet;
        if let Some(account) = self.account() {
            // SAFETY: the image is owned, so no call is inside and none will be (`Image::retire`). Its hook has
            // ended, and `may_be_called` has found nothing that could call it.
            unsafe { account.retire() };
        }
        None
    }

    fn account(&self) -> Option<&Account> {
        self.image.attachment.account()
    }

    /// Whether all threads that the image started have ended.
    fn has_no_threads(&self) -> bool {
        self.account().is_none_or(Account::has_no_threads)
    }

    /// Whether a thread may be running the destructor of a deleted key.
    fn may_run_a_destructor(&mut self) -> bool {
        let mapping = &self.image.mapping;
        let suspects = self.suspects.as_mut();
        suspects.is_some_and(|suspects| !suspects.look(mapping).is_empty())
    }

    fn is_clear_but_for_opener(&self) -> bool {
        let opener = self.image.opener.tid();
        self.account().is_none_or(|it| it.is_clear_but_for(opener))
    }

    /// Whether hotswap knows what threads have left to run for the image.
    fn is_counted(&self) -> bool {
        self.account().is_some() || !self.image.staged.facts().thread_exit_hook
    }

    /// The function that writes out what the plugin's std holds back, if the plugin has printed.
    fn flush(&self) -> Option<unsafe extern "C" fn()> {
        let account = self.account()?;
        let Image {
            staged, mapping, ..
        } = &self.image;
        // SAFETY: the image was opened from `staged` and is mapped at `mapping`. It is retired and has nothing left to
        // run, so no code of it runs.
        let has_printed = unsafe { stdout::printed(staged, mapping) } == Some(true);
        has_printed.then(|| account.flush())
    }

    /// Whether the image has left nothing on the thread that opened it, and has not changed the thread's state. Then
    /// that thread may outlive the image.
    ///
    /// `unloadable!` does not see what C++ code registers with its runtime for a thread's end, nor what was
    /// registered before the host attached. So this is `false` for an image that needs more than C's libraries, or
    /// that had registered anything by then.
    fn left_nothing_on_opener(&self) -> bool {
        let libraries = dependencies::loaded(self.image.staged.facts());
        self.account().is_some_and(|account| {
            account.never_had_early_ones()
                && account.is_clear()
                && dependencies::are_c_libraries(&libraries)
                && self.image.opener.is_as_started()
        })
    }

    /// Has the opener call `flush` and then end, which runs what is registered for the end of that thread.
    fn end_opener(&self, flush: Option<unsafe extern "C" fn()>) {
        self.image.opener.end(move || {
            if let Some(flush) = flush {
                // SAFETY: a function of the image, which is closed only after this thread has ended.
                unsafe { flush() };
            }
        });
    }

    /// Why code may call the image although no call is inside of it. `None`: nothing was found that may.
    fn may_be_called(&self) -> Option<PinReason> {
        let Image {
            staged,
            mapping,
            handlers,
            policy,
            ..
        } = &self.image;
        // The system keeps the first image that defines a unique symbol. Later ones use the first one's statics, which
        // may refer to them.
        if staged.facts().unique_symbols {
            return Some(PinReason::UniqueSymbols);
        }
        let account = self.account();
        let is_vouched = |name: &str| account.is_some_and(|account| account.vouches_for(name));
        let imported = staged.facts().keeping_functions.iter().copied();
        // Threads are counted by a function of `unloadable!`. A file that imports that of libc as well, of a certain
        // version (`.symver`), starts some past it.
        let past_account = account.is_some() && staged.facts().imports_pthread_create;
        let imported = imported.chain(past_account.then_some("pthread_create"));
        let mut used = account.into_iter().flat_map(Account::uses).chain(imported);
        if let Some(function) = used.find(|name| !is_vouched(name)) {
            return Some(PinReason::Function(function.to_owned()));
        }
        if let Some(signal) = handlers.outstanding() {
            return Some(PinReason::SignalHandler(handlers::name(signal)));
        }
        let known = |library: &str| {
            let told = dependencies::policy_says(library, policy);
            if account.is_some_and(|it| it.is_pinned_by(library)) || told == Some(Known::Pinning) {
                Some(Known::Pinning)
            } else if is_vouched(library) || told == Some(Known::Harmless) {
                Some(Known::Harmless)
            } else {
                dependencies::known(library)
            }
        };
        let libraries = dependencies::loaded(staged.facts());
        match dependencies::caller_of(mapping, &libraries, known) {
            Some(Caller::Able(library)) => return Some(PinReason::Library(library)),
            Some(Caller::Has(library)) => return Some(PinReason::Callback(library)),
            None => {}
        }
        // Keys that a library made with a destructor in the image. The image's own keys are the host's by now or
        // early ones, which the account lists; those of a plugin without `unloadable!` were deleted.
        let mut keys = keys::keys_into(&mapping.range())
            .unwrap_or_default()
            .into_iter();
        let is_own = |key| account.is_some_and(|account| account.is_early_key(key));
        keys.any(|key| !is_own(key))
            .then(|| PinReason::Callback("a pthread key of another library".to_owned()))
    }

    fn pinned(self: Box<Self>, why: PinReason) -> Exit {
        let image = StillMapped::Open(self);
        Exit::Pinned(Box::new(Pinned { why, image }))
    }

    /// Closes the image. Call it when no code of the image runs any more, and none will.
    fn close(mut self: Box<Self>) -> Exit {
        if let Some(account) = self.image.attachment.account() {
            // SAFETY: the image is mapped until this function drops its handle, below.
            let heap = unsafe { account.heap() };
            self.heap = heap.map(|Heap { bytes, allocations }| HeapLeft { bytes, allocations });
            // SAFETY: the image is retired, so that no call is inside, and none will be.
            if !unsafe { account.close() } {
                return Exit::NotYet(self);
            }
        }
        let Image { staged, policy, .. } = &self.image;
        dependencies::keep_callable(&dependencies::loaded(staged.facts()), policy);
        let Self { image, heap, .. } = *self;
        let Image {
            object,
            staged,
            opener,
            name,
            attachment,
            kept,
            ..
        } = image;
        let account = match attachment {
            Attachment::Attached(account) => Some(account),
            Attachment::Missing | Attachment::Refused(_) => None,
        };
        let closed = Closed {
            staged,
            name,
            account,
            kept,
            heap,
        };
        let opener = ManuallyDrop::into_inner(opener);
        match closed.close(ManuallyDrop::into_inner(object)) {
            Ok(heap) => Exit::Gone(Gone {
                heap,
                opener: (!opener.is_ending()).then_some(opener),
            }),
            Err(closed) => {
                let why = closed.why();
                let image = StillMapped::Closed(closed);
                Exit::Pinned(Box::new(Pinned { why, image }))
            }
        }
    }

    /// Whether the image waits for others: its hook, its threads, or what other threads have left to run for it. Its
    /// opener counts only if it takes long to end.
    pub(crate) fn waits_for_others(&self) -> bool {
        let is_kept = |opener: &Opener| opener.ending_for().is_some_and(|it| it > OPENER_TIMEOUT);
        self.hook.is_some()
            || self
                .suspects
                .as_ref()
                .is_some_and(|it| !it.threads().is_empty())
            || !self.is_free
            || !self.is_clear_but_for_opener()
            || is_kept(&self.image.opener)
    }

    /// Whether threads may run what they have left to run for the image, and some have not.
    pub(crate) fn waits_for_threads(&self) -> bool {
        self.is_free && !self.is_clear_but_for_opener()
    }

    /// What the image waits for at this moment.
    pub(crate) fn obstacles(&self) -> Vec<Holder> {
        let hook = self.hook.as_ref().map(|_| Holder::Hook);
        let opener = &self.image.opener;
        let parked = (!opener.is_ending()).then(|| opener.tid());
        let counted = self.account().map(|it| it.obstacles(parked));
        let suspects = self.suspects.iter().flat_map(SuspectThreads::threads);
        let suspects = suspects.map(|&thread| Holder::DeletedKey {
            thread,
            name: thread::name_of(thread),
        });
        let opener = opener.ending_for().map(|age| {
            let thread = opener.tid().cast_unsigned();
            Holder::Thread {
                thread: Some(thread),
                name: thread::name_of(thread),
                age,
            }
        });
        hook.into_iter()
            .chain(opener)
            .chain(suspects)
            .chain(counted.into_iter().flatten())
            .collect()
    }
}

impl Pinned {
    /// Looks again whether the image may be closed, or is gone.
    ///
    /// If a thread kept a closed image, the end of that thread does not unmap it; the next `dlclose` that unloads
    /// anything does (glibc 2.36, 2026-11). So this opens and closes the image once more.
    pub(crate) fn retry(self: Box<Self>) -> Result<Gone, Box<Self>> {
        if self.why.is_final() {
            return Err(self);
        }
        let Self { why, image } = *self;
        let image = match image {
            StillMapped::Open(leaving) => match leaving.try_close() {
                Exit::Gone(gone) => return Ok(gone),
                Exit::Pinned(pinned) => return Err(pinned),
                Exit::NotYet(leaving) => StillMapped::Open(leaving),
            },
            StillMapped::Closed(closed) => match closed.close_again() {
                Ok(heap) => return Ok(Gone { heap, opener: None }),
                Err(closed) => StillMapped::Closed(closed),
            },
        };
        Err(Box::new(Self { why, image }))
    }

    pub(crate) fn why(&self) -> &PinReason {
        &self.why
    }

    /// Whether nothing may call the image any more, and it waits for what threads have left to run for it.
    pub(crate) fn waits_for_threads(&self) -> bool {
        matches!(&self.image, StillMapped::Open(leaving) if leaving.waits_for_threads())
    }
}
