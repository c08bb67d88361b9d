//! One shard of the buckets in memory: open addressing in one allocation, and a clock hand that evicts.

use std::collections::HashMap;
use std::sync::Arc;

use super::bucket_rows::BucketState;
use super::quotas::Quotas;
use super::standing::Standing;
use super::{Scope, ScopeId};
use crate::disk::{LINE, Lines};
use crate::prefetch;

/// Slots that a hand looks at before it takes what it can get.
const MAX_LOOKS: usize = 64;
/// Eviction counters of a table.
const COUNTERS: usize = 64;
const MIN_SLOTS: usize = 16;

/// Bits of a slot's flags.
const IN_USE: u8 = 1;
const RECENT: u8 = 2;
const SHORT: u8 = 4;
const STANDING: u8 = 8;

/// A bucket in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
    /// The version of the quotas that its moments were computed under.
    pub(super) version: u32,
    /// Did it have to leave numbers out the last time?
    pub(super) is_short: bool,
    /// Has the table a standing of this scope?
    pub(super) has_standing: bool,
    /// Was it asked for since the hand came by?
    recent: bool,
}

impl Bucket {
    /// A bucket that waits for a commit is ahead of the file: forgetting it would refill it.
    const fn is_pinned(&self) -> bool {
        self.wanted_ns > self.durable_ns
    }

    /// The bucket in a slot, if the slot is in use.
    #[inline]
    fn of(slot: &[u8; LINE]) -> Option<Self> {
        let (id, rest) = slot.split_first_chunk::<16>()?;
        let (words, _) = rest.as_chunks::<8>();
        let [tat_ns, durable_ns, wanted_ns, [c0, c1, c2, c3, v0, v1, v2, v3], [flags, ..], ..] = words else {
            return None;
        };
        if flags & IN_USE == 0 {
            return None;
        }
        Some(Self {
            id: *id,
            tat_ns: u64::from_le_bytes(*tat_ns),
            durable_ns: u64::from_le_bytes(*durable_ns),
            wanted_ns: u64::from_le_bytes(*wanted_ns),
            chunk: u32::from_le_bytes([*c0, *c1, *c2, *c3]),
            version: u32::from_le_bytes([*v0, *v1, *v2, *v3]),
            is_short: flags & SHORT != 0,
            has_standing: flags & STANDING != 0,
            recent: flags & RECENT != 0,
        })
    }

    #[inline]
    fn put(&self, slot: &mut [u8; LINE]) {
        let Some((id, rest)) = slot.split_first_chunk_mut::<16>() else { return };
        let (words, _) = rest.as_chunks_mut::<8>();
        let [tat_ns, durable_ns, wanted_ns, numbers, [flags, ..], ..] = words else { return };
        *id = self.id;
        *tat_ns = self.tat_ns.to_le_bytes();
        *durable_ns = self.durable_ns.to_le_bytes();
        *wanted_ns = self.wanted_ns.to_le_bytes();
        let ([c0, c1, c2, c3], [v0, v1, v2, v3]) = (self.chunk.to_le_bytes(), self.version.to_le_bytes());
        *numbers = [c0, c1, c2, c3, v0, v1, v2, v3];
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        *flags =
            IN_USE | flag(self.recent, RECENT) | flag(self.is_short, SHORT) | flag(self.has_standing, STANDING);
    }

    /// What the file must hold before what was spent is revealed.
    pub(super) fn state(&self) -> BucketState {
        BucketState { id: self.id, tat_ns: self.wanted_ns.max(self.durable_ns), version: self.version }
    }
}

/// Buckets by identity, one to a cache line, linear probing, at most three quarters in use.
pub(super) struct Table {
    slots: Lines,
    used: usize,
    capacity: usize,
    hand: usize,
    /// How often a bucket of a group of identities was evicted: who reads a bucket from the file without the lock
    /// sees from it whether what it read may be old.
    evictions: [u32; COUNTERS],
    /// Of buckets that have one: few.
    standings: HashMap<ScopeId, Standing>,
    /// The quotas in force, here too: whoever charges holds the lock of this table and needs no other for them.
    pub(super) quotas: Arc<Quotas>,
}

impl Table {
    /// A table of at most about `capacity` buckets.
    pub(super) fn new(capacity: usize, quotas: Arc<Quotas>) -> Self {
        Self {
            slots: Lines::zeroed(0),
            used: 0,
            capacity: capacity.max(1),
            hand: 0,
            evictions: [0; COUNTERS],
            standings: HashMap::new(),
            quotas,
        }
    }

    /// The bucket and its place, if it is in memory. Places change with insertions only.
    #[inline]
    pub(super) fn find(&self, id: ScopeId) -> Option<(usize, Bucket)> {
        let mut at = home(id) & self.mask();
        let mask = self.mask();
        loop {
            let bucket = self.at(at)?;
            if bucket.id == id {
                return Some((at, bucket));
            }
            at = (at + 1) & mask;
        }
    }

    /// Asks the memory for the line where the bucket is, if it is in memory and no other stands in its way.
    #[inline]
    pub(super) fn ask_for(&self, id: ScopeId) {
        if let Some(line) = self.slots.get(home(id) & self.mask()) {
            prefetch::ask_for(line);
        }
    }

    /// The bucket at a place.
    #[inline]
    pub(super) fn at(&self, at: usize) -> Option<Bucket> {
        self.slots.get(at).and_then(Bucket::of)
    }

    /// Stores a bucket at the place where it was found.
    #[inline]
    pub(super) fn store(&mut self, at: usize, bucket: &Bucket) {
        if let Some(slot) = self.slots.get_mut(at) {
            Bucket { recent: true, ..*bucket }.put(slot);
        }
    }

    /// Evictions so far of buckets like this one.
    pub(super) fn evictions(&self, id: ScopeId) -> u32 {
        self.evictions.get(group(id)).copied().unwrap_or_default()
    }

    /// What an operator decided about a scope.
    pub(super) fn standing(&self, id: ScopeId) -> Option<&Standing> {
        self.standings.get(&id)
    }

    /// Sets it for a bucket that is there.
    pub(super) fn set_standing(&mut self, id: ScopeId, standing: Standing) {
        let Some((at, bucket)) = self.find(id) else { return };
        let has_standing = !standing.is_ordinary();
        if has_standing {
            self.standings.insert(id, standing);
        } else {
            self.standings.remove(&id);
        }
        self.store(at, &Bucket { has_standing, ..bucket });
    }

    /// Adds a bucket that is not there, as the file says it is. Those of `kept` stay: a charge that has two buckets in a
    /// table with room for one would wait for itself for ever.
    pub(super) fn insert(&mut self, state: BucketState, kept: &[Scope<'_>]) {
        if self.used >= self.capacity {
            self.evict(kept);
        }
        if self.slots.len() * 3 < (self.used + 1) * 4 {
            self.grow();
        }
        let BucketState { id, tat_ns, version } = state;
        let (durable_ns, wanted_ns) = (tat_ns, tat_ns);
        let (is_short, has_standing) = (false, false);
        let recent = true;
        self.put(&Bucket { id, tat_ns, durable_ns, wanted_ns, chunk: 0, version, is_short, has_standing, recent });
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Bucket> {
        (0..self.slots.len()).filter_map(|at| self.at(at))
    }

    #[inline]
    fn mask(&self) -> usize {
        self.slots.len().wrapping_sub(1)
    }

    fn put(&mut self, bucket: &Bucket) {
        let mask = self.mask();
        let mut at = home(bucket.id) & mask;
        while self.at(at).is_some() {
            at = (at + 1) & mask;
        }
        if let Some(slot) = self.slots.get_mut(at) {
            bucket.put(slot);
            self.used += 1;
        }
    }

    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(MIN_SLOTS);
        let old = std::mem::replace(&mut self.slots, Lines::zeroed(slots));
        self.used = 0;
        self.hand = 0;
        (0..old.len()).filter_map(|at| old.get(at).and_then(Bucket::of)).for_each(|bucket| self.put(&bucket));
    }

    /// Evicts a bucket that nobody asked for lately and that waits for no commit. Where all wait, nothing goes and the
    /// table grows: there are never more of them than lookups under way.
    fn evict(&mut self, kept: &[Scope<'_>]) {
        let mut fallback = None;
        let mut looks = 0;
        for _ in 0..self.slots.len() {
            let at = self.hand & self.mask();
            self.hand = (at + 1) & self.mask();
            let may_go = |bucket: &Bucket| !bucket.is_pinned() && kept.iter().all(|scope| scope.id != bucket.id);
            let Some(bucket) = self.at(at).filter(may_go) else { continue };
            if !bucket.recent {
                return self.remove(at);
            }
            if let Some(slot) = self.slots.get_mut(at) {
                Bucket { recent: false, ..bucket }.put(slot);
            }
            fallback = fallback.or(Some(at));
            looks += 1;
            if looks >= MAX_LOOKS {
                break;
            }
        }
        if let Some(at) = fallback {
            self.remove(at);
        }
    }

    /// Empties a slot and moves what followed it back, so that no search ends too early.
    fn remove(&mut self, mut hole: usize) {
        let Some(gone) = self.at(hole) else { return };
        if let Some(counter) = self.evictions.get_mut(group(gone.id)) {
            *counter = counter.wrapping_add(1);
        }
        if gone.has_standing {
            self.standings.remove(&gone.id);
        }
        self.used -= 1;
        let mask = self.mask();
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let Some(next) = self.at(at) else { break };
            // It may move if its home is not behind the hole.
            let from_home = at.wrapping_sub(home(next.id)) & mask;
            if from_home >= at.wrapping_sub(hole) & mask {
                if let Some(slot) = self.slots.get_mut(hole) {
                    next.put(slot);
                }
                hole = at;
            }
        }
        if let Some(slot) = self.slots.get_mut(hole) {
            *slot = [0; LINE];
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
    use crate::words::QuotaPolicy;

    fn id(i: u64) -> ScopeId {
        *blake3::hash(&i.to_le_bytes()).as_bytes().first_chunk().unwrap()
    }

    fn table(capacity: usize) -> Table {
        Table::new(capacity, Quotas::new(1, QuotaPolicy::strict(), Vec::new()).into())
    }

    fn insert(table: &mut Table, id: ScopeId, tat_ns: u64) {
        table.insert(BucketState { id, tat_ns, version: 1 }, &[]);
    }

    fn wait(table: &mut Table, id: ScopeId) {
        let (at, bucket) = table.find(id).unwrap();
        table.store(at, &Bucket { wanted_ns: 6, ..bucket });
    }

    #[test]
    fn a_bucket_round_trips_through_its_line() {
        let mut line = [0; LINE];
        assert_eq!(Bucket::of(&line), None);
        for flags in 0..8 {
            let [is_short, has_standing, recent] = [1, 2, 4].map(|bit| flags & bit != 0);
            let moments = (1, 2, 3);
            let (tat_ns, durable_ns, wanted_ns) = moments;
            let bucket = Bucket {
                id: id(7),
                tat_ns,
                durable_ns,
                wanted_ns,
                chunk: 4,
                version: 5,
                is_short,
                has_standing,
                recent,
            };
            bucket.put(&mut line);
            assert_eq!(Bucket::of(&line), Some(bucket));
        }
    }

    #[test]
    fn a_table_is_a_map_until_it_is_full_and_then_forgets_what_was_not_asked_for() {
        let mut table = table(1_000);
        for i in 0..1_000 {
            assert!(table.find(id(i)).is_none());
            insert(&mut table, id(i), i);
        }
        assert!((0..1_000).all(|i| table.find(id(i)).unwrap().1.durable_ns == i));
        let mut model: BTreeMap<ScopeId, u64> = (0..1_000).map(|i| (id(i), i)).collect();
        // A hundred are asked for all the time. Few of them go while nothing else is older.
        let mut gone = BTreeSet::new();
        for i in 1_000..20_000 {
            let before: u32 = table.evictions.iter().sum();
            insert(&mut table, id(i), i);
            model.insert(id(i), i);
            assert_eq!(table.evictions.iter().sum::<u32>(), before + 1);
            for i in 0..100 {
                match table.find(id(i)) {
                    Some((at, bucket)) => table.store(at, &bucket),
                    None => {
                        gone.insert(i);
                    }
                }
            }
        }
        assert!(gone.len() < 10, "{gone:?}");
        assert_eq!((table.used, table.iter().count()), (1_000, 1_000));
        assert!(table.iter().all(|bucket| model[&bucket.id] == bucket.durable_ns));
        // Whatever is in the table is found: removals left no gap.
        assert!(table.iter().all(|bucket| table.find(bucket.id).unwrap().1 == bucket));
    }

    #[test]
    fn a_bucket_that_waits_for_a_commit_is_never_forgotten() {
        let mut table = table(10);
        for i in 0..8 {
            insert(&mut table, id(i), 5);
            wait(&mut table, id(i));
        }
        (8..500).for_each(|i| insert(&mut table, id(i), 5));
        assert!((0..8).all(|i| table.find(id(i)).is_some()));
        assert!(table.used <= 11);
        // If all wait, the table grows past its capacity.
        (1_000..1_100).for_each(|i| {
            insert(&mut table, id(i), 5);
            wait(&mut table, id(i));
        });
        assert!((1_000..1_100).all(|i| table.find(id(i)).is_some()));
    }
}
