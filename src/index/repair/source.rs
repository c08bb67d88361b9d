//! A backup as what a repair takes listings from.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::super::backup::{self, FileRow, Kind, Manifest};
use super::super::segments::LiveSegment;
use super::super::temporary::TemporaryFolder;
use super::super::verify::{VerifyDepth, verify_segment};
use super::super::{Options, fold};
use super::FOLDER_PREFIX;
use crate::disk::Disk;
use crate::overlay::Overlay;
use crate::segment::keys::KeyRange;
use crate::segment::salvage::Lost;
use crate::store::{self, SegmentRow, State, Store};
use crate::words::{Damage, Entry, Error, Result};

/// The listings of a backup: its segments with the changes above them.
pub(super) struct Source {
    dir: PathBuf,
    manifest: Manifest,
    rows: Vec<SegmentRow>,
    overlay: Overlay,
}

impl Source {
    /// Reads the database of a backup of this index. It is copied first: an open writes.
    pub(super) fn open(from: &Path, dir: &Path, state: &State, options: &Options) -> Result<Self> {
        let manifest =
            backup::read_manifest(&Disk::Real, from)?.ok_or_else(|| Error::NotABackup { dir: from.to_owned() })?;
        let path = from.join(backup::MANIFEST_NAME);
        if manifest.index_id != state.index_id {
            return Err(Error::BackupForeign { path });
        }
        if (manifest.epoch, manifest.snapshot_version) > (state.epoch, state.snapshot_version)
            || manifest.snapshot_version > state.snapshot_version
        {
            let (found, expected) = (manifest.snapshot_version, state.snapshot_version);
            return Err(Error::BackupNewer { path, found, expected });
        }
        let folder = TemporaryFolder::create(&Disk::Real, dir, FOLDER_PREFIX)?;
        if let Some(row) = manifest.files.iter().find(|file| file.kind == Kind::Index) {
            copy(from, row, &folder.path().join(store::FILE_NAME))?;
        }
        let (store, _, overlay) = Store::open(folder.path(), &options.index_database())?;
        let rows = store.manifest()?;
        drop(store);
        folder.remove()?;
        Ok(Self { dir: from.to_owned(), manifest, rows, overlay })
    }

    pub(super) fn watermark(&self) -> Option<Vec<u8>> {
        self.manifest.watermark.clone()
    }

    pub(super) const fn snapshot_version(&self) -> u64 {
        self.manifest.snapshot_version
    }

    pub(super) fn file(&self, row: &SegmentRow) -> Option<&FileRow> {
        let name = row.file_name();
        self.manifest.files.iter().find(|file| file.kind == Kind::Segment && file.name == name)
    }

    pub(super) fn path(&self, file: &FileRow) -> PathBuf {
        self.dir.join(file.stored_path())
    }

    /// Every listing of the range that may be among the lost ones, and the bits of keys that all sources know.
    ///
    /// # Errors
    /// If a segment of the backup is damaged too: as a link it is the same file.
    pub(super) fn listings(
        &self,
        range: KeyRange,
        lost: &Lost,
        now_ms: u64,
        era_s: u64,
    ) -> Result<(Vec<Entry>, u8)> {
        let (mut entries, mut known_bits) = (Vec::new(), 128);
        let overlaps = |row: &&SegmentRow| row.range.covers(range) || range.covers(row.range);
        for row in self.rows.iter().filter(overlaps) {
            let file =
                self.file(row).ok_or_else(|| Error::BackupIncomplete { path: self.dir.join(row.file_name()) })?;
            let segment = LiveSegment::read(&self.path(file), row, self.manifest.index_id)?;
            verify_segment(&segment, VerifyDepth::Full)?;
            known_bits = known_bits.min(segment.segment().header().keys.key_bits);
            let of_range = fold::entries_of(&segment, now_ms, era_s)?;
            entries.extend(
                of_range.into_iter().filter(|entry| range.contains(entry.key) && lost.may_have(entry.key)),
            );
        }
        for change in self.overlay.in_range(range).filter(|change| lost.may_have(change.entry.key)) {
            known_bits = known_bits.min(change.known_bits);
            entries.push(fold::dated(*change, now_ms, era_s));
        }
        Ok((entries, known_bits))
    }
}

fn copy(from: &Path, row: &FileRow, to: &Path) -> Result<()> {
    let path = from.join(row.stored_path());
    let mut file = File::open(&path).map_err(Error::io("open", &path))?;
    let copied = Disk::Real.copy_to(&mut file, &path, row.len, to)?;
    if (copied.len, copied.digest) != (row.len, row.digest) {
        return Err(Error::Damaged { path, offset: 0, what: Damage::Checksum { of: "the file" } });
    }
    Ok(())
}
