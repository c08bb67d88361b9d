//! Sorting entries by key and account: the slowest part of building a segment, if done naively.

use crate::words::Entry;

/// Entries that are sorted within the cache: 40 bytes each.
const RUN: usize = 512;

/// A stable sort by *(key, account)* of entries whose keys are uniform behind `range_bits` equal bits.
///
/// One pass scatters them by their next bits into runs of about [`RUN`], each of which is then sorted while it is
/// in the cache. An import of 10 million went from 5.7 to 3.1 s with it, on a machine with other work.
pub(crate) fn sort_entries(entries: Vec<Entry>, range_bits: u8) -> Vec<Entry> {
    let runs = entries.len() / RUN;
    if runs < 4 {
        let mut entries = entries;
        entries.sort_by_key(Entry::id);
        return entries;
    }
    let bits = runs.ilog2().min(14);
    let run_of = |entry: &Entry| (entry.key.hi << range_bits >> (64 - bits)) as usize;
    let mut ends = vec![0_usize; 1 << bits];
    for entry in &entries {
        ends[run_of(entry)] += 1;
    }
    let mut start = 0;
    for end in &mut ends {
        start += std::mem::replace(end, start);
    }
    // `ends` holds where each run starts and becomes where it ends.
    let Some(first) = entries.first().copied() else { return entries };
    let mut sorted = vec![first; entries.len()];
    for entry in &entries {
        let at = &mut ends[run_of(entry)];
        sorted[*at] = *entry;
        *at += 1;
    }
    let mut rest = sorted.as_mut_slice();
    let mut start = 0;
    let mut sorter = RunSorter::default();
    for end in ends {
        let (run, others) = rest.split_at_mut(end - start);
        sorter.sort_run(run, u32::from(range_bits) + bits);
        (rest, start) = (others, end);
    }
    sorted
}

/// Memory for sorting one run after the other.
#[derive(Debug, Default)]
pub(crate) struct RunSorter {
    order: Vec<u64>,
    sorted: Vec<Entry>,
}

impl RunSorter {
    /// A stable sort by *(key, account)* of a run whose keys begin with `bits` equal bits: first words of 48 bits of the key and the position, then the
    /// entries once, in that order. Where 48 bits did not decide, the sort of whole entries does.
    pub(crate) fn sort_run(&mut self, run: &mut [Entry], bits: u32) {
        if run.len() > usize::from(u16::MAX) {
            run.sort_by_key(Entry::id);
            return;
        }
        self.order.clear();
        let word = |(i, entry): (u64, &Entry)| (entry.key.hi << bits) & !0xffff | i;
        self.order.extend((0..).zip(run.iter()).map(word));
        self.order.sort_unstable();
        self.sorted.clear();
        self.sorted.extend(self.order.iter().filter_map(|word| run.get((word & 0xffff) as usize)));
        run.copy_from_slice(&self.sorted);
        if !run.is_sorted_by_key(Entry::id) {
            run.sort_by_key(Entry::id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{AccountId, Flags, Key, Version};

    #[test]
    fn it_is_the_stable_sort() {
        for (count, range_bits) in [(0, 0), (1, 0), (3_000, 3), (40_000, 0), (70_000, 5)] {
            let entry = |i: u64| {
                let key = Key::from_u128(
                    xxhash_rust::xxh3::xxh3_128(&(i % (count / 3 + 1)).to_le_bytes()) >> range_bits,
                );
                Entry::new(key, AccountId::from(i % 2), Version::new(i).unwrap(), Flags::removed(0))
            };
            let entries: Vec<Entry> = (0..count).map(entry).collect();
            let mut expected = entries.clone();
            expected.sort_by_key(Entry::id);
            assert_eq!(sort_entries(entries, range_bits), expected);
        }
    }
}
