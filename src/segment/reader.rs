//! Answers from the bytes of a segment, which may be anything: a wrong byte is an error, never a panic and
//! never a wrong answer.
//!
//! Each page is checked against its checksum when it is first touched, and a bitmap remembers that.

use std::sync::atomic::{AtomicU64, Ordering};

use super::layout::{BUCKET_SLOTS, Header, Layout, PAGE_LEN, TAG_LINE_LEN, page_sum};
use super::{Flaw, line};
use crate::filter::{self, BLOCK_LEN};
use crate::words::{AccountId, Entry, Key, Purpose, Stamp};

/// A segment over bytes: a `Vec` in tests, a mapped file in use.
#[derive(Debug)]
pub(crate) struct Segment<B> {
    bytes: B,
    header: Header,
    layout: Layout,
    /// One bit per page: its checksum was found right.
    checked: Vec<AtomicU64>,
}

/// A block of the filter, and what to look for in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FilterPlace {
    at: usize,
    hash: u64,
}

/// One bucket: where it is, its tag line, and its slots.
struct Bucket<'a> {
    at: usize,
    tags: &'a [u8; TAG_LINE_LEN],
    slots: &'a [u8],
    slot_len: usize,
}

impl<B: AsRef<[u8]>> Segment<B> {
    /// Checks header, length, footer and the checksum of the page checksums; pages are checked when touched.
    pub(crate) fn open(bytes: B) -> Result<Self, Flaw> {
        let (header, layout) = Header::decode(bytes.as_ref())?;
        let checked = (0..layout.pages().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { bytes, header, layout, checked })
    }

    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn len(&self) -> usize {
        self.layout.file_len
    }

    /// Where the filter answers for a key and purpose, asked of the memory ahead of [`Segment::passes`].
    #[inline(always)]
    pub(crate) fn filter_place(&self, key: Key, purpose: Purpose) -> FilterPlace {
        let hash = filter::member_hash(self.header.keys.mask(key), purpose);
        let block = filter::block_of(hash, self.header.filter_blocks) as usize;
        let at = self.layout.filter_at + block * BLOCK_LEN;
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

    /// Where the table answers for a key, asked of the memory ahead of [`Segment::candidates`].
    #[inline(always)]
    pub(crate) fn table_place(&self, key: Key) -> usize {
        let at = self.layout.table_at + self.header.keys.home(key) as usize * self.layout.bucket_len();
        line::prefetch(self.bytes.as_ref(), at);
        at
    }

    /// The slots that may hold the key, a bit each, asked of the memory ahead of [`Segment::probe_from`].
    #[inline(always)]
    pub(crate) fn candidates(&self, place: usize, key: Key) -> Result<u64, Flaw> {
        let bytes = self.checked_bytes(place, TAG_LINE_LEN)?;
        let tags = bytes.first_chunk().ok_or_else(|| self.out_of_file(place))?;
        let candidates = line::with_tag(tags, self.header.keys.tag(key));
        let mut rest = candidates;
        while rest != 0 {
            let at = place + TAG_LINE_LEN + rest.trailing_zeros() as usize * self.layout.slot_len;
            line::prefetch(self.bytes.as_ref(), at);
            // A slot of 24 or 40 bytes may lie across two lines.
            line::prefetch(self.bytes.as_ref(), at + self.layout.slot_len - 1);
            rest &= rest - 1;
        }
        Ok(candidates)
    }

    /// May the key have a listing that opted in to the purpose? `false` is certain.
    pub(crate) fn may_contain(&self, key: Key, purpose: Purpose) -> Result<bool, Flaw> {
        self.passes(self.filter_place(key, purpose))
    }

    /// Calls `each` with every listing of the key, hidden and removed ones included.
    pub(crate) fn probe(&self, key: Key, each: impl FnMut(AccountId, Stamp)) -> Result<(), Flaw> {
        let place = self.table_place(key);
        self.probe_from(place, self.candidates(place, key)?, key, each)
    }

    /// [`Segment::probe`] from where [`Segment::candidates`] left off.
    #[inline]
    pub(crate) fn probe_from(
        &self,
        place: usize,
        candidates: u64,
        key: Key,
        mut each: impl FnMut(AccountId, Stamp),
    ) -> Result<(), Flaw> {
        let keys = self.header.keys;
        let bucket = self.bucket(place, self.layout.slot_len)?;
        self.probe_slots(&bucket, candidates, key, keys.wide, &mut each)?;
        if self.header.spill_buckets == 0 || !bucket.overflows(keys.overflow_bit(key)) {
            return Ok(());
        }
        self.probe_spill(key, &mut each)
    }

    /// The buckets of the spill area that may hold the key, one after the other.
    #[cold]
    fn probe_spill(&self, key: Key, each: &mut impl FnMut(AccountId, Stamp)) -> Result<(), Flaw> {
        let keys = self.header.keys;
        let mut at = keys.spill_home(key, self.header.spill_buckets);
        for _ in 0..self.header.spill_buckets {
            let bucket = self.spill_bucket(at as usize)?;
            self.probe_slots(&bucket, line::with_tag(bucket.tags, keys.tag(key)), key, true, each)?;
            if !bucket.overflows(keys.overflow_bit(key)) {
                break;
            }
            at = (at + 1) % self.header.spill_buckets;
        }
        Ok(())
    }

    #[inline]
    fn probe_slots(
        &self,
        bucket: &Bucket<'_>,
        candidates: u64,
        key: Key,
        wide: bool,
        each: &mut impl FnMut(AccountId, Stamp),
    ) -> Result<(), Flaw> {
        let keys = self.header.keys;
        let wanted = if wide { keys.mask(key).to_bytes() } else { keys.narrow_bytes(key) };
        let mut candidates = candidates & ((1 << bucket.count()) - 1);
        while candidates != 0 {
            let slot = candidates.trailing_zeros() as usize;
            candidates &= candidates - 1;
            let (stored, account, stamp) = self.slot(bucket, slot)?;
            if stored == wanted {
                each(account, stamp);
            }
        }
        Ok(())
    }

    /// Calls `each` with every listing, keys cut to the bits that the segment knows, in no useful order.
    pub(crate) fn for_each(&self, mut each: impl FnMut(Entry)) -> Result<(), Flaw> {
        let keys = self.header.keys;
        let mut seen = 0;
        for home in 0..keys.buckets {
            let bucket = self.table_bucket(home as usize)?;
            for slot in 0..bucket.count() {
                let (stored, account, stamp) = self.slot(&bucket, slot)?;
                let at = bucket.at as u64;
                let key = if keys.wide {
                    Some(Key::from_bytes(stored)).filter(|k| keys.range.contains(*k) && keys.home(*k) == home)
                } else {
                    let tag = bucket.tags.get(slot).copied().unwrap_or_default();
                    stored.first_chunk().and_then(|s| keys.restore(home, u64::from_be_bytes(*s), tag))
                };
                let key = key.ok_or(Flaw::entry(at, "its key does not belong into its bucket"))?;
                each(Entry { key, account, stamp });
                seen += 1;
            }
        }
        for at in 0..self.header.spill_buckets {
            let bucket = self.spill_bucket(at as usize)?;
            for slot in 0..bucket.count() {
                let (stored, account, stamp) = self.slot(&bucket, slot)?;
                let key = Key::from_bytes(stored);
                if !keys.range.contains(key) {
                    return Err(Flaw::entry(bucket.at as u64, "its key is outside the range"));
                }
                each(Entry { key, account, stamp });
                seen += 1;
            }
        }
        if seen != self.header.entries {
            return Err(Flaw::geometry(72, "the number of listings", seen));
        }
        Ok(())
    }

    /// Checks every page, whether it was touched before or not.
    pub(crate) fn verify_pages(&self) -> Result<(), Flaw> {
        (0..self.layout.pages()).try_for_each(|page| self.check_page(page))
    }

    fn table_bucket(&self, home: usize) -> Result<Bucket<'_>, Flaw> {
        self.bucket(self.layout.table_at + home * self.layout.bucket_len(), self.layout.slot_len)
    }

    fn spill_bucket(&self, at: usize) -> Result<Bucket<'_>, Flaw> {
        self.bucket(self.layout.spill_at + at * self.layout.spill_bucket_len(), self.layout.spill_slot_len)
    }

    #[inline]
    fn bucket(&self, at: usize, slot_len: usize) -> Result<Bucket<'_>, Flaw> {
        let bytes = self.checked_bytes(at, TAG_LINE_LEN + BUCKET_SLOTS * slot_len)?;
        let (tags, slots) = bytes.split_first_chunk().ok_or_else(|| self.out_of_file(at))?;
        let bucket = Bucket { at, tags, slots, slot_len };
        if bucket.count() > BUCKET_SLOTS {
            return Err(Flaw::entry(at as u64, "a bucket counts more listings than it has slots"));
        }
        Ok(bucket)
    }

    /// The key bytes (a narrow slot fills the first eight), account and stamp of a slot.
    #[inline]
    fn slot(&self, bucket: &Bucket<'_>, slot: usize) -> Result<([u8; 16], AccountId, Stamp), Flaw> {
        let at = slot * bucket.slot_len;
        let offset = (bucket.at + TAG_LINE_LEN + at) as u64;
        let bytes =
            bucket.slots.get(at..at + bucket.slot_len).ok_or(Flaw::entry(offset, "it is outside its bucket"))?;
        let none = [0; 8];
        let (key, account, stamp) = match (bytes.as_chunks::<8>().0, self.header.account_len) {
            ([k, a, stamp], _) => ([*k, none], [none, *a], stamp),
            ([k, a, b, stamp], 16) => ([*k, none], [*a, *b], stamp),
            ([k, l, a, stamp], _) => ([*k, *l], [none, *a], stamp),
            ([k, l, a, b, stamp], _) => ([*k, *l], [*a, *b], stamp),
            _ => return Err(Flaw::entry(offset, "it is cut short")),
        };
        let stamp = Stamp::from_word(u64::from_le_bytes(*stamp))
            .ok_or(Flaw::entry(offset, "its flags have a bit that no writer sets"))?;
        Ok((joined(key), AccountId::from_bytes(joined(account)), stamp))
    }

    /// Bytes at an offset, after the checksums of the pages they lie in.
    #[inline(always)]
    fn checked_bytes(&self, at: usize, len: usize) -> Result<&[u8], Flaw> {
        let first = (at - self.layout.filter_at) / PAGE_LEN;
        let last = (at + len - 1 - self.layout.filter_at) / PAGE_LEN;
        for page in first..=last {
            let seen =
                self.checked.get(page / 64).is_some_and(|w| w.load(Ordering::Relaxed) >> (page % 64) & 1 == 1);
            if !seen {
                self.check_page(page)?;
            }
        }
        self.bytes.as_ref().get(at..at + len).ok_or_else(|| self.out_of_file(at))
    }

    #[cold]
    fn check_page(&self, page: usize) -> Result<(), Flaw> {
        let at = self.layout.filter_at + page * PAGE_LEN;
        let sum_at = self.layout.sums_at + page * 8;
        let bytes = self.bytes.as_ref();
        let found = bytes.get(at..at + PAGE_LEN).map(|page_bytes| page_sum(page_bytes, page).to_le_bytes());
        if found.is_none() || found.as_ref() != bytes.get(sum_at..).and_then(<[u8]>::first_chunk) {
            return Err(Flaw::checksum(at as u64, "the page"));
        }
        if let Some(word) = self.checked.get(page / 64) {
            word.fetch_or(1 << (page % 64), Ordering::Relaxed);
        }
        Ok(())
    }

    #[cold]
    fn out_of_file(&self, at: usize) -> Flaw {
        Flaw::geometry(at, "a place outside the file", self.layout.file_len as u64)
    }
}

/// Two halves in one.
#[inline]
fn joined([high, low]: [[u8; 8]; 2]) -> [u8; 16] {
    (u128::from(u64::from_be_bytes(high)) << 64 | u128::from(u64::from_be_bytes(low))).to_be_bytes()
}

impl Bucket<'_> {
    fn count(&self) -> usize {
        let [.., count] = self.tags;
        usize::from(*count)
    }

    /// May a listing with this overflow bit have found the bucket full?
    fn overflows(&self, bit: u32) -> bool {
        self.tags.get(BUCKET_SLOTS + bit as usize / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;

    use super::super::builder::{Input, build, shape_for};
    use super::super::keys::KeyRange;
    use super::*;
    use crate::words::{Flags, OptIns, Version};

    fn entries(count: u64, range: KeyRange, known_bits: u8, accounts: fn(u64) -> AccountId) -> Vec<Entry> {
        let shape = shape_for(range, count as usize, known_bits);
        let mut all: Vec<_> = (0..count)
            .map(|i| {
                let hash = xxhash_rust::xxh3::xxh3_128(&(i / 7 * 6).to_le_bytes()); // some phones have several accounts
                let key = Key::from_u128(hash >> range.bits() | u128::from(range.prefix()) << 64);
                let flags =
                    if i % 11 == 0 { Flags::removed(3) } else { Flags::live(OptIns::from_bits_truncate(i as u8)) };
                Entry::new(shape.mask(key), accounts(i), Version::new(i).unwrap(), flags)
            })
            .collect();
        all.sort_by_key(Entry::id);
        all
    }

    fn segment(entries: &[Entry], range: KeyRange, known_bits: u8) -> Segment<Vec<u8>> {
        let input = Input { index_id: [1; 16], generation: 5, range, known_bits, era_s: 60, entries };
        Segment::open(build(&input)).unwrap()
    }

    fn check(all: &[Entry], segment: &Segment<Vec<u8>>) {
        let mut by_key: HashMap<Key, BTreeMap<AccountId, Stamp>> = HashMap::new();
        for e in all {
            by_key.entry(e.key).or_default().insert(e.account, e.stamp);
        }
        for (key, expected) in &by_key {
            let mut found = BTreeMap::new();
            segment.probe(*key, |account, stamp| assert!(found.insert(account, stamp).is_none())).unwrap();
            assert_eq!(&found, expected);
            for purpose in Purpose::ALL {
                if expected.values().any(|s| s.flags().opt_ins().allows(purpose)) {
                    assert!(segment.may_contain(*key, purpose).unwrap());
                }
            }
        }
        let mut listed = Vec::new();
        segment.for_each(|e| listed.push(e)).unwrap();
        listed.sort_by_key(Entry::id);
        assert_eq!(listed, all);
        segment.verify_pages().unwrap();
    }

    #[test]
    fn every_listing_is_found_and_listed_in_every_slot_shape() {
        let sub = KeyRange::new(0xb << 60, 4).unwrap();
        for (count, range, bits) in [
            (0, sub, 128),
            (1, sub, 128),
            (300, sub, 90),
            (5_000, sub, 128),
            (260_000, sub, 128),
            (260_000, KeyRange::ALL, 78),
        ] {
            let numbers = entries(count, range, bits, AccountId::from);
            let by_number = segment(&numbers, range, bits);
            assert_eq!(by_number.header().account_len, 8);
            assert_eq!(by_number.header().keys.wide, count < 200_000);
            check(&numbers, &by_number);
            let uuids =
                entries(count, range, bits, |i| AccountId::from_bytes((u128::MAX - u128::from(i)).to_be_bytes()));
            check(&uuids, &segment(&uuids, range, bits));
        }
    }

    #[test]
    fn a_phone_with_more_accounts_than_a_bucket_is_answered_whole() {
        let key = Key::from_u128(7 << 100);
        let all: Vec<_> = (0..500_u64)
            .map(|i| Entry::new(key, AccountId::from(i), Version::new(1).unwrap(), Flags::live(OptIns::SEARCH)))
            .collect();
        check(&all, &segment(&all, KeyRange::ALL, 128));
    }

    #[test]
    fn absent_keys_are_not_found() {
        let all = entries(60_000, KeyRange::ALL, 128, AccountId::from);
        let segment = segment(&all, KeyRange::ALL, 128);
        for i in 0..20_000_u64 {
            let key = Key::from_u128(xxhash_rust::xxh3::xxh3_128(&(i | 1 << 40).to_le_bytes()));
            segment.probe(key, |_, _| panic!("an absent key was found")).unwrap();
        }
    }

    #[test]
    fn every_changed_byte_gives_an_error_or_the_right_answer() {
        let all = entries(120, KeyRange::ALL, 128, AccountId::from);
        let good = segment(&all, KeyRange::ALL, 128);
        for at in 0..good.bytes.len() {
            let mut bytes = good.bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            let Ok(bad) = Segment::open(bytes) else { continue };
            assert!(bad.verify_pages().is_err(), "byte {at} changed unseen");
            for e in &all {
                let mut found = Vec::new();
                if bad.probe(e.key, |account, stamp| found.push((account, stamp))).is_ok() {
                    assert!(found.contains(&(e.account, e.stamp)));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_with_right_checksums_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
            // A hostile writer can make checksums right; the answer may then be wrong, but must come.
            let all = entries(120, KeyRange::ALL, 128, AccountId::from);
            let mut bytes = segment(&all, KeyRange::ALL, 128).bytes;
            let (_, layout) = Header::decode(&bytes).unwrap();
            for (at, value) in changes {
                bytes[PAGE_LEN + at.index(layout.sums_at - PAGE_LEN)] = value;
            }
            super::super::builder::seal(&mut bytes, &layout);
            let segment = Segment::open(bytes).unwrap();
            let _ = segment.for_each(|_| ());
            for e in &all {
                let _ = segment.probe(e.key, |_, _| ());
                let _ = segment.may_contain(e.key, Purpose::Search);
            }
        }
    }
}
