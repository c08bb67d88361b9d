//! Partitions to segments: each core takes one part of the key space at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

use super::ImportProgress;
use super::partition::{PARTITION_BITS, Partitions};
use super::scatter::Scatter;
use super::spill::BlockReader;
use crate::disk::Buffer;
use crate::index::Inner;
use crate::index::fold::depth_for;
use crate::index::segments::{RangeSlot, SegmentMap};
use crate::segment::builder::shape_for;
use crate::segment::keys::{KeyRange, mask_key};
use crate::segment::sort::sort_entries;
use crate::store::{DeltaRef, SegmentRow};
use crate::words::{Entry, Error, Result};

/// Segments of an import, published as files but named by no manifest yet.
#[derive(Default)]
pub(super) struct Built {
    pub(super) rows: Vec<SegmentRow>,
    pub(super) retired: Vec<u64>,
    pub(super) stale: u64,
}

/// What a thread needs for one part after the other. It is used again: new memory costs more than what is done in it.
struct Memory {
    scatter: Scatter,
    reader: BlockReader,
    image: Buffer,
}

/// A part of the key space that one thread builds: all of an old range or a piece of it.
struct Part<'a> {
    range: KeyRange,
    old: &'a RangeSlot,
}

impl Inner {
    /// Builds and publishes the segments of an import on all cores.
    pub(super) fn build(
        &self,
        partitions: &Partitions,
        progress: &(dyn Fn(ImportProgress) + Sync),
    ) -> Result<Built> {
        let map = self.segments.load_full();
        let parts = self.parts(&map, partitions);
        let retired = map.slots().iter().filter(|slot| parts.iter().any(|part| part.old.range == slot.range));
        let mut built = Built {
            retired: retired.filter_map(|slot| slot.segment.as_ref()).map(|s| s.generation()).collect(),
            ..Built::default()
        };
        let next = AtomicUsize::new(0);
        let done = AtomicUsize::new(0);
        let results = Mutex::new(&mut built);
        let work = || -> Result<()> {
            let mut memory =
                Memory { scatter: Scatter::default(), reader: partitions.reader()?, image: Buffer::zeroed(0)? };
            while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (rows, stale) = self.build_part(part, partitions, &mut memory)?;
                let mut built = results.lock();
                built.rows.extend(rows);
                built.stale += stale as u64;
                drop(built);
                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                progress(ImportProgress { done, total: parts.len() });
            }
            Ok(())
        };
        let threads = (2 * thread::available_parallelism().map_or(1, usize::from)).min(parts.len());
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            // Joined before the first error is returned: no thread may outlive what it borrows.
            let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
            ended
                .into_iter()
                .try_for_each(|ended| ended.unwrap_or(Err(Error::Panicked { during: "build segments" })))
        })?;
        Ok(built)
    }

    /// Cuts the old ranges that get rows so that a part is about a segment, or a partition if that is smaller.
    fn parts<'a>(&self, map: &'a SegmentMap, partitions: &Partitions) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        for old in map.slots() {
            let rows: u64 = numbers_in(old.range).map(|number| partitions.len_of(number)).sum();
            if rows == 0 {
                continue;
            }
            let kept = old.segment.as_ref().map_or(0, |s| s.segment().header().entries);
            // Rows may be listings that are there already: what both come to is known only when they are merged.
            let most = usize::try_from(rows.max(kept)).unwrap_or(usize::MAX);
            let depth = depth_for(old.range, most, self.options.segment_listings);
            let depth = depth.min(PARTITION_BITS).max(old.range.bits());
            parts.extend(old.range.split_to(depth).map(|range| Part { range, old }));
        }
        parts
    }

    /// Merges the rows of a part with what its range had, and publishes the result.
    fn build_part(
        &self,
        part: &Part<'_>,
        partitions: &Partitions,
        memory: &mut Memory,
    ) -> Result<(Vec<SegmentRow>, usize)> {
        let Memory { scatter, reader, image } = memory;
        scatter.begin(part.range, numbers_in(part.range), partitions);
        for number in numbers_in(part.range) {
            partitions.read(number, part.range.bits() <= PARTITION_BITS, reader, scatter)?;
        }
        let (mut old, known_bits) = self.entries_of(part.old.segment.as_deref())?;
        old.retain(|entry| part.range.contains(entry.key));
        let rows = scatter.rows();
        let key_bits = shape_for(part.range, rows + old.len(), known_bits).key_bits;
        let mut entries: &[Entry] = scatter.sorted(key_bits);
        let mut stale = rows - entries.len();
        if !old.is_empty() {
            let both = entries.len() + old.len();
            old.iter_mut().for_each(|entry| entry.key = mask_key(entry.key, key_bits));
            old.extend_from_slice(entries);
            // The sort is stable, so that of equal versions what was there wins.
            old = sort_entries(old, part.range.bits());
            let replaced = keep_newest(&mut old);
            stale += both - old.len() - replaced;
            entries = &old;
        }
        let plan = self.plan_segments(part.range, entries)?;
        Ok((self.publish_all(plan, entries, key_bits, image)?, stale))
    }

    /// Changes that an imported listing is newer than.
    pub(super) fn superseded(&self, map: &SegmentMap) -> Result<Vec<DeltaRef>> {
        let overlay = self.overlay.read();
        let mut superseded = Vec::new();
        for change in overlay.iter() {
            let entry = change.entry;
            let Some(segment) = map.of(entry.key) else { continue };
            let mut is_older = false;
            segment.locate(|s| {
                s.probe(entry.key, |account, stamp| {
                    is_older |= account == entry.account && stamp.version() > entry.version();
                })
            })?;
            if is_older {
                superseded.push((entry.key, entry.account, entry.stamp));
            }
        }
        Ok(superseded)
    }
}

/// The partitions that a range overlaps.
fn numbers_in(range: KeyRange) -> std::ops::RangeInclusive<usize> {
    let number = |hi: u64| (hi >> (64 - PARTITION_BITS)) as usize;
    number(range.first_key().hi)..=number(range.last_key().hi)
}

/// Of equal ids in a row, keeps the one with the greatest version, the first of several. Returns how often a
/// later one won.
fn keep_newest(entries: &mut Vec<Entry>) -> usize {
    let mut replaced = 0;
    entries.dedup_by(|later, kept| {
        let same = later.id() == kept.id();
        if same && later.version() > kept.version() {
            *kept = *later;
            replaced += 1;
        }
        same
    });
    replaced
}
