//! Rows by the first byte of their key, in memory up to a limit and beyond it in temporary files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::record::{self, Width};
use crate::disk::{self, Buffer, Spill};
use crate::words::{Damage, Entry, Error, Result};
use xxhash_rust::xxh3::xxh3_64;

/// Bits of the key that choose a partition.
pub(super) const PARTITION_BITS: u8 = 8;
const PARTITIONS: usize = 1 << PARTITION_BITS;
/// Bytes of a block of rows: whole records of either width, and whole units of a direct transfer.
const BLOCK_LEN: usize = 51 * 20_480;

/// All rows of an import. Threads may add at once; each partition has a lock of its own.
#[derive(Debug)]
pub(super) struct Partitions {
    parts: Vec<Mutex<Partition>>,
    /// Bytes of full blocks in memory.
    held: AtomicUsize,
    /// Bytes of full blocks in memory above which they go to a file.
    limit: usize,
    /// Bytes at which a block is full: less than [`BLOCK_LEN`] only to test small imports.
    block_len: usize,
}

/// The rows of one partition, by the width of their records: a listing has one width, so that the order in which
/// its rows were added is kept.
#[derive(Debug)]
struct Partition {
    rows: u64,
    streams: [Stream; 2],
}

/// Records of one width in the order of adding: in the file, in full blocks, in the open block.
#[derive(Debug)]
struct Stream {
    width: Width,
    path: PathBuf,
    file: Option<Spilled>,
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
}

/// Blocks in a file. The file is read back by the same process only, but the disk may still have changed it: the
/// checksums are kept in memory.
#[derive(Debug)]
struct Spilled {
    file: Spill,
    sums: Vec<u64>,
}

impl Partitions {
    pub(super) fn new(folder: &Path, memory_bytes: usize) -> Self {
        let stream = |i: usize, width: Width| {
            let path = folder.join(format!("{i:02x}-{}.part", width.record_len()));
            Stream { width, path, file: None, full: Vec::new(), open: Vec::new() }
        };
        let part =
            |i| Mutex::new(Partition { rows: 0, streams: [stream(i, Width::Number), stream(i, Width::Whole)] });
        // Open blocks count too: with little memory they are smaller, by whole units of a transfer.
        let share = memory_bytes / PARTITIONS / 20_480 * 20_480;
        let block_len = share.clamp(20_480, BLOCK_LEN);
        Self {
            parts: (0..PARTITIONS).map(part).collect(),
            held: AtomicUsize::new(0),
            limit: memory_bytes.saturating_sub(PARTITIONS * block_len / 2),
            block_len,
        }
    }

    /// Adds rows. `numbers` is scratch memory.
    pub(super) fn add(&self, entries: &[Entry], numbers: &mut Vec<u32>) -> Result<()> {
        // Sorted by partition first, so that a lock is taken once for many rows.
        let mut ends = [0_u32; PARTITIONS + 1];
        for entry in entries {
            ends[partition_of(entry) + 1] += 1;
        }
        for number in 0..PARTITIONS {
            ends[number + 1] += ends[number];
        }
        let mut starts = ends;
        numbers.clear();
        numbers.resize(entries.len(), 0);
        for (number, entry) in (0_u32..).zip(entries) {
            let start = &mut starts[partition_of(entry)];
            if let Some(to) = numbers.get_mut(*start as usize) {
                *to = number;
            }
            *start += 1;
        }
        for (number, part) in self.parts.iter().enumerate() {
            let range = ends[number] as usize..ends[number + 1] as usize;
            if !range.is_empty() {
                let of_part = numbers.get(range).unwrap_or_default();
                let rows = of_part.iter().filter_map(|number| entries.get(*number as usize));
                part.lock().add(rows, self)?;
            }
        }
        Ok(())
    }

    /// Brings every stream that has a file wholly onto disk, so that building has the memory.
    pub(super) fn flush(&self) -> Result<()> {
        for part in &self.parts {
            for stream in &mut part.lock().streams {
                if stream.file.is_some() {
                    stream.spill(self)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn rows(&self) -> u64 {
        (0..PARTITIONS).map(|number| self.len_of(number)).sum()
    }

    /// Rows of partition `number`.
    pub(super) fn len_of(&self, number: usize) -> u64 {
        self.parts.get(number).map_or(0, |part| part.lock().rows)
    }

    /// Appends the rows of partition `number` to `to`, those of one listing in the order in which they were added. With
    /// `last` the partition is not needed any more, and gives back its memory and its files.
    pub(super) fn read_into(&self, number: usize, last: bool, to: &mut Vec<Entry>) -> Result<()> {
        let Some(part) = self.parts.get(number) else { return Ok(()) };
        let mut part = part.lock();
        to.reserve(usize::try_from(part.rows).unwrap_or(0));
        for stream in &mut part.streams {
            stream.read_into(self.block_len, to)?;
            if last {
                stream.release(self)?;
            }
        }
        Ok(())
    }
}

fn partition_of(entry: &Entry) -> usize {
    (entry.key.hi >> (64 - PARTITION_BITS)) as usize
}

impl Partition {
    fn add<'a>(&mut self, rows: impl Iterator<Item = &'a Entry>, all: &Partitions) -> Result<()> {
        for entry in rows {
            let [number, whole] = &mut self.streams;
            let stream = if entry.account.as_u64().is_some() { number } else { whole };
            if stream.open.len() + stream.width.record_len() > all.block_len {
                stream.close_block(all)?;
            }
            record::push(stream.width, entry, &mut stream.open);
            self.rows += 1;
        }
        Ok(())
    }
}

impl Stream {
    /// Puts the open block to the full ones, or, if there are as many as memory allows, all of them to the file.
    fn close_block(&mut self, all: &Partitions) -> Result<()> {
        let block = std::mem::take(&mut self.open);
        let held = all.held.fetch_add(block.len(), Ordering::Relaxed) + block.len();
        self.full.push(block);
        if held > all.limit { self.spill(all) } else { Ok(()) }
    }

    /// Writes what is in memory behind what is in the file. The last block may be shorter than the others; nothing
    /// is spilled behind it.
    fn spill(&mut self, all: &Partitions) -> Result<()> {
        if !self.open.is_empty() {
            let block = std::mem::take(&mut self.open);
            all.held.fetch_add(block.len(), Ordering::Relaxed);
            self.full.push(block);
        }
        if self.file.is_none() {
            self.file = Some(Spilled { file: Spill::create(&self.path)?, sums: Vec::new() });
        }
        let Some(spilled) = &mut self.file else { return Ok(()) };
        let mut buffer = Buffer::zeroed(all.block_len)?;
        for block in self.full.drain(..) {
            let bytes = buffer.as_mut();
            let (used, rest) = bytes.split_at_mut(block.len().min(bytes.len()));
            used.copy_from_slice(&block);
            // A record of zeros ends a short block.
            rest.fill(0);
            spilled.sums.push(xxh3_64(bytes));
            spilled.file.append(&self.path, &buffer)?;
            all.held.fetch_sub(block.len(), Ordering::Relaxed);
        }
        Ok(())
    }

    fn read_into(&mut self, block_len: usize, to: &mut Vec<Entry>) -> Result<()> {
        if let Some(spilled) = &mut self.file {
            spilled.file.rewind(&self.path)?;
            let mut buffer = Buffer::zeroed(block_len)?;
            for (number, sum) in spilled.sums.iter().enumerate() {
                spilled.file.read(&self.path, &mut buffer)?;
                let read = xxh3_64(buffer.as_ref()) == *sum && record::read(self.width, buffer.as_ref(), to);
                if !read {
                    return Err(damaged(&self.path, (number * block_len) as u64));
                }
            }
        }
        for block in self.full.iter().chain([&self.open]) {
            if !record::read(self.width, block, to) {
                return Err(damaged(&self.path, 0));
            }
        }
        Ok(())
    }

    fn release(&mut self, all: &Partitions) -> Result<()> {
        let full: usize = self.full.drain(..).map(|block| block.len()).sum();
        all.held.fetch_sub(full, Ordering::Relaxed);
        self.open = Vec::new();
        match self.file.take() {
            Some(_) => disk::remove_file(&self.path),
            None => Ok(()),
        }
    }
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
    use crate::words::{AccountId, Flags, Key, OptIns, Version};

    /// Every fifth account does not fit into a number.
    fn entries(count: u64) -> Vec<Entry> {
        let entry = |i: u64| {
            let key = Key::from_u128(xxhash_rust::xxh3::xxh3_128(&i.to_le_bytes()));
            let high = u128::from(i.is_multiple_of(5)) << 64;
            let account = AccountId::from_bytes((high | u128::from(i)).to_be_bytes());
            Entry::new(key, account, Version::new(i).unwrap(), Flags::live(OptIns::SEARCH))
        };
        (0..count).map(entry).collect()
    }

    fn filled(dir: &Path, memory_bytes: usize, rows: &[Entry]) -> Partitions {
        let partitions = Partitions::new(dir, memory_bytes);
        let mut scratch = Vec::new();
        rows.chunks(700).for_each(|chunk| partitions.add(chunk, &mut scratch).unwrap());
        partitions
    }

    fn read_all(partitions: &Partitions) -> Result<Vec<Entry>> {
        let mut all = Vec::new();
        for number in 0..PARTITIONS {
            let before = all.len();
            partitions.read_into(number, false, &mut all)?;
            let of_part = &all[before..];
            assert_eq!(of_part.len() as u64, partitions.len_of(number));
            assert!(of_part.iter().all(|e| e.key.hi >> 56 == number as u64));
            let widths = of_part.chunk_by(|a, b| a.account.as_u64().is_some() == b.account.as_u64().is_some());
            assert!(widths.clone().count() <= 2, "one width follows the other");
            assert!(widths.into_iter().all(|rows| rows.is_sorted_by_key(Entry::version)), "the order is kept");
        }
        Ok(all)
    }

    fn files(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn what_goes_in_comes_out_from_memory_and_from_files() {
        let rows = entries(400_000);
        for memory in [1 << 20, 1 << 30] {
            let dir = tempfile::tempdir().unwrap();
            let partitions = filled(dir.path(), memory, &rows);
            partitions.flush().unwrap();
            assert_eq!(files(dir.path()) > 0, memory == 1 << 20);
            assert_eq!(partitions.rows(), rows.len() as u64);
            let mut all = read_all(&partitions).unwrap();
            all.sort_by_key(Entry::version);
            assert_eq!(all, rows);
        }
    }

    #[test]
    fn threads_add_at_once() {
        let rows = entries(200_000);
        let dir = tempfile::tempdir().unwrap();
        let partitions = Partitions::new(dir.path(), 1 << 20);
        std::thread::scope(|scope| {
            for half in rows.chunks(100_000) {
                let partitions = &partitions;
                scope.spawn(move || partitions.add(half, &mut Vec::new()).unwrap());
            }
        });
        partitions.flush().unwrap();
        let mut all = Vec::new();
        (0..PARTITIONS).for_each(|number| partitions.read_into(number, true, &mut all).unwrap());
        all.sort_by_key(Entry::version);
        assert_eq!(all, rows);
        assert_eq!(files(dir.path()), 0, "what was read for the last time is gone");
    }

    #[test]
    fn a_changed_temporary_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let partitions = filled(dir.path(), 1 << 20, &entries(400_000));
        let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[17] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(read_all(&partitions), Err(Error::Damaged { .. })));
        std::fs::write(&path, &bytes[..100]).unwrap();
        assert!(matches!(read_all(&partitions), Err(Error::Io { .. })));
    }
}
