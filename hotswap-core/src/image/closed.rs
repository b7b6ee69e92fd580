//! An image that was closed, and that the system may keep.
//!
//! `dlclose` says nothing of what it has done. So the image is looked for, and what belongs to it is given up only when
//! it was seen to have left.
#![expect(unsafe_code, reason = "gives up what an image could still use")]

use std::{
    ffi::{CString, OsStr},
    mem::ManuallyDrop,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use libloading::os::unix::{Library, RTLD_NOW};

use super::{
    account::Account,
    find,
    pin_reason::{HeapLeft, PinReason},
};
use crate::stage::Staged;

/// An image that was closed, or is about to be.
pub(super) struct Closed {
    pub(super) staged: ManuallyDrop<Staged>,
    pub(super) name: CString,
    /// The account of `unloadable!` must outlive the image.
    pub(super) account: Option<Account>,
    pub(super) heap: Option<HeapLeft>,
}

impl Closed {
    /// Closes the image. Owning this means that nothing calls it any more.
    pub(super) fn close(self, library: Library) -> Result<Option<HeapLeft>, Box<Self>> {
        // The error says only what looking says better.
        let _ = library.close();
        Box::new(self).look()
    }

    /// Asks the system again, and looks.
    ///
    /// An image that a thread keeps does not leave when that thread ends, but with the next `dlclose` that unloads
    /// anything (glibc 2.36, 2026-11). Opening and closing it once more is one.
    pub(super) fn close_again(self: Box<Self>) -> Result<Option<HeapLeft>, Box<Self>> {
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

    fn look(mut self: Box<Self>) -> Result<Option<HeapLeft>, Box<Self>> {
        if find(&self.name).is_some() {
            return Err(self);
        }
        if let Some(account) = self.account.take() {
            // SAFETY: seen in the line above.
            unsafe { account.image_left() };
        }
        drop(ManuallyDrop::into_inner(self.staged));
        Ok(self.heap)
    }

    /// Why the system keeps it.
    pub(super) fn why(&self) -> PinReason {
        let facts = self.staged.facts();
        let early = self
            .account
            .as_ref()
            .is_some_and(|account| account.outstanding().early_destructors > 0);
        if facts.nodelete {
            PinReason::NoDelete
        } else if facts.unique_symbols {
            PinReason::UniqueSymbols
        } else if facts.thread_exit_hook || early {
            // By elimination: nothing else keeps an image that no other image depends on.
            PinReason::ThreadLocals
        } else {
            PinReason::Unknown
        }
    }
}
