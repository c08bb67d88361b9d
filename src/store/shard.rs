//! The row that says what node of a fleet this is. No table in an index that is none.

use bincode::{Decode, Encode};
use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

use crate::database::{Db, decode, encode};
use crate::shards::{Hold, Ownership, Pieces, Shard, check_name};
use crate::words::{Error, Result};

pub(super) const NAME: &str = "shard";
pub(super) const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(NAME);
const ROW: &str = "node";

#[derive(Encode, Decode)]
enum Row {
    /// The record as its own bytes, none if there is none yet. Of each piece the first 16 bits of its keys and its number.
    V1 { node: String, record: Vec<u8>, holds: Vec<(u16, u8)> },
}

/// Reads a row that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(super) fn reread(bytes: &[u8]) -> Result<Vec<u8>> {
    let path = std::path::Path::new(NAME);
    encode(&row_of(&from_row(path, decode::<Row>(bytes, NAME, path)?)?), NAME, path)
}

fn row_of(shard: &Shard) -> Row {
    Row::V1 {
        node: shard.node.clone(),
        record: shard.record.as_ref().map(Ownership::encode).unwrap_or_default(),
        holds: shard.holds.starts().iter().map(|(from, hold)| (*from, hold.number())).collect(),
    }
}

fn from_row(path: &std::path::Path, row: Row) -> Result<Shard> {
    let damaged = |reason| Error::DamagedRow { path: path.to_owned(), table: NAME, reason };
    let Row::V1 { node, record, holds } = row;
    check_name(&node).map_err(|_| damaged("its name is none of a node"))?;
    let record = (!record.is_empty()).then(|| Ownership::decode(&record)).transpose();
    let record = record.map_err(|_| damaged("its record of who owns which keys is malformed"))?;
    let kind = |number: u8| Hold::ALL.get(usize::from(number)).copied();
    let holds = holds.into_iter().map(|(from, number)| Some((from, kind(number)?))).collect::<Option<_>>();
    let holds =
        holds.and_then(Pieces::from_starts).ok_or_else(|| damaged("its spans do not cover each key once"))?;
    Ok(Shard { node, record, holds })
}

pub(super) fn write(db: &Db, txn: &WriteTransaction, shard: &Shard) -> Result<()> {
    let bytes = encode(&row_of(shard), NAME, db.path())?;
    let mut table = txn.open_table(TABLE).map_err(db.error("open what this node is"))?;
    table.insert(ROW, bytes.as_slice()).map_err(db.error("write what this node is"))?;
    Ok(())
}

/// `None` in an index that is no node of a fleet.
pub(super) fn read(db: &Db, txn: &ReadTransaction) -> Result<Option<Shard>> {
    let table = match txn.open_table(TABLE) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        other => other.map_err(db.error("open what this node is"))?,
    };
    let Some(row) = table.get(ROW).map_err(db.error("read what this node is"))? else { return Ok(None) };
    from_row(db.path(), decode(row.value(), NAME, db.path())?).map(Some)
}
