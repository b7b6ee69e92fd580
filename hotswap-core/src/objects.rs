//! The objects that a generation has made, and what keeps it while they are there.
//!
//! # Invariants
//! - An object of a published generation has a lease on it. One that was made before, in a probe, has none, and is gone
//!   before its generation is published or leaves: a candidate with such objects is refused and stays mapped.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use hotswap_sdk::host::LeaseSource;

/// Those of one generation.
#[derive(Default)]
pub(crate) struct Objects {
    lease: OnceLock<Box<LeaseFn>>,
    counts: Mutex<BTreeMap<&'static str, usize>>,
}

/// Leases the generation, if it was not drained.
type LeaseFn = dyn Fn() -> Option<Box<dyn Send + Sync>> + Send + Sync;

/// One of them.
struct Object {
    objects: Arc<Objects>,
    interface: &'static str,
    /// Given back when it was counted out. None: it was made before the generation was published.
    _lease: Option<Box<dyn Send + Sync>>,
}

impl Objects {
    /// The generation is about to be published. Once.
    pub(crate) fn publish(
        &self,
        lease: impl Fn() -> Option<Box<dyn Send + Sync>> + Send + Sync + 'static,
    ) {
        // It is published once.
        drop(self.lease.set(Box::new(lease)));
    }

    /// How many there are of each interface.
    pub(crate) fn counts(&self) -> Vec<(&'static str, usize)> {
        let counts = self.all();
        counts.iter().map(|(name, count)| (*name, *count)).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LeaseSource for Objects {
    fn lease(self: Arc<Self>, interface: &'static str) -> Option<Box<dyn Send + Sync>> {
        let lease = match self.lease.get() {
            Some(lease) => Some(lease()?),
            None => None,
        };
        *self.all().entry(interface).or_default() += 1;
        Some(Box::new(Object {
            objects: self,
            interface,
            _lease: lease,
        }))
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        let mut counts = self.objects.all();
        if let Some(count) = counts.get_mut(self.interface) {
            *count -= 1;
            if *count == 0 {
                counts.remove(self.interface);
            }
        }
    }
}
