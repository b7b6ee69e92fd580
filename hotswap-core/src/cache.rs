//! What was found out once, for those who ask again.
//!
//! It is bounded: what is one entry too many takes the place of all others. Whoever asks for one of those finds it out
//! again.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

/// More than a host has of anything that is kept here.
const ENTRIES_MAX: usize = 1024;

/// Values by their keys, for a `static`.
pub(crate) struct Cache<K, V>(LazyLock<Mutex<HashMap<K, V>>>);

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) const fn new() -> Self {
        Self(LazyLock::new(Mutex::default))
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.lock().get(key).cloned()
    }

    pub(crate) fn insert(&self, key: K, value: V) {
        self.with_room_for(&key).insert(key, value);
    }

    /// Changes the value under the lock, and gives what it is then.
    pub(crate) fn update(&self, key: K, change: impl FnOnce(&mut V)) -> V
    where
        V: Default,
    {
        let mut all = self.with_room_for(&key);
        let value = all.entry(key).or_default();
        change(value);
        value.clone()
    }

    fn with_room_for(&self, key: &K) -> MutexGuard<'_, HashMap<K, V>> {
        let mut all = self.lock();
        if all.len() >= ENTRIES_MAX && !all.contains_key(key) {
            all.clear();
        }
        all
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_begins_anew_when_it_is_full() {
        static CACHE: Cache<usize, Vec<u8>> = Cache::new();
        assert_eq!(CACHE.update(0, |value| value.push(1)), [1]);
        assert_eq!(CACHE.update(0, |value| value.push(2)), [1, 2]);
        for key in 1..ENTRIES_MAX {
            CACHE.insert(key, Vec::new());
        }
        CACHE.insert(1, vec![3]);
        assert_eq!(CACHE.get(&0), Some(vec![1, 2]), "that was no other key");
        CACHE.insert(ENTRIES_MAX, vec![4]);
        assert_eq!((CACHE.get(&0), CACHE.get(&1)), (None, None));
        assert_eq!(CACHE.get(&ENTRIES_MAX), Some(vec![4]));
    }
}
