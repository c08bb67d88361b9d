//! Answers from the bytes of a segment, which may be anything: a wrong byte is an error, never a panic and
//! never a wrong answer.
//!
//! Each page is checked against its checksum when it is first touched, and a bitmap remembers that.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Flaw;
use super::keys::KeyShape;
use super::layout::{BUCKET_SLOTS, Header, Layout, PAGE_LEN, TAG_LINE_LEN, page_sum};
use super::slot::SlotShape;
use crate::words::{AccountId, Entry, Key, Purpose, Stamp};

/// A segment over bytes: a mapped file in use, the memory it was read back to when it is new, a `Vec` in tests.
///
/// In this order, and from the begin of a cache line on, since a batch looks into all segments in turn: the first line has
/// what every key needs, the next one or two the parts of the filter. Else 64 segments fill a first level cache.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Segment<B> {
    pub(super) bytes: B,
    /// Every page up to this offset was found right: spares the look at its bit.
    checked_to: AtomicUsize,
    /// The same as the header's.
    pub(super) keys: KeyShape,
    pub(super) layout: Layout,
    pub(super) header: Header,
    /// One bit per page: its checksum was found right.
    checked: Vec<AtomicU64>,
}

/// One bucket: where it is, its tag line, its slots, and how they are laid out.
pub(super) struct Bucket<'a> {
    at: usize,
    tags: &'a [u8; TAG_LINE_LEN],
    slots: &'a [u8],
    shape: SlotShape,
}

impl<B: AsRef<[u8]>> Segment<B> {
    /// Checks header, length, footer and the checksum of the page checksums; pages are checked when touched.
    pub(crate) fn open(bytes: B) -> Result<Self, Flaw> {
        let (header, layout) = Header::decode(bytes.as_ref())?;
        let checked = (0..layout.pages().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { bytes, checked_to: AtomicUsize::new(0), keys: header.keys, layout, header, checked })
    }

    pub(crate) const fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) const fn bytes(&self) -> &B {
        &self.bytes
    }

    /// Header and filters: what every lookup reads.
    pub(crate) const fn filter_part(&self) -> Range<usize> {
        0..self.layout.table_at
    }

    /// Table and spill area: what lookups read of the keys that pass a filter.
    pub(crate) const fn table_part(&self) -> Range<usize> {
        self.layout.table_at..self.layout.sums_at
    }

    /// Page checksums and footer: what the first touch of a page reads.
    pub(crate) const fn sums_part(&self) -> Range<usize> {
        self.layout.sums_at..self.layout.file_len
    }

    pub(crate) fn len(&self) -> usize {
        self.layout.file_len
    }

    /// May the key have a listing that opted in to the purpose? `false` is certain.
    pub(crate) fn may_contain(&self, key: Key, purpose: Purpose) -> Result<bool, Flaw> {
        self.passes(self.filter_place(key, purpose))
    }

    /// Calls `each` with every listing of the key, hidden and removed ones included.
    pub(crate) fn probe(&self, key: Key, mut each: impl FnMut(AccountId, Stamp)) -> Result<(), Flaw> {
        self.probe_from(self.home_place(key), key, &mut each)
    }

    /// Calls `each` with every listing, keys cut to the bits that the segment knows, in no useful order.
    pub(crate) fn for_each(&self, mut each: impl FnMut(Entry)) -> Result<(), Flaw> {
        let mut seen = 0;
        for home in 0..self.header.keys.buckets {
            let bucket = self.table_bucket(home as usize)?;
            let mut before = None;
            for slot in 0..bucket.count() {
                each(bucket.in_order(&mut before, self.table_entry(home, &bucket, slot)?)?);
                seen += 1;
            }
        }
        for at in 0..self.header.spill_buckets {
            let bucket = self.spill_bucket(at as usize)?;
            let mut before = None;
            for slot in 0..bucket.count() {
                each(bucket.in_order(&mut before, self.spill_entry(&bucket, slot)?)?);
                seen += 1;
            }
        }
        if seen != self.header.entries {
            return Err(Flaw::geometry(64, "the number of listings", seen));
        }
        Ok(())
    }

    /// A listing of the table, in the bucket that is its home.
    pub(super) fn table_entry(&self, home: u64, bucket: &Bucket<'_>, slot: usize) -> Result<Entry, Flaw> {
        let keys = self.header.keys;
        let ([hi, lo], account, stamp) = bucket.slot(slot)?;
        let key = if keys.wide {
            Some(Key { hi, lo }).filter(|k| keys.range.contains(*k) && keys.home(*k) == home)
        } else {
            keys.restore(home, hi, bucket.tags.get(slot).copied().unwrap_or_default())
        };
        let key = key.ok_or(Flaw::entry(bucket.at as u64, "its key does not belong into its bucket"))?;
        Ok(Entry { key, account, stamp })
    }

    /// A listing of the spill area.
    pub(super) fn spill_entry(&self, bucket: &Bucket<'_>, slot: usize) -> Result<Entry, Flaw> {
        let ([hi, lo], account, stamp) = bucket.slot(slot)?;
        let key = Key { hi, lo };
        if !self.header.keys.range.contains(key) {
            return Err(Flaw::entry(bucket.at as u64, "its key is outside the range"));
        }
        Ok(Entry { key, account, stamp })
    }

    /// Checks every page, whether it was touched before or not.
    pub(crate) fn verify_pages(&self) -> Result<(), Flaw> {
        (0..self.layout.pages()).try_for_each(|page| self.check_page(page))?;
        self.trust_pages();
        Ok(())
    }

    /// Checks every page of the filters that was not touched before.
    pub(crate) fn check_filter(&self) -> Result<(), Flaw> {
        self.check_pages(self.layout.filter_at, self.layout.table_at - self.layout.filter_at)?;
        self.checked_to.fetch_max(self.layout.table_at, Ordering::Relaxed);
        Ok(())
    }

    /// Checks every page that was not touched before.
    pub(crate) fn check_pages_left(&self) -> Result<(), Flaw> {
        if self.checked_to.load(Ordering::Relaxed) < self.layout.sums_at {
            self.check_pages(self.layout.filter_at, self.layout.sums_at - self.layout.filter_at)?;
            self.trust_pages();
        }
        Ok(())
    }

    /// Takes every page for checked: for a new map of a file whose pages were just found right.
    pub(crate) fn trust_pages(&self) {
        self.checked_to.store(usize::MAX, Ordering::Relaxed);
    }

    pub(super) fn table_bucket(&self, home: usize) -> Result<Bucket<'_>, Flaw> {
        self.bucket(self.layout.table_at + home * self.layout.bucket_len, self.table_slots())
    }

    pub(super) fn spill_bucket(&self, at: usize) -> Result<Bucket<'_>, Flaw> {
        self.bucket(self.layout.spill_at + at * self.layout.spill_bucket_len(), self.spill_slots())
    }

    fn bucket(&self, at: usize, shape: SlotShape) -> Result<Bucket<'_>, Flaw> {
        let bytes = self.checked_bytes(at, TAG_LINE_LEN + BUCKET_SLOTS * shape.len)?;
        let (tags, slots) = bytes.split_first_chunk().ok_or_else(|| self.out_of_file(at))?;
        let bucket = Bucket { at, tags, slots, shape };
        if bucket.count() > BUCKET_SLOTS {
            return Err(Flaw::entry(at as u64, "a bucket counts more listings than it has slots"));
        }
        Ok(bucket)
    }

    pub(super) const fn table_slots(&self) -> SlotShape {
        SlotShape { len: self.layout.slot_len, wide: self.keys.wide }
    }

    pub(super) const fn spill_slots(&self) -> SlotShape {
        SlotShape { len: self.layout.spill_slot_len, wide: true }
    }

    /// Bytes at an offset, after the checksums of the pages they lie in.
    #[inline(always)]
    pub(super) fn checked_bytes(&self, at: usize, len: usize) -> Result<&[u8], Flaw> {
        match self.bytes.as_ref().get(at..at + len) {
            Some(bytes) if at + len <= self.checked_to.load(Ordering::Relaxed) => Ok(bytes),
            bytes => self.check_bytes(bytes, at, len),
        }
    }

    #[inline(never)]
    fn check_bytes<'a>(&'a self, bytes: Option<&'a [u8]>, at: usize, len: usize) -> Result<&'a [u8], Flaw> {
        self.check_pages(at, len)?;
        bytes.ok_or_else(|| self.out_of_file(at))
    }

    fn check_pages(&self, at: usize, len: usize) -> Result<(), Flaw> {
        let first = (at - self.layout.filter_at) / PAGE_LEN;
        let last = (at + len - 1 - self.layout.filter_at) / PAGE_LEN;
        for page in first..=last {
            let seen =
                self.checked.get(page / 64).is_some_and(|w| w.load(Ordering::Relaxed) >> (page % 64) & 1 == 1);
            if !seen {
                self.check_page(page)?;
            }
        }
        Ok(())
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
    pub(super) fn out_of_file(&self, at: usize) -> Flaw {
        Flaw::geometry(at, "a place outside the file", self.layout.file_len as u64)
    }
}

impl Bucket<'_> {
    pub(super) fn count(&self) -> usize {
        let [.., count] = self.tags;
        usize::from(*count)
    }

    /// The entry, if it belongs behind the one `before`: a lookup looks for all listings of a key side by side.
    fn in_order(&self, before: &mut Option<(Key, AccountId)>, entry: Entry) -> Result<Entry, Flaw> {
        let id = Some(entry.id());
        if *before >= id {
            return Err(Flaw::entry(self.at as u64, "its listings are not in order"));
        }
        *before = id;
        Ok(entry)
    }

    /// The words of the key (a narrow slot has one), account and stamp of a slot.
    fn slot(&self, number: usize) -> Result<([u64; 2], AccountId, Stamp), Flaw> {
        let at = number * self.shape.len;
        let offset = (self.at + TAG_LINE_LEN + at) as u64;
        let slot = self.slots.get(at..at + self.shape.len).and_then(|slot| self.shape.split(slot));
        let (key, rest) = slot.ok_or(Flaw::entry(offset, "it is outside its bucket"))?;
        let (account, stamp) = self.shape.decode_rest(rest).map_err(|reason| Flaw::entry(offset, reason))?;
        Ok((key, account, stamp))
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
    fn listings_out_of_order_are_damage() {
        let all = entries(120, KeyRange::ALL, 128, AccountId::from);
        let mut bytes = segment(&all, KeyRange::ALL, 128).bytes;
        let (header, layout) = Header::decode(&bytes).unwrap();
        assert_eq!(header.keys.home(all[0].key), header.keys.home(all[1].key));
        let slots = layout.table_at + TAG_LINE_LEN;
        bytes.swap(layout.table_at, layout.table_at + 1);
        let (first, second) = bytes[slots..slots + 2 * layout.slot_len].split_at_mut(layout.slot_len);
        first.swap_with_slice(second);
        super::super::builder::seal(&mut bytes, &layout);
        let segment = Segment::open(bytes).unwrap();
        segment.verify_pages().unwrap();
        assert!(matches!(segment.for_each(|_| ()), Err(Flaw::Damaged { .. })));
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
