//! A backup as one stream: a tar archive, the manifest first.

use std::io::{Read, Write};
use std::path::Path;

use tar::{Archive, Builder, EntryType, Header};

use super::super::Inner;
use super::super::temporary::TemporaryFolder;
use super::manifest::{FileRow, Kind, NAME};
use super::restore::Staging;
use super::{BackupReport, FOLDER_PREFIX, MAX_MANIFEST_LEN};
use crate::disk;
use crate::segment::reader::Segment;
use crate::words::{Damage, Error, Result};
use crate::{ledger, store};

/// What errors call it.
const STREAM: &str = "the stream";

impl Inner {
    pub(super) fn backup_to(&self, to: impl Write) -> Result<BackupReport> {
        let disk = &self.options.disk;
        // The databases are copied first: the manifest, which goes before them, has their lengths.
        let folder = TemporaryFolder::create(disk, &self.dir, FOLDER_PREFIX)?;
        let (moment, databases, segments) = self.moment(|segments| Ok(segments.to_vec()))?;
        let mut files = Vec::new();
        for (kind, name) in [(Kind::Index, store::FILE_NAME), (Kind::Ledger, ledger::FILE_NAME)] {
            let path = folder.path().join(name);
            databases.copy(kind, disk, &path)?;
            let disk::Copied { len, digest } = disk.digest_file(&path)?;
            files.push(FileRow { kind, stored: name.to_owned(), name: name.to_owned(), len, digest });
        }
        drop(databases);
        files.extend(segments.iter().map(|segment| segment.row(segment.file_name())));
        for file in &moment.disclosures.files {
            let disk::Copied { len, digest } = disk::digest(&file.bytes()?);
            let (kind, name) = (Kind::Disclosures, file.name.clone());
            files.push(FileRow { kind, stored: name.clone(), name, len, digest });
        }
        let manifest = moment.manifest(1, files);
        let mut report =
            BackupReport { number: 1, snapshot_version: manifest.snapshot_version, ..Default::default() };
        let mut tar = Archiver { tar: Builder::new(to), mtime_s: moment.wall_ms / 1_000 };
        let bytes = manifest.encode();
        tar.append(NAME, bytes.len() as u64, &mut &*bytes)?;
        let mut logs = moment.disclosures.files.iter();
        let mut segments = segments.iter();
        for row in &manifest.files {
            match row.kind {
                Kind::Index | Kind::Ledger => {
                    let path = folder.path().join(&row.name);
                    tar.append(&row.stored_path(), row.len, &mut disk.open(&path)?)?;
                }
                Kind::Segment => {
                    let Some(segment) = segments.next() else { continue };
                    segment.ask_for_all();
                    segment.locate(Segment::verify_pages)?;
                    tar.append(&row.stored_path(), row.len, &mut segment.segment().bytes().as_ref())?;
                }
                Kind::Disclosures => {
                    let Some(log) = logs.next() else { continue };
                    tar.append(&row.stored_path(), row.len, &mut &*log.bytes()?)?;
                }
            }
            report.count_copied(row.len);
        }
        tar.finish()?;
        folder.remove()?;
        Ok(report)
    }
}

struct Archiver<W: Write> {
    tar: Builder<W>,
    mtime_s: u64,
}

impl<W: Write> Archiver<W> {
    fn append(&mut self, path: &str, len: u64, content: &mut dyn Read) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(len);
        header.set_mode(0o600);
        header.set_mtime(self.mtime_s);
        self.tar.append_data(&mut header, path, content).map_err(Error::io("write", Path::new(STREAM)))
    }

    fn finish(self) -> Result<()> {
        let error = || Error::io("write", Path::new(STREAM));
        self.tar.into_inner().map_err(error())?.flush().map_err(error())
    }
}

/// Puts what a stream holds into a staging folder.
pub(super) fn unpack(from: impl Read, staging: &mut Staging) -> Result<()> {
    let stream = Path::new(STREAM);
    let read = || Error::io("read", stream);
    let mut archive = Archive::new(from);
    let mut entries = archive.entries().map_err(read())?;
    let foreign = || Error::ForeignFormat { path: stream.to_owned(), expected: "a backup of an unlisted index" };
    let mut first = match entries.next() {
        Some(Ok(first)) if first.path_bytes() == NAME.as_bytes() => first,
        // Whatever is wrong with its beginning, it is no archive of ours.
        _ => return Err(foreign()),
    };
    let mut manifest = Vec::new();
    first.by_ref().take(MAX_MANIFEST_LEN).read_to_end(&mut manifest).map_err(read())?;
    staging.begin(&stream.join(NAME), &manifest)?;
    for entry in entries {
        let mut entry = entry.map_err(read())?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = stream.join(&name);
        let is_file = entry.header().entry_type() == EntryType::Regular;
        let Some(row) = staging.wanted(&name).filter(|_| is_file) else {
            let what = Damage::NotInManifest { field: "the name" };
            return Err(Error::Damaged { path, offset: 0, what });
        };
        staging.take(&row, &path, &mut entry)?;
    }
    Ok(())
}
