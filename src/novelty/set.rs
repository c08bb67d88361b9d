//! The fingerprints of one caller in memory: an open-addressed table of `u32`, a cache line at a time.

use super::{FULL_BITS, MAX_REMEMBERED};
use crate::prefetch::{self, BLOCK, block};
use crate::wide;

/// Fingerprints between the one whose line is asked for and the one that is looked for.
const LEAD: usize = 2 * BLOCK;
/// Fingerprints in a line.
const LANES: usize = 16;

/// A cache line of fingerprints. Free lanes, which are zero, are behind the others.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Line([u32; LANES]);

/// Fingerprints of the numbers that one caller paid for. Nothing is allocated for none.
///
/// A lane holds the bits that are known, then a one, then zeros, so that fingerprints cut to fewer bits stand in the
/// same table. A fingerprint's line is given by its first bits, which no cut removes; if that is full, the next one
/// that is not.
#[derive(Debug, Default, Clone)]
pub(crate) struct NoveltySet {
    /// A power of two of them, at most five eighths in use.
    lines: Vec<Line>,
    used: u32,
    /// Is any of them cut? Only what was read from a file may be.
    has_cut: bool,
}

/// What a line knows of a fingerprint.
struct Look {
    is_known: bool,
    /// Lanes in use.
    used: u32,
}

impl Line {
    /// Is this lane in the line? Whole lanes only: a third of the work of [`Line::look`].
    #[inline(always)]
    fn has(&self, lane: u32) -> bool {
        self.0.iter().fold(0, |known, of| known | u32::from(*of == lane)) != 0
    }

    #[inline(always)]
    fn is_full(&self) -> bool {
        let [.., last] = self.0;
        last != 0
    }

    /// [`Line::look`] among whole lanes only.
    #[inline(always)]
    fn look_whole(&self, wanted: u32) -> Look {
        let used = self.0.iter().fold(0, |used, lane| used + u32::from(*lane != 0));
        Look { is_known: self.has(wanted), used }
    }

    /// Compares with all lanes at once: there is no branch for a processor to guess, and compilers use its vectors.
    #[inline]
    fn look(&self, wanted: u32) -> Look {
        let (mut known, mut used) = (0, 0);
        for lane in self.0 {
            // All ones up to the one that ends the known bits; everything above it must agree.
            let unknown = lane ^ lane.wrapping_sub(1);
            let in_use = u32::from(lane != 0);
            known |= u32::from((lane ^ wanted) & !unknown == 0) & in_use;
            used += in_use;
        }
        Look { is_known: known != 0, used }
    }
}

impl NoveltySet {
    /// Positions of the fingerprints that are not in the set, in order.
    pub(crate) fn unknown(&self, fingerprints: &[u32]) -> Vec<u32> {
        if self.len() == 0 {
            return (0..fingerprints.len() as u32).collect();
        }
        wide::run(Unknown { set: self, fingerprints })
    }

    /// Asks the memory for what [`NoveltySet::contains`] will read.
    #[inline(always)]
    fn ask_for(&self, fingerprint: u32) {
        if let Some(line) = self.lines.get(self.home(fingerprint << 1)) {
            prefetch::ask_for(line);
        }
    }

    /// Is this fingerprint, or what is left of it, in the set?
    #[inline(always)]
    pub(crate) fn contains(&self, fingerprint: u32) -> bool {
        let wanted = fingerprint << 1;
        let mut at = self.home(wanted);
        // A table is never full, so this ends.
        while let Some(line) = self.lines.get(at) {
            let is_known = if self.has_cut { line.look(wanted).is_known } else { line.has(wanted | 1) };
            if is_known || !line.is_full() {
                return is_known;
            }
            at = (at + 1) & (self.lines.len() - 1);
        }
        false
    }

    /// Adds a fingerprint of which the first `bits` are known. False if it is known, or the set is full.
    #[inline]
    pub(crate) fn insert(&mut self, fingerprint: u32, bits: u32) -> bool {
        if self.len() >= MAX_REMEMBERED {
            return false;
        }
        self.reserve(1);
        let cut = FULL_BITS.saturating_sub(bits);
        self.has_cut |= cut > 0;
        self.put((fingerprint >> cut << 1 | 1) << cut)
    }

    /// Adds whole fingerprints, and appends to `new` those that were not known, in order. What the set has no room for is
    /// not added.
    pub(crate) fn insert_all(&mut self, fingerprints: &[u32], new: &mut Vec<u32>) {
        self.reserve(fingerprints.len());
        new.reserve(fingerprints.len());
        wide::run(InsertAll { set: self, fingerprints, new });
    }

    /// How many fingerprints are in the set.
    pub(crate) const fn len(&self) -> usize {
        self.used as usize
    }

    /// Bytes of the table.
    pub(crate) const fn memory_bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }

    #[inline(always)]
    fn home(&self, lane: u32) -> usize {
        (u64::from(lane) >> (32 - self.lines.len().checked_ilog2().unwrap_or(0))) as usize
    }

    #[inline(always)]
    fn put(&mut self, lane: u32) -> bool {
        let mut at = self.home(lane);
        let last = self.lines.len().wrapping_sub(1);
        while let Some(line) = self.lines.get_mut(at) {
            let look = if self.has_cut { line.look(lane) } else { line.look_whole(lane) };
            if look.is_known {
                return false;
            }
            if let Some(free) = line.0.get_mut(look.used as usize) {
                *free = lane;
                self.used += 1;
                return true;
            }
            at = (at + 1) & last;
        }
        false
    }

    /// Makes room for so many more at once, as far as the set may grow.
    #[inline]
    pub(crate) fn reserve(&mut self, more: usize) {
        let count = (self.len() + more).min(MAX_REMEMBERED);
        if self.lines.len() * LANES * 5 < count * 8 {
            self.grow(count);
        }
    }

    #[cold]
    fn grow(&mut self, count: usize) {
        let lines = (count * 8).div_ceil(LANES * 5).next_power_of_two();
        let old = std::mem::replace(&mut self.lines, vec![Line([0; LANES]); lines]);
        // Lanes in use are counted apart: reading a line that was written just now stalls.
        let mut used = vec![0_u8; lines];
        for lane in old.iter().flat_map(|line| line.0).filter(|lane| *lane != 0) {
            let mut at = self.home(lane);
            while let (Some(line), Some(used)) = (self.lines.get_mut(at), used.get_mut(at)) {
                if let Some(free) = line.0.get_mut(usize::from(*used)) {
                    *free = lane;
                    *used += 1;
                    break;
                }
                at = (at + 1) & (lines - 1);
            }
        }
    }
}

/// [`NoveltySet::unknown`] of a set that is not empty.
struct Unknown<'a> {
    set: &'a NoveltySet,
    fingerprints: &'a [u32],
}

impl wide::Work for Unknown<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run(self) -> Vec<u32> {
        let mut positions = vec![0; self.fingerprints.len()];
        let mut count = 0;
        for at in (0..self.fingerprints.len() + LEAD).step_by(BLOCK) {
            for fingerprint in block(self.fingerprints, at) {
                self.set.ask_for(*fingerprint);
            }
            let Some(at) = at.checked_sub(LEAD) else { continue };
            for (position, fingerprint) in (at as u32..).zip(block(self.fingerprints, at)) {
                // Every position is written and some are written over: whether a number is free cannot be guessed.
                if let Some(to) = positions.get_mut(count) {
                    *to = position;
                }
                count += usize::from(!self.set.contains(*fingerprint));
            }
        }
        positions.truncate(count);
        positions
    }
}

/// [`NoveltySet::insert_all`], when there is room.
struct InsertAll<'a> {
    set: &'a mut NoveltySet,
    fingerprints: &'a [u32],
    new: &'a mut Vec<u32>,
}

impl wide::Work for InsertAll<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for fingerprint in self.fingerprints {
            if self.set.len() >= MAX_REMEMBERED {
                break;
            }
            if self.set.put(fingerprint << 1 | 1) {
                self.new.push(*fingerprint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::wide::Work;

    proptest! {
        /// The set says what a plain set of prefixes says.
        #[test]
        fn equals_a_set_of_prefixes(
            inserts in prop::collection::vec((0_u32..1 << 31, 22_u32..=31), 0..300), is_whole in any::<bool>(), asked in prop::collection::vec(0_u32..1 << 31, 0..50),
        ) {
            let mut set = NoveltySet::default();
            let mut model = BTreeSet::new();
            // Until something is cut, whole lanes are compared.
            let inserts: Vec<_> = inserts.into_iter().map(|(f, bits)| (f, if is_whole { FULL_BITS } else { bits })).collect();
            for (fingerprint, bits) in &inserts {
                // A shorter one may take the place of what is asked, never of what is not.
                let known = set.contains(*fingerprint);
                let is_new = set.insert(*fingerprint, *bits);
                prop_assert!(is_new || known);
                if is_new {
                    model.insert((*bits, fingerprint >> (31 - bits)));
                }
            }
            prop_assert_eq!(set.len(), model.len());
            // Neighbours of what is inside are the interesting questions.
            let near = inserts.iter().flat_map(|(f, _)| [*f, f ^ 1, f ^ (1 << 9), (f + 1) & 0x7fff_ffff]);
            for question in near.chain(asked) {
                let known = (22..=31).any(|bits| model.contains(&(bits, question >> (31 - bits))));
                prop_assert_eq!(set.contains(question), known);
            }
        }
    }

    proptest! {
        /// Whole batches come to what their fingerprints one by one do, whatever the processor has.
        #[test]
        fn batches_equal_their_fingerprints(
            known in prop::collection::vec((0_u32..400, 22_u32..=31), 0..60), is_whole in any::<bool>(), batch in prop::collection::vec(0_u32..400, 0..100),
        ) {
            let spread = |i: u32| i.wrapping_mul(0x9e37_79b9) >> 1;
            let mut set = NoveltySet::default();
            for (i, bits) in known {
                set.insert(spread(i), if is_whole { FULL_BITS } else { bits });
            }
            let batch: Vec<u32> = batch.into_iter().map(spread).collect();
            let unknown: Vec<u32> = (0..).zip(&batch).filter(|(_, f)| !set.contains(**f)).map(|(at, _)| at).collect();
            prop_assert_eq!(&set.unknown(&batch), &unknown);
            prop_assert_eq!(Unknown { set: &set, fingerprints: &batch }.run(), unknown);
            let mut one_by_one = set.clone();
            let expected: Vec<u32> = batch.iter().copied().filter(|f| one_by_one.insert(*f, FULL_BITS)).collect();
            let (mut wide, mut narrow, mut new) = (set.clone(), set, Vec::new());
            wide.insert_all(&batch, &mut new);
            prop_assert_eq!(&new, &expected);
            new.clear();
            narrow.reserve(batch.len());
            InsertAll { set: &mut narrow, fingerprints: &batch, new: &mut new }.run();
            prop_assert_eq!(new, expected);
            for set in [wide, narrow] {
                prop_assert!(set.len() == one_by_one.len() && batch.iter().all(|f| set.contains(*f)));
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
