//! The overlay: changes newer than the segments, in memory, the same rows as the delta on disk.
//!
//! A change stands above the segment's listing of the same *(key, account)*. Pure: no files, no locks.

use hashbrown::HashTable;

use crate::segment::keys::mask_key;
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

/// All changes, found by key.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// Keys are uniform already: their first half is the hash.
    rows: HashTable<Change>,
}

const fn hash(change: &Change) -> u64 {
    change.entry.key.hi
}

impl Overlay {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Every change of the key, one for each account.
    #[inline]
    pub(crate) fn of_key(&self, key: Key) -> impl Iterator<Item = &Change> {
        self.rows.iter_hash(key.hi).filter(move |change| change.is_of(key))
    }

    /// The change of one listing.
    pub(crate) fn get(&self, key: Key, account: AccountId) -> Option<&Change> {
        self.of_key(key).find(|change| change.entry.account == account)
    }

    /// Sets the newest state of a listing; returns the one it stands for now.
    pub(crate) fn set(&mut self, change: Change) -> Option<Change> {
        let key = change.entry.key;
        let account = change.entry.account;
        let old = self.rows.find_mut(key.hi, |row| row.entry.account == account && row.is_of(key));
        match old {
            Some(row) => Some(std::mem::replace(row, change)),
            None => {
                self.rows.insert_unique(key.hi, change, hash);
                None
            }
        }
    }

    /// Drops a change unless it was changed again since.
    pub(crate) fn drop_unchanged(&mut self, key: Key, account: AccountId, stamp: Stamp) -> bool {
        let same = |row: &Change| row.entry.key == key && row.entry.account == account && row.entry.stamp == stamp;
        self.rows.find_entry(key.hi, same).is_ok_and(|row| {
            row.remove();
            true
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Change> {
        self.rows.iter()
    }

    /// Gives memory back after many changes were dropped.
    pub(crate) fn shrink(&mut self) {
        if self.rows.capacity() > 4 * self.rows.len().max(1024) {
            self.rows.shrink_to(2 * self.rows.len(), hash);
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
        overlay.shrink();
    }
}
