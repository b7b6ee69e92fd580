//! How much a plugin has on its heap.

use core::ffi::c_int;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::table::Heap;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// Whether there is an allocator that counts.
static COUNTS: AtomicBool = AtomicBool::new(false);

/// A global allocator that counts what is allocated and not yet freed, and leaves the rest to `A`.
///
/// With it, the host's `unloaded` event says what the plugin has left on the heap: what its statics own is never
/// freed. The feature `count-allocations` makes [`unloadable!`](crate::unloadable) install one for std's `System`; a
/// plugin that has an allocator of its own wraps that one instead:
///
/// ```
/// use std::alloc::System;
///
/// #[global_allocator]
/// static ALLOCATOR: hotswap_unload::CountingAllocator<System> = hotswap_unload::CountingAllocator::new(System);
/// # fn main() {
/// #     let before = hotswap_unload::CountingAllocator::<System>::heap();
/// #     let kept = vec![1_u8; 1000];
/// #     let after = hotswap_unload::CountingAllocator::<System>::heap();
/// #     assert_eq!(after.allocations - before.allocations, 1);
/// #     assert_eq!(after.bytes - before.bytes, kept.len());
/// # }
/// ```
///
/// Costs two atomic additions on shared counters for each allocation: a few nanoseconds on one thread, more the more
/// threads allocate at once. It is for finding leaks, not for production.
#[derive(Debug)]
pub struct CountingAllocator<A = System>(A);

impl<A> CountingAllocator<A> {
    /// One that allocates with `allocator`.
    pub const fn new(allocator: A) -> Self {
        Self(allocator)
    }

    /// What is allocated and not freed at this moment, in this image.
    pub fn heap() -> Heap {
        Heap {
            // Relaxed, all of them: only the numbers count, nothing is published by them.
            bytes: BYTES.load(Ordering::Relaxed),
            allocations: ALLOCATIONS.load(Ordering::Relaxed),
        }
    }
}

/// See [`PluginTable::heap`](crate::PluginTable::heap).
///
/// # Safety
/// `place` is valid for a write.
pub(crate) unsafe extern "C" fn heap(place: *mut Heap) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { place.write(CountingAllocator::<System>::heap()) };
    COUNTS.load(Ordering::Relaxed).into()
}

// SAFETY: each call is passed on to `A`, which is an allocator, as it came. Counting does not allocate.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is that of the function.
        count(unsafe { self.0.alloc(layout) }, layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is that of the function.
        count(unsafe { self.0.alloc_zeroed(layout) }, layout)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        ALLOCATIONS.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is that of the function.
        unsafe { self.0.dealloc(pointer, layout) };
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is that of the function.
        let moved = unsafe { self.0.realloc(pointer, layout, size) };
        if !moved.is_null() {
            // Wraps, and comes out right.
            BYTES.fetch_add(size.wrapping_sub(layout.size()), Ordering::Relaxed);
        }
        moved
    }
}

fn count(allocated: *mut u8, layout: Layout) -> *mut u8 {
    if !allocated.is_null() {
        if !COUNTS.load(Ordering::Relaxed) {
            COUNTS.store(true, Ordering::Relaxed);
        }
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
    allocated
}
