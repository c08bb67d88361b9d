//! Rows of one partition as bytes: what an import keeps of them in memory and in temporary files.
//!
//! A block is in the order of the second byte of its keys, rows of one byte in the order of adding, so that two bytes of
//! a key are in the place of a row and a block is read run by run. Every part of a row has a column of its own; versions
//! are kept as their distance from the smallest, in as few bytes as the block's largest needs.

use crate::words::{AccountId, Entry, Key, Stamp};

/// Values of the byte that a block is ordered by.
pub(super) const RUNS: usize = 256;
/// Rows, bytes of a version, bytes of an account, smallest version; then the rows of each run.
pub(super) const HEADER_LEN: usize = 16 + 2 * RUNS;
/// Bytes of a row without account and version: key and flags.
const FIXED_LEN: usize = 8 + 4 + 2 + 1;
/// Most rows of a block: they are counted in two bytes.
const MAX_ROWS: usize = u16::MAX as usize;

/// How many bytes of an account a block keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// The account is a number of 8 bytes.
    Number = 8,
    /// The account has 16 bytes.
    Whole = 16,
}

impl Width {
    pub(super) fn of(account: AccountId) -> Self {
        if account.as_u64().is_some() { Self::Number } else { Self::Whole }
    }

    /// Bytes of a row whose version takes none.
    pub(super) const fn row_len(self) -> usize {
        FIXED_LEN + self as usize
    }
}

/// What [`pack`] made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed {
    /// How many of the rows, the first ones, are in the block.
    pub(super) rows: usize,
    /// Bytes of the block.
    pub(super) len: usize,
}

/// Which run of its partition a key is in.
pub(super) const fn run_of(key: Key) -> usize {
    (key.hi >> 48 & 0xff) as usize
}

/// Packs as many rows of a partition as there is room for. `sorted` is scratch memory.
pub(super) fn pack(width: Width, rows: &[Entry], sorted: &mut Vec<Entry>, to: &mut [u8]) -> Packed {
    let versions = rows.iter().map(|row| row.version().get());
    let (base, most) = versions.fold((u64::MAX, 0), |(least, most), v| (least.min(v), most.max(v)));
    let base = base.min(most);
    let version_len = (64 - (most - base).leading_zeros()).div_ceil(8) as usize;
    let row_len = width.row_len() + version_len;
    let room = (to.len().saturating_sub(HEADER_LEN) / row_len).min(MAX_ROWS);
    let rows = rows.get(..room).unwrap_or(rows);

    let counts = sort_into(rows, sorted);
    let Some((header, body)) = to.split_at_mut_checked(HEADER_LEN) else { return Packed { rows: 0, len: 0 } };
    let (start, run_counts) = header.split_at_mut(16);
    let head = [(rows.len() as u64) | (version_len as u64) << 32 | (width as u64) << 40, base];
    start.as_chunks_mut().0.iter_mut().zip(head).for_each(|(to, word)| *to = word.to_le_bytes());
    run_counts.as_chunks_mut().0.iter_mut().zip(counts).for_each(|(to, count)| *to = count.to_le_bytes());

    let mut rest = body;
    rest = fill(rest, sorted, |row| (row.key.hi << 16 | row.key.lo >> 48).to_le_bytes());
    rest = fill(rest, sorted, |row| ((row.key.lo >> 16) as u32).to_le_bytes());
    rest = fill(rest, sorted, |row| (row.key.lo as u16).to_le_bytes());
    rest = fill(rest, sorted, |row| (u128::from_be_bytes(row.account.to_bytes()) as u64).to_le_bytes());
    if width == Width::Whole {
        let high = |row: &Entry| (u128::from_be_bytes(row.account.to_bytes()) >> 64) as u64;
        rest = fill(rest, sorted, |row| high(row).to_le_bytes());
    }
    rest = fill(rest, sorted, |row| [row.stamp.word().to_le_bytes()[0]]);
    let distance = |row: &Entry| row.version().get() - base;
    if version_len & 4 != 0 {
        rest = fill(rest, sorted, |row| (distance(row) as u32).to_le_bytes());
    }
    let shift = 8 * (version_len & 4);
    if version_len & 2 != 0 {
        rest = fill(rest, sorted, |row| ((distance(row) >> shift) as u16).to_le_bytes());
    }
    let shift = 8 * (version_len & 6);
    if version_len & 1 != 0 {
        fill(rest, sorted, |row| [(distance(row) >> shift) as u8]);
    }
    Packed { rows: rows.len(), len: HEADER_LEN + row_len * rows.len() }
}

/// Writes one column and returns what is behind it.
fn fill<'a, const N: usize>(to: &'a mut [u8], rows: &[Entry], column: impl Fn(&Entry) -> [u8; N]) -> &'a mut [u8] {
    for (to, row) in to.as_chunks_mut::<N>().0.iter_mut().zip(rows) {
        *to = column(row);
    }
    to.get_mut(N * rows.len()..).unwrap_or_default()
}

/// The rows by run, those of a run in order; returns how many each run has.
fn sort_into(rows: &[Entry], sorted: &mut Vec<Entry>) -> [u16; RUNS] {
    let mut counts = [0_u16; RUNS];
    rows.iter().for_each(|row| counts[run_of(row.key)] += 1);
    let mut starts = [0_u16; RUNS];
    let mut end = 0;
    for (start, count) in starts.iter_mut().zip(counts) {
        *start = end;
        end += count;
    }
    // Whatever is in it is written over.
    sorted.truncate(rows.len());
    sorted.extend_from_slice(rows.get(sorted.len()..).unwrap_or_default());
    for row in rows {
        let start = &mut starts[run_of(row.key)];
        if let Some(to) = sorted.get_mut(usize::from(*start)) {
            *to = *row;
        }
        *start += 1;
    }
    counts
}

/// A packed block, to be read. Its bytes may have come from a disk.
pub(super) struct Block<'a> {
    counts: &'a [[u8; 2]],
    base: u64,
    version_len: usize,
    keys: &'a [[u8; 8]],
    key_tails: &'a [[u8; 4]],
    key_ends: &'a [[u8; 2]],
    low: &'a [[u8; 8]],
    high: &'a [[u8; 8]],
    flags: &'a [[u8; 1]],
    version_4: &'a [[u8; 4]],
    version_2: &'a [[u8; 2]],
    version_1: &'a [[u8; 1]],
}

impl<'a> Block<'a> {
    /// `None` if the bytes are no block.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, mut rest) = bytes.split_at_checked(HEADER_LEN)?;
        let (start, counts) = header.split_at_checked(16)?;
        let [head, base] = start.as_chunks().0 else { return None };
        let [head, base] = [*head, *base].map(u64::from_le_bytes);
        let rows = (head & 0xffff_ffff) as usize;
        let (version_len, account_len) = ((head >> 32 & 0xff) as usize, head >> 40);
        if version_len > 7 || rows > MAX_ROWS || !(account_len == 8 || account_len == 16) {
            return None;
        }
        let rows_if = |is_there: bool| if is_there { rows } else { 0 };
        let block = Self {
            counts: counts.as_chunks().0,
            base,
            version_len,
            keys: column(&mut rest, rows)?,
            key_tails: column(&mut rest, rows)?,
            key_ends: column(&mut rest, rows)?,
            low: column(&mut rest, rows)?,
            high: column(&mut rest, rows_if(account_len == 16))?,
            flags: column(&mut rest, rows)?,
            version_4: column(&mut rest, rows_if(version_len & 4 != 0))?,
            version_2: column(&mut rest, rows_if(version_len & 2 != 0))?,
            version_1: column(&mut rest, rows_if(version_len & 1 != 0))?,
        };
        let counted: usize = block.counts().map(|(_, count)| count).sum();
        (counted == rows && rest.is_empty()).then_some(block)
    }

    /// The runs and how many rows each has.
    pub(super) fn counts(&self) -> impl Iterator<Item = (u64, usize)> {
        (0..).zip(self.counts.iter().map(|count| usize::from(u16::from_le_bytes(*count))))
    }

    /// Row `at`, whose key begins with these 16 bits. `None` if there is none, or if no writer makes it.
    #[inline]
    pub(super) fn row(&self, at: usize, prefix: u64) -> Option<Entry> {
        let middle = u64::from_le_bytes(*self.keys.get(at)?);
        let tail = u64::from(u32::from_le_bytes(*self.key_tails.get(at)?));
        let end = u64::from(u16::from_le_bytes(*self.key_ends.get(at)?));
        let key = Key { hi: prefix << 48 | middle >> 16, lo: middle << 48 | tail << 16 | end };
        let low = u64::from_le_bytes(*self.low.get(at)?);
        let high = self.high.get(at).map_or(0, |high| u64::from_le_bytes(*high));
        let account = AccountId::from_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes());
        let [flags] = *self.flags.get(at)?;
        let version = self.base.checked_add(if self.version_len == 0 { 0 } else { self.distance(at) })?;
        let word = version.checked_mul(256)? | u64::from(flags);
        Some(Entry { key, account, stamp: Stamp::from_word(word)? })
    }

    fn distance(&self, at: usize) -> u64 {
        let four = self.version_4.get(at).map_or(0, |part| u64::from(u32::from_le_bytes(*part)));
        let two = self.version_2.get(at).map_or(0, |part| u64::from(u16::from_le_bytes(*part)));
        let one = self.version_1.get(at).map_or(0, |[part]| u64::from(*part));
        four | two << (8 * (self.version_len & 4)) | one << (8 * (self.version_len & 6))
    }
}

/// Takes a column off the front.
fn column<'a, const N: usize>(rest: &mut &'a [u8], rows: usize) -> Option<&'a [[u8; N]]> {
    let (column, others) = rest.split_at_checked(rows * N)?;
    *rest = others;
    Some(column.as_chunks().0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Flags, OptIns, Version};

    fn rows(count: u64, high: u128, base: u64, spread: u64) -> Vec<Entry> {
        let row = |i: u64| {
            let key = xxhash_rust::xxh3::xxh3_128(&i.to_le_bytes()) >> 8 | 0xab << 120;
            let account = AccountId::from_bytes((high << 64 | u128::from(!i)).to_be_bytes());
            let flags = if i.is_multiple_of(3) { Flags::removed(9) } else { Flags::live(OptIns::PAYMENTS) };
            let version = Version::new(base + (spread.wrapping_mul(i) % (spread + 1))).unwrap();
            Entry::new(Key::from_u128(key), account, version, flags)
        };
        (0..count).map(row).collect()
    }

    fn unpack(bytes: &[u8]) -> Option<Vec<Entry>> {
        let block = Block::parse(bytes)?;
        let mut at = 0;
        let mut all = Vec::new();
        for (run, count) in block.counts() {
            for _ in 0..count {
                all.push(block.row(at, 0xab00 | run)?);
                at += 1;
            }
        }
        Some(all)
    }

    #[test]
    fn rows_come_back_in_stable_order_whatever_their_accounts_and_versions() {
        for (width, high) in [(Width::Number, 0), (Width::Whole, 0x1234)] {
            for bits in [0, 1, 8, 9, 16, 24, 31, 40, 48, 55, 56] {
                let rows = rows(3_000, high, 0, (1_u64 << bits) - 1);
                let mut bytes = vec![0xee; 200_000];
                let packed = pack(width, &rows, &mut Vec::new(), &mut bytes);
                assert_eq!(packed.rows, rows.len());
                let mut expected = rows;
                expected.sort_by_key(|row| run_of(row.key));
                assert_eq!(unpack(&bytes[..packed.len]), Some(expected));
                assert_eq!(unpack(&bytes[..packed.len - 1]).map(|_| ()), None);
                assert_eq!(unpack(&bytes[..=packed.len]).map(|_| ()), None);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_left() {
        let rows = rows(3_000, 0, 1 << 40, 300);
        let mut bytes = vec![0; 20_000];
        let packed = pack(Width::Number, &rows, &mut Vec::new(), &mut bytes);
        assert_eq!((packed.rows, packed.len), ((20_000 - HEADER_LEN) / 25, HEADER_LEN + packed.rows * 25));
        let mut expected = rows[..packed.rows].to_vec();
        expected.sort_by_key(|row| run_of(row.key));
        assert_eq!(unpack(&bytes[..packed.len]), Some(expected));
        let none = pack(Width::Number, &[], &mut Vec::new(), &mut bytes);
        assert_eq!((none.rows, unpack(&bytes[..none.len])), (0, Some(Vec::new())));
        assert_eq!(pack(Width::Number, &rows, &mut Vec::new(), &mut [0; 10]).rows, 0);
    }

    #[test]
    fn changed_bytes_never_panic() {
        let rows = rows(300, 0, 1 << 50, 70_000);
        let mut good = vec![0; 20_000];
        let packed = pack(Width::Number, &rows, &mut Vec::new(), &mut good);
        good.truncate(packed.len);
        let mut refused = 0;
        for at in 0..HEADER_LEN {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            refused += usize::from(unpack(&bad).is_none());
        }
        assert!(refused >= HEADER_LEN - 8, "only the smallest version may change unseen by this: {refused}");
        assert_eq!(unpack(&[]), None);
    }
}
