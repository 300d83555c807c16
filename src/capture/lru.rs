//! A bounded map that forgets what was used longest ago.

use std::collections::HashMap;
use std::hash::Hash;

const NIL: usize = usize::MAX;

/// At most `capacity` entries; a use moves an entry to the front, an insert beyond drops the last.
pub(super) struct Lru<K, V> {
    index: HashMap<K, usize>,
    slots: Vec<Slot<K, V>>,
    free: Vec<usize>,
    first: usize,
    last: usize,
    capacity: usize,
}

struct Slot<K, V> {
    entry: Option<(K, V)>,
    before: usize,
    after: usize,
}

impl<K: Hash + Eq + Clone, V> Lru<K, V> {
    /// An empty one. Memory grows with use, up to `capacity` entries.
    pub(super) fn new(capacity: usize) -> Self {
        Self { index: HashMap::new(), slots: Vec::new(), free: Vec::new(), first: NIL, last: NIL, capacity }
    }

    /// The value of `key`, which counts as a use.
    pub(super) fn get<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let at = *self.index.get(key)?;
        if at != self.first {
            self.unlink(at);
            self.link_first(at);
        }
        self.slots[at].entry.as_mut().map(|(_, v)| v)
    }

    /// Adds or replaces; returns whether another entry had to go.
    pub(super) fn insert(&mut self, key: K, value: V) -> bool {
        if self.capacity == 0 {
            return true;
        }
        if let Some(old) = self.get(&key) {
            *old = value;
            return false;
        }
        let full = self.index.len() >= self.capacity;
        if full {
            self.remove_at(self.last);
        }
        let slot = Slot { entry: Some((key.clone(), value)), before: NIL, after: NIL };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.index.insert(key, at);
        self.link_first(at);
        full
    }

    /// Takes `key` out.
    pub(super) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let at = *self.index.get(key)?;
        self.remove_at(at)
    }

    /// Entries from the one used longest ago to the newest.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut at = self.last;
        std::iter::from_fn(move || {
            let slot = self.slots.get(at)?;
            at = slot.before;
            slot.entry.as_ref().map(|(k, v)| (k, v))
        })
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    fn remove_at(&mut self, at: usize) -> Option<V> {
        let (key, value) = self.slots.get_mut(at)?.entry.take()?;
        self.unlink(at);
        self.index.remove(&key);
        self.free.push(at);
        Some(value)
    }

    fn unlink(&mut self, at: usize) {
        let (before, after) = (self.slots[at].before, self.slots[at].after);
        match self.slots.get_mut(before) {
            Some(slot) => slot.after = after,
            None => self.first = after,
        }
        match self.slots.get_mut(after) {
            Some(slot) => slot.before = before,
            None => self.last = before,
        }
    }

    fn link_first(&mut self, at: usize) {
        let old = std::mem::replace(&mut self.first, at);
        self.slots[at].before = NIL;
        self.slots[at].after = old;
        match self.slots.get_mut(old) {
            Some(slot) => slot.before = at,
            None => self.last = at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_list(operations in prop::collection::vec((0..3u8, 0..8u8), 0..200)) {
            let mut lru = Lru::new(4);
            let mut model: Vec<(u8, usize)> = Vec::new();
            for (step, (operation, key)) in operations.into_iter().enumerate() {
                let known = model.iter().position(|(k, _)| *k == key);
                match operation {
                    0 => {
                        let old = known.map(|at| model.remove(at));
                        if old.is_none() && model.len() == 4 {
                            model.remove(0);
                        }
                        model.push((key, step));
                        lru.insert(key, step);
                    }
                    1 => {
                        let expected = known.map(|at| { let e = model.remove(at); model.push(e); e.1 });
                        prop_assert_eq!(lru.get(&key).copied(), expected);
                    }
                    _ => {
                        let expected = known.map(|at| model.remove(at).1);
                        prop_assert_eq!(lru.remove(&key), expected);
                    }
                }
                let listed: Vec<(u8, usize)> = lru.iter().map(|(k, v)| (*k, *v)).collect();
                prop_assert_eq!(&listed, &model);
                prop_assert_eq!(lru.len(), model.len());
            }
        }
    }
}
