//! The first layout of the delta, one row for each listing: read once, by the open that moves it into the log.

use bincode::{Decode, Encode};
use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use crate::database::{Db, decode};
use crate::overlay::Change;
use crate::segment::keys::MIN_KEY_BITS;
use crate::words::{AccountId, Entry, Error, Key, Result, Stamp};

const NAME: &str = "delta";
/// Key and account to row.
const DELTA: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new(NAME);

#[derive(Encode, Decode)]
enum Row {
    V1 { stamp: u64, known_bits: u8, removed_at_s: u64 },
}

fn change(db: &Db, key: [u8; 32], row: &[u8]) -> Result<Change> {
    let Row::V1 { stamp, known_bits, removed_at_s } = decode(row, NAME, db.path())?;
    let damaged = |reason| Error::DamagedRow { path: db.path().to_owned(), table: NAME, reason };
    let stamp = Stamp::from_word(stamp).ok_or_else(|| damaged("its flags have a bit that no writer sets"))?;
    if !(MIN_KEY_BITS..=128).contains(&known_bits) {
        return Err(damaged("its key is too short"));
    }
    let id = u128::from_be_bytes(key.first_chunk().copied().unwrap_or_default());
    let account = AccountId::from_bytes(key.last_chunk().copied().unwrap_or_default());
    Ok(Change { entry: Entry { key: Key::from_u128(id), account, stamp }, known_bits, removed_at_s })
}

/// Every row; `None` where there is no such table.
pub(super) fn read(db: &Db, txn: &ReadTransaction) -> Result<Option<Vec<Change>>> {
    let table = match txn.open_table(DELTA) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        other => other.map_err(db.error("open the delta"))?,
    };
    let mut changes = Vec::new();
    for item in table.iter().map_err(db.error("read the delta"))? {
        let (key, row) = item.map_err(db.error("read the delta"))?;
        changes.push(change(db, key.value(), row.value())?);
    }
    Ok(Some(changes))
}

pub(super) fn remove(db: &Db, txn: &WriteTransaction) -> Result<()> {
    txn.delete_table(DELTA).map_err(db.error("remove the delta"))?;
    Ok(())
}
