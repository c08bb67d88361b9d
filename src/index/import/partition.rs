//! Rows by the first byte of their key, in memory up to a limit and beyond it in temporary files.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::words::{AccountId, Damage, Entry, Error, Key, Result, Stamp};

/// Bits of the key that choose a partition.
pub(super) const PARTITION_BITS: u8 = 8;
const PARTITIONS: usize = 1 << PARTITION_BITS;
/// Bytes of an entry in a temporary file: key, account, version and flags.
const RECORD_LEN: usize = 40;

/// All rows of an import.
#[derive(Debug)]
pub(super) struct Partitions {
    parts: Vec<Partition>,
    /// Rows in memory after which a partition goes to its file.
    spill_at: usize,
}

#[derive(Debug)]
struct Partition {
    path: PathBuf,
    rows: Vec<Entry>,
    file: Option<Spilled>,
}

/// What of a partition is on disk. The file is read back by the same process only, but the disk may still have
/// changed it: its checksum is kept in memory.
struct Spilled {
    file: File,
    rows: u64,
    sum: Xxh3,
}

impl std::fmt::Debug for Spilled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spilled").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl Partitions {
    pub(super) fn new(folder: &Path, memory_bytes: usize) -> Self {
        let part = |i| Partition { path: folder.join(format!("{i:02x}.part")), rows: Vec::new(), file: None };
        let spill_at = (memory_bytes / PARTITIONS / size_of::<Entry>()).max(16);
        Self { parts: (0..PARTITIONS).map(part).collect(), spill_at }
    }

    pub(super) fn add(&mut self, entries: &[Entry]) -> Result<()> {
        for entry in entries {
            let number = (entry.key.hi >> (64 - PARTITION_BITS)) as usize;
            let Some(part) = self.parts.get_mut(number) else { continue };
            if part.rows.len() == self.spill_at {
                part.spill()?;
            }
            if part.rows.len() == part.rows.capacity() {
                // Grows in steps that waste little, and never past what is spilled at.
                part.rows.reserve_exact((part.rows.len() / 2).clamp(16, self.spill_at));
            }
            part.rows.push(*entry);
        }
        Ok(())
    }

    /// Brings every partition that has a file wholly onto disk, so that building has the memory.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.parts.iter_mut().filter(|part| part.file.is_some()).try_for_each(Partition::spill)
    }

    pub(super) fn rows(&self) -> u64 {
        self.parts.iter().map(Partition::len).sum()
    }

    /// Rows of partition `number`.
    pub(super) fn len_of(&self, number: usize) -> u64 {
        self.parts.get(number).map_or(0, Partition::len)
    }

    /// Appends the rows of partition `number` to `to`, in the order in which they were added.
    pub(super) fn read_into(&self, number: usize, to: &mut Vec<Entry>) -> Result<()> {
        let Some(part) = self.parts.get(number) else { return Ok(()) };
        to.reserve(usize::try_from(part.len()).unwrap_or(0));
        if let Some(spilled) = &part.file {
            read_file(&part.path, spilled, to)?;
        }
        to.extend_from_slice(&part.rows);
        Ok(())
    }
}

impl Partition {
    fn len(&self) -> u64 {
        self.rows.len() as u64 + self.file.as_ref().map_or(0, |spilled| spilled.rows)
    }

    /// Writes the rows in memory behind those in the file.
    fn spill(&mut self) -> Result<()> {
        if self.file.is_none() {
            let file = File::create(&self.path).map_err(Error::io("create", &self.path))?;
            self.file = Some(Spilled { file, rows: 0, sum: Xxh3::new() });
        }
        let Some(spilled) = &mut self.file else { return Ok(()) };
        let mut bytes = Vec::with_capacity(self.rows.len() * RECORD_LEN);
        for entry in &self.rows {
            bytes.extend_from_slice(&entry.key.to_bytes());
            bytes.extend_from_slice(&entry.account.to_bytes());
            bytes.extend_from_slice(&entry.stamp.word().to_le_bytes());
        }
        spilled.sum.update(&bytes);
        spilled.rows += self.rows.len() as u64;
        spilled.file.write_all(&bytes).map_err(Error::io("write", &self.path))?;
        self.rows.clear();
        Ok(())
    }
}

fn read_file(path: &Path, spilled: &Spilled, to: &mut Vec<Entry>) -> Result<()> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut sum = Xxh3::new();
    let mut buffer = vec![0; RECORD_LEN * 8_192];
    let mut left = spilled.rows;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(8_192);
        let bytes = buffer.get_mut(..count * RECORD_LEN).unwrap_or_default();
        file.read_exact(bytes).map_err(Error::io("read", path))?;
        sum.update(bytes);
        for record in bytes.as_chunks::<RECORD_LEN>().0 {
            to.push(decode(record).ok_or_else(|| damaged(path, (spilled.rows - left) * RECORD_LEN as u64))?);
        }
        left -= count as u64;
    }
    if sum.digest() != spilled.sum.digest() {
        return Err(damaged(path, 0));
    }
    Ok(())
}

fn decode(record: &[u8; RECORD_LEN]) -> Option<Entry> {
    let (key, rest) = record.split_first_chunk()?;
    let (account, stamp) = rest.split_first_chunk()?;
    let stamp = Stamp::from_word(u64::from_le_bytes(*stamp.first_chunk()?))?;
    Some(Entry { key: Key::from_bytes(*key), account: AccountId::from_bytes(*account), stamp })
}

fn damaged(path: &Path, offset: u64) -> Error {
    Error::Damaged {
        path: path.to_owned(),
        offset,
        what: Damage::Checksum { of: "a temporary file of the import" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Flags, OptIns, Version};

    fn entries(count: u64) -> Vec<Entry> {
        (0..count)
            .map(|i| {
                let key = Key::from_u128(xxhash_rust::xxh3::xxh3_128(&i.to_le_bytes()));
                Entry::new(key, i.into(), Version::new(i).unwrap(), Flags::live(OptIns::SEARCH))
            })
            .collect()
    }

    fn read_all(partitions: &Partitions) -> Result<Vec<Entry>> {
        let mut all = Vec::new();
        for number in 0..PARTITIONS {
            let before = all.len();
            partitions.read_into(number, &mut all)?;
            assert_eq!((all.len() - before) as u64, partitions.len_of(number));
            assert!(all[before..].iter().all(|e| e.key.hi >> 56 == number as u64));
            assert!(all[before..].is_sorted_by_key(Entry::version), "the order of adding is kept");
        }
        Ok(all)
    }

    #[test]
    fn what_goes_in_comes_out_from_memory_and_from_files() {
        let rows = entries(50_000);
        for memory in [1 << 20, 1 << 30] {
            let dir = tempfile::tempdir().unwrap();
            let mut partitions = Partitions::new(dir.path(), memory);
            rows.chunks(700).for_each(|chunk| partitions.add(chunk).unwrap());
            partitions.flush().unwrap();
            let spilled = std::fs::read_dir(dir.path()).unwrap().count();
            assert_eq!(spilled > 0, memory == 1 << 20);
            assert_eq!(partitions.rows(), rows.len() as u64);
            let mut all = read_all(&partitions).unwrap();
            all.sort_by_key(Entry::version);
            assert_eq!(all, rows);
        }
    }

    #[test]
    fn a_changed_temporary_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mut partitions = Partitions::new(dir.path(), 1 << 20);
        partitions.add(&entries(50_000)).unwrap();
        let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[17] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(read_all(&partitions), Err(Error::Damaged { .. })));
        std::fs::write(&path, &bytes[..100]).unwrap();
        assert!(matches!(read_all(&partitions), Err(Error::Io { .. })));
    }
}
