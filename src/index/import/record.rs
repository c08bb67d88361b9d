//! A row in the memory and in the temporary files of an import.

use crate::words::{AccountId, Entry, Key, Stamp};

/// How long a record is: most accounts are numbers, and an import moves every byte several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// The account is a number of 8 bytes.
    Number,
    /// The account has 16 bytes.
    Whole,
}

impl Width {
    /// Bytes of a record: key, stamp, account.
    pub(super) const fn record_len(self) -> usize {
        match self {
            Self::Number => 32,
            Self::Whole => 40,
        }
    }
}

/// Appends the record of a row. The stamp's flags get their unused bit, so that no record is all zeros.
pub(super) fn push(width: Width, entry: &Entry, to: &mut Vec<u8>) {
    let account = u128::from_be_bytes(entry.account.to_bytes());
    let mut record = [[0; 8]; 5];
    let words = [entry.key.hi, entry.key.lo, entry.stamp.word() | MARK, account as u64, (account >> 64) as u64];
    record.iter_mut().zip(words).for_each(|(to, word)| *to = word.to_le_bytes());
    to.extend_from_slice(record.as_flattened().get(..width.record_len()).unwrap_or_default());
}

/// Appends the rows of a block, up to its end or a record of zeros. `false` if something else is in it.
pub(super) fn read(width: Width, block: &[u8], to: &mut Vec<Entry>) -> bool {
    for record in block.chunks_exact(width.record_len()) {
        let word = |i: usize| {
            let bytes = record.get(8 * i..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        if word(2) & MARK == 0 {
            return record.iter().all(|byte| *byte == 0);
        }
        let Some(stamp) = Stamp::from_word(word(2) & !MARK) else { return false };
        let account = u128::from(word(4)) << 64 | u128::from(word(3));
        let key = Key { hi: word(0), lo: word(1) };
        to.push(Entry { key, account: AccountId::from_bytes(account.to_be_bytes()), stamp });
    }
    true
}

/// The bit of a stamp that is never set otherwise.
const MARK: u64 = 0x40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::{Flags, OptIns, Version};

    #[test]
    fn records_round_trip_up_to_the_zeros() {
        for (width, high) in [(Width::Number, 0), (Width::Whole, 1)] {
            let entry = |i: u64| {
                let account = AccountId::from_bytes((high << 64 | u128::from(i)).to_be_bytes());
                let flags = if i.is_multiple_of(3) { Flags::removed(9) } else { Flags::live(OptIns::PAYMENTS) };
                Entry::new(Key { hi: !i, lo: i }, account, Version::new(i).unwrap(), flags)
            };
            let rows: Vec<Entry> = (0..50).map(entry).collect();
            let mut block = Vec::new();
            rows.iter().for_each(|row| push(width, row, &mut block));
            assert_eq!(block.len(), 50 * width.record_len());
            block.resize(block.len() + 3 * width.record_len(), 0);
            let mut read_back = Vec::new();
            assert!(read(width, &block, &mut read_back));
            assert_eq!(read_back, rows);
            block.push(1);
            block.resize(block.len() + width.record_len(), 0);
            assert!(read(width, &block, &mut Vec::new()), "nothing is read behind the zeros");
        }
    }
}
