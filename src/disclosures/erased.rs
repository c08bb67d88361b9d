//! Accounts whose rows are to go: hidden from queries at once, taken out of the files by the next compaction.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use xxhash_rust::xxh3::xxh3_64;

use super::Folder;
use super::frame::{VERSION, bytes_at, damaged, u64_at};
use crate::disk::{File, MappedFile};
use crate::words::{AccountId, Damage, Error, Result};

pub(super) const NAME: &str = "erased";
const MAGIC: &[u8; 8] = b"UNLSTDER";
/// Magic, version, index id.
const HEAD_LEN: usize = 32;
const ROW_LEN: usize = 24;
const SUM_LEN: usize = 8;

/// Accounts, each with the newest log whose rows of it go. What was shown later stays.
pub(super) type Erased = HashMap<AccountId, u64>;

/// The erasures that no compaction has carried out yet.
pub(super) struct Pending {
    path: PathBuf,
    erased: RwLock<Arc<Erased>>,
}

impl Pending {
    pub(super) fn open(folder: &Folder) -> Result<Self> {
        let path = folder.dir.join(NAME);
        let erased = match folder.disk.read(&path, u64::MAX)? {
            Some(bytes) => decode(&path, &bytes, &folder.index_id)?,
            None => Erased::new(),
        };
        Ok(Self { path, erased: RwLock::new(Arc::new(erased)) })
    }

    pub(super) fn get(&self) -> Arc<Erased> {
        self.erased.read().clone()
    }

    /// What the file says; `None` if there is nothing to say.
    pub(super) fn bytes(&self, folder: &Folder) -> Option<Vec<u8>> {
        let erased = self.get();
        (!erased.is_empty()).then(|| encode(&erased, &folder.index_id))
    }

    /// Adds accounts, durably.
    pub(super) fn add(&self, folder: &Folder, accounts: &[AccountId], up_to: u64) -> Result<()> {
        let mut next = Erased::clone(&self.get());
        next.extend(accounts.iter().map(|account| (*account, up_to)));
        self.replace(folder, next)
    }

    /// Drops those that were carried out, unless they were asked for again since.
    pub(super) fn done(&self, folder: &Folder, done: &Erased) -> Result<()> {
        let mut next = Erased::clone(&self.get());
        next.retain(|account, up_to| done.get(account) != Some(up_to));
        self.replace(folder, next)
    }

    fn replace(&self, folder: &Folder, next: Erased) -> Result<()> {
        if next.is_empty() {
            // One that comes back after a crash is carried out once more.
            folder.disk.remove_file(&self.path)?;
        } else {
            let bytes = encode(&next, &folder.index_id);
            let check = |path: &Path, map: MappedFile| decode(path, map.as_ref(), &folder.index_id);
            let write = |path: &Path, file: &mut File| file.write_all(&bytes).map_err(Error::io("write", path));
            folder.disk.publish_streamed(&folder.dir, NAME, write, check)?;
        }
        *self.erased.write() = Arc::new(next);
        Ok(())
    }
}

fn encode(erased: &Erased, index_id: &[u8; 16]) -> Vec<u8> {
    let mut rows: Vec<_> = erased.iter().collect();
    rows.sort_unstable();
    let mut bytes = [&MAGIC[..], &u64::from(VERSION).to_le_bytes(), index_id].concat();
    for (account, up_to) in rows {
        bytes.extend_from_slice(&account.to_bytes());
        bytes.extend_from_slice(&up_to.to_le_bytes());
    }
    let sum = xxh3_64(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(path: &Path, bytes: &[u8], index_id: &[u8; 16]) -> Result<Erased> {
    let found = bytes.len() as u64;
    let short = || damaged(path, 0, Damage::Length { expected: (HEAD_LEN + SUM_LEN) as u64, found });
    if bytes_at::<8>(bytes, 0).ok_or_else(short)? != *MAGIC {
        return Err(Error::ForeignFormat { path: path.to_owned(), expected: "a file of the disclosure log" });
    }
    let version = u32::from_le_bytes(bytes_at(bytes, 8).ok_or_else(short)?);
    if version > VERSION {
        return Err(Error::NewerFormat { path: path.to_owned(), found: version, supported: VERSION });
    }
    let (summed, sum) = bytes.split_last_chunk::<SUM_LEN>().ok_or_else(short)?;
    if xxh3_64(summed).to_le_bytes() != *sum {
        return Err(damaged(path, 0, Damage::Checksum { of: "the file" }));
    }
    if bytes_at::<16>(bytes, 16).ok_or_else(short)? != *index_id {
        return Err(Error::DisclosuresForeign { path: path.to_owned() });
    }
    let (rows, rest) = summed.get(HEAD_LEN..).ok_or_else(short)?.as_chunks::<ROW_LEN>();
    if !rest.is_empty() {
        return Err(damaged(path, found, Damage::Length { expected: found - rest.len() as u64, found }));
    }
    let row = |row: &[u8; ROW_LEN]| Some((AccountId::from_bytes(bytes_at(row, 0)?), u64_at(row, 16)?));
    Ok(rows.iter().filter_map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_and_every_cut_of_the_file_is_noticed() {
        let (path, id) = (Path::new("erased"), [3; 16]);
        let erased: Erased = (1..4).map(|i| (AccountId::from(i), i * 10)).collect();
        let bytes = encode(&erased, &id);
        assert_eq!(decode(path, &bytes, &id).unwrap(), erased);
        assert!(matches!(decode(path, &bytes, &[4; 16]), Err(Error::DisclosuresForeign { .. })));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x40;
            assert!(decode(path, &bad, &id).is_err(), "byte {at}");
            assert!(decode(path, &bytes[..at], &id).is_err(), "cut to {at}");
        }
    }
}
