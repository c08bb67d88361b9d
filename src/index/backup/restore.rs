//! A backup becomes an index: beside the place where it goes, checked and opened there, and then renamed into it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::super::options::Create;
use super::super::{Index, Memory, Options, open, segments};
use super::manifest::{FileRow, Kind, Manifest, NAME};
use super::{read_manifest, stream};
use crate::disclosures;
use crate::disk::{DirLock, Disk, MappedFile};
use crate::ledger::RedbLedger;
use crate::words::{Damage, Error, Result};

/// An index that is being put together.
pub(super) struct Staging {
    disk: Disk,
    dir: PathBuf,
    /// What the backup says of itself, and the files that are still to come.
    manifest: Option<Manifest>,
    missing: BTreeMap<String, FileRow>,
    /// Where the manifest is.
    of: PathBuf,
}

/// Restores from a folder.
pub(super) fn from_folder(from: &Path, dir: &Path, options: Options) -> Result<Index> {
    let disk = options.disk.clone();
    into(dir, options, |staging| {
        let _lock = DirLock::share(&disk, from)?;
        let manifest = read_manifest(&disk, from)?.ok_or_else(|| Error::NotABackup { dir: from.to_owned() })?;
        let files = manifest.files.clone();
        staging.begin_with(&from.join(NAME), manifest);
        for row in files {
            let path = from.join(row.stored_path());
            if !disk.exists(&path)? {
                return Err(Error::BackupIncomplete { path });
            }
            staging.take(&row, &path, &mut disk.open(&path)?)?;
        }
        Ok(())
    })
}

/// Restores from a stream.
pub(super) fn from_stream(from: impl Read, dir: &Path, options: Options) -> Result<Index> {
    into(dir, options, |staging| stream::unpack(from, staging))
}

/// Nothing is in `dir` before all of it is, and is right.
fn into(dir: &Path, options: Options, fill: impl FnOnce(&mut Staging) -> Result<()>) -> Result<Index> {
    options.check()?;
    check_is_free(&options.disk, dir)?;
    let mut staging = Staging::create(&options.disk, dir)?;
    let restored = fill(&mut staging).and_then(|()| staging.finish(&options)).and_then(|()| staging.publish(dir));
    if let Err(error) = restored {
        // The first error is the one to report; what is left over is removed by the next restore.
        let _ = staging.disk.remove_dir_all(&staging.dir);
        return Err(error);
    }
    Index::open(dir, options.must_exist())
}

fn check_is_free(disk: &Disk, dir: &Path) -> Result<()> {
    if disk.exists(dir)? && !disk.list(dir)?.is_empty() {
        return Err(Error::NotEmpty { dir: dir.to_owned() });
    }
    Ok(())
}

impl Staging {
    /// A folder beside `dir`. What an interrupted restore left there goes.
    fn create(disk: &Disk, dir: &Path) -> Result<Self> {
        // Without a separator at its end, which would put the one into the other.
        let whole: PathBuf = std::path::absolute(dir).map_err(Error::io("look for", dir))?.components().collect();
        let mut name = whole.into_os_string();
        name.push(".restoring");
        let path = PathBuf::from(name);
        if disk.exists(&path)? {
            // Unless somebody is at it.
            let lock = DirLock::acquire(disk, &path)?;
            disk.remove_dir_all(&path)?;
            drop(lock);
        }
        for folder in [segments::FOLDER, disclosures::FOLDER] {
            disk.create_dir_all(&path.join(folder))?;
        }
        Ok(Self { disk: disk.clone(), of: path.clone(), dir: path, manifest: None, missing: BTreeMap::new() })
    }

    /// Begins with the bytes of a manifest.
    pub(super) fn begin(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.begin_with(path, Manifest::decode(path, bytes)?);
        Ok(())
    }

    fn begin_with(&mut self, path: &Path, manifest: Manifest) {
        path.clone_into(&mut self.of);
        self.missing = manifest.files.iter().map(|row| (row.stored_path(), row.clone())).collect();
        self.manifest = Some(manifest);
    }

    /// The file of that name in the backup, if it is still to come.
    pub(super) fn wanted(&self, stored_path: &str) -> Option<FileRow> {
        self.missing.get(stored_path).cloned()
    }

    /// Copies a file of the backup and checks it; `path` is what errors call it.
    pub(super) fn take(&mut self, row: &FileRow, path: &Path, from: &mut dyn Read) -> Result<()> {
        let to = self.dir.join(row.index_path());
        let copied = self.disk.copy_to(from, path, row.len, &to)?;
        let damaged = |what| Error::Damaged { path: path.to_owned(), offset: 0, what };
        if copied.len != row.len {
            return Err(damaged(Damage::Length { expected: row.len, found: copied.len }));
        }
        if row.kind == Kind::Segment {
            super::check_segment(path, MappedFile::open(&self.disk, &to)?, row)?;
        } else if copied.digest != row.digest {
            return Err(damaged(Damage::Checksum { of: "the file" }));
        }
        self.missing.remove(&row.stored_path());
        Ok(())
    }

    /// All files are there: empties the budgets, and opens what was put together as it will be opened.
    fn finish(&self, options: &Options) -> Result<()> {
        let folder = self.of.parent().unwrap_or(&self.of);
        if let Some(name) = self.missing.keys().next() {
            return Err(Error::BackupIncomplete { path: folder.join(name) });
        }
        let Some(manifest) = &self.manifest else { return Err(Error::NotABackup { dir: self.of.clone() }) };
        for folder in [segments::FOLDER, disclosures::FOLDER, ""] {
            self.disk.sync_dir(&self.dir.join(folder))?;
        }
        // Nobody knows what was asked since the backup was made.
        RedbLedger::open(&self.dir, &open::ledger_options(options))?.exhaust()?;
        let mut options = options.clone().exhaust_if_restored().check_databases(true).background(false);
        (options.create, options.memory) = (Create::Never, Memory::Mapped);
        let index = Index::open(&self.dir, options)?;
        let state = index.inner.writer.lock().state.clone();
        let is_it = [
            ("the index id", state.index_id == manifest.index_id),
            ("the ledger id", state.ledger_id == manifest.ledger_id),
            ("the snapshot version", state.snapshot_version == manifest.snapshot_version),
        ];
        match is_it.into_iter().find(|(_, same)| !same) {
            Some((field, _)) => {
                let what = Damage::NotInManifest { field };
                Err(Error::Damaged { path: self.of.clone(), offset: 0, what })
            }
            None => Ok(()),
        }
    }

    fn publish(&self, dir: &Path) -> Result<()> {
        check_is_free(&self.disk, dir)?;
        self.disk.remove_empty_dir(dir)?;
        self.disk.rename(&self.dir, dir)
    }
}
