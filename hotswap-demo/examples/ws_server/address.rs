//! How much one address may have.
//!
//! Without a bound of its own, one client could take every connection that there is, and all others would be turned
//! away. Clients on this machine have one address together: that has a bound of its own only if somebody asks for one.
//!
//! It knows neither connections nor websockets; what it counts are places.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many places one address may have.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    loopback: usize,
    other: usize,
}

/// Places, of which no address has more than it may.
pub(crate) struct PerAddress {
    bounds: Bounds,
    /// Of each address that has any.
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place that an address has. Given back when it is dropped.
pub(crate) struct Place {
    places: Arc<PerAddress>,
    address: IpAddr,
}

impl Bounds {
    /// Of `places` each address has at most `per_address`. Unless that is given, it has half of them; a loopback
    /// address, which all clients on this machine have, may have them all.
    pub(crate) fn new(places: u32, per_address: Option<u32>) -> Self {
        Self {
            loopback: per_address.unwrap_or(places) as usize,
            other: per_address.unwrap_or(places.div_ceil(2)) as usize,
        }
    }

    /// With so many more for each address.
    pub(crate) fn with(self, more: usize) -> Self {
        Self {
            loopback: self.loopback + more,
            other: self.other + more,
        }
    }
}

impl PerAddress {
    pub(crate) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            taken: Mutex::default(),
        })
    }

    pub(crate) fn places_max(&self, address: IpAddr) -> usize {
        if address.to_canonical().is_loopback() {
            self.bounds.loopback
        } else {
            self.bounds.other
        }
    }

    /// None: the address has all that it may have.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let places_max = self.places_max(address);
        let address = counted_as(address);
        let mut taken = self.taken();
        let places = taken.entry(address).or_default();
        if *places == places_max {
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
