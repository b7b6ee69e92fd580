//! How much one address may have.
//!
//! Without a bound of its own, one client could take every connection that there is, and all others would be turned away.
//! It knows neither connections nor websockets; what it counts are places.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Places, of which no address has more than so many.
pub(crate) struct PerAddress {
    places_max: usize,
    /// Of each address that has any.
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place that an address has. Given back when it is dropped.
pub(crate) struct Place {
    places: Arc<PerAddress>,
    address: IpAddr,
}

impl PerAddress {
    pub(crate) fn new(places_max: usize) -> Arc<Self> {
        Arc::new(Self {
            places_max,
            taken: Mutex::default(),
        })
    }

    pub(crate) fn places_max(&self) -> usize {
        self.places_max
    }

    /// None: the address has all that it may have.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = counted_as(address);
        let mut taken = self.taken();
        let places = taken.entry(address).or_default();
        if *places == self.places_max {
            return None;
        }
        *places += 1;
        Some(Place {
            places: Arc::clone(self),
            address,
        })
    }

    /// A panic under the lock could only come from a failed allocation; the counts are right even then.
    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(places) = taken.get_mut(&self.address) {
            *places -= 1;
            if *places == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// An IPv6 address counts as its network of 64 bits, because one machine may use all the addresses of that. An IPv4
/// address is the same however it is written.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            Ipv6Addr::from_bits(network).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}
