//! The manifest: which segments are live, one row each.

use bincode::{Decode, Encode};
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use crate::database::{Db, decode, encode};
use crate::segment::keys::KeyRange;
use crate::words::{Error, Result};

pub(super) const NAME: &str = "segments";
/// Generation to row.
pub(super) const SEGMENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new(NAME);

/// A live segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentRow {
    pub(crate) generation: u64,
    pub(crate) range: KeyRange,
    pub(crate) file_len: u64,
    /// Stored listings, removed ones included.
    pub(crate) entries: u64,
}

impl SegmentRow {
    /// The name of its file.
    pub(crate) fn file_name(&self) -> String {
        file_name(self.range, self.generation)
    }
}

/// Bytes of these segments, as the manifest says, which may say anything.
pub(crate) fn bytes_of(rows: &[SegmentRow]) -> u64 {
    rows.iter().fold(0, |sum, row| row.file_len.saturating_add(sum))
}

/// `<range>-<generation>.seg`: the prefix in hexadecimal, its bits, the generation.
pub(crate) fn file_name(range: KeyRange, generation: u64) -> String {
    format!("{:04x}.{}-{generation}.seg", range.prefix() >> 48, range.bits())
}

#[derive(Encode, Decode)]
enum Row {
    V1 { prefix: u64, range_bits: u8, file_len: u64, entries: u64 },
}

/// Reads a row that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(super) fn reread(bytes: &[u8]) -> Result<Vec<u8>> {
    crate::database::reread::<Row>(bytes, NAME, std::path::Path::new(NAME))
}

pub(super) fn apply(db: &Db, txn: &WriteTransaction, retire: &[u64], publish: &[SegmentRow]) -> Result<()> {
    let mut table = txn.open_table(SEGMENTS).map_err(db.error("open the manifest"))?;
    for generation in retire {
        table.remove(generation).map_err(db.error("write the manifest"))?;
    }
    for segment in publish {
        let row = Row::V1 {
            prefix: segment.range.prefix(),
            range_bits: segment.range.bits(),
            file_len: segment.file_len,
            entries: segment.entries,
        };
        let bytes = encode(&row, NAME, db.path())?;
        table.insert(segment.generation, bytes.as_slice()).map_err(db.error("write the manifest"))?;
    }
    Ok(())
}

pub(super) fn read(db: &Db, txn: &ReadTransaction) -> Result<Vec<SegmentRow>> {
    let table = match txn.open_table(SEGMENTS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other.map_err(db.error("open the manifest"))?,
    };
    let mut rows = Vec::new();
    for item in table.iter().map_err(db.error("read the manifest"))? {
        let (generation, row) = item.map_err(db.error("read the manifest"))?;
        let Row::V1 { prefix, range_bits, file_len, entries } = decode(row.value(), NAME, db.path())?;
        let range = KeyRange::new(prefix, range_bits).ok_or_else(|| Error::DamagedRow {
            path: db.path().to_owned(),
            table: NAME,
            reason: "its key range is impossible",
        })?;
        rows.push(SegmentRow { generation: generation.value(), range, file_len, entries });
    }
    Ok(rows)
}
