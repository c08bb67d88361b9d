//! The row that says how far the disclosure log was when the index last looked.

use bincode::{Decode, Encode};
use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

use crate::database::{Db, decode, encode};
use crate::words::Result;

pub(super) const NAME: &str = "disclosures";
pub(super) const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(NAME);
const ROW: &str = "log";

/// The newest log and bytes of it that were on the device.
#[derive(Encode, Decode)]
enum Row {
    V1 { seq: u64, len: u64 },
}

/// Reads a row that may be anything, and writes what was read.
#[cfg(feature = "internals")]
pub(super) fn reread(bytes: &[u8]) -> Result<Vec<u8>> {
    crate::database::reread::<Row>(bytes, NAME, std::path::Path::new(NAME))
}

pub(super) fn write(db: &Db, txn: &WriteTransaction, (seq, len): (u64, u64)) -> Result<()> {
    let bytes = encode(&Row::V1 { seq, len }, NAME, db.path())?;
    let mut table = txn.open_table(TABLE).map_err(db.error("open the mark of disclosures"))?;
    table.insert(ROW, bytes.as_slice()).map_err(db.error("write the mark of disclosures"))?;
    Ok(())
}

/// `None` in an index that has no disclosure log yet.
pub(super) fn read(db: &Db, txn: &ReadTransaction) -> Result<Option<(u64, u64)>> {
    let table = match txn.open_table(TABLE) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        other => other.map_err(db.error("open the mark of disclosures"))?,
    };
    let Some(row) = table.get(ROW).map_err(db.error("read the mark of disclosures"))? else { return Ok(None) };
    let Row::V1 { seq, len } = decode(row.value(), NAME, db.path())?;
    Ok(Some((seq, len)))
}
