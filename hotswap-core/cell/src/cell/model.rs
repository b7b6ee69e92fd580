//! The model that loom checks: every interleaving of publish, read, nest, lease, retire and drain for two threads,
//! and for three threads within a bound on preemptions (see `scripts/loom`).
//!
//! Calls of one thread can end in any order, as those of coroutines do. A call is a guard here; the reader drops its
//! guards in the order under test while another thread publishes and drains.
//!
//! The value under test is a loom `UnsafeCell`: reading it is a read for loom, and draining it is a write. A read
//! that is not ordered before the drain fails the model, whether or not the schedule runs them at the same time.
//!
//! What a reader does depends on whether a new value has the address of one that is gone. [`LastFreedFirst`] makes that
//! the same in each execution, as loom demands, and frequent.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::RefCell,
    mem::{self, ManuallyDrop},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use loom::{cell::UnsafeCell, thread};

use super::{Cell, HeadCall, Retired, Tagged};
use crate::{calls::mark_calls, chain, sync::order_stores};

/// Allocates a cell's value where the last one of the thread was freed, if there is one. Loom runs all threads of a
/// scenario on the thread of its test.
struct LastFreedFirst;

#[global_allocator]
static ALLOCATOR: LastFreedFirst = LastFreedFirst;

std::thread_local! {
    static FREED: RefCell<Vec<(*mut u8, Layout)>> = const { RefCell::new(Vec::new()) };
}

/// Whether it may be a cell's value, by its alignment.
fn is_value(layout: Layout) -> bool {
    layout.align() == align_of::<Tagged<()>>()
}

// SAFETY: all blocks are from `System`. One that is freed is given to `System`, or it is kept and given out once more,
// for the same layout.
unsafe impl GlobalAlloc for LastFreedFirst {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let take = || {
            FREED.with_borrow_mut(|freed| {
                let last = freed.iter().rposition(|it| it.1 == layout)?;
                Some(freed.remove(last).0)
            })
        };
        let freed = is_value(layout).then(take).flatten();
        // SAFETY: the layout has a size (contract of `alloc`).
        freed.unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_value(layout) {
            FREED.with_borrow_mut(|freed| freed.push((block, layout)));
        } else {
            // SAFETY: the block is from `System` and has this layout (contract of `dealloc`).
            unsafe { System.dealloc(block, layout) };
        }
    }
}

/// Stands for a plugin: it is used while mapped, and then unmapped.
struct Plugin {
    number: u32,
    mapped: UnsafeCell<bool>,
}

// SAFETY: loom checks every access to `mapped`.
unsafe impl Sync for Plugin {}

impl Plugin {
    fn new(number: u32) -> Self {
        Self {
            number,
            mapped: UnsafeCell::new(true),
        }
    }

    fn call(&self) -> u32 {
        // SAFETY: loom checks that no write is concurrent.
        self.mapped
            .with(|mapped| assert!(unsafe { *mapped }, "called after it was unmapped"));
        self.number
    }

    fn unmap(self) -> u32 {
        // SAFETY: loom checks that no read is concurrent.
        self.mapped.with_mut(|mapped| unsafe { *mapped = false });
        self.number
    }
}

/// Every interleaving of two threads.
fn exhaustively(scenario: impl Fn() + Send + Sync + 'static) {
    explore(None, scenario);
}

/// Every interleaving of three threads with at most three preemptions. Defects of such schemes show with
/// two (Musuvathi and Qadeer, *Iterative Context Bounding*, PLDI 2007); without a bound it takes days.
fn with_three_preemptions(scenario: impl Fn() + Send + Sync + 'static) {
    explore(Some(3), scenario);
}

fn explore(preemption_bound: Option<usize>, scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemption_bound;
    let executions = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    builder.check({
        let executions = Arc::clone(&executions);
        move || {
            executions.fetch_add(1, Ordering::Relaxed);
            scenario();
        }
    });
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    println!(
        "{name}: {} executions in {:.1?}",
        executions.load(Ordering::Relaxed),
        started.elapsed()
    );
}

/// Asks until the value is drained, as the reaper does.
fn drain(mut retired: Retired<Plugin>) -> u32 {
    loop {
        match retired.try_drain() {
            Ok(plugin) => return plugin.unmap(),
            Err(still_held) => {
                retired = still_held;
                thread::yield_now();
            }
        }
    }
}

/// Asks once while the readers run; the answer depends on the interleaving.
fn look(retired: Retired<Plugin>) -> Option<Retired<Plugin>> {
    retired.try_drain().map(Plugin::unmap).err()
}

/// Asks once when all readers are gone: the value must now be free. (Loom itself checks that nothing leaks.)
fn look_again(held: Option<Retired<Plugin>>) {
    if let Some(retired) = held {
        assert!(look(retired).is_none(), "held by nobody");
    }
}

/// Both calls must be on one generation.
fn call_inside_call(cell: &Cell<Plugin>) {
    cell.with(|outer| assert_eq!(outer.call(), cell.with(Plugin::call)));
}

/// Begins a call as the inline path of `with` does. This thread must have called before.
fn begin_inline(cell: &Cell<Plugin>) -> HeadCall<'_, Plugin> {
    let head = chain::ready_head().expect("it has called before, and is inside of nothing");
    cell.begin_at_head(head)
}

/// Frees a value that a forgotten call holds for ever, because the model checker fails on leaks.
fn free(held: Retired<Plugin>) {
    drop(ManuallyDrop::into_inner(held.value));
}

#[test]
fn a_call_races_with_a_swap() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, |cell| cell.with(Plugin::call));
        assert_eq!(drain(cell.publish(Plugin::new(2))), 1);
        assert!([1, 2].contains(&reader.join().unwrap()));
        assert_eq!(cell.with(Plugin::call), 2);
    });
}

/// The reader may load the pointer of the first value, name it when it is gone, and find the third one at its address.
#[test]
fn a_call_races_with_swaps_that_use_an_address_again() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, |cell| cell.with(Plugin::call));
        let first = cell.value_id();
        let held = look(cell.publish(Plugin::new(2)));
        let is_gone = held.is_none();
        let second = look(cell.publish(Plugin::new(3)));
        assert_eq!(cell.value_id() == first, is_gone);
        let third = look(cell.publish(Plugin::new(4)));
        assert!([1, 2, 3, 4].contains(&reader.join().unwrap()));
        [held, second, third].into_iter().for_each(look_again);
    });
}

#[test]
fn two_calls_of_one_thread_never_go_back() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, |cell| {
            (cell.with(Plugin::call), cell.with(Plugin::call))
        });
        let held = look(cell.publish(Plugin::new(2)));
        let (first, second) = reader.join().unwrap();
        assert!(first <= second);
        look_again(held);
    });
}

#[test]
fn a_nested_call_stays_on_the_outer_generation() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, call_inside_call);
        let held = look(cell.publish(Plugin::new(2)));
        reader.join().unwrap();
        look_again(held);
    });
}

/// The same when the reader may have named the first value, and found the third one at its address.
#[test]
fn a_nested_call_finds_a_value_at_an_address_that_is_used_again() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, call_inside_call);
        let first = look(cell.publish(Plugin::new(2)));
        let second = look(cell.publish(Plugin::new(3)));
        reader.join().unwrap();
        look_again(first);
        look_again(second);
    });
}

#[test]
fn calls_nest_across_swap_points() {
    exhaustively(|| {
        let cells = Arc::new((Cell::new(Plugin::new(1)), Cell::new(Plugin::new(10))));
        let reader = spawn(&cells, |(a, b)| {
            a.with(|outer| b.with(|inner| outer.call() + inner.call() + a.with(Plugin::call)))
        });
        let held = look(cells.0.publish(Plugin::new(2)));
        assert!([12, 14].contains(&reader.join().unwrap()));
        look_again(held);
    });
}

/// The call that entered through the slot ends before a nested call that uses the same slot.
#[test]
fn the_first_of_two_calls_ends_first() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, |cell| {
            let first = cell.begin();
            let number = first.call();
            let second = cell.begin();
            drop(first);
            assert_eq!(second.call(), number);
            // A call that begins now shares the generation of the one that has not ended.
            assert_eq!(cell.with(Plugin::call), number);
            assert_eq!(second.call(), number);
            drop(second);
            (number, cell.with(Plugin::call))
        });
        let held = look(cell.publish(Plugin::new(2)));
        let (first, last) = reader.join().unwrap();
        assert!(first <= last);
        look_again(held);
    });
}

/// The same when the first one is an inline call, whose end tests nothing.
#[test]
fn the_first_of_two_calls_is_inline_and_ends_first() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, |cell| {
            cell.with(|_| ());
            let first = begin_inline(cell);
            let number = first.call();
            let second = cell.begin();
            drop(first);
            assert_eq!(second.call(), number);
            number
        });
        let held = look(cell.publish(Plugin::new(2)));
        assert!([1, 2].contains(&reader.join().unwrap()));
        look_again(held);
    });
}

#[test]
fn the_first_of_two_calls_ends_last() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, |cell| {
            let first = cell.begin();
            let second = cell.begin();
            assert_eq!(first.call(), second.call());
            drop(second);
            first.call()
        });
        assert_eq!(drain(cell.publish(Plugin::new(2))), 1);
        assert!([1, 2].contains(&reader.join().unwrap()));
    });
}

/// The call on the outer cell ends first, so the head of the reader's chain is idle while another slot is in use. A
/// nested call must find that other slot.
#[test]
fn calls_of_two_swap_points_end_crosswise() {
    exhaustively(|| {
        let cells = Arc::new((Cell::new(Plugin::new(1)), Cell::new(Plugin::new(10))));
        let reader = spawn(&cells, |(a, b)| {
            let in_a = a.begin();
            let in_b = b.begin();
            in_a.call();
            drop(in_a);
            let number = in_b.call();
            assert_eq!(b.with(Plugin::call), number);
            // This call enters through the idle head, and must restore its idle word.
            assert_eq!(a.with(Plugin::call), 1);
            assert_eq!(b.with(Plugin::call), number);
            drop(in_b);
            assert!(chain::ready_head().is_some());
            number
        });
        let held = look(cells.1.publish(Plugin::new(20)));
        assert!([10, 20].contains(&reader.join().unwrap()));
        look_again(held);
    });
}

/// Two calls on each of two cells, begun in turn; the entering calls end first.
#[test]
fn nested_calls_of_two_swap_points_end_crosswise() {
    exhaustively(|| {
        let cells = Arc::new((Cell::new(Plugin::new(1)), Cell::new(Plugin::new(10))));
        let reader = spawn(&cells, |(a, b)| {
            let (first_a, first_b) = (a.begin(), b.begin());
            let (second_a, second_b) = (a.begin(), b.begin());
            let numbers = (first_a.call(), first_b.call());
            drop((first_a, first_b));
            assert_eq!((second_a.call(), second_b.call()), numbers);
            drop(second_a);
            assert_eq!(second_b.call(), numbers.1);
            drop(second_b);
            assert!(chain::ready_head().is_some());
        });
        let held = look(cells.1.publish(Plugin::new(20)));
        reader.join().unwrap();
        look_again(held);
    });
}

#[test]
fn a_call_that_never_ends_holds_its_own_generation_only() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, |cell| {
            let forgotten = cell.begin();
            let number = forgotten.call();
            mem::forget(forgotten);
            assert_eq!(cell.with(Plugin::call), number);
            number
        });
        let first = look(cell.publish(Plugin::new(2)));
        let second = look(cell.publish(Plugin::new(3)));
        let forgotten = reader.join().unwrap();
        assert_eq!(cell.with(Plugin::call), 3);
        let third = look(cell.publish(Plugin::new(4)));
        for (number, held) in [(1, first), (2, second), (3, third)] {
            if number == forgotten {
                let held = look(held.expect("held for ever"));
                free(held.expect("held for ever"));
            } else {
                look_again(held);
            }
        }
    });
}

/// A cell may be dropped while a forgotten call on it holds a value. Another cell may then get its address; a nested
/// call must not mistake that cell for the first.
#[test]
fn a_call_that_never_ends_holds_a_generation_of_a_swap_point_that_has_gone() {
    exhaustively(|| {
        let reader = thread::spawn(|| {
            let mut cell = Cell::new(Plugin::new(1));
            mem::forget(cell.begin());
            let mut closed = mem::replace(&mut cell, Cell::new(Plugin::new(2)));
            // SAFETY: the cell is only dropped after this.
            let held = look(unsafe { closed.close() });
            assert_eq!(cell.with(Plugin::call), 2);
            drop(cell);
            held.expect("held for ever")
        });
        free(reader.join().unwrap());
    });
}

#[test]
fn a_lease_outlives_the_swap_that_it_races_with() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, |cell| {
            let lease = cell.lease();
            let first = lease.call();
            assert_eq!(lease.clone().call(), first);
            first
        });
        let held = look(cell.publish(Plugin::new(2)));
        assert!([1, 2].contains(&reader.join().unwrap()));
        look_again(held);
    });
}

#[test]
fn a_lease_dropped_on_another_thread_ends_the_drain() {
    exhaustively(|| {
        let cell = Cell::new(Plugin::new(1));
        let lease = cell.lease();
        let retired = cell.publish(Plugin::new(2));
        let holder = thread::spawn(move || drop((lease.call(), lease)));
        assert_eq!(drain(retired), 1);
        holder.join().unwrap();
    });
}

#[test]
fn a_lease_taken_inside_a_call_is_on_the_current_generation() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, |cell| {
            cell.with(|outer| (outer.call(), cell.lease().call()))
        });
        let held = look(cell.publish(Plugin::new(2)));
        assert!([(1, 1), (1, 2), (2, 2)].contains(&reader.join().unwrap()));
        look_again(held);
    });
}

/// A lease of a call keeps the generation of that call, also when the call that entered has ended.
#[test]
fn a_lease_of_a_call_is_on_the_generation_of_the_call() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, |cell| {
            let outside = cell.lease_of_call().call();
            let call = cell.begin();
            let lease = cell.lease_of_call();
            assert_eq!(lease.call(), call.call());
            drop(call);
            (outside, lease.call())
        });
        let held = look(cell.publish(Plugin::new(2)));
        let (outside, inside) = reader.join().unwrap();
        assert!(outside <= inside);
        look_again(held);
    });
}

/// A swap from inside a call must not wait for its own caller.
#[test]
fn a_swap_inside_a_call_leaves_the_caller_where_it_was() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, |cell| cell.with(Plugin::call));
        let held = cell.with(|outer| {
            let held = look(cell.publish(Plugin::new(2)));
            assert!(held.is_some(), "the caller is inside");
            assert_eq!(outer.call(), 1);
            held
        });
        reader.join().unwrap();
        look_again(held);
    });
}

#[test]
fn closing_waits_for_leases_only() {
    exhaustively(|| {
        let mut cell = Cell::new(Plugin::new(1));
        let lease = cell.lease();
        let holder = thread::spawn(move || lease.call());
        // SAFETY: the cell is only dropped after this.
        let held = look(unsafe { cell.close() });
        holder.join().unwrap();
        look_again(held);
    });
}

#[test]
fn a_value_that_is_put_back_is_read_again() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, |cell| {
            [cell.with(Plugin::call), cell.with(Plugin::call)]
        });
        let first = cell.publish(Plugin::new(2));
        let second = look(cell.restore(first));
        assert_eq!(cell.with(Plugin::call), 1);
        let read = reader.join().unwrap();
        assert!([[1, 1], [1, 2], [2, 1], [2, 2]].contains(&read));
        look_again(second);
        assert_eq!(drain(cell.publish(Plugin::new(3))), 1);
    });
}

/// The first look at a value passes the barrier. When the value has been put back and is retired again, that look
/// counts for nothing.
#[test]
fn a_value_that_was_looked_at_is_put_back_and_replaced_again() {
    with_three_preemptions(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, |cell| {
            [cell.with(Plugin::call), cell.with(Plugin::call)]
        });
        let mut held = Vec::new();
        if let Some(first) = look(cell.publish(Plugin::new(2))) {
            held.push(look(cell.restore(first)));
            held.push(look(cell.publish(Plugin::new(3))));
        }
        let read = reader.join().unwrap();
        assert!(read.iter().all(|it| [1, 2, 3].contains(it)));
        held.into_iter().for_each(look_again);
    });
}

/// As a canary does that is promoted: a value is leased before a call can reach it, is put in, and is replaced again.
#[test]
fn a_value_is_leased_before_it_is_put_in() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let staged = cell.stage(Plugin::new(2));
        let lease = staged.lease();
        let reader = spawn(&cell, move |cell| {
            let called = cell.with(Plugin::call);
            assert_eq!(lease.call(), 2);
            called
        });
        let first = look(cell.restore(staged));
        let second = look(cell.publish(Plugin::new(3)));
        assert!([1, 2, 3].contains(&reader.join().unwrap()));
        look_again(first);
        look_again(second);
    });
}

/// As a canary does that is abandoned: no call reaches the value, and a lease keeps it.
#[test]
fn a_value_that_is_never_put_in_leaves_after_its_lease() {
    exhaustively(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let staged = cell.stage(Plugin::new(2));
        let lease = staged.lease();
        let reader = spawn(&cell, move |cell| {
            assert_eq!(cell.with(Plugin::call), 1);
            assert_eq!(lease.call(), 2);
        });
        let held = look(staged);
        reader.join().unwrap();
        look_again(held);
    });
}

/// A call that was marked, and one that begins later on the same value.
#[test]
fn a_mark_is_on_one_call_only() {
    let scenario = || {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let begun = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let reader = spawn(&cell, {
            let begun = Arc::clone(&begun);
            move |cell| {
                for call in 1..=2 {
                    begun.store(call, Ordering::Release);
                    cell.with(Plugin::call);
                }
            }
        });
        let mark = || mark_calls(cell.value_id()).next();
        let first = mark();
        let was_first = begun.load(Ordering::Acquire) == 1;
        let is_second = begun.load(Ordering::Acquire) == 2;
        let second = mark();
        if let (Some(first), Some(second)) = (first, second) {
            assert!(!first.was_marked);
            // If the first call was marked, and the second one has begun since, the mark is gone.
            assert!(!(was_first && is_second && second.was_marked));
        }
        reader.join().unwrap();
        assert!(mark().is_none());
    };
    order_stores(|| exhaustively(scenario));
}

#[test]
fn a_mark_races_with_a_swap() {
    let scenario = || {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let reader = spawn(&cell, call_inside_call);
        let value = cell.value_id();
        let looking = thread::spawn(move || mark_calls(value).count());
        let held = look(cell.publish(Plugin::new(2)));
        reader.join().unwrap();
        assert!(looking.join().unwrap() <= 1);
        look_again(held);
        assert_eq!(cell.with(Plugin::call), 2);
    };
    order_stores(|| with_three_preemptions(scenario));
}

#[test]
fn a_mark_races_with_calls_that_end_in_any_order() {
    let scenario = || {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let has_begun = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        let reader = spawn(&cell, {
            let has_begun = Arc::clone(&has_begun);
            move |cell| {
                let first = cell.begin();
                let second = cell.begin();
                has_begun.store(true, Ordering::Release);
                drop(first);
                assert_eq!(second.call(), cell.with(Plugin::call));
                drop(second);
                assert!(chain::ready_head().is_some());
            }
        });
        let value = cell.value_id();
        if has_begun.load(Ordering::Acquire) {
            assert!(mark_calls(value).count() <= 1);
        }
        let held = look(cell.publish(Plugin::new(2)));
        reader.join().unwrap();
        assert_eq!(mark_calls(value).count(), 0);
        look_again(held);
    };
    order_stores(|| exhaustively(scenario));
}

#[test]
fn two_readers_race_with_a_swap() {
    with_three_preemptions(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let readers = [(); 2].map(|()| spawn(&cell, |cell| cell.with(Plugin::call)));
        let held = look(cell.publish(Plugin::new(2)));
        for reader in readers {
            assert!([1, 2].contains(&reader.join().unwrap()));
        }
        look_again(held);
    });
}

#[test]
fn two_swaps_race_with_a_reader() {
    with_three_preemptions(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let other = spawn(&cell, |cell| look(cell.publish(Plugin::new(2))));
        let reader = spawn(&cell, |cell| cell.with(Plugin::call));
        let held = look(cell.publish(Plugin::new(3)));
        let held_by_other = other.join().unwrap();
        assert!([1, 2, 3].contains(&reader.join().unwrap()));
        look_again(held);
        look_again(held_by_other);
    });
}

/// The last value of each cell has the address that the first one of the other had, unless a reader has held that.
#[test]
fn two_swap_points_exchange_addresses() {
    with_three_preemptions(|| {
        let cells = Arc::new((Cell::new(Plugin::new(1)), Cell::new(Plugin::new(10))));
        let of_a = spawn(&cells, |(a, _)| a.with(Plugin::call));
        let of_b = spawn(&cells, |(_, b)| b.with(Plugin::call));
        let (a, b) = &*cells;
        let held = [
            look(a.publish(Plugin::new(2))),
            look(b.publish(Plugin::new(20))),
            look(a.publish(Plugin::new(3))),
        ];
        assert!([1, 2, 3].contains(&of_a.join().unwrap()));
        assert!([10, 20].contains(&of_b.join().unwrap()));
        held.into_iter().for_each(look_again);
    });
}

#[test]
fn a_lease_and_a_call_race_with_a_swap() {
    with_three_preemptions(|| {
        let cell = Arc::new(Cell::new(Plugin::new(1)));
        let leaser = spawn(&cell, |cell| cell.lease().call());
        let reader = spawn(&cell, |cell| cell.with(Plugin::call));
        let held = look(cell.publish(Plugin::new(2)));
        assert!([1, 2].contains(&leaser.join().unwrap()));
        assert!([1, 2].contains(&reader.join().unwrap()));
        look_again(held);
    });
}

fn spawn<C, R>(shared: &Arc<C>, f: impl FnOnce(&C) -> R + 'static) -> thread::JoinHandle<R>
where
    C: 'static,
    R: 'static,
{
    let shared = Arc::clone(shared);
    thread::spawn(move || f(&shared))
}
