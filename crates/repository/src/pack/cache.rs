//! A cache with a budget: what was not used for longest goes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Values by key, at most `budget` together by the costs that were told.
#[derive(Debug)]
pub struct Cache<K, V> {
    budget: usize,
    used: usize,
    clock: u64,
    values: HashMap<K, Slot<V>>,
    by_age: BTreeMap<u64, K>,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    cost: usize,
    used_at: u64,
}

impl<K: Copy + Eq + Hash, V: Clone> Cache<K, V> {
    /// An empty cache.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        Self { budget, used: 0, clock: 0, values: HashMap::new(), by_age: BTreeMap::new() }
    }

    /// The value, which counts as used now.
    pub fn get(&mut self, key: &K) -> Option<V> {
        let slot = self.values.get_mut(key)?;
        self.clock += 1;
        self.by_age.remove(&slot.used_at);
        slot.used_at = self.clock;
        self.by_age.insert(self.clock, *key);
        Some(slot.value.clone())
    }

    /// Adds or replaces. The newest always stays, even where it alone is over the budget.
    pub fn insert(&mut self, key: K, value: V, cost: usize) {
        self.remove(&key);
        self.clock += 1;
        self.used += cost;
        self.by_age.insert(self.clock, key);
        self.values.insert(key, Slot { value, cost, used_at: self.clock });
        while self.used > self.budget && self.values.len() > 1 {
            let Some((_, oldest)) = self.by_age.first_key_value() else { break };
            let oldest = *oldest;
            self.remove(&oldest);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.values.clear();
        self.by_age.clear();
        self.used = 0;
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &K) {
        if let Some(slot) = self.values.remove(key) {
            self.by_age.remove(&slot.used_at);
            self.used -= slot.cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut cache = Cache::new(30);
        for key in 0..3 {
            cache.insert(key, key, 10);
        }
        assert_eq!(cache.get(&0), Some(0));
        cache.insert(3, 3, 10);
        assert_eq!(
            (cache.get(&0), cache.get(&1), cache.get(&2), cache.get(&3)),
            (Some(0), None, Some(2), Some(3))
        );
        cache.insert(4, 4, 100);
        assert_eq!((cache.values.len(), cache.by_age.len(), cache.used), (1, 1, 100));
    }
}
