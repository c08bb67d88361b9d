//! One shard of the buckets in memory: open addressing in one allocation, and a clock hand that evicts.

use super::ScopeId;

/// Slots that a hand looks at before it takes what it can get.
const MAX_LOOKS: usize = 64;
/// Eviction counters of a table.
const COUNTERS: usize = 64;
const MIN_SLOTS: usize = 16;

/// A bucket in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    pub(super) id: ScopeId,
    /// What was spent.
    pub(super) tat_ns: u64,
    /// What may be spent without a write: the file says it, or more.
    pub(super) durable_ns: u64,
    /// What was last handed to a commit.
    pub(super) wanted_ns: u64,
    /// Numbers that the next lease is ahead.
    pub(super) chunk: u32,
    in_use: bool,
    /// Was it asked for since the hand came by?
    recent: bool,
}

impl Bucket {
    const EMPTY: Self =
        Self { id: [0; 16], tat_ns: 0, durable_ns: 0, wanted_ns: 0, chunk: 0, in_use: false, recent: false };

    /// A bucket that waits for a commit is ahead of the file: forgetting it would refill it.
    const fn is_pinned(&self) -> bool {
        self.wanted_ns > self.durable_ns
    }
}

/// Buckets by identity, linear probing, at most three quarters in use.
pub(super) struct Table {
    slots: Vec<Bucket>,
    used: usize,
    capacity: usize,
    hand: usize,
    /// How often a bucket of a group of identities was evicted: who reads a bucket from the file without the lock
    /// sees from it whether what it read may be old.
    evictions: [u32; COUNTERS],
}

impl Table {
    /// A table of at most about `capacity` buckets.
    pub(super) fn new(capacity: usize) -> Self {
        Self { slots: Vec::new(), used: 0, capacity: capacity.max(1), hand: 0, evictions: [0; COUNTERS] }
    }

    /// The bucket, if it is in memory.
    #[inline]
    pub(super) fn get(&mut self, id: ScopeId) -> Option<&mut Bucket> {
        let at = self.position(id)?;
        let bucket = self.slots.get_mut(at)?;
        bucket.recent = true;
        Some(bucket)
    }

    /// Evictions so far of buckets like this one.
    pub(super) fn evictions(&self, id: ScopeId) -> u32 {
        self.evictions.get(group(id)).copied().unwrap_or_default()
    }

    /// Adds a bucket that is not there, as the file says it is.
    pub(super) fn insert(&mut self, id: ScopeId, durable_ns: u64) {
        if self.used >= self.capacity {
            self.evict();
        }
        if self.slots.len() * 3 < (self.used + 1) * 4 {
            self.grow();
        }
        self.put(Bucket {
            id,
            tat_ns: durable_ns,
            durable_ns,
            wanted_ns: durable_ns,
            in_use: true,
            recent: true,
            chunk: 0,
        });
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Bucket> {
        self.slots.iter().filter(|bucket| bucket.in_use)
    }

    const fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    fn position(&self, id: ScopeId) -> Option<usize> {
        let mut at = home(id) & self.mask();
        loop {
            let bucket = self.slots.get(at)?;
            if !bucket.in_use {
                return None;
            }
            if bucket.id == id {
                return Some(at);
            }
            at = (at + 1) & self.mask();
        }
    }

    fn put(&mut self, bucket: Bucket) {
        let mut at = home(bucket.id) & self.mask();
        while let Some(slot) = self.slots.get_mut(at) {
            if !slot.in_use {
                *slot = bucket;
                self.used += 1;
                return;
            }
            at = (at + 1) & self.mask();
        }
    }

    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(MIN_SLOTS);
        let old = std::mem::replace(&mut self.slots, vec![Bucket::EMPTY; slots]);
        self.used = 0;
        self.hand = 0;
        old.into_iter().filter(|bucket| bucket.in_use).for_each(|bucket| self.put(bucket));
    }

    /// Evicts a bucket that nobody asked for lately and that waits for no commit. Where all wait, nothing goes and the
    /// table grows: there are never more of them than lookups under way.
    fn evict(&mut self) {
        let mut fallback = None;
        let mut chosen = None;
        for _ in 0..self.slots.len() {
            let at = self.hand & self.mask();
            self.hand = (at + 1) & self.mask();
            let Some(bucket) = self.slots.get_mut(at).filter(|bucket| bucket.in_use && !bucket.is_pinned()) else {
                continue;
            };
            if !bucket.recent {
                chosen = Some(at);
                break;
            }
            bucket.recent = false;
            let (first, looks) = fallback.unwrap_or((at, 0));
            fallback = Some((first, looks + 1));
            if looks + 1 >= MAX_LOOKS {
                break;
            }
        }
        if let Some(at) = chosen.or(fallback.map(|(at, _)| at)) {
            self.remove(at);
        }
    }

    /// Empties a slot and moves what followed it back, so that no search ends too early.
    fn remove(&mut self, mut hole: usize) {
        let Some(gone) = self.slots.get(hole) else { return };
        if let Some(counter) = self.evictions.get_mut(group(gone.id)) {
            *counter = counter.wrapping_add(1);
        }
        self.used -= 1;
        let mask = self.mask();
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let Some(next) = self.slots.get(at).filter(|bucket| bucket.in_use).copied() else { break };
            // It may move if its home is not behind the hole.
            let from_home = at.wrapping_sub(home(next.id)) & mask;
            if from_home >= at.wrapping_sub(hole) & mask {
                if let Some(slot) = self.slots.get_mut(hole) {
                    *slot = next;
                }
                hole = at;
            }
        }
        if let Some(slot) = self.slots.get_mut(hole) {
            *slot = Bucket::EMPTY;
        }
    }
}

fn home(id: ScopeId) -> usize {
    u64::from_le_bytes(id.last_chunk().copied().unwrap_or_default()) as usize
}

/// Bits of an identity that neither its shard nor its home is chosen by.
fn group(id: ScopeId) -> usize {
    let [_, second, ..] = id;
    usize::from(second) % COUNTERS
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn id(i: u64) -> ScopeId {
        *blake3::hash(&i.to_le_bytes()).as_bytes().first_chunk().unwrap()
    }

    #[test]
    fn a_table_is_a_map_until_it_is_full_and_then_forgets_what_was_not_asked_for() {
        let mut table = Table::new(1_000);
        for i in 0..1_000 {
            assert!(table.get(id(i)).is_none());
            table.insert(id(i), i);
        }
        assert!((0..1_000).all(|i| table.get(id(i)).unwrap().durable_ns == i));
        let mut model: BTreeMap<ScopeId, u64> = (0..1_000).map(|i| (id(i), i)).collect();
        // A hundred are asked for all the time. Few of them go while nothing else is older.
        let mut gone = BTreeSet::new();
        for i in 1_000..20_000 {
            let before: u32 = table.evictions.iter().sum();
            table.insert(id(i), i);
            model.insert(id(i), i);
            assert_eq!(table.evictions.iter().sum::<u32>(), before + 1);
            gone.extend((0..100).filter(|i| table.get(id(*i)).is_none()));
        }
        assert_eq!((table.used, table.iter().count()), (1_000, 1_000));
        assert!(table.iter().all(|bucket| model[&bucket.id] == bucket.durable_ns));
        assert!(gone.len() < 10, "{gone:?}");
        // Whatever is in the table is found: removals left no gap.
        let inside: Vec<ScopeId> = table.iter().map(|bucket| bucket.id).collect();
        assert!(inside.iter().all(|id| table.get(*id).is_some()));
    }

    #[test]
    fn a_bucket_that_waits_for_a_commit_is_never_forgotten() {
        let mut table = Table::new(10);
        for i in 0..8 {
            table.insert(id(i), 5);
            table.get(id(i)).unwrap().wanted_ns = 6;
        }
        (8..500).for_each(|i| table.insert(id(i), 5));
        assert!((0..8).all(|i| table.get(id(i)).is_some()));
        assert!(table.used <= 11);
        // If all wait, the table grows past its capacity.
        (1_000..1_100).for_each(|i| {
            table.insert(id(i), 5);
            table.get(id(i)).unwrap().wanted_ns = 6;
        });
        assert!((1_000..1_100).all(|i| table.get(id(i)).is_some()));
    }
}
