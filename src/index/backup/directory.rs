//! A backup into a folder: what is there already stays, what never changes is linked, the rest is copied.
//!
//! The manifest comes last, and only then what it does not name goes. So a crash at any time leaves the backup before whole.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::Inner;
use super::super::segments::{self, LiveSegment};
use super::manifest::{FileRow, Kind, Manifest, NAME, segment_digest};
use super::moment::Databases;
use super::{BackupMode, BackupReport};
use crate::disclosures::HeldFile;
use crate::disk::{self, DirLock, Disk, MappedFile};
use crate::segment::layout::{FOOTER_LEN, PAGE_LEN};
use crate::segment::reader::Segment;
use crate::words::{Error, Result};
use crate::{disclosures, ledger, store};

/// How the names of files that backups make begin and end, in the folder itself and in those inside.
const NAMES: [(&str, &str); 3] = [("index-", ".redb"), ("ledger-", ".redb"), ("", NAME)];
const NAMES_INSIDE: [(&str, &str); 4] = [("", ".seg"), ("", ".log"), ("", ".run"), ("growing-", "")];
/// Bytes that two files of the disclosure log with one name differ in: a run's whole header.
const LOG_HEAD_LEN: usize = 128;

/// The folder of a backup that is being made.
struct Target {
    disk: Disk,
    dir: PathBuf,
    number: u64,
    previous: Option<Manifest>,
    mode: BackupMode,
    report: BackupReport,
    _lock: DirLock,
}

impl Inner {
    pub(super) fn backup_into(&self, dir: &Path, mode: BackupMode) -> Result<BackupReport> {
        let mut target = Target::open(&self.options.disk, dir, self.index_id(), mode)?;
        let (moment, databases, placed) = self.moment(|segments| target.place_segments(segments))?;
        let mut files = Vec::with_capacity(placed.len() + 4);
        for kind in [Kind::Index, Kind::Ledger] {
            files.push(target.copy_database(&databases, kind)?);
        }
        drop(databases);
        for (segment, row, is_there) in placed {
            if !is_there {
                target.copy_segment(&segment, &row)?;
            }
            files.push(row);
        }
        for file in &moment.disclosures.files {
            files.push(target.place_log(file)?);
        }
        let manifest = moment.manifest(target.number, files);
        target.publish(&manifest)
    }
}

/// A segment, its row, and whether the folder has it already.
type Placed = (Arc<LiveSegment>, FileRow, bool);

impl Target {
    fn open(disk: &Disk, dir: &Path, index_id: [u8; 16], mode: BackupMode) -> Result<Self> {
        disk.create_dir_all(dir)?;
        for name in disk.list(dir)? {
            let is_fixed = ["LOCK", segments::FOLDER, disclosures::FOLDER].contains(&name.as_str());
            if !is_fixed && !is_ours(&name, &NAMES) {
                return Err(Error::NotABackup { dir: dir.to_owned() });
            }
        }
        let lock = DirLock::acquire(disk, dir)?;
        let previous = super::read_manifest(disk, dir)?;
        if previous.as_ref().is_some_and(|manifest| manifest.index_id != index_id) {
            return Err(Error::BackupForeign { path: dir.join(NAME) });
        }
        for folder in [segments::FOLDER, disclosures::FOLDER] {
            disk.create_dir_all(&dir.join(folder))?;
        }
        let number = previous.as_ref().map_or(1, |manifest| manifest.number.saturating_add(1));
        let report = BackupReport { number, ..BackupReport::default() };
        Ok(Self { disk: disk.clone(), dir: dir.to_owned(), number, previous, mode, report, _lock: lock })
    }

    fn path(&self, kind: Kind, stored: &str) -> PathBuf {
        self.dir.join(kind.folder()).join(stored)
    }

    /// The backup before this one needs the file of that name.
    fn previous(&self, kind: Kind, stored: &str) -> Option<&FileRow> {
        let files = self.previous.as_ref().map(|manifest| manifest.files.as_slice()).unwrap_or_default();
        files.iter().find(|file| file.kind == kind && file.stored == stored)
    }

    /// A name for a file that is none of the backup before this one.
    fn free_name(&self, kind: Kind, name: &str) -> String {
        match self.previous(kind, name) {
            // An index that was restored from an older copy gives names a second time.
            Some(_) => format!("{}-{name}", self.number),
            None => name.to_owned(),
        }
    }

    /// Finds out which segments are here already, and links those that are not. Quick: folds wait for it.
    fn place_segments(&mut self, segments: &[Arc<LiveSegment>]) -> Result<Vec<Placed>> {
        segments.iter().map(|segment| self.place_segment(segment)).collect()
    }

    fn place_segment(&mut self, segment: &Arc<LiveSegment>) -> Result<Placed> {
        let mut row = segment.row(segment.file_name());
        let earlier = self.previous.iter().flat_map(|manifest| &manifest.files);
        let mut earlier = earlier.filter(|file| file.kind == row.kind && file.name == row.name);
        if let Some(kept) = earlier.find(|file| file.digest == row.digest && file.len == row.len).cloned()
            && self.still_has(segment, &kept)?
        {
            self.report.count_unchanged(kept.len);
            return Ok((segment.clone(), kept, true));
        }
        row.stored = self.free_name(row.kind, &row.name);
        let to = self.path(row.kind, &row.stored);
        self.disk.remove_file(&to)?;
        let is_linked = self.mode == BackupMode::Linked && self.disk.link(segment.path(), &to)?;
        if is_linked {
            self.report.count_linked(row.len);
        }
        Ok((segment.clone(), row, is_linked))
    }

    /// Is the file that the manifest names still the one that it meant, and as independent of the index as is wanted?
    fn still_has(&self, segment: &LiveSegment, kept: &FileRow) -> Result<bool> {
        let path = self.path(kept.kind, &kept.stored);
        let Some(ends) = disk::Ends::<PAGE_LEN, FOOTER_LEN>::of(&self.disk, &path)? else { return Ok(false) };
        if (ends.len, segment_digest(&ends.head, &ends.tail)) != (kept.len, kept.digest) {
            return Ok(false);
        }
        Ok(self.mode == BackupMode::Linked || !self.disk.are_same_file(&path, segment.path())?)
    }

    /// Every page is checked before it is copied, and what the disk gives back.
    fn copy_segment(&mut self, segment: &LiveSegment, row: &FileRow) -> Result<()> {
        segment.ask_for_all();
        segment.locate(Segment::verify_pages)?;
        let folder = self.dir.join(row.kind.folder());
        self.disk.publish_streamed(
            &folder,
            &row.stored,
            |path, file| file.write_all(segment.segment().bytes().as_ref()).map_err(Error::io("write", path)),
            |path, map| super::check_segment(path, map, row),
        )?;
        self.report.count_copied(row.len);
        Ok(())
    }

    fn copy_database(&mut self, databases: &Databases, kind: Kind) -> Result<FileRow> {
        let (stem, name) = match kind {
            Kind::Index => ("index", store::FILE_NAME),
            _ => ("ledger", ledger::FILE_NAME),
        };
        let stored = format!("{stem}-{}.redb", self.number);
        let temporary = self.dir.join(format!("{stored}.tmp"));
        databases.copy(kind, &self.disk, &temporary)?;
        let copied = self.disk.digest_file(&temporary)?;
        self.disk.rename(&temporary, &self.dir.join(&stored))?;
        self.report.count_copied(copied.len);
        Ok(FileRow { kind, stored, name: name.to_owned(), len: copied.len, digest: copied.digest })
    }

    fn place_log(&mut self, file: &HeldFile) -> Result<FileRow> {
        let bytes = file.bytes()?;
        let disk::Copied { len, digest } = disk::digest(&bytes);
        let kind = Kind::Disclosures;
        let row = |stored| FileRow { kind, stored, name: file.name.clone(), len, digest };
        if !file.is_immutable() {
            let extension = if file.name.ends_with(".log") { ".log" } else { "" };
            let row = row(format!("growing-{}{extension}", self.number));
            self.write_log(&row, &bytes)?;
            return Ok(row);
        }
        let earlier = self.previous.iter().flat_map(|manifest| &manifest.files);
        let mut earlier = earlier.filter(|kept| (kept.kind, &kept.name) == (kind, &file.name));
        if let Some(kept) = earlier.find(|kept| (kept.len, kept.digest) == (len, digest)).cloned()
            && self.still_has_log(file, &kept)?
        {
            self.report.count_unchanged(len);
            return Ok(kept);
        }
        let row = row(self.free_name(kind, &file.name));
        let to = self.path(kind, &row.stored);
        self.disk.remove_file(&to)?;
        if self.mode == BackupMode::Linked && link_log(&self.disk, file, &bytes, &to)? {
            self.report.count_linked(len);
        } else {
            self.write_log(&row, &bytes)?;
        }
        Ok(row)
    }

    fn still_has_log(&self, file: &HeldFile, kept: &FileRow) -> Result<bool> {
        let path = self.path(kept.kind, &kept.stored);
        if !self.disk.exists(&path)? || self.disk.len(&path)? != kept.len {
            return Ok(false);
        }
        match file.path() {
            Some(from) if self.mode == BackupMode::Copied && self.disk.exists(from)? => {
                Ok(!self.disk.are_same_file(&path, from)?)
            }
            _ => Ok(true),
        }
    }

    fn write_log(&mut self, row: &FileRow, bytes: &[u8]) -> Result<()> {
        let path = self.path(row.kind, &row.stored);
        let temporary = self.path(row.kind, &format!("{}.tmp", row.stored));
        self.disk.copy_to(&mut &*bytes, &path, u64::MAX, &temporary)?;
        self.disk.rename(&temporary, &path)?;
        self.report.count_copied(row.len);
        Ok(())
    }

    /// Makes it the backup: the manifest appears, and then what it does not name goes.
    fn publish(mut self, manifest: &Manifest) -> Result<BackupReport> {
        for folder in [segments::FOLDER, disclosures::FOLDER] {
            self.disk.sync_dir(&self.dir.join(folder))?;
        }
        let bytes = manifest.encode();
        self.disk.publish_streamed(
            &self.dir,
            NAME,
            |path, file| file.write_all(&bytes).map_err(Error::io("write", path)),
            |path, map: MappedFile| Manifest::decode(path, map.as_ref()),
        )?;
        self.report.snapshot_version = manifest.snapshot_version;
        self.remove_unnamed(manifest)?;
        Ok(self.report)
    }

    fn remove_unnamed(&mut self, manifest: &Manifest) -> Result<()> {
        let named: HashSet<String> = manifest.files.iter().map(FileRow::stored_path).collect();
        for folder in ["", segments::FOLDER, disclosures::FOLDER] {
            let path = self.dir.join(folder);
            for name in self.disk.list(&path)? {
                let path = path.join(&name);
                let in_backup = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                let stays = in_backup == NAME || named.contains(&in_backup);
                let names = if folder.is_empty() { &NAMES[..] } else { &NAMES_INSIDE };
                if !stays && is_ours(&name, names) && !self.disk.is_dir(&path) {
                    self.disk.remove_file(&path)?;
                    self.report.removed_files += 1;
                }
            }
        }
        Ok(())
    }
}

/// Is this a name that a backup gives, or gave before it ended early?
fn is_ours(name: &str, names: &[(&str, &str)]) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    names.iter().any(|(start, end)| name.starts_with(start) && name.ends_with(end))
}

/// Links a file of the log. A compaction may have put another in its place, which a name does not tell.
fn link_log(disk: &Disk, file: &HeldFile, bytes: &[u8], to: &Path) -> Result<bool> {
    let Some(from) = file.path() else { return Ok(false) };
    if !disk.exists(from)? || !disk.link(from, to)? {
        return Ok(false);
    }
    let linked = disk::Ends::<LOG_HEAD_LEN, 0>::of(disk, to)?;
    if linked.is_some_and(|linked| linked.len == bytes.len() as u64 && bytes.starts_with(&linked.head)) {
        return Ok(true);
    }
    disk.remove_file(to)?;
    Ok(false)
}
