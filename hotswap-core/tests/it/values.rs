//! Data whose own code panics while it is read: whatever was read by then is dropped, once.

use std::{
    collections::HashSet,
    hash::{Hash, Hasher},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
};

use hotswap_core::{Hotswap, reasons::FaultKind};
use hotswap_sdk::{data, interface};

/// One of those that are counted.
#[data]
#[derive(PartialEq, Eq)]
struct Value {
    number: u32,
    within: Option<Box<Value>>,
}

/// How many values were made by the tests or by being read, less those that were dropped. A value that is read has no
/// code of its own to count it by, so that only the tests know how many there are.
static DROPPED: AtomicI64 = AtomicI64::new(0);
static PANICS_WHEN_HASHED: AtomicBool = AtomicBool::new(false);
static PANICS_WHEN_DROPPED: AtomicBool = AtomicBool::new(false);

impl Drop for Value {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Relaxed);
        // Once, and only one that was read.
        if self.number == 2 && PANICS_WHEN_DROPPED.swap(false, Relaxed) {
            panic!("dropped");
        }
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        assert!(
            self.number != 3 || !PANICS_WHEN_HASHED.load(Relaxed),
            "hashed"
        );
        // All of them collide.
        0.hash(hasher);
    }
}

#[interface]
trait Values {
    fn count(&self, values: &[Value]) -> usize;
    fn same(&self, values: HashSet<Value>) -> HashSet<Value>;
}

struct Host;

impl Values for Host {
    fn count(&self, values: &[Value]) -> usize {
        values.len()
    }

    fn same(&self, values: HashSet<Value>) -> HashSet<Value> {
        values
    }
}

fn value(number: u32) -> Value {
    Value {
        number,
        within: None,
    }
}

/// The third lies too deep.
fn values() -> Vec<Value> {
    let deep = (0..200).fold(value(9), |within, _| Value {
        number: 9,
        within: Some(Box::new(within)),
    });
    vec![value(1), value(2), deep]
}

/// The tests count the same.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    DROPPED.store(0, Relaxed);
    turn
}

#[test]
fn what_was_read_before_a_fault_is_dropped_once() {
    let _turn = alone();
    let it = Hotswap::<dyn Values>::builtin(Host).unwrap();
    let values = values();
    let fault = it.call(|it| it.count(&values)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::TooDeep);
    // Two, and as many of the third as there may be within each other.
    assert_eq!(DROPPED.load(Relaxed), 2);
    assert_eq!(it.call(|it| it.count(&values[..2])), Ok(2));
    assert_eq!(DROPPED.load(Relaxed), 4);
}

#[test]
fn what_was_read_may_panic_when_it_is_dropped() {
    let _turn = alone();
    let it = Hotswap::<dyn Values>::builtin(Host).unwrap();
    let values = values();
    PANICS_WHEN_DROPPED.store(true, Relaxed);
    let fault = it.call(|it| it.count(&values)).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "panicked: dropped, in a call of generation 1"
    );
    assert_eq!(DROPPED.load(Relaxed), 2);
    PANICS_WHEN_DROPPED.store(true, Relaxed);
    let fault = it.call(|it| it.count(&values[..2])).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "panicked: dropped, in a call of generation 1"
    );
    assert_eq!(DROPPED.load(Relaxed), 4);
}

#[test]
fn a_key_may_panic_when_it_is_hashed() {
    let _turn = alone();
    let it = Hotswap::<dyn Values>::builtin(Host).unwrap();
    let values = || HashSet::from_iter((0..10).map(value));
    let same = it.with(|it| it.same(values()));
    assert!(same == values());
    drop(same);
    DROPPED.store(0, Relaxed);
    let sent = values();
    PANICS_WHEN_HASHED.store(true, Relaxed);
    let fault = it.call(|it| it.same(sent)).map(drop).unwrap_err();
    PANICS_WHEN_HASHED.store(false, Relaxed);
    assert_eq!(
        fault.to_string(),
        "panicked: hashed, in a call of generation 1"
    );
    // Those that were sent, and those that were read up to the third.
    assert!((11..=20).contains(&DROPPED.load(Relaxed)));
    assert_eq!(it.with(|it| it.same(values())).len(), 10);
}
