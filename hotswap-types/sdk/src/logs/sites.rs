//! The host's handles of this plugin's callsites, by the addresses of their metadata.
//!
//! A table of a fixed size, without locks and without memory of its own that a plugin would leave behind: an entry is
//! claimed once and then stays as it is. What finds no place in it is asked for again each time.

use std::{
    ptr,
    sync::atomic::{AtomicBool, AtomicPtr, Ordering},
};

use tracing_core::Metadata;

use super::{
    connection::{Callsite, Connection, Site},
    table::{CallsiteKind, Level},
};

/// More than most plugins have enabled. What is not used is never written to, and takes no memory.
const SITES_MAX: usize = 2048;

/// Entries that are looked at for one callsite.
const PROBES_MAX: usize = 16;

/// # Invariants
///
/// `metadata` goes from null to the address of the metadata of a callsite, which stays. `handle` then goes from null to
/// the address of that callsite's [`Site`], after `is_generic` has its value.
struct Entry {
    metadata: AtomicPtr<()>,
    handle: AtomicPtr<()>,
    is_generic: AtomicBool,
}

static SITES: [Entry; SITES_MAX] = [const {
    Entry {
        metadata: AtomicPtr::new(ptr::null_mut()),
        handle: AtomicPtr::new(ptr::null_mut()),
        is_generic: AtomicBool::new(false),
    }
}; SITES_MAX];

/// The handle of a callsite that will be there for ever.
pub(super) fn of(connection: Connection, metadata: &'static Metadata<'static>) -> Option<Site> {
    let key = ptr::from_ref(metadata).cast_mut().cast::<()>();
    for entry in probes(key) {
        if entry.is_of(key) {
            return entry.site().or_else(|| describe(connection, metadata));
        }
        if entry.claim(key) {
            let site = describe(connection, metadata)?;
            entry.fill(site);
            return Some(site);
        }
    }
    describe(connection, metadata)
}

/// The handle of a callsite, whose metadata may be anywhere.
pub(super) fn find(connection: Connection, metadata: &Metadata<'_>) -> Option<Site> {
    // If it is in the table, it is that very callsite, which is still there: nothing else can be at its address.
    let key = ptr::from_ref(metadata).cast_mut().cast::<()>();
    let known = probes(key).find(|entry| entry.is_of(key));
    let known = known.and_then(Entry::site);
    known.or_else(|| describe(connection, metadata))
}

fn probes(key: *mut ()) -> impl Iterator<Item = &'static Entry> {
    // Fibonacci hashing: the upper bits of the product depend on all bits of the address.
    let hash = (key.addr() as u64 >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let first = (hash >> 32) as usize;
    (0..PROBES_MAX).map(move |probe| &SITES[(first + probe) % SITES_MAX])
}

impl Entry {
    fn is_of(&self, key: *mut ()) -> bool {
        // Relaxed: the handle has an order of its own.
        self.metadata.load(Ordering::Relaxed) == key
    }

    /// Whether the entry was free, and now belongs to this key.
    fn claim(&self, key: *mut ()) -> bool {
        let metadata = &self.metadata;
        // Relaxed: the handle has an order of its own.
        metadata.load(Ordering::Relaxed).is_null()
            && metadata
                .compare_exchange(ptr::null_mut(), key, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn fill(&self, site: Site) {
        // Relaxed: the Release below orders it.
        self.is_generic.store(site.is_generic, Ordering::Relaxed);
        let handle = site.address().cast_mut();
        // Release: pairs with the Acquire in `site`.
        self.handle.store(handle, Ordering::Release);
    }

    /// `None` if it is not there yet.
    fn site(&self) -> Option<Site> {
        // Acquire: pairs with the Release in `fill`.
        let handle = self.handle.load(Ordering::Acquire);
        // Relaxed: written before the handle.
        let is_generic = self.is_generic.load(Ordering::Relaxed);
        // SAFETY: what is not null is the address of a `Site` (invariant of `Entry`).
        (!handle.is_null()).then(|| unsafe { Site::from_address(handle, is_generic) })
    }
}

fn describe(connection: Connection, metadata: &Metadata<'_>) -> Option<Site> {
    let kind = match (metadata.is_span(), metadata.is_event()) {
        (true, _) => CallsiteKind::Span,
        (false, true) => CallsiteKind::Event,
        (false, false) => CallsiteKind::Hint,
    };
    let callsite = Callsite {
        name: metadata.name(),
        target: metadata.target(),
        module_path: metadata.module_path(),
        file: metadata.file(),
        line: metadata.line(),
        level: level(*metadata.level()),
        kind,
    };
    connection.callsite(
        &callsite,
        metadata.fields().iter().map(|field| field.name()),
    )
}

fn level(level: tracing_core::Level) -> Level {
    use tracing_core::Level as Theirs;
    match level {
        Theirs::ERROR => Level::Error,
        Theirs::WARN => Level::Warn,
        Theirs::INFO => Level::Info,
        Theirs::DEBUG => Level::Debug,
        Theirs::TRACE => Level::Trace,
    }
}
