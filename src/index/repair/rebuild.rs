//! One damaged segment: what can be had of its listings becomes its successor.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::super::segments::{FOLDER, LiveSegment};
use super::super::{backup, fold};
use super::{Damaged, QUARANTINE, RangeOutcome, Rebuilt, Repair, is_damage, is_same};
use crate::disk::{Buffer, Disk, MappedFile};
use crate::segment::builder::{Input, build_into, shape_for};
use crate::segment::keys::{KeyRange, mask_key};
use crate::segment::salvage::Lost;
use crate::segment::sort::sort_entries;
use crate::store::SegmentRow;
use crate::words::{Entry, Error, Result};

/// Listings from several places.
struct Gathered {
    entries: Vec<Entry>,
    known_bits: u8,
}

impl Gathered {
    fn add(&mut self, entries: impl IntoIterator<Item = Entry>, known_bits: u8) {
        self.entries.extend(entries);
        self.known_bits = self.known_bits.min(known_bits);
    }

    /// Sorted, of each listing the newest. A removal by an erasure has the version of what it removed, and wins.
    fn newest(mut self, range: KeyRange) -> (Vec<Entry>, u8) {
        let key_bits = shape_for(range, self.entries.len(), self.known_bits).key_bits;
        self.entries.iter_mut().for_each(|entry| entry.key = mask_key(entry.key, key_bits));
        let mut entries = sort_entries(self.entries, range.bits());
        let rank = |entry: &Entry| (entry.version(), entry.flags().is_removed());
        entries.dedup_by(|later, kept| {
            let same = later.id() == kept.id();
            if same && rank(later) > rank(kept) {
                *kept = *later;
            }
            same
        });
        (entries, key_bits)
    }
}

impl Repair<'_> {
    /// Publishes what takes the place of a damaged segment; no transaction names it yet.
    pub(super) fn rebuild(&mut self, damaged: &Damaged<'_>) -> Result<Rebuilt> {
        let (mut gathered, lost) = self.salvage(damaged)?;
        let read = gathered.entries.len() as u64;
        if !lost.is_nothing()
            && let Some(rebuilt) = self.put_back(damaged, &lost, read)?
        {
            return Ok(rebuilt);
        }
        let mut outcome = RangeOutcome::Whole;
        if !lost.is_nothing() {
            outcome = self.add_from_backup(damaged, &lost, &mut gathered)?;
            self.add_from_log(damaged, &lost, &mut gathered)?;
        }
        let (entries, known_bits) = gathered.newest(damaged.row.range);
        self.set_aside(&damaged.path)?;
        let published = self.publish(damaged.row.range, &entries, known_bits)?;
        let report = self.report(damaged, outcome, &lost, read, entries.len() as u64);
        Ok(Rebuilt { retired: Some(damaged.row.generation), published, report })
    }

    fn era_s(&self) -> u64 {
        self.options.era_s()
    }

    /// The listings that can still be read.
    fn salvage(&self, damaged: &Damaged<'_>) -> Result<(Gathered, Lost)> {
        let mut gathered = Gathered { entries: Vec::new(), known_bits: 128 };
        let Some(segment) = &damaged.segment else { return Ok((gathered, Lost::All(damaged.row.range))) };
        let (now_ms, era_s) = (self.options.clock.wall_ms(), self.era_s());
        let lost = segment.locate(|s| {
            let dated = |entry| fold::in_eras(entry, now_ms, s.header().era_s, era_s);
            Ok(s.salvage(|entry| gathered.entries.push(dated(entry))))
        })?;
        gathered.known_bits = segment.segment().header().keys.key_bits;
        Ok((gathered, lost))
    }

    /// If the backup has the very same segment, it comes back.
    fn put_back(&self, damaged: &Damaged<'_>, lost: &Lost, read: u64) -> Result<Option<Rebuilt>> {
        let Some(source) = &self.source else { return Ok(None) };
        let Some(file) = source.file(damaged.row).filter(|file| is_same(damaged, file)) else { return Ok(None) };
        let path = source.path(file);
        let whole = MappedFile::copy(&Disk::Real, &path).and_then(|map| {
            backup::check_segment(&path, map, file)?;
            // Also that it is what the manifest of the index says.
            LiveSegment::read(&path, damaged.row, self.state.index_id)
        });
        let segment = match whole {
            Ok(segment) => segment,
            Err(error) if is_damage(&error) => {
                tracing::warn!(error = error.with_causes(), "the segment in the backup is damaged too");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.set_aside(&damaged.path)?;
        Disk::Real.publish_streamed(
            &self.dir.join(FOLDER),
            &damaged.row.file_name(),
            |path, to| to.write_all(segment.segment().bytes().as_ref()).map_err(Error::io("write", path)),
            |path, map| backup::check_segment(path, map, file),
        )?;
        let report = self.report(damaged, RangeOutcome::Whole, lost, read, damaged.row.entries);
        Ok(Some(Rebuilt { retired: None, published: None, report }))
    }

    fn add_from_backup(&self, damaged: &Damaged<'_>, lost: &Lost, to: &mut Gathered) -> Result<RangeOutcome> {
        let Some(source) = &self.source else { return Ok(RangeOutcome::Lost) };
        match source.listings(damaged.row.range, lost, self.options.clock.wall_ms(), self.era_s()) {
            Ok((entries, known_bits)) => {
                to.add(entries, known_bits);
                Ok(RangeOutcome::FromBackup)
            }
            Err(error) if is_damage(&error) || matches!(error, Error::BackupIncomplete { .. }) => {
                tracing::warn!(error = error.with_causes(), "the backup is damaged where it is needed");
                Ok(RangeOutcome::Lost)
            }
            Err(error) => Err(error),
        }
    }

    /// Rows stay in the log until no range needs them, so it may still have changes that were folded.
    fn add_from_log(&mut self, damaged: &Damaged<'_>, lost: &Lost, to: &mut Gathered) -> Result<()> {
        let (now_ms, era_s) = (self.options.clock.wall_ms(), self.era_s());
        let log = match self.log.take() {
            Some(log) => log,
            None => self.store.replay_all()?,
        };
        let of_range = log.in_range(damaged.row.range).filter(|change| lost.may_have(change.entry.key));
        of_range.for_each(|change| to.add([fold::dated(*change, now_ms, era_s)], change.known_bits));
        self.log = Some(log);
        Ok(())
    }

    fn publish(&self, range: KeyRange, entries: &[Entry], known_bits: u8) -> Result<Option<SegmentRow>> {
        if entries.is_empty() {
            return Ok(None);
        }
        let (generation, index_id) = (self.next_generation(), self.state.index_id);
        let input = Input { index_id, generation, range, known_bits, era_s: self.era_s(), entries };
        let mut image = build_into(&input, Buffer::zeroed)?;
        let file_len = image.as_ref().len() as u64;
        let row = SegmentRow { generation, range, file_len, entries: entries.len() as u64, maker: None };
        LiveSegment::publish((&Disk::Real, self.dir), &row, index_id, &mut image)?;
        Ok(Some(row))
    }

    /// Gives a damaged file one more name in `quarantine/`; where that cannot be, it is moved.
    fn set_aside(&self, path: &Path) -> Result<()> {
        let Some(name) = path.file_name().filter(|_| path.exists()) else { return Ok(()) };
        let folder = self.dir.join(QUARANTINE);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let mut to = folder.join(name);
        let mut again = 1;
        while to.exists() {
            again += 1;
            to = folder.join(format!("{}.{again}", name.to_string_lossy()));
        }
        if !Disk::Real.link(path, &to)? {
            return Disk::Real.rename(path, &to);
        }
        Disk::Real.sync_dir(&folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{AccountId, Flags, Key, OptIns, Version};

    #[test]
    fn of_a_listing_the_newest_stays_and_a_removal_wins_a_tie() {
        let entry = |key: u128, version, flags| {
            Entry::new(Key::from_u128(key << 64), AccountId::from(1), Version::new(version).unwrap(), flags)
        };
        let live = Flags::live(OptIns::SEARCH);
        let mut gathered = Gathered { entries: Vec::new(), known_bits: 128 };
        gathered.add([entry(1, 5, live), entry(2, 7, Flags::removed(3)), entry(3, 1, live)], 128);
        gathered.add([entry(1, 4, Flags::live(OptIns::empty())), entry(2, 7, live), entry(3, 2, live)], 128);
        let (entries, _) = gathered.newest(KeyRange::ALL);
        assert_eq!(entries, [entry(1, 5, live), entry(2, 7, Flags::removed(3)), entry(3, 2, live)]);
    }
}
