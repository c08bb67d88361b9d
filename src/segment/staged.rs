//! A probe in stages: filter block, tag line, slots. Each stage asks the memory for the line that the next one
//! reads, so that a batch of keys can go through one stage while its lines for the next are on their way.

use std::ops::Range;

use super::layout::{BUCKET_SLOTS, TAG_LINE_LEN};
use super::reader::Segment;
use super::slot::SlotShape;
use super::{Flaw, line};
use crate::filter::{self, BLOCK_LEN};
use crate::words::{AccountId, Key, Purpose, Stamp};

/// A block of the filter, and what to look for in it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FilterPlace {
    at: usize,
    hash: u64,
}

/// A bucket of the table, by its tag line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BucketPlace(usize);

/// What a tag line says of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TagMatch {
    at: usize,
    /// The slots that may hold the key, a bit each; the highest bit is set if the key may have found the bucket full.
    bits: u64,
}

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
        self.bits & !OVERFLOWS != 0
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
        line::prefetch(self.bytes.as_ref(), at);
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
        let at = start + filter::block_of(self.header.keys.place(key), blocks) as usize * BLOCK_LEN;
        at..at + BLOCK_LEN
    }

    /// The bytes that [`Segment::match_tags`] and [`Segment::read_slots`] will read some of.
    #[inline(always)]
    pub(crate) fn home_bucket(&self, key: Key) -> Range<usize> {
        let at = self.layout.table_at + self.header.keys.home(key) as usize * self.layout.bucket_len;
        at..at + self.layout.bucket_len
    }

    /// The bytes that [`Segment::read_spill`] reads some of first.
    #[inline]
    pub(crate) fn spill_bucket_of(&self, key: Key) -> Range<usize> {
        let at = self.spill_home(key);
        at..at + self.layout.spill_bucket_len()
    }

    /// The bucket that a key belongs to; asks for its tag line.
    #[inline(always)]
    pub(crate) fn home_place(&self, key: Key) -> BucketPlace {
        let at = self.home_bucket(key).start;
        line::prefetch(self.bytes.as_ref(), at);
        BucketPlace(at)
    }

    /// Compares the tags of a bucket, of the table or of the spill area, with the key's.
    #[inline(always)]
    pub(crate) fn match_tags(&self, place: BucketPlace, key: Key) -> Result<TagMatch, Flaw> {
        self.match_line(place.0, key)
    }

    /// Asks for the slots that may hold the key: the first and the last of them, which are nearly always all. A fifth of
    /// the keys have a second one, whose tag is the same by chance; not asking for it cost a tenth of the probe where
    /// all is found (0.88 to 0.91 with it, 10 M listings). Reading slots in a short loop instead was as fast as asking.
    #[inline(always)]
    pub(crate) fn ask_for_slots(&self, found: TagMatch) {
        self.ask_for_slots_of(found, self.layout.slot_len);
    }

    /// The same for a bucket of the spill area.
    #[inline(always)]
    pub(crate) fn ask_for_spill_slots(&self, found: TagMatch) {
        self.ask_for_slots_of(found, self.layout.spill_slot_len);
    }

    #[inline(always)]
    fn ask_for_slots_of(&self, found: TagMatch, slot_len: usize) {
        let candidates = found.bits & !OVERFLOWS;
        for number in [candidates.trailing_zeros() % 64, 63 - candidates.leading_zeros() % 64] {
            let at = found.at + TAG_LINE_LEN + number as usize * slot_len;
            line::prefetch(self.bytes.as_ref(), at);
            // A slot of 24 or 40 bytes may lie across two lines.
            line::prefetch(self.bytes.as_ref(), at + slot_len - 1);
        }
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

    /// The bucket of the spill area that may hold the key, if there is one; asks for its tag line.
    #[inline]
    pub(crate) fn spill_place(&self, key: Key) -> Option<BucketPlace> {
        if self.header.spill_buckets == 0 {
            return None;
        }
        let at = self.spill_home(key);
        line::prefetch(self.bytes.as_ref(), at);
        Some(BucketPlace(at))
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
            found =
                self.match_line(if next < self.layout.spill_end { next } else { self.layout.spill_at }, key)?;
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
        let number = self.header.keys.spill_home(key, self.header.spill_buckets) as usize;
        self.layout.spill_at + number * self.layout.spill_bucket_len()
    }

    #[inline(always)]
    fn match_line(&self, at: usize, key: Key) -> Result<TagMatch, Flaw> {
        let bytes = self.checked_bytes(at, TAG_LINE_LEN)?;
        let tags: &[u8; TAG_LINE_LEN] = bytes.first_chunk().ok_or_else(|| self.out_of_file(at))?;
        let [.., count] = *tags;
        if usize::from(count) > BUCKET_SLOTS {
            return Err(Flaw::entry(at as u64, "a bucket counts more listings than it has slots"));
        }
        let keys = self.header.keys;
        let candidates = line::with_tag(tags, keys.tag(key)) & ((1 << count) - 1);
        let bit = keys.overflow_bit(key);
        let noted = tags[BUCKET_SLOTS + bit as usize / 8] >> (bit % 8) & 1;
        Ok(TagMatch { at, bits: candidates | u64::from(noted) << 63 })
    }

    #[inline(always)]
    fn read_candidates(
        &self,
        found: TagMatch,
        shape: SlotShape,
        key: Key,
        each: &mut impl Take,
    ) -> Result<(), Flaw> {
        let wanted = shape.words_of(self.header.keys, key);
        let mut candidates = found.bits & !OVERFLOWS;
        while candidates != 0 {
            let number = candidates.trailing_zeros() as usize;
            candidates &= candidates - 1;
            let at = found.at + TAG_LINE_LEN + number * shape.len;
            let slot = self.checked_bytes(at, shape.len)?;
            if let Some(rest) = shape.rest_of(slot, wanted) {
                let (account, stamp) = shape.decode_rest(rest).map_err(|reason| Flaw::entry(at as u64, reason))?;
                each.take(account, stamp);
            }
        }
        Ok(())
    }
}
