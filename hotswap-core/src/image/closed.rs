//! A closed image that the system may still keep mapped.
//!
//! `dlclose` does not say what it did. So hotswap looks for the image, and gives up what belongs to it only after
//! seeing that it is gone.
#![expect(unsafe_code, reason = "gives up what an image could still use")]

use std::{ffi::CString, mem::ManuallyDrop};

use super::{
    KeptUntilGone,
    account::Account,
    linker_lock,
    pin_reason::{HeapLeft, PinReason},
    process_end,
};
use crate::{
    stage::Staged,
    system::linker::{self, Object},
};

/// An image that was closed, or is about to be.
pub(super) struct Closed {
    pub(super) staged: ManuallyDrop<Staged>,
    pub(super) name: CString,
    /// The account of `unloadable!`, which must outlive the image.
    pub(super) account: Option<Account>,
    /// What its code may use, which must outlive the image.
    pub(super) kept: ManuallyDrop<KeptUntilGone>,
    pub(super) heap: Option<HeapLeft>,
}

impl Closed {
    /// Closes the image and looks whether it is gone. The caller owns this, so nothing calls the image any more.
    pub(super) fn close(self, object: Object) -> Result<Option<HeapLeft>, Box<Self>> {
        close(object);
        Box::new(self).look()
    }

    /// Closes the image once more and looks whether it is gone.
    ///
    /// If a thread kept the image, the end of that thread does not unmap it; the next `dlclose` that unloads anything
    /// does (glibc 2.36, 2026-11). This opens the image again to have something to close.
    pub(super) fn close_again(self: Box<Self>) -> Result<Option<HeapLeft>, Box<Self>> {
        if linker::is_mapped(&self.name)
            && let Some(object) = Object::mapped_as(&self.name)
        {
            close(object);
        }
        self.look()
    }

    fn look(mut self: Box<Self>) -> Result<Option<HeapLeft>, Box<Self>> {
        if linker::is_mapped(&self.name) {
            return Err(self);
        }
        if let Some(account) = self.account.take() {
            // SAFETY: `is_mapped` above has found that the image is not mapped any more.
            unsafe { account.image_left() };
        }
        drop(ManuallyDrop::into_inner(self.kept));
        drop(ManuallyDrop::into_inner(self.staged));
        Ok(self.heap)
    }

    /// Why the system keeps the image mapped.
    pub(super) fn why(&self) -> PinReason {
        let facts = self.staged.facts();
        let account = self.account.as_ref();
        let early = account.is_some_and(Account::has_early_destructors);
        if facts.nodelete {
            PinReason::NoDelete
        } else if facts.thread_exit_hook || early {
            // By elimination: nothing else keeps an image on which no other image depends.
            PinReason::ThreadLocals
        } else {
            PinReason::Unknown
        }
    }
}

/// Does not return if the process ends: then the image may be running what it has registered for that.
fn close(object: Object) {
    process_end::watch_for();
    let Some(work) = process_end::begin() else {
        process_end::wait_for_it()
    };
    work.run(|| linker_lock::closing(|| object.close()));
}
