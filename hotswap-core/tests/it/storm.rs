//! A thousand swaps under callers that never pause.
//!
//! `cargo test -p hotswap-core --test it -- storm --nocapture` shows the figures.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use hotswap_core::EventKind;

use crate::{
    alone::alone,
    fixtures::{SOON, StopAtEnd, load, plugin},
    process::{images, open_descriptors, resident_bytes},
};

const SWAPS: u64 = 1_000;
const CALLERS: usize = 2;
/// By how much resident memory may differ between 100 and 1,000 swaps.
const GROWTH_BYTES_MAX: u64 = 256 * 1024;

#[test]
fn a_thousand_swaps_under_callers_without_pause() {
    alone(
        "storm::a_thousand_swaps_under_callers_without_pause",
        || {
            // Odd generations are loaded from build 1, even ones from build 2.
            let it = load("build_1");
            let build_of_generation = |number: u64| if number % 2 == 1 { 1 } else { 2 };
            let events = it.events();
            let (stop, checks) = (AtomicBool::new(false), AtomicU64::new(0));
            let mut resident = [0; 2];

            thread::scope(|scope| {
                for _ in 0..CALLERS {
                    scope.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            let (number, a, b) =
                                it.with(|it| (it.number(), it.build_a()(), it.build_b()()));
                            assert_eq!(
                                (a, b),
                                (build_of_generation(number), build_of_generation(number))
                            );
                            checks.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
                // Also when this fails, for the callers are waited for.
                let _stop = StopAtEnd(&stop);
                let mut descriptors = 0;
                // The first look makes the code that looks resident, which counts as well.
                let _ = resident_bytes();
                for swap in 1..=SWAPS {
                    let swapped = it
                        .swap(plugin(if swap % 2 == 1 { "build_2" } else { "build_1" }))
                        .unwrap();
                    let unloaded = loop {
                        let event = events
                            .recv_timeout(SOON)
                            .expect("the retired generation leaves");
                        match event.kind {
                            EventKind::Accepted { .. } => {}
                            EventKind::Unloaded { .. } => break event.generation,
                            _ => panic!("{event}"),
                        }
                    };
                    assert_eq!(unloaded, Some(swapped.retired));
                    match swap {
                        100 => (resident[0], descriptors) = (resident_bytes(), open_descriptors()),
                        SWAPS => resident[1] = resident_bytes(),
                        _ => {}
                    }
                }
                assert_eq!(open_descriptors(), descriptors);
                assert_eq!(images().len(), 1);
            });

            let growth = resident[1].abs_diff(resident[0]);
            println!(
                "{SWAPS} swaps, {} checks on {CALLERS} threads, no wrong answer; resident after 100: {} KiB, \
             after {SWAPS}: {} KiB",
                checks.into_inner(),
                resident[0] / 1024,
                resident[1] / 1024
            );
            assert!(
                growth <= GROWTH_BYTES_MAX,
                "resident memory moved by {growth} bytes"
            );
        },
    );
}
