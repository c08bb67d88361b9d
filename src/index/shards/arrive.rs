//! An exported range becomes a part of another index: files verified and in their places, then one transaction.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::super::segments::{FOLDER, LiveSegment, SegmentMap};
use super::super::{Index, Inner};
use super::export::{NAME, file_name, malformed};
use super::moves::RangeReport;
use crate::ledger::RedbLedger;
use crate::overlay::{Change, Overlay};
use crate::segment::keys::mask_key;
use crate::segment::reader::Segment;
use crate::shards::{BadExport, Export, ExportedFile, Hold};
use crate::store::{self, Changes, DeltaRef, Maker, SegmentRow};
use crate::words::{Damage, Error, Result, ShardError, Stamp};

/// Longer than any manifest: a billion changes.
const MAX_LEN: u64 = 1 << 36;

/// What becomes of changes when both sides have some of a listing.
#[derive(Default)]
struct Merged {
    /// Changes that came and are newer than those that were kept here.
    put: Vec<Change>,
    /// Changes that were kept here and are not newer than what came.
    drop: Vec<DeltaRef>,
}

impl Index {
    /// Takes in a range that another node exported and that this one expects. Every page of every segment is verified and in its
    /// place, linked or copied, before one transaction makes all of it this node's, with what was kept of the feed since above
    /// it. A crash before leaves nothing; it can be repeated. The folder stays as it is.
    ///
    /// This node answers for the span once it owns it by the record that it follows.
    ///
    /// # Errors
    /// [`ShardError::NotAnExport`], [`ShardError::ExportMalformed`], [`ShardError::ExportForeign`];
    /// [`ShardError::RangeNotExpected`], [`ShardError::ErasedMeanwhile`]; [`Error::Damaged`] and its kin for a segment that is not what
    /// the manifest says; [`Error::SizeLimit`], [`Error::NotEnoughMemory`], [`Error::Io`], [`Error::Database`],
    /// [`Error::Poisoned`].
    pub fn import_range(&self, dir: impl AsRef<Path>) -> Result<RangeReport> {
        self.inner.import_range(dir.as_ref())
    }
}

impl Inner {
    fn import_range(&self, dir: &Path) -> Result<RangeReport> {
        let export = self.read_export(dir)?;
        self.check_size()?;
        let structure = self.structure.lock();
        self.check_expected(&export)?;
        self.align(&structure, export.span)?;
        let mut rows = Vec::with_capacity(export.files.len());
        let placed = self.place_all(dir, &export, &mut rows);
        let new = placed.and_then(|()| self.open_published(&rows)).inspect_err(|_| {
            // No transaction names them. What cannot be removed now is removed at the next open.
            for row in &rows {
                let _ = self.options.disk.remove_file(&self.dir.join(FOLDER).join(row.file_name()));
            }
        })?;
        let changes = self.adopt(&export, &rows, &new)?;
        self.wake.wake();
        Ok(RangeReport { segments: rows.len(), bytes: store::bytes_of(&rows), changes })
    }

    fn read_export(&self, dir: &Path) -> Result<Export> {
        let disk = &self.options.disk;
        let path = dir.join(NAME);
        if !disk.exists(&path)? {
            return Err(ShardError::NotAnExport { dir: dir.to_owned() }.into());
        }
        let mut bytes = Vec::new();
        disk.open(&path)?.take(MAX_LEN).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        let foreign = || Error::from(ShardError::ExportForeign { dir: dir.to_owned() });
        let opened = Export::open(&bytes, self.ring.check_value(), self.ring.shards());
        let export = opened.map_err(|bad| match bad {
            BadExport::Foreign => foreign(),
            BadExport::Malformed(reason) => malformed(dir, reason),
        })?;
        if self.node()?.followed()?.fleet() != export.fleet {
            return Err(foreign());
        }
        Ok(export)
    }

    fn check_expected(&self, export: &Export) -> Result<(), ShardError> {
        let shard = self.node()?;
        if shard.holds.any(export.span, |hold| *hold == Hold::Spoiled) {
            return Err(ShardError::ErasedMeanwhile);
        }
        if shard.holds.all(export.span, |hold| *hold == Hold::Expected) {
            return Ok(());
        }
        Err(ShardError::RangeNotExpected)
    }

    /// Gives every file of the export its place, and its row among `rows`.
    fn place_all(&self, dir: &Path, export: &Export, rows: &mut Vec<SegmentRow>) -> Result<()> {
        for (number, file) in export.files.iter().enumerate() {
            let generation = self.next_generation()?;
            let ExportedFile { range, index_id, generation: made_as, file_len, entries, .. } = *file;
            let maker = Some(Maker { index_id, generation: made_as });
            let row = SegmentRow { generation, range, file_len, entries, maker };
            rows.push(row.clone());
            self.place(&dir.join(file_name(export, number)), &row, file)?;
        }
        self.options.disk.sync_dir(&self.dir.join(FOLDER))
    }

    /// Gives a file of the export its place among the segments, verified. No transaction names it yet.
    fn place(&self, from: &Path, row: &SegmentRow, file: &ExportedFile) -> Result<()> {
        let disk = &self.options.disk;
        let to = self.dir.join(FOLDER).join(row.file_name());
        if disk.link(from, &to)? {
            // Whoever brought it here may not have made it durable.
            disk.open(&to)?.sync_all().map_err(Error::io("sync", &to))?;
        } else {
            let temporary = self.dir.join(FOLDER).join(format!("{}.tmp", row.file_name()));
            disk.copy_to(&mut disk.open(from)?, from, file.file_len, &temporary)?;
            disk.rename(&temporary, &to)?;
        }
        let live = LiveSegment::open(&self.residency, (disk, &self.dir), row, self.index_id())?;
        live.ask_for_all();
        live.locate(Segment::verify_pages)?;
        if live.digest() != file.digest {
            let what = Damage::NotInManifest { field: "the header or the footer" };
            return Err(Error::Damaged { path: from.to_owned(), offset: 0, what });
        }
        Ok(())
    }

    /// One transaction; then the same in memory, and only then is anybody answered for it. Returns the changes above the segments.
    fn adopt(&self, export: &Export, rows: &[SegmentRow], new: &[Arc<LiveSegment>]) -> Result<usize> {
        let mut writer = self.writer.lock();
        writer.check()?;
        // An erasure may have come while files were placed.
        self.check_expected(export)?;
        let map = self.segments.load_full();
        let next_map = map.replaced(&[], new).ok_or(Error::Panicked { during: "take a range in" })?;
        let span = export.span;
        let shard = self.node()?.with(span, Hold::Complete);
        let (merged, kept_tripwires) = {
            let overlay = self.overlay.read();
            (merge(export, &overlay, &next_map)?, self.tripwires_in(span, &overlay)?)
        };
        let mut next = writer.state.clone();
        next.ledger_commits = self.ledger.commits();
        next.snapshot_version += 1;
        next.tripwires = next.tripwires.saturating_sub(kept_tripwires).saturating_add(export.tripwires);
        let changes = Changes {
            put: &merged.put,
            drop: &merged.drop,
            publish: rows,
            shard: Some(&shard),
            ..Changes::default()
        };
        writer.commit(next, |next| self.store.commit(&changes, next))?;
        RedbLedger::note_index_version(&self.ledger, writer.state.snapshot_version);
        self.segments.store(next_map.into());
        self.reconsider_memory();
        self.drop_from_overlay(&merged.drop);
        let mut overlay = self.overlay.write();
        for change in &merged.put {
            overlay.set(*change);
        }
        let above = span.ranges().into_iter().map(|range| overlay.in_range(range).count()).sum();
        drop(overlay);
        self.shard.store(Some(shard.into()));
        Ok(above)
    }
}

/// Whether what was kept of a listing here is to stay above what came. Of two changes of one version the first in the feed counts, and
/// the node that exported saw no other before: of what it has, it had all of the feed, and what was kept here began later. An
/// erasure, which has the version of what it removes, is no exception: one that was heard of here refused the export.
fn is_kept_newer(kept: Stamp, came: Stamp) -> bool {
    kept.version() > came.version()
}

/// Compares what came with what was kept of the span.
fn merge(export: &Export, overlay: &Overlay, map: &SegmentMap) -> Result<Merged> {
    let kept: Vec<Change> =
        export.span.ranges().into_iter().flat_map(|range| overlay.in_range(range)).copied().collect();
    let mut merged = Merged::default();
    for change in &export.changes {
        match kept_of(&kept, overlay, change) {
            Some(kept) if kept.entry.stamp == change.entry.stamp => {}
            Some(kept) if is_kept_newer(kept.entry.stamp, change.entry.stamp) => {}
            Some(kept) => {
                merged.drop.push((kept.entry.key, kept.entry.account, kept.entry.stamp));
                merged.put.push(*change);
            }
            None => merged.put.push(*change),
        }
    }
    for change in &kept {
        let entry = change.entry;
        let Some(segment) = map.of(entry.key) else { continue };
        let mut is_outdated = false;
        segment.locate(|s| {
            s.probe(entry.key, |account, stamp| {
                is_outdated |= account == entry.account && !is_kept_newer(entry.stamp, stamp);
            })
        })?;
        if is_outdated {
            merged.drop.push((entry.key, entry.account, entry.stamp));
        }
    }
    Ok(merged)
}

/// What was kept of the listing that a change is of. A change of an erasure may know a part of its key only.
fn kept_of<'a>(kept: &'a [Change], overlay: &'a Overlay, change: &Change) -> Option<&'a Change> {
    let (key, account) = change.entry.id();
    if change.known_bits >= 128 {
        return overlay.get(key, account);
    }
    kept.iter().find(|kept| kept.entry.account == account && mask_key(kept.entry.key, change.known_bits) == key)
}
