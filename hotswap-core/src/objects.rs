//! Counts the objects that a generation has made and the host uses, its wakers among them, and leases the generation
//! for each of them.
//!
//! # Invariants
//! - An object of a published generation has a lease on the generation. An object that was made before that, for the
//!   host's probe, has none. A candidate whose probe has kept objects is refused and stays mapped.
//! - In the constructor, from the end of the probe to the publication, and on the way out of a candidate that is not
//!   published, no objects are made. The constructor could otherwise pass one to a service of the host, a thread of the
//!   candidate to an object that the probe has given it, and so could the destructor of its value.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use hotswap_sdk::host::{LeaseSource, LeasedBy};

/// The objects of one generation.
#[derive(Default)]
pub(crate) struct Objects {
    /// Of the generation, once it has one.
    number: OnceLock<u64>,
    lease: OnceLock<Box<LeaseFn>>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    by_kind: BTreeMap<LeasedBy, usize>,
    /// Whether the host's probe runs. Before and after it, no objects are made until the generation is published:
    /// nobody would drop them if the candidate were refused.
    is_probed: bool,
}

/// Leases the generation. `None` if it is drained.
type LeaseFn = dyn Fn() -> Option<Box<dyn Send + Sync>> + Send + Sync;

/// Counts one object, and leases the generation for it, until it is dropped.
struct Object {
    objects: Arc<Objects>,
    kind: LeasedBy,
    /// Dropped after the object is no longer counted. `None` if the object was made before the generation was
    /// published.
    _lease: Option<Box<dyn Send + Sync>>,
}

impl Objects {
    /// Call it when the host's probe begins.
    pub(crate) fn begin_probe(&self) {
        self.lock().is_probed = true;
    }

    /// Call it when the host's probe has ended: from then on only a published generation makes objects. Returns the
    /// number of objects of each kind.
    pub(crate) fn end_probe(&self) -> Vec<(LeasedBy, usize)> {
        self.lock().is_probed = false;
        self.counts()
    }

    /// Call it once, before [`publish`](Self::publish): the number of the generation.
    pub(crate) fn number(&self, number: u64) {
        // A generation gets its number once, so the cell is empty.
        let _ = self.number.set(number);
    }

    /// Call it once, before the generation is published: from then on each object gets its lease from `lease`.
    pub(crate) fn publish(
        &self,
        lease: impl Fn() -> Option<Box<dyn Send + Sync>> + Send + Sync + 'static,
    ) {
        // A generation is published once, so the cell is empty.
        drop(self.lease.set(Box::new(lease)));
    }

    /// Leases the generation for a moment, for no object. `None` if it is not published, or drained.
    pub(crate) fn lease_generation(&self) -> Option<Box<dyn Send + Sync>> {
        self.lease.get()?()
    }

    /// The number of objects of each kind.
    pub(crate) fn counts(&self) -> Vec<(LeasedBy, usize)> {
        let counts = &self.lock().by_kind;
        counts.iter().map(|(kind, count)| (*kind, *count)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LeaseSource for Objects {
    fn lease(self: Arc<Self>, kind: LeasedBy) -> Option<Box<dyn Send + Sync>> {
        let mut counts = self.lock();
        let lease = match self.lease.get() {
            Some(lease) => Some(lease()?),
            None if !counts.is_probed => return None,
            None => None,
        };
        *counts.by_kind.entry(kind).or_default() += 1;
        drop(counts);
        Some(Box::new(Object {
            objects: self,
            kind,
            _lease: lease,
        }))
    }

    fn generation(&self) -> Option<u64> {
        self.number.get().copied()
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let counts = &mut self.objects.lock().by_kind;
        if let Some(count) = counts.get_mut(&self.kind) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.kind);
            }
        }
    }
}
