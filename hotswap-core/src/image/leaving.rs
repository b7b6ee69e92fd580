//! The way out of an image that nobody calls any more.
//!
//! In this order:
//!
//! 1. The plugin's hook runs, on a thread of its own.
//! 2. Is there anything that may call it and cannot be waited for: functions that it uses, signal handlers, libraries?
//!    Then it stays open when its threads have ended, and is pinned; its thread-locals stay, too. One that can start
//!    threads is pinned if it has no `unloadable!`, or one that we cannot work with, for that hides what the image uses.
//! 3. What the [`Account`] of a plugin with `unloadable!` counts is waited for: its threads, its thread-local destructors,
//!    the values of its keys. Of a plugin without `unloadable!`, pthread keys whose destructor lies in the image are deleted,
//!    and threads that may be running one are waited for ([`ending`](super::ending)).
//! 4. The thread that opened it writes out what the plugin's std holds back, and ends. What initialisers have left with
//!    libc for its end runs now. A thread that has nothing to do for the image is left for the next image instead.
//! 5. It is closed, and looked for ([`Closed`]).
//!
//! A step that has to wait for something is left for the next time. The image's finalisers run on the thread that calls
//! in here.

use std::{
    mem::ManuallyDrop,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hotswap_unload::Heap;

use super::{
    Image,
    account::{Account, AttachError, Outstanding, thread_name},
    closed::Closed,
    dependencies::{self, Caller, Known},
    ending::Ending,
    handlers, keys,
    opener::Opener,
    pin_reason::{HeapLeft, PinReason},
    stdout,
};
use crate::{holder::Holder, stage::check_thread};

/// Whether this host is attached to the image's `unloadable!`.
#[derive(Debug)]
pub(super) enum Attachment {
    /// It keeps an account with us.
    Attached(Account),
    /// It has none.
    Missing,
    /// It has one that we cannot work with.
    Refused(AttachError),
}

/// An image that nobody calls any more, and that may still have something to do.
pub(crate) struct Leaving {
    image: Image,
    hook: Option<JoinHandle<Result<(), String>>>,
    hook_panic: Option<String>,
    /// The threads that may be running a destructor whose key was deleted. Only of a plugin without `unloadable!`.
    ending: Option<Ending>,
    /// Whether it was found that nothing can call it but its own threads and destructors.
    is_free: bool,
    /// Whether no thread but its opener had anything left to run for it then. If so, none of its code has run since.
    was_quiet: bool,
    /// When that is looked at next.
    next_look: Instant,
    /// Why the image may not be closed, whatever it does.
    never: Option<PinReason>,
    /// What it has left on its heap, as far as that is counted.
    heap: Option<HeapLeft>,
}

/// What came of an attempt to close an image.
pub(crate) enum Exit {
    /// It has left the address space.
    Gone(Gone),
    /// The system keeps it, or it cannot be known safe to close.
    Pinned(Box<Pinned>),
    /// There is something to wait for.
    NotYet(Box<Leaving>),
}

/// What is left of an image.
pub(crate) struct Gone {
    /// What is left on its heap, if that is counted.
    pub(crate) heap: Option<HeapLeft>,
    /// The thread that opened it, if nothing of the image is left there.
    pub(crate) opener: Option<Opener>,
}

/// An image that nobody uses and that is still mapped.
pub(crate) struct Pinned {
    why: PinReason,
    image: StillMapped,
}

enum StillMapped {
    /// It was not closed: there is code that may call it.
    Open(Box<Leaving>),
    /// It was closed, and the system keeps it.
    Closed(Box<Closed>),
}

/// How often it is looked whether an image can still be called that has threads of its own.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// An opener that takes longer to end runs a destructor that waits for something. (On a busy machine it may only not
/// have had a turn.)
const OPENER_PATIENCE: Duration = Duration::from_secs(1);

impl Leaving {
    pub(super) fn new(image: Image) -> Self {
        let mut leaving = Self {
            image,
            hook: None,
            hook_panic: None,
            ending: None,
            is_free: false,
            was_quiet: false,
            next_look: Instant::now(),
            never: None,
            heap: None,
        };
        match &leaving.image.attachment {
            Attachment::Attached(account) => {
                // The hook may take its time, so it has a thread of its own; if none is to be had, this one.
                let thread = thread::Builder::new().name("hotswap-unload".to_owned());
                if let Some(hook) = account.hook() {
                    let thread = check_thread().and_then(|()| thread.spawn(move || hook.run()));
                    match thread {
                        Ok(running) => leaving.hook = Some(running),
                        Err(_) => {
                            leaving.hook_panic = account.hook().and_then(|hook| hook.run().err())
                        }
                    }
                }
            }
            // What such a plugin uses of libc it gets through its `unloadable!`, out of sight of the inspection.
            Attachment::Refused(_) => leaving.never = Some(PinReason::MayHaveThreads),
            Attachment::Missing => leaving.forget_keys(),
        }
        // At once if there is no hook, so that whoever is here can do what is left for its thread.
        if leaving.hook.is_none() && leaving.never.is_none() {
            leaving.free_unless_called();
        }
        leaving
    }

    /// What a plugin without `unloadable!` leaves with libc: its keys are deleted, so that no thread calls their
    /// destructors when it ends. (What the values own is leaked.)
    fn forget_keys(&mut self) {
        let facts = self.image.staged.facts();
        if facts.starts_threads {
            self.never = Some(PinReason::MayHaveThreads);
        } else if facts.makes_keys {
            // SAFETY: the image is retired: nobody is inside and nobody will be.
            match unsafe { keys::delete_keys_into(&self.image.place.range()) } {
                Some(0) => {}
                // After the keys are gone: a thread that begins later finds none.
                Some(_) => match Ending::now() {
                    Some(ending) => self.ending = Some(ending),
                    None => self.never = Some(PinReason::MayHaveKeys),
                },
                None => self.never = Some(PinReason::MayHaveKeys),
            }
        }
    }

    /// The size of its copy.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.image.origin().bytes
    }

    /// Looks whether the plugin's hook has ended, and gives what it panicked with; once.
    pub(crate) fn hook_panic(&mut self) -> Option<String> {
        if let Some(hook) = self.hook.take_if(|hook| hook.is_finished()) {
            // The hook catches its own panics: they come as its result.
            self.hook_panic = hook.join().ok().and_then(Result::err);
        }
        self.hook_panic.take()
    }

    /// Closes the image if there is nothing left to wait for.
    pub(crate) fn try_close(mut self: Box<Self>) -> Exit {
        if let Some(why) = self.never.clone() {
            return self.pinned(why);
        }
        if self.hook.is_some() || self.may_run_a_destructor() {
            return Exit::NotYet(self);
        }
        if !self.is_free {
            if Instant::now() < self.next_look {
                return Exit::NotYet(self);
            }
            if self.has_no_threads() {
                self.image.handlers.retire();
            }
            match self.free_unless_called() {
                None => {}
                // What is left for threads to do stays with them: they may be called, and need their thread-locals.
                Some(why) if self.has_no_threads() => return self.pinned(why),
                Some(_) => {
                    self.next_look = Instant::now() + LOOK_PAUSE;
                    return Exit::NotYet(self);
                }
            }
        }
        if !self.is_clear_but_for_opener() {
            return Exit::NotYet(self);
        }
        if !self.image.opener.is_ending() {
            // While it stays, its opener does.
            if !self.was_quiet
                && let Some(why) = self.may_be_called()
            {
                return self.pinned(why);
            }
            let flush = self.flush();
            if flush.is_none() && self.has_nothing_for_opener() {
                return self.close();
            }
            self.end_opener(flush);
        }
        if !self.image.opener.has_ended() {
            return Exit::NotYet(self);
        }
        // Again, for its opener has run what was left for its end.
        if let Some(why) = self.may_be_called() {
            return self.pinned(why);
        }
        self.close()
    }

    /// Unless there is code that may call it, threads run from here on what they have left to do for it.
    fn free_unless_called(&mut self) -> Option<PinReason> {
        // Before the look: what it registers while it is looked at comes from a thread that this sees.
        let is_quiet = self.is_clear_but_for_opener() && self.is_counted() && self.ending.is_none();
        if let Some(why) = self.may_be_called() {
            return Some(why);
        }
        self.is_free = true;
        self.was_quiet = is_quiet;
        if let Attachment::Attached(account) = &self.image.attachment {
            // SAFETY: owning the image means that no call is inside, and none will be (`Image::retire`); its hook has
            // ended, and what could call it was looked for.
            unsafe { account.retire() };
        }
        None
    }

    /// Whether threads that the image has started have ended.
    fn has_no_threads(&self) -> bool {
        match &self.image.attachment {
            Attachment::Attached(account) => account.has_no_threads(),
            Attachment::Missing | Attachment::Refused(_) => true,
        }
    }

    /// Whether a thread may be running a destructor whose key was deleted.
    fn may_run_a_destructor(&mut self) -> bool {
        let place = &self.image.place;
        let ending = self.ending.as_mut();
        ending.is_some_and(|ending| !ending.look(place).is_empty())
    }

    fn is_clear_but_for_opener(&self) -> bool {
        match &self.image.attachment {
            Attachment::Attached(account) => account.is_clear_but_for(self.image.opener.tid()),
            Attachment::Missing | Attachment::Refused(_) => true,
        }
    }

    /// Whether it is known what threads have left to run for it.
    fn is_counted(&self) -> bool {
        match &self.image.attachment {
            Attachment::Attached(_) => true,
            Attachment::Missing | Attachment::Refused(_) => {
                !self.image.staged.facts().thread_exit_hook
            }
        }
    }

    /// What writes out what the plugin's std holds back, if it has printed.
    fn flush(&self) -> Option<unsafe extern "C" fn()> {
        let Attachment::Attached(account) = &self.image.attachment else {
            return None;
        };
        let Image { staged, place, .. } = &self.image;
        // SAFETY: `staged` is what the image was opened from, it is mapped there, and nobody is inside.
        let has_printed = unsafe { stdout::printed(staged, place) } == Some(true);
        has_printed.then(|| account.flush())
    }

    /// Whether the image has left nothing on the thread that opened it. Then that thread may outlive the image.
    ///
    /// What C++ code leaves with its runtime for a thread's end `unloadable!` does not see, nor what was left before it was
    /// attached.
    fn has_nothing_for_opener(&self) -> bool {
        let needed = &self.image.staged.facts().needed;
        match &self.image.attachment {
            Attachment::Attached(account) => {
                account.never_had_early_ones()
                    && account.is_clear()
                    && dependencies::are_of_c(needed)
            }
            Attachment::Missing | Attachment::Refused(_) => false,
        }
    }

    /// Ends the thread that opened the image: what is left for the end of it runs now. Before that it calls `flush`.
    fn end_opener(&self, flush: Option<unsafe extern "C" fn()>) {
        self.image.opener.end(move || {
            if let Some(flush) = flush {
                // SAFETY: a function of the image, which is not closed before this thread has ended.
                unsafe { flush() };
            }
        });
    }

    /// Why there may be code that calls the image although nobody is inside of it.
    fn may_be_called(&self) -> Option<PinReason> {
        let Image {
            staged,
            place,
            handlers,
            attachment,
            policy,
            ..
        } = &self.image;
        let account = match attachment {
            Attachment::Attached(account) => Some(account),
            Attachment::Missing | Attachment::Refused(_) => None,
        };
        let is_vouched = |name: &str| account.is_some_and(|account| account.vouches_for(name));
        let imported = staged.facts().leaves.iter().copied();
        let mut used = account.into_iter().flat_map(Account::uses).chain(imported);
        if let Some(function) = used.find(|name| !is_vouched(name)) {
            return Some(PinReason::Function(function.to_owned()));
        }
        if let Some(signal) = handlers.outstanding() {
            return Some(PinReason::SignalHandler(handlers::name(signal)));
        }
        let known = |library: &str| {
            let told = dependencies::told(library, policy);
            if account.is_some_and(|it| it.is_pinned_by(library)) || told == Some(Known::Pinning) {
                Some(Known::Pinning)
            } else if is_vouched(library) || told == Some(Known::Harmless) {
                Some(Known::Harmless)
            } else {
                dependencies::known(library)
            }
        };
        match dependencies::caller_of(place, &staged.facts().needed, known) {
            Some(Caller::Able(library)) => return Some(PinReason::Library(library)),
            Some(Caller::Has(library)) => return Some(PinReason::Callback(library)),
            None => {}
        }
        // Keys that a library has made with a destructor of the image. Those of the image itself are the host's, or were
        // made before it attached; without `unloadable!` they were deleted.
        let mut keys = keys::keys_into(&place.range())
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

    /// To be called when no code of the image runs any more, and none will.
    fn close(mut self: Box<Self>) -> Exit {
        if let Attachment::Attached(account) = &self.image.attachment {
            // SAFETY: the image is mapped.
            let heap = unsafe { account.heap() };
            self.heap = heap.map(|Heap { bytes, allocations }| HeapLeft { bytes, allocations });
            // SAFETY: no call is inside and none will be.
            if unsafe { account.close() }.is_err() {
                return Exit::NotYet(self);
            }
        }
        let Self { image, heap, .. } = *self;
        let Image {
            library,
            staged,
            opener,
            name,
            attachment,
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
            heap,
        };
        let opener = ManuallyDrop::into_inner(opener);
        match closed.close(ManuallyDrop::into_inner(library)) {
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

    /// Whether it waits for somebody else: its hook, threads that it has started, what other threads have left to run
    /// for it. Its opener ends by itself, unless something keeps it for long.
    pub(crate) fn is_held_up(&self) -> bool {
        let is_kept = |opener: &Opener| opener.ending_for().is_some_and(|it| it > OPENER_PATIENCE);
        self.hook.is_some()
            || self
                .ending
                .as_ref()
                .is_some_and(|it| !it.threads().is_empty())
            || !self.is_free
            || !self.is_clear_but_for_opener()
            || is_kept(&self.image.opener)
    }

    /// What is waited for at this moment.
    pub(crate) fn obstacles(&self) -> Vec<Holder> {
        let hook = self.hook.as_ref().map(|_| Holder::Hook);
        let outstanding = match &self.image.attachment {
            Attachment::Attached(account) => account.outstanding(),
            Attachment::Missing | Attachment::Refused(_) => Outstanding::default(),
        };
        let Outstanding {
            threads,
            debtors,
            unknown,
            early_destructors: _,
        } = outstanding;
        // What a thread of its own has left to run is no news beside the thread.
        let own: Vec<_> = threads.iter().filter_map(|thread| thread.tid).collect();
        let opener = &self.image.opener;
        let parked = (!opener.is_ending()).then(|| opener.tid());
        let debtors = debtors
            .into_iter()
            .filter(move |debtor| !own.contains(&debtor.tid) && parked != Some(debtor.tid));
        let threads = threads.into_iter().map(|it| Holder::Thread {
            thread: it.tid.map(i32::cast_unsigned),
            name: it.name,
            age: it.age,
        });
        let destructors = debtors.map(|it| Holder::Destructors {
            thread: it.tid.cast_unsigned(),
            name: it.name,
            count: it.destructors,
        });
        let unknown = unknown.then_some(Holder::Uncounted);
        let ending = self.ending.iter().flat_map(Ending::threads);
        let ending = ending.map(|&thread| Holder::DeletedKey {
            thread,
            name: thread_name(thread.cast_signed()),
        });
        let opener = opener.ending_for().map(|age| Holder::Thread {
            thread: Some(opener.tid().cast_unsigned()),
            name: thread_name(opener.tid()),
            age,
        });
        hook.into_iter()
            .chain(opener)
            .chain(ending)
            .chain(threads)
            .chain(destructors)
            .chain(unknown)
            .collect()
    }
}

impl Pinned {
    /// Looks again whether it may leave, or has left.
    ///
    /// An image that was closed and is kept by a thread does not leave when that thread ends, but with the next
    /// `dlclose` that unloads anything (glibc 2.36, 2026-11). Opening and closing it once more is one.
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
}
