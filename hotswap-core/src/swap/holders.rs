//! Who holds a retired generation, for the list and the events: as many holders as people read, and a count of the
//! rest.

use hotswap_cell::{Calls, Holders, Retired};
use hotswap_sdk::host::LeasedBy;

use super::{Generation, lease::Taken};
use crate::{holder::Holder, system};

/// At most this many holders are listed. Naming a call costs reading a small file of the system.
pub(super) const LISTED_MAX: usize = 32;

/// The holders: calls, then services, values, objects, wakers and futures, then leases. Leases without a register are
/// one last entry. The threads of calls have no names yet ([`name_threads`]).
pub(super) fn of<M>(generation: &Retired<Generation<M>>, calls: &Calls) -> Vec<Holder> {
    let Holders {
        threads,
        calls,
        leases,
    } = generation.holders(calls);
    let generation = generation.peek();
    let (named_leases, named_count) = generation.named_leases.first(LISTED_MAX);
    let objects = generation.objects.counts();
    let futures = generation.futures.count();
    let (recorded, recorded_count) = match &generation.leases {
        Some(register) => register.first(LISTED_MAX),
        None => (Vec::new(), 0),
    };
    // Each holder that is listed below has a lease, so these are subtracted; one may have come or gone since they were
    // counted. The rest are leases of futures that were not polled yet and, without a register, those of the host.
    let object_count = objects.iter().map(|(_, count)| count).sum::<usize>();
    let unrecorded = leases.saturating_sub(named_count + object_count + futures + recorded_count);
    let call = |thread| Holder::Call {
        thread,
        name: String::new(),
    };
    let lease = |(place, since): Taken| Holder::Lease {
        place,
        age: since.elapsed(),
    };
    let objects = objects.into_iter().map(|(kind, count)| match kind {
        LeasedBy::Object(interface) => Holder::Objects {
            interface: interface.to_owned(),
            count,
        },
        LeasedBy::Waker => Holder::Wakers { count },
    });
    let futures = (futures > 0).then_some(Holder::Futures { count: futures });
    let others: Vec<_> = objects.chain(futures).collect();
    let others_count = others.len();
    let all = threads
        .into_iter()
        .map(call)
        .chain(named_leases)
        .chain(others);
    let all = all.chain(recorded.into_iter().map(lease));
    let mut list = listed(all, calls + named_count + others_count + recorded_count);
    list.extend((unrecorded > 0).then_some(Holder::Leases { count: unrecorded }));
    list
}

/// Fills in the names of the threads that are inside calls. Reads one file per thread.
pub(super) fn name_threads(list: &mut [Holder]) {
    for holder in list {
        if let Holder::Call { thread, name } = holder {
            *name = system::thread::name_of(*thread);
        }
    }
}

/// The first [`LISTED_MAX`] of `count` holders, and an entry for how many more there are.
pub(super) fn listed(all: impl Iterator<Item = Holder>, count: usize) -> Vec<Holder> {
    let mut list: Vec<_> = all.take(LISTED_MAX).collect();
    let more = count.saturating_sub(list.len());
    list.extend((more > 0).then_some(Holder::More { count: more }));
    list
}
