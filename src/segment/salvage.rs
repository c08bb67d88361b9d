//! What can still be read of a damaged segment, and which keys the rest was of.
//!
//! A bucket whose pages are right is as it was written, whatever became of the others.

use std::collections::BTreeSet;

use super::keys::{KeyRange, KeyShape};
use super::layout::BUCKET_SLOTS;
use super::reader::Segment;
use crate::words::{Entry, Key};

/// The keys of which listings may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lost {
    /// All of a range.
    All(KeyRange),
    /// Those of some buckets.
    Some {
        keys: KeyShape,
        /// Buckets of the table that cannot be read.
        homes: BTreeSet<u64>,
        /// Buckets of the table that are full, so that listings of theirs may be in the spill area; only if some of that cannot
        /// be read.
        full: BTreeSet<u64>,
    },
}

impl Lost {
    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Self::Some { homes, full, .. } if homes.is_empty() && full.is_empty())
    }

    /// May a listing of this key be missing?
    pub(crate) fn may_have(&self, key: Key) -> bool {
        match self {
            Self::All(range) => range.contains(key),
            Self::Some { keys, homes, full } => {
                let home = keys.home(key);
                keys.range.contains(key) && (homes.contains(&home) || full.contains(&home))
            }
        }
    }

    /// The same keys as spans, in order and apart: the first eight bytes of the first key of each and of the last.
    pub(crate) fn spans(&self) -> Vec<(u64, u64)> {
        let (keys, homes, full) = match self {
            Self::All(range) => return vec![(range.first_key().hi, range.last_key().hi)],
            Self::Some { keys, homes, full } => (keys, homes, full),
        };
        let mut spans: Vec<(u64, u64)> = Vec::new();
        for home in homes.union(full) {
            let (first, last) = span_of(*keys, *home);
            match spans.last_mut() {
                Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
                _ => spans.push((first, last)),
            }
        }
        spans
    }
}

/// The keys whose home is this bucket.
fn span_of(keys: KeyShape, home: u64) -> (u64, u64) {
    // A place is 32 bits, and a home is the place times the buckets, shifted: the first place of a home rounds up.
    let place = |home: u64| ((u128::from(home) << 32).div_ceil(u128::from(keys.buckets.max(1)))) as u64;
    let (first, end) = (place(home), place(home + 1).min(1 << 32));
    let hi = |place: u64, rest: u64| keys.range.prefix() | (place << 32 | rest) >> keys.range.bits();
    (hi(first, 0), hi(end.saturating_sub(1), u64::from(u32::MAX)))
}

impl<B: AsRef<[u8]>> Segment<B> {
    /// Calls `each` with every listing of every bucket that is right, and says what the others were of.
    pub(crate) fn salvage(&self, mut each: impl FnMut(Entry)) -> Lost {
        let keys = self.header().keys;
        let (mut homes, mut full) = (BTreeSet::new(), BTreeSet::new());
        let mut of_bucket = Vec::with_capacity(BUCKET_SLOTS);
        for home in 0..keys.buckets {
            of_bucket.clear();
            let read = self.table_bucket(home as usize).and_then(|bucket| {
                (0..bucket.count()).try_for_each(|slot| {
                    of_bucket.push(self.table_entry(home, &bucket, slot)?);
                    Ok(())
                })
            });
            match read {
                Ok(()) => of_bucket.iter().for_each(|entry| each(*entry)),
                Err(_) => drop(homes.insert(home)),
            }
            if of_bucket.len() == BUCKET_SLOTS {
                full.insert(home);
            }
        }
        let mut is_spill_whole = true;
        for at in 0..self.header().spill_buckets {
            of_bucket.clear();
            let read = self.spill_bucket(at as usize).and_then(|bucket| {
                (0..bucket.count()).try_for_each(|slot| {
                    of_bucket.push(self.spill_entry(&bucket, slot)?);
                    Ok(())
                })
            });
            match read {
                Ok(()) => of_bucket.iter().for_each(|entry| each(*entry)),
                Err(_) => is_spill_whole = false,
            }
        }
        if is_spill_whole {
            full.clear();
        }
        Lost::Some { keys, homes, full }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::builder::{Input, build, shape_for};
    use super::super::layout::{Header, PAGE_LEN};
    use super::*;
    use crate::words::{AccountId, Flags, OptIns, Version};

    fn entries(count: u64, range: KeyRange) -> Vec<Entry> {
        let shape = shape_for(range, count as usize, 128);
        let mut all: Vec<_> = (0..count)
            .map(|i| {
                let hash = xxhash_rust::xxh3::xxh3_128(&i.to_le_bytes());
                let key = Key::from_u128(hash >> range.bits() | u128::from(range.prefix()) << 64);
                let flags = Flags::live(OptIns::SEARCH);
                Entry::new(shape.mask(key), AccountId::from(i), Version::new(i).unwrap(), flags)
            })
            .collect();
        all.sort_by_key(Entry::id);
        all
    }

    #[test]
    fn what_is_not_read_is_of_keys_that_are_told() {
        for (count, range) in [(2_000, KeyRange::ALL), (300_000, KeyRange::new(0xa << 60, 4).unwrap())] {
            let all = entries(count, range);
            let input =
                Input { index_id: [1; 16], generation: 5, range, known_bits: 128, era_s: 60, entries: &all };
            let image = build(&input);
            let (_, layout) = Header::decode(&image).unwrap();
            let pages = (layout.sums_at - PAGE_LEN) / PAGE_LEN;
            let step = (pages / 15).max(1);
            let mut partly = 0;
            for page in (0..pages).step_by(step).chain([pages - 1]) {
                let mut bad = image.clone();
                bad[PAGE_LEN + page * PAGE_LEN + 100] ^= 4;
                let segment = Segment::open(bad).unwrap();
                let mut read = HashSet::new();
                let lost = segment.salvage(|entry| assert!(read.insert((entry.id(), entry.stamp.word()))));
                let missing: Vec<_> = all.iter().filter(|e| !read.contains(&(e.id(), e.stamp.word()))).collect();
                assert!(read.len() + missing.len() == all.len(), "something was read that was not written");
                assert!(missing.iter().all(|entry| lost.may_have(entry.key)));
                let spans = lost.spans();
                for entry in &all {
                    let is_inside = spans.iter().any(|(first, last)| (*first..=*last).contains(&entry.key.hi));
                    assert_eq!(is_inside, lost.may_have(entry.key), "page {page}");
                }
                assert!(spans.array_windows().all(|[one, next]| one.1 < next.0));
                let in_filter = PAGE_LEN + (page + 1) * PAGE_LEN <= layout.table_at;
                assert_eq!(lost.is_nothing(), in_filter, "page {page}");
                partly += usize::from(!missing.is_empty() && missing.len() < all.len() / 5);
            }
            assert!(partly > 5, "no page lost a part only");
        }
    }

    #[test]
    fn all_of_a_range_is_its_first_and_last_key() {
        let lost = Lost::All(KeyRange::new(0xc << 60, 2).unwrap());
        assert_eq!(lost.spans(), [(0xc000_0000_0000_0000, u64::MAX)]);
        assert!(lost.may_have(Key::from_u128(u128::MAX)) && !lost.may_have(Key::from_u128(0)));
        assert!(!lost.is_nothing());
    }
}
