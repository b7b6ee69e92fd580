//! The interleavings of a list's readers with those who add and remove, for the model checker.

use loom::{cell::UnsafeCell, sync::Arc, thread};

use super::{Listed, SignalSafeList};

/// A value whose end is a write for loom, and whose use is a read.
struct Value {
    number: u32,
    alive: Arc<Alive>,
}

struct Alive(UnsafeCell<bool>);

// SAFETY: loom checks every access to the cell.
unsafe impl Sync for Alive {}
// SAFETY: loom checks every access to the cell.
unsafe impl Send for Alive {}

impl Value {
    fn new(number: u32) -> Self {
        Self {
            number,
            alive: Arc::new(Alive(UnsafeCell::new(true))),
        }
    }

    fn read(&self) -> u32 {
        // SAFETY: loom checks that no write is concurrent.
        self.alive
            .0
            .with(|alive| assert!(unsafe { *alive }, "read after it was freed"));
        self.number
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: loom checks that no read is concurrent.
        self.alive.0.with_mut(|alive| unsafe { *alive = false });
    }
}

fn list() -> &'static SignalSafeList<Value> {
    Box::leak(Box::new(SignalSafeList::new()))
}

fn read(list: &'static SignalSafeList<Value>) -> Vec<u32> {
    list.read().iter().map(Value::read).collect()
}

/// What a removal may have leaked. Loom fails on leaks, so it is freed when nobody reads any more.
struct Removed(Arc<Alive>);

impl Removed {
    fn free(self) {
        // SAFETY: nobody writes: the value was dropped, or is leaked.
        let is_leaked = self.0.0.with(|alive| unsafe { *alive });
        if is_leaked {
            // SAFETY: the count that the leaked value has.
            unsafe { Arc::decrement_strong_count(Arc::as_ptr(&self.0)) };
        }
    }
}

fn remove(listed: Listed<Value>) -> Removed {
    let removed = Removed(Arc::clone(&listed.alive));
    drop(listed);
    removed
}

#[test]
fn a_reader_beside_a_removal() {
    loom::model(|| {
        let list = list();
        let listed = list.insert(Value::new(1));
        let reader = thread::spawn(move || assert!(matches!(read(list)[..], [] | [1])));
        let removed = remove(listed);
        reader.join().unwrap();
        removed.free();
        assert!(read(list).is_empty());
    });
}

#[test]
fn a_reader_beside_the_next_value_of_a_place() {
    loom::model(|| {
        let list = list();
        let first = list.insert(Value::new(1));
        let reader = thread::spawn(move || assert!(matches!(read(list)[..], [] | [1] | [2])));
        let removed = remove(first);
        let second = list.insert(Value::new(2));
        reader.join().unwrap();
        removed.free();
        assert_eq!(read(list), [2]);
        remove(second).free();
    });
}

#[test]
fn two_values_are_added_at_once() {
    loom::model(|| {
        let list = list();
        let other = thread::spawn(move || list.insert(Value::new(1)));
        let mine = list.insert(Value::new(2));
        let others = other.join().unwrap();
        let mut all = read(list);
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
        remove(mine).free();
        remove(others).free();
    });
}
