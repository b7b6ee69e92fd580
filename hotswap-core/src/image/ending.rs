//! Threads that may be running a pthread key's destructor that was deleted.
//!
//! A thread that ends reads a destructor's address, and calls it a moment later. To delete the key in between does not
//! stop it, and libc tells nobody. So after the keys of an image were deleted, each thread that was alive then has to
//! be seen to be somewhere else; once seen, it cannot come back, for there is no key any more. It is seen
//!
//! - when it has ended;
//! - when it still has its slot for calls (`cell`): that is given back by a thread-local's destructor, and libc runs
//!   those before the keys' (glibc's `start_thread`: `__call_tls_dtors`, then `__nptl_deallocate_tsd`);
//! - when it is blocked in a system call, and no address of the image is on its stack: between reading a destructor's
//!   address and calling it there is no system call, and in the destructor its return addresses are on the stack.
//!
//! # What it does not know
//! A thread that has no slot, never ends and never blocks keeps the image, and is named. So does one on whose stack an
//! address of the image was left by an earlier call, until that is overwritten.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt,
};

use super::Place;
use crate::cell;

/// More than a thread's stack has. (A coroutine's may lie anywhere.)
const STACK_BYTES_MAX: usize = 64 << 20;

/// The threads that have not been seen elsewhere.
pub(super) struct Ending(Vec<u32>);

impl Ending {
    /// All threads that there are now, but for the calling one. `None`: the system does not list them.
    pub(super) fn now() -> Option<Self> {
        let this = rustix::thread::gettid()
            .as_raw_nonzero()
            .get()
            .cast_unsigned();
        let tasks = fs::read_dir("/proc/self/task").ok()?;
        let numbers = tasks
            .map_while(Result::ok)
            .filter_map(|it| it.file_name().to_str()?.parse().ok());
        Some(Self(numbers.filter(|&thread| thread != this).collect()))
    }

    /// Those that are left after the last look.
    pub(super) fn threads(&self) -> &[u32] {
        &self.0
    }

    /// Looks once more, and gives those that may be running code of the image at `place`.
    ///
    /// Costs two small files and a part of the stack for each thread that has no slot.
    pub(super) fn look(&mut self, place: &Place) -> &[u32] {
        self.0.retain(|&thread| !cell::is_before_its_end(thread));
        if !self.0.is_empty() {
            let mappings = mappings();
            self.0
                .retain(|&thread| !is_elsewhere(thread, place, &mappings));
        }
        &self.0
    }
}

/// Whether the thread has ended, or is blocked with no address of the image on its stack.
fn is_elsewhere(thread: u32, place: &Place, mappings: &[Range<usize>]) -> bool {
    let blocked = match fs::read_to_string(format!("/proc/self/task/{thread}/syscall")) {
        Ok(blocked) => blocked,
        Err(error) => {
            return error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(libc::ESRCH);
        }
    };
    let Some(top) = stack_pointer(&blocked) else {
        return false;
    };
    let Some(stack) = mappings.iter().find(|it| it.contains(&top)) else {
        return false;
    };
    words(top..stack.end).is_some_and(|mut words| !words.any(|word| place.has(word, 1)))
}

/// Of a thread that is blocked in a system call: `number arguments… stack-pointer program-counter`
/// (man 5 proc_pid_syscall). `None`: it is running, or blocked outside of a system call (`-1 …`).
fn stack_pointer(blocked: &str) -> Option<usize> {
    let words: Vec<&str> = blocked.split_whitespace().collect();
    let [number, .., pointer, _] = words[..] else {
        return None;
    };
    let is_call = number.parse::<u32>().is_ok();
    let pointer = usize::from_str_radix(pointer.strip_prefix("0x")?, 16).ok()?;
    is_call.then_some(pointer)
}

/// What is mapped, and readable.
fn mappings() -> Vec<Range<usize>> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let range = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        rest.starts_with('r')
            .then_some(address(start)?..address(end)?)
    };
    maps.lines().filter_map(range).collect()
}

/// The words of a part of memory that may be unmapped at any moment, for its thread may end: the kernel reads them.
fn words(range: Range<usize>) -> Option<impl Iterator<Item = usize>> {
    const WORD: usize = size_of::<usize>();
    let mut copy = vec![0; Some(range.len()).filter(|&bytes| bytes <= STACK_BYTES_MAX)?];
    let memory = File::open("/proc/self/mem").ok()?;
    memory.read_exact_at(&mut copy, range.start as u64).ok()?;
    let word = |at: usize| usize::from_ne_bytes(copy[at..at + WORD].try_into().expect("a word"));
    let words: Vec<usize> = (0..copy.len() / WORD)
        .map(|index| word(index * WORD))
        .collect();
    Some(words.into_iter())
}

#[cfg(test)]
mod tests {
    use std::{hint, sync::mpsc, thread};

    use super::*;

    #[test]
    fn a_stack_pointer_is_had_of_a_thread_in_a_system_call_only() {
        let call = "202 0x7f 0x80 0x1 0x0 0x0 0xffffffff 0x7ffd5a0 0x7f1234\n";
        assert_eq!(stack_pointer(call), Some(0x7ffd5a0));
        assert_eq!(stack_pointer("running\n"), None);
        assert_eq!(stack_pointer("-1 0x7ffd5a0 0x7f1234\n"), None);
        assert_eq!(stack_pointer(""), None);
    }

    /// A thread that waits in a function with `mark` on its stack.
    #[test]
    fn an_address_on_the_stack_of_a_blocked_thread_is_seen() {
        let address = 0x1234_5678_9abc;
        let segment = address..address + 1;
        let place = Place {
            bias: 0,
            segments: vec![segment],
        };
        for (mark, is_inside) in [(address, true), (address + 1, false)] {
            let (said, number) = mpsc::channel();
            let (end, wait_end) = mpsc::channel::<()>();
            let waiting = thread::spawn(move || {
                let marks = hint::black_box([mark; 4]);
                said.send(
                    rustix::thread::gettid()
                        .as_raw_nonzero()
                        .get()
                        .cast_unsigned(),
                )
                .unwrap();
                let ended = wait_end.recv().is_err();
                assert!(ended && hint::black_box(&marks)[0] == mark);
            });
            let number = number.recv().unwrap();
            let is_blocked = || {
                fs::read_to_string(format!("/proc/self/task/{number}/syscall"))
                    .is_ok_and(|it| stack_pointer(&it).is_some())
            };
            while !is_blocked() {
                thread::yield_now();
            }
            let mut ending = Ending(vec![number]);
            assert_eq!(!ending.look(&place).is_empty(), is_inside, "{mark:#x}");
            drop(end);
            waiting.join().unwrap();
            while !ending.look(&place).is_empty() {
                thread::yield_now();
            }
        }
    }
}
