//! What needs real threads, and many of them. Interleavings are the model checker's (`model`).

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::{Cell, Retired, slots};

/// Counts how often it is dropped, and notices when it is used afterwards.
struct Counted {
    number: usize,
    alive: AtomicBool,
    drops: Arc<AtomicUsize>,
}

impl Counted {
    fn new(number: usize, drops: &Arc<AtomicUsize>) -> Self {
        Self {
            number,
            alive: AtomicBool::new(true),
            drops: Arc::clone(drops),
        }
    }

    fn check(&self) -> usize {
        assert!(
            self.alive.load(Ordering::Relaxed),
            "{} is used after it was dropped",
            self.number
        );
        self.number
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert!(
            self.alive.swap(false, Ordering::Relaxed),
            "{} is dropped twice",
            self.number
        );
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

fn drain<T>(mut retired: Retired<T>) -> T {
    loop {
        match retired.try_drain() {
            Ok(value) => return value,
            Err(held) => retired = held,
        }
        thread::yield_now();
    }
}

#[test]
fn every_value_is_dropped_once_and_after_its_last_reader() {
    const VALUES: usize = 3_000;
    let drops = Arc::new(AtomicUsize::new(0));
    let cell = Cell::new(Counted::new(0, &drops));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for reader in 0..3 {
            let (cell, stop) = (&cell, &stop);
            scope.spawn(move || {
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    let seen = if reader == 0 {
                        let lease = cell.lease();
                        cell.with(Counted::check);
                        lease.check()
                    } else {
                        cell.with(|outer| {
                            assert_eq!(outer.check(), cell.with(Counted::check));
                            outer.check()
                        })
                    };
                    assert!(seen >= last, "{seen} after {last}");
                    last = seen;
                }
            });
        }
        for number in 1..=VALUES {
            drop(drain(cell.publish(Counted::new(number, &drops))));
            assert_eq!(drops.load(Ordering::Relaxed), number);
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(cell);
    assert_eq!(drops.load(Ordering::Relaxed), VALUES + 1);
}

#[test]
fn slots_of_threads_that_have_ended_are_used_again() {
    let (a, b) = (Cell::new(1), Cell::new(2));
    let short_lived = || {
        thread::scope(|scope| {
            scope
                .spawn(|| a.with(|a| b.with(|b| assert_eq!(a + b, 3))))
                .join()
                .unwrap();
        })
    };
    short_lived();
    let before = slots::all().count();
    for _ in 0..1_000 {
        short_lived();
    }
    // Tests that run beside this one may need some for themselves.
    let added = slots::all().count() - before;
    assert!(
        added < 100,
        "{added} slots for 1,000 threads of which one lives at a time"
    );
}

#[test]
fn a_holder_is_named_by_its_thread() {
    let cell = Arc::new(Cell::new(1));
    let inside = Arc::new(Barrier::new(2));
    let reader = thread::spawn({
        let (cell, inside) = (Arc::clone(&cell), Arc::clone(&inside));
        move || {
            cell.with(|_| {
                inside.wait();
                inside.wait();
            });
            rustix::thread::gettid().as_raw_nonzero().get()
        }
    });
    inside.wait();
    let lease = cell.lease();
    let retired = cell.publish(2).try_drain().unwrap_err();
    let holders = retired.holders();
    inside.wait();
    let thread = reader.join().unwrap();
    assert_eq!(holders.leases, 1);
    assert!(
        holders.threads.contains(&thread.cast_unsigned()),
        "{holders:?}"
    );
    drop(lease);
    assert_eq!(drain(retired), 1);
}

impl<T> std::fmt::Debug for Retired<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Retired")
    }
}
