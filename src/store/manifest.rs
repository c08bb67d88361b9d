//! The manifest: which segments are live, one row each.

use std::collections::BTreeMap;

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
    /// Which index made it, if another did.
    pub(crate) maker: Option<Maker>,
}

/// What the header of a segment says that came from another index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Maker {
    pub(crate) index_id: [u8; 16],
    /// Its generation there.
    pub(crate) generation: u64,
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

pub(super) const MAKERS_NAME: &str = "makers";
/// Generation to row, of segments that another index made. No table where there are none.
pub(super) const MAKERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new(MAKERS_NAME);

#[derive(Encode, Decode)]
enum MakerRow {
    V1 { index_id: [u8; 16], generation: u64 },
}

/// Reads a row that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(super) fn reread(bytes: &[u8]) -> Result<Vec<u8>> {
    crate::database::reread::<Row>(bytes, NAME, std::path::Path::new(NAME))
}

/// As [`reread`], of who made a segment.
#[cfg(feature = "internals")]
pub(super) fn reread_maker(bytes: &[u8]) -> Result<Vec<u8>> {
    crate::database::reread::<MakerRow>(bytes, MAKERS_NAME, std::path::Path::new(MAKERS_NAME))
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
    apply_makers(db, txn, retire, publish)
}

fn apply_makers(db: &Db, txn: &WriteTransaction, retire: &[u64], publish: &[SegmentRow]) -> Result<()> {
    let mut made_elsewhere = publish.iter().filter_map(|segment| Some((segment.generation, segment.maker?)));
    let first = made_elsewhere.next();
    let tables = txn.list_tables().map_err(db.error("list the tables"))?;
    let is_there = tables.into_iter().any(|table| redb::TableHandle::name(&table) == MAKERS_NAME);
    if first.is_none() && !is_there {
        return Ok(());
    }
    let mut table = txn.open_table(MAKERS).map_err(db.error("open the makers of segments"))?;
    for generation in retire {
        table.remove(generation).map_err(db.error("write the makers of segments"))?;
    }
    for (generation, Maker { index_id, generation: made_as }) in first.into_iter().chain(made_elsewhere) {
        let bytes = encode(&MakerRow::V1 { index_id, generation: made_as }, MAKERS_NAME, db.path())?;
        table.insert(generation, bytes.as_slice()).map_err(db.error("write the makers of segments"))?;
    }
    Ok(())
}

/// Who made the segments that another index made.
fn read_makers(db: &Db, txn: &ReadTransaction) -> Result<BTreeMap<u64, Maker>> {
    let table = match txn.open_table(MAKERS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        other => other.map_err(db.error("open the makers of segments"))?,
    };
    let mut makers = BTreeMap::new();
    for item in table.iter().map_err(db.error("read the makers of segments"))? {
        let (of, row) = item.map_err(db.error("read the makers of segments"))?;
        let MakerRow::V1 { index_id, generation } = decode(row.value(), MAKERS_NAME, db.path())?;
        makers.insert(of.value(), Maker { index_id, generation });
    }
    Ok(makers)
}

pub(super) fn read(db: &Db, txn: &ReadTransaction) -> Result<Vec<SegmentRow>> {
    let table = match txn.open_table(SEGMENTS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        other => other.map_err(db.error("open the manifest"))?,
    };
    let mut makers = read_makers(db, txn)?;
    let mut rows = Vec::new();
    for item in table.iter().map_err(db.error("read the manifest"))? {
        let (generation, row) = item.map_err(db.error("read the manifest"))?;
        let Row::V1 { prefix, range_bits, file_len, entries } = decode(row.value(), NAME, db.path())?;
        let range = KeyRange::new(prefix, range_bits).ok_or_else(|| Error::DamagedRow {
            path: db.path().to_owned(),
            table: NAME,
            reason: "its key range is impossible",
        })?;
        let generation = generation.value();
        rows.push(SegmentRow { generation, range, file_len, entries, maker: makers.remove(&generation) });
    }
    if !makers.is_empty() {
        let reason = "it is about a segment that is not there";
        return Err(Error::DamagedRow { path: db.path().to_owned(), table: MAKERS_NAME, reason });
    }
    Ok(rows)
}
