//! Blocks of rows alone, without an import: what goes in comes out, and any bytes are a block or none, for fuzz targets.

use super::block::{Block, HEADER_LEN, Width, pack, run_of};
use crate::words::Entry;

/// Packs rows of one partition into a block. `None` if they are of several, or more than a block holds.
pub(crate) fn pack_rows(rows: &[Entry]) -> Option<Vec<u8>> {
    let partition = |row: &Entry| row.key.hi >> 56;
    if rows.array_windows().any(|[one, next]| partition(one) != partition(next)) {
        return None;
    }
    let is_wide = rows.iter().any(|row| Width::of(row.account) == Width::Whole);
    let width = if is_wide { Width::Whole } else { Width::Number };
    // A version takes seven bytes at most.
    let mut bytes = vec![0; HEADER_LEN + rows.len() * (width.row_len() + 7)];
    let packed = pack(width, rows, &mut Vec::new(), &mut bytes);
    bytes.truncate(packed.len);
    (packed.rows == rows.len()).then_some(bytes)
}

/// Reads every row of a block, whose partition is this one. `None` if the bytes are none that a writer makes.
pub(crate) fn read_rows(bytes: &[u8], partition: u8) -> Option<Vec<Entry>> {
    let block = Block::parse(bytes)?;
    let mut rows = Vec::new();
    for (run, count) in block.counts() {
        for _ in 0..count {
            let row = block.row(rows.len(), u64::from(partition) << 8 | run)?;
            debug_assert_eq!(run_of(row.key) as u64, run);
            rows.push(row);
        }
    }
    Some(rows)
}
