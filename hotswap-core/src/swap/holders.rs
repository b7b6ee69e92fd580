//! Who holds a retired generation, for the list and the events: as many as people read, and how many more.

use std::fs;

use hotswap_cell::{Calls, Holders, Retired};

use super::Generation;
use crate::history::Holder;

/// So many are listed. To name a call takes a small file of the system's.
pub(super) const LISTED_MAX: usize = 32;

/// Calls, what services and values hold, and leases, in this order.
pub(super) fn of<M>(generation: &Retired<Generation<M>>, calls: &Calls) -> Vec<Holder> {
    let Holders {
        threads,
        calls,
        leases,
    } = generation.holders(calls);
    let generation = generation.peek();
    let (tenants, tenants_count) = generation.tenants.first(LISTED_MAX);
    let (leases, leases_count) = match &generation.leases {
        Some(register) => {
            let (first, count) = register.first(LISTED_MAX);
            let lease = |(place, age)| Holder::Lease { place, age };
            (first.into_iter().map(lease).collect(), count)
        }
        None => {
            // Tenants have leases, too; one may have come or gone between the two looks.
            let others = leases.saturating_sub(tenants_count);
            let leases: Vec<_> = (others > 0)
                .then_some(Holder::Leases(others))
                .into_iter()
                .collect();
            let count = leases.len();
            (leases, count)
        }
    };
    let all = threads.into_iter().map(call).chain(tenants).chain(leases);
    listed(all, calls + tenants_count + leases_count)
}

/// The first of `count`, and how many more there are.
pub(super) fn listed(all: impl Iterator<Item = Holder>, count: usize) -> Vec<Holder> {
    let mut list: Vec<_> = all.take(LISTED_MAX).collect();
    let more = count.saturating_sub(list.len());
    list.extend((more > 0).then_some(Holder::More(more)));
    list
}

fn call(thread: u32) -> Holder {
    let name = fs::read_to_string(format!("/proc/self/task/{thread}/comm")).unwrap_or_default();
    Holder::Call {
        thread,
        name: name.trim_end().to_owned(),
    }
}
