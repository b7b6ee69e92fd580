//! Counts the objects that a generation has made, and leases the generation for each of them.
//!
//! # Invariants
//! - An object of a published generation has a lease on the generation. An object that was made before that, for the host's
//!   probe, has none. A candidate whose probe has kept objects is refused and stays mapped.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use hotswap_sdk::host::LeaseSource;

/// The objects of one generation.
#[derive(Default)]
pub(crate) struct Objects {
    lease: OnceLock<Box<LeaseFn>>,
    counts: Mutex<BTreeMap<&'static str, usize>>,
}

/// Leases the generation. `None` if it is drained.
type LeaseFn = dyn Fn() -> Option<Box<dyn Send + Sync>> + Send + Sync;

/// Counts one object, and leases the generation for it, until it is dropped.
struct Object {
    objects: Arc<Objects>,
    interface: &'static str,
    /// Dropped after the object is no longer counted. `None` if the object was made before the generation was published.
    _lease: Option<Box<dyn Send + Sync>>,
}

impl Objects {
    /// Call it once, before the generation is published: from then on each object gets its lease from `lease`.
    pub(crate) fn publish(
        &self,
        lease: impl Fn() -> Option<Box<dyn Send + Sync>> + Send + Sync + 'static,
    ) {
        // A generation is published once, so the cell is empty.
        drop(self.lease.set(Box::new(lease)));
    }

    /// The number of objects of each interface.
    pub(crate) fn counts(&self) -> Vec<(&'static str, usize)> {
        let counts = self.lock();
        counts.iter().map(|(name, count)| (*name, *count)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LeaseSource for Objects {
    fn lease(self: Arc<Self>, interface: &'static str) -> Option<Box<dyn Send + Sync>> {
        let lease = match self.lease.get() {
            Some(lease) => Some(lease()?),
            None => None,
        };
        *self.lock().entry(interface).or_default() += 1;
        Some(Box::new(Object {
            objects: self,
            interface,
            _lease: lease,
        }))
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let mut counts = self.objects.lock();
        if let Some(count) = counts.get_mut(self.interface) {
            *count -= 1;
            if *count == 0 {
                counts.remove(self.interface);
            }
        }
    }
}
