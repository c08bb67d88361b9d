//! Rows by the first byte of their key: an open vector each, packed blocks in memory up to a limit, and beyond it in
//! temporary files.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::arena::{Arena, Slot};
use super::block::{self, Block, HEADER_LEN, RUNS, Width};
use super::scatter::Scatter;
use super::spill::{BlockReader, Spiller, damaged};
use crate::disk::Disk;
use crate::words::{Entry, Key, Result};

/// Bits of the key that choose a partition.
pub(super) const PARTITION_BITS: u8 = 8;
const PARTITIONS: usize = 1 << PARTITION_BITS;
/// Rows of an open vector, with little memory and with much. The latter make six blocks of a huge page.
const OPEN_ROWS: (usize, usize) = (400, 15_104);

/// All rows of an import. Threads may add at once; each partition has a lock of its own.
#[derive(Debug)]
pub(super) struct Partitions {
    parts: Vec<Mutex<Partition>>,
    arena: Arc<Arena>,
    spiller: Spiller,
    /// Rows at which an open vector is packed.
    open_rows: usize,
    scratch: Mutex<Vec<Scratch>>,
}

/// The rows of one partition, by the width of their accounts: a listing has one width, so that the order in which
/// its rows were added is kept.
#[derive(Debug)]
struct Partition {
    rows: u64,
    /// Rows in blocks, by their second byte.
    packed: [u64; RUNS],
    blocks: Vec<Place>,
    open: [Vec<Entry>; 2],
}

/// Where a block is.
#[derive(Debug)]
enum Place {
    Memory { slot: Slot, len: usize },
    File { ticket: usize },
}

/// Memory of one thread that adds, used again: what is new costs more than what is done in it.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) keys: Vec<Key>,
    order: Vec<u32>,
    sorted: Vec<Entry>,
}

impl Partitions {
    pub(super) fn new(disk: &Disk, folder: &Path, memory_bytes: usize) -> Self {
        // Open vectors of both widths, a sixteenth of the memory each at most, and the rest in slots.
        let of_open = size_of::<Entry>() * PARTITIONS;
        let open_rows = (memory_bytes / 16 / of_open).clamp(OPEN_ROWS.0, OPEN_ROWS.1);
        let slot_len = (HEADER_LEN + open_rows * Width::Number.row_len()).next_multiple_of(4096);
        let slots = (memory_bytes.saturating_sub(2 * open_rows * of_open) / slot_len).max(64);
        let keep = slots - (slots / 32).max(32);
        let arena = Arc::new(Arena::new(slot_len, slots, keep));
        let part = |_| {
            let open = [Vec::new(), Vec::new()];
            Mutex::new(Partition { rows: 0, packed: [0; RUNS], blocks: Vec::new(), open })
        };
        Self {
            parts: (0..PARTITIONS).map(part).collect(),
            spiller: Spiller::new(disk, folder, Arc::clone(&arena)),
            arena,
            open_rows,
            scratch: Mutex::default(),
        }
    }

    /// Runs `work` with scratch memory that no other thread uses meanwhile.
    pub(super) fn with_scratch<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let mut scratch = self.scratch.lock().pop().unwrap_or_default();
        let done = work(&mut scratch);
        self.scratch.lock().push(scratch);
        done
    }

    /// Adds the rows of the scratch memory's keys: `entry` makes the row of a key and its number.
    pub(super) fn add(&self, scratch: &mut Scratch, entry: impl Fn(usize, Key) -> Option<Entry>) -> Result<()> {
        let Scratch { keys, order, sorted } = scratch;
        // Sorted by partition first, so that a lock is taken once for many rows.
        let mut ends = [0_u32; PARTITIONS + 1];
        for key in keys.iter() {
            ends[partition_of(*key) + 1] += 1;
        }
        for number in 0..PARTITIONS {
            ends[number + 1] += ends[number];
        }
        let mut starts = ends;
        order.clear();
        order.resize(keys.len(), 0);
        for (number, key) in (0_u32..).zip(keys.iter()) {
            let start = &mut starts[partition_of(*key)];
            if let Some(to) = order.get_mut(*start as usize) {
                *to = number;
            }
            *start += 1;
        }
        for (number, part) in self.parts.iter().enumerate() {
            let range = ends[number] as usize..ends[number + 1] as usize;
            if !range.is_empty() {
                let of_part = order.get(range).unwrap_or_default().iter().map(|at| *at as usize);
                let rows = of_part.filter_map(|at| entry(at, *keys.get(at)?));
                part.lock().add(rows, self, sorted)?;
            }
        }
        Ok(())
    }

    /// Waits until what goes to files is there. Nothing is added after that.
    pub(super) fn finish(&self) -> Result<()> {
        self.spiller.finish()
    }

    pub(super) fn rows(&self) -> u64 {
        (0..PARTITIONS).map(|number| self.len_of(number)).sum()
    }

    /// Rows of partition `number`.
    pub(super) fn len_of(&self, number: usize) -> u64 {
        self.parts.get(number).map_or(0, |part| part.lock().rows)
    }

    /// Adds to `counts` how many rows partition `number` has of each second byte.
    pub(super) fn count(&self, number: usize, mut counts: impl FnMut(u64, u64)) {
        let Some(part) = self.parts.get(number) else { return };
        let part = part.lock();
        let first = prefix_of(number, 0);
        (first..).zip(part.packed).for_each(|(prefix, rows)| counts(prefix, rows));
        part.open.iter().flatten().for_each(|row| counts(row.key.hi >> 48, 1));
    }

    /// What a thread needs to read blocks that are in files.
    pub(super) fn reader(&self) -> Result<BlockReader> {
        self.spiller.reader()
    }

    /// Hands over the rows of partition `number`, those of one listing in the order in which they were added. With
    /// `last` the partition is not needed any more, and gives back its memory and its room on the disk.
    pub(super) fn read(
        &self,
        number: usize,
        last: bool,
        reader: &mut BlockReader,
        to: &mut Scatter,
    ) -> Result<()> {
        let Some(part) = self.parts.get(number) else { return Ok(()) };
        let mut part = part.lock();
        for place in &part.blocks {
            match place {
                Place::Memory { slot, len } => {
                    let read = self.arena.read(slot, |bytes| scatter(bytes.get(..*len)?, number, to))?;
                    read.ok_or_else(|| damaged(Path::new("the memory of an import"), 0))?;
                }
                Place::File { ticket } => reader.read(*ticket, last, |bytes| scatter(bytes, number, to))?,
            }
        }
        for row in part.open.iter().flatten() {
            to.run(row.key.hi >> 48, 1).into_iter().flatten().for_each(|to| *to = *row);
        }
        if last {
            part.open = [Vec::new(), Vec::new()];
        }
        Ok(())
    }
}

/// Puts the rows of a block where they belong. `None` if it is none.
fn scatter(bytes: &[u8], number: usize, to: &mut Scatter) -> Option<()> {
    let block = Block::parse(bytes)?;
    let mut at = 0;
    for (run, count) in block.counts() {
        let prefix = prefix_of(number, run);
        if count > 0
            && let Some(to) = to.run(prefix, count)
        {
            for (at, to) in (at..).zip(to) {
                *to = block.row(at, prefix)?;
            }
        }
        at += count;
    }
    Some(())
}

fn partition_of(key: Key) -> usize {
    (key.hi >> (64 - PARTITION_BITS)) as usize
}

/// The first 16 bits of keys of a partition and a second byte.
const fn prefix_of(number: usize, run: u64) -> u64 {
    (number as u64) << 8 | run
}

impl Partition {
    fn add(&mut self, rows: impl Iterator<Item = Entry>, all: &Partitions, sorted: &mut Vec<Entry>) -> Result<()> {
        for row in rows {
            let width = Width::of(row.account);
            let open = self.open_of(width);
            if open.capacity() == 0 {
                open.reserve_exact(all.open_rows);
            }
            open.push(row);
            if open.len() == all.open_rows {
                self.pack(width, all, sorted)?;
            }
            self.rows += 1;
        }
        Ok(())
    }

    const fn open_of(&mut self, width: Width) -> &mut Vec<Entry> {
        let [numbers, whole] = &mut self.open;
        match width {
            Width::Number => numbers,
            Width::Whole => whole,
        }
    }

    /// Makes a block of the first open rows, as many as have room in one.
    fn pack(&mut self, width: Width, all: &Partitions, sorted: &mut Vec<Entry>) -> Result<()> {
        let taken = all.arena.take()?;
        let open = self.open_of(width);
        let packed = all.arena.write(&taken.slot, |bytes| block::pack(width, open, sorted, bytes))?;
        open.drain(..packed.rows);
        for row in sorted.iter() {
            self.packed[block::run_of(row.key)] += 1;
        }
        self.blocks.push(if taken.keep {
            Place::Memory { slot: taken.slot, len: packed.len }
        } else {
            Place::File { ticket: all.spiller.send(taken.slot, packed.len)? }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::keys::KeyRange;
    use crate::words::{AccountId, Error, Flags, OptIns, Version};

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

    fn add(partitions: &Partitions, rows: &[Entry]) {
        for chunk in rows.chunks(700) {
            partitions.with_scratch(|scratch| {
                scratch.keys.clear();
                scratch.keys.extend(chunk.iter().map(|row| row.key));
                partitions.add(scratch, |at, _| chunk.get(at).copied()).unwrap();
            });
        }
    }

    fn read_all(partitions: &Partitions, last: bool) -> Result<Vec<Entry>> {
        let (mut reader, mut scatter) = (partitions.reader()?, Scatter::default());
        let mut all = Vec::new();
        for number in 0..PARTITIONS {
            let range = KeyRange::new((number as u64) << 56, PARTITION_BITS).unwrap();
            scatter.begin(range, std::iter::once(number), partitions);
            partitions.read(number, last, &mut reader, &mut scatter)?;
            assert_eq!(scatter.rows() as u64, partitions.len_of(number));
            let of_part = scatter.sorted(128);
            assert!(of_part.is_sorted_by_key(|row| row.key));
            assert!(of_part.iter().all(|row| range.contains(row.key)));
            all.extend_from_slice(of_part);
        }
        all.sort_by_key(Entry::version);
        Ok(all)
    }

    fn spilled(dir: &Path) -> u64 {
        std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }

    #[test]
    fn what_goes_in_comes_out_from_memory_and_from_files() {
        let rows = entries(600_000);
        for memory in [1 << 20, 1 << 30] {
            let dir = tempfile::tempdir().unwrap();
            let partitions = Partitions::new(&Disk::Real, dir.path(), memory);
            add(&partitions, &rows);
            partitions.finish().unwrap();
            assert_eq!(spilled(dir.path()) > 0, memory == 1 << 20);
            assert_eq!(partitions.rows(), rows.len() as u64);
            assert_eq!(read_all(&partitions, false).unwrap(), rows);
            assert_eq!(read_all(&partitions, true).unwrap(), rows);
        }
    }

    #[test]
    fn threads_add_at_once() {
        let rows = entries(400_000);
        let dir = tempfile::tempdir().unwrap();
        let partitions = Partitions::new(&Disk::Real, dir.path(), 1 << 20);
        std::thread::scope(|scope| {
            for part in rows.chunks(100_000) {
                let partitions = &partitions;
                scope.spawn(move || add(partitions, part));
            }
        });
        partitions.finish().unwrap();
        assert_eq!(read_all(&partitions, true).unwrap(), rows);
        // What was read for the last time takes no room, where the file system can do that.
        #[cfg(target_os = "linux")]
        {
            use std::os::unix::fs::MetadataExt;
            let files = std::fs::read_dir(dir.path()).unwrap();
            let blocks: u64 = files.map(|file| file.unwrap().metadata().unwrap().blocks()).sum();
            assert!(blocks * 512 < spilled(dir.path()) / 100, "{blocks} blocks are left");
        }
    }

    #[test]
    fn a_changed_temporary_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let partitions = Partitions::new(&Disk::Real, dir.path(), 1 << 20);
        add(&partitions, &entries(400_000));
        partitions.finish().unwrap();
        let files = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
        let path = files.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEADER_LEN + 17] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(read_all(&partitions, false), Err(Error::Damaged { .. })));
        std::fs::write(&path, &bytes[..100]).unwrap();
        assert!(matches!(read_all(&partitions, false), Err(Error::Io { .. })));
    }

    #[test]
    fn a_file_that_cannot_be_made_fails_the_import_and_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let partitions = Partitions::new(&Disk::Real, &dir.path().join("missing"), 1 << 20);
        let rows = entries(600_000);
        let added = rows.chunks(700).try_for_each(|chunk| {
            partitions.with_scratch(|scratch| {
                scratch.keys.clear();
                scratch.keys.extend(chunk.iter().map(|row| row.key));
                partitions.add(scratch, |at, _| chunk.get(at).copied())
            })
        });
        assert!(matches!(added, Err(Error::Io { .. })), "{added:?}");
        assert!(matches!(partitions.finish(), Err(Error::Poisoned { .. })));
    }
}
