//! How much memory a plugin has allocated and not freed.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::table::Heap;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// Whether a counting allocator has allocated anything.
static COUNTS: AtomicBool = AtomicBool::new(false);

/// A global allocator that counts what is allocated and not yet freed. `A` does the allocating.
///
/// With it, the host's `unloaded` event says how much the plugin has left on the heap: nobody frees what its statics
/// own. The feature `count-allocations` makes [`unloadable!`](crate::unloadable) install one around std's `System`. A
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
/// Each allocation costs two atomic additions on shared counters: a few nanoseconds on one thread, and more with
/// every thread that allocates at the same time. Use it to find leaks, not in production.
#[derive(Debug)]
pub struct CountingAllocator<A = System>(A);

impl<A> CountingAllocator<A> {
    /// Creates an allocator that allocates with `allocator`.
    pub const fn new(allocator: A) -> Self {
        Self(allocator)
    }

    /// How much is allocated and not freed at this moment, in this image.
    pub fn heap() -> Heap {
        Heap {
            // Relaxed, all of them: only the numbers matter; they publish no other memory.
            bytes: BYTES.load(Ordering::Relaxed),
            allocations: ALLOCATIONS.load(Ordering::Relaxed),
        }
    }
}

/// See [`PluginTable::heap`](crate::PluginTable::heap).
///
/// # Safety
/// `place` is valid for a write.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) unsafe extern "C" fn heap(place: *mut Heap) -> core::ffi::c_int {
    // SAFETY: `place` is valid for a write, as the caller guarantees.
    unsafe { place.write(CountingAllocator::<System>::heap()) };
    COUNTS.load(Ordering::Relaxed).into()
}

// SAFETY: every call goes unchanged to `A`, which is an allocator. Counting does not allocate.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, and `A` gets the same arguments.
        count(unsafe { self.0.alloc(layout) }, layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`, and `A` gets the same arguments.
        count(unsafe { self.0.alloc_zeroed(layout) }, layout)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        ALLOCATIONS.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: `pointer` came from `A` with this `layout`, because every allocation here is one of `A`.
        unsafe { self.0.dealloc(pointer, layout) };
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: `pointer` came from `A` with this `layout`, because every allocation here is one of `A`.
        let moved = unsafe { self.0.realloc(pointer, layout, size) };
        if !moved.is_null() {
            // The difference may wrap, and the wrapping addition then gives the right sum.
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
