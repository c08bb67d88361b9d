//! The manifest of a backup: what it is of, and every file of it. Written last, so that a backup is there whole or not at all.

use std::path::Path;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::super::segments;
use crate::segment::layout::{FOOTER_LEN, PAGE_LEN};
use crate::words::{Damage, Error, Result};
use crate::{disclosures, ledger, store};

/// Its name in the folder of a backup, and in a stream.
pub(in crate::index) const NAME: &str = "BACKUP";
pub(super) const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"UNLSTBAK";
const SUM_LEN: usize = 8;
/// Longest name of a file.
const MAX_NAME_LEN: usize = 100;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::index) enum Kind {
    Index,
    Ledger,
    Segment,
    Disclosures,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Index, Self::Ledger, Self::Segment, Self::Disclosures];

    /// Its folder, in a backup as in an index; nothing for the directory itself.
    pub(super) const fn folder(self) -> &'static str {
        match self {
            Self::Index | Self::Ledger => "",
            Self::Segment => segments::FOLDER,
            Self::Disclosures => disclosures::FOLDER,
        }
    }

    fn has(self, name: &str) -> bool {
        match self {
            Self::Index => name == store::FILE_NAME,
            Self::Ledger => name == ledger::FILE_NAME,
            Self::Segment => name.ends_with(".seg"),
            Self::Disclosures => name.ends_with(".log") || name.ends_with(".run") || name == "erased",
        }
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::index) struct FileRow {
    pub(in crate::index) kind: Kind,
    /// Its name in the backup.
    pub(in crate::index) stored: String,
    /// Its name in an index.
    pub(in crate::index) name: String,
    pub(in crate::index) len: u64,
    /// XXH3-128 of the content; of a segment that of header and footer, which have the checksums of all else.
    pub(in crate::index) digest: u128,
}

impl FileRow {
    /// Where it is in a backup, with `/` between folder and name.
    pub(in crate::index) fn stored_path(&self) -> String {
        join(self.kind.folder(), &self.stored)
    }

    /// Where it is in an index.
    pub(super) fn index_path(&self) -> String {
        join(self.kind.folder(), &self.name)
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// What a segment's file is told from others by.
pub(in crate::index) fn segment_digest(header: &[u8; PAGE_LEN], footer: &[u8; FOOTER_LEN]) -> u128 {
    xxh3_128(&[&header[..], footer].concat())
}

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::index) struct Manifest {
    pub(in crate::index) index_id: [u8; 16],
    pub(in crate::index) ledger_id: [u8; 16],
    pub(in crate::index) snapshot_version: u64,
    pub(in crate::index) epoch: u64,
    pub(in crate::index) ledger_commits: u64,
    /// When it was made, in ms since 1970.
    pub(in crate::index) wall_ms: u64,
    /// How many backups were made into this folder.
    pub(in crate::index) number: u64,
    /// Where the host's change feed stood.
    pub(in crate::index) watermark: Option<Vec<u8>>,
    pub(in crate::index) files: Vec<FileRow>,
}

impl Manifest {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &u64::from(VERSION).to_le_bytes(), &self.index_id, &self.ledger_id].concat();
        let watermark = self.watermark.as_deref();
        let numbers = [
            self.snapshot_version,
            self.epoch,
            self.ledger_commits,
            self.wall_ms,
            self.number,
            // One more than its length: nothing is not the same as an empty one.
            watermark.map_or(0, |mark| mark.len() as u64 + 1),
            self.files.len() as u64,
        ];
        bytes.extend(numbers.map(u64::to_le_bytes).as_flattened());
        bytes.extend(watermark.unwrap_or_default());
        for file in &self.files {
            bytes.extend([file.kind as u8, file.stored.len() as u8, file.name.len() as u8, 0]);
            bytes.extend(file.len.to_le_bytes());
            bytes.extend(file.digest.to_le_bytes());
            bytes.extend(file.stored.as_bytes());
            bytes.extend(file.name.as_bytes());
        }
        let sum = xxh3_64(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes
    }

    pub(in crate::index) fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        if !bytes.starts_with(MAGIC) {
            return Err(Error::ForeignFormat { path: path.to_owned(), expected: "a backup of an unlisted index" });
        }
        let found = bytes.len() as u64;
        let damaged = |what| Error::Damaged { path: path.to_owned(), offset: 0, what };
        let short = || damaged(Damage::Length { expected: found + 1, found });
        let version = bytes.get(8..).and_then(<[u8]>::first_chunk).ok_or_else(short)?;
        let version = u32::from_le_bytes(*version);
        if version > VERSION {
            return Err(Error::NewerFormat { path: path.to_owned(), found: version, supported: VERSION });
        }
        let (summed, sum) = bytes.split_last_chunk::<SUM_LEN>().ok_or_else(short)?;
        if xxh3_64(summed).to_le_bytes() != *sum {
            return Err(damaged(Damage::Checksum { of: "the manifest of the backup" }));
        }
        let mut rest = Reader(summed.get(16..).unwrap_or_default());
        let manifest = rest.manifest().filter(|_| rest.0.is_empty());
        let field = "the manifest of the backup";
        manifest.ok_or_else(|| damaged(Damage::Geometry { field, found: summed.len() as u64 }))
    }
}

/// What is not read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    fn bytes(&mut self, len: u64) -> Option<Vec<u8>> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(bytes.to_vec())
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn manifest(&mut self) -> Option<Manifest> {
        let (index_id, ledger_id) = (self.array()?, self.array()?);
        let [snapshot_version, epoch, ledger_commits] = [self.number()?, self.number()?, self.number()?];
        let [wall_ms, number, mark, count] = [self.number()?, self.number()?, self.number()?, self.number()?];
        let watermark = match mark.checked_sub(1) {
            Some(len) => Some(self.bytes(len)?),
            None => None,
        };
        // Grown row by row: a count that no file is behind is not believed.
        let files: Vec<FileRow> = (0..count).map_while(|_| self.file()).collect();
        if files.len() as u64 != count {
            return None;
        }
        let one = |kind| files.iter().filter(|file| file.kind == kind).count() == 1;
        (one(Kind::Index) && one(Kind::Ledger)).then_some(Manifest {
            index_id,
            ledger_id,
            snapshot_version,
            epoch,
            ledger_commits,
            wall_ms,
            number,
            watermark,
            files,
        })
    }

    /// `None` also for a name that could lead out of its folder.
    fn file(&mut self) -> Option<FileRow> {
        let [kind, stored_len, name_len, _] = self.array()?;
        let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind)?;
        let (len, digest) = (self.number()?, u128::from_le_bytes(self.array()?));
        let stored = String::from_utf8(self.bytes(u64::from(stored_len))?).ok()?;
        let name = String::from_utf8(self.bytes(u64::from(name_len))?).ok()?;
        (is_plain(&stored) && is_plain(&name) && kind.has(&name)).then_some(FileRow {
            kind,
            stored,
            name,
            len,
            digest,
        })
    }
}

/// Is this a name of a file, and nothing else?
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    (1..=MAX_NAME_LEN).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: Kind, stored: &str, name: &str) -> FileRow {
        FileRow { kind, stored: stored.to_owned(), name: name.to_owned(), len: 9, digest: u128::MAX / 3 }
    }

    fn manifest(files: Vec<FileRow>) -> Manifest {
        Manifest {
            index_id: [1; 16],
            ledger_id: [2; 16],
            snapshot_version: 3,
            epoch: 4,
            ledger_commits: 5,
            wall_ms: 6,
            number: 7,
            watermark: Some(b"at".to_vec()),
            files,
        }
    }

    fn databases() -> Vec<FileRow> {
        vec![row(Kind::Index, "index-7.redb", "index.redb"), row(Kind::Ledger, "ledger-7.redb", "ledger.redb")]
    }

    #[test]
    fn a_manifest_reads_back_and_any_change_or_cut_is_found() {
        let path = Path::new("BACKUP");
        let mut whole = manifest(databases());
        whole.files.push(row(Kind::Segment, "8000.1-3.seg", "8000.1-3.seg"));
        whole.files.push(row(Kind::Disclosures, "growing-7.log", "0000000000000001.log"));
        let bytes = whole.encode();
        assert_eq!(Manifest::decode(path, &bytes).unwrap(), whole);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Manifest::decode(path, &bad).is_err(), "byte {at}");
            assert!(Manifest::decode(path, &bytes[..at]).is_err(), "cut to {at}");
        }
        for watermark in [None, Some(Vec::new())] {
            let other = Manifest { watermark, ..whole.clone() };
            assert_eq!(Manifest::decode(path, &other.encode()).unwrap(), other);
        }
    }

    /// As `docs/FORMAT.md` says, put together by hand.
    #[test]
    fn a_manifest_is_pinned_byte_by_byte() {
        let numbers = [3, 4, 5, 6, 7, 3, 2].map(u64::to_le_bytes);
        let head =
            [&b"UNLSTBAK\x01\0\0\0\0\0\0\0"[..], &[1; 16], &[2; 16], numbers.as_flattened(), b"at"].concat();
        let (len, digest) = (9_u64.to_le_bytes(), (u128::MAX / 3).to_le_bytes());
        let index = [&[0, 12, 10, 0][..], &len, &digest, b"index-7.redb", b"index.redb"].concat();
        let ledger = [&[1, 13, 11, 0][..], &len, &digest, b"ledger-7.redb", b"ledger.redb"].concat();
        let bytes = manifest(databases()).encode();
        let (summed, sum) = bytes.split_last_chunk::<8>().unwrap();
        assert_eq!(summed, [head, index, ledger].concat());
        assert_eq!(*sum, xxh3_64(summed).to_le_bytes());
    }

    #[test]
    fn names_that_lead_elsewhere_and_missing_databases_are_damage() {
        let names = ["../x.seg", "/x.seg", "a/b.seg", ".x.seg", "x", "", "index.redb"];
        for name in names {
            let files = [databases(), vec![row(Kind::Segment, "a.seg", name)]].concat();
            assert!(Manifest::decode(Path::new("B"), &manifest(files).encode()).is_err(), "{name}");
        }
        let stored = [databases(), vec![row(Kind::Segment, "../a.seg", "a.seg")]].concat();
        let twice = [databases(), databases()].concat();
        for files in [stored, twice, Vec::new(), databases()[..1].to_vec()] {
            assert!(Manifest::decode(Path::new("B"), &manifest(files).encode()).is_err());
        }
        let mut later = manifest(databases()).encode();
        later[8] = 2;
        assert!(matches!(Manifest::decode(Path::new("B"), &later), Err(Error::NewerFormat { found: 2, .. })));
    }
}
