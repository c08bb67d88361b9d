//! A range into a folder: its segments as they are, and what is above them at one moment.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::super::segments::LiveSegment;
use super::super::{Index, Inner};
use crate::disk::{Disk, MappedFile};
use crate::segment::reader::Segment;
use crate::shards::{Export, ExportedFile, Hold, KeySpan};
use crate::store;
use crate::words::{Error, Result, ShardError};

/// Name of the manifest of an exported range.
pub(super) const NAME: &str = "range";

/// What an export did.
///
/// ```
/// use unlisted::{AccountId, Index, KeySpan, OptIns, Options, Ownership, PhoneHash, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path().join("a"), Options::new(Secret::from_hex(&"5e".repeat(32))?).node("a"))?;
/// index.begin_ownership(&Ownership::of_one("a")?)?;
/// index.update(|batch| {
///     batch.put(PhoneHash::of_e164("+14155550100")?, AccountId::from(42), OptIns::SEARCH, 1)?;
///     batch.watermark("offset 1")
/// })?;
/// let report = index.export_range(KeySpan::ALL, dir.path().join("export"), |here| here == Some(&b"offset 1"[..]))?;
/// assert_eq!((report.segments, report.watermark.as_deref()), (1, Some(&b"offset 1"[..])));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ExportReport {
    /// Segments of it.
    pub segments: usize,
    /// Of those, how many are one more name of a file of the index; the others were copied.
    pub linked: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Changes that are in no segment.
    pub changes: usize,
    /// Where the feed of the index stood.
    pub watermark: Option<Vec<u8>>,
}

/// A range at one moment.
struct Taken {
    export: Export,
    segments: Vec<Arc<LiveSegment>>,
}

impl Index {
    /// Writes a span that this node has into a folder of its own, as it is at one moment, for another node to take in. Lookups and
    /// updates go on; the node keeps the span and answers for it. Changes are folded first, so that few are left above the
    /// segments, which are linked where the file system can.
    ///
    /// `has_reached` is asked whether this node's feed is at or past the place that the next owner's
    /// [`Index::expect_range`] returned: what that one left out must be in the export. Only the host can compare places of
    /// its feed.
    ///
    /// The folder has what a stolen index would have of that span, and not the secret.
    ///
    /// # Errors
    /// [`ShardError::NotANode`], [`ShardError::NoRecord`]; [`ShardError::RangeNotHeld`]; [`ShardError::FeedBehind`] if
    /// `has_reached` says no; [`ShardError::ExportExists`], [`ShardError::NotAnExport`] for a folder that has something in it;
    /// [`Error::Damaged`], [`Error::Io`], [`Error::Database`], [`Error::Poisoned`]. A folder without its manifest is no export.
    pub fn export_range(
        &self,
        span: KeySpan,
        dir: impl AsRef<Path>,
        has_reached: impl FnOnce(Option<&[u8]>) -> bool,
    ) -> Result<ExportReport> {
        self.inner.export_range(span, dir.as_ref(), has_reached)
    }
}

impl Inner {
    fn export_range(
        &self,
        span: KeySpan,
        dir: &Path,
        has_reached: impl FnOnce(Option<&[u8]>) -> bool,
    ) -> Result<ExportReport> {
        let disk = &self.options.disk;
        let structure = self.structure.lock();
        self.check_has(span)?;
        prepare(disk, dir)?;
        let ranges: Vec<_> = self.segments.load().slots().iter().map(|slot| slot.range).collect();
        for range in ranges.into_iter().filter(|range| KeySpan::of_range(*range).overlaps(span)) {
            self.fold_locked(&structure, range)?;
        }
        self.align(&structure, span)?;
        let Taken { export, segments } = self.take(span, has_reached)?;

        let mut report = ExportReport {
            segments: segments.len(),
            changes: export.changes.len(),
            watermark: export.watermark.clone(),
            ..ExportReport::default()
        };
        for (number, segment) in segments.iter().enumerate() {
            let name = file_name(&export, number);
            report.bytes += segment.segment().len() as u64;
            if disk.link(segment.path(), &dir.join(&name))? {
                report.linked += 1;
            } else {
                copy(disk, segment, dir, &name)?;
            }
        }
        disk.sync_dir(dir)?;
        let bytes = export.seal(self.ring.shards());
        disk.publish_streamed(
            dir,
            NAME,
            |path, file| file.write_all(&bytes).map_err(Error::io("write", path)),
            |path, map: MappedFile| match map.as_ref() == bytes {
                true => Ok(()),
                false => Err(malformed(path.parent().unwrap_or(path), "the disk gave something else back")),
            },
        )?;
        Ok(report)
    }

    fn check_has(&self, span: KeySpan) -> Result<()> {
        let shard = self.node()?;
        shard.followed()?;
        if shard.holds.all(span, |hold| *hold == Hold::Complete) {
            return Ok(());
        }
        Err(ShardError::RangeNotHeld.into())
    }

    /// The moment: no fold is under way, and no update.
    fn take(&self, span: KeySpan, has_reached: impl FnOnce(Option<&[u8]>) -> bool) -> Result<Taken> {
        let writer = self.writer.lock();
        writer.check()?;
        // What another node has left out so far must be here.
        if !has_reached(writer.state.watermark.as_deref()) {
            return Err(ShardError::FeedBehind.into());
        }
        let fleet = self.node()?.followed()?.fleet();
        let overlay = self.overlay.read();
        let changes = span.ranges().into_iter().flat_map(|range| overlay.in_range(range)).copied().collect();
        let tripwires = if writer.state.tripwires > 0 { self.tripwires_in(span, &overlay)? } else { 0 };
        drop(overlay);
        let map = self.segments.load_full();
        let segments: Vec<_> = map
            .live()
            .filter(|segment| span.covers(KeySpan::of_range(segment.segment().header().keys.range)))
            .cloned()
            .collect();
        let files = segments.iter().map(|segment| exported(segment)).collect();
        let (check_value, watermark) = (self.ring.check_value(), writer.state.watermark.clone());
        Ok(Taken { export: Export { check_value, fleet, span, tripwires, watermark, files, changes }, segments })
    }
}

fn exported(segment: &LiveSegment) -> ExportedFile {
    let header = segment.segment().header();
    ExportedFile {
        range: header.keys.range,
        index_id: header.index_id,
        generation: header.generation,
        file_len: segment.segment().len() as u64,
        entries: header.entries,
        digest: segment.digest(),
    }
}

/// The name of a segment of an exported range: its range, and its place in the manifest.
pub(super) fn file_name(export: &Export, number: usize) -> String {
    let range = export.files.get(number).map(|file| file.range);
    range.map_or_else(String::new, |range| store::segment_file_name(range, number as u64 + 1))
}

/// A folder for an export: what one that did not end left there goes.
fn prepare(disk: &Disk, dir: &Path) -> Result<()> {
    disk.create_dir_all(dir)?;
    let names = disk.list(dir)?;
    if names.iter().any(|name| name == NAME) {
        return Err(ShardError::ExportExists { dir: dir.to_owned() }.into());
    }
    let is_ours =
        |name: &String| name.ends_with(".seg") || name.ends_with(".seg.tmp") || *name == format!("{NAME}.tmp");
    if !names.iter().all(is_ours) {
        return Err(ShardError::NotAnExport { dir: dir.to_owned() }.into());
    }
    names.iter().try_for_each(|name| disk.remove_file(&dir.join(name)))
}

/// Every page is checked before it is copied, and what the disk gives back.
fn copy(disk: &Disk, segment: &LiveSegment, dir: &Path, name: &str) -> Result<()> {
    segment.ask_for_all();
    segment.locate(Segment::verify_pages)?;
    disk.publish_streamed(
        dir,
        name,
        |path, file| file.write_all(segment.segment().bytes().as_ref()).map_err(Error::io("write", path)),
        |path, map| {
            let copy = Segment::open(map).map_err(|flaw| super::super::segments::flaw_at(path, flaw))?;
            copy.verify_pages().map_err(|flaw| super::super::segments::flaw_at(path, flaw))
        },
    )
}

pub(super) fn malformed(dir: &Path, reason: &'static str) -> Error {
    ShardError::ExportMalformed { dir: dir.to_owned(), reason }.into()
}
