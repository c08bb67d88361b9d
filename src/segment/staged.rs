//! A probe in stages: filter block, tag line, slots. Each stage asks the memory for the line that the next one
//! reads, so that a batch of keys can go through one stage while its lines for the next are on their way.

use std::ops::Range;

use super::layout::{BUCKET_SLOTS, TAG_LINE_LEN};
use super::reader::Segment;
use super::slot::SlotShape;
use super::{Flaw, line};
use crate::filter::{self, BLOCK_LEN};
use crate::prefetch::ask_for_byte;
use crate::words::{AccountId, Key, Purpose, Stamp};

/// A block of the filter, and what to look for in it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FilterPlace {
    at: usize,
    hash: u64,
}

/// A bucket, by its tag line, and how far from its begin its keys are like this one: a fraction, in 2^-32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BucketPlace {
    at: usize,
    part: u32,
}

/// What a tag line says of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TagMatch {
    at: usize,
    /// The slots that may hold the key, a bit each; above them the number of the likeliest; the highest bit is set if the
    /// key may have found the bucket full.
    bits: u64,
}

const CANDIDATES: u64 = (1 << BUCKET_SLOTS) - 1;
const OVERFLOWS: u64 = 1 << 63;

/// What the listings of a key are given to. A closure will do, but is not compiled into a loop that is compiled twice
/// ([`crate::wide`]).
pub(crate) trait Take {
    fn take(&mut self, account: AccountId, stamp: Stamp);
}

impl<F: FnMut(AccountId, Stamp)> Take for F {
    fn take(&mut self, account: AccountId, stamp: Stamp) {
        self(account, stamp);
    }
}

impl TagMatch {
    /// May any slot of the bucket hold the key?
    #[inline(always)]
    pub(crate) const fn has_candidates(self) -> bool {
        self.candidates() != 0
    }

    #[inline(always)]
    const fn candidates(self) -> u64 {
        self.bits & CANDIDATES
    }

    /// The slot whose number is nearest to where the key would be if the keys of a bucket had equal distances. Only of use if
    /// there are candidates.
    #[inline(always)]
    const fn likeliest(self) -> usize {
        (self.bits >> BUCKET_SLOTS & 63) as usize
    }

    /// May the spill area hold the key?
    #[inline(always)]
    pub(crate) const fn overflows(self) -> bool {
        self.bits & OVERFLOWS != 0
    }
}

impl<B: AsRef<[u8]>> Segment<B> {
    /// Where the filter answers for a key and purpose; asks for the block.
    #[inline(always)]
    pub(crate) fn filter_place(&self, key: Key, purpose: Purpose) -> FilterPlace {
        let hash = filter::member_hash(key, purpose);
        let at = self.filter_block(key, purpose).start;
        ask_for_byte(self.bytes.as_ref(), at);
        FilterPlace { at, hash }
    }

    /// May there be a listing that opted in? `false` is certain.
    #[inline(always)]
    pub(crate) fn passes(&self, place: FilterPlace) -> Result<bool, Flaw> {
        let bytes = self.checked_bytes(place.at, BLOCK_LEN)?;
        let block = bytes.first_chunk().ok_or_else(|| self.out_of_file(place.at))?;
        Ok(filter::block_has(block, place.hash))
    }

    /// The bytes that [`Segment::passes`] will read.
    #[inline(always)]
    pub(crate) fn filter_block(&self, key: Key, purpose: Purpose) -> Range<usize> {
        let (start, blocks) = self.layout.filters[purpose.bit() as usize];
        let at = start + filter::block_of(self.keys.place(key), blocks) as usize * BLOCK_LEN;
        at..at + BLOCK_LEN
    }

    /// The bytes that [`Segment::match_tags`] and [`Segment::read_slots`] will read some of.
    #[inline(always)]
    pub(crate) fn home_bucket(&self, key: Key) -> Range<usize> {
        let at = self.layout.table_at + self.keys.home(key) as usize * self.layout.bucket_len;
        at..at + self.layout.bucket_len
    }

    /// The bytes that [`Segment::read_spill`] reads some of first.
    #[inline]
    pub(crate) fn spill_bucket_of(&self, key: Key) -> Range<usize> {
        let at = self.spill_home(key);
        at..at + self.layout.spill_bucket_len()
    }

    /// The bucket that a key belongs to.
    #[inline(always)]
    pub(crate) fn home_place(&self, key: Key) -> BucketPlace {
        let (home, part) = self.keys.home_and_part(key);
        BucketPlace { at: self.layout.table_at + home as usize * self.layout.bucket_len, part }
    }

    /// Asks for the tag line of a bucket.
    #[inline(always)]
    pub(crate) fn ask_for_tags(&self, place: BucketPlace) {
        ask_for_byte(self.bytes.as_ref(), place.at);
    }

    /// Compares the tags of a bucket, of the table or of the spill area, with the key's.
    #[inline(always)]
    pub(crate) fn match_tags(&self, place: BucketPlace, key: Key) -> Result<TagMatch, Flaw> {
        let BucketPlace { at, part } = place;
        let bytes = self.checked_bytes(at, TAG_LINE_LEN)?;
        let tags: &[u8; TAG_LINE_LEN] = bytes.first_chunk().ok_or_else(|| self.out_of_file(at))?;
        let [.., count] = *tags;
        if usize::from(count) > BUCKET_SLOTS {
            return Err(Flaw::entry(at as u64, "a bucket counts more listings than it has slots"));
        }
        let candidates = line::with_tag(tags, self.keys.tag(key)) & ((1 << count) - 1);
        let expected = (u64::from(part) * u64::from(count)) >> 32;
        let likeliest = nearest(candidates, expected) << BUCKET_SLOTS;
        let bit = self.keys.overflow_bit(key);
        let noted = tags[BUCKET_SLOTS + bit as usize / 8] >> (bit % 8) & 1;
        Ok(TagMatch { at, bits: candidates | likeliest | u64::from(noted) << 63 })
    }

    /// Asks for the slot that is most likely the key's. A fifth of the keys have more than one whose tag is theirs, but keys are in
    /// order in a bucket, so that one in seventy is somewhere else.
    #[inline(always)]
    pub(crate) fn ask_for_slots(&self, found: TagMatch) {
        self.ask_for_likeliest(found, self.layout.slot_len);
    }

    /// The same for a bucket of the spill area.
    #[inline(always)]
    pub(crate) fn ask_for_spill_slots(&self, found: TagMatch) {
        self.ask_for_likeliest(found, self.layout.spill_slot_len);
    }

    #[inline(always)]
    fn ask_for_likeliest(&self, found: TagMatch, slot_len: usize) {
        let at = found.at + TAG_LINE_LEN + found.likeliest() * slot_len;
        ask_for_byte(self.bytes.as_ref(), at);
        // A slot of 24 or 40 bytes may lie across two lines.
        ask_for_byte(self.bytes.as_ref(), at + slot_len - 1);
    }

    /// Calls `each` with the listings of the key among the candidates, hidden and removed ones included.
    #[inline(always)]
    pub(crate) fn read_slots(&self, found: TagMatch, key: Key, each: &mut impl Take) -> Result<(), Flaw> {
        self.read_candidates(found, self.table_slots(), key, each)
    }

    /// [`Segment::probe`] of a key whose bucket was asked for.
    pub(crate) fn probe_from(&self, place: BucketPlace, key: Key, each: &mut impl Take) -> Result<(), Flaw> {
        let found = self.match_tags(place, key)?;
        self.read_slots(found, key, each)?;
        if found.overflows() { self.probe_spill(key, each) } else { Ok(()) }
    }

    /// The bucket of the spill area that may hold the key, if there is one.
    #[inline]
    pub(crate) fn spill_place(&self, key: Key) -> Option<BucketPlace> {
        (self.header.spill_buckets != 0).then(|| self.spill_place_at(self.spill_home(key), key))
    }

    /// A bucket of the spill area. All of the range share it, in order, so a key's part of the range is its part of the bucket.
    #[inline]
    const fn spill_place_at(&self, at: usize, key: Key) -> BucketPlace {
        BucketPlace { at, part: self.keys.place(key) as u32 }
    }

    /// [`Segment::read_slots`] of a bucket of the spill area, and of those behind it that may hold the key.
    pub(crate) fn read_spill(&self, mut found: TagMatch, key: Key, each: &mut impl Take) -> Result<(), Flaw> {
        let shape = self.spill_slots();
        for _ in 0..self.header.spill_buckets {
            self.read_candidates(found, shape, key, each)?;
            if !found.overflows() {
                break;
            }
            let next = found.at + self.layout.spill_bucket_len();
            let at = if next < self.layout.spill_end { next } else { self.layout.spill_at };
            found = self.match_tags(self.spill_place_at(at, key), key)?;
        }
        Ok(())
    }

    /// [`Segment::read_spill`] from the bucket that the key is sent to.
    pub(crate) fn probe_spill(&self, key: Key, each: &mut impl Take) -> Result<(), Flaw> {
        match self.spill_place(key) {
            Some(place) => self.read_spill(self.match_tags(place, key)?, key, each),
            None => Ok(()),
        }
    }

    #[inline]
    fn spill_home(&self, key: Key) -> usize {
        let number = self.keys.spill_home(key, self.header.spill_buckets) as usize;
        self.layout.spill_at + number * self.layout.spill_bucket_len()
    }

    /// Listings are in order of their keys, so a key's are side by side: once one is found, only its neighbours are looked at.
    #[inline(always)]
    fn read_candidates(
        &self,
        found: TagMatch,
        shape: SlotShape,
        key: Key,
        each: &mut impl Take,
    ) -> Result<(), Flaw> {
        let wanted = shape.words_of(self.keys, key);
        let (mut left, mut number) = (found.candidates(), found.likeliest());
        while left != 0 {
            if self.take_if(found.at, number, shape, wanted, each)? {
                let beside = (2 << number | 1 << number >> 1) & found.candidates();
                return if beside == 0 { Ok(()) } else { self.take_beside(found, number, shape, wanted, each) };
            }
            left &= !(1 << number);
            number = left.trailing_zeros() as usize % 64;
        }
        Ok(())
    }

    /// Gives a slot to `each` if it is this key's.
    #[inline(always)]
    fn take_if(
        &self,
        bucket_at: usize,
        number: usize,
        shape: SlotShape,
        wanted: [u64; 2],
        each: &mut impl Take,
    ) -> Result<bool, Flaw> {
        let at = bucket_at + TAG_LINE_LEN + number * shape.len;
        let Some(rest) = shape.rest_of(self.checked_bytes(at, shape.len)?, wanted) else { return Ok(false) };
        let (account, stamp) = shape.decode_rest(rest).map_err(|reason| Flaw::entry(at as u64, reason))?;
        each.take(account, stamp);
        Ok(true)
    }

    /// The slots in front of one of the key's and behind it, as far as they are the key's too.
    #[inline(never)]
    fn take_beside(
        &self,
        found: TagMatch,
        number: usize,
        shape: SlotShape,
        wanted: [u64; 2],
        each: &mut impl Take,
    ) -> Result<(), Flaw> {
        let mut take = |number| {
            Ok(found.candidates() >> number & 1 == 1 && self.take_if(found.at, number, shape, wanted, each)?)
        };
        for before in (0..number).rev() {
            if !take(before)? {
                break;
            }
        }
        for behind in number + 1..BUCKET_SLOTS {
            if !take(behind)? {
                break;
            }
        }
        Ok(())
    }
}

/// The number of the candidate that is nearest to `expected`, which is below 64; anything below 64 if there is none.
#[inline(always)]
const fn nearest(candidates: u64, expected: u64) -> u64 {
    let above = (candidates >> expected).trailing_zeros() as u64;
    let below = (candidates << (63 - expected)).leading_zeros() as u64;
    (if above <= below { expected + above } else { expected.wrapping_sub(below) }) % 64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_nearest_candidate_is_one_and_none_is_nearer(candidates in 1..=CANDIDATES, few: u64, expected in 0..=BUCKET_SLOTS as u64) {
            for candidates in [candidates, (candidates & few).max(1), 1 << (few % BUCKET_SLOTS as u64)] {
                let found = nearest(candidates, expected);
                prop_assert_eq!(candidates >> found & 1, 1);
                let distances = (0..64).filter(|i| candidates >> i & 1 == 1).map(|i: u64| i.abs_diff(expected));
                prop_assert_eq!(distances.min(), Some(found.abs_diff(expected)));
            }
            prop_assert!(nearest(0, expected) < 64);
        }
    }
}
