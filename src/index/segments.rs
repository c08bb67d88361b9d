//! The live segments, found by key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::memory::{Presence, Residency};
use crate::disk::{Buffer, Disk, MappedFile};
use crate::segment::Flaw;
use crate::segment::keys::KeyRange;
use crate::segment::layout::PAGE_LEN;
use crate::segment::reader::Segment;
use crate::store::{Maker, SegmentRow};
use crate::words::{Damage, Entry, Error, Key, Result};

/// Folder of segment files in the directory of an index.
pub(super) const FOLDER: &str = "segments";

/// A segment with the file it came from.
#[derive(Debug)]
pub(super) struct LiveSegment {
    segment: Segment<MappedFile>,
    /// Its generation in this index, and which index made it if another did.
    generation: u64,
    maker: Option<Maker>,
    path: PathBuf,
    presence: Presence,
}

impl LiveSegment {
    /// Maps and checks the file of a manifest row, or reads and checks all of it.
    pub(super) fn open(
        residency: &Residency,
        (disk, dir): (&Disk, &Path),
        row: &SegmentRow,
        index_id: [u8; 16],
    ) -> Result<Self> {
        let path = dir.join(FOLDER).join(row.file_name());
        if residency.is_resident() {
            let live = Self::check(&path, MappedFile::copy(disk, &path)?, row, index_id, true)?;
            live.locate(Segment::verify_pages)?;
            return Ok(live);
        }
        let file = MappedFile::open_sparse(disk, &path)?;
        let len = file.as_ref().len();
        // Before anything is touched: a disk that reads ahead megabytes made an open of 64 segments take two seconds.
        file.expect_random(0..len);
        // What the check reads: the header, and the page checksums, which are the last 513th of the file.
        file.ask(0..PAGE_LEN);
        file.ask(len.saturating_sub(len / 512 + PAGE_LEN)..len);
        Self::check(&path, file, row, index_id, false)
    }

    fn check(
        path: &Path,
        file: MappedFile,
        row: &SegmentRow,
        index_id: [u8; 16],
        in_memory: bool,
    ) -> Result<Self> {
        let segment = open_as(path, file, row, index_id)?;
        let presence = Presence::new(segment.len(), in_memory);
        let (generation, maker) = (row.generation, row.maker);
        Ok(Self { segment, generation, maker, path: path.to_owned(), presence })
    }

    /// Writes a new segment, verifies what the disk gives back, and makes it appear. None of it is in the page cache
    /// then: [`LiveSegment::open_verified`] brings there what is wanted.
    pub(super) fn publish(
        (disk, dir): (&Disk, &Path),
        row: &SegmentRow,
        index_id: [u8; 16],
        image: &mut Buffer,
    ) -> Result<()> {
        disk.publish(&dir.join(FOLDER), &row.file_name(), image, |path, read| {
            let segment = open_as(path, read, row, index_id)?;
            segment.verify_pages().map_err(|flaw| flaw_at(path, flaw))
        })
    }

    /// Opens a segment that this process has just published.
    pub(super) fn open_verified(
        residency: &Residency,
        place: (&Disk, &Path),
        row: &SegmentRow,
        index_id: [u8; 16],
    ) -> Result<Self> {
        let live = Self::open(residency, place, row, index_id)?;
        live.segment.trust_pages();
        residency.settle(&live)?;
        Ok(live)
    }

    /// [`LiveSegment::open`] of some file, read whole: a place that the disk cannot read is an error then, and no signal.
    pub(super) fn read(path: &Path, row: &SegmentRow, index_id: [u8; 16]) -> Result<Self> {
        Self::check(path, MappedFile::copy(&Disk::Real, path)?, row, index_id, true)
    }

    /// Its row in the manifest.
    pub(super) fn manifest_row(&self) -> SegmentRow {
        let header = self.segment.header();
        let (range, entries) = (header.keys.range, header.entries);
        let (generation, maker) = (self.generation, self.maker);
        SegmentRow { generation, range, file_len: self.segment.len() as u64, entries, maker }
    }

    /// Runs `work`, and adds the path to what it finds wrong.
    #[inline(always)]
    pub(super) fn locate<T>(&self, work: impl FnOnce(&Segment<MappedFile>) -> Result<T, Flaw>) -> Result<T> {
        work(&self.segment).map_err(|flaw| self.located(flaw))
    }

    /// What is wrong, with the path.
    #[cold]
    pub(super) fn located(&self, flaw: Flaw) -> Error {
        flaw_at(&self.path, flaw)
    }

    pub(super) const fn segment(&self) -> &Segment<MappedFile> {
        &self.segment
    }

    /// Every listing: the file is read from begin to end, however a lookup would read it.
    pub(super) fn for_each(&self, each: impl FnMut(Entry)) -> Result<()> {
        self.ask_for_all();
        self.locate(|segment| segment.for_each(each))
    }

    pub(super) const fn presence(&self) -> &Presence {
        &self.presence
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }
}

/// The segment that a row of the manifest means, and no other one.
fn open_as<B: AsRef<[u8]>>(path: &Path, bytes: B, row: &SegmentRow, index_id: [u8; 16]) -> Result<Segment<B>> {
    let segment = Segment::open(bytes).map_err(|flaw| flaw_at(path, flaw))?;
    let header = segment.header();
    let own = Maker { index_id, generation: row.generation };
    let Maker { index_id, generation } = row.maker.unwrap_or(own);
    let same = [
        ("the index id", header.index_id == index_id),
        ("the generation", header.generation == generation),
        ("the key range", header.keys.range == row.range),
        ("the length", segment.len() as u64 == row.file_len),
        ("the number of listings", header.entries == row.entries),
    ];
    match same.into_iter().find(|(_, same)| !same) {
        Some((field, _)) => {
            let what = Damage::NotInManifest { field };
            Err(Error::Damaged { path: path.to_owned(), offset: 0, what })
        }
        None => Ok(segment),
    }
}

#[cold]
pub(super) fn flaw_at(path: &Path, flaw: Flaw) -> Error {
    let path = path.to_owned();
    match flaw {
        Flaw::Foreign => Error::ForeignFormat { path, expected: "an unlisted segment" },
        Flaw::Newer { found } => {
            Error::NewerFormat { path, found, supported: crate::segment::layout::FORMAT_VERSION }
        }
        Flaw::Damaged { offset, what } => Error::Damaged { path, offset, what },
    }
}

/// One range of keys and its segment, if it has any listing.
#[derive(Debug, Clone)]
pub(super) struct RangeSlot {
    pub(super) range: KeyRange,
    pub(super) segment: Option<Arc<LiveSegment>>,
}

/// Ranges that cover all keys without overlap, in order.
#[derive(Debug)]
pub(super) struct SegmentMap {
    slots: Vec<RangeSlot>,
    /// Bits of a key that decide its range.
    depth: u8,
    /// Those bits to the segment itself: what a lookup goes through for every key.
    live: Vec<Option<Arc<LiveSegment>>>,
}

impl SegmentMap {
    /// A map of these segments; what no segment covers is covered by empty ranges. `None` if two overlap.
    pub(super) fn new(segments: Vec<Arc<LiveSegment>>) -> Option<Self> {
        let mut live: Vec<_> = segments
            .into_iter()
            .map(|segment| RangeSlot { range: segment.segment.header().keys.range, segment: Some(segment) })
            .collect();
        live.sort_by_key(|slot| slot.range);
        let mut slots = Vec::with_capacity(live.len());
        let mut rest = live.as_slice();
        fill(KeyRange::ALL, &mut rest, &mut slots);
        if !rest.is_empty() {
            return None;
        }
        let depth = slots.iter().map(|slot| slot.range.bits()).max().unwrap_or(0);
        let mut live = Vec::with_capacity(1 << depth);
        for slot in &slots {
            live.resize(live.len() + (1 << (depth - slot.range.bits())), slot.segment.clone());
        }
        Some(Self { slots, depth, live })
    }

    #[inline(always)]
    const fn prefix(&self, key: Key) -> usize {
        // Two shifts, since one by 64 is none.
        (key.hi >> 1 >> (63 - self.depth)) as usize
    }

    /// The segment of a key's range, if the range has any listing.
    #[inline(always)]
    pub(super) fn of(&self, key: Key) -> Option<&LiveSegment> {
        self.live.get(self.prefix(key)).and_then(Option::as_deref)
    }

    pub(super) fn slots(&self) -> &[RangeSlot] {
        &self.slots
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &Arc<LiveSegment>> {
        self.slots.iter().filter_map(|slot| slot.segment.as_ref())
    }

    /// A map with some segments gone and others come.
    pub(super) fn replaced(&self, retired: &[u64], new: &[Arc<LiveSegment>]) -> Option<Self> {
        let kept = self.live().filter(|segment| !retired.contains(&segment.generation())).cloned();
        Self::new(kept.chain(new.iter().cloned()).collect())
    }
}

/// Covers `range` with the sorted segments that begin in it, and with empty ranges where there are none.
fn fill(range: KeyRange, rest: &mut &[RangeSlot], slots: &mut Vec<RangeSlot>) {
    match rest.split_first() {
        Some((first, others)) if first.range == range => {
            slots.push(first.clone());
            *rest = others;
        }
        Some((first, _)) if range.covers(first.range) => {
            for half in range.split_to(range.bits() + 1) {
                fill(half, rest, slots);
            }
        }
        _ => slots.push(RangeSlot { range, segment: None }),
    }
}
