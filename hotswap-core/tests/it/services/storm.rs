//! Many swaps with services and values of both kinds.

use std::{sync::atomic::Ordering::SeqCst, time::Instant};

use hotswap_core::{GenerationInfo, State};
use hotswap_fixtures::services::Pair;
use hotswap_sdk::Lock;

use super::{Host, until};
use crate::{
    alone::alone,
    fixtures::{SOON, unloaded},
    process::{images, open_descriptors, status_bytes, threads},
};

const SWAPS: u64 = 1_000;
/// By how much resident memory may differ between 100 and 1,000 swaps: some 600 bytes a swap. (What the allocator's
/// arenas keep of memory that was freed differs by up to 270 KiB between runs.)
const GROWTH_BYTES_MAX: u64 = 512 * 1024;

#[test]
fn a_thousand_swaps_lose_nothing_and_keep_nothing() {
    alone(
        "services::storm::a_thousand_swaps_lose_nothing_and_keep_nothing",
        || {
            let mut host = Host::with("pair start one 0\npair restart two 0", |_| {});
            let path = host.files.with("pair start one 1\npair restart two 1");
            // One that is replaced before it has begun never does.
            until(|| host.begun("one") == 1 && host.begun("two") == 1);
            let mut most_mapped = 0;
            let mut before = (0, 0, 0);
            let started = Instant::now();
            for swap in 1..=SWAPS {
                let live = host.plugin().swap(&path).unwrap().generation;
                if live > 2 {
                    unloaded(host.plugin(), live - 1);
                }
                until(|| host.begun("two") == live);
                let mapped = |it: &&GenerationInfo| it.state != State::Unloaded;
                let mapped = host.plugin().generations().iter().filter(mapped).count();
                most_mapped = most_mapped.max(mapped.max(images().len()));
                if swap == 100 || swap == SWAPS {
                    while host.events.try_recv().is_ok() {}
                }
                if swap == 100 {
                    before = (status_bytes("RssAnon:"), open_descriptors(), threads());
                }
            }
            let after = (status_bytes("RssAnon:"), open_descriptors(), threads());
            let took = started.elapsed();
            host.goes_on("one");
            host.goes_on("two");
            let pair = |it: &Lock<Pair>| {
                let pair = *it.lock();
                (pair.0, pair.1)
            };
            let pair = host.plugin().with_ref("pair", pair).unwrap().unwrap();
            let word = host.tally("one", |it| it.word.load(SeqCst));
            let services = host.services();
            println!(
                "{SWAPS} swaps in {took:.1?}; {} and {} times begun; {} turns of both, none lost; at most \
                 {most_mapped} generations mapped; resident after 100: {} KiB, after {SWAPS}: {} KiB",
                host.begun("one"),
                host.begun("two"),
                pair.0,
                before.0 / 1024,
                after.0 / 1024
            );
            assert_eq!(pair.0, pair.1);
            assert_eq!((word, host.begun("one")), (0, 1), "started once");
            assert_eq!(host.begun("two"), SWAPS + 1);
            assert_eq!(
                services,
                [
                    r#""one" on generation 1: running"#.to_owned(),
                    format!(r#""two" on generation {}: running"#, SWAPS + 1)
                ]
            );
            assert!(most_mapped <= 2, "{most_mapped}");
            assert_eq!(
                (before.1, before.2),
                (after.1, after.2),
                "descriptors, threads"
            );
            let growth = after.0.abs_diff(before.0);
            assert!(growth <= GROWTH_BYTES_MAX, "{growth} bytes");
            let mapped = host.plugin.take().unwrap().shutdown(SOON);
            assert!(mapped.is_empty(), "{mapped:?}");
        },
    );
}
