//! Backup while serving, and restore.
//!
//! `moment` takes both databases, the segments and the disclosure log as they belong together; `directory` and `stream` write
//! them, `manifest` names them, `restore` checks them and makes an index of them. `docs/OPERATIONS.md` is for operators.

mod directory;
mod manifest;
mod moment;
mod restore;
mod stream;

use std::io::{Read, Write};
use std::path::Path;

use super::{Index, Options, segments};
use crate::disk::{Disk, MappedFile};
use crate::segment::reader::Segment;
use crate::words::{Damage, Error, Result};

pub(super) use manifest::{FileRow, Kind, Manifest, NAME as MANIFEST_NAME};

/// Folders of databases that are being streamed begin with this. No folder of a host's would.
pub(super) const FOLDER_PREFIX: &str = ".unlisted-stream-";
/// Longer than any manifest: ten million files.
const MAX_MANIFEST_LEN: u64 = 1 << 31;

/// How files that never change get into a backup: see [`Index::backup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackupMode {
    /// As one more name of the same file, where the file system can; that costs no room and no time, and what damages the one
    /// damages the other.
    #[default]
    Linked,
    /// As a copy, always.
    Copied,
}

/// What a backup did.
///
/// ```
/// use unlisted::{AccountId, BackupMode, Index, OptIns, Options, PhoneHash, Secret};
/// let dir = tempfile::tempdir()?;
/// let index = Index::open(dir.path().join("index"), Options::new(Secret::from_hex(&"5e".repeat(32))?))?;
/// index.update(|batch| batch.put(PhoneHash::of_e164("+14155550100")?, AccountId::from(42), OptIns::SEARCH, 1))?;
/// index.fold()?;
/// let report = index.backup(dir.path().join("backup"), BackupMode::Copied)?;
/// // Two databases, a segment and the disclosure log.
/// assert_eq!((report.number, report.snapshot_version, report.copied_files), (1, 1, 4));
/// let again = index.backup(dir.path().join("backup"), BackupMode::Copied)?;
/// assert_eq!((again.number, again.copied_files, again.unchanged_files), (2, 3, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BackupReport {
    /// Backups that were made into this folder, with this one.
    pub number: u64,
    /// The snapshot version that it is of.
    pub snapshot_version: u64,
    /// Files that were written, and their bytes.
    pub copied_files: u64,
    /// Bytes of them.
    pub copied_bytes: u64,
    /// Files that are one more name of a file of the index.
    pub linked_files: u64,
    /// Bytes of them.
    pub linked_bytes: u64,
    /// Files that the backup before had already.
    pub unchanged_files: u64,
    /// Bytes of them.
    pub unchanged_bytes: u64,
    /// Files of earlier backups that this one does not need, which are gone.
    pub removed_files: u64,
}

impl BackupReport {
    const fn count_copied(&mut self, bytes: u64) {
        (self.copied_files, self.copied_bytes) = (self.copied_files + 1, self.copied_bytes + bytes);
    }

    const fn count_linked(&mut self, bytes: u64) {
        (self.linked_files, self.linked_bytes) = (self.linked_files + 1, self.linked_bytes + bytes);
    }

    const fn count_unchanged(&mut self, bytes: u64) {
        (self.unchanged_files, self.unchanged_bytes) = (self.unchanged_files + 1, self.unchanged_bytes + bytes);
    }
}

impl Index {
    /// Copies the index as it is at one moment between call and return, ledger and disclosure log included, into a folder of
    /// its own. Lookups and updates go on; folds, imports and erasures wait while segments are linked.
    ///
    /// The next backup into the same folder writes only what changed, and takes the place of the one before. A crash leaves
    /// the one before. The folder has what a stolen index would have, and not the secret.
    ///
    /// # Errors
    /// [`Error::NotABackup`] if the folder holds something else, [`Error::BackupForeign`] if it holds a backup of another
    /// index, [`Error::InUse`] if another backup is at it; [`Error::Damaged`] if a segment that is copied is damaged;
    /// [`Error::Io`] or [`Error::Database`] if a disk refuses; [`Error::Poisoned`].
    ///
    /// ```
    /// use unlisted::{AccountId, BackupMode, Caller, Index, OptIns, Options, PhoneHash, Purpose, Secret};
    /// let dir = tempfile::tempdir()?;
    /// let (backup, restored) = (dir.path().join("backup"), dir.path().join("restored"));
    /// let options = || Ok::<_, unlisted::Error>(Options::new(Secret::from_hex(&"5e".repeat(32))?));
    /// let index = Index::open(dir.path().join("index"), options()?)?;
    /// let ada = PhoneHash::of_e164("+14155550100")?;
    /// index.update(|batch| batch.put(ada, AccountId::from(42), OptIns::SEARCH, 1))?;
    /// index.lookup(&Caller::new("user-7"), Purpose::Search, &[ada])?;
    /// index.backup(&backup, BackupMode::Linked)?;
    ///
    /// let restored = Index::restore(&backup, &restored, options()?)?;
    /// // What was paid for stays free; everything else waits for the refill.
    /// assert_eq!(restored.lookup(&Caller::new("user-7"), Purpose::Search, &[ada])?.matches().count(), 1);
    /// assert_eq!(restored.budget(&Caller::new("user-8"))?.remaining, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn backup(&self, dir: impl AsRef<Path>, mode: BackupMode) -> Result<BackupReport> {
        self.inner.backup_into(dir.as_ref(), mode)
    }

    /// [`Index::backup`] as one stream, a tar archive. It is whole each time. Both databases are copied into the index's directory
    /// meanwhile.
    ///
    /// # Errors
    /// As [`Index::backup`]; [`Error::Io`] if the stream does not take it.
    ///
    /// ```
    /// use unlisted::{Index, Options, Secret};
    /// let dir = tempfile::tempdir()?;
    /// let options = || Ok::<_, unlisted::Error>(Options::new(Secret::from_hex(&"5e".repeat(32))?));
    /// let mut stream = Vec::new();
    /// Index::open(dir.path().join("index"), options()?)?.backup_to(&mut stream)?;
    /// let restored = Index::restore_from(&stream[..], dir.path().join("restored"), options()?)?;
    /// assert_eq!(restored.snapshot_version(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn backup_to(&self, to: impl Write) -> Result<BackupReport> {
        self.inner.backup_to(to)
    }

    /// Makes an index of a backup in a directory that does not exist or is empty, and opens it.
    ///
    /// Every length and checksum is checked, every page of every segment, and the databases; then all budgets are emptied,
    /// because nobody knows what was asked since. What callers paid for by then stays free. With
    /// [`Options::epoch_file`] the ledger goes on from where the file says, and copies that are older stay refused.
    /// Nothing appears in the directory before all of it is right. Beside it `<dir>.restoring` is used. Replay the host's
    /// feed from [`Index::watermark`] before lookups are served: opt-outs since are not in the backup.
    ///
    /// # Errors
    /// [`Error::NotEmpty`]; [`Error::NotABackup`], [`Error::BackupIncomplete`], [`Error::Damaged`],
    /// [`Error::ForeignFormat`] or [`Error::NewerFormat`] with the file of the backup that is not as its manifest says;
    /// what [`Index::open`] gives, so [`Error::WrongSecret`].
    ///
    /// ```
    /// use unlisted::{BackupMode, Caller, Index, Options, Secret};
    /// let dir = tempfile::tempdir()?;
    /// let options = || Ok::<_, unlisted::Error>(Options::new(Secret::from_hex(&"5e".repeat(32))?));
    /// let backup = dir.path().join("backup");
    /// Index::open(dir.path().join("index"), options()?)?.backup(&backup, BackupMode::Linked)?;
    /// let restored = Index::restore(&backup, dir.path().join("restored"), options()?)?;
    /// assert_eq!(restored.budget(&Caller::new("user-7"))?.remaining, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn restore(from: impl AsRef<Path>, dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        restore::from_folder(from.as_ref(), dir.as_ref(), options)
    }

    /// [`Index::restore`] of what [`Index::backup_to`] wrote.
    ///
    /// # Errors
    /// As [`Index::restore`]; [`Error::Io`] if the stream ends early.
    pub fn restore_from(from: impl Read, dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        restore::from_stream(from, dir.as_ref(), options)
    }
}

/// The manifest of the backup in a folder, if there is one.
pub(super) fn read_manifest(disk: &Disk, dir: &Path) -> Result<Option<Manifest>> {
    let path = dir.join(manifest::NAME);
    if !disk.exists(&path)? {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    disk.open(&path)?.take(MAX_MANIFEST_LEN).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
    Manifest::decode(&path, &bytes).map(Some)
}

/// Is this file the segment of a row, every page of it? `path` is what errors call it.
pub(super) fn check_segment(path: &Path, map: MappedFile, row: &FileRow) -> Result<()> {
    let segment = Segment::open(map).map_err(|flaw| segments::flaw_at(path, flaw))?;
    let bytes = segment.bytes().as_ref();
    let digest =
        bytes.first_chunk().zip(bytes.last_chunk()).map(|(head, tail)| manifest::segment_digest(head, tail));
    if digest != Some(row.digest) || bytes.len() as u64 != row.len {
        let what = Damage::NotInManifest { field: "the header or the footer" };
        return Err(Error::Damaged { path: path.to_owned(), offset: 0, what });
    }
    segment.verify_pages().map_err(|flaw| segments::flaw_at(path, flaw))
}
