//! Folding: the changes of one range and its segment become its next segment, or its next two.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard, RwLockWriteGuard};

use super::memory::on_all_cores;
use super::segments::{LiveSegment, RangeSlot, SegmentMap};
use super::{Index, Inner};
use crate::disk::Buffer;
use crate::overlay::Change;
use crate::segment::builder::{Input, build_into, shape_for};
use crate::segment::keys::{KeyRange, MAX_RANGE_BITS, mask_key};
use crate::segment::sort::sort_entries;
use crate::segment::tombstone;
use crate::store::{self, Changes, DeltaRef, SegmentRow};
use crate::words::{AccountId, Entry, Error, Flags, Result, Stamp};

/// Changes that leave the overlay while updates wait: some hundreds of microseconds.
const HIDDEN_AT_ONCE: usize = 4_096;
/// Changes that leave the overlay while lookups wait: some tens of microseconds.
const UNSHOWN_AT_ONCE: usize = 256;
/// How long a fold waits for lookups that still read what it replaced.
const LONGEST_READ: Duration = Duration::from_secs(1);

/// What a fold did.
///
/// ```
/// use unlisted::{AccountId, Index, OptIns, Options, PhoneHash, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path(), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// let ada = PhoneHash::of_e164("+14155550100")?;
/// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
/// let report = index.fold()?;
/// assert_eq!((report.ranges, report.segments, report.folded), (1, 1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FoldReport {
    /// Ranges that were rewritten.
    pub ranges: usize,
    /// Segments they have now.
    pub segments: usize,
    /// Changes that went from the delta into segments.
    pub folded: usize,
    /// Removals forgotten because their retention has passed.
    pub forgotten: usize,
}

impl FoldReport {
    pub(super) const fn add(&mut self, other: Self) {
        self.ranges += other.ranges;
        self.segments += other.segments;
        self.folded += other.folded;
        self.forgotten += other.forgotten;
    }
}

/// The listings of a range, ready to be built.
struct Merged {
    /// Sorted by key, every listing once.
    entries: Vec<Entry>,
    /// Bits of the keys that every source knows.
    known_bits: u8,
    /// Removals that were forgotten.
    forgotten: usize,
    /// Tripwires that went because somebody has or had their number.
    shadowed: u64,
}

/// The range of a fold, the row of the log up to which it is folded, and the tripwires and removals that went by it.
struct Folded {
    range: KeyRange,
    folded_to: u64,
    shadowed: u64,
    forgotten: u64,
}

impl Index {
    /// Folds every range that has changes, or removals whose retention has passed. Lookups and updates go on
    /// meanwhile.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a segment is; [`Error::Io`] or [`Error::Database`] if the disk refuses. Ranges
    /// folded before stay folded.
    pub fn fold(&self) -> Result<FoldReport> {
        let mut report = FoldReport::default();
        let ranges: Vec<_> = self.inner.segments.load().slots().iter().map(|slot| slot.range).collect();
        for range in ranges {
            report.add(self.inner.fold_range(range)?);
        }
        // Also what an import left behind that put newer listings above all changes.
        self.inner.trim_log()?;
        Ok(report)
    }
}

impl Inner {
    /// Folds one range of the current map. Nothing happens if there is nothing to fold, or if the range was
    /// split meanwhile.
    pub(super) fn fold_range(&self, range: KeyRange) -> Result<FoldReport> {
        self.fold_locked(&self.structure.lock(), range)
    }

    /// [`Inner::fold_range`] for whoever has the lock already.
    pub(super) fn fold_locked(&self, _structure: &MutexGuard<'_, ()>, range: KeyRange) -> Result<FoldReport> {
        let map = self.segments.load_full();
        let Some(slot) = map.slots().iter().find(|slot| slot.range == range) else {
            return Ok(FoldReport::default());
        };
        let (changes, folded_to) = self.unfolded(range);
        if changes.is_empty() && !self.has_expired(slot)? {
            return Ok(FoldReport::default());
        }
        let folded: Vec<DeltaRef> =
            changes.iter().map(|c| (c.entry.key, c.entry.account, c.entry.stamp)).collect();
        let merged = self.merge(slot, changes)?;
        let (forgotten, shadowed) = (merged.forgotten, merged.shadowed);
        let rows = self.plan_segments(range, &merged.entries)?;
        let mut image = Buffer::zeroed(0)?;
        let rows = self.publish_all(rows, &merged.entries, merged.known_bits, &mut image)?;
        drop((image, merged));
        let new = self.open_published(&rows)?;
        let retired: Vec<u64> = slot.segment.iter().map(|segment| segment.generation()).collect();
        let of_fold = Folded { range, folded_to, shadowed, forgotten: forgotten as u64 };
        self.swap_folded(false, Some(of_fold), &retired, &rows, &new, |_| Ok(Vec::new()))?;
        self.hide_folded(&folded);
        self.trim_log()?;
        wait_for_readers(map);
        Ok(FoldReport { ranges: 1, segments: new.len(), folded: folded.len(), forgotten })
    }

    /// The changes of a range, and the row of the log up to which these are all there are.
    fn unfolded(&self, range: KeyRange) -> (Vec<Change>, u64) {
        // The writer's lock keeps the two together. Nobody waits to change the overlay, so no lookup waits either.
        let _writer = self.writer.lock();
        let mut changes: Vec<Change> = self.overlay.read().in_range(range).copied().collect();
        // What is expected of another node comes in segments of its own: until then its changes are in none.
        if let Some(shard) = self.shard().filter(|shard| shard.expects()) {
            changes.retain(|change| !shard.is_coming(change.entry.key));
        }
        (changes, self.store.log().last())
    }

    /// Takes changes out of the overlay that the segments hold now, some at a time, so that neither updates nor
    /// lookups wait long. Until then a change and its segment say the same.
    fn hide_folded(&self, folded: &[DeltaRef]) {
        for some in folded.chunks(HIDDEN_AT_ONCE) {
            let writer = self.writer.lock();
            self.drop_from_overlay(some);
            // Whoever waits is next, and not this loop again.
            MutexGuard::unlock_fair(writer);
        }
    }

    /// Removes the rows of the log that no range needs any more, some thousand in each transaction.
    pub(super) fn trim_log(&self) -> Result<()> {
        loop {
            let mut writer = self.writer.lock();
            writer.check()?;
            let trim_to = self.log_needed_from().saturating_sub(1);
            if !self.store.log().has_rows_to(trim_to) {
                return Ok(());
            }
            let mut next = writer.state.clone();
            next.ledger_commits = self.ledger.commits();
            let changes = Changes { trim_to, ..Changes::default() };
            writer.commit(next, |next| self.store.commit(&changes, next))?;
            MutexGuard::unlock_fair(writer);
        }
    }

    /// The first row of the log that may hold a change that counts. The writer is locked, so it stays so.
    fn log_needed_from(&self) -> u64 {
        let oldest = self.pinning_range().map(|(_, folded_to)| folded_to);
        oldest.unwrap_or_else(|| self.store.log().last()) + 1
    }

    /// Of the ranges with changes the one that keeps most of the log, and the row up to which it is folded.
    pub(super) fn pinning_range(&self) -> Option<(KeyRange, u64)> {
        let map = self.segments.load();
        let overlay = self.overlay.read();
        let log = self.store.log();
        let changed = map.slots().iter().map(|slot| slot.range).filter(|range| overlay.may_have(*range));
        changed.map(|range| (range, log.folded_to(range))).min_by_key(|(_, folded_to)| *folded_to)
    }

    /// Takes rows out of the overlay that were not changed since. The writer is locked all the while.
    pub(super) fn drop_from_overlay(&self, rows: &[DeltaRef]) {
        for some in rows.chunks(UNSHOWN_AT_ONCE) {
            let mut overlay = self.overlay.write();
            for (key, account, stamp) in some {
                overlay.drop_unchanged(*key, *account, *stamp);
                overlay.shrink(*key);
            }
            RwLockWriteGuard::unlock_fair(overlay);
        }
    }

    /// Has a range's segment removals that may be forgotten?
    pub(super) fn has_expired(&self, slot: &RangeSlot) -> Result<bool> {
        let Some(segment) = slot.segment.as_deref().filter(|s| s.segment().header().removed > 0) else {
            return Ok(false);
        };
        let (now_ms, era_s) = (self.clock.wall_ms(), segment.segment().header().era_s);
        let mut expired = false;
        segment.for_each(|entry| {
            let flags = entry.flags();
            expired |= flags.is_removed() && tombstone::expired(flags.era(), now_ms, era_s);
        })?;
        Ok(expired)
    }

    /// A range's segment with its changes above it, without removals that may be forgotten, and without
    /// tripwires of numbers that somebody has or had.
    fn merge(&self, slot: &RangeSlot, changes: Vec<Change>) -> Result<Merged> {
        let (mut entries, segment_bits) = self.entries_of(slot.segment.as_deref())?;
        let known_bits = changes.iter().map(|change| change.known_bits).fold(segment_bits, u8::min);
        entries.extend(changes.into_iter().map(|change| self.dated(change)));
        let shape = shape_for(slot.range, entries.len(), known_bits);
        // The changes come last and the sort is stable: of one listing the last is the newest.
        for entry in &mut entries {
            entry.key = mask_key(entry.key, shape.key_bits);
        }
        entries = sort_entries(entries, slot.range.bits());
        keep_last(&mut entries);
        // Before removals are forgotten: a number that was given back is in address books for long.
        let shadowed = drop_shadowed(&mut entries);
        let before = entries.len();
        let (now_ms, era_s) = (self.clock.wall_ms(), self.era_s());
        entries.retain(|e| !(e.flags().is_removed() && tombstone::expired(e.flags().era(), now_ms, era_s)));
        let forgotten = before - entries.len();
        Ok(Merged { entries, known_bits: shape.key_bits, forgotten, shadowed })
    }

    /// Every listing of a segment, removals dated in the eras of today's options, and the bits it knows.
    pub(super) fn entries_of(&self, segment: Option<&LiveSegment>) -> Result<(Vec<Entry>, u8)> {
        let Some(live) = segment else { return Ok((Vec::new(), 128)) };
        Ok((entries_of(live, self.clock.wall_ms(), self.era_s())?, live.segment().header().keys.key_bits))
    }

    /// The entry of a change; a removal gets the era of its time.
    pub(super) fn dated(&self, change: Change) -> Entry {
        dated(change, self.clock.wall_ms(), self.era_s())
    }

    pub(super) fn era_s(&self) -> u64 {
        self.options.era_s()
    }

    /// Manifest rows for the segments of a range: one, or as many as keep each within its size.
    pub(super) fn plan_segments(&self, range: KeyRange, entries: &[Entry]) -> Result<Vec<SegmentRow>> {
        let depth = depth_for(range, entries.len(), self.options.segment_listings);
        let mut rows = Vec::new();
        let mut rest = entries;
        for part in range.split_to(depth) {
            let (of_part, others) = rest.split_at(rest.partition_point(|entry| part.contains(entry.key)));
            rest = others;
            if !of_part.is_empty() {
                let (generation, entries) = (self.next_generation()?, of_part.len() as u64);
                rows.push(SegmentRow { generation, range: part, file_len: 0, entries, maker: None });
            }
        }
        Ok(rows)
    }

    /// A generation that no segment had before, durable with the transaction that uses it: a crash before it
    /// leaves only files that the next open removes.
    pub(super) fn next_generation(&self) -> Result<u64> {
        let mut writer = self.writer.lock();
        writer.check()?;
        let generation = writer.state.next_generation;
        writer.state.next_generation += 1;
        Ok(generation)
    }

    /// Builds and publishes the segments of a plan from its sorted listings, one after the other in the memory of
    /// `image`. Returns the plan with the lengths of their files.
    pub(super) fn publish_all(
        &self,
        mut rows: Vec<SegmentRow>,
        entries: &[Entry],
        known_bits: u8,
        image: &mut Buffer,
    ) -> Result<Vec<SegmentRow>> {
        let mut rest = entries;
        for row in &mut rows {
            let (entries, others) =
                rest.split_at(usize::try_from(row.entries).unwrap_or(usize::MAX).min(rest.len()));
            rest = others;
            self.publish(row, entries, known_bits, image)?;
        }
        Ok(rows)
    }

    /// Builds and publishes one segment, and notes the length of its file.
    fn publish(&self, row: &mut SegmentRow, entries: &[Entry], known_bits: u8, image: &mut Buffer) -> Result<()> {
        let index_id = self.index_id();
        let (generation, range, era_s) = (row.generation, row.range, self.era_s());
        let input = Input { index_id, generation, range, known_bits, era_s, entries };
        let image = build_into(&input, |len| image.reset(len).map(|()| image))?;
        row.file_len = image.as_ref().len() as u64;
        LiveSegment::publish((&self.options.disk, &self.dir), row, index_id, image)
    }

    /// Opens segments that were published for a plan, in no order.
    pub(super) fn open_published(&self, rows: &[SegmentRow]) -> Result<Vec<Arc<LiveSegment>>> {
        self.residency.check_room(store::bytes_of(rows))?;
        let (index_id, place) = (self.index_id(), (&self.options.disk, self.dir.as_path()));
        let new = Mutex::new(Vec::with_capacity(rows.len()));
        on_all_cores(rows, &|| false, |row| {
            let live = LiveSegment::open_verified(&self.residency, place, row, index_id)?;
            new.lock().push(Arc::new(live));
            Ok(())
        })?;
        Ok(new.into_inner())
    }

    pub(super) fn index_id(&self) -> [u8; 16] {
        self.writer.lock().state.index_id
    }

    /// [`Inner::swap_folded`] for an import, which is not about one range.
    pub(super) fn swap(
        &self,
        content_changes: bool,
        retired: &[u64],
        rows: &[SegmentRow],
        new: &[Arc<LiveSegment>],
        superseded: impl FnOnce(&SegmentMap) -> Result<Vec<DeltaRef>>,
    ) -> Result<()> {
        self.swap_folded(content_changes, None, retired, rows, new, superseded)
    }

    /// One transaction that swaps segments in the manifest; then the same in memory. A fold names its range and how
    /// far it is folded. `superseded` names changes that the new listings are newer than, while no update can add
    /// one.
    fn swap_folded(
        &self,
        content_changes: bool,
        folded: Option<Folded>,
        retired: &[u64],
        rows: &[SegmentRow],
        new: &[Arc<LiveSegment>],
        superseded: impl FnOnce(&SegmentMap) -> Result<Vec<DeltaRef>>,
    ) -> Result<()> {
        let mut writer = self.writer.lock();
        writer.check()?;
        let map = self.segments.load_full();
        let next_map = map.replaced(retired, new).ok_or(Error::Panicked { during: "swap segments" })?;
        let mut next = writer.state.clone();
        next.ledger_commits = self.ledger.commits();
        next.snapshot_version += u64::from(content_changes);
        if let Some(folded) = &folded {
            next.tripwires = next.tripwires.saturating_sub(folded.shadowed);
            next.forgotten = next.forgotten.saturating_add(folded.forgotten);
        }
        let folded = folded.map(|folded| (folded.range, folded.folded_to));
        let superseded = superseded(&next_map)?;
        // The range counts as folded up to a row that may have them.
        let put = folded.map_or_else(Vec::new, |(range, _)| self.coming_in(range));
        let (retire, publish, folded) = (retired, rows, folded.as_slice());
        let changes = Changes { put: &put, drop: &superseded, folded, retire, publish, ..Changes::default() };
        writer.commit(next, |next| self.store.commit(&changes, next))?;
        self.segments.store(Arc::new(next_map));
        self.reconsider_memory();
        // Segments first, so that a lookup never sees neither.
        self.drop_from_overlay(&superseded);
        drop(writer);
        self.remove_retired(&map, retired);
        Ok(())
    }

    /// Removes files that no manifest names any more; lookups that still hold them keep their mapping. What cannot
    /// be removed now is removed at the next open.
    pub(super) fn remove_retired(&self, map: &SegmentMap, retired: &[u64]) {
        for segment in map.live().filter(|segment| retired.contains(&segment.generation())) {
            if let Err(error) = self.options.disk.remove_file(segment.path()) {
                tracing::warn!(error = error.with_causes(), "a folded segment stays until the next open");
            }
        }
    }
}

/// Lets go of a map of segments once no lookup reads it, so that the last to do so, who gives back tens of megabytes
/// of memory and a file, is not a lookup. Whoever keeps one for long is not waited for.
pub(super) fn wait_for_readers(map: Arc<SegmentMap>) {
    let until = Instant::now() + LONGEST_READ;
    while Arc::strong_count(&map) > 1 && Instant::now() < until {
        thread::sleep(Duration::from_micros(200));
    }
}

/// Every listing of a segment, removals dated in these eras.
pub(super) fn entries_of(live: &LiveSegment, now_ms: u64, era_s: u64) -> Result<Vec<Entry>> {
    let header = live.segment().header();
    let from_era_s = header.era_s;
    let mut entries =
        Vec::with_capacity(usize::try_from(header.entries).unwrap_or(0).min(live.segment().len() / 24));
    live.for_each(|entry| entries.push(in_eras(entry, now_ms, from_era_s, era_s)))?;
    Ok(entries)
}

/// The same listing; a removal that was dated in other eras is dated in these.
pub(super) fn in_eras(mut entry: Entry, now_ms: u64, from_era_s: u64, era_s: u64) -> Entry {
    if entry.flags().is_removed() && from_era_s != era_s {
        let era = tombstone::convert(entry.flags().era(), now_ms, from_era_s, era_s);
        entry.stamp = Stamp::new(entry.version(), Flags::removed(era));
    }
    entry
}

/// The entry of a change; a removal gets the era of its time.
pub(super) fn dated(change: Change, now_ms: u64, era_s: u64) -> Entry {
    let entry = change.entry;
    if !entry.flags().is_removed() {
        return entry;
    }
    let era = tombstone::era_of_removal(change.removed_at_s.saturating_mul(1_000), now_ms, era_s);
    Entry::new(entry.key, entry.account, entry.version(), Flags::removed(era))
}

/// The depth at which parts of a range have at most `limit` listings each, keys being uniform.
pub(super) fn depth_for(range: KeyRange, entries: usize, limit: usize) -> u8 {
    let mut depth = range.bits();
    let mut most = entries;
    while most > limit && depth < MAX_RANGE_BITS {
        depth += 1;
        most = most.div_ceil(2);
    }
    depth
}

/// Drops tripwires of numbers that are somebody's, or were: the real listing wins. Entries are sorted by key. Returns how
/// many tripwires that were set went.
fn drop_shadowed(entries: &mut Vec<Entry>) -> u64 {
    let is_set = |entry: &Entry| entry.account == AccountId::RESERVED && !entry.flags().is_removed();
    if !entries.iter().any(is_set) {
        return 0;
    }
    let before = entries.len();
    let mut kept = Vec::with_capacity(before);
    for of_key in entries.chunk_by(|a, b| a.key == b.key) {
        let is_shadowed = of_key.iter().any(|entry| entry.account != AccountId::RESERVED);
        kept.extend(of_key.iter().filter(|entry| !(is_shadowed && is_set(entry))));
    }
    *entries = kept;
    (before - entries.len()) as u64
}

/// Of equal ids in a row, keeps the last.
fn keep_last(entries: &mut Vec<Entry>) {
    entries.dedup_by(|later, kept| {
        let same = later.id() == kept.id();
        if same {
            *kept = *later;
        }
        same
    });
}
