//! The way out of an image that nobody calls any more.
//!
//! A plugin with the kit keeps an [`Account`] with us of its threads, its thread-local destructors and its
//! pthread keys; it is closed when that is clear. For a plugin without the kit, what can be known is acted
//! on: glibc itself keeps an image that has thread-local destructors outstanding; pthread keys whose destructor
//! lies in the image are found in glibc's table and deleted; and an image that can start threads is not
//! closed, because nothing tells whether they have ended. Nor is one whose kit we cannot work with, for that
//! hides what the image uses.
//!
//! The image's own destructors, its hook, and what flushing does run on the threads that call in here.

use std::{
    ffi::{CString, OsStr},
    fmt::{self, Display},
    mem::ManuallyDrop,
    os::unix::ffi::OsStrExt,
    path::Path,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use libloading::os::unix::{Library, RTLD_NOW};

use super::{
    Image,
    account::{Account, NoKit, Outstanding},
    find, keys, stdout,
};
use crate::stage::Staged;

/// What an image has of the plugin kit.
#[derive(Debug)]
pub(super) enum Kit {
    /// It keeps an account with us.
    Attached(Account),
    /// It has none.
    Missing,
    /// It has one that we cannot work with.
    Refused(NoKit),
}

/// An image that nobody calls any more, and that may still have something to do.
pub(crate) struct Leaving {
    image: Image,
    hook: Option<JoinHandle<Result<(), String>>>,
    hook_panic: Option<String>,
    /// See [`KEY_GRACE`].
    not_before: Instant,
    /// Why the image may not be closed at all.
    never: Option<PinReason>,
}

/// What came of an attempt to close an image.
pub(crate) enum Exit {
    /// It has left the address space.
    Gone,
    /// The system keeps it, or it cannot be known safe to close.
    Pinned(Box<Pinned>),
    /// There is something to wait for.
    NotYet(Box<Leaving>),
}

/// What is waited for.
pub(crate) enum Obstacle {
    /// The plugin's own hook is running.
    Hook,
    /// A thread that the plugin has started.
    Thread {
        thread: Option<u32>,
        name: String,
        age: Duration,
    },
    /// A living thread has this many destructors of the plugin to run.
    Destructors {
        thread: u32,
        name: String,
        count: usize,
    },
    /// More than the kit could take note of.
    Uncounted,
}

/// An image that is still mapped after its way out has ended.
pub(crate) struct Pinned {
    staged: ManuallyDrop<Staged>,
    name: CString,
    /// Some: the image was closed, and the kit's account must outlive it.
    account: Option<Account>,
    why: PinReason,
}

/// Why an image stays mapped although nobody uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PinReason {
    /// It was linked to stay (`-z nodelete`). It never leaves.
    NoDelete,
    /// It defines symbols of which a process may have only one (`STB_GNU_UNIQUE`, from C++). It never
    /// leaves.
    UniqueSymbols,
    /// A thread that is still running has used a thread-local of it that has a destructor. The image
    /// leaves some time after that thread has ended.
    ThreadLocals,
    /// It can start threads and does not have the kit, or not one that this host works with, so that nobody
    /// knows whether they have ended. It never leaves.
    MayHaveThreads,
    /// It can make pthread keys and does not have the kit, and this system does not show them. It never
    /// leaves.
    MayHaveKeys,
    /// The system did not unmap it, and nothing is known that would explain that.
    Unknown,
}

/// A thread that ends may have read a key's destructor just before the key was deleted, and call it just
/// after. Nothing in libc tells; so the image stays for this long, which is some ten thousand times what
/// it takes between the two. Only for plugins without the kit.
const KEY_GRACE: Duration = Duration::from_millis(100);

impl Leaving {
    pub(super) fn new(image: Image) -> Self {
        let mut leaving = Self {
            image,
            hook: None,
            hook_panic: None,
            not_before: Instant::now(),
            never: None,
        };
        match &leaving.image.kit {
            Kit::Attached(account) => {
                // SAFETY: owning the image means that no call is inside, and none will be (`Image::retire`).
                unsafe { account.retire() };
                // The hook may take its time, so it has a thread of its own; if none is to be had, this one.
                let thread = thread::Builder::new().name("hotswap-unload".to_owned());
                if let Some(hook) = account.hook() {
                    match thread.spawn(move || hook.run()) {
                        Ok(running) => leaving.hook = Some(running),
                        Err(_) => {
                            leaving.hook_panic = account.hook().and_then(|hook| hook.run().err())
                        }
                    }
                }
            }
            // What such a plugin uses of libc it gets through its kit, out of sight of the inspection.
            Kit::Refused(_) => leaving.never = Some(PinReason::MayHaveThreads),
            Kit::Missing => leaving.forget_keys(),
        }
        leaving
    }

    /// What a plugin without the kit leaves with libc: its keys are deleted, so that no thread calls their
    /// destructors when it ends. (What the values own is leaked.)
    fn forget_keys(&mut self) {
        let facts = self.image.staged.facts();
        if facts.starts_threads {
            self.never = Some(PinReason::MayHaveThreads);
        } else if facts.makes_keys {
            // SAFETY: the image is retired: nobody is inside and nobody will be.
            match unsafe { keys::delete_keys_into(&self.image.range()) } {
                Some(0) => {}
                Some(_) => self.not_before = Instant::now() + KEY_GRACE,
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
    pub(crate) fn try_close(self: Box<Self>) -> Exit {
        if let Some(why) = self.never {
            let Image { staged, name, .. } = self.image;
            return Exit::Pinned(Box::new(Pinned {
                staged,
                name,
                account: None,
                why,
            }));
        }
        if self.hook.is_some() || Instant::now() < self.not_before {
            return Exit::NotYet(self);
        }
        if let Kit::Attached(account) = &self.image.kit
            && !self.settle(account)
        {
            return Exit::NotYet(self);
        }
        self.close()
    }

    /// Whether the account is clear and closed now.
    fn settle(&self, account: &Account) -> bool {
        if !account.is_clear() {
            return false;
        }
        // SAFETY: that is the copy of the image, it lies there, and nobody is inside.
        if unsafe { stdout::printed(&self.image.staged, self.image.range().start) } == Some(true) {
            // SAFETY: this thread is not inside the image, and will not be again.
            unsafe { account.flush() };
        }
        // SAFETY: no call is inside and none will be.
        unsafe { account.close() }.is_ok()
    }

    fn close(self) -> Exit {
        let Image {
            library,
            staged,
            name,
            kit,
            ..
        } = self.image;
        // The error says only what looking says better.
        let _ = ManuallyDrop::into_inner(library).close();
        let account = match kit {
            Kit::Attached(account) => Some(account),
            Kit::Missing | Kit::Refused(_) => None,
        };
        let why = PinReason::of(&staged, account.as_ref());
        match Box::new(Pinned {
            staged,
            name,
            account,
            why,
        })
        .look()
        {
            Ok(()) => Exit::Gone,
            Err(pinned) => Exit::Pinned(pinned),
        }
    }

    /// What is waited for at this moment.
    pub(crate) fn obstacles(&self) -> Vec<Obstacle> {
        let hook = self.hook.as_ref().map(|_| Obstacle::Hook);
        let outstanding = match &self.image.kit {
            Kit::Attached(account) => account.outstanding(),
            Kit::Missing | Kit::Refused(_) => Outstanding::default(),
        };
        let Outstanding {
            threads,
            debtors,
            unknown,
            early_destructors: _,
        } = outstanding;
        // What a thread of its own has left to run is no news beside the thread.
        let own: Vec<_> = threads.iter().filter_map(|thread| thread.tid).collect();
        let debtors = debtors
            .into_iter()
            .filter(move |debtor| !own.contains(&debtor.tid));
        let threads = threads.into_iter().map(|it| Obstacle::Thread {
            thread: it.tid.map(i32::cast_unsigned),
            name: it.name,
            age: it.age,
        });
        let destructors = debtors.map(|it| Obstacle::Destructors {
            thread: it.tid.cast_unsigned(),
            name: it.name,
            count: it.destructors,
        });
        let unknown = unknown.then_some(Obstacle::Uncounted);
        hook.into_iter()
            .chain(threads)
            .chain(destructors)
            .chain(unknown)
            .collect()
    }
}

impl Pinned {
    /// Asks the system again, and looks.
    ///
    /// An image that is kept by a thread does not leave when that thread ends, but with the next
    /// `dlclose` that unloads anything (glibc 2.36, 2026-11). Opening and closing it once more is one.
    pub(crate) fn retry(self: Box<Self>) -> Result<(), Box<Self>> {
        if self.why.is_final() {
            return Err(self);
        }
        if find(&self.name).is_some() {
            let path = Path::new(OsStr::from_bytes(self.name.as_bytes()));
            // SAFETY: with RTLD_NOLOAD nothing is loaded and no initialiser runs.
            if let Ok(library) = unsafe { Library::open(Some(path), RTLD_NOW | libc::RTLD_NOLOAD) }
            {
                let _ = library.close();
            }
        }
        self.look()
    }

    pub(crate) fn why(&self) -> PinReason {
        self.why
    }

    fn look(mut self: Box<Self>) -> Result<(), Box<Self>> {
        if find(&self.name).is_some() {
            return Err(self);
        }
        if let Some(account) = self.account.take() {
            // SAFETY: seen in the line above.
            unsafe { account.image_left() };
        }
        // Only now may another copy get the same descriptor, and with it the same path.
        drop(ManuallyDrop::into_inner(self.staged));
        Ok(())
    }
}

impl PinReason {
    /// Whether there is no use in asking again.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::NoDelete | Self::UniqueSymbols | Self::MayHaveThreads | Self::MayHaveKeys
        )
    }

    fn of(staged: &Staged, account: Option<&Account>) -> Self {
        let facts = staged.facts();
        let early = account.is_some_and(|account| account.outstanding().early_destructors > 0);
        if facts.nodelete {
            Self::NoDelete
        } else if facts.unique_symbols {
            Self::UniqueSymbols
        } else if facts.thread_exit_hook || early {
            // By elimination: nothing else keeps an image that no other image depends on.
            Self::ThreadLocals
        } else {
            Self::Unknown
        }
    }
}

impl Display for PinReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDelete => "it is linked with `-z nodelete`, so that the system never unmaps it",
            Self::UniqueSymbols => {
                "it defines unique symbols (STB_GNU_UNIQUE), so that the system never unmaps it"
            }
            Self::ThreadLocals => {
                "a living thread has yet to run a destructor of one of its thread-locals"
            }
            Self::MayHaveThreads => {
                "it can start threads and has no kit (`unloadable!`) that this host works with, so that they may \
                 still be running"
            }
            Self::MayHaveKeys => {
                "it can make pthread keys and has no kit (`unloadable!`), and this system does not show them"
            }
            Self::Unknown => "the system did not unmap it and does not say why",
        })
    }
}
