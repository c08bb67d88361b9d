//! The fingerprints of one caller in memory: an open-addressed table of `u32`.

use super::{FULL_BITS, MAX_REMEMBERED};

/// Fewest slots of a table that is not empty: a cache line.
const MIN_SLOTS: usize = 16;

/// Fingerprints of the numbers that one caller paid for. Nothing is allocated for none.
///
/// A slot holds the bits that are known, then a one, then zeros, so that fingerprints cut to fewer bits stand in the
/// same table; zero is an empty slot. A fingerprint's home is given by its first bits, which no cut removes.
#[derive(Debug, Default, Clone)]
pub(crate) struct NoveltySet {
    /// A power of two of them, at most five eighths in use.
    slots: Vec<u32>,
    used: u32,
}

impl NoveltySet {
    /// Is this fingerprint, or what is left of it, in the set?
    #[inline]
    pub(crate) fn contains(&self, fingerprint: u32) -> bool {
        if self.slots.is_empty() {
            return false;
        }
        let wanted = fingerprint << 1;
        let mut at = self.home(wanted);
        loop {
            // The mask keeps the index inside; a table is never full.
            let slot = self.slots.get(at).copied().unwrap_or_default();
            if slot == 0 {
                return false;
            }
            // Everything above the one that ends the known bits must agree.
            if u64::from(slot ^ wanted) >> (slot.trailing_zeros() + 1) == 0 {
                return true;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Adds a fingerprint of which the first `bits` are known. False if the set is full.
    pub(crate) fn insert(&mut self, fingerprint: u32, bits: u32) -> bool {
        if self.len() >= MAX_REMEMBERED {
            return false;
        }
        if self.slots.len() * 5 < (self.len() + 1) * 8 {
            self.grow();
        }
        let cut = FULL_BITS.saturating_sub(bits);
        self.put((fingerprint >> cut << 1 | 1) << cut);
        true
    }

    /// How many fingerprints are in the set.
    pub(crate) const fn len(&self) -> usize {
        self.used as usize
    }

    /// Bytes of the table.
    pub(crate) const fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
    }

    fn home(&self, slot: u32) -> usize {
        // At least 16 slots, so the shift is below 32.
        (slot >> (32 - self.slots.len().trailing_zeros())) as usize
    }

    fn put(&mut self, slot: u32) {
        let mut at = self.home(slot);
        while let Some(here) = self.slots.get_mut(at) {
            if *here == 0 {
                *here = slot;
                self.used += 1;
                return;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(MIN_SLOTS);
        let old = std::mem::replace(&mut self.slots, vec![0; slots]);
        self.used = 0;
        for slot in old.into_iter().filter(|slot| *slot != 0) {
            self.put(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The set says what a plain set of prefixes says.
        #[test]
        fn equals_a_set_of_prefixes(
            inserts in prop::collection::vec((0_u32..1 << 31, 22_u32..=31), 0..300), asked in prop::collection::vec(0_u32..1 << 31, 0..50),
        ) {
            let mut set = NoveltySet::default();
            let mut model = BTreeSet::new();
            for (fingerprint, bits) in &inserts {
                prop_assert!(set.insert(*fingerprint, *bits));
                model.insert((*bits, fingerprint >> (31 - bits)));
            }
            prop_assert_eq!(set.len(), inserts.len());
            // Neighbours of what is inside are the interesting questions.
            let near = inserts.iter().flat_map(|(f, _)| [*f, f ^ 1, f ^ (1 << 9), (f + 1) & 0x7fff_ffff]);
            for question in near.chain(asked) {
                let known = (22..=31).any(|bits| model.contains(&(bits, question >> (31 - bits))));
                prop_assert_eq!(set.contains(question), known);
            }
        }
    }

    #[test]
    fn a_set_is_bounded_and_an_empty_one_costs_nothing() {
        let mut set = NoveltySet::default();
        assert_eq!((set.memory_bytes(), set.contains(0), set.contains(7)), (0, false, false));
        let spread = |i: u32| i.wrapping_mul(0x9e37_79b9) >> 1;
        for i in 0..MAX_REMEMBERED as u32 {
            assert!(set.insert(spread(i), 31));
        }
        assert!(!set.insert(spread(1 << 20), 31));
        assert!((0..MAX_REMEMBERED as u32).all(|i| set.contains(spread(i))));
        assert_eq!(set.memory_bytes(), MAX_REMEMBERED * 8);
    }
}
