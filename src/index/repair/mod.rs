//! Repair: damaged segments are put aside, and others take their place, made of what can be read of them, of a backup and of
//! the log.
//!
//! It works on a directory that does not open. Only segments are repaired; of damaged databases a backup is restored.

mod rebuild;
mod source;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::backup::FileRow;
use super::segments::{FOLDER, LiveSegment};
use super::verify::{VerifyDepth, verify_segment};
use super::{Index, Options, temporary};
use crate::disk::{DirLock, Disk};
use crate::overlay::Overlay;
use crate::segment::salvage::Lost;
use crate::store::{self, Changes, SegmentRow, State, Store};
use crate::words::{Error, KeyRing, Result};

use source::Source;

/// Folders of a database of a backup begin with this.
pub(super) const FOLDER_PREFIX: &str = ".unlisted-repair-";
/// Where damaged files go, in the directory of the index.
const QUARANTINE: &str = "quarantine";

/// What became of a range whose segment was damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum RangeOutcome {
    /// Everything is there again: only the filter was damaged, or the backup had the very same segment.
    Whole,
    /// The listings that could not be read are as they were in the backup. What changed since is lost for them.
    FromBackup,
    /// The listings that could not be read are gone.
    Lost,
}

/// A range of keys whose segment was damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RepairedRange {
    /// The damaged file, as it was named in `segments/`. It is in `quarantine/` now, unless it was missing.
    pub file: String,
    /// What was wrong with it.
    pub cause: String,
    /// What became of it.
    pub outcome: RangeOutcome,
    /// The keys whose listings could not be read: the first eight bytes, as a number, of the first key and of the last of
    /// each span. Keys are what the secret makes of hashes.
    pub affected: Vec<(u64, u64)>,
    /// Listings that were stored in the range, removed ones included, as the manifest of the index says.
    pub listings_before: u64,
    /// Listings that could still be read in the damaged file.
    pub listings_read: u64,
    /// Listings that are stored now.
    pub listings: u64,
}

/// What a repair found and did.
///
/// ```
/// use unlisted::{Index, Options, Secret};
/// let dir = tempfile::tempdir()?;
/// let options = || Ok::<_, unlisted::Error>(Options::new(Secret::from_hex(&"5e".repeat(32))?));
/// drop(Index::open(dir.path(), options()?)?);
/// let report = Index::repair(dir.path(), options()?, None)?;
/// assert!(report.ranges.is_empty() && !report.is_replay_needed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RepairReport {
    /// Segments that were checked.
    pub segments: usize,
    /// Those that were damaged or missing.
    pub ranges: Vec<RepairedRange>,
    /// The snapshot version that the backup is of, if one was given.
    pub backup_version: Option<u64>,
    /// Are changes lost? Then the host's feed has to be replayed from [`RepairReport::watermark`] before lookups are
    /// served: until then accounts may be found that opted out since.
    pub is_replay_needed: bool,
    /// Where the index says now that the feed stands: if changes are lost, where it stood when the backup was made, or nowhere,
    /// which means from the beginning.
    pub watermark: Option<Vec<u8>>,
    /// Where it stood before.
    pub watermark_before: Option<Vec<u8>>,
}

impl Index {
    /// Repairs an index whose segments are damaged or missing, also one that does not open. Nobody may have it open.
    ///
    /// Every segment is read and checked. A damaged one goes to `quarantine/`. Its successor has every listing that can still be
    /// read there; what cannot comes from the backup, if one is given, and from changes that the log still has. Changes
    /// newer than the segment are in the log, not in the segment: they stay above it as before, opt-outs too. What is lost is
    /// what was folded since the backup, or ever, of the keys in [`RepairedRange::affected`]. Then the index's watermark goes back to
    /// where a replay of the host's feed has to begin; a replay is harmless for all else, because versions only grow.
    ///
    /// # Errors
    /// [`Error::NotAnIndex`], [`Error::InUse`], [`Error::WrongSecret`]; [`Error::BackupForeign`] or
    /// [`Error::BackupNewer`] for a backup of another index or another copy, [`Error::NotABackup`] and its kin for one
    /// that is none; [`Error::Database`] or [`Error::DamagedRow`] if `index.redb` is damaged too: restore a backup then;
    /// [`Error::NewerFormat`] for a segment of a later version.
    ///
    /// ```
    /// use unlisted::{AccountId, BackupMode, Index, OptIns, Options, PhoneHash, RangeOutcome, Secret};
    /// let dir = tempfile::tempdir()?;
    /// let (at, backup) = (dir.path().join("index"), dir.path().join("backup"));
    /// let options = || Ok::<_, unlisted::Error>(Options::new(Secret::from_hex(&"5e".repeat(32))?));
    /// let index = Index::open(&at, options()?)?;
    /// index.update(|batch| batch.put(PhoneHash::of_e164("+14155550100")?, AccountId::from(42), OptIns::SEARCH, 1))?;
    /// index.fold()?;
    /// index.backup(&backup, BackupMode::Copied)?;
    /// drop(index);
    /// std::fs::remove_file(at.join("segments/0000.0-1.seg"))?;
    /// assert!(Index::open(&at, options()?).is_err());
    /// let report = Index::repair(&at, options()?, Some(&backup))?;
    /// assert_eq!((report.ranges[0].outcome, report.ranges[0].listings), (RangeOutcome::Whole, 1));
    /// assert_eq!(report.ranges[0].affected, [(0, u64::MAX)]);
    /// Index::open(&at, options()?)?.verify(|_, _| ())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn repair(dir: impl AsRef<Path>, options: Options, from: Option<&Path>) -> Result<RepairReport> {
        let dir = dir.as_ref();
        options.check()?;
        if !dir.join(store::FILE_NAME).try_exists().map_err(Error::io("look for", dir))? {
            return Err(Error::NotAnIndex { dir: dir.to_owned() });
        }
        let _lock = DirLock::acquire(&Disk::Real, dir)?;
        temporary::remove_leftovers(&Disk::Real, dir)?;
        let (store, state, _) = Store::open(dir, &options.index_database())?;
        if state.check_value != KeyRing::new(&options.secret).check_value() {
            return Err(Error::WrongSecret { dir: dir.to_owned() });
        }
        let source = from.map(|from| Source::open(from, dir, &state, &options)).transpose()?;
        let work = Repair { dir, options: &options, store, state, source, log: None, done: Vec::new() };
        work.run()
    }
}

/// A repair under way.
struct Repair<'a> {
    dir: &'a Path,
    options: &'a Options,
    store: Store,
    state: State,
    source: Option<Source>,
    /// Every change that the log still has; read when the first damage is found.
    log: Option<Overlay>,
    done: Vec<Rebuilt>,
}

/// A segment that was damaged.
struct Damaged<'a> {
    row: &'a SegmentRow,
    path: PathBuf,
    /// The file, if its header is right.
    segment: Option<LiveSegment>,
    cause: Error,
}

/// What took its place, as a file.
struct Rebuilt {
    /// The generation that goes, and the row that comes; nothing if the same file is there again.
    retired: Option<u64>,
    published: Option<SegmentRow>,
    report: RepairedRange,
}

impl Repair<'_> {
    fn run(mut self) -> Result<RepairReport> {
        let rows = self.store.manifest()?;
        for row in &rows {
            let path = self.dir.join(FOLDER).join(row.file_name());
            if let Some(damaged) = check(row, path, self.state.index_id)? {
                tracing::warn!(error = damaged.cause.with_causes(), "a segment is damaged");
                let rebuilt = self.rebuild(&damaged)?;
                self.done.push(rebuilt);
            }
        }
        self.commit(rows.len())
    }

    /// Makes it so, in one transaction. What is put aside has two names until then.
    fn commit(self, segments: usize) -> Result<RepairReport> {
        let before = self.state.watermark.clone();
        let mut next = self.state.clone();
        let outcomes = || self.done.iter().map(|rebuilt| rebuilt.report.outcome);
        let is_replay_needed = outcomes().any(|outcome| outcome != RangeOutcome::Whole);
        if is_replay_needed {
            next.snapshot_version += 1;
            let is_lost = outcomes().any(|outcome| outcome == RangeOutcome::Lost);
            next.watermark = self.source.as_ref().filter(|_| !is_lost).and_then(|source| source.watermark());
        }
        next.next_generation += self.done.iter().filter(|rebuilt| rebuilt.published.is_some()).count() as u64;
        let retire: Vec<u64> = self.done.iter().filter_map(|rebuilt| rebuilt.retired).collect();
        let publish: Vec<SegmentRow> = self.done.iter().filter_map(|rebuilt| rebuilt.published.clone()).collect();
        if !self.done.is_empty() {
            let changes = Changes { retire: &retire, publish: &publish, ..Changes::default() };
            self.store.commit(&changes, &next)?;
        }
        for rebuilt in self.done.iter().filter(|rebuilt| rebuilt.retired.is_some()) {
            Disk::Real.remove_file(&self.dir.join(FOLDER).join(&rebuilt.report.file))?;
        }
        let backup_version = self.source.as_ref().map(Source::snapshot_version);
        Ok(RepairReport {
            segments,
            ranges: self.done.into_iter().map(|rebuilt| rebuilt.report).collect(),
            backup_version,
            is_replay_needed,
            watermark: next.watermark,
            watermark_before: before,
        })
    }

    /// A generation that no segment has.
    fn next_generation(&self) -> u64 {
        let taken = self.done.iter().filter(|rebuilt| rebuilt.published.is_some()).count() as u64;
        self.state.next_generation + taken
    }

    fn report(
        &self,
        damaged: &Damaged<'_>,
        outcome: RangeOutcome,
        lost: &Lost,
        read: u64,
        now: u64,
    ) -> RepairedRange {
        RepairedRange {
            file: damaged.row.file_name(),
            cause: damaged.cause.with_causes(),
            outcome,
            affected: lost.spans(),
            listings_before: damaged.row.entries,
            listings_read: read,
            listings: now,
        }
    }
}

/// Reads a segment as `verify` does. `None` if nothing is wrong with it.
fn check(row: &SegmentRow, path: PathBuf, index_id: [u8; 16]) -> Result<Option<Damaged<'_>>> {
    let (segment, cause) = match LiveSegment::read(&path, row, index_id) {
        Ok(segment) => match verify_segment(&segment, VerifyDepth::Full) {
            Ok(_) => return Ok(None),
            Err(cause) => (Some(segment), cause),
        },
        Err(cause) => (None, cause),
    };
    if is_damage(&cause) { Ok(Some(Damaged { row, path, segment, cause })) } else { Err(cause) }
}

/// Is it the file, and not the machine, or a build that is too old?
fn is_damage(error: &Error) -> bool {
    match error {
        Error::Damaged { .. } | Error::ForeignFormat { .. } => true,
        Error::Io { source, .. } => {
            // An empty file cannot be mapped; what a disk cannot read has no kind of its own.
            let kinds = [ErrorKind::NotFound, ErrorKind::UnexpectedEof, ErrorKind::InvalidInput];
            kinds.contains(&source.kind()) || source.raw_os_error() == Some(EIO)
        }
        _ => false,
    }
}

/// What Linux, macOS and the BSDs say when a disk cannot read.
const EIO: i32 = 5;

/// Is the segment of this file in the backup the one that is damaged?
fn is_same(damaged: &Damaged<'_>, file: &FileRow) -> bool {
    let digest = damaged.segment.as_ref().map(LiveSegment::digest);
    file.name == damaged.row.file_name()
        && file.len == damaged.row.file_len
        && digest.is_none_or(|digest| digest == file.digest)
}
