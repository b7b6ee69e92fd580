//! Threads that may be running the destructor of a deleted pthread key.
//!
//! A thread that ends reads a destructor's address and calls it a moment later. Deleting the key in between does not
//! stop the call, and libc tells nobody. So once the keys of an image are deleted, hotswap has to see each thread
//! that was alive then outside of such a call. One observation is enough: without the key, the thread cannot get
//! there again. A thread is outside
//!
//! - if it has ended;
//! - if it still has its slot for calls (`cell`): a thread-local's destructor gives the slot back, and libc runs
//!   those before the keys' destructors (glibc's `start_thread`: `__call_tls_dtors`, then `__nptl_deallocate_tsd`);
//! - if it is blocked in a system call that the image itself did not make, and no address of the image is on its
//!   stack: there is no system call between reading a destructor's address and calling it, and whatever the
//!   destructor calls has its return address on the stack.
//!
//! # What it does not know
//! A thread that has no slot, never ends and never blocks keeps the image mapped, and is reported as its holder. So
//! does a thread with an address of the image on its stack that an earlier call left there, until it is overwritten.

use std::ops::Range;

use crate::system::{
    linker::Mapping,
    memory::{readable_mappings, words},
    thread::{self, Blocked},
};

/// No thread's stack is larger. (A coroutine's stack may be anywhere.)
const STACK_BYTES_MAX: usize = 64 << 20;

/// The threads that have not been seen outside of a key's destructor.
pub(super) struct SuspectThreads(Vec<u32>);

impl SuspectThreads {
    /// All threads of the process, except the calling one. `None`: the system does not list them.
    pub(super) fn now() -> Option<Self> {
        let this = thread::this().cast_unsigned();
        let mut threads = thread::all()?;
        threads.retain(|&thread| thread != this);
        Some(Self(threads))
    }

    /// The threads that were left after the last [`look`](Self::look).
    pub(super) fn threads(&self) -> &[u32] {
        &self.0
    }

    /// Looks once more, and returns the threads that may be running code of the image at `mapping`.
    ///
    /// Costs reading two small files, and a part of the stack, for each thread that has no slot.
    pub(super) fn look(&mut self, mapping: &Mapping) -> &[u32] {
        self.0
            .retain(|&thread| !hotswap_cell::is_registered(thread));
        if !self.0.is_empty() {
            let mappings = readable_mappings();
            self.0
                .retain(|&thread| !is_elsewhere(thread, mapping, &mappings));
        }
        &self.0
    }
}

/// Whether the thread has ended, or is blocked outside of the image with no address of the image on its stack.
fn is_elsewhere(thread: u32, mapping: &Mapping, mappings: &[Range<usize>]) -> bool {
    let Ok(blocked) = thread::blocked(thread) else {
        // The thread has ended, or this system does not tell.
        return !thread::lives(thread.cast_signed());
    };
    let Some(Blocked { stack, next }) = blocked else {
        return false;
    };
    let Some(range) = mappings.iter().find(|it| it.contains(&stack)) else {
        return false;
    };
    !mapping.has(next, 1)
        && words(stack..range.end, STACK_BYTES_MAX)
            .is_some_and(|mut words| !words.any(|word| mapping.has(word, 1)))
}

#[cfg(test)]
mod tests {
    use std::{
        hint,
        sync::mpsc,
        thread::{spawn, yield_now},
    };

    use super::*;

    /// The thread waits in a function with `mark` on its stack.
    #[test]
    fn an_address_on_the_stack_of_a_blocked_thread_is_seen() {
        let address = 0x1234_5678_9abc;
        let segment = address..address + 1;
        let mapping = Mapping {
            segments: vec![segment],
            ..Mapping::default()
        };
        for (mark, is_inside) in [(address, true), (address + 1, false)] {
            let (said, number) = mpsc::channel();
            let (end, wait_end) = mpsc::channel::<()>();
            let waiting = spawn(move || {
                let marks = hint::black_box([mark; 4]);
                said.send(thread::this().cast_unsigned()).unwrap();
                let ended = wait_end.recv().is_err();
                assert!(ended && hint::black_box(&marks)[0] == mark);
            });
            let number = number.recv().unwrap();
            let is_blocked = || matches!(thread::blocked(number), Ok(Some(_)));
            while !is_blocked() {
                yield_now();
            }
            let mut ending = SuspectThreads(vec![number]);
            // It may run once more before it waits for the end. While it runs, nothing is known of it.
            if is_inside {
                assert!((0..100).all(|_| !ending.look(&mapping).is_empty()));
            } else {
                while !ending.look(&mapping).is_empty() {
                    yield_now();
                }
            }
            drop(end);
            waiting.join().unwrap();
            while !ending.look(&mapping).is_empty() {
                yield_now();
            }
        }
    }
}
