//! Rows of a part of the key space, sorted: each goes to the run of the first 16 bits of its key, whose room is known
//! before, and each run is then sorted while it is in the cache.

use super::partition::Partitions;
use crate::segment::keys::{KeyRange, mask_key};
use crate::segment::sort::RunSorter;
use crate::words::{AccountId, Entry, Flags, Key, Version};

/// Bits of the key that choose a run: those that a block is in the order of.
const RUN_BITS: u32 = 16;

/// Memory of one thread for the rows of one part after the other.
#[derive(Debug, Default)]
pub(super) struct Scatter {
    /// At least as long as any part was; what is behind the rows of this one is left from others.
    entries: Vec<Entry>,
    rows: usize,
    /// The first run's prefix.
    first: u64,
    /// Where the next row of each run goes, and where the run ends.
    runs: Vec<Run>,
    sorter: RunSorter,
}

#[derive(Debug, Default, Clone, Copy)]
struct Run {
    next: usize,
    end: usize,
}

impl Scatter {
    /// Makes room for the rows that a range has in some partitions.
    pub(super) fn begin(&mut self, range: KeyRange, numbers: impl Iterator<Item = usize>, rows: &Partitions) {
        let [first, last] = [range.first_key(), range.last_key()].map(|key| key.hi >> (64 - RUN_BITS));
        self.first = first;
        self.runs.clear();
        self.runs.resize((last - first + 1) as usize, Run::default());
        for number in numbers {
            rows.count(number, |prefix, count| {
                if let Some(run) = prefix.checked_sub(first).and_then(|at| self.runs.get_mut(at as usize)) {
                    run.end += count as usize;
                }
            });
        }
        let mut end = 0;
        for run in &mut self.runs {
            run.next = end;
            end += run.end;
            run.end = end;
        }
        self.rows = end;
        if self.entries.len() < end {
            let none = Entry::new(Key { hi: 0, lo: 0 }, AccountId::from(0), Version::default(), Flags::removed(0));
            // Without a copy of what is not needed any more, and with room for a part that is a little larger.
            self.entries.clear();
            self.entries.resize(end + end / 64, none);
        }
    }

    /// How many rows there is room for.
    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    /// Where the next rows of a run go. `None` if the run is not of this part, or has no room for them.
    pub(super) fn run(&mut self, prefix: u64, count: usize) -> Option<&mut [Entry]> {
        let run = self.runs.get_mut(usize::try_from(prefix.checked_sub(self.first)?).ok()?)?;
        let start = run.next;
        run.next = start.checked_add(count).filter(|next| *next <= run.end)?;
        self.entries.get_mut(start..run.next)
    }

    /// Cuts the keys to `key_bits`, sorts the rows by key and account, and keeps of each listing the row with the
    /// greatest version, the first added of several. Each range has whole runs.
    pub(super) fn sorted(&mut self, key_bits: u8) -> &mut [Entry] {
        let (mut start, mut kept) = (0, 0);
        for run in &self.runs {
            if let Some(rows) = self.entries.get_mut(start..run.next) {
                rows.iter_mut().for_each(|row| row.key = mask_key(row.key, key_bits));
                self.sorter.sort_run(rows, RUN_BITS);
            }
            kept = keep_newest(&mut self.entries, start..run.next, kept);
            start = run.end;
        }
        self.entries.get_mut(..kept).unwrap_or_default()
    }
}

/// Moves rows down to `kept`, of equal ids the one with the greatest version, the first of several. Returns where what
/// is kept ends.
fn keep_newest(entries: &mut [Entry], rows: std::ops::Range<usize>, mut kept: usize) -> usize {
    let mut last: Option<Entry> = None;
    for at in rows {
        let Some(row) = entries.get(at).copied() else { return kept };
        match last {
            Some(before) if before.id() == row.id() => {
                if row.version() <= before.version() {
                    continue;
                }
                kept -= 1;
            }
            _ => {}
        }
        last = Some(row);
        if let Some(to) = entries.get_mut(kept) {
            *to = row;
        }
        kept += 1;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::keys::MIN_KEY_BITS;

    /// Rows of 5,000 listings in four partitions, several of each, with versions that repeat.
    fn rows(count: u64) -> Vec<Entry> {
        let row = |i: u64| {
            let hash = xxhash_rust::xxh3::xxh3_128(&(i % 5_000).to_le_bytes());
            let key = Key::from_u128(hash & !(0x3f << 120));
            // Which of several equal versions it was shows in the flags.
            let flags = Flags::removed((i / 5_000 % 64) as u8);
            Entry::new(key, AccountId::from(i % 2), Version::new(i / 5_000 * 7 % 5).unwrap(), flags)
        };
        (0..count).map(row).collect()
    }

    #[test]
    fn of_each_listing_the_first_of_the_newest_is_kept_in_order() {
        let rows = rows(60_000);
        let dir = tempfile::tempdir().unwrap();
        let partitions = Partitions::new(&crate::disk::Disk::Real, dir.path(), 1 << 20);
        for chunk in rows.chunks(4_000) {
            partitions.with_scratch(|scratch| {
                scratch.keys.clear();
                scratch.keys.extend(chunk.iter().map(|row| row.key));
                partitions.add(scratch, |at, _| chunk.get(at).copied()).unwrap();
            });
        }
        partitions.finish().unwrap();
        let (mut reader, mut scatter) = (partitions.reader().unwrap(), Scatter::default());
        for (depth, key_bits) in [(0, 128), (1, MIN_KEY_BITS), (3, 96), (9, 128), (16, 90)] {
            let mut all = Vec::new();
            let mut counted = 0;
            for range in KeyRange::ALL.split_to(depth) {
                let [first, last] = [range.first_key(), range.last_key()].map(|key| (key.hi >> 56) as usize);
                scatter.begin(range, first..=last, &partitions);
                (first..=last).for_each(|n| partitions.read(n, false, &mut reader, &mut scatter).unwrap());
                counted += scatter.rows();
                all.extend_from_slice(scatter.sorted(key_bits));
            }
            let mut expected: Vec<Entry> =
                rows.iter().map(|row| Entry { key: mask_key(row.key, key_bits), ..*row }).collect();
            expected.sort_by_key(|row| (row.id(), std::cmp::Reverse(row.version())));
            expected.dedup_by_key(|row| row.id());
            assert_eq!((counted, all.len()), (rows.len(), expected.len()));
            assert!(all == expected, "depth {depth}");
        }
    }
}
