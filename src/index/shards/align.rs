//! Cutting segments where a span begins and ends, so that the files of the span are of nothing else.

use parking_lot::MutexGuard;

use super::super::Inner;
use super::super::segments::RangeSlot;
use crate::disk::Buffer;
use crate::overlay::Overlay;
use crate::segment::builder::shape_for;
use crate::segment::keys::{KeyRange, mask_key};
use crate::segment::sort::sort_entries;
use crate::shards::KeySpan;
use crate::words::{AccountId, Key, Result};

impl Inner {
    /// Cuts every segment that has keys in the span and others. Lookups and updates go on.
    pub(super) fn align(&self, _structure: &MutexGuard<'_, ()>, span: KeySpan) -> Result<()> {
        let map = self.segments.load_full();
        for slot in map.slots().iter().filter(|slot| slot.segment.is_some() && is_cut_by(slot.range, span)) {
            self.cut(slot, span)?;
        }
        Ok(())
    }

    fn cut(&self, slot: &RangeSlot, span: KeySpan) -> Result<()> {
        let (entries, known_bits) = self.entries_of(slot.segment.as_deref())?;
        let sorted = sort_entries(entries, slot.range.bits());
        let mut image = Buffer::zeroed(0)?;
        let mut rows = Vec::new();
        let mut rest = sorted.as_slice();
        for part in parts_of(slot.range, span) {
            let (of_part, others) = rest.split_at(rest.partition_point(|entry| part.contains(entry.key)));
            rest = others;
            let key_bits = shape_for(part, of_part.len(), known_bits).key_bits;
            let mut of_part = of_part.to_vec();
            of_part.iter_mut().for_each(|entry| entry.key = mask_key(entry.key, key_bits));
            let plan = self.plan_segments(part, &of_part)?;
            rows.extend(self.publish_all(plan, &of_part, key_bits, &mut image)?);
        }
        let new = self.open_published(&rows)?;
        let retired: Vec<u64> = slot.segment.iter().map(|segment| segment.generation()).collect();
        self.swap(false, &retired, &rows, &new, |_| Ok(Vec::new()))
    }

    /// Tripwires of a span that are set. The writer is locked, and no fold is under way.
    pub(super) fn tripwires_in(&self, span: KeySpan, overlay: &Overlay) -> Result<u64> {
        // Those of segments, with the bits of the key that are known.
        let mut set: Vec<(Key, u8)> = Vec::new();
        for segment in self.segments.load().live() {
            let keys = segment.segment().header().keys;
            if span.overlaps(KeySpan::of_range(keys.range)) {
                segment.for_each(|entry| {
                    let is_set = entry.account == AccountId::RESERVED && !entry.flags().is_removed();
                    if is_set && span.contains(entry.key) {
                        set.push((entry.key, keys.key_bits));
                    }
                })?;
            }
        }
        let mut changed = 0;
        for change in span.ranges().into_iter().flat_map(|range| overlay.in_range(range)) {
            if change.entry.account == AccountId::RESERVED {
                set.retain(|(key, bits)| mask_key(change.entry.key, *bits) != *key);
                changed += u64::from(!change.entry.flags().is_removed());
            }
        }
        Ok(changed + set.len() as u64)
    }
}

/// Has the range keys in the span and others?
fn is_cut_by(range: KeyRange, span: KeySpan) -> bool {
    let of_range = KeySpan::of_range(range);
    of_range.overlaps(span) && !span.covers(of_range)
}

/// The fewest ranges that a range is together, none of which the span cuts, in order.
fn parts_of(range: KeyRange, span: KeySpan) -> Vec<KeyRange> {
    if !is_cut_by(range, span) {
        return vec![range];
    }
    range.split_to(range.bits() + 1).flat_map(|half| parts_of(half, span)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_range_and_none_is_cut() {
        let half = KeyRange::new(1 << 63, 1).unwrap();
        for (from, to) in [(0x8001, 0x8002), (0x9000, 0xa000), (0, 0x8001), (0xffff, 0x1_0000), (0x1234, 0xbcde)] {
            let span = KeySpan::new(from, to).unwrap();
            let parts = parts_of(half, span);
            assert!(parts.len() > 1 && parts.iter().all(|part| !is_cut_by(*part, span)));
            let spans: Vec<KeySpan> = parts.iter().map(|part| KeySpan::of_range(*part)).collect();
            assert_eq!((spans[0].from(), spans[spans.len() - 1].to()), (0x8000, KeySpan::END));
            assert!(spans.windows(2).all(|two| two[0].to() == two[1].from()));
        }
        assert_eq!(parts_of(half, KeySpan::ALL), [half]);
        assert_eq!(parts_of(half, KeySpan::new(0, 0x8000).unwrap()), [half]);
    }
}
