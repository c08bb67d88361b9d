//! The overlay: changes newer than the segments, in memory, the same rows as the delta on disk.
//!
//! A change stands above the segment's listing of the same *(key, account)*. Pure: no files, no locks.

use hashbrown::HashTable;

use crate::segment::keys::{KeyRange, mask_key};
use crate::words::{AccountId, Entry, Key, Stamp};

/// The newest state of one listing, not yet in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) entry: Entry,
    /// Bits of the key that are known: 128, or fewer where an erasure found the listing in a narrow segment.
    pub(crate) known_bits: u8,
    /// When the listing was removed, in seconds since 1970; zero for a live one.
    pub(crate) removed_at_s: u64,
}

impl Change {
    /// Is this a change of a listing with this key?
    fn is_of(&self, key: Key) -> bool {
        mask_key(key, self.known_bits) == self.entry.key
    }
}

/// Changes found by key: those of one part of the keys, or of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Keys are uniform already: their first half, turned around, is the hash. The table takes its bits from both
    /// ends, and the bits that begin a key are the same for all of a part.
    rows: HashTable<Change>,
}

const fn hash(key: Key) -> u64 {
    key.hi.rotate_left(32)
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Every change of the key, one for each account.
    #[inline]
    pub(crate) fn of_key(&self, key: Key) -> impl Iterator<Item = &Change> {
        self.rows.iter_hash(hash(key)).filter(move |change| change.is_of(key))
    }

    /// The change of one listing.
    pub(crate) fn get(&self, key: Key, account: AccountId) -> Option<&Change> {
        self.of_key(key).find(|change| change.entry.account == account)
    }

    /// Sets the newest state of a listing; returns the one it stands for now.
    pub(crate) fn set(&mut self, change: Change) -> Option<Change> {
        let key = change.entry.key;
        let account = change.entry.account;
        let old = self.rows.find_mut(hash(key), |row| row.entry.account == account && row.is_of(key));
        match old {
            Some(row) => Some(std::mem::replace(row, change)),
            None => {
                self.rows.insert_unique(hash(key), change, |row| hash(row.entry.key));
                None
            }
        }
    }

    /// Drops a change unless it was changed again since.
    pub(crate) fn drop_unchanged(&mut self, key: Key, account: AccountId, stamp: Stamp) -> bool {
        let same = |row: &Change| row.entry.key == key && row.entry.account == account && row.entry.stamp == stamp;
        self.rows.find_entry(hash(key), same).is_ok_and(|row| {
            row.remove();
            true
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Change> {
        self.rows.iter()
    }

    /// Gives memory back after many changes were dropped.
    fn shrink(&mut self) {
        if self.rows.capacity() > 4 * self.rows.len().max(4) {
            self.rows.shrink_to(2 * self.rows.len(), |row| hash(row.entry.key));
        }
    }
}

/// Bits at the beginning of a key that choose its part.
const PART_BITS: u8 = 10;

/// All changes that are in no segment yet.
///
/// In parts, because a table that grows moves all it has while lookups wait: of four million changes that would be
/// a tenth of a second, and a part has four thousand of them.
#[derive(Debug)]
pub(crate) struct Overlay {
    parts: Vec<Rows>,
    len: usize,
}

impl Default for Overlay {
    fn default() -> Self {
        Self { parts: (0..1 << PART_BITS).map(|_| Rows::default()).collect(), len: 0 }
    }
}

impl Overlay {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn part(&self, key: Key) -> Option<&Rows> {
        self.parts.get((key.hi >> (64 - PART_BITS)) as usize)
    }

    fn part_mut(&mut self, key: Key) -> Option<&mut Rows> {
        self.parts.get_mut((key.hi >> (64 - PART_BITS)) as usize)
    }

    /// Every change of the key, one for each account.
    #[inline]
    pub(crate) fn of_key(&self, key: Key) -> impl Iterator<Item = &Change> {
        self.part(key).into_iter().flat_map(move |part| part.of_key(key))
    }

    /// The change of one listing.
    pub(crate) fn get(&self, key: Key, account: AccountId) -> Option<&Change> {
        self.part(key)?.get(key, account)
    }

    /// Sets the newest state of a listing; returns the one it stands for now.
    pub(crate) fn set(&mut self, change: Change) -> Option<Change> {
        let old = self.part_mut(change.entry.key)?.set(change);
        self.len += usize::from(old.is_none());
        old
    }

    /// Drops a change unless it was changed again since.
    pub(crate) fn drop_unchanged(&mut self, key: Key, account: AccountId, stamp: Stamp) -> bool {
        let dropped = self.part_mut(key).is_some_and(|part| part.drop_unchanged(key, account, stamp));
        self.len -= usize::from(dropped);
        dropped
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Change> {
        self.parts.iter().flat_map(Rows::iter)
    }

    /// Every change of a range.
    pub(crate) fn in_range(&self, range: KeyRange) -> impl Iterator<Item = &Change> {
        self.parts_of(range).iter().flat_map(Rows::iter).filter(move |change| range.contains(change.entry.key))
    }

    /// May the range have a change? `false` is certain.
    pub(crate) fn may_have(&self, range: KeyRange) -> bool {
        self.parts_of(range).iter().any(|part| !part.is_empty())
    }

    fn parts_of(&self, range: KeyRange) -> &[Rows] {
        let first = (range.prefix() >> (64 - PART_BITS)) as usize;
        let parts = 1 << PART_BITS.saturating_sub(range.bits());
        self.parts.get(first..first + parts).unwrap_or_default()
    }

    /// About how many changes a range has, without a look at each: exact for ranges of at most ten bits, and a fair
    /// share of their part for deeper ones, keys being uniform.
    pub(crate) fn count_in(&self, range: KeyRange) -> usize {
        let changes: usize = self.parts_of(range).iter().map(Rows::len).sum();
        changes >> range.bits().saturating_sub(PART_BITS)
    }

    /// Gives the memory of a range back after many of its changes were dropped. One part at a time moves.
    pub(crate) fn shrink(&mut self, key: Key) {
        if let Some(part) = self.part_mut(key) {
            part.shrink();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Flags, OptIns, Version};

    fn change(key: u128, account: u64, version: u64, known_bits: u8) -> Change {
        let version = Version::new(version).unwrap();
        let key = mask_key(Key::from_u128(key), known_bits);
        let entry = Entry::new(key, account.into(), version, Flags::live(OptIns::SEARCH));
        Change { entry, known_bits, removed_at_s: 0 }
    }

    #[test]
    fn a_change_replaces_the_one_before() {
        let mut overlay = Overlay::default();
        assert_eq!(overlay.set(change(1, 1, 1, 128)), None);
        assert_eq!(overlay.set(change(1, 2, 1, 128)), None);
        assert_eq!(overlay.set(change(1, 1, 2, 128)), Some(change(1, 1, 1, 128)));
        assert_eq!(overlay.len(), 2);
        assert_eq!(overlay.of_key(Key::from_u128(1)).count(), 2);
        assert_eq!(overlay.of_key(Key::from_u128(2)).count(), 0);
    }

    #[test]
    fn an_erasure_that_knows_fewer_bits_covers_the_whole_key() {
        let mut overlay = Overlay::default();
        let key = 0xabcd_0000_0000_0000_0000_0000_0000_1234;
        overlay.set(change(key, 1, 5, 84));
        assert!(overlay.get(Key::from_u128(key), 1.into()).is_some());
        assert_eq!(overlay.set(change(key, 1, 6, 128)), Some(change(key, 1, 5, 84)));
        assert_eq!(overlay.len(), 1);
    }

    #[test]
    fn a_change_made_meanwhile_is_not_dropped() {
        let mut overlay = Overlay::default();
        let old = change(1, 1, 1, 128).entry;
        overlay.set(change(1, 1, 2, 128));
        assert!(!overlay.drop_unchanged(old.key, old.account, old.stamp));
        let new = change(1, 1, 2, 128).entry;
        assert!(overlay.drop_unchanged(new.key, new.account, new.stamp));
        assert!(overlay.is_empty());
        overlay.shrink(new.key);
    }

    #[test]
    fn counts_are_kept_for_every_range_and_memory_is_given_back() {
        let mut overlay = Overlay::default();
        let at = |i: u64| change(u128::from(i) << 112 | u128::from(i), i, 1, 128);
        for i in 0..65_536 {
            assert_eq!(overlay.set(at(i)), None);
        }
        let quarter = KeyRange::new(1 << 62, 2).unwrap();
        let deep = KeyRange::new(5 << 52, 12).unwrap();
        assert_eq!((overlay.count_in(KeyRange::ALL), overlay.count_in(quarter)), (65_536, 16_384));
        assert_eq!((overlay.count_in(deep), overlay.in_range(deep).count()), (16, 16));
        assert!(overlay.may_have(quarter) && overlay.may_have(deep));
        let capacity = |overlay: &Overlay| overlay.parts.iter().map(|part| part.rows.capacity()).sum::<usize>();
        let full = capacity(&overlay);
        // What `Options::max_unfolded` says of memory: a change, its byte of the table, and seven of eight in use.
        assert_eq!(size_of::<Change>(), 56);
        for i in 16_384..32_768 {
            let row = at(i).entry;
            assert!(overlay.drop_unchanged(row.key, row.account, row.stamp));
            overlay.shrink(row.key);
        }
        assert_eq!((overlay.len(), overlay.count_in(quarter), overlay.iter().count()), (49_152, 0, 49_152));
        assert!(!overlay.may_have(quarter) && overlay.in_range(quarter).next().is_none());
        assert!(capacity(&overlay) <= full * 4 / 5);
    }
}
